"""What a run lacks, and what lessens its figures, as sentences without a full stop."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from ...corpora import registry
from ..ledger import TEST, Contents
from . import recipe
from .comparisons import SPACY_NER
from .files import FEWEST_DOCUMENTS, SPLITS, Row, at


def missing(report: Row, runs: Path) -> list[str]:
    """What a report could show and the run does not have."""
    searched, trained = (
        {(row["dataset"], row["backbone"]) for row in report[name]}
        for name in ("searches", "trained")
    )
    backbones = sorted({row["backbone"] for row in [*report["searches"], *report["trained"]]})
    pairs = [(name, backbone) for name in report["datasets"] for backbone in backbones]
    chosen = {row["dataset"] for row in report["candidates"]}
    results = {(row["dataset"], row["split"]): row for row in report["results"]}
    adapted = {row["backbone"] for row in report["pretraining"]}
    sentences = [
        *(f"dapt/{name}: no pre-training" for name in backbones if name not in adapted),
        *(f"search/{'/'.join(pair)}: no search" for pair in pairs if pair not in searched),
        *(f"train/{'/'.join(pair)}: no adapter" for pair in pairs if pair not in trained),
    ]
    for name, wanted in _WANTED.items():
        for row in report[name]:
            place = "/".join([_PLACES[name], *([row["dataset"]] if "dataset" in row else [])])
            sentences += [
                f"{place}/{row['backbone']}: no {what}"
                for key, what in wanted.items()
                if row[key] is None or row[key] == []
            ]
    sentences += [
        f"selection.json: nothing chosen for '{name}'"
        for name in report["datasets"]
        if name not in chosen
    ]
    for name in report["datasets"]:
        for split in SPLITS:
            row = results.get((name, split))
            if row is None:
                sentences.append(f"results/{name}-{split}.json: not evaluated")
            else:
                sentences += [
                    f"results/{name}-{split}.json: no {what}"
                    for key, what in (("raw", "raw score"), ("conll", "CoNLL score"))
                    if row[key] is None
                ]
                if row["raw"] and row["raw"]["f1_ci"] is None:
                    sentences.append(f"results/{name}-{split}.json: {_no_interval(row['raw'])}")
    if not (runs / report["ledger"]).is_file():
        sentences.append(f"{report['ledger']}: no record of looks at test")
    return [*sentences, *_not_measured(report), *_not_published(report)]


def _no_interval(score: Row) -> str:
    count = score["document_count"]
    if count is None or count >= FEWEST_DOCUMENTS:
        return "no interval"
    return f"no interval, which needs {FEWEST_DOCUMENTS} documents"


def _not_measured(report: Row) -> list[str]:
    """What the report has a section for, and no figures."""
    sentences = [
        f"{place}: no {what}" for key, (place, what) in _FURTHER.items() if not report[key]
    ]
    if report["systems"]:
        scored = {
            row["dataset"]: row["conll"] is not None
            for row in report["systems"]
            if row["system"] == SPACY_NER and row["split"] == TEST
        }
        sentences += [
            f"baselines/{SPACY_NER}/{row['dataset']}-{TEST}.json: "
            + ("no CoNLL score" if row["dataset"] in scored else "not evaluated")
            for row in report["main"]
            if not row["together"] and not scored.get(row["dataset"])
        ]
    if report["robustness"]:
        sentences += _without(report, "robustness")
    if report["seeds"]:
        sentences += _without(report, "seeds", SMALL)
    sentences += [
        f"results/seeds/{row['dataset']}-*-{row['split']}.json: {row['runs']} runs, which is less "
        f"than {_SEEDS}"
        for row in report["seeds"]
        if row["runs"] < _SEEDS
    ]
    if report["errors"]:
        analysed = {(row["dataset"], row["split"]) for row in report["errors"]}
        sentences += [
            f"results/{row['dataset']}-{TEST}.errors.json: no analysis of errors"
            for row in report["results"]
            if row["split"] == TEST and (row["dataset"], TEST) not in analysed
        ]
    return sentences


def _without(report: Row, key: str, among: Collection[str] | None = None) -> list[str]:
    """The datasets that a section has nothing of.

    among (Collection[str] | None): Of which it is wanted; None for all.
    """
    place, what = _FURTHER[key]
    there = {row["dataset"] for row in report[key]}
    return [
        f"{place}/{name}-*.json: no {what}"
        for name in dict.fromkeys(row["dataset"] for row in report["results"])
        if name not in there and (among is None or name in among)
    ]


def _not_published(report: Row) -> list[str]:
    known = registry.datasets()
    single = [row for row in report["main"] if row["dataset"] in known]
    return [
        f"published: no source for the F1 of {whose} on {', '.join(names)}"
        for key, whose in (
            ("openmed", "OpenMed NER"),
            ("closed", "the closed-source system it compares itself with"),
        )
        if (names := [row["dataset"] for row in single if row["published"][key] is None])
    ]


# What the two scores of an adapter may differ by before somebody should ask why.
_APART = 1.0
# Corpora so small that the seed may decide, and the runs that show how much.
SMALL = ("ncbi", "linnaeus", "s800", "cll")
_SEEDS = 3
_FURTHER = {
    "systems": ("baselines", "other system on the same splits"),
    "errors": ("results", "analysis of errors"),
    "calibrations": ("results", "calibration of scores"),
    "seeds": ("results/seeds", "runs with further seeds"),
    "cross": ("results/cross", "adapter on another corpus"),
    "robustness": ("results/robustness", "disturbed text"),
    "ablation": ("ablation.json", "comparison with and without pre-training"),
}
_PLACES = {"pretraining": "dapt", "searches": "search", "trained": "train"}
# What a row should have, and how its absence is put.
_WANTED = {
    "pretraining": {
        "sha256": "adapter",
        "perplexity_before": "perplexity of the plain backbone",
        "perplexity_after": "perplexity of the adapted backbone",
        "seconds": "time",
        "energy": "energy",
    },
    "searches": {
        "defaults_dev_f1": "F1 of the default settings",
        "best_dev_f1": "F1 of the best settings",
        "seconds": "time",
        "energy": "energy",
        "plots": "plots",
    },
    "trained": {
        "sha256": "adapter",
        "dev": "F1 on dev",
        "trainable_parameters": "number of trainable parameters",
        "seconds": "time",
        "energy": "energy",
    },
}


def of_the_ledger(seen: Contents, name: str) -> list[str]:
    """What is wrong with the record of looks at test.

    name (str): Of its file.
    """
    foreign = sum(not recipe.is_look(entry) for entry in seen.entries)
    return [
        *(f"{name}: {fault}: a line was removed or changed" for fault in seen.faults),
        *(
            f"{name}: line {number} is torn, a command was killed while it wrote it"
            for number in seen.torn
        ),
        *([f"{name}: lines that are no looks, left out: {foreign}"] if foreign else []),
    ]


def warnings(report: Row, seen: Contents) -> list[str]:
    """What does not fit together, or lessens what a figure is worth."""
    chosen = {row["dataset"]: row for row in report["candidates"] if row["chosen"]}
    trained = {(row["dataset"], row["sha256"]): row for row in report["trained"]}
    sentences = [
        f"backbone '{name}': its weights were not the same in every step"
        for name in report["backbones"]
        if len(recipe.hashes(report, name)) > 1
    ]
    for row in report["pretraining"]:
        measured = row["measured_sha256"]
        if measured is not None and measured != row["sha256"]:
            sentences.append(
                f"dapt/{row['backbone']}: the perplexity was measured with another adapter"
            )
    adapted = {row["sha256"] for row in report["pretraining"]}
    sentences += [
        f"train/{row['dataset']}/{row['backbone']}: builds on the pre-training adapter "
        f"{row['init_adapter'][:12]}, which is none of those at hand"
        for row in report["trained"]
        if row["init_adapter"] and row["init_adapter"] not in adapted
    ]
    for name, row in chosen.items():
        if (name, row["sha256"]) not in trained:
            sentences.append(f"train/{name}: the adapter that was chosen is not there any more")
    for row in report["results"]:
        place = f"results/{row['dataset']}-{row['split']}.json"
        if row["partial"]:
            sentences.append(f"{place}: a part of the corpus, not comparable with others' figures")
        elif row["edition"] is None:
            sentences.append(f"{place}: the data is of no edition that the registry knows")
        wanted = at(chosen, row["dataset"], "sha256")
        if wanted is not None and row["adapter"] != wanted:
            sentences.append(f"{place}: of another adapter than the one that was chosen")
        sentences += _unlike_training(row, trained) if row["split"] == "dev" else []
        if row["split"] == TEST and not recipe.recorded(row, seen):
            sentences.append(f"{place}: the ledger has no look that gave this")
        sentences += _unlike_each_other(row, place)
    for row in report["calibrations"]:
        before, after = (100 * row[when]["ece"] for when in ("before", "after"))
        if after > before:
            sentences.append(
                f"results/{row['dataset']}-{row['split']}.json: calibration error {after:.1f} % "
                f"with the temperature that was fitted on dev, {before:.1f} % without"
            )
    for look in report["looks"]:
        if look["look"] > 1:
            sentences.append(
                f"test of '{look['dataset']}': look {look['look']} on {look['time']}, because: "
                f"{look['reason'] or 'no reason recorded'}. A figure of it is not one of unseen "
                f"data"
            )
    return sentences


def _unlike_each_other(row: Row, place: str) -> list[str]:
    raw, conll = at(row, "raw", "f1"), at(row, "conll", "f1")
    if raw is None or conll is None or abs(raw - conll) <= _APART:
        return []
    same = registry.same_mentions(row["dataset"], row.get("edition"), row["split"])
    return [
        f"{place}: raw F1 {raw:.2f}, CoNLL F1 {conll:.2f}, more than {_APART:g} point apart"
        + ("" if same else ": the token file annotates other mentions than the raw form")
    ]


def _unlike_training(row: Row, trained: dict[tuple[str, Any], Row]) -> list[str]:
    before = at(trained.get((row["dataset"], row["adapter"])), "dev", "f1")
    now = at(row, "raw", "f1")
    if before is None or now is None or abs(before - now) < 0.01:
        return []
    return [
        f"results/{row['dataset']}-dev.json: raw F1 {now:.2f}, at the end of training {before:.2f}"
    ]
