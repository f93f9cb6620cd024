"""Reading the files of a run, any of which may be missing."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import OpenMedError
from ..ledger import TEST

Row = dict[str, Any]
SPLITS = ("dev", TEST)


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
    try:
        found = json.loads(path.read_text(encoding="utf8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise OpenMedError(f"{path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise OpenMedError(f"{path} is broken ({error}). Run the step that writes it.") from error
    if not isinstance(found, dict):
        raise OpenMedError(f"{path} is not a JSON object. Run the step that writes it.")
    return found


def results(place: Path) -> Iterator[Result]:
    """The files ``<name>-<split>.json`` of a folder, by name."""
    for path in sorted(place.glob("*.json")):
        name, _, split = path.stem.rpartition("-")
        if name and split in SPLITS:
            yield Result(name, split, path, read(path))


def at(found: Any, *keys: str) -> Any:
    """A value deep inside, None where there is none."""
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def figures(score: Row | None) -> Row | None:
    """A score without the counts of each document, which only computing needs."""
    if score is None:
        return None
    return {key: value for key, value in score.items() if key != "documents"}
