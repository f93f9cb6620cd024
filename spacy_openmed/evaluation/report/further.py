"""Measurements beyond the two scores: seeds, other corpora, disturbed text, pre-training."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import ablation
from ..significance import f1
from .files import SPLITS, Result, Row, at, figures, interval, read, results

Key = tuple[str, str]


def seeds(place: Path, chosen: Mapping[Key, Result]) -> tuple[list[Row], list[str]]:
    """How much F1 varies with the seed.

    place (Path): ``results/seeds``, with ``<dataset>-<seed>-<split>.json``.
    chosen (Mapping): The results of the chosen adapters, which count as one run more.
    RETURNS (tuple): One row a dataset and split: "runs", their number; "chosen", whether the
        first is the chosen adapter; "raw_f1" and "conll_f1" of each; "mean" and "deviation" (of
        the sample) of raw F1. And sentences on what was left out.
    """
    found: dict[Key, list[Result]] = {}
    for one in results(place):
        dataset, _, seed = one.dataset.rpartition("-")
        if dataset and seed.isdigit():
            found.setdefault((dataset, one.split), []).append(one)
    rows, problems = [], []
    for (dataset, split), further in sorted(found.items()):
        own = chosen.get((dataset, split))
        if own is not None and not own.content.get("raw"):
            own = None
        runs = [own] if own else []
        for one in further:
            name = f"results/{place.name}/{one.path.name}"
            if not _agree(own or further[0], one, "data", "edges"):
                problems.append(f"{name}: of other data or edges, left out")
            elif any(_agree(run, one, "adapter") for run in runs):
                problems.append(f"{name}: of an adapter that is counted already, left out")
            else:
                runs.append(one)
        scores = [[at(run.content, kind, "f1") for run in runs] for kind in ("raw", "conll")]
        raw, conll = ([f1 for f1 in every if f1 is not None] for every in scores)
        if len(raw) > 1:
            row = {"dataset": dataset, "split": split, "runs": len(raw), "chosen": own is not None}
            spread = {"mean": statistics.mean(raw), "deviation": statistics.stdev(raw)}
            rows.append({**row, "raw_f1": raw, "conll_f1": conll, **spread})
    return rows, problems


def _agree(one: Result, other: Result, *keys: str) -> bool:
    return all(one.content.get(key) == other.content.get(key) for key in keys)


def cross(place: Path, chosen: Mapping[Key, Result]) -> tuple[list[Row], list[str]]:
    """Adapters on the corpora of others.

    place (Path): ``results/cross``, with ``<trained on>-on-<dataset>-<split>.json``.
    chosen (Mapping): The results of the chosen adapters.
    RETURNS (tuple): One row a file: "trained_on", "dataset", "split", "raw" figures; "own_f1",
        on the same labels, of the adapter that was trained on the dataset, and "lost", its lead
        in points; "shared", how many documents share text with what the adapter was trained on,
        None if that is not known, and "f1_without" them; "after", ids of the datasets that its
        training went on from; "reason", why the two can be compared. And sentences on what was
        left out.
    """
    rows, problems = [], []
    for one in results(place):
        trained_on, _, dataset = one.dataset.partition("-on-")
        if not dataset or not at(one.content, "raw"):
            continue
        # The adapter is the same on every split, of which one may not be measured.
        sources = (chosen.get((trained_on, split)) for split in (one.split, *SPLITS))
        source = next((found for found in sources if found), None)
        target = chosen.get((dataset, one.split))
        if (source and not _agree(source, one, "adapter", "edges")) or (
            target and not _agree(target, one, "data")
        ):
            problems.append(_left_out(place, one))
            continue
        own_f1 = _own_f1(target, at(one.content, "labels"))
        rows.append(
            {
                "trained_on": trained_on,
                "dataset": dataset,
                "split": one.split,
                "raw": figures(one.content["raw"]),
                "own_f1": own_f1,
                "lost": None if own_f1 is None else own_f1 - one.content["raw"]["f1"],
                "shared": at(one.content, "shared", "documents"),
                "after": [
                    name for name in at(one.content, "shared", "train") or () if name != trained_on
                ],
                "f1_without": at(one.content, "shared", "without", "raw", "f1"),
                "reason": at(one.content, "reason"),
            }
        )
    return rows, problems


def _left_out(place: Path, one: Result) -> str:
    return f"results/{place.name}/{one.path.name}: of another adapter or other data, left out"


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
        "f1", "lost" in points, "lost_ci"}; and sentences on what was left out.
    """
    rows, problems = [], []
    for one in results(place):
        own = chosen.get((one.dataset, one.split))
        if own is not None and not own.fits(one.content):
            problems.append(_left_out(place, one))
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
                            "lost_ci": interval(found, "lost_ci", of=one.content["clean"]),
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
