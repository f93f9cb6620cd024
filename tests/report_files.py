"""Files of a run as the commands write them, with made-up counts, for tests of the report."""

import copy
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from spacy_openmed.corpora import registry
from spacy_openmed.corpora.documents import Document
from spacy_openmed.entities import Entity
from spacy_openmed.evaluation import evaluate, ledger, predictions
from spacy_openmed.evaluation.calibration import reliability
from spacy_openmed.evaluation.errors import analyse
from spacy_openmed.evaluation.evaluate import Found, Split
from spacy_openmed.evaluation.ledger import Subject
from spacy_openmed.evaluation.origins import by_origin
from spacy_openmed.evaluation.predictions import Predictions
from spacy_openmed.evaluation.report.comparisons import SPACY_NER
from spacy_openmed.evaluation.scores import Score, Scores
from spacy_openmed.evaluation.seen import Seen
from spacy_openmed.evaluation.significance import summary

ADAPTER = "ad" * 32
SEED = 7


def put(path: Path, data: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf8")


def labels_of(dataset: str) -> list[str]:
    return sorted(set(registry.dataset(dataset).types.values()))


def counts(dataset: str, split: str, right: float, documents: int = 30) -> list[Scores]:
    """Counts of documents; which mentions are annotated depends on dataset and split only."""
    gold, found = Random(f"{dataset} {split}"), Random(f"{dataset} {split} {right}")
    labels = labels_of(dataset)
    rows = []
    for number in range(documents):
        mentions = gold.randint(2, 12)
        tp = sum(found.random() < right for _ in range(mentions))
        fp = sum(found.random() < 1 - right for _ in range(mentions))
        score = Score(tp, fp, mentions - tp)
        rows.append(Scores(score, {labels[number % len(labels)]: score}))
    return rows


@cache
def _summary(dataset: str, split: str, right: float) -> dict[str, Any]:
    return summary(counts(dataset, split, right))


def measured(dataset: str, split: str, right: float) -> dict[str, Any]:
    """Scores with their interval and the counts of each document."""
    return copy.deepcopy(_summary(dataset, split, right))


def result(dataset: str, split: str, right: float, **more: Any) -> dict[str, Any]:
    """What 'evaluate' writes."""
    scores = [min(max(i / 40 + 0.02, 0), 1) for i in range(40)]
    return {
        "dataset": dataset,
        "split": split,
        "edition": "official",
        "partial": dataset == "bc4chemd",
        "data": {f"{split}.jsonl": f"{dataset} {split}"},
        "raw": measured(dataset, split, right),
        "conll": measured(dataset, split, right + 0.005),
        "calibration": {
            "temperature": 0.8,
            "before": reliability(scores, [s > 0.3 for s in scores]),
            "after": reliability(scores, [s > 0.5 for s in scores]),
        },
        "adapter": ADAPTER,
        "backbone": {"id": "tiny", "sha256": "b0" * 32, "hub_id": "", "revision": ""},
        "edges": "word",
        **more,
    }


TEXT = "Gout and fever were seen, then rare ectodermal dysplasia, gout again and jaundice ."


def errors(dataset: str, split: str, adapter: str = ADAPTER) -> dict[str, Any]:
    """What the analysis of errors gives on a sentence of our own."""
    labels = labels_of(dataset)

    def at(words: str, number: int) -> Entity:
        start = TEXT.index(words)
        return Entity(start, start + len(words), labels[number % len(labels)], 0.9)

    gold = [at("Gout", 0), at("fever", 1), at("ectodermal dysplasia", 2), at("jaundice", 3)]
    found = [at("Gout", 0), at("fever", 2), at("rare ectodermal dysplasia", 2), at("seen", 0)]
    train = Seen([Document("1", "gout fever", [Entity(0, 4, labels[0], 1.0)] * 3)])
    facts = {"data": {f"{split}.jsonl": f"{dataset} {split}"}, "adapter": adapter, "edges": "word"}
    return {
        **{"dataset": dataset, "split": split, **facts},
        "train": {"datasets": [dataset], "data": {}, "absent": []},
        **analyse([Document("2", TEXT, gold)], [found], train),
        "by_source": by_origin(
            dataset,
            [Document("PMID-1", TEXT, gold), *[Document("PMC-2-sec-01", TEXT, gold[:3])] * 5],
            [found] * 6,
        ),
    }


def look(runs: Path, found: dict[str, Any], reason: str | None = None) -> None:
    at = Subject(found["dataset"], found["split"], found["data"], f"raw of {found['dataset']}")
    ledger.record(runs / "ledger.jsonl", at, found, reason)


def baseline(dataset: str, split: str, right: float) -> dict[str, Any]:
    system = {"name": SPACY_NER, "version": "3.8.18", "settings": {}, "seconds": 480.0}
    found = result(dataset, split, right, system=system, adapter=None)
    del found["calibration"]
    return found


def robustness(of: dict[str, Any]) -> dict[str, Any]:
    """What 'robustness' writes of the adapter and data of a result."""
    dataset, split = of["dataset"], of["split"]
    forms = {"ALL CAPS": ("Every letter a capital.", 0.6), "typos": ("Letters swapped.", 0.75)}
    return {
        **{key: of[key] for key in ("dataset", "split", "data", "adapter", "edges")},
        "seed": 0,
        "clean": measured(dataset, split, 0.85),
        "disturbed": {
            name: {"about": about, **measured(dataset, split, right)}
            for name, (about, right) in forms.items()
        },
    }


def ablation(corpora: Sequence[str]) -> dict[str, Any]:
    variants = (("none", "lora", 70.0), ("merge", "lora", 72.5))
    return {
        "runs": [
            {"pretraining": p, "method": m, "corpus": name, "seed": seed, "dev_f1": f1 + seed}
            for p, m, f1 in variants
            for name in corpora
            for seed in (1, 2)
        ]
    }


def further(runs: Path, test: dict[str, Any]) -> None:
    """All that may be measured beside dev and test of a dataset.

    test (dict): Its result on test.
    """
    place, dataset = runs / "results", test["dataset"]
    seeded = result(dataset, "test", 0.83, adapter="5e" * 32, data=test["data"])
    crossed = result("s800", "dev", 0.5, adapter=test["adapter"])
    put(runs / "baselines" / SPACY_NER / f"{dataset}-test.json", baseline(dataset, "test", 0.75))
    put(place / "robustness" / f"{dataset}-test.json", robustness(test))
    put(place / "seeds" / f"{dataset}-{SEED}-test.json", seeded)
    put(place / "cross" / f"{dataset}-on-s800-dev.json", crossed)


def suite(runs: Path, datasets: Sequence[str] | None = None) -> Path:
    """A run of measured figures only, as one that is handed on has."""
    names = datasets or [name for name in registry.datasets() if name != "fsu"]
    for number, name in enumerate(names):
        right = 0.84 + 0.01 * number
        for split in ("dev", "test"):
            found = result(name, split, right)
            put(runs / "results" / f"{name}-{split}.json", found)
            put(runs / "results" / f"{name}-{split}.errors.json", errors(name, split))
        look(runs, found)
        further(runs, found)
    put(runs / "ablation.json", ablation(["ncbi", "bc2gm"]))
    return runs


def write_measured(
    runs: Path, at: Split, raw: list[Found], conll: list[Found] | None
) -> dict[str, Any]:
    """Results and predictions of a split of the corpus that comes with the project."""
    kept = Predictions("sample", at.split, at.data, ADAPTER, "word", ["sample"], raw, conll)
    result = {
        **evaluate.figures(at, raw, conll),
        **{"adapter": ADAPTER, "edges": "word", "predictions": kept.sha256},
        "backbone": {"id": "tiny", "sha256": "b0" * 32},
    }
    path = runs / "results" / f"sample-{at.split}.json"
    put(path, result)
    predictions.write(kept, predictions.beside(path))
    return result
