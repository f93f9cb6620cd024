"""What an adapter's training began with, as the record of the training says.

A run may go on from another adapter, that may be the mean of several, and these may have gone on
from others. All that text was seen, and all that time was spent, before the last run began.

Nothing here imports torch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]


@dataclass(frozen=True)
class Earlier:
    """The runs that came before those of an adapter.

    runs (Sequence[dict]): "adapter", "seconds" and "energy" (None if not known) of each, once.
    whole (bool): Whether these are all, with time and energy: records of adapters that ship name
        only the adapter that a run went on from.
    """

    runs: Sequence[Record]
    whole: bool

    @property
    def seconds(self) -> float:
        """Of all these runs."""
        return float(sum(run["seconds"] for run in self.runs))


def runs(record: Record) -> Sequence[Record]:
    """The records of the runs that an adapter is the mean of, or its own.

    record (dict): Of a training, as ``training.json`` has it.
    """
    found: Sequence[Record] = record.get("averaged") or [record]
    return found


def starts(record: Record) -> list[Record]:
    """The records of all adapters that the runs, and those before them, went on from."""
    return list({one["adapter"]: one for one in _starts(runs(record))}.values())


def _starts(of: Sequence[Record]) -> Iterator[Record]:
    for run in of:
        if start := run.get("warm_start"):
            yield start
            yield from _starts(start.get("runs") or [])


def datasets(record: Record) -> list[str]:
    """Ids of the datasets whose train an adapter has seen, its own first.

    RETURNS (list[str]): "" is the user's own data.
    """
    names = [record["dataset"], *(start["dataset"] for start in starts(record))]
    return list(dict.fromkeys(names))


def earlier(record: Record) -> Earlier | None:
    """The runs before those that the record counts itself; None if there were none.

    A run that is a part of a mean counts there, also where another part went on from it.
    """
    before = starts(record)
    if not before:
        return None
    own = {run.get("adapter") for run in runs(record)}
    found = {
        run["adapter"]: {key: run[key] for key in ("adapter", "seconds", "energy")}
        for start in before
        for run in start.get("runs") or []
        if run["adapter"] not in own
    }
    whole = all("runs" in start for start in before)
    return Earlier(list(found.values()), whole and all(run["energy"] for run in found.values()))


def made_by(adapter: str, record: Record) -> list[Record]:
    """What the record of a run says of the runs that made the adapter that it goes on from.

    adapter (str): Hash of that adapter.
    record (dict): Of its training.
    """
    return [
        {
            "adapter": run.get("adapter", adapter),
            "seconds": run["seconds"],
            "energy": run.get("energy"),
            "warm_start": run.get("warm_start"),
        }
        for run in runs(record)
    ]
