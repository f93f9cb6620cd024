"""Where the tagger's logits come from: adapters on a shared backbone, or a checkpoint.

Both kinds offer the same, are saved beside the pipeline they belong to, and load their network
when it is first needed.
"""

import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from thinc.api import get_torch_default_device
from tokenizers import Tokenizer

from . import adapters, backbones, checkpoints
from .adapters import Adapter
from .checkpoints import Checkpoint, SharedCheckpoint, shared_checkpoint
from .errors import OpenMedError
from .files import atomic_folder
from .heads import Head, of_adapter, of_checkpoint
from .inference import SharedBackbone, shared_backbone
from .precision import Arithmetic
from .windows import Encoding, SpecialTokens, Windowing, special_tokens

TOKENIZER = "tokenizer.json"
CHECKPOINT = "checkpoint"


class Source(Protocol):
    """What the tagger needs to know of where its logits come from.

    arithmetic (Arithmetic): How the network is to compute when it is loaded.
    """

    arithmetic: Arithmetic

    @property
    def types(self) -> list[tuple[str, ...]]:
        """Of each head; known without the network."""

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def special(self) -> SpecialTokens: ...

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """The wordpieces of some texts."""

    def heads(self) -> list[Head]:
        """What the network scores."""

    def windowings(self, window: int | None, overlap: int | None) -> list[Windowing]:
        """How each head's texts are cut.

        window, overlap (int | None): What the config asks for; None for the head's own.
        RAISES (OpenMedError): The network cannot read so many wordpieces.
        """

    def keep_merged(self, wanted: bool) -> None:
        """Whether weights that something was merged into stay in memory; see ``SharedBackbone``."""

    def release(self) -> None:
        """Let go of the network; it is loaded again, on the device of then, when needed."""

    def to_data(self) -> dict[str, Any]:
        """What ``from_data`` makes a source of: references, no large weights."""

    def to_disk(self, folder: Path, bundle: bool) -> None:
        """Write into a component's folder, with the large weights if they are to be bundled."""


class AdapterSource:
    """Adapters on a shared backbone.

    loaded (Sequence[Adapter]): At least one, all on the same backbone.
    tokenizer (Tokenizer | None): The one saved with the pipeline; None for the backbone's.
    bundled (Path | None): Folder inside a saved pipeline that has the backbone.
    RAISES (OpenMedError): They belong to different backbones.
    """

    def __init__(
        self,
        loaded: Sequence[Adapter],
        tokenizer: Tokenizer | None = None,
        bundled: Path | None = None,
    ) -> None:
        hashes = {a.info.backbone.sha256 for a in loaded}
        if len(hashes) > 1:
            names = ", ".join(f"{a.info.dataset} on {a.info.backbone.id}" for a in loaded)
            raise OpenMedError(
                f"The adapters of one component must share a backbone, but: {names}. "
                f"Use one component for each backbone."
            )
        self.adapters = list(loaded)
        self.bundled = bundled
        self.arithmetic = Arithmetic()
        self._keeps = False
        self._tokenizer = tokenizer
        self._backbone: SharedBackbone | None = None
        self._loading = threading.RLock()

    @property
    def backbone(self) -> SharedBackbone:
        """The shared backbone, loaded at first use."""
        with self._loading:
            if self._backbone is None:
                folder = backbones.find(self.adapters[0].info.backbone, self.bundled)
                shared = shared_backbone(folder, str(get_torch_default_device()), *self.arithmetic)
                for adapter in self.adapters:
                    shared.check(adapter, adapter.info.dataset or "this pipeline")
                    shared.keep(adapter, self._keeps)
                self._backbone = shared
                own = self._tokenizer
                if own is not None and own.to_str() == shared.tokenizer.to_str():
                    # The same object for all, so that a batch is encoded once for all.
                    self._tokenizer = shared.tokenizer
            return self._backbone

    @property
    def types(self) -> list[tuple[str, ...]]:
        return [adapter.info.types for adapter in self.adapters]

    @property
    def tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            self._tokenizer = self.backbone.tokenizer
        return self._tokenizer

    @property
    def special(self) -> SpecialTokens:
        return special_tokens(self.tokenizer, self.backbone.special.pad)

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        return self.backbone.recent.encode(texts, self.tokenizer)

    def heads(self) -> list[Head]:
        return [of_adapter(adapter, self.backbone) for adapter in self.adapters]

    def windowings(self, window: int | None, overlap: int | None) -> list[Windowing]:
        found = [adapter.info.windowing.but(window, overlap) for adapter in self.adapters]
        limit = self.backbone.positions
        longest = max(found).window
        if limit is not None and longest > limit:
            raise OpenMedError(
                f"window = {longest}: the backbone '{self.adapters[0].info.backbone.id}' reads at "
                f"most {limit} wordpieces, special tokens included. Choose a smaller window."
            )
        return found

    def keep_merged(self, wanted: bool) -> None:
        with self._loading:
            if wanted != self._keeps:
                self._have_kept(wanted)
            self._keeps = wanted

    def release(self) -> None:
        with self._loading:
            self._have_kept(False)
            self._backbone = None

    def _have_kept(self, wanted: bool) -> None:
        if self._backbone is not None:
            for adapter in self.adapters:
                self._backbone.keep(adapter, wanted)

    def to_data(self) -> dict[str, Any]:
        return {
            "adapters": [adapters.to_files(adapter) for adapter in self.adapters],
            "tokenizer": self.tokenizer.to_str(),
            "bundled": str(self.bundled or ""),
        }

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> "AdapterSource":
        """The inverse of ``to_data``."""
        return cls(
            [adapters.from_files(files, "the serialised pipeline") for files in data["adapters"]],
            Tokenizer.from_str(data["tokenizer"]),
            Path(data["bundled"]) if data["bundled"] else None,
        )

    def to_disk(self, folder: Path, bundle: bool) -> None:
        (folder / TOKENIZER).write_text(self.tokenizer.to_str(), encoding="utf8")
        for adapter, name in zip(self.adapters, _adapter_names(), strict=False):
            adapters.write(adapter, folder / name)
        _remove_adapters(folder, len(self.adapters))
        _remove(folder / CHECKPOINT)
        target = folder / adapters.BACKBONE_IN_PIPE
        if bundle:
            source = backbones.find(self.adapters[0].info.backbone, self.bundled)
            if source.resolve() != target.resolve():
                with atomic_folder(target) as part:
                    for name in backbones.FILES:
                        if (source / name).is_file():
                            shutil.copyfile(source / name, part / name)
        elif not _is_same(self.bundled, target):
            _remove(target)

    @classmethod
    def from_disk(cls, folder: Path) -> "AdapterSource":
        """Read what ``to_disk`` wrote."""
        tokenizer = folder / TOKENIZER
        loaded = [adapters.read(one) for one in _adapter_folders(folder)]
        return cls(
            loaded,
            Tokenizer.from_file(str(tokenizer)) if tokenizer.is_file() else None,
            loaded[0].bundled,
        )


class CheckpointSource:
    """A token-classification checkpoint, run as it is.

    checkpoint (Checkpoint): The description.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.arithmetic = Arithmetic()
        self._network: SharedCheckpoint | None = None
        self._loading = threading.RLock()

    @property
    def network(self) -> SharedCheckpoint:
        """The shared network, loaded at first use."""
        with self._loading:
            if self._network is None:
                folder = checkpoints.find(self.checkpoint.ref, self.checkpoint.bundled)
                device = str(get_torch_default_device())
                self._network = shared_checkpoint(folder, device, *self.arithmetic)
            return self._network

    @property
    def types(self) -> list[tuple[str, ...]]:
        return [self.checkpoint.scheme.types]

    @property
    def tokenizer(self) -> Tokenizer:
        return self.checkpoint.tokenizer

    @property
    def special(self) -> SpecialTokens:
        return special_tokens(self.tokenizer, self.network.pad)

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        return self.network.recent.encode(texts, self.tokenizer)

    def heads(self) -> list[Head]:
        return [of_checkpoint(self.checkpoint, self.network)]

    def windowings(self, window: int | None, overlap: int | None) -> list[Windowing]:
        return [self.network.windowing(window, overlap)]

    def keep_merged(self, wanted: bool) -> None:
        """Nothing is merged into a checkpoint."""

    def release(self) -> None:
        self._network = None

    def to_data(self) -> dict[str, Any]:
        return {
            "checkpoint": self.checkpoint.to_files(),
            "bundled": str(self.checkpoint.bundled or ""),
        }

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> "CheckpointSource":
        """The inverse of ``to_data``."""
        bundled = Path(data["bundled"]) if data["bundled"] else None
        files = data["checkpoint"]
        return cls(checkpoints.from_files(files, "the serialised pipeline", bundled))

    def to_disk(self, folder: Path, bundle: bool) -> None:
        target = folder / CHECKPOINT
        self.checkpoint.write(target, bundle or _is_same(self.checkpoint.bundled, target))
        _remove_adapters(folder, 0)
        _remove(folder / adapters.BACKBONE_IN_PIPE)
        (folder / TOKENIZER).unlink(missing_ok=True)

    @classmethod
    def from_disk(cls, folder: Path) -> "CheckpointSource":
        """Read what ``to_disk`` wrote."""
        return cls(checkpoints.from_folder(folder / CHECKPOINT))


def from_data(data: dict[str, Any]) -> Source | None:
    """The source that ``to_data`` described, None if it described none."""
    if "checkpoint" in data:
        return CheckpointSource.from_data(data)
    return AdapterSource.from_data(data) if data.get("adapters") else None


def from_disk(folder: Path) -> Source | None:
    """The source that was saved in a component's folder, None if there is none."""
    if (folder / CHECKPOINT).is_dir():
        return CheckpointSource.from_disk(folder)
    return AdapterSource.from_disk(folder) if _adapter_folders(folder) else None


def _is_same(one: Path | None, other: Path) -> bool:
    return one is not None and one.resolve() == other.resolve()


# What an earlier pipeline left in the folder would be read with this one's.
def _remove(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)


def _remove_adapters(folder: Path, kept: int) -> None:
    for one in _adapter_folders(folder)[kept:]:
        shutil.rmtree(one)


def _adapter_folders(folder: Path) -> list[Path]:
    found: list[Path] = []
    for name in _adapter_names():
        if not (folder / name).is_dir():
            return found
        found.append(folder / name)
    return found


def _adapter_names() -> Iterator[str]:
    """adapter, adapter-1, adapter-2, …"""
    yield adapters.ADAPTER_IN_PIPE
    number = 0
    while True:
        number += 1
        yield f"{adapters.ADAPTER_IN_PIPE}-{number}"
