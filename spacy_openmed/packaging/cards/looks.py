"""The looks at test that a ledger has of an adapter."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...evaluation import ledger
from ...evaluation.ledger import TEST
from .source import Place, Source

LEDGER = "ledger.jsonl"


@dataclass(frozen=True)
class Look:
    """A line of a ledger.

    line (int): Its number, the first is 1.
    sha256 (str): Of the line with its line break: what the next line records of it.
    entry (dict): What it says.
    """

    line: int
    sha256: str
    entry: dict[str, Any]

    @property
    def purpose(self) -> str:
        """What was measured."""
        result = self.entry.get("result") or {}
        if "robustness" in result:
            return "robustness"
        return "another corpus" if "trained_on" in result else "the figures"


@dataclass(frozen=True)
class Looks:
    """What a ledger says of an adapter.

    source (Source): The ledger.
    looks (list[Look]): At test, with this adapter, the oldest first.
    faults (list[str]): Where a line was removed or changed, whichever adapter it is of.
    """

    source: Source
    looks: list[Look]
    faults: list[str]


def find(results: Path) -> Path | None:
    """The ledger of a run: in the folder of its results, or in the one above."""
    for place in (results / LEDGER, results.resolve().parent / LEDGER):
        if place.is_file():
            return place
    return None


def read(path: Path, adapter: str, place: Place) -> Looks:
    """The looks at test with an adapter.

    adapter (str): Its hash.
    RAISES (OpenMedError): The ledger cannot be read.
    """
    contents = ledger.read(path)
    looks = [
        Look(number, sha256, entry)
        for (number, sha256), entry in zip(contents.lines, contents.entries, strict=True)
        if (entry.get("adapter"), entry.get("split")) == (adapter, TEST)
    ]
    return Looks(place.other(path), looks, contents.faults)
