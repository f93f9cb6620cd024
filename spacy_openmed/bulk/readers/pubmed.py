"""PubMed's XML, plain or gzip: title, line break, abstract, where PubTator counts from."""

from collections.abc import Iterator
from functools import partial

from ...corpora.documents import Document
from ...passages.inputs import open_bytes
from ...passages.pubmed import citations
from ..options import Options
from ..records import Row, Skipped
from ..sources import Source
from . import with_skipped

_END = b"</MedlineCitation>"
_CHUNK = 1 << 20


def read(source: Source, options: Options) -> Iterator[Row]:
    """Read every citation of a file as it stands there; updates in later files are others.

    YIELDS (Document | Skipped): Ids are PMIDs; with passages "title" and "abstract".
    """
    for citation in with_skipped(source, partial(citations, source.path)):
        if isinstance(citation, Skipped):
            yield citation
        elif not citation.title and not citation.abstract:
            yield Skipped(f"{source.name}, PMID {citation.pmid}", "neither title nor abstract")
        else:
            title, abstract = citation.title, citation.abstract
            passages = [(0, len(title), "title")]
            text = title
            if abstract:
                text = f"{title}\n{abstract}"
                passages.append((len(title) + 1, len(text), "abstract"))
            yield Document(str(citation.pmid), text, [], passages=passages)


def count(source: Source) -> int:
    found = 0
    tail = b""
    with open_bytes(source.path) as file:
        while chunk := file.read(_CHUNK):
            found += (tail + chunk).count(_END)
            tail = chunk[-len(_END) + 1 :]
    return found
