"""Measurements beyond the two scores: seeds, other corpora, disturbed text, pre-training."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import ablation
from ..significance import f1
from .files import SPLITS, Result, Row, at, figures, read, results

Key = tuple[str, str]


def seeds(place: Path, chosen: Mapping[Key, Result]) -> list[Row]:
    """How much F1 varies with the seed.

    place (Path): ``results/seeds``, with ``<dataset>-<seed>-<split>.json``.
    chosen (Mapping): The results of the chosen adapters, which count as one run more.
    RETURNS (list[dict]): One a dataset and split: "runs", their number; "raw_f1" and "conll_f1"
        of each; "mean" and "deviation" (of the sample) of raw F1.
    """
    runs: dict[Key, list[Row]] = {}
    for one in results(place):
        dataset, _, seed = one.dataset.rpartition("-")
        if dataset and seed.isdigit():
            runs.setdefault((dataset, one.split), []).append(one.content)
    rows = []
    for (dataset, split), contents in sorted(runs.items()):
        own = chosen.get((dataset, split))
        every = [*([own.content] if own else []), *contents]
        raw = [score for score in (at(one, "raw", "f1") for one in every) if score is not None]
        conll = [score for score in (at(one, "conll", "f1") for one in every) if score is not None]
        if len(raw) > 1:
            row = {"dataset": dataset, "split": split, "runs": len(raw)}
            spread = {"mean": statistics.mean(raw), "deviation": statistics.stdev(raw)}
            rows.append({**row, "raw_f1": raw, "conll_f1": conll, **spread})
    return rows


def cross(place: Path, chosen: Mapping[Key, Result]) -> list[Row]:
    """Adapters on the corpora of others.

    place (Path): ``results/cross``, with ``<trained on>-on-<dataset>-<split>.json``.
    chosen (Mapping): The results of the chosen adapters.
    RETURNS (list[dict]): "trained_on", "dataset", "split", "raw" figures; "own_f1", on the same
        labels, of the adapter that was trained on the dataset, and "lost", its lead in points;
        "shared", how many documents share text with what the adapter was trained on, and
        "f1_without" them; "reason", why the two can be compared.
    """
    rows = []
    for one in results(place):
        trained_on, _, dataset = one.dataset.partition("-on-")
        if not dataset or not at(one.content, "raw"):
            continue
        own_f1 = _own_f1(chosen.get((dataset, one.split)), at(one.content, "labels"))
        rows.append(
            {
                "trained_on": trained_on,
                "dataset": dataset,
                "split": one.split,
                "raw": figures(one.content["raw"]),
                "own_f1": own_f1,
                "lost": None if own_f1 is None else own_f1 - one.content["raw"]["f1"],
                "shared": at(one.content, "shared", "documents"),
                "f1_without": at(one.content, "shared", "without", "raw", "f1"),
                "reason": at(one.content, "reason"),
            }
        )
    return rows


def _own_f1(own: Result | None, labels: Mapping[str, str] | None) -> float | None:
    """F1 of a corpus's own adapter on some of its labels; None for all of them."""
    score = at(own.content, "raw") if own else None
    if not score:
        return None
    of = [one for label, one in score["per_label"].items() if labels is None or label in labels]
    return f1([[sum(one[key] for one in of) for key in ("tp", "fp", "fn")]])


def robustness(place: Path, chosen: Mapping[Key, Result]) -> tuple[list[Row], list[str]]:
    """What disturbances of the text cost.

    place (Path): ``results/robustness``, with ``<dataset>-<split>.json``.
    chosen (Mapping): The results of the chosen adapters.
    RETURNS (tuple): One row a dataset and split: "clean_f1", and "disturbed": {"name", "about",
        "f1", "lost" in points, "lost_ci"}; and sentences on what is outdated.
    """
    rows, problems = [], []
    for one in results(place):
        own = chosen.get((one.dataset, one.split))
        if own is not None and own.content.get("adapter") != one.content.get("adapter"):
            problems.append(f"results/robustness/{one.path.name}: of another adapter, left out")
            continue
        clean = at(one.content, "clean", "f1")
        disturbed = at(one.content, "disturbed") or {}
        if clean is not None and disturbed:
            rows.append(
                {
                    "dataset": one.dataset,
                    "split": one.split,
                    "clean_f1": clean,
                    "disturbed": [
                        {
                            "name": name,
                            "about": found.get("about"),
                            "f1": found["f1"],
                            "lost": clean - found["f1"],
                            "lost_ci": found.get("lost_ci"),
                        }
                        for name, found in disturbed.items()
                    ],
                }
            )
    return rows, problems


def pretraining_gains(path: Path) -> list[Row]:
    """What pre-training brings, from ``ablation.json``.

    RETURNS (list[dict]): One a variant: "pretraining" and "method" in words, "f1": the mean
        over seeds by corpus, on dev; "mean" and "deviation" (None of one seed) of the mean over
        corpora.
    """
    found = read(path)
    if not found.get("runs"):
        return []
    corpora = list(dict.fromkeys(run["corpus"] for run in found["runs"]))
    rows = []
    for variant in ablation.variants(found):
        mean, deviation = ablation.f1(found, variant)
        rows.append(
            {
                "pretraining": ablation.PRETRAINING[variant[0]],
                "method": ablation.METHODS[variant[1]],
                "f1": {name: ablation.f1(found, variant, name)[0] for name in corpora},
                "mean": mean,
                "deviation": None if math.isnan(deviation) else deviation,
            }
        )
    return rows


def best_split(rows: Sequence[Row]) -> list[Row]:
    """Of rows with a dataset and a split, those on test, and on dev where there is none on test."""
    by_dataset: dict[str, Row] = {}
    for split in SPLITS:
        by_dataset.update({row["dataset"]: row for row in rows if row["split"] == split})
    return [by_dataset[name] for name in sorted(by_dataset)]
