"""spaCy's DocBin: a .spacy file, or a folder of them (shards), as ``spacy train`` takes both.

``doc.ents`` has the outermost mentions (or others, see ``write``), ``doc.spans["openmed"]`` has
all of them, nested ones too; ``kb_id_`` is the concept. ``doc.user_data`` has "id" and
"passages", in plain types, so that reading them needs no package but spaCy.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...entities import Entity
from ...errors import OpenMedError
from ...files import atomic_file, atomic_folder
from ...labelling import Flatten, outermost
from ..documents import Document, check_span, user_label
from ..problems import OnError, stop
from .ids import UniqueIds
from .reading import check_passages, explained, read_each
from .splits import check_one_split

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, DocBin, Span

# The component's default, too.
SPANS_KEY = "openmed"
# 104 bytes a token before compression; spaCy holds a whole shard in memory.
SHARD_TOKENS = 200_000


def read(
    path: Path, types: Mapping[str, str] | None = None, on_error: OnError = stop
) -> Iterator[Document]:
    """Read documents of one shard after the other.

    Entities are ``doc.spans["openmed"]`` and those of ``doc.ents`` that are not among them.
    A doc that has neither (spaCy tells "no entity here" from "not annotated") and one span
    group, such as a span categorizer's "sc", is taken by that. Tokens are those of the doc
    that are not white space.

    path (Path): The file, or a folder of one split, whose .spacy files are read in the order
        of their names.
    types (Mapping[str, str] | None): Corpus types to user-facing labels.
    on_error (OnError): Called with what is wrong with a document, which is then left out.
    YIELDS (Document): With tokens, and with sentences where the doc has their starts.
    RAISES (OpenMedError): Names the file and the document, counted from 1.
    """
    for file in _files(path):
        docs = (
            (number, f"{file}, document {number}", doc) for number, doc in enumerate(_docs(file), 1)
        )
        yield from read_each(
            docs, lambda doc, where: _document(doc, types, where), "document", on_error
        )


def texts(path: Path, on_error: OnError = stop) -> Iterator[tuple[int, Document]]:
    """Read the docs of one file without their annotations, whatever these are.

    path (Path): The file.
    on_error (OnError): Called with what is wrong with a document, which is then left out.
    YIELDS (tuple[int, Document]): Number in the file, counted from 1, and the document; ids may
        come twice.
    RAISES (OpenMedError): The file is no DocBin.
    """
    for number, doc in enumerate(_docs(path), 1):
        try:
            yield number, _unannotated(doc, f"{path}, document {number}")
        except OpenMedError as error:
            on_error(error)


def write(documents: Iterable[Document], path: Path, flatten: Flatten = outermost) -> None:
    """Write docs for spaCy.

    A document's own tokens and sentences become the doc's; one without tokens gets those of
    spaCy's English tokenizer. Tokens are split where a mention begins or ends inside one.

    path (Path): "….spacy" is one file, made in memory; any other path is a folder of
        shards, of which no more than two are in memory.
    flatten (Flatten): Which of nested mentions are in ``doc.ents``.
    RAISES (OpenMedError): A mention begins or ends with white space, which spaCy cannot train
        on; tokens that do not lie in the text one after the other; lone surrogates; an id
        that comes twice.
    """
    if path.suffix.lower() == ".spacy":
        with atomic_file(path) as part:
            _save(next(_shards(documents, math.inf, flatten)), part)
        return
    if path.is_file() or (path.is_dir() and any(p.suffix != ".spacy" for p in path.iterdir())):
        raise OpenMedError(f"{path} exists and is no folder of .spacy files. Give another path.")
    with atomic_folder(path) as folder:
        for number, shard in enumerate(_shards(documents, SHARD_TOKENS, flatten)):
            _save(shard, folder / f"{number:05}.spacy")


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    # spaCy, too, takes no hidden files: some systems keep file properties in such.
    files = [
        file
        for file in sorted(path.rglob("*.spacy"))
        if not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]
    if not files:
        raise OpenMedError(f"{path}: no .spacy file in this folder.")
    check_one_split(path, (file.relative_to(path) for file in files))
    return files


def _docs(path: Path) -> Iterator["Doc"]:
    from spacy.tokens import DocBin
    from spacy.vocab import Vocab

    try:
        # A vocabulary for each shard, so that the words of all never come together.
        yield from DocBin().from_disk(path).get_docs(Vocab())
    except OSError as error:
        raise OpenMedError(f"{path}: cannot be read ({error.strerror}).") from error
    except Exception as error:
        # spaCy and NumPy raise whatever the wrong bytes make them stumble over.
        raise OpenMedError(
            f"{path}: not a DocBin (.spacy) file of spaCy 3, or cut short: {error!r}"
        ) from error


def _document(doc: "Doc", types: Mapping[str, str] | None, where: str) -> Document:
    document = _unannotated(doc, where)
    text = document.text
    with explained(f"{where}: its annotation is damaged"):
        entities = []
        concepts = {}
        for span in _mentions(doc, where):
            start, end = check_span(span.start_char, span.end_char, text, where)
            entity = Entity(start, end, user_label(span.label_, types, where))
            entities.append(entity)
            if span.kb_id_:
                concepts[entity[:3]] = span.kb_id_
    return replace(document, entities=entities, concepts=concepts)


def _unannotated(doc: "Doc", where: str) -> Document:
    text = doc.text
    with explained(f"{where}: its user data are damaged"):
        tokens = [token for token in doc if not token.text.isspace()]
        return Document(
            str(doc.user_data.get("id", "")),
            text,
            [],
            tokens=[(token.idx, token.idx + len(token)) for token in tokens],
            sentences=_sentences(doc),
            passages=check_passages(doc.user_data.get("passages", ()), text, where),
        )


def _mentions(doc: "Doc", where: str) -> list["Span"]:
    if SPANS_KEY in doc.spans or doc.has_annotation("ENT_IOB"):
        spans = list(doc.spans.get(SPANS_KEY, []))
        known = {(s.start, s.end, s.label) for s in spans}
        return spans + [e for e in doc.ents if (e.start, e.end, e.label) not in known]
    if len(doc.spans) > 1:
        raise OpenMedError(
            f"{where}: no entities, and several span groups: {', '.join(doc.spans)}. Name the "
            f"one to use '{SPANS_KEY}'."
        )
    return [span for group in doc.spans.values() for span in group]


def _sentences(doc: "Doc") -> list[tuple[int, int]]:
    """RETURNS (list[tuple[int, int]]): Ranges of the tokens that are not white space."""
    sentences: list[tuple[int, int]] = []
    if doc.has_annotation("SENT_START"):
        position = 0
        for sentence in doc.sents:
            stop_at = position + sum(not token.text.isspace() for token in sentence)
            if position < stop_at:
                sentences.append((position, stop_at))
            position = stop_at
    return sentences


def _save(shard: "DocBin", path: Path) -> None:
    try:
        shard.to_disk(path)
    except ValueError as error:
        raise OpenMedError(
            f"Too much for one .spacy file ({error}). Leave out the suffix of the path to write "
            f"a folder of them."
        ) from error


def _shards(documents: Iterable[Document], tokens: float, flatten: Flatten) -> Iterator["DocBin"]:
    """Docs in parts of about so many tokens; one part if there are no documents."""
    import spacy
    from spacy.tokens import DocBin

    ids = UniqueIds("document")
    nlp = spacy.blank("en")
    shard = DocBin(store_user_data=True)
    size = 0
    for number, document in enumerate(documents, 1):
        where = f"document {number} ('{document.id}')"
        ids.check(document.id, number, where)
        if size >= tokens:
            yield shard
            # The vocabulary grows with each new word, hence one a shard.
            nlp = spacy.blank("en")
            shard = DocBin(store_user_data=True)
            size = 0
        try:
            doc = _doc(document, nlp, flatten, where)
            shard.add(doc)
        except UnicodeEncodeError as error:
            raise OpenMedError(
                f"{where}: a lone surrogate ({error.object[error.start]!r}), which spaCy cannot "
                f"hold. Replace it, or write JSONL."
            ) from error
        size += len(doc)
    yield shard


def _doc(document: Document, nlp: "Language", flatten: Flatten, where: str) -> "Doc":
    doc = tokenized(document, nlp)
    if doc.text != document.text:
        raise OpenMedError(f"{where}: its tokens overlap or reach outside of its text.")
    _annotate(doc, document, flatten, where)
    doc.user_data["id"] = document.id
    if document.passages:
        doc.user_data["passages"] = document.passages
    return doc


def tokenized(document: Document, nlp: "Language") -> "Doc":
    """A doc of a document's own tokens and sentences, else of spaCy's tokens.

    RETURNS (Doc): Without annotations. Where tokens overlap, its text is not the document's.
    """
    from spacy.tokens import Doc

    if not document.tokens:
        # nlp() itself refuses more than a million characters.
        return nlp.tokenizer(document.text)
    text = document.text
    first_of_sentence = {start for start, _ in document.sentences}
    words: list[str] = []
    spaces: list[bool] = []
    sent_starts: list[bool | int | None] = []
    position = 0
    for number, (start, end) in enumerate([*document.tokens, (len(text), len(text))]):
        gap = text[position:start]
        # spaCy keeps one blank with the token before it; other space is a token of its own.
        if words and gap.startswith(" "):
            spaces[-1] = True
            gap = gap[1:]
        for word, is_first in ((gap, False), (text[start:end], number in first_of_sentence)):
            if word:
                words.append(word)
                spaces.append(False)
                sent_starts.append(is_first)
        position = end
    return Doc(
        nlp.vocab,
        words=words,
        spaces=spaces,
        sent_starts=sent_starts if document.sentences else None,
    )


def _annotate(doc: "Doc", document: Document, flatten: Flatten, where: str) -> None:
    from spacy.tokens import Span

    from ...alignment import align

    for start, end, label, *_ in document.entities:
        check_span(start, end, document.text, where)
        mention = document.text[start:end]
        if mention != mention.strip():
            raise OpenMedError(
                f"{where}: entity {start} to {end} begins or ends with white space, which spaCy "
                f"cannot train on. Trim it, or write JSONL."
            )
        if not label:
            raise OpenMedError(f"{where}: entity {start} to {end} has no label.")
    spans = {}
    group = []
    for placed, _ in align(doc, document.entities, "split"):
        key = (placed.start_char, placed.end_char, placed.label_)
        concept = document.concepts.get(key, "")
        spans[key] = Span(doc, placed.start, placed.end, label=placed.label, kb_id=concept)
        group.append(spans[key])
    doc.set_ents([spans[e[:3]] for e in flatten(document.entities)], default="outside")
    if group:
        doc.spans[SPANS_KEY] = group
