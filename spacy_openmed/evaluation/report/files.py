"""Reading the files of a run, any of which may be missing."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import OpenMedError
from ...files import read_json_if_there
from ..ledger import TEST, default_path
from . import shapes

Row = dict[str, Any]
SPLITS = ("dev", TEST)
# Resamples of fewer documents say nothing: of one they are all alike.
FEWEST_DOCUMENTS = 5


@dataclass(frozen=True)
class Result:
    """What 'spacy openmed evaluate' wrote.

    dataset, split (str): What was evaluated on, as the file's name has it.
    path (Path): The file.
    content (dict): What is in it.
    """

    dataset: str
    split: str
    path: Path
    content: Row

    def fits(self, other: Row) -> bool:
        """Whether another file is of the same data, adapter and edges."""
        return all(other.get(key) == self.content.get(key) for key in ("data", "adapter", "edges"))


def ledger_of(runs: Path, given: Path | None = None) -> Path:
    """The record of looks at test that belongs to a run.

    given (Path | None): By the user; by default the one in the run's folder, or if there is none
        that of ``evaluate``.
    RAISES (OpenMedError): There is no such file as was given.
    """
    if given is not None:
        if not given.is_file():
            raise OpenMedError(f"{given} is no file. Give --ledger the one that 'evaluate' wrote.")
        return given
    own = runs / "ledger.jsonl"
    return own if own.is_file() else default_path()


def folders(place: Path) -> list[Path]:
    """The folders in a folder, by name; none where there is no such folder."""
    if not place.is_dir():
        return []
    # A write that was cut off leaves a folder that begins with a dot.
    return sorted(p for p in place.iterdir() if p.is_dir() and not p.name.startswith("."))


def pairs(place: Path) -> list[Path]:
    """The folders ``<dataset>/<backbone>`` in a folder."""
    return [pair for dataset in folders(place) for pair in folders(dataset)]


def read(path: Path) -> Row:
    """A JSON file; empty where there is none.

    RAISES (OpenMedError): It cannot be read, or is no JSON object.
    """
    return read_json_if_there(path, "Run the step that writes it.") or {}


def read_as(path: Path, shape: Row) -> Row:
    """A JSON file of a known shape; empty where there is none.

    shape (dict): One of ``shapes``.
    RAISES (OpenMedError): As ``read``; or it has another shape.
    """
    found = read(path)
    if found and (place := shapes.fault(found, shape)) is not None:
        raise OpenMedError(
            f"{path} is broken ('{place}' is missing or not what it should be). Run the step that "
            f"writes it, or move the file elsewhere."
        )
    return found


def results(place: Path) -> Iterator[Result]:
    """The files ``<name>-<split>.json`` of a folder, by name.

    RAISES (OpenMedError): One is not a result.
    """
    for path in sorted(place.glob("*.json")):
        name, _, split = path.stem.rpartition("-")
        if name and split in SPLITS:
            yield Result(name, split, path, read_as(path, shapes.RESULT))


def at(found: Any, *keys: str) -> Any:
    """A value deep inside, None where there is none."""
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def figures(score: Row | None) -> Row | None:
    """A score without the counts of each document, which only computing needs.

    RETURNS (dict | None): With "document_count", None where it is not known; and "f1_ci", see
        ``interval``.
    """
    if score is None:
        return None
    counts = score.get("documents")
    return {
        **{key: value for key, value in score.items() if key != "documents"},
        "f1_ci": interval(score),
        "document_count": None if counts is None else len(counts),
    }


def interval(score: Row, key: str = "f1_ci", of: Row | None = None) -> list[float] | None:
    """An interval of a score, None where there is none or it is of too few documents.

    key (str): Of the interval.
    of (dict | None): What has the counts of the documents, if not the score itself.
    """
    counts = (score if of is None else of).get("documents")
    if counts is not None and len(counts) < FEWEST_DOCUMENTS:
        return None
    found: list[float] | None = score.get(key)
    return found
