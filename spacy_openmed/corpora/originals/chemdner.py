"""BC4CHEMD: tables of the BioCreative IV CHEMDNER release.

In the folder, packed (chemdner_corpus.tar.gz) or not:

    {training,development,evaluation}.abstracts.txt     PMID, title, abstract
    {training,development,evaluation}.annotations.txt   PMID, T or A, start, end, mention, class

Columns are separated by TABs, offsets count from the start of the title (T) or abstract (A).
The seven classes become the one type "Chemical". Nobody may hand on published tokens, so
there are none.

The release itself was not at hand: this follows the description of its format and programs
that read it.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from ...entities import Entity
from ...errors import OpenMedError
from ..documents import Document, check_span
from ..formats.ids import UniqueIds
from ..formats.lines import numbered_lines
from ..problems import OnError
from .sources import Sources
from .splits import Split

_SPLITS = {"train": "training", "dev": "development", "test": "evaluation"}
_LABEL = "Chemical"
_PASSAGES = {"T": "title", "A": "abstract"}

# File and line, section, start, end, mention.
_Row = tuple[str, str, str, str, str]


def convert(dataset: str, sources: Sources, on_error: OnError) -> dict[str, Split]:
    """All three official splits."""
    return {
        split: Split(
            list(
                _documents(
                    sources.find(f"{name}.abstracts.txt"),
                    sources.find(f"{name}.annotations.txt"),
                    on_error,
                )
            )
        )
        for split, name in _SPLITS.items()
    }


def _documents(abstracts: Path, annotations: Path, on_error: OnError) -> Iterator[Document]:
    rows = _rows(annotations, on_error)
    ids = UniqueIds("line")
    for number, (where, line) in enumerate(numbered_lines(abstracts), 1):
        if not line.strip():
            continue
        try:
            name, title, abstract = _columns(line, 3, where)
            ids.check(name, number, where)
            document = _document(name, title, abstract, rows.pop(name, []))
        except OpenMedError as error:
            on_error(error)
        else:
            yield document
    for name, (row, *_) in rows.items():
        on_error(OpenMedError(f"{row[0]}: '{name}' is no abstract of {abstracts}."))


def _rows(path: Path, on_error: OnError) -> dict[str, list[_Row]]:
    rows = defaultdict(list)
    for where, line in numbered_lines(path):
        if line.strip():
            try:
                name, section, start, end, mention, _ = _columns(line, 6, where)
            except OpenMedError as error:
                on_error(error)
            else:
                rows[name].append((where, section, start, end, mention))
    return rows


def _columns(line: str, count: int, where: str) -> list[str]:
    columns = line.split("\t")
    if len(columns) != count:
        raise OpenMedError(
            f"{where}: {len(columns)} columns where {count} were expected, with TABs between."
        )
    return columns


def _document(name: str, title: str, abstract: str, rows: list[_Row]) -> Document:
    starts = {"T": 0, "A": len(title) + 1}
    sections = {"T": title, "A": abstract}
    entities = []
    for where, section, start, end, mention in rows:
        if section not in sections or not (start.isdecimal() and end.isdecimal()):
            raise OpenMedError(
                f"{where}: expected T or A and two numbers, not {section}, {start}, {end}."
            )
        first, last = check_span(int(start), int(end), sections[section], where)
        found = sections[section][first:last]
        if found != mention:
            raise OpenMedError(f"{where}: the text has {found!r} where it says {mention!r}.")
        entities.append(Entity(first + starts[section], last + starts[section], _LABEL))
    return Document(
        name,
        f"{title} {abstract}",
        sorted(entities),
        passages=[
            (starts[s], starts[s] + len(sections[s]), passage) for s, passage in _PASSAGES.items()
        ],
    )
