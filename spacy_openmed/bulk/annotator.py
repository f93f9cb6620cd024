"""Texts to entities of several adapters and checkpoints, without spaCy."""

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..entities import Entity
from ..errors import OpenMedError
from .options import Options
from .records import Found, Part, Skipped
from .results import Result

if TYPE_CHECKING:
    from .writers import Writer

# Texts to the entities of each.
Predict = Callable[[Sequence[str]], list[list[Entity]]]
_DIGITS = 4


@dataclass(frozen=True)
class Models:
    """The adapters and checkpoints of a run, by the name that their entities are given.

    files (dict[str, dict[str, bytes]]): Contents of the adapters, so that a machine needs only
        backbones.
    folders (dict[str, Path]): Where they are from.
    checkpoints (dict[str, dict[str, bytes]]): What describes the checkpoints; their weights are
        looked for on the machine that runs them.
    precision (str): What is computed in: not "auto", so that it is the same on all machines.
    device (str): Torch device that is computed on.
    """

    files: dict[str, dict[str, bytes]]
    folders: dict[str, Path]
    checkpoints: dict[str, dict[str, bytes]]
    precision: str
    device: str

    @classmethod
    def find(cls, options: Options) -> "Models":
        """Those that the options name.

        RAISES (OpenMedError): There is none for a dataset, a folder is none, a checkpoint cannot
            be found or run, or two would have the same name; no such GPU, or an unknown precision.
        """
        import torch

        from .. import adapters, checkpoints
        from ..precision import resolve_inference

        device = _device(options)
        if options.precision == "auto" and device == "cuda" and not torch.cuda.is_available():
            raise OpenMedError(
                "There is no GPU here that could tell what those of the workers compute in: give "
                "--precision bf16, fp16 or fp32."
            )
        precision = resolve_inference(options.precision, device.partition(":")[0])
        folders = {name: adapters.find(name, options.backbone) for name in options.datasets}
        places = {name: str(folder) for name, folder in folders.items()}

        def take(name: str, place: str) -> None:
            if name in places:
                raise OpenMedError(
                    f"{place} and {places[name]} would both be '{name}': their entities could not "
                    f"be told apart. Annotate with one after the other."
                )
            places[name] = place

        for folder in options.adapters:
            name = adapters.read(folder).info.dataset or folder.name
            take(name, str(folder))
            folders[name] = folder
        described = {}
        for wanted in options.checkpoints:
            checkpoint = checkpoints.read(wanted)
            name = Path(checkpoint.ref.name).name
            take(name, wanted)
            described[name] = checkpoint.to_files()
        files = {name: adapters.to_files(adapters.read(f)) for name, f in folders.items()}
        return cls(files, folders, described, precision, device)

    @property
    def device_kind(self) -> str:
        """ "cpu", "cuda" or "mps"."""
        return self.device.partition(":")[0]

    def hashes(self) -> dict[str, dict[str, str]]:
        """What tells whether they are still the same: of adapters, and of checkpoints if any."""
        from .. import adapters, checkpoints

        found = {
            "adapters": {
                name: adapters.content_hash(adapters.from_files(files, str(self.folders[name])))
                for name, files in self.files.items()
            },
            "checkpoints": {
                name: checkpoints.from_files(files, name).content_hash
                for name, files in self.checkpoints.items()
            },
        }
        return {kind: hashes for kind, hashes in found.items() if hashes}

    def load(self) -> "Annotator":
        """Put the adapters on their backbones, of which there is one copy each; load checkpoints.

        RAISES (OpenMedError): A backbone or a checkpoint is missing, or not the right one.
        """
        return Annotator(
            {
                **{name: self._adapter(name) for name in self.files},
                **{name: self._checkpoint(name) for name in self.checkpoints},
            }
        )

    def _adapter(self, name: str) -> Predict:
        from .. import adapters, backbones
        from ..inference import shared_backbone
        from ..predictor import Predictor

        source = str(self.folders[name])
        adapter = adapters.from_files(self.files[name], source)
        bundled = adapters.backbone_beside(self.folders[name])
        folder = backbones.find(adapter.info.backbone, bundled)
        backbone = shared_backbone(folder, self.device, self.precision)
        backbone.check(adapter, source)
        return Predictor(adapter, backbone)

    def _checkpoint(self, name: str) -> Predict:
        from .. import checkpoints
        from ..predictor import CheckpointPredictor

        checkpoint = checkpoints.from_files(self.checkpoints[name], name)
        folder = checkpoints.find(checkpoint.ref)
        network = checkpoints.shared_checkpoint(folder, self.device, self.precision)
        return CheckpointPredictor(checkpoint, network)


def _device(options: Options) -> str:
    """What to compute on.

    RAISES (OpenMedError): The GPU that is wanted is not there.
    """
    import torch

    from ..precision import default_device

    wanted = options.gpu_id
    if wanted is None:
        return default_device()
    if wanted == -1:
        return "cpu"
    if options.address:
        # Of a cluster, whose machines need not be like this one.
        return "cuda"
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if 0 <= wanted < found:
        # A worker on Ray sees its own as the first.
        return "cuda" if options.on_ray else f"cuda:{wanted}"
    # Apple's, as spacy.require_gpu takes it.
    if wanted == 0 and not found and torch.backends.mps.is_available():
        return "mps"
    raise OpenMedError(f"--gpu-id {wanted}: there are {found} GPUs, counted from 0; -1: the CPU.")


def limit_threads(threads: int) -> None:
    """Use so many threads in this process; for tokenizers that counts before their first use."""
    import torch

    torch.set_num_threads(threads)
    os.environ["RAYON_NUM_THREADS"] = str(threads)


class Annotator:
    """Annotates the parts of a run.

    predictors (Mapping[str, Predict]): By the name that their entities are given.
    """

    def __init__(self, predictors: Mapping[str, Predict]) -> None:
        self.predictors = predictors

    def __call__(self, texts: Sequence[str]) -> list[list[Found]]:
        """What all find, in text order; the entities of each are disjoint."""
        found: list[list[Found]] = [[] for _ in texts]
        for name, predictor in self.predictors.items():
            for mine, entities in zip(found, predictor(texts), strict=True):
                mine += [
                    Found(e.start, e.end, e.label, round(e.score, _DIGITS), name) for e in entities
                ]
        return [sorted(mine) for mine in found]

    def annotate(self, part: Part, writer: "Writer", together: bool = True) -> Result:
        """Annotate a part.

        A document that fails costs no other: it is skipped, and the rest is tried one by one.

        writer (Writer): Of the output.
        together (bool): Whether documents share batches.
        """
        begun = time.time()
        results: Sequence[list[Found] | None] = [None] * len(part.documents)
        if together:
            # Whatever a document makes the libraries stumble over.
            with suppress(Exception):
                results = self([document.text for document in part.documents])
        skipped = list(part.skipped)
        pieces = []
        words = 0
        entities: Counter[str] = Counter()
        for document, result in zip(part.documents, results, strict=True):
            try:
                found = self([document.text])[0] if result is None else result
                piece = writer.piece(document, found)
            except Exception as error:
                reason = str(error) if isinstance(error, OpenMedError) else repr(error)
                skipped.append(Skipped(f"document '{document.id}'", f"failed: {reason}"))
                continue
            pieces.append(piece)
            words += len(document.text.split())
            entities.update(f"{one.dataset} {one.label}" for one in found)
        return Result(
            part.source,
            part.number,
            part.last,
            len(pieces),
            words,
            dict(sorted(entities.items())),
            skipped,
            writer.payload(pieces),
            begun,
            time.time(),
        )
