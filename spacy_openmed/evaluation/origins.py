"""Where the text of a document is from, as far as its id tells, and scores by that.

A corpus may be of texts of several kinds, such as abstracts and parts of full papers, which are
not written alike. One figure of all of them hides how a model does on the rarer ones.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..corpora.documents import Document
from ..entities import Entity
from ..labelling import Flatten, outermost
from .scores import score_documents, total
from .significance import bootstrap_interval

# Corpora that are not here have ids that name no source, or texts of one source only.
_IDS: Mapping[str, Mapping[str, re.Pattern[str]]] = {
    "anatem": {
        "abstracts": re.compile(r"PMID-\d+"),
        "sections of full papers": re.compile(r"PMC-\d+-sec-\d+"),
        "captions in full papers": re.compile(r"PMC-\d+-caption-\d+"),
    },
}


def origin(dataset: str, document: str) -> str | None:
    """Where the text of a document is from.

    dataset (str): Id.
    document (str): Id of the document.
    RETURNS (str | None): In words; None where the id does not tell.
    """
    for words, ids in _IDS.get(dataset, {}).items():
        if ids.fullmatch(document):
            return words
    return None


def by_origin(
    dataset: str,
    documents: Sequence[Document],
    predicted: Sequence[Sequence[Entity]],
    flatten: Flatten = outermost,
) -> dict[str, Any]:
    """Scores on the documents of each source, from exact match on raw text.

    dataset (str): Id.
    predicted (Sequence[Sequence[Entity]]): One a document.
    flatten (Flatten): Nested annotations are flattened first.
    RETURNS (dict): Source to "documents", their number; precision, recall and F1 in percent with
        the counts; and "f1_ci", see ``bootstrap_interval``. Empty unless the ids of all documents
        tell, and of more than one source: counts of the sources add up to those of the whole.
    """
    sources = [origin(dataset, document.id) for document in documents]
    if None in sources or len(set(sources)) < 2:
        return {}
    scores = list(score_documents([flatten(d.entities) for d in documents], predicted))
    found = {}
    for source in _IDS[dataset]:
        own = [one for one, of in zip(scores, sources, strict=True) if of == source]
        if own:
            counts = [[one.micro.tp, one.micro.fp, one.micro.fn] for one in own]
            found[source] = {
                "documents": len(own),
                **total(own).micro.to_dict(),
                "f1_ci": list(bootstrap_interval(counts)),
            }
    return found
