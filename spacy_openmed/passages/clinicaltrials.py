"""ClinicalTrials.gov: JSON of its API (version 2), or the tables of AACT."""

import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ..corpora.formats.lines import skip_mark
from ..corpora.problems import OnError, stop
from ..errors import OpenMedError
from .inputs import DAMAGE, damaged, each_file, open_bytes
from .records import Record
from .tables import rows

SOURCE = "clinicaltrials"
TABLES = ("brief_summaries.txt", "detailed_descriptions.txt", "eligibilities.txt")
NAMES = (".json", ".jsonl", *TABLES)

_FIELDS = (
    ("descriptionModule", "briefSummary"),
    ("descriptionModule", "detailedDescription"),
    ("eligibilityModule", "eligibilityCriteria"),
)
_PAGE = "studies.item"
_COLUMNS = (("nct_id",), ("description", "criteria"))
# The registry's text is Markdown: "\>= 18 years".
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
# AACT writes "~" for the end of a line. It also stands for "about" ("~5 mg").
_LINE_END = re.compile(r"(?<!\\)~(?!(?<=[\s(]~)\d)")


def read(paths: Iterable[Path], on_error: OnError = stop) -> Iterator[Record]:
    """Read brief summaries, detailed descriptions and eligibility criteria, each by itself.

    A file is taken for JSON if it begins with a bracket: a page of the API, all studies in
    one array (the website's download), one study (a file of the website's zip archive), or
    a study a line. Else it is a table of AACT: fields between "|", with a column nct_id and
    one of description or criteria.

    Warns when pages of the API were given and each of them says that another follows.

    paths (Iterable[Path]): The files, plain or gzip.
    on_error (OnError): Called with what is wrong with a study or a row, which is left out.
    YIELDS (Record): Its id is the NCT number, "/", and the field or the table; the text keeps
        its line ends.
    RAISES (OpenMedError): Names file, line and reason.
    """
    pages = Pages()
    yield from each_file(paths, lambda path: _file(path, pages, on_error), on_error)
    pages.check()


class Pages:
    """Counts pages of the API, of which all but the last name the next."""

    def __init__(self) -> None:
        self.all = 0
        self.with_next = 0

    def add(self, with_next: bool) -> None:
        self.all += 1
        self.with_next += with_next

    def check(self) -> None:
        if self.all and self.all == self.with_next:
            warnings.warn(
                f"clinicaltrials: each of {self.all} pages has a nextPageToken, so the last "
                f"page of the download is missing.",
                stacklevel=2,
            )


def _file(path: Path, pages: Pages, on_error: OnError) -> Iterator[Record]:
    with open_bytes(path) as file:
        try:
            start = skip_mark(file)
            head = file.read(4096).lstrip()
            if not head:
                raise OpenMedError(f"{path}, line 1: empty file.")
            if head[:1] in b"[{":
                file.seek(start)
                yield from _json(path, file, pages, on_error)
                return
        except DAMAGE as error:
            raise damaged(f"{path}, line 1", error) from error
    yield from _table(path, on_error)


def _json(path: Path, file: BinaryIO, pages: Pages, on_error: OnError) -> Iterator[Record]:
    import ijson

    start = file.tell()
    number = 0
    try:
        place = _place(file)
        if place is None:
            raise OpenMedError(f"{path}: no studies in it.")
        file.seek(start)
        studies = ijson.items(file, place, multiple_values=True, use_float=True)
        for number, study in enumerate(studies, 1):
            try:
                found = _study(study, f"{path}, study {number}")
            except OpenMedError as error:
                on_error(error)
            else:
                yield from found
        if place == _PAGE:
            file.seek(start)
            pages.add(any(ijson.items(file, "nextPageToken", multiple_values=True)))
    except ijson.JSONError as error:
        reason = error.args[0]
        if isinstance(reason, bytes):  # what was not UTF-8
            reason = reason.decode("utf8", "replace")
        reason = reason.partition("\n")[0]
        raise OpenMedError(
            f"{path}, study {number + 1}: not JSON ({reason}). Truncated? Download it again."
        ) from error
    except DAMAGE as error:
        raise damaged(f"{path}, study {number + 1}", error) from error


def _place(file: BinaryIO) -> str | None:
    """Where the studies are in a JSON file, as ijson writes places."""
    import ijson

    for place, event, value in ijson.parse(file, multiple_values=True):
        if place == "" and event == "start_array":
            return "item"
        if place == "" and event == "map_key" and value in ("studies", "protocolSection"):
            return _PAGE if value == "studies" else ""
    return None


def _study(study: Any, where: str) -> list[Record]:
    try:
        protocol = study["protocolSection"]
        name = protocol["identificationModule"]["nctId"]
        found = [(f, protocol.get(module, {}).get(f, "")) for module, f in _FIELDS]
        if not all(isinstance(text, str) for text in (name, *dict(found).values())):
            raise TypeError("nctId and descriptions must be strings")
    except (KeyError, TypeError, AttributeError) as error:
        raise OpenMedError(
            f"{where}: not a study with protocolSection.identificationModule.nctId: {error!r}"
        ) from error
    return [
        Record(SOURCE, f"{name}/{field}", _ESCAPED.sub(r"\1", text))
        for field, text in found
        if text
    ]


def _table(path: Path, on_error: OnError) -> Iterator[Record]:
    table = path.name.split(".")[0]
    for _, (name, text) in rows(path, "|", _COLUMNS, on_error):
        text = _ESCAPED.sub(r"\1", _LINE_END.sub("\n", text))
        yield Record(SOURCE, f"{name}/{table}", text)
