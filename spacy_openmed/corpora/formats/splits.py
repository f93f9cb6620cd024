"""Folders that hold train, dev and test side by side, of which only one is meant."""

import re
from collections.abc import Iterable
from pathlib import Path, PurePath

from ...errors import OpenMedError

# A name ends where no letter follows: "train-00000-of-00001.parquet", but not "tests_ordered".
_NAMES = {
    "train": re.compile(r"train(ing)?(?![a-z])"),
    "dev": re.compile(r"(dev(el(opment)?)?|val(id(ation)?)?)(?![a-z])"),
    "test": re.compile(r"(test(ing)?|eval(uation)?)(?![a-z])"),
}


def check_one_split(path: Path, members: Iterable[PurePath]) -> None:
    """See that what is read of a folder is not of several splits.

    path (Path): The folder.
    members (Iterable[PurePath]): What is in it, as paths in the folder: a file or folder whose
        name begins with that of a split is this split, whatever lies in it.
    RAISES (OpenMedError): It is of several; names one file or folder of each.
    """
    found: dict[str, str] = {}
    for member in members:
        for depth, name in enumerate(member.parts, 1):
            split = _split(name)
            if split is not None:
                found.setdefault(split, PurePath(*member.parts[:depth]).as_posix())
                break
    if len(found) > 1:
        raise OpenMedError(
            f"{path} holds several splits ({', '.join(sorted(found.values()))}). Give one of "
            f"them, as a file or in a folder of its own."
        )


def _split(name: str) -> str | None:
    return next((split for split, form in _NAMES.items() if form.match(name.lower())), None)
