"""BioC, XML or JSON: documents of passages, with annotations at offsets in the document.

The infon "type" of a passage is its name, that of an annotation its label; "identifier" is its
concept. Offsets count characters.
"""

import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ...entities import Entity
from ...errors import OpenMedError
from ...files import atomic_file
from ..documents import Document, check_span, user_label
from ..problems import OnError, stop
from .ids import UniqueIds
from .lines import check_text, skip_mark
from .mentions import NO_CONCEPT, add_concept, check_mention
from .reading import explained, read_each

if TYPE_CHECKING:
    from bioc import (
        BioCAnnotation,
        BioCCollection,
        BioCDocument,
    )

# Where corpora keep the concept, in lower case: PubTator, NLM-Chem; NLM-Gene; BC5CDR; GNormPlus;
# the bioc library itself.
_CONCEPTS = (
    "identifier",
    "ncbi gene identifier",
    "mesh",
    "ncbi gene",
    "ncbi taxonomy",
    "concept_id",
)
NOT_XML = re.compile(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Before the first document of a file, and before each of the others.
FIRST = b"\n"
SEPARATORS = {".xml": b"\n", ".json": b",\n"}
# More is a damaged offset rather than text that was left out.
_LONGEST_GAP = 10_000_000


def read(
    path: Path, types: Mapping[str, str] | None = None, on_error: OnError = stop
) -> Iterator[Document]:
    """Read documents one at a time.

    XML is a ``collection``. JSON is a collection, a list of them, what PubTator 3 sends, or one
    document after the other.

    The text is that of the passages, or of their sentences, at their offsets; blanks fill what
    lies between. A mention in several locations becomes one entity from the first character to
    the last. Annotations may stand at documents, passages and sentences; those that mark no
    text (no location, or of length 0) and relations are read past.

    path (Path): The file.
    types (Mapping[str, str] | None): Corpus types to user-facing labels.
    on_error (OnError): Called with what is wrong with a document, which is then left out.
    YIELDS (Document): With those passages that have a type.
    RAISES (OpenMedError): Names the file, the line in XML or the document (counted from 1) in
        JSON, and what is not as it should be.
    """
    found = _from_xml(path) if _is_xml(path) else _from_json(path)
    sources = ((number, where, source) for number, (where, source) in enumerate(found, 1))
    yield from read_each(
        sources, lambda source, where: _document(source, types, where), "document", on_error
    )


def write(documents: Iterable[Document], path: Path) -> None:
    """Write documents one at a time; the file appears when all are written.

    Text outside the document's passages becomes passages without a type. An entity stands at
    the passage it lies in, one that lies in none at the document: so entities come back in the
    order of passages, and in their own order within each.

    path (Path): "….xml" or "….json".
    RAISES (OpenMedError): Another suffix; passages that overlap or have no name; characters
        that the file cannot hold.
    """
    suffix = path.suffix.lower()
    if suffix not in (".xml", ".json"):
        raise OpenMedError(f"{path}: BioC files end in .xml or .json.")
    before, after = frame(suffix)
    with atomic_file(path) as part, part.open("wb") as file:
        file.write(before)
        separator = FIRST
        for document in _checked(documents):
            file.write(separator + encode(document, suffix))
            separator = SEPARATORS[suffix]
        file.write(after)


def frame(suffix: str) -> tuple[bytes, bytes]:
    """What stands before and after the documents of a file.

    suffix (str): ".xml" or ".json".
    """
    if suffix == ".json":
        from bioc import biocjson

        collection = biocjson.toJSON(_collection())
        del collection["documents"]
        start = json.dumps(collection).removesuffix("}").encode()
        return start + b', "documents": [', b"\n]}\n"
    from bioc.biocxml import BioCXMLDocumentWriter

    file = io.BytesIO()
    with closing(BioCXMLDocumentWriter(file, encoding="UTF-8")) as writer:
        writer.write_collection_info(_collection())
    before, line, after = file.getvalue().rpartition(b"\n")
    return before, line + after


def encode(document: Document, suffix: str, infons: Sequence[Mapping[str, str]] = ()) -> bytes:
    """One document as it stands in a file, see ``write``.

    suffix (str): ".xml" or ".json".
    infons (Sequence[Mapping[str, str]]): What else is to be said of each of the entities, or
        nothing of any.
    """
    encoded = _encode(document, infons)
    if suffix == ".json":
        from bioc import biocjson

        try:
            return json.dumps(biocjson.toJSON(encoded), ensure_ascii=False).encode("utf8")
        except UnicodeEncodeError as error:
            raise OpenMedError(
                f"document '{document.id}': a lone surrogate "
                f"({error.object[error.start]!r}), which UTF-8 cannot hold. Replace it, or "
                f"write JSONL."
            ) from error
    from bioc.biocxml.encoder import encode_document
    from lxml import etree

    try:
        content: bytes = etree.tostring(encode_document(encoded), encoding="UTF-8")
    except ValueError as error:
        found = NOT_XML.search(document.text)
        character = f"character {found.start()}, {found[0]!r}," if found else "a character"
        raise OpenMedError(
            f"document '{document.id}': {character} cannot be in XML. Remove it, or write "
            f"BioC JSON or JSONL."
        ) from error
    return content


def _is_xml(path: Path) -> bool:
    check_text(path)
    with path.open("rb") as file:
        skip_mark(file)
        start = file.read(1000).lstrip()
    if not start.startswith((b"<", b"{", b"[")):
        raise OpenMedError(f"{path}, line 1: neither XML nor JSON.")
    return start.startswith(b"<")


def _from_xml(path: Path) -> Iterator[tuple[str, bytes]]:
    """Where each document is, and the document. One is in memory at a time."""
    from lxml import etree

    try:
        with path.open("rb") as file:
            _, root = next(etree.iterparse(file, events=("start",)))
            if root.tag != "collection":
                raise OpenMedError(
                    f"{path}, line {root.sourceline}: <{root.tag}> where BioC has <collection>."
                )
            file.seek(0)
            for _, element in etree.iterparse(
                file, tag="document", remove_comments=True, remove_pis=True
            ):
                yield (
                    f"{path}, line {element.sourceline}",
                    etree.tostring(
                        element, encoding="utf8", xml_declaration=False, with_tail=False
                    ),
                )
                element.clear()
                while element.getprevious() is not None:
                    del element.getparent()[0]
    except etree.XMLSyntaxError as error:
        raise OpenMedError(f"{path}, line {error.lineno}: not XML ({error.msg}).") from error


def _from_json(path: Path) -> Iterator[tuple[str, object]]:
    """Where each document is, and the document. One is in memory at a time."""
    import ijson

    number = 0
    try:
        with path.open("rb") as file:
            place = _place(file, path)
            skip_mark(file)
            items = ijson.items(file, place, multiple_values=True, use_float=True)
            for number, item in enumerate(items, 1):
                yield f"{path}, document {number}", item
    except ijson.JSONError as error:
        reason = " ".join(str(error).split())
        raise OpenMedError(f"{path}, after document {number}: not JSON ({reason}).") from error


def _place(file: BinaryIO, path: Path) -> str:
    """The place of documents in a JSON file, as ijson writes places."""
    import ijson

    skip_mark(file)
    for place, event, value in ijson.parse(file, multiple_values=True, use_float=True):
        if event == "map_key" and value == "documents":
            return f"{place}.documents.item".lstrip(".")
        # A list of documents without a collection around it.
        if event == "map_key" and value == "passages":
            return str(place)
    raise OpenMedError(f"{path}: no BioC, there are neither documents nor passages in it.")


def _document(source: object, types: Mapping[str, str] | None, where: str) -> Document:
    with explained(f"{where}: not a BioC document"):
        decoded = _decode(source)
        text, passages = _text(decoded, where)
        entities = []
        concepts: dict[tuple[int, int, str], str] = {}
        for annotation in _annotations(decoded):
            if any(location.length for location in annotation.locations):
                place = f"{where}, annotation '{annotation.id}'"
                entity, concept = _entity(annotation, text, types, place)
                entities.append(entity)
                if concept not in NO_CONCEPT:
                    add_concept(concepts, entity[:3], concept)
        return Document(
            "" if decoded.id is None else str(decoded.id),
            text,
            entities,
            concepts=concepts,
            passages=passages,
        )


def _decode(source: object) -> "BioCDocument":
    from bioc import biocjson
    from bioc.biocxml import BioCXMLDocumentReader

    if isinstance(source, bytes):
        # One reader for each document: it keeps all that it has read.
        return next(BioCXMLDocumentReader(io.BytesIO(b"<collection>%b</collection>" % source)))
    return biocjson.fromJSON(_completed(source), "BioCDocument")


def _completed(node: Any) -> dict[str, Any]:
    """JSON of a document or of a part of it, with what some programs leave out.

    Relations are left out here: nothing uses them, and they differ.
    """
    usual = {
        "id": "",
        "infons": {},
        "text": "",
        "locations": [],
        "sentences": [],
        "annotations": [],
    }
    parts = {
        name: [_completed(part) for part in node[name]]
        for name in ("passages", "sentences", "annotations")
        if name in node
    }
    return {**usual, **node, **parts, "relations": []}


def _text(source: "BioCDocument", where: str) -> tuple[str, list[tuple[int, int, str]]]:
    pieces: list[str] = []
    position = 0
    passages = []
    for passage in source.passages:
        parts = [(passage.offset, passage.text or "")]
        if not passage.text:
            parts += [(sentence.offset, sentence.text or "") for sentence in passage.sentences]
        for offset, text in parts:
            gap = offset - position
            if not 0 <= gap <= _LONGEST_GAP:
                raise OpenMedError(
                    f"{where}: a passage or sentence at {offset}, where the text so far has "
                    f"{position} characters."
                )
            pieces += [" " * gap, text]
            position = offset + len(text)
        name = passage.infons.get("type")
        if name:
            passages.append((passage.offset, position, str(name)))
    return "".join(pieces), passages


def _annotations(source: "BioCDocument") -> Iterator["BioCAnnotation"]:
    for passage in source.passages:
        yield from passage.annotations
        for sentence in passage.sentences:
            yield from sentence.annotations
    yield from source.annotations


def _entity(
    annotation: "BioCAnnotation", text: str, types: Mapping[str, str] | None, where: str
) -> tuple[Entity, str]:
    """RETURNS (tuple[Entity, str]): The entity and its concept, or ""."""
    spans = [
        check_span(location.offset, location.offset + location.length, text, where)
        for location in annotation.locations
    ]
    if annotation.text:
        check_mention(text, spans, annotation.text, where)
    label = annotation.infons.get("type")
    if not label:
        raise OpenMedError(f"{where}: no infon 'type', which is to be the label.")
    start = min(start for start, _ in spans)
    end = max(end for _, end in spans)
    infons = {key.lower(): value for key, value in annotation.infons.items()}
    concept = next((infons[key] for key in _CONCEPTS if infons.get(key)), "")
    return Entity(start, end, user_label(str(label), types, where)), str(concept)


def _collection() -> "BioCCollection":
    from bioc import BioCCollection

    collection = BioCCollection()
    collection.source = "spacy-openmed"
    # No date: the same documents make the same file.
    collection.date = collection.key = ""
    collection.version = "1.0"
    return collection


def _checked(documents: Iterable[Document]) -> Iterator[Document]:
    """The documents, each with an id of its own."""
    ids = UniqueIds("document")
    for number, document in enumerate(documents, 1):
        ids.check(document.id, number, f"document {number}")
        yield document


def _encode(document: Document, infons: Sequence[Mapping[str, str]]) -> "BioCDocument":
    from bioc import BioCAnnotation, BioCDocument, BioCLocation, BioCPassage

    text = document.text
    encoded = BioCDocument()
    encoded.id = document.id
    for start, end, name in _parts(document):
        passage = BioCPassage()
        passage.offset = start
        passage.text = text[start:end]
        if name:
            passage.infons["type"] = name
        encoded.add_passage(passage)
    for number, (start, end, label, *_) in enumerate(document.entities, 1):
        annotation = BioCAnnotation()
        annotation.id = str(number)
        annotation.text = text[start:end]
        if not label:
            raise OpenMedError(f"document '{document.id}': entity {start} to {end} has no label.")
        annotation.infons["type"] = label
        concept = document.concepts.get((start, end, label))
        if concept:
            annotation.infons["identifier"] = concept
        if infons:
            annotation.infons.update(infons[number - 1])
        annotation.add_location(BioCLocation(start, end - start))
        holders = (
            p for p in encoded.passages if p.offset <= start and end <= p.offset + len(p.text)
        )
        next(holders, encoded).add_annotation(annotation)
    return encoded


def _parts(document: Document) -> list[tuple[int, int, str]]:
    """Passages that hold the whole text but for blanks between; "" is the name of new ones."""
    text = document.text
    parts = []
    position = 0
    for start, end, name in document.passages:
        if not (position <= start <= end <= len(text) and name):
            raise OpenMedError(
                f"document '{document.id}': passage {start} to {end} ({name!r}) overlaps the one "
                f"before, lies outside the text or has no name, which BioC cannot hold. Write "
                f"JSONL."
            )
        if text[position:start].strip(" "):
            parts.append((position, start, ""))
        parts.append((start, end, name))
        position = end
    if position < len(text) or not parts:
        parts.append((position, len(text), ""))
    return parts
