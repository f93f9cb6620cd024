"""spaCy's .spacy files (DocBin); a file is in memory as a whole."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from ...corpora.formats.docbin import texts
from ..options import Options
from ..records import Row, Skipped
from ..sources import Source
from . import with_skipped


def read(source: Source, options: Options) -> Iterator[Row]:
    """Read docs with their tokens and sentences; their annotations are not used.

    YIELDS (Document | Skipped): A doc without ``user_data["id"]`` is named by file and number.
    """
    for item in with_skipped(source, partial(texts, source.path)):
        if isinstance(item, Skipped):
            yield item
        else:
            number, document = item
            yield replace(document, id=document.id or f"{source.name}:{number}")


def count(source: Source) -> int:
    from spacy.tokens import DocBin

    return len(DocBin().from_disk(source.path))
