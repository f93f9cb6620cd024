"""Best-of-breed selection: for each dataset the backbone whose adapter is best on dev.

Only what training wrote into an adapter's folder is read here; no function is given a path to
a split or to a result on test.
"""

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import adapters, backbones
from ..about import __version__
from ..adapters import Adapter
from ..backbones import BackboneRef
from ..corpora import registry
from ..errors import OpenMedError
from ..files import write_json


@dataclass(frozen=True)
class Candidate:
    """An adapter that may be chosen.

    folder (Path): Of the adapter.
    dataset (str): Id.
    sha256 (str): Hash of the adapter (``adapters.content_hash``).
    backbone (BackboneRef): What it was trained on.
    dev_f1 (float): Raw micro-F1 on dev at the end of training, percent.
    dev_sha256 (str): Hash of the dev data.
    edition (str | None): Of the dataset; None if the registry does not know the data.
    parameters (int | None): Of backbone and adapter together; None if they cannot be counted.
    """

    folder: Path
    dataset: str
    sha256: str
    backbone: BackboneRef
    dev_f1: float
    dev_sha256: str
    edition: str | None
    parameters: int | None

    def to_dict(self, start: Path) -> dict[str, Any]:
        """As the selection has it; the folder relative to ``start``."""
        return {
            "adapter": Path(os.path.relpath(self.folder.resolve(), start.resolve())).as_posix(),
            "sha256": self.sha256,
            "backbone": self.backbone.to_dict(),
            "dev_f1": self.dev_f1,
            "parameters": self.parameters,
        }


@dataclass(frozen=True)
class Chosen:
    """An adapter that was chosen.

    dataset (str): Id.
    folder (Path): Of the adapter.
    sha256 (str): Hash of the adapter when it was chosen.
    """

    dataset: str
    folder: Path
    sha256: str

    def read(self) -> Adapter:
        """The adapter.

        RAISES (OpenMedError): Not there, broken, or not the one that was chosen.
        """
        adapter = adapters.read(self.folder)
        found = adapters.content_hash(adapter)
        if found != self.sha256:
            raise OpenMedError(
                f"The adapter for '{self.dataset}' in {self.folder} (sha256 {found}) is not the "
                f"one that was chosen ({self.sha256}). Run 'spacy openmed select' again."
            )
        return adapter


def candidates(folders: Sequence[Path]) -> list[Candidate]:
    """The adapters in some folders.

    folders (Sequence[Path]): Adapter folders, or folders that hold some at any depth. What
        begins with a dot is passed over: a write that was cut off leaves such folders.
    RAISES (OpenMedError): None is there, or one has no record of its training, no score on dev,
        or no dataset.
    """
    places = {place.resolve(): place for folder in folders for place in _adapter_folders(folder)}
    if not places:
        raise OpenMedError(
            f"No adapter in {', '.join(map(str, folders)) or 'no folder'}. 'spacy openmed train' "
            f"writes them."
        )
    return [_candidate(place) for place in places.values()]


def _adapter_folders(folder: Path) -> Iterator[Path]:
    if (folder / adapters.INFO).is_file():
        yield folder
        return
    for place, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if not name.startswith("."))
        if adapters.INFO in files:
            names.clear()
            yield Path(place)


def _candidate(folder: Path) -> Candidate:
    adapter = adapters.read(folder)
    path = folder / adapters.TRAINING
    if adapters.TRAINING not in adapter.card:
        raise OpenMedError(
            f"{folder} has no {adapters.TRAINING}, so its score on dev is not known. Train it with "
            f"'spacy openmed train', or leave it out."
        )
    if not adapter.info.dataset:
        raise OpenMedError(
            f"{folder} was trained on data without a name. Name it with 'spacy openmed train "
            f"--dataset', or leave it out."
        )
    try:
        record = json.loads(adapter.card[adapters.TRAINING])
        dev_f1, data = float(record["dev"]["f1"]), record["data"]
        dev_sha256, train_sha256 = str(data["dev"]), str(data["train"])
    except (ValueError, KeyError, TypeError) as error:
        raise OpenMedError(
            f"{path} lacks the score on dev or the hashes of the data ({error!r}). Train again."
        ) from error
    known = registry.edition_with(adapter.info.dataset, "train", train_sha256)
    return Candidate(
        folder=folder,
        dataset=adapter.info.dataset,
        sha256=adapters.content_hash(adapter),
        backbone=adapter.info.backbone,
        dev_f1=dev_f1,
        dev_sha256=dev_sha256,
        # Older records do not name it.
        edition=record.get("edition", known.id if known else None),
        parameters=_parameters(adapter, record),
    )


def _parameters(adapter: Adapter, record: dict[str, Any]) -> int | None:
    try:
        of_backbone = count_parameters(backbones.find(adapter.info.backbone) / backbones.WEIGHTS)
    except OpenMedError:  # not on this machine
        recorded = record.get("parameters")
        return None if recorded is None else int(recorded)
    own = [*adapter.lora.values(), adapter.weight, adapter.bias]
    return of_backbone + sum(tensor.numel() for tensor in own)


_FLOATS = ("F", "BF")


def count_parameters(weights: Path) -> int:
    """Numbers in a safetensors file, of which only the header is read.

    Whole numbers do not count: they are tables of positions and the like.
    """
    from safetensors import safe_open

    with safe_open(str(weights), framework="np") as file:
        tensors = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118
        return sum(math.prod(t.get_shape()) for t in tensors if t.get_dtype().startswith(_FLOATS))


def rank(found: Sequence[Candidate]) -> dict[str, list[Candidate]]:
    """The candidates of each dataset, the chosen one first.

    F1 on dev decides, and the smaller model between those that are equal to two decimals; one
    whose parameters are not known counts as the largest.

    RETURNS (dict[str, list[Candidate]]): By dataset, in the registry's order.
    RAISES (OpenMedError): Candidates of a dataset were scored on different data.
    """
    order = list(registry.with_demos())
    names = {one.dataset for one in found}
    ranked = {}
    for name in sorted(names, key=lambda n: (order.index(n) if n in order else len(order), n)):
        own = [one for one in found if one.dataset == name]
        _check_comparable(own)
        ranked[name] = sorted(own, key=_key)
    return ranked


def _key(one: Candidate) -> tuple[float, float, float, str, str]:
    size = math.inf if one.parameters is None else one.parameters
    # What follows the size only makes the order the same every time.
    return -round(one.dev_f1, 2), size, -one.dev_f1, one.backbone.id, str(one.folder)


def _check_comparable(own: Sequence[Candidate]) -> None:
    for what, values in (
        ("dev data", [one.dev_sha256 for one in own]),
        ("edition", [one.edition or "unknown" for one in own]),
    ):
        if len(set(values)) > 1:
            listed = "; ".join(
                f"{one.folder}: {value}" for one, value in zip(own, values, strict=True)
            )
            raise OpenMedError(
                f"Adapters for '{own[0].dataset}' differ in their {what}, so their F1 cannot be "
                f"compared ({listed}). Train them on the same, or leave some out."
            )


def write(ranked: dict[str, list[Candidate]], output: Path) -> None:
    """Write a selection, whole or not at all.

    ranked (dict[str, list[Candidate]]): From ``rank``.
    output (Path): JSON; folders in it are relative to its own.
    RAISES (OpenMedError): It cannot be written.
    """
    start = output.parent
    selection = {
        "spacy_openmed": __version__,
        "datasets": {
            name: {
                **own[0].to_dict(start),
                "edition": own[0].edition,
                "dev_sha256": own[0].dev_sha256,
                "candidates": [one.to_dict(start) for one in own],
            }
            for name, own in ranked.items()
        },
    }
    write_json(output, selection)


def read(path: Path) -> list[Chosen]:
    """Read a selection.

    path (Path): What ``write`` wrote.
    RETURNS (list[Chosen]): One for each dataset.
    RAISES (OpenMedError): Not there, or not such a file.
    """
    try:
        data = json.loads(path.read_text(encoding="utf8"))
        return [
            Chosen(name, path.parent / entry["adapter"], str(entry["sha256"]))
            for name, entry in data["datasets"].items()
        ]
    except OSError as error:
        raise OpenMedError(
            f"{path} cannot be read ({error.strerror}). 'spacy openmed select' writes it."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OpenMedError(
            f"{path} is not a selection ({error!r}). Run 'spacy openmed select' again."
        ) from error
