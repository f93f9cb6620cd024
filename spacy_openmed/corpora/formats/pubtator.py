"""PubTator: title and abstract on a line each, then a line for each mention, then a blank line.

    ID|t|title
    ID|a|abstract
    ID TAB start TAB end TAB mention TAB type TAB concept

Offsets count characters of title and abstract joined by one blank.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ...entities import Entity
from ...errors import OpenMedError
from ...files import atomic_file
from ..documents import Document, check_span, user_label
from ..problems import OnError, stop
from .ids import UniqueIds
from .lines import check_line, numbered_lines
from .mentions import NO_CONCEPT, ONE_BLANK, add_concept, check_mention
from .reading import read_each

_SECTION = re.compile(r"([^|\t]+)\|([^|\t]+)\|(.*)", re.DOTALL)
_MENTION = re.compile(
    r"[^\t]*\t([0-9]{1,18})\t([0-9]{1,18})\t([^\t]*)\t([^\t]+)(?:\t([^\t]*))?(?:\t.*)?", re.DOTALL
)
_NUMBER = re.compile(r"[0-9]{1,18}")
_NAMES = {"t": "title", "a": "abstract"}
_CODES = {name: code for code, name in _NAMES.items()}


def read(
    path: Path, types: Mapping[str, str] | None = None, on_error: OnError = stop
) -> Iterator[Document]:
    """Read documents one at a time.

    Sections besides ``|t|`` and ``|a|`` are taken as tmVar and GNormPlus take them: as further
    passages of that name, each one blank after the one before. Empty sections at the end add
    nothing to the text. Concepts are kept as they stand, "-1" and "D001|D002" too, but for
    "-", which is PubTator's sign for none. Relations and further columns are read past.

    path (Path): The file, UTF-8.
    types (Mapping[str, str] | None): Corpus types to user-facing labels.
    on_error (OnError): Called with what is wrong with a document, which is then left out.
    YIELDS (Document): With passages "title" and "abstract".
    RAISES (OpenMedError): Names file and line of what is not as it should be.
    """
    blocks = ((number, block[0][0], block) for number, block in _blocks(path))
    yield from read_each(blocks, lambda block, _: _document(block, types), "line", on_error)


def write(documents: Iterable[Document], path: Path) -> None:
    """Write documents one at a time; the file appears when all are written.

    A document without passages becomes a title with an empty abstract, and comes back with
    one passage, "title".

    RAISES (OpenMedError): A text with line breaks; passages that are not one blank apart; an
        id, label or concept that a column cannot hold.
    """
    ids = UniqueIds("document")
    with atomic_file(path) as part, part.open("wb") as file:
        for number, document in enumerate(documents, 1):
            where = f"document '{document.id}'"
            ids.check(document.id, number, f"document {number}")
            try:
                file.write(encode(document, where).encode("utf8"))
            except UnicodeEncodeError as error:
                raise OpenMedError(
                    f"{where}: a lone surrogate ({error.object[error.start]!r}), which UTF-8 "
                    f"cannot hold. Replace it, or write JSONL."
                ) from error


def _blocks(path: Path) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """The lines of one document after the other, and the number of the first."""
    block: list[tuple[str, str]] = []
    first = 0
    for number, (where, line) in enumerate(numbered_lines(path, escaped=True), 1):
        section = _SECTION.fullmatch(line)
        other = section and block and not block[0][1].startswith(f"{section[1]}|")
        if block and (other or not line.strip()):
            yield first, block
            block = []
        if line.strip():
            first = first if block else number
            block.append((where, line))
    if block:
        yield first, block


def _document(block: list[tuple[str, str]], types: Mapping[str, str] | None) -> Document:
    for where, line in block:
        check_line(line, where)
    where, line = block[0]
    first = _SECTION.fullmatch(line)
    if first is None:
        raise OpenMedError(f"{where}: expected ID|t|title at the start of a document: {line!r}")
    identifier = first[1]
    sections = []
    for _, line in block:
        section = _SECTION.fullmatch(line)
        if section is None:
            break
        sections.append((_NAMES.get(section[2], section[2]), section[3]))
    text, passages = _join(sections)
    entities = []
    concepts: dict[tuple[int, int, str], str] = {}
    for where, line in block[len(sections) :]:
        if not line.startswith(f"{identifier}\t"):
            raise OpenMedError(
                f"{where}: not an annotation of document '{identifier}': {line!r}. Between "
                f"documents there has to be a blank line."
            )
        if _is_relation(line.split("\t"), text):
            continue
        entity, concept = _mention(line, text, types, where)
        entities.append(entity)
        if concept not in NO_CONCEPT:
            add_concept(concepts, entity[:3], concept)
    return Document(identifier, text, entities, concepts=concepts, passages=passages)


def _is_relation(columns: Sequence[str], text: str) -> bool:
    """Whether a relation's type stands where a mention has its start.

    A mention with letters in its start is none. It has a number for its end, as relations of
    genes have, but more columns than these, or the words that end there.
    """
    if not columns[1][:1].isalpha():
        return False
    if len(columns) < 5 or not _NUMBER.fullmatch(columns[2]):
        return True
    return len(columns) == 5 and not text[: int(columns[2])].endswith(columns[3])


def _mention(
    line: str, text: str, types: Mapping[str, str] | None, where: str
) -> tuple[Entity, str]:
    columns = _MENTION.fullmatch(line)
    if columns is None:
        raise OpenMedError(
            f"{where}: expected ID, start, end, mention, type and concept with TABs between: "
            f"{line!r}"
        )
    span = check_span(int(columns[1]), int(columns[2]), text, where)
    check_mention(text, [span], columns[3], where)
    return Entity(*span, user_label(columns[4], types, where)), columns[5] or ""


def _join(sections: Sequence[tuple[str, str]]) -> tuple[str, list[tuple[int, int, str]]]:
    """RETURNS (tuple[str, list[tuple[int, int, str]]]): Text and passages of a document."""
    filled = max((i for i, (_, content) in enumerate(sections) if content), default=0) + 1
    passages = []
    position = 0
    for name, content in sections[:filled]:
        passages.append((position, position + len(content), name))
        position += len(content) + 1
    return " ".join(content for _, content in sections[:filled]), passages


def encode(document: Document, where: str) -> str:
    """The lines of one document and the blank line after them, see ``write``.

    where (str): Place, for the message.
    """
    text = document.text
    if not re.fullmatch(r"[^|\t\r\n]+", document.id) or document.id.startswith("\ufeff"):
        raise OpenMedError(f"{where}: PubTator needs an id without '|', TAB and line breaks.")
    broken = re.search(r"[\r\n]", text)
    if broken:
        raise OpenMedError(
            f"{where}: a line break (character {broken.start()}), which PubTator cannot hold. "
            f"Write BioC, brat or JSONL, or put blanks for line breaks: offsets stay the same."
        )
    sections = [(name, text[start:end]) for start, end, name in document.passages]
    if not sections:
        sections = [("title", text)]
    elif _join(sections) != (text, [(a, b, name) for a, b, name in document.passages]):
        raise OpenMedError(
            f"{where}: passages that do not follow each other with one blank between, which "
            f"PubTator cannot hold. Write BioC or JSONL."
        )
    if len(sections) == 1:
        # Many programs look for an abstract.
        sections.append(("abstract", ""))
    lines = [f"{document.id}|{_code(name, where)}|{content}" for name, content in sections]
    for start, end, label, *_ in document.entities:
        mention = text[start:end].translate(ONE_BLANK)
        concept = _column(document.concepts.get((start, end, label)) or "-", where)
        columns = (document.id, str(start), str(end), mention, _column(label, where), concept)
        lines.append("\t".join(columns))
    return "\n".join(lines) + "\n\n"


def _code(name: str, where: str) -> str:
    if "|" in name or name in _NAMES:
        raise OpenMedError(f"{where}: PubTator cannot hold a passage named {name!r}. Write JSONL.")
    return _CODES.get(name) or _column(name, where)


def _column(value: str, where: str) -> str:
    if not re.fullmatch(r"[^\t\r\n]+", value):
        raise OpenMedError(
            f"{where}: {value!r} as label, concept or passage. PubTator cannot hold TAB and line "
            f"breaks there, nor nothing. Write JSONL."
        )
    return value
