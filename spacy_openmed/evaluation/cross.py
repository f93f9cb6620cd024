"""Adapters on other corpora than their own: what is left of F1 under other texts and rules."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import adapters
from ..adapters import Adapter
from ..corpora import registry
from ..corpora.documents import Document
from ..corpora.duplicates import LONG, merged
from ..corpora.folder import is_there, read_split
from ..corpora.shingles import SIZE, shingles
from ..corpora.statistics import content_hash
from ..errors import OpenMedError
from ..predictor import Predictor
from .chosen import describe
from .evaluate import Found, Split, figures, find, load

Result = dict[str, Any]
TRAIN = "train"
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Pair:
    """Two corpora that annotate the same kind of thing.

    trained_on (str): Dataset id of the adapter.
    dataset (str): Dataset id that it is measured on.
    labels (Mapping[str, str]): Labels of ``dataset`` to those that the adapter finds; mentions
        of any other are left out.
    reason (str): Why the two can be compared, and how they differ.
    """

    trained_on: str
    dataset: str
    labels: Mapping[str, str]
    reason: str

    @property
    def name(self) -> str:
        """As in names of files: "ncbi-on-bc5cdr-disease"."""
        return f"{self.trained_on}-on-{self.dataset}"


_DISEASES = (
    "Diseases in PubMed abstracts: genetic ones, with their classes and modifiers, in ncbi; "
    "those that drugs treat or cause, with symptoms, in bc5cdr-disease."
)
_SPECIES = (
    "Species: in full texts, with common words such as those for people and mice, in linnaeus; in "
    "abstracts of eight fields of biology in s800."
)
_CHEMICALS = (
    "Chemicals in PubMed abstracts: drugs and what they are given with in bc5cdr-chem; all of "
    "chemistry, single sentences at hand, in bc4chemd."
)
PAIRS = (
    Pair("ncbi", "bc5cdr-disease", {"DISEASE": "DISEASE"}, _DISEASES),
    Pair("bc5cdr-disease", "ncbi", {"DISEASE": "DISEASE"}, _DISEASES),
    Pair("linnaeus", "s800", {"SPECIES": "SPECIES"}, _SPECIES),
    Pair("s800", "linnaeus", {"SPECIES": "SPECIES"}, _SPECIES),
    Pair(
        "bc2gm",
        "jnlpba",
        {"PROTEIN": "GENE"},
        "bc2gm has genes and their products under one label, jnlpba proteins under one of five; "
        "its DNA and RNA, which are regions and transcripts as well as genes, are left out.",
    ),
    Pair("bc4chemd", "bc5cdr-chem", {"CHEMICAL": "CHEMICAL"}, _CHEMICALS),
    Pair("bc5cdr-chem", "bc4chemd", {"CHEMICAL": "CHEMICAL"}, _CHEMICALS),
)


def pair(trained_on: str, dataset: str) -> Pair:
    """The pair of two datasets.

    RAISES (OpenMedError): They are none.
    """
    for one in PAIRS:
        if (one.trained_on, one.dataset) == (trained_on, dataset):
            return one
    raise OpenMedError(
        f"'{trained_on}' and '{dataset}' do not annotate the same. Pairs: "
        f"{', '.join(one.name for one in PAIRS)}."
    )


def measure(one: Pair, folder: Path, split: str, corpus: Path, edges: str) -> Result:
    """Both scores of an adapter on a split of another corpus.

    folder (Path): Of the adapter.
    corpus (Path): Folder with the prepared corpora, the one it was trained on included.
    edges (str): "word" or "wordpiece".
    RETURNS (dict): As ``figures``'s, with the adapter's labels; what ``describe`` gives;
        "trained_on"; "labels" and "reason" of the pair; and "shared": "documents" of the split
        that share text with any train that the adapter has seen (see ``Known``), out of "of";
        "train", the datasets of these with ``content_hash``; and, if there are any and others
        too, the scores "without" them. Where one of these is not at hand its hash and the
        documents are None: nobody can tell.
    RAISES (OpenMedError): No such files, or the adapter was trained on another dataset.
    """
    predictor = Predictor.load(folder)
    if predictor.adapter.info.dataset != one.trained_on:
        raise OpenMedError(
            f"The adapter in {folder} was trained on '{predictor.adapter.info.dataset}', not on "
            f"'{one.trained_on}'. Choose another of the two."
        )
    given = load(one.dataset, split, corpus)
    train = _train(predictor.adapter, corpus)
    at = _mapped(given, one.labels)
    raw, conll = find(partial(predictor, edges=edges), at)
    edition = registry.edition_with(one.dataset, split, content_hash(given.raw))
    result = {
        **figures(at, raw, conll),
        # With other labels it is no edition that the registry would know.
        "edition": edition.id if edition else None,
        "partial": edition.partial if edition else None,
        **describe(predictor, edges),
        "trained_on": one.trained_on,
        "labels": dict(one.labels),
        "reason": one.reason,
    }
    shared: Result = {
        "documents": None,
        "of": len(at.raw),
        "train": {
            name: None if documents is None else content_hash(documents)
            for name, documents in train.items()
        },
    }
    if None in train.values():
        return {**result, "shared": shared}
    known = Known([document for documents in train.values() for document in documents or ()])
    shares = [known.shares(document) for document in at.raw]
    shared["documents"] = sum(shares)
    if any(shares) and not all(shares):
        shared["without"] = _without(known, at, raw, conll)
    return {**result, "shared": shared}


def _train(adapter: Adapter, corpus: Path) -> dict[str, list[Document] | None]:
    """Train of every dataset that an adapter has seen; None of those that are not at hand.

    RAISES (OpenMedError): That of its own is not.
    """
    own, *others = adapters.trained_on(adapter)
    found: dict[str, list[Document] | None] = {own: read_split(corpus, own, TRAIN)}
    for name in others:
        found[name] = read_split(corpus, name, TRAIN) if is_there(corpus, name, TRAIN) else None
    return found


def is_of(
    result: object, one: Pair, adapter: Adapter, edges: str, files: Mapping[str, str]
) -> bool:
    """Whether a result is what ``measure`` would give.

    result (object): Contents of a JSON file.
    adapter (Adapter): It.
    files (Mapping[str, str]): Name to sha256 of each file of the split.
    """
    if not isinstance(result, dict):
        return False
    wanted: Result = {
        "dataset": one.dataset,
        "trained_on": one.trained_on,
        "labels": one.labels,
        "adapter": adapters.content_hash(adapter),
        "edges": edges,
        "data": files,
    }
    train = (result.get("shared") or {}).get("train") or {}
    # Earlier versions knew one of them only.
    return list(train) == adapters.trained_on(adapter) and all(
        result.get(key) == value for key, value in wanted.items()
    )


class Known:
    """The texts of a train split, to find what others have of them.

    Ids would not do: of two corpora they may be of different systems, or their own.

    documents (Sequence[Document]): Of the split.
    """

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = documents
        self._runs: dict[int, NDArray[np.uint64]] = {}

    def shares(self, document: Document) -> bool:
        """Whether a document has a run of ``SIZE`` words in common with these texts.

        Of a shorter document all words must be in one run, and be ``LONG`` at least. Letter
        case, white space and punctuation do not count.
        """
        size = min(SIZE, len(_WORD.findall(document.text)))
        if size < LONG:
            return False
        if size not in self._runs:
            self._runs[size] = merged(shingles(one.text, size) for one in self._documents)
        # np.isin would sort all of them for every document.
        own, all_runs = shingles(document.text, size), self._runs[size]
        places = np.searchsorted(all_runs, own)
        inside = places < len(all_runs)
        return bool((all_runs[places[inside]] == own[inside]).any())


def _mapped(at: Split, labels: Mapping[str, str]) -> Split:
    """A split with the adapter's labels, and without mentions of what it cannot find."""

    def mapped(document: Document) -> Document:
        entities = [
            entity._replace(label=labels[entity.label])
            for entity in document.entities
            if entity.label in labels
        ]
        return replace(document, entities=entities)

    conll = None if at.conll is None else [mapped(document) for document in at.conll]
    return replace(at, raw=[mapped(document) for document in at.raw], conll=conll)


def _without(
    known: Known, at: Split, raw: Sequence[Found], conll: Sequence[Found] | None
) -> Result:
    """The scores on documents that share no text with train."""
    own_raw, found_raw = _unshared(known, at.raw, raw)
    own_conll, found_conll = None, None
    if at.conll is not None and conll is not None:
        own_conll, found_conll = _unshared(known, at.conll, conll)
        if not own_conll:  # the two files need not cut texts alike
            own_conll, found_conll = None, None
    scores = figures(replace(at, raw=own_raw, conll=own_conll), found_raw, found_conll)
    return {key: scores[key] for key in ("raw", "conll") if key in scores}


def _unshared(
    known: Known, documents: Sequence[Document], found: Sequence[Found]
) -> tuple[list[Document], list[Found]]:
    pairs = zip(documents, found, strict=True)
    kept = [(document, one) for document, one in pairs if not known.shares(document)]
    return [document for document, _ in kept], [one for _, one in kept]
