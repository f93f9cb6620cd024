"""What the files of a run say, collected into one JSON object.

Only the folder of the run is read. What is not there is listed as missing, and what does not
fit together, or lessens what a figure is worth, as a warning. ``markdown`` and ``html`` make
texts of it.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from ...about import __version__
from ...errors import OpenMedError
from .. import ledger
from . import comparisons, derived, further, problems, published, recipe
from .files import Row, folders, ledger_of, pairs, results


def collect(runs: Path, output: Path, ledger_path: Path | None = None) -> Row:
    """Everything the files of a run say.

    runs (Path): Folder of the run, as ``project.yml`` lays it out.
    output (Path): Folder of the report, for links into that of the run.
    ledger_path (Path | None): The record of looks at test, by default see ``files.ledger_of``.
    RETURNS (dict): "spacy_openmed"; "runs", the run's folder as seen from the report's;
        "ledger"; "datasets", "backbones"; "main" (see ``comparisons.main_table``) and "mean" of
        it; the rows "pretraining" (one a backbone), "searches", "trained" (one a dataset and
        backbone),
        "candidates" (of the selection), "results" (one a dataset and split), "looks" (at test),
        "systems", "errors", "calibrations", "seeds", "cross", "robustness" and "ablation";
        "sources" of published figures; "energy" of it all together; "missing" and "warnings",
        sentences. Scores are in percent, differences in points, "seconds" wall time; paths are
        relative to the run's folder. What is not known is null. There is no text of a corpus.
    RAISES (OpenMedError): No such folder, nothing in it to report, or a broken file.
    """
    if not runs.is_dir():
        raise OpenMedError(f"{runs} is no folder. Give the folder of a run.")
    record = ledger_path or ledger_of(runs)
    seen = ledger.read(record)
    measured = list(results(runs / "results"))
    report: Row = {
        "spacy_openmed": __version__,
        "runs": _seen_from(output, runs),
        "ledger": _seen_from(runs, record),
        "pretraining": [recipe.pretrained(folder) for folder in folders(runs / "dapt")],
        "searches": [recipe.search(folder, runs) for folder in pairs(runs / "search")],
        "trained": [recipe.trained(folder) for folder in pairs(runs / "train")],
        "candidates": recipe.candidates(runs / "selection.json"),
        "results": [recipe.measured(result) for result in measured],
        "looks": recipe.looks(seen),
    }
    made = [row for name in recipe.MADE for row in report[name]]
    rows = [*made, *report["candidates"], *report["results"]]
    if not rows:
        raise OpenMedError(
            f"{runs} has nothing to report: no dapt/, search/, train/, selection.json, results/. "
            f"'spacy project run all' fills such a folder."
        )
    report["datasets"] = _names(rows, "dataset")
    report["backbones"] = _names([*made, *report["candidates"]], "backbone")

    ours = comparisons.with_sums(measured)
    chosen = {(one.dataset, one.split): one for one in measured}
    report["systems"], not_compared = comparisons.systems(runs / "baselines", ours)
    report["errors"], old_errors = derived.errors(measured)
    report["calibrations"] = recipe.calibrations(measured)
    report["robustness"], old_robustness = further.robustness(
        runs / "results" / "robustness", chosen
    )
    report["main"] = comparisons.main_table(ours, report["systems"], report["errors"])
    report["mean"] = comparisons.mean(report["main"])
    no_runs = {row["dataset"] for row in report["trained"] if row["averaged"] or row["earlier"]}
    report["seeds"], old_seeds = further.seeds(
        runs / "results" / "seeds",
        # The average of runs is no run, and one that went on from another is longer than theirs.
        {key: one for key, one in chosen.items() if one.dataset not in no_runs},
    )
    report["cross"], old_cross = further.cross(runs / "results" / "cross", chosen)
    report["ablation"] = further.pretraining_gains(runs / "ablation.json")
    report["sources"] = published.sources([row["dataset"] for row in report["main"]])
    report["energy"] = _total(recipe.used(report))
    report["missing"] = problems.missing(report, runs)
    report["warnings"] = [
        *problems.of_the_ledger(seen, report["ledger"]),
        *problems.warnings(report, seen),
        *not_compared,
        *old_errors,
        *old_robustness,
        *old_seeds,
        *old_cross,
    ]
    return report


def _seen_from(folder: Path, path: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _names(rows: Iterable[Row], key: str) -> list[str]:
    return sorted({row[key] for row in rows if key in row})


def _total(used: list[Row]) -> Row | None:
    # Imports torch, which takes seconds.
    from ...training.energy import total

    return total(used) if used else None
