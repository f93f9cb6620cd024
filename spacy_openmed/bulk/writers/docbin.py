"""spaCy's .spacy files, as ``nlp.pipe`` with ``openmed_ner`` and annotate = "both" leaves docs."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from ...corpora.documents import Document
from ...corpora.formats.docbin import SHARD_TOKENS, SPANS_KEY, tokenized
from ...entities import Entity
from ...errors import OpenMedError
from ..records import Found, Skipped

if TYPE_CHECKING:
    from spacy.tokens import Doc, DocBin

# spaCy makes a file in memory: 200 bytes a token.
ONE_FILE_TOKENS = 1_000_000


def writer(target: Path) -> "Docs":
    """The writer.

    RAISES (OpenMedError): Where the folder would be is another, with other files.
    """
    if target.is_dir() and any(p.suffix != ".spacy" for p in target.iterdir()):
        raise OpenMedError(f"{target} is a folder with other files. Give another path.")
    return Docs()


class Docs:
    """A path that ends in .spacy is one file, or where that has more than ``ONE_FILE_TOKENS`` a
    folder of that name; any other path is a folder. Its files are shards of ``SHARD_TOKENS``;
    spaCy's ``Corpus``, and so ``spacy train``, takes file and folder alike.
    """

    def __init__(self) -> None:
        self._new_vocabulary()

    def _new_vocabulary(self) -> None:
        import spacy

        self.nlp = spacy.blank("en")
        self.tokens = 0

    def piece(self, document: Document, found: Sequence[Found]) -> "Doc":
        from ...alignment import align
        from ...annotation import annotate

        if self.tokens >= SHARD_TOKENS:
            # It grows with each new word.
            self._new_vocabulary()
        doc = tokenized(document, self.nlp)
        if doc.text != document.text:
            raise OpenMedError(f"document '{document.id}': its tokens overlap.")
        placed = align(doc, [Entity(*one[:4]) for one in found], "split")
        annotate(doc, placed, "both", SPANS_KEY, overwrite=False)
        doc.user_data["id"] = document.id
        if document.passages:
            doc.user_data["passages"] = document.passages
        self.tokens += len(doc)
        return doc

    def payload(self, pieces: Sequence["Doc"]) -> bytes:
        content: bytes = _docbin(pieces).to_bytes() if pieces else b""
        return content

    def join(self, payloads: Iterator[bytes], target: Path) -> list[Skipped]:
        bins = (_docbin().from_bytes(payload) for payload in payloads if payload)
        # What there is of one file, until it is too large to be one.
        begun: list[DocBin] = []
        one_file = target.suffix.lower() == ".spacy"
        while one_file and (following := next(bins, None)) is not None:
            begun.append(following)
            one_file = sum(map(_tokens, begun)) <= ONE_FILE_TOKENS
        if one_file:
            _merged(begun).to_disk(target)
            return []
        target.mkdir()
        for number, shard in enumerate(_shards(chain(_taken(begun), bins))):
            shard.to_disk(target / f"{number:05}.spacy")
        return []


def _docbin(docs: Sequence["Doc"] = ()) -> "DocBin":
    from spacy.tokens import DocBin

    return DocBin(store_user_data=True, docs=docs)


def _tokens(docbin: "DocBin") -> int:
    return sum(map(len, docbin.tokens))


def _taken(bins: "list[DocBin]") -> "Iterator[DocBin]":
    while bins:
        yield bins.pop(0)


def _merged(bins: "Iterable[DocBin]") -> "DocBin":
    merged = _docbin()
    for one in bins:
        merged.merge(one)
    return merged


def _shards(bins: "Iterable[DocBin]") -> "Iterator[DocBin]":
    """Files of about ``SHARD_TOKENS``; one without docs if there are none."""
    shard = _docbin()
    for one in bins:
        if _tokens(shard) >= SHARD_TOKENS:
            yield shard
            shard = _docbin()
        shard.merge(one)
    yield shard
