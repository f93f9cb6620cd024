"""What a model found in a split, as a file: places, labels and scores, and no text.

JSON lines. The first says what was read, and by which model::

    {"format": "spacy-openmed predictions 2", "dataset", "split", "data": {file name: sha256},
     "adapter": sha256, "edges", "trained_on", "documents": {"raw": count, "conll": count}}

Then a line for each raw document, and after them one for each document of the token file, where
there is one, both in the corpus's order. Entities are on the characters of the document's text,
which for the latter is its tokens joined by blanks::

    {"id": "…", "raw": [[start, end, label, score], …]}
    {"id": "…", "conll": [[start, end, label, score], …]}

Errors and calibration are computed from such a file, so that nobody has to look at test again.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..backbones import file_sha256
from ..corpora.documents import Document
from ..entities import Entity
from ..errors import OpenMedError
from ..files import atomic_file
from .evaluate import Found, Split, load

FORMAT = "spacy-openmed predictions 2"


@dataclass(frozen=True)
class Predictions:
    """What a model found in a split.

    dataset (str): Id.
    split (str): "train", "dev" or "test".
    data (Mapping[str, str]): Name to sha256 of each file of the split.
    adapter (str): Hash of the adapter.
    edges (str): "word" or "wordpiece".
    trained_on (Sequence[str]): Ids of the datasets whose train the adapter has seen, its own
        first, see ``lineage.datasets``; empty if it names none.
    raw (Sequence[Found]): One a raw document.
    conll (Sequence[Found] | None): One a document of the token file; None without one.
    """

    dataset: str
    split: str
    data: Mapping[str, str]
    adapter: str
    edges: str
    trained_on: Sequence[str]
    raw: Sequence[Found]
    conll: Sequence[Found] | None = None

    @cached_property
    def content(self) -> bytes:
        """What the file holds."""
        return "".join(json.dumps(row) + "\n" for row in self._rows()).encode()

    @property
    def sha256(self) -> str:
        """Hash of the file."""
        return hashlib.sha256(self.content).hexdigest()

    def _rows(self) -> Iterator[dict[str, Any]]:
        parts = {"raw": self.raw, **({} if self.conll is None else {"conll": self.conll})}
        yield {
            "format": FORMAT,
            "dataset": self.dataset,
            "split": self.split,
            "data": dict(self.data),
            "adapter": self.adapter,
            "edges": self.edges,
            "trained_on": list(self.trained_on),
            "documents": {name: len(found) for name, found in parts.items()},
        }
        for name, found in parts.items():
            for one in found:
                yield {"id": one.id, name: [_values(entity) for entity in one.entities]}


def _values(entity: Entity) -> list[Any]:
    return [entity.start, entity.end, entity.label, float(entity.score)]


def write(predictions: Predictions, path: Path) -> None:
    """Write predictions, whole or not at all.

    RAISES (OpenMedError): It cannot be written.
    """
    with atomic_file(path) as part:
        part.write_bytes(predictions.content)


def beside(result: Path) -> Path:
    """Where the predictions of a result file are: ncbi-dev.json → ncbi-dev.predictions.jsonl."""
    # Not with_suffix: "a.v1" and "a.v2" are two results.
    return result.with_name(result.name.removesuffix(".json") + ".predictions.jsonl")


def of(result: Mapping[str, Any], path: Path) -> Path | None:
    """The predictions that a result was computed from.

    result (Mapping): As ``spacy openmed evaluate`` writes it.
    path (Path): Its file.
    RETURNS (Path | None): None where there are none, or not the ones that the result names:
        those of another adapter, or torn.
    """
    kept = beside(path)
    if not kept.is_file() or file_sha256(kept) != result.get("predictions"):
        return None
    return kept


def read(path: Path) -> Predictions:
    """Read predictions.

    RAISES (OpenMedError): Not there, not such a file, or not whole.
    """
    try:
        lines = path.read_text(encoding="utf8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OpenMedError(
            f"{path} cannot be read ({error}). 'spacy openmed evaluate' writes predictions."
        ) from error
    try:
        header, *rows = [json.loads(line) for line in lines]
        if header["format"] != FORMAT:
            raise ValueError(f"its format is {header['format']!r}")
        counts = header["documents"]
        raw, conll = counts["raw"], counts.get("conll")
        if len(rows) != raw + (conll or 0):
            raise ValueError(f"{len(rows)} of {raw + (conll or 0)} documents")
        if not isinstance(header["trained_on"], list):
            raise ValueError(f"{header['trained_on']!r} is no list of datasets")
        return Predictions(
            **{name: str(header[name]) for name in ("dataset", "split", "adapter", "edges")},
            trained_on=[str(name) for name in header["trained_on"]],
            data=dict(header["data"]),
            raw=[_found(row, "raw") for row in rows[:raw]],
            conll=None if conll is None else [_found(row, "conll") for row in rows[raw:]],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OpenMedError(
            f"{path} is not a whole file of predictions ({error!r}). Run 'spacy openmed evaluate' "
            f"again."
        ) from error


def _found(row: Mapping[str, Any], name: str) -> Found:
    return Found(str(row["id"]), [_entity(*values) for values in row[name]])


def _entity(start: object, end: object, label: object, score: object) -> Entity:
    if not (
        (type(start) is int and type(end) is int and 0 <= start < end)
        and (isinstance(label, str) and isinstance(score, float) and math.isfinite(score))
    ):
        raise ValueError(f"{[start, end, label, score]} is no entity")
    return Entity(start, end, label, score)


def with_gold(path: Path, corpus: Path) -> tuple[Predictions, Split]:
    """Predictions, and the split that they are of.

    path (Path): What ``write`` wrote.
    corpus (Path): Folder with the prepared corpora.
    RAISES (OpenMedError): See ``read``; or the split in ``corpus`` is not the one they are of.
    """
    found = read(path)
    at = load(found.dataset, found.split, corpus)
    if at.data != found.data:
        raise OpenMedError(
            f"{path} is of other data than {found.split} of '{found.dataset}' in {corpus}: it was "
            f"made from {_named(found.data)}, and there is {_named(at.data)}. Point --corpus at "
            f"the folder that was evaluated, or evaluate again."
        )
    _check(found.raw, at.raw, path)
    if found.conll is not None and at.conll is not None:
        _check(found.conll, at.conll, path)
    return found, at


def _named(data: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({sha256})" for name, sha256 in sorted(data.items()))


def _check(found: Sequence[Found], documents: Sequence[Document], path: Path) -> None:
    if [one.id for one in found] != [document.id for document in documents]:
        raise OpenMedError(f"{path}: not the documents of its split. Evaluate again.")
    for one, document in zip(found, documents, strict=True):
        if any(entity.end > len(document.text) for entity in one.entities):
            raise OpenMedError(
                f"{path}: an entity lies outside document '{one.id}'. Evaluate again."
            )
