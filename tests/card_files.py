"""Files that a card is made from, as the commands write them, of made-up counts and sentences."""

import json
from pathlib import Path
from random import Random
from typing import Any

from networks import make_network

from spacy_openmed import adapters, backbones, network
from spacy_openmed.adapters import AdapterInfo
from spacy_openmed.corpora import registry
from spacy_openmed.corpora.documents import Document
from spacy_openmed.decoding import bio_labels
from spacy_openmed.entities import Entity
from spacy_openmed.evaluation import ledger
from spacy_openmed.evaluation.calibration import reliability
from spacy_openmed.evaluation.errors import analyse
from spacy_openmed.evaluation.ledger import Subject
from spacy_openmed.evaluation.scores import Score, Scores
from spacy_openmed.evaluation.seen import Seen
from spacy_openmed.evaluation.significance import paired_bootstrap, summary
from spacy_openmed.training.settings import FinetuneSettings, to_dict

ENERGY = {
    "seconds": 4321.0,
    "parts": 2,
    "device": "a processor (2 threads)",
    "tdp_watts": 120.0,
    "tdp_source": "given",
    "tdp_note": None,
    "tdp_kwh": 0.144033,
    "tdp_g_co2": 34.856,
    "grid_g_per_kwh": 242,
    "codecarbon": {
        "version": "3.3.2",
        "seconds": 4000.0,
        "kwh": 0.0421987,
        "g_co2": 2.3456,
        "country": "FRA",
        "tracking_mode": "machine",
        "measured": ["cpu"],
        "estimated": ["ram"],
    },
    "warnings": [],
}
CALIBRATION = {
    "temperature": 1.25,
    "split": "dev",
    "entities": 431,
    "ece": {"before": 0.0731, "after": 0.0214},
}


def write_adapter(backbone: Path, folder: Path, dataset: str, **record: Any) -> Path:
    """An adapter of random weights with the record of a training."""
    known = registry.with_demos().get(dataset)
    types = tuple(sorted(set(known.types.values()))) if known else ("Finding", "Gene_name")
    info = AdapterInfo(
        dataset, types, backbones.reference(str(backbone)), 128, 20, record.pop("temperature", 1.0)
    )
    edition = next(iter(known.editions.values())) if known else None
    train = edition.splits["train"].raw_sha256 if edition and edition.splits else None
    training = {
        "spacy_openmed": "0.1.0",
        "dataset": dataset,
        "settings": to_dict(FinetuneSettings()),
        "init_adapter": None,
        "data": {"train": train or "ab" * 32, "dev": "cd" * 32},
        "precision": "bf16",
        "trainable_parameters": 1328259,
        "epochs": [{"epoch": 1.0, "dev_f1": 71.234}, {"epoch": 2.0, "dev_f1": 78.905}],
        "steps": 376,
        "seconds": 4321.0,
        "energy": None,
        **record,
    }
    tagger = make_network(backbone, len(bio_labels(types)))
    card = {adapters.TRAINING: json.dumps(training)}
    adapters.write(network.to_adapter(tagger, info, card=card), folder)
    return folder


def sha256(folder: Path) -> str:
    return adapters.content_hash(adapters.read(folder))


def put(path: Path, content: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf8")
    return path


def counts(labels: tuple[str, ...], seed: str, right: float) -> list[Scores]:
    """Counts of 30 documents; the labels take turns."""
    random = Random(seed)
    found = []
    for number in range(30):
        mentions = 4 + number % 9
        tp = sum(random.random() < right for _ in range(mentions))
        score = Score(tp, sum(random.random() < 1 - right for _ in range(mentions)), mentions - tp)
        found.append(Scores(score, {labels[number % len(labels)]: score}))
    return found


def model(folder: Path) -> dict[str, Any]:
    """What every file says of the adapter."""
    found = adapters.read(folder)
    return {
        "adapter": adapters.content_hash(found),
        "backbone": found.info.backbone.to_dict(),
        "edges": "word",
    }


def result(folder: Path, dataset: str, split: str, right: float = 0.8) -> dict[str, Any]:
    """What 'evaluate' writes."""
    types = adapters.read(folder).info.types
    edition = next(iter(registry.dataset(dataset).editions.values()))
    random = Random(split)
    scores = [random.random() for _ in range(200)]
    return {
        "dataset": dataset,
        "split": split,
        "edition": edition.id,
        "partial": edition.partial,
        "data": {f"{split}.jsonl": f"{len(split):x}" * 64},
        "raw": summary(counts(types, f"raw {split}", right)),
        "conll": summary(counts(types, f"conll {split}", right)),
        "calibration": {
            "temperature": 1.25,
            "before": reliability(scores, [s > random.random() for s in scores]),
            "after": reliability(scores, [s**2 > random.random() for s in scores]),
        },
        **model(folder),
        "predictions": "ef" * 32,
    }


def old_result(folder: Path, dataset: str, split: str) -> dict[str, Any]:
    """What the first version wrote."""
    found = result(folder, dataset, split)
    for key in ("edition", "partial", "calibration", "predictions"):
        del found[key]
    for kind in ("raw", "conll"):
        del found[kind]["f1_ci"], found[kind]["documents"]
    return found


def own_result(folder: Path, file: str) -> dict[str, Any]:
    """What 'evaluate --file' writes."""
    types = adapters.read(folder).info.types
    return {
        "file": file,
        "data": {"raw_sha256": "ba" * 32},
        "raw": summary(counts(types, file, 0.7)),
        **model(folder),
    }


TEXT = "Gout and fever were seen, then rare ectodermal dysplasia, gout again and jaundice ."


def errors(folder: Path, of: dict[str, Any]) -> dict[str, Any]:
    """What the error analysis writes, on a sentence of our own."""
    labels = adapters.read(folder).info.types

    def at(words: str, number: int) -> Entity:
        start = TEXT.index(words)
        return Entity(start, start + len(words), labels[number % len(labels)], 0.9)

    gold = [at("Gout", 0), at("fever", 0), at("ectodermal dysplasia", 0), at("jaundice", 0)]
    found = [at("Gout", 0), at("fever", 1), at("rare ectodermal dysplasia", 0), at("seen", 0)]
    train = Seen([Document("1", "gout fever", [Entity(0, 4, labels[0], 1.0)] * 3)])
    return {
        **{key: of[key] for key in ("dataset", "split", "data", "adapter", "edges")},
        "train": {"datasets": [of["dataset"]], "data": {}, "absent": []},
        **analyse([Document("2", TEXT, gold)], [found], train),
    }


def robustness(folder: Path, of: dict[str, Any]) -> dict[str, Any]:
    """What 'robustness' writes."""
    types = adapters.read(folder).info.types
    clean = of["raw"]
    disturbed = {}
    for name, about, right in (
        ("capitals", "Every letter is a capital.", 0.4),
        ("typos", "Three in a hundred words have a typo.", 0.75),
    ):
        scores = summary(counts(types, name, right))
        lost = paired_bootstrap(clean["documents"], scores["documents"])
        disturbed[name] = {
            "about": about,
            "version": 1,
            "changed": 29,
            "lost": clean["f1"] - scores["f1"],
            "lost_ci": [lost.low, lost.high],
            **scores,
        }
    keys = ("dataset", "split", "partial", "data", "adapter", "edges")
    return {**{key: of[key] for key in keys}, "clean": clean, "disturbed": disturbed, "seed": 0}


def cross(folder: Path, dataset: str, trained_on: str) -> dict[str, Any]:
    """What 'cross' writes."""
    types = adapters.read(folder).info.types
    found = result(folder, dataset, "dev", 0.5)
    del found["calibration"]
    without = {"raw": summary(counts(types, "without", 0.45))}
    return {
        **found,
        "trained_on": trained_on,
        "labels": {},
        "reason": "Texts of another kind, by other rules.",
        "shared": {"documents": 4, "of": 30, "train": {trained_on: "12" * 32}, "without": without},
    }


def look(path: Path, found: dict[str, Any], reason: str | None = None) -> None:
    """A line of the ledger."""
    at = Subject(found["dataset"], found["split"], found["data"], f"raw of {found['dataset']}")
    ledger.record(path, at, found, reason)
