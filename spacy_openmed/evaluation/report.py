"""What the files of a run say, collected into one JSON object.

Only the folder of the run is read. What is not there is listed as missing, and what does not
fit together, or lessens what a figure is worth, as a warning. ``report_markdown`` makes a text
of it.
"""

import json
import os
from pathlib import Path
from typing import Any

from .. import adapters, pretraining
from ..about import __version__
from ..backbones import file_sha256
from ..corpora import registry
from ..errors import OpenMedError
from ..low_rank import LORA_WEIGHTS
from . import ledger
from .ledger import TEST, Contents, Entry, Subject
from .select import count_parameters

Row = dict[str, Any]
SPLITS = ("dev", TEST)
_MADE = ("pretraining", "searches", "trained")


def collect(runs: Path, output: Path) -> Row:
    """Everything the files of a run say.

    runs (Path): Folder of the run, as ``project.yml`` lays it out.
    output (Path): Folder of the report, for links into that of the run.
    RETURNS (dict): "spacy_openmed"; "runs", the run's folder as seen from the report's;
        "datasets", "backbones"; the rows "pretraining" (one a backbone), "searches", "trained"
        (one a dataset and backbone), "candidates" (of the selection), "results" (one a dataset
        and split) and "looks" (at test); "energy" of it all together; "missing" and "warnings",
        sentences. Scores are in percent, gains in points, "seconds" wall time; paths are
        relative to the run's folder. What is not known is null.
    RAISES (OpenMedError): No such folder, nothing in it to report, or a broken file.
    """
    if not runs.is_dir():
        raise OpenMedError(f"{runs} is no folder. Give the folder of a run.")
    seen = ledger.read(runs / "ledger.jsonl")
    report: Row = {
        "spacy_openmed": __version__,
        "runs": Path(os.path.relpath(runs.resolve(), output.resolve())).as_posix(),
        "pretraining": [_pretraining(folder) for folder in _folders(runs / "dapt")],
        "searches": [_search(folder, runs) for folder in _pairs(runs / "search")],
        "trained": [_trained(folder) for folder in _pairs(runs / "train")],
        "candidates": _candidates(runs / "selection.json"),
        "results": _results(runs / "results"),
        "looks": _looks(seen),
    }
    made = [row for name in _MADE for row in report[name]]
    rows = [*made, *report["candidates"], *report["results"]]
    if not rows:
        raise OpenMedError(
            f"{runs} has nothing to report: no dapt/, search/, train/, selection.json, results/. "
            f"'spacy project run all' fills such a folder."
        )
    report["datasets"] = _names(rows, "dataset")
    report["backbones"] = _names([*made, *report["candidates"]], "backbone")
    report["energy"] = _total([row["energy"] for row in made if row["energy"]])
    report["missing"] = _missing(report, runs)
    report["warnings"] = [*_of_the_ledger(seen), *_warnings(report)]
    return report


def _names(rows: list[Row], key: str) -> list[str]:
    return sorted({row[key] for row in rows if key in row})


def hashes(report: Row, backbone: str) -> list[str]:
    """The sha256 of a backbone's weights in the steps of a run; they should all be one."""
    rows = [row for name in _MADE for row in report[name] if row["backbone"] == backbone]
    return sorted({row["backbone_sha256"] for row in rows if row["backbone_sha256"]})


def _total(used: list[Row]) -> Row | None:
    # Imports torch, which takes seconds.
    from ..training.energy import total

    return total(used) if used else None


# Rows


def _folders(place: Path) -> list[Path]:
    if not place.is_dir():
        return []
    # A write that was cut off leaves a folder that begins with a dot.
    return sorted(p for p in place.iterdir() if p.is_dir() and not p.name.startswith("."))


def _pairs(place: Path) -> list[Path]:
    return [pair for dataset in _folders(place) for pair in _folders(dataset)]


def _read(path: Path) -> Row:
    """A JSON file; empty where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise OpenMedError(f"{path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise OpenMedError(f"{path} is broken ({error}). Run the step that writes it.") from error
    if not isinstance(found, dict):
        raise OpenMedError(f"{path} is not a JSON object. Run the step that writes it.")
    return found


def _at(found: Any, *keys: str) -> Any:
    """A value deep inside, None where there is none."""
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _pretraining(folder: Path) -> Row:
    weights = folder / "adapter" / LORA_WEIGHTS
    made = _read(folder / "adapter" / pretraining.RECORD)
    measured = _read(folder / "perplexity.json")
    return {
        "backbone": folder.name,
        "backbone_sha256": _at(made, "backbone", "sha256"),
        "sha256": file_sha256(weights) if weights.is_file() else None,
        "trainable_parameters": count_parameters(weights) if weights.is_file() else None,
        "updates": _at(made, "adaptation", "steps"),
        "seconds": _at(made, "adaptation", "seconds"),
        "energy": _at(made, "energy"),
        "perplexity_before": _at(measured, "base", "perplexity"),
        "perplexity_after": _at(measured, "adapted", "perplexity"),
        "fall": _at(measured, "fall", "percent"),
        "fall_ci": _at(measured, "fall", "ci"),
        "measured_sha256": _at(measured, "adapter"),
        "measured_on": _at(measured, "texts"),
    }


def _search(folder: Path, runs: Path) -> Row:
    found = _read(folder / "search.json")
    finished = _at(found, "finished") or []
    plots = sorted(p for p in (folder / "plots").glob("*") if p.suffix in (".png", ".svg"))
    return {
        "dataset": folder.parent.name,
        "backbone": folder.name,
        "backbone_sha256": _at(found, "backbone", "sha256"),
        "finished": len(finished),
        "pruned": sum(_at(trial, "state") == "PRUNED" for trial in finished),
        "failed": len(_at(found, "failed") or []),
        "train_share": _at(found, "data", "train", "share"),
        "dev_share": _at(found, "data", "dev", "share"),
        "defaults_dev_f1": _at(found, "defaults", "dev_f1"),
        "best_dev_f1": _at(found, "best", "dev_f1"),
        "best": _at(found, "best", "params"),
        "gain": _at(found, "gain"),
        "seconds": _at(found, "seconds"),
        "energy": _at(found, "energy"),
        "plots": [path.relative_to(runs).as_posix() for path in plots],
    }


def _trained(folder: Path) -> Row:
    place = folder / "adapter"
    found = _read(place / adapters.TRAINING)
    adapter = adapters.read(place) if (place / adapters.INFO).is_file() else None
    edition = _at(found, "edition")
    return {
        "dataset": folder.parent.name,
        "backbone": folder.name,
        "backbone_sha256": adapter.info.backbone.sha256 if adapter else None,
        "sha256": adapters.content_hash(adapter) if adapter else None,
        "edition": edition,
        "partial": _is_partial(folder.parent.name, edition),
        "data": _at(found, "data"),
        "dev": _at(found, "dev"),
        "epochs": len(_at(found, "epochs") or []) or None,
        "seed": _at(found, "settings", "optim", "seed"),
        "init_adapter": _at(found, "init_adapter"),
        "trainable_parameters": _at(found, "trainable_parameters"),
        "seconds": _at(found, "seconds"),
        "energy": _at(found, "energy"),
    }


def _is_partial(dataset: str, edition: str | None) -> bool | None:
    known = registry.with_demos().get(dataset)
    found = known.editions.get(str(edition)) if known else None
    return found.partial if found else None


def _candidates(path: Path) -> list[Row]:
    chosen = _at(_read(path), "datasets") or {}
    return [
        {
            "dataset": name,
            # As the folders are named, of a backbone that is a folder.
            "backbone": Path(str(_at(one, "backbone", "id"))).name,
            "adapter": _at(one, "adapter"),
            "sha256": _at(one, "sha256"),
            "dev_f1": _at(one, "dev_f1"),
            "parameters": _at(one, "parameters"),
            "chosen": number == 0,
        }
        for name, entry in chosen.items()
        for number, one in enumerate(_at(entry, "candidates") or [entry])
    ]


def _results(place: Path) -> list[Row]:
    rows = []
    for path in sorted(place.glob("*.json")):
        dataset, _, split = path.stem.rpartition("-")
        if dataset and split in SPLITS:
            found = _read(path)
            keys = ("edition", "partial", "adapter", "backbone", "edges", "data", "raw", "conll")
            facts = {key: found.get(key) for key in keys}
            rows.append({"dataset": dataset, "split": split, **facts})
    return rows


def _looks(seen: Contents) -> list[Row]:
    rows: list[Row] = []
    earlier: list[Entry] = []
    for entry in seen.entries:
        if entry.get("split") == TEST:
            files = entry.get("data") or {}
            same = Subject(entry["dataset"], TEST, files, entry.get("raw_sha256", ""))
            keys = ("time", "dataset", "adapter", "data", "raw_f1", "conll_f1", "reason")
            facts = {key: entry.get(key) for key in keys}
            # Counted, not taken from the entry, which older ones do not have.
            rows.append({**facts, "look": 1 + sum(map(same.was_seen_by, earlier))})
            earlier.append(entry)
    return rows


# Sentences


def _missing(report: Row, runs: Path) -> list[str]:
    searched, trained = (
        {(row["dataset"], row["backbone"]) for row in report[name]}
        for name in ("searches", "trained")
    )
    backbones = _names([*report["searches"], *report["trained"]], "backbone")
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
    if not (runs / "ledger.jsonl").is_file():
        sentences.append("ledger.jsonl: no record of looks at test")
    return sentences


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


def _of_the_ledger(seen: Contents) -> list[str]:
    return [
        *(f"ledger.jsonl: {fault}: a line was removed or changed" for fault in seen.faults),
        *(
            f"ledger.jsonl: line {number} is torn, a command was killed while it wrote it"
            for number in seen.torn
        ),
    ]


def _warnings(report: Row) -> list[str]:
    chosen = {row["dataset"]: row for row in report["candidates"] if row["chosen"]}
    trained = {(row["dataset"], row["sha256"]): row for row in report["trained"]}
    sentences = [
        f"backbone '{name}': its weights were not the same in every step"
        for name in report["backbones"]
        if len(hashes(report, name)) > 1
    ]
    for row in report["pretraining"]:
        measured = row["measured_sha256"]
        if measured is not None and measured != row["sha256"]:
            sentences.append(
                f"dapt/{row['backbone']}: the perplexity was measured with another adapter"
            )
    for name, row in chosen.items():
        if (name, row["sha256"]) not in trained:
            sentences.append(f"train/{name}: the adapter that was chosen is not there any more")
    for row in report["results"]:
        place = f"results/{row['dataset']}-{row['split']}.json"
        if row["partial"]:
            sentences.append(f"{place}: a part of the corpus, not comparable with others' figures")
        elif row["edition"] is None:
            sentences.append(f"{place}: the data is of no edition that the registry knows")
        wanted = _at(chosen, row["dataset"], "sha256")
        if wanted is not None and row["adapter"] != wanted:
            sentences.append(f"{place}: of another adapter than the one that was chosen")
        sentences += _unlike_training(row, trained) if row["split"] == "dev" else []
        sentences += _unrecorded(row, report["looks"]) if row["split"] == TEST else []
    for look in report["looks"]:
        if look["look"] > 1:
            sentences.append(
                f"test of '{look['dataset']}': look {look['look']} on {look['time']}, because: "
                f"{look['reason'] or 'no reason recorded'}. A figure of it is not one of unseen "
                f"data"
            )
    return sentences


def _unlike_training(row: Row, trained: dict[tuple[str, Any], Row]) -> list[str]:
    before = _at(trained.get((row["dataset"], row["adapter"])), "dev", "f1")
    now = _at(row, "raw", "f1")
    if before is None or now is None or abs(before - now) < 0.01:
        return []
    return [
        f"results/{row['dataset']}-dev.json: raw F1 {now:.2f}, at the end of training {before:.2f}"
    ]


def _unrecorded(row: Row, looks: list[Row]) -> list[str]:
    same = ("dataset", "adapter", "data")
    if any(
        all(look[key] == row[key] for key in same) and look["raw_f1"] == _at(row, "raw", "f1")
        for look in looks
    ):
        return []
    return [f"results/{row['dataset']}-test.json: the ledger has no look that gave this"]
