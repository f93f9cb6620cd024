"""Rows of the steps of a recipe: pre-training, search, fine-tuning, selection, looks at test."""

from collections.abc import Sequence
from pathlib import Path

from ... import adapters, lineage, pretraining
from ...backbones import file_sha256
from ...corpora import registry
from ...low_rank import LORA_WEIGHTS
from ..ledger import TEST, Contents, Entry, Subject
from ..select import count_parameters
from . import shapes
from .files import Result, Row, at, figures, read

# The steps that make something on a backbone.
MADE = ("pretraining", "searches", "trained")


def pretrained(folder: Path) -> Row:
    """A pre-training adapter: ``dapt/<backbone>``."""
    weights = folder / "adapter" / LORA_WEIGHTS
    made = read(folder / "adapter" / pretraining.RECORD)
    measured = read(folder / "perplexity.json")
    return {
        "backbone": folder.name,
        "backbone_sha256": at(made, "backbone", "sha256"),
        "sha256": file_sha256(weights) if weights.is_file() else None,
        "trainable_parameters": count_parameters(weights) if weights.is_file() else None,
        "updates": at(made, "adaptation", "steps"),
        "seconds": at(made, "adaptation", "seconds"),
        "energy": at(made, "energy"),
        "perplexity_before": at(measured, "base", "perplexity"),
        "perplexity_after": at(measured, "adapted", "perplexity"),
        "fall": at(measured, "fall", "percent"),
        "fall_ci": at(measured, "fall", "ci"),
        "measured_sha256": at(measured, "adapter"),
        "measured_on": at(measured, "texts"),
    }


def search(folder: Path, runs: Path) -> Row:
    """A search: ``search/<dataset>/<backbone>``."""
    found = read(folder / "search.json")
    finished = at(found, "finished") or []
    plots = sorted(p for p in (folder / "plots").glob("*") if p.suffix in (".png", ".svg"))
    return {
        "dataset": folder.parent.name,
        "backbone": folder.name,
        "backbone_sha256": at(found, "backbone", "sha256"),
        "finished": len(finished),
        "pruned": sum(at(trial, "state") == "PRUNED" for trial in finished),
        "failed": len(at(found, "failed") or []),
        "train_share": at(found, "data", "train", "share"),
        "dev_share": at(found, "data", "dev", "share"),
        "defaults_dev_f1": at(found, "defaults", "dev_f1"),
        "best_dev_f1": at(found, "best", "dev_f1"),
        "best": at(found, "best", "params"),
        "gain": at(found, "gain"),
        "seconds": at(found, "seconds"),
        "energy": at(found, "energy"),
        "plots": [path.relative_to(runs).as_posix() for path in plots],
    }


def trained(folder: Path) -> Row:
    """An adapter: ``train/<dataset>/<backbone>``."""
    place = folder / "adapter"
    found = read(place / adapters.TRAINING)
    adapter = adapters.read(place) if (place / adapters.INFO).is_file() else None
    weights = place / LORA_WEIGHTS
    edition = at(found, "edition")
    return {
        "dataset": folder.parent.name,
        "backbone": folder.name,
        "backbone_sha256": adapter.info.backbone.sha256 if adapter else None,
        "sha256": adapters.content_hash(adapter) if adapter else None,
        "bytes": weights.stat().st_size if weights.is_file() else None,
        "edition": edition,
        "partial": _is_partial(folder.parent.name, edition),
        "data": at(found, "data"),
        "dev": at(found, "dev"),
        "epochs": len(at(found, "epochs") or []) or None,
        "seed": at(found, "settings", "optim", "seed"),
        "averaged": len(at(found, "averaged") or []) or None,
        "earlier": _earlier(found),
        "init_adapter": at(found, "init_adapter"),
        "trainable_parameters": at(found, "trainable_parameters"),
        "seconds": at(found, "seconds"),
        "energy": at(found, "energy"),
    }


def _earlier(record: Row) -> Row | None:
    """The runs before those of an adapter, see ``lineage.Earlier``."""
    found = lineage.earlier(record)
    return {"runs": list(found.runs), "whole": found.whole} if found else None


def used(report: Row) -> list[Row]:
    """The energy of every step, and of the runs before them that are no steps themselves.

    report (dict): With the rows of ``MADE``.
    """
    made = [row for name in MADE for row in report[name]]
    steps = {row["sha256"] for row in report["trained"]}
    earlier = {
        run["adapter"]: run["energy"]
        for row in report["trained"]
        for run in (row["earlier"] or {"runs": []})["runs"]
        if run["adapter"] not in steps
    }
    return [one for one in (*(row["energy"] for row in made), *earlier.values()) if one]


def _is_partial(dataset: str, edition: str | None) -> bool | None:
    known = registry.with_demos().get(dataset)
    found = known.editions.get(str(edition)) if known else None
    return found.partial if found else None


def candidates(path: Path) -> list[Row]:
    """What was chosen from: ``selection.json``."""
    chosen = at(read(path), "datasets") or {}
    return [
        {
            "dataset": name,
            # As the folders are named, of a backbone that is a folder.
            "backbone": Path(str(at(one, "backbone", "id"))).name,
            "adapter": at(one, "adapter"),
            "sha256": at(one, "sha256"),
            "dev_f1": at(one, "dev_f1"),
            "parameters": at(one, "parameters"),
            "chosen": number == 0,
        }
        for name, entry in chosen.items()
        for number, one in enumerate(at(entry, "candidates") or [entry])
    ]


def measured(result: Result) -> Row:
    """A result: ``results/<dataset>-<split>.json``."""
    keys = ("edition", "partial", "adapter", "backbone", "edges", "precision", "data")
    return {
        "dataset": result.dataset,
        "split": result.split,
        **{key: result.content.get(key) for key in keys},
        **{key: figures(result.content.get(key)) for key in ("raw", "conll")},
    }


def calibrations(measured: Sequence[Result]) -> list[Row]:
    """How far the scores of results are off.

    RETURNS (list[dict]): "dataset", "split", "found": how many entities, also those that were
        carried and have no score of their own; "temperature", and "before" and "after" it was
        applied, each as ``calibration.reliability`` gives it.
    """
    return [
        {
            "dataset": result.dataset,
            "split": result.split,
            "found": _found(result.content.get("raw")),
            **result.content["calibration"],
        }
        for result in measured
        if result.content.get("calibration")
    ]


def _found(score: Row | None) -> int | None:
    return score["tp"] + score["fp"] if score else None


def looks(seen: Contents) -> list[Row]:
    """Looks at test: ``ledger.jsonl``."""
    rows: list[Row] = []
    earlier: list[Entry] = []
    for entry in seen.entries:
        if is_look(entry) and entry["split"] == TEST:
            files = entry.get("data") or {}
            same = Subject(entry["dataset"], TEST, files, entry.get("raw_sha256", ""))
            keys = ("time", "dataset", "adapter", "data", "raw_f1", "conll_f1", "reason")
            facts = {key: entry.get(key) for key in keys}
            # Counted, not taken from the entry, which older ones do not have.
            rows.append({**facts, "look": 1 + sum(map(same.was_seen_by, earlier))})
            earlier.append(entry)
    return rows


def is_look(entry: Entry) -> bool:
    """Whether a line of a ledger says what was looked at."""
    return shapes.fault(entry, shapes.LOOK) is None


def hashes(report: Row, backbone: str) -> list[str]:
    """The sha256 of a backbone's weights in the steps of a run; they should all be one."""
    rows = [row for name in MADE for row in report[name] if row["backbone"] == backbone]
    return sorted({row["backbone_sha256"] for row in rows if row["backbone_sha256"]})


def recorded(row: Row, seen: Contents) -> bool:
    """Whether a look at test gave a result.

    row (dict): From ``measured``.
    """
    looks = seen.looks_of(row["adapter"], row["edges"], row["data"] or {})
    return any(look.get("raw_f1") == at(row, "raw", "f1") for look in looks)
