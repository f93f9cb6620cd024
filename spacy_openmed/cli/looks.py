"""The record of looks at test, as commands use it that measure a split."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import OpenMedError

if TYPE_CHECKING:
    from ..evaluation.ledger import Subject


Ledger = Annotated[
    Path | None,
    typer.Option(
        help="The record of looks at test [OPENMED_LEDGER or ledger.jsonl]; given with another "
        "split, that is recorded, too"
    ),
]
Reason = Annotated[
    str, typer.Option("--again", metavar="REASON", help="Look at test again, and record why")
]
Edges = Annotated[str, typer.Option(help="Where entities may begin and end: word, wordpiece")]


class Looks:
    """Checks and records the looks of a command.

    split (str): "train", "dev" or "test". Test is recorded always, another split if a ledger
        is given.
    ledger (Path | None): None for the default one.
    reason (str): Why to look at test again; "" is none, as a project's variable that is not set.
    RAISES (OpenMedError): No such split; or a reason that is blank or needless.
    """

    def __init__(self, split: str, ledger: Path | None, reason: str) -> None:
        from ..corpora.folder import SPLITS
        from ..evaluation.ledger import TEST

        # "./test" would name the same file as "test", and pass for another split.
        if split not in SPLITS:
            raise OpenMedError(f"--split {split}: choose {', '.join(SPLITS)}.")
        self._reason = reason_given(reason)
        if reason and split != TEST:
            raise OpenMedError("--again is for a further look at --split test.")
        self._split = split
        self._path = opened(ledger) if ledger is not None or split == TEST else None
        self._subjects: dict[str, Subject] = {}

    def check(self, corpus: Path, dataset: str) -> None:
        """Refuse a look before anything is measured.

        corpus (Path): Folder with the prepared corpora.
        RAISES (OpenMedError): See ``ledger.check``.
        """
        from ..evaluation import ledger

        if self._path is not None:
            at = ledger.subject(corpus, dataset, self._split)
            ledger.check(self._path, at, self._reason)
            self._subjects[dataset] = at

    def record(self, dataset: str, result: dict[str, Any]) -> None:
        """Record a look that was checked. Show and write no figure before.

        result (dict): See ``ledger.record``.
        RAISES (OpenMedError): See ``ledger.record``.
        """
        from ..evaluation import ledger

        if self._path is not None:
            ledger.record(self._path, self._subjects[dataset], result, self._reason)


def reason_given(reason: str) -> str | None:
    """The reason for another look, if there is one: "" is a variable that is not set.

    RAISES (OpenMedError): It is blank.
    """
    if reason and not reason.strip():
        raise OpenMedError("--again needs a reason.")
    return reason or None


def opened(ledger: Path | None) -> Path:
    """The ledger to use, after saying what is wrong with it."""
    from ..evaluation import ledger as looks

    path = ledger or looks.default_path()
    contents = looks.read(path)
    for number in contents.torn:
        typer.secho(
            f"{path}: line {number} is torn, a command was killed while it wrote it",
            fg="yellow",
            err=True,
        )
    for fault in contents.faults:
        typer.secho(f"{path}: {fault}: a line was removed or changed", fg="yellow", err=True)
    return path
