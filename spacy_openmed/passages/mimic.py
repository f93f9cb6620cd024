"""MIMIC-III: the table of notes, from the user's own credentialed copy."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..corpora.problems import OnError, stop
from .inputs import each_file
from .records import Record
from .tables import rows

SOURCE = "mimic"
NAMES = ("noteevents.csv",)
PLACEHOLDERS = {"mask": "___", "strip": " ", "keep": None}

# Names, dates and places were replaced in de-identification: [**2150-3-1**],
# [**Hospital1 18**]. A line may break inside.
_PLACEHOLDER = re.compile(r"\[\*\*[^\[\]]*\*\*\]")
_RULE = re.compile(r"([_=*~#.-])\1{3,}")
_COLUMNS = (("row_id",), ("iserror",), ("text",))


def read(
    paths: Iterable[Path], placeholders: str = "mask", on_error: OnError = stop
) -> Iterator[Record]:
    """Read the notes that nobody marked as an error (ISERROR).

    Whatever holds text of these notes stays under the data use agreement of MIMIC-III.
    Rules drawn with characters ("________") are taken out.

    paths (Iterable[Path]): NOTEEVENTS.csv, plain or gzip.
    placeholders (str): What becomes of [** … **]: "mask" makes it "___", as MIMIC-IV has it,
        so that nothing is learned from a notation that no other notes have; "strip" takes it
        out, "keep" leaves it. arXiv 2508.01630 does not say what it did.
    on_error (OnError): Called with what is wrong with a row, which is then left out.
    YIELDS (Record): Its id is the ROW_ID; the text keeps its line ends.
    RAISES (OpenMedError): Names file, line and reason.
    """
    yield from each_file(paths, lambda path: _file(path, placeholders, on_error), on_error)


def _file(path: Path, placeholders: str, on_error: OnError) -> Iterator[Record]:
    replacement = PLACEHOLDERS[placeholders]
    for _, (name, is_error, text) in rows(path, ",", _COLUMNS, on_error):
        if is_error.strip() in ("", "0"):
            text = _RULE.sub(" ", text)
            if replacement is not None:
                text = _PLACEHOLDER.sub(replacement, text)
            yield Record(SOURCE, name, text)
