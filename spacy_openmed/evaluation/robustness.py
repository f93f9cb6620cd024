"""How much F1 an adapter loses when the text of a split is put into clinical form."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from .. import adapters
from ..corpora import registry
from ..corpora.documents import Document
from ..corpora.statistics import content_hash
from ..entities import Entity
from ..labelling import Flatten
from ..predictor import Predictor
from .chosen import describe
from .disturb import DISTURBANCES, Disturbance
from .evaluate import Predict, Split, find, load
from .scores import score_documents
from .significance import paired_bootstrap, summary

Result = dict[str, Any]


def measure(
    folder: Path,
    dataset: str,
    split: str,
    corpus: Path,
    edges: str,
    seed: int = 0,
    disturbances: Sequence[Disturbance] = DISTURBANCES,
) -> Result:
    """Raw scores of an adapter on a split, and on each disturbed form of it.

    folder (Path): Of the adapter.
    corpus (Path): Folder with the prepared corpora.
    edges (str): "word" or "wordpiece".
    seed (int): What is disturbed where. Each document has chance of its own, so that no
        disturbance depends on what else is measured.
    RETURNS (dict): "dataset", "split", "edition", "partial", "data", "seed", what ``describe``
        gives, "clean" (see ``summary``), and "disturbed": name to "about", "version",
        "raw_sha256" (``content_hash`` of the disturbed documents), "changed" (documents whose
        text is another), "lost" (clean F1 less this one, in points), "lost_ci" (see
        ``paired_bootstrap``), and the same scores as "clean".
    RAISES (OpenMedError): Unknown dataset, no such files, or other entity types.
    """
    predictor = Predictor.load(folder)
    adapters.verify_types(predictor.adapter, dataset, str(folder))
    at = load(dataset, split, corpus)
    predict = partial(predictor, edges=edges)
    flatten = registry.flatten(dataset)
    edition = registry.edition_with(dataset, split, content_hash(at.raw))
    clean = _scores(predict, at, at.raw, flatten)
    return {
        "dataset": dataset,
        "split": split,
        "edition": edition.id if edition else None,
        "partial": edition.partial if edition else None,
        "data": at.data,
        **describe(predictor, edges),
        "seed": seed,
        "clean": clean,
        "disturbed": {
            one.name: _disturbed(predict, at, one, seed, flatten, clean) for one in disturbances
        },
    }


def for_ledger(result: Result) -> Result:
    """What the ledger is given: one look, for all disturbances.

    It looks at the texts of the split itself, however they were disturbed. "data" is not at its
    top, where what restores the results of ``spacy openmed evaluate`` would take it for one.

    result (dict): See ``measure``.
    """
    own = {key: result[key] for key in ("dataset", "split", "adapter", "backbone", "edges")}
    disturbed = {name: row["f1"] for name, row in result["disturbed"].items()}
    return {**own, "raw": {"f1": result["clean"]["f1"]}, "robustness": disturbed}


def disturbed(documents: Sequence[Document], disturbance: Disturbance, seed: int) -> list[Document]:
    """All documents in another form.

    seed (int): The same gives the same.
    """
    return [
        disturbance(document, Random(f"{seed} {disturbance.name} {number}"))
        for number, document in enumerate(documents)
    ]


def _disturbed(
    predict: Predict,
    at: Split,
    disturbance: Disturbance,
    seed: int,
    flatten: Flatten,
    clean: Mapping[str, Any],
) -> Result:
    documents = disturbed(at.raw, disturbance, seed)
    scores = _scores(predict, at, documents, flatten)
    lost = paired_bootstrap(clean["documents"], scores["documents"])
    return {
        "about": disturbance.about,
        "version": disturbance.version,
        "raw_sha256": content_hash(documents),
        "changed": sum(a.text != b.text for a, b in zip(at.raw, documents, strict=True)),
        "lost": clean["f1"] - scores["f1"],
        "lost_ci": [lost.low, lost.high],
        **scores,
    }


def _scores(predict: Predict, at: Split, documents: Sequence[Document], flatten: Flatten) -> Result:
    found, _ = find(predict, Split(at.dataset, at.split, list(documents), None, at.data))
    gold = [_same(flatten, before, after) for before, after in zip(at.raw, documents, strict=True)]
    return summary(list(score_documents(gold, [one.entities for one in found])))


def _same(flatten: Flatten, before: Document, after: Document) -> list[Entity]:
    """The mentions that count in the text before, where they are now.

    Which of nested mentions is the longer could change with the text.
    """
    where = dict(zip(before.entities, after.entities, strict=True))
    return [where[entity] for entity in flatten(before.entities)]
