"""Token-classification checkpoints of Hugging Face, found, verified and run as they are.

A checkpoint is a folder, or a repository on the hub, with config.json, model.safetensors and
tokenizer.json: what ``save_pretrained`` writes, the published OpenMed/OpenMed-NER-* models
among others. It is looked for in this order: inside the saved pipeline, as a folder, in the
local Hugging Face cache (``HF_HOME``), and on the hub with ``OPENMED_ALLOW_HUB=1``
(``HF_ENDPOINT`` names a mirror). No pickle is read, and no code of a repository runs.

Nothing here imports spaCy.
"""

import hashlib
import json
import os
import re
import shutil
import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from . import hub
from .backbones import ALLOW_HUB, CONFIG, WEIGHTS, file_sha256, load_tokenizer
from .decoding import units
from .engine import Engine, build, with_padding
from .engine.bert import fits
from .engine.threads import taking_turns
from .errors import OpenMedError
from .files import atomic_folder
from .inference import Floats, positions
from .label_schemes import LabelScheme, read_labels
from .precision import resolve_inference
from .recent import RecentEncodings
from .windows import Encoding, Windowing

REFERENCE = "checkpoint.json"
TOKENIZER = "tokenizer.json"
# What is got from the hub; a tokenizer.json can be made of the others if there is none.
_FILES = (
    CONFIG,
    WEIGHTS,
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spm.model",
    "sentencepiece.bpe.model",
)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class CheckpointRef:
    """What a pipeline records of the checkpoint that it runs.

    name (str): Folder, or id on the hub.
    sha256 (str): Of model.safetensors; "" means not known yet.
    revision (str): On the hub; "" if it is a folder, or means the newest.
    """

    name: str
    sha256: str = ""
    revision: str = ""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint without its weights.

    ref (CheckpointRef): Where the weights are, and their hash.
    config (str): Content of config.json.
    tokenizer_json (str): Content of tokenizer.json.
    bundled (Path | None): Folder inside a saved pipeline that has the weights, too.
    """

    ref: CheckpointRef
    config: str
    tokenizer_json: str
    bundled: Path | None = None

    @cached_property
    def scheme(self) -> LabelScheme:
        """What its labels mean.

        RAISES (OpenMedError): They cannot be read as BIO.
        """
        try:
            id2label = {int(k): str(v) for k, v in json.loads(self.config)["id2label"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise OpenMedError(
                f"{CONFIG} of checkpoint '{self.ref.name}' has no readable id2label, the names of "
                f"the labels ({error!r}). Is it a model for token classification?"
            ) from error
        return read_labels(id2label, f"Checkpoint '{self.ref.name}'")

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Without truncation and padding."""
        return Tokenizer.from_str(self.tokenizer_json)

    @property
    def content_hash(self) -> str:
        """Of all that what it finds depends on: weights, configuration, tokenizer."""
        content = "\0".join((self.ref.sha256, self.config, self.tokenizer_json))
        return hashlib.sha256(content.encode()).hexdigest()

    def to_bio(self, text: str, encoding: Encoding, logits: Floats, edges: str) -> Floats:
        """Make of the logits of a text those of the labels that the decoder knows.

        logits (float32[n, labels]): Of its n wordpieces.
        edges (str): "word" or "wordpiece".
        """
        return self.scheme.to_bio(logits, units(text, encoding, edges))

    def to_files(self) -> dict[str, bytes]:
        """File name to content, without the weights."""
        return {
            REFERENCE: (json.dumps({"format": 1, **asdict(self.ref)}, indent=2) + "\n").encode(),
            CONFIG: self.config.encode(),
            TOKENIZER: self.tokenizer_json.encode(),
        }

    def write(self, folder: Path, weights: bool = False) -> None:
        """Write a folder, whole or not at all; ``from_folder`` reads it.

        folder (Path): Made or replaced.
        weights (bool): Write those, too.
        RAISES (OpenMedError): The weights are not at hand, or the folder cannot be written.
        """
        source = find(self.ref, self.bundled) if weights else None
        with atomic_folder(folder) as part:
            for name, content in self.to_files().items():
                (part / name).write_bytes(content)
            if source is not None:
                shutil.copyfile(source / WEIGHTS, part / WEIGHTS)


def read(name: str) -> Checkpoint:
    """Find a checkpoint and read all but its weights.

    name (str): Folder, or id on the hub, where ``@`` may be followed by a revision.
    RAISES (OpenMedError): Not found, or not one that can be run here.
    """
    if (Path(name) / CONFIG).is_file():
        ref = CheckpointRef(name)
    else:
        name, _, revision = name.partition("@")
        ref = CheckpointRef(name, revision=revision)
    folder = find(ref)
    # The cache calls a snapshot by its commit: later the same one is asked for.
    if ref.name != str(folder) and _COMMIT.fullmatch(folder.name):
        ref = CheckpointRef(name, revision=folder.name)
    found = Checkpoint(
        CheckpointRef(ref.name, file_sha256(folder / WEIGHTS), ref.revision),
        (folder / CONFIG).read_text(encoding="utf8"),
        _tokenizer(folder).to_str(),
    )
    # What cannot be run is refused before a gigabyte is loaded.
    found.scheme  # noqa: B018
    return found


def from_folder(folder: Path) -> Checkpoint:
    """Read what ``Checkpoint.write`` wrote.

    RAISES (OpenMedError): A file is missing or damaged.
    """
    names = (REFERENCE, CONFIG, TOKENIZER)
    files = {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
    bundled = folder if (folder / WEIGHTS).is_file() else None
    return from_files(files, str(folder), bundled)


def from_files(files: Mapping[str, bytes], source: str, bundled: Path | None = None) -> Checkpoint:
    """The inverse of ``Checkpoint.to_files``.

    source (str): Where the files come from, for messages.
    bundled (Path | None): Folder that has the weights.
    RAISES (OpenMedError): A file is missing or damaged.
    """
    try:
        data = json.loads(files[REFERENCE])
        ref = CheckpointRef(str(data["name"]), str(data["sha256"]), str(data["revision"]))
        texts = files[CONFIG].decode("utf8"), files[TOKENIZER].decode("utf8")
    except (KeyError, TypeError, ValueError) as error:
        raise OpenMedError(
            f"The checkpoint in {source} lacks a file or has a damaged one ({error!r}). Save the "
            f"pipeline again."
        ) from error
    return Checkpoint(ref, *texts, bundled)


def find(ref: CheckpointRef, bundled: Path | None = None) -> Path:
    """The folder that holds a checkpoint, its weights verified.

    bundled (Path | None): Folder inside a saved pipeline, if it has the weights.
    RAISES (OpenMedError): Not found, no safetensors, or weights other than those recorded; the
        message lists what was tried.
    """
    tried = []
    for place, folder in _candidates(ref, bundled):
        if folder is None or not (folder / CONFIG).is_file():
            tried.append(place)
            continue
        weights = _weights_in(folder)
        if ref.sha256 and (actual := file_sha256(weights)) != ref.sha256:
            raise OpenMedError(
                f"The weights of checkpoint '{ref.name}' are not the recorded ones: {weights} has "
                f"sha256 {actual}, expected {ref.sha256}. Get the right file, or make the "
                f"pipeline again with this one."
            )
        return folder
    raise OpenMedError(
        f"Checkpoint '{ref.name}' was not found. Tried: {'; '.join(tried)}. Give a folder with "
        f"{CONFIG}, {WEIGHTS} and {TOKENIZER}; 'hf download ID --local-dir FOLDER' makes one of "
        f"what the hub has."
    )


def _candidates(ref: CheckpointRef, bundled: Path | None) -> Iterator[tuple[str, Path | None]]:
    if bundled is not None:
        yield f"bundled in the pipeline ({bundled})", bundled
    yield f"the folder {ref.name}", Path(ref.name)
    yield from _on_the_hub(ref, online=False)
    if os.environ.get(ALLOW_HUB) == "1":
        yield from _on_the_hub(ref, online=True)
    else:
        yield f"Hugging Face hub (not allowed; set {ALLOW_HUB}=1 to allow it)", None


def _on_the_hub(ref: CheckpointRef, online: bool) -> Iterator[tuple[str, Path | None]]:
    place = "Hugging Face hub" if online else "local Hugging Face cache"
    try:
        folder = hub.snapshot(ref.name, ref.revision, _FILES, online)
    except hub.NotThere as error:
        yield f"{place}: {error if online else 'absent'}", None
        return
    # Other programs leave a part of a repository in the cache; the hub may have the rest.
    partial = not online and not (folder / WEIGHTS).is_file()
    yield f"{place} (no {WEIGHTS if partial else CONFIG})", None if partial else folder


def _weights_in(folder: Path) -> Path:
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise OpenMedError(
            f"{folder} has no {WEIGHTS}: only safetensors weights in one file are loaded, never "
            f"pickles (pytorch_model.bin). To convert what you trust: AutoModelForToken"
            f"Classification.from_pretrained('{folder}').save_pretrained(NEW, max_shard_size="
            f"'100GB'), and copy the tokenizer's files to NEW."
        )
    return weights


def _tokenizer(folder: Path) -> Tokenizer:
    try:
        return load_tokenizer(folder)
    except OpenMedError as error:
        raise OpenMedError(
            f"{folder} has no {TOKENIZER}, and none can be made of its files: {error} "
            f"Where transformers has a fast tokenizer for the model, AutoTokenizer.from_pretrained"
            f"('{folder}').save_pretrained('{folder}') writes it."
        ) from error


class SharedCheckpoint:
    """The network of a checkpoint, that any number of components run.

    folder (Path): Verified checkpoint folder.
    device (str): Torch device.
    precision (str): "fp32", "bf16", "fp16", "int8", or "auto" for what the device does well.
    compiled (bool): By torch.compile.
    RAISES (OpenMedError): transformers cannot load it, it has no head for tokens, or the
        precision is not possible for it.
    """

    def __init__(
        self,
        folder: Path,
        device: str = "cpu",
        precision: str = "fp32",
        compiled: bool = False,
    ) -> None:
        self.folder = folder
        self.device = device
        self.precision = resolve_inference(precision, torch.device(device).type)
        model: Any = _load(folder).to(device)
        self.positions = positions(model)
        self.pad = int(getattr(model.config, "pad_token_id", None) or 0)
        self._engine: Engine
        self._head: torch.nn.Module
        if fits(model.base_model):
            # In transformers the head of this architecture is one linear layer.
            self._engine = build(model.base_model, self.precision, compiled)
            self._head = model.classifier
        else:
            # Whatever there is on the encoder: the whole model runs, and gives logits.
            self._engine = build(model, self.precision, compiled)
            self._head = torch.nn.Identity()
        # torch.compile has one compiler for all threads, a GPU threads of its own.
        self.side_by_side = torch.device(device).type == "cpu" and not compiled
        self._compiled = compiled
        self.after_fork()

    def after_fork(self) -> None:
        """Let go of what threads of the parent held, none of which are in the child."""
        self.recent = RecentEncodings()
        self._alone = taking_turns(self._compiled)

    def windowing(self, window: int | None = None, overlap: int | None = None) -> Windowing:
        """How to cut texts: a network that reads fewer wordpieces than it is to gets fewer.

        window, overlap (int | None): None for those that adapters have as a rule.
        """
        wanted = Windowing().but(window, overlap)
        # Not refused, as for a backbone that was trained with windows of that size: whoever
        # names a checkpoint need not know how much it reads, and no text is lost.
        if self.positions is None or wanted.window <= self.positions:
            return wanted
        return Windowing(self.positions, wanted.overlap * self.positions // wanted.window)

    def logits(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Floats:
        """Score a batch.

        ids, mask (int64[batch, length]): Special tokens included, padding at the end.
        RETURNS (float32[batch, length, labels]): Labels in the checkpoint's own order; 0 for
            padding.
        """
        with torch.inference_mode(), self._alone:
            rows = self._engine(
                torch.from_numpy(ids).to(self.device), torch.from_numpy(mask).to(self.device)
            )
            scores = self._head(rows.float())
        return with_padding(scores, mask)


def _load(folder: Path) -> torch.nn.Module:
    from transformers import AutoConfig, AutoModelForTokenClassification

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(str(folder), **options)
        model, report = AutoModelForTokenClassification.from_pretrained(
            str(folder), config=config, use_safetensors=True, output_loading_info=True, **options
        )
    except Exception as error:  # json, safetensors and transformers each have their own kinds
        raise OpenMedError(
            f"transformers cannot load the checkpoint in {folder}: {error}. Models that bring code "
            f"of their own are not run."
        ) from error
    # transformers would give such weights random values, and only warn.
    if missing := sorted(report["missing_keys"]):
        raise OpenMedError(
            f"{folder / WEIGHTS} has no {', '.join(missing[:5])}: it is no trained model for token "
            f"classification. To train one on it, set 'backbone' to the folder."
        )
    network: torch.nn.Module = model.float().eval().requires_grad_(False)
    return network


_shared: "weakref.WeakValueDictionary[tuple[str, str, str, bool], SharedCheckpoint]" = (
    weakref.WeakValueDictionary()
)
_shared_lock = threading.Lock()


def shared_checkpoint(
    folder: Path, device: str = "cpu", precision: str = "fp32", compiled: bool = False
) -> SharedCheckpoint:
    """The process's one copy of a checkpoint; it lives as long as somebody holds it.

    folder (Path): Verified checkpoint folder; the same weights in two folders are one.
    device (str): Torch device.
    precision (str), compiled (bool): As ``SharedCheckpoint`` takes them.
    """
    resolved = resolve_inference(precision, torch.device(device).type)
    key = (file_sha256(folder / WEIGHTS), device, resolved, compiled)
    with _shared_lock:
        network = _shared.get(key)
        if network is None:
            network = SharedCheckpoint(folder, device, resolved, compiled)
            _shared[key] = network
    return network


def _after_fork() -> None:
    # A lock that another thread of the parent held would stay locked.
    global _shared_lock
    _shared_lock = threading.Lock()
    for network in list(_shared.values()):
        network.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
