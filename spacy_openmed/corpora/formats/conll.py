"""CoNLL files: a token and its tag a line, a blank line after each sentence.

The first column is the token, the last the tag, in any scheme of ``bio``. Columns are separated
by TABs, or by blanks in a file that has no TAB (CoNLL-2003). A line "# doc = ID" or
"-DOCSTART-" starts a document; without such lines every sentence is one. Other lines that
begin with "# " and have no tag are comments.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from ...atoms import atom_spans
from ...entities import Entity
from ...errors import OpenMedError
from ...files import atomic_file
from ...labelling import outermost
from .. import bio
from ..detokenise import on_written_text
from ..documents import Document, user_label
from ..problems import OnError, stop
from .ids import UniqueIds
from .lines import check_line, numbered_lines
from .reading import read_each

_DOCUMENT = "# doc = "
_DOCSTART = "-DOCSTART-"


def read(
    path: Path,
    types: Mapping[str, str] | None = None,
    on_error: OnError = stop,
    scheme: str | None = None,
    detokenised: bool = False,
) -> Iterator[Document]:
    """Read documents one at a time. The file is gone through once before.

    path (Path): The file, UTF-8.
    types (Mapping[str, str] | None): Corpus types to user-facing labels.
    on_error (OnError): Called with what is wrong with a document (a sentence, where there are
        no documents), which is then left out.
    scheme (str | None): Tag scheme; None finds it in the file (see ``bio.Detector``).
    detokenised (bool): Write the text as people do (see ``detokenise``) instead of with a
        blank between any two tokens.
    YIELDS (Document): With tokens and sentences.
    RAISES (OpenMedError): Names file and line of what is not as it should be.
    """
    documents = _documents(path, _survey(path, scheme), types, on_error)
    yield from map(on_written_text, documents) if detokenised else documents


def write(documents: Iterable[Document], path: Path, scheme: str = "BIO2") -> None:
    """Write two columns, separated by TABs; the file appears when all is written.

    A document without tokens gets words and single other characters (see ``atoms``), split
    where an entity begins or ends. Of nested entities the outermost are written. A document
    with id begins with "# doc = ID", one without with "-DOCSTART-".

    scheme (str): Tag scheme, any of its names.
    RAISES (OpenMedError): What this format cannot hold: white space in a token or label, an
        entity that does not begin and end at tokens or crosses the end of a sentence,
        sentences that leave tokens out, the same id twice.
    """
    scheme = bio.find_scheme(scheme)
    ids = UniqueIds("document")
    with atomic_file(path) as part, part.open("w", encoding="utf8", newline="\n") as file:
        for number, document in enumerate(documents, 1):
            where = f"document {number} ('{document.id}')" if document.id else f"document {number}"
            ids.check(document.id, number, where)
            try:
                file.write("".join(f"{line}\n" for line in _lines(document, scheme, where)))
            except UnicodeEncodeError as error:
                raise OpenMedError(
                    f"{where}: a lone surrogate cannot be written in UTF-8. JSONL can hold it."
                ) from error


# Reading


@dataclass(frozen=True)
class _Layout:
    """How a file is laid out.

    separator (str | None): TAB, or None for blanks.
    columns (int): As many as most of its lines have.
    documents (bool): Whether lines start documents.
    scheme (str): That of its tags.
    """

    separator: str | None
    columns: int
    documents: bool
    scheme: str

    def row(self, line: str) -> tuple[str, str] | None:
        """Token and tag; None if the line is not as the others."""
        columns = _cells(line, self.separator)
        if len(columns) != self.columns or not columns[0]:
            return None
        return (columns[0], columns[-1]) if bio.is_tag(columns[-1], self.scheme) else None

    def is_comment(self, line: str) -> bool:
        # A token "#" has a TAB after it, or a tag at the end of its line.
        return line.startswith("# ") and (
            "\t" not in line
            if self.separator
            else not bio.is_tag(_cells(line, self.separator)[-1], self.scheme)
        )

    def expected(self) -> str:
        return (
            f"expected {self.columns} columns separated by {'TABs' if self.separator else 'blanks'}"
            f", the first a token, the last a tag {bio.tag_form(self.scheme)}"
        )


@dataclass
class _Block:
    """Lines of a document, or of a sentence where there are no documents.

    number (int): Of its first line.
    name (str | None): Its id, may be ""; None if its first line is a token.
    lines (list[tuple[str, str]]): File and number, and the line itself.
    """

    number: int
    name: str | None
    lines: list[tuple[str, str]] = field(default_factory=list)


def _cells(line: str, separator: str | None) -> list[str]:
    return [cell.strip() for cell in line.split(separator)]


def _survey(path: Path, scheme: str | None) -> _Layout:
    """Go through a file to see how it is laid out; memory stays flat."""
    # A line that is not UTF-8 is for the reader to tell of, when it comes to its document.
    lines = numbered_lines(path, escaped=True)
    separator = "\t" if any("\t" in line for _, line in lines) else None
    columns: Counter[int] = Counter()
    detector = bio.Detector()
    documents = False
    tags: list[str] = []
    for _, line in numbered_lines(path, escaped=True):
        starts = _document_name(line) is not None
        documents |= starts
        if starts or not line.strip():
            detector.add(tags)
            tags = []
        elif separator is None or "\t" in line:
            cells = _cells(line, separator)
            columns[len(cells)] += 1
            tags.append(cells[-1])
    detector.add(tags)
    return _Layout(
        separator,
        max([2, *(n for n, _ in columns.most_common(1))]),
        documents,
        detector.scheme() if scheme is None else bio.find_scheme(scheme),
    )


def _document_name(line: str) -> str | None:
    """The id in a line that starts a document, "" if it has none; None if it starts none."""
    if line.startswith(_DOCUMENT) and "\t" not in line:
        return line[len(_DOCUMENT) :]
    if line.startswith(_DOCSTART) and line.split(maxsplit=1)[0] == _DOCSTART:
        return ""
    return None


def _documents(
    path: Path, layout: _Layout, types: Mapping[str, str] | None, on_error: OnError
) -> Iterator[Document]:
    blocks = ((block.number, block.lines[0][0], block) for block in _blocks(path, layout))
    yield from read_each(blocks, lambda block, _: _document(block, layout, types), "line", on_error)


def _blocks(path: Path, layout: _Layout) -> Iterator[_Block]:
    block: _Block | None = None
    for number, (where, line) in enumerate(numbered_lines(path, escaped=True), 1):
        name = _document_name(line)
        if name is not None or not (layout.documents or line.strip()):
            if block is not None:
                yield block
            block = None
        if block is None and line.strip():
            block = _Block(number, name)
        if block is not None:
            block.lines.append((where, line))
    if block is not None:
        yield block


def _document(block: _Block, layout: _Layout, types: Mapping[str, str] | None) -> Document | None:
    for where, line in block.lines:
        check_line(line, where)
    words: list[str] = []
    tokens: list[tuple[int, int]] = []
    sentences: list[tuple[int, int]] = []
    entities: list[Entity] = []
    position = 0
    for places, sentence, tags in _sentences(block, layout):
        first = len(tokens)
        for word in sentence:
            tokens.append((position, position + len(word)))
            position += len(word) + 1
        words += sentence
        sentences.append((first, len(tokens)))
        for a, b, label in bio.decode(tags, layout.scheme, places):
            start, end = tokens[first + a][0], tokens[first + b - 1][1]
            entities.append(Entity(start, end, user_label(label, types, places[a])))
    # Comments alone are no document; a line that starts one is.
    if not tokens and block.name is None:
        return None
    return Document(block.name or "", " ".join(words), entities, tokens=tokens, sentences=sentences)


def _sentences(block: _Block, layout: _Layout) -> Iterator[tuple[list[str], list[str], list[str]]]:
    """YIELDS (tuple): Places for messages, words and tags of a sentence."""
    where: list[str] = []
    words: list[str] = []
    tags: list[str] = []
    lines = block.lines if block.name is None else block.lines[1:]
    # A blank line more, for the last sentence.
    for place, line in (*lines, ("", "")):
        if line.strip():
            row = layout.row(line)
            if row is not None:
                where.append(place)
                words.append(row[0])
                tags.append(row[1])
            elif not layout.is_comment(line):
                raise OpenMedError(f"{place}: {layout.expected()}: {line!r}")
        elif words:
            yield where, words, tags
            where, words, tags = [], [], []


# Writing


def _lines(document: Document, scheme: str, where: str) -> Iterator[str]:
    if any(character in document.id for character in "\t\r\n"):
        raise OpenMedError(f"{where}: CoNLL cannot hold an id with a TAB or line break.")
    yield from [f"{_DOCUMENT}{document.id}"] if document.id else [f"{_DOCSTART}\tO", ""]
    entities = outermost(document.entities)
    tokens = document.tokens or _words(document.text, entities)
    words = [document.text[a:b] for a, b in tokens]
    for word in words:
        if word.split() != [word] or word == _DOCSTART:
            raise OpenMedError(f"{where}: CoNLL cannot hold the token {word!r}.")
    spans = _on_tokens(entities, document.text, tokens, where)
    sentences = document.sentences if document.tokens and document.sentences else [(0, len(tokens))]
    for first, end, inside in _in_sentences(spans, sentences, len(tokens), where):
        tags = bio.encode(inside, end - first, scheme)
        yield from (f"{word}\t{tag}" for word, tag in zip(words[first:end], tags, strict=True))
        yield ""


def _words(text: str, entities: Sequence[Entity]) -> list[tuple[int, int]]:
    edges = sorted({edge for entity in entities for edge in entity[:2]})
    words: list[tuple[int, int]] = []
    for start, end in zip(*(array.tolist() for array in atom_spans(text, "word")), strict=True):
        cuts = edges[bisect_right(edges, start) : bisect_left(edges, end)]
        words += pairwise([start, *cuts, end])
    return words


def _on_tokens(
    entities: Sequence[Entity], text: str, tokens: Sequence[tuple[int, int]], where: str
) -> list[bio.Span]:
    firsts = {start: i for i, (start, _) in enumerate(tokens)}
    stops = {end: i for i, (_, end) in enumerate(tokens, 1)}
    spans = []
    for start, end, label, *_ in entities:
        if label.split() != [label]:
            raise OpenMedError(f"{where}: CoNLL cannot hold the label {label!r}.")
        if start not in firsts or end not in stops:
            raise OpenMedError(
                f"{where}: {label} entity {start} to {end} ({text[start:end]!r}) begins or ends at "
                f"white space or inside a token. CoNLL cannot hold it; JSONL can."
            )
        spans.append((firsts[start], stops[end], label))
    return spans


def _in_sentences(
    spans: Sequence[bio.Span], sentences: Sequence[tuple[int, int]], length: int, where: str
) -> Iterator[tuple[int, int, list[bio.Span]]]:
    """Spans by sentences, in tokens of the sentence.

    YIELDS (tuple): First token and token after the last of a sentence; its spans.
    """
    waiting = deque(spans)
    position = 0
    for first, end in (*sentences, (length, length)):
        if not position == first <= end <= length:
            raise OpenMedError(
                f"{where}: its sentences leave out tokens or overlap at token {position + 1} of "
                f"{length}. CoNLL cannot hold that."
            )
        position = end
        inside = []
        while waiting and waiting[0][0] < end:
            a, b, label = waiting.popleft()
            if b > end:
                raise OpenMedError(
                    f"{where}: {label} entity of tokens {a + 1} to {b} goes beyond the sentence, "
                    f"which ends with token {end}. CoNLL cannot hold it; JSONL can."
                )
            inside.append((a - first, b - first, label))
        if first < end:
            yield first, end, inside
