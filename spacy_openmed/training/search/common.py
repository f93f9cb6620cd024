"""One configuration for all corpora: derived from their searches, and measured on each.

arXiv 2508.01630 says that one configuration was found to serve all corpora, and not how. The
method here is our own:

- Of every search, the best quarter of the trials that ran to their end counts (at least three,
  by F1 on dev), and each corpus as much as any other, however many trials it had.
- A number is the median over corpora of the medians of their best quarters: geometric where
  the search drew it on a logarithmic scale, rounded where it is whole.
- A choice is the one with the largest share of the best quarters, as a mean over corpora; of
  equals, the smaller one.

Settings are taken one by one: what only two of them do together is not seen. That is why the
configuration is then run on every corpus, under the conditions of its search.
"""

import json
import math
import shutil
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import tomli_w
import torch
from tqdm import tqdm

from ... import backbones
from ...about import __version__
from ...backbones import BackboneRef
from ...corpora import registry
from ...corpora.documents import Document
from ...errors import OpenMedError
from ...files import atomic_file, read_json_if_there, write_json
from ..begun import RUN, flat
from ..finetune import file_hash
from ..processes import process_group
from ..settings import Dimension, FinetuneSettings, SearchSettings, from_dict, to_dict
from ..share import describe
from . import space
from .run import RESULT as SEARCH
from .run import Search
from .trial import Died, Task
from .worker import LOG, Worker

RESULT = "common.json"
CONFIGURATION = "common.toml"
RUNS = "runs"
NOTE = (
    "A search's own best is the maximum over all its trials, each of which is noisy, and is "
    "flattered by that; the common configuration and the settings that a search began with were "
    "run once each. The cost is therefore more likely overstated than understated. All figures "
    "are of dev, which also chose the common configuration."
)

# Trials of a best quarter, at least: fewer have no median worth the name.
_FEWEST = 3
# What the pattern of a corpus is read from.
_PATTERN = ("optim.batch_size", "optim.learning_rate", "lora.rank")
# Of a row, that have a mean over corpora.
_FIGURES = ("defaults", "own_best", "common", "cost", "gain")

Row = dict[str, Any]


@dataclass(frozen=True)
class Finished:
    """A search that has ended, as its folder has it.

    folder (Path): Of the search.
    dataset (str): Id.
    backbone (BackboneRef): With the hash of its weights.
    init_adapter (str): Hash of the pre-training adapter, or "none".
    settings (SearchSettings): Space, shares, and what was fixed.
    start (FinetuneSettings): Where the search started from.
    seed (int): Of what was drawn.
    precision (str): That its trials computed in.
    data (dict): What its shares of "train" and "dev" held, see ``share.describe``.
    rows (list[dict]): Its finished trials.
    defaults (float | None): F1 on dev of the settings it started from; None if they died.
    best (dict): "number", "dev_f1" and "params" of its best trial.
    """

    folder: Path
    dataset: str
    backbone: BackboneRef
    init_adapter: str
    settings: SearchSettings
    start: FinetuneSettings
    seed: int
    precision: str
    data: dict[str, Any]
    rows: list[Row]
    defaults: float | None
    best: Row

    @cached_property
    def best_quarter(self) -> list[Row]:
        """The best quarter of the trials that ran to their end, the best first."""
        complete = [row for row in self.rows if row["state"] == "COMPLETE"]
        # Of equals the earlier one comes first, as where the best is chosen.
        ranked = sorted(complete, key=lambda row: -row["dev_f1"])
        return ranked[: max(_FEWEST, math.ceil(len(ranked) / 4))]

    @property
    def shared(self) -> dict[str, Any]:
        """What searches must have in common for one configuration to make sense."""
        return flat(
            {
                "backbone": self.backbone.sha256,
                "pre-training adapter": self.init_adapter,
                "start": to_dict(self.start),
                "fixed": self.settings.fixed,
                "space": to_dict(self.settings)["space"],
            }
        )


def read(folders: Sequence[Path]) -> list[Finished]:
    """Read searches that have ended.

    folders (Sequence[Path]): Outputs of ``search``, in any order.
    RETURNS (list[Finished]): In the order of the registry.
    RAISES (OpenMedError): Fewer than two, no finished search in a folder, two of one dataset,
        a dataset that the registry does not know, too few trials, or searches that differ in
        what they must share; names what differs.
    """
    found = [_read(folder) for folder in folders]
    order = list(registry.with_demos())
    for each in found:
        if each.dataset not in order:
            raise OpenMedError(
                f"{each.folder} is a search on '{each.dataset}', which is no known dataset. Known "
                f"ids: {', '.join(order)}."
            )
        if len(each.best_quarter) < _FEWEST:
            raise OpenMedError(
                f"{each.folder}: {len(each.best_quarter)} trial(s) ran to their end, and "
                f"{_FEWEST} are needed. Go on with that search: search --trials."
            )
    several = [name for name, count in Counter(s.dataset for s in found).items() if count > 1]
    if several:
        listed = ", ".join(str(s.folder) for s in found if s.dataset in several)
        raise OpenMedError(f"More than one search on {', '.join(several)}: {listed}. Leave one.")
    if len(found) < 2:
        raise OpenMedError("Give the folders of at least two searches, on different corpora.")
    _check_alike(found)
    return sorted(found, key=lambda search: order.index(search.dataset))


def _read(folder: Path) -> Finished:
    try:
        facts, result = (
            json.loads((folder / name).read_text(encoding="utf8")) for name in (RUN, SEARCH)
        )
        if any(facts[name] != result[name] for name in ("dataset", "seed", "data")):
            raise OpenMedError(
                f"{folder}: {RUN} and {SEARCH} are of different searches. Run the search again."
            )
        return Finished(
            folder=folder,
            dataset=facts["dataset"],
            backbone=replace(
                BackboneRef.from_dict(result["backbone"]), sha256=str(facts["backbone"])
            ),
            init_adapter=facts["pre-training adapter"],
            settings=from_dict(SearchSettings, facts["settings"], str(folder / RUN)),
            start=from_dict(FinetuneSettings, facts["start"], str(folder / RUN)),
            seed=facts["seed"],
            precision=facts["precision"],
            data={split: facts["data"][split] for split in ("train", "dev")},
            rows=result["finished"],
            defaults=result["defaults"] and result["defaults"]["dev_f1"],
            best=result["best"],
        )
    except OpenMedError:
        raise
    except OSError as error:
        raise OpenMedError(
            f"No finished search in {folder}: {error.filename} cannot be read "
            f"({error.strerror}). 'spacy openmed search' writes it when it ends."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OpenMedError(
            f"{folder}: {RUN} or {SEARCH} is not what 'spacy openmed search' writes ({error!r}). "
            f"Run it again with the same --output: finished trials are kept."
        ) from error


def _check_alike(found: Sequence[Finished]) -> None:
    first, *others = found
    wanted = first.shared
    for other in others:
        given = other.shared
        differing = [
            f"{name} is {wanted.get(name, 'absent')} and {given.get(name, 'absent')}"
            for name in dict.fromkeys([*wanted, *given])
            if name not in wanted or name not in given or wanted[name] != given[name]
        ]
        if differing:
            raise OpenMedError(
                f"The searches in {first.folder} and {other.folder} differ, so no configuration "
                f"can be common to them: {'; '.join(differing)}. Search with the same."
            )


def derive(searches: Sequence[Finished]) -> space.Values:
    """The configuration that the searches have in common; see the head of this module.

    searches (Sequence[Finished]): From ``read``; their order does not matter.
    RETURNS (dict): Dotted name to value, for every setting that was searched.
    """
    start = flat(to_dict(searches[0].start))
    values: space.Values = {}
    for name, dimension in searches[0].settings.space.items():
        drawn = [[row["params"][name] for row in search.best_quarter] for search in searches]
        if dimension.choices:
            values[name] = _most_frequent(dimension, drawn)
        else:
            middle = _median([_median(each, dimension.log) for each in drawn], dimension.log)
            values[name] = round(middle) if type(start[name]) is int else middle
    return values


def _most_frequent(dimension: Dimension, drawn: Sequence[Sequence[Any]]) -> Any:
    def mean_share(value: Any) -> Fraction:
        # Sums of floats would break ties by the order of the corpora.
        return sum((Fraction(each.count(value), len(each)) for each in drawn), Fraction())

    return min(dimension.choices, key=lambda value: (-mean_share(value), value))


def _median(values: Sequence[float], log: bool) -> float:
    """The median, between two in the middle their arithmetic or geometric mean."""
    low, high = statistics.median_low(values), statistics.median_high(values)
    return math.sqrt(low * high) if log else (low + high) / 2


def common(
    searches: Sequence[Finished],
    corpora: Mapping[str, tuple[Sequence[Document], Sequence[Document]]],
    output: Path,
    init_adapter: Path | None = None,
    threads: int = 0,
) -> dict[str, Any]:
    """Derive the common configuration, run it once on each corpus, and write what it costs.

    Each run has the data, the fixed settings, the seed and the precision of that corpus's
    search. A finished run is kept in ``output/runs/DATASET.json``, and is not run again unless
    something that determines it has changed.

    searches (Sequence[Finished]): From ``read``.
    corpora (Mapping[str, tuple]): Dataset id to the documents of the whole splits train and
        dev, as the search was given them. There is no test split in it, nor a way to one.
    output (Path): Gets ``common.json``, ``common.toml`` (settings for ``train``, without what
        was fixed in the searches alone) and ``runs/``.
    init_adapter (Path | None): The pre-training adapter of the searches.
    threads (int): Of torch; 0 for those of this process.
    RETURNS (dict): What is also written to ``common.json``. F1 in percent, cost in points:
        own best minus common.
    RAISES (OpenMedError): Other documents, backbone or adapter than the searches had; the
        configuration cannot be run on a corpus.
    """
    if process_group().num_processes > 1:
        raise OpenMedError("The common configuration is run in one process: without torchrun.")
    first = searches[0]
    _check_adapter(first, init_adapter)
    # Verifies its weights, too.
    backbones.find(first.backbone)
    values = derive(searches)
    # All of them before the first is run: what is missing shows at once.
    tasks = [_task(each, *corpora[each.dataset], output, init_adapter) for each in searches]
    _make(output)
    runs = []
    with tqdm(total=len(tasks), desc="common", unit="corpus", dynamic_ncols=True) as bar:
        for search, task in zip(searches, tasks, strict=True):
            bar.set_postfix_str(search.dataset)
            runs.append(_run(search, task, values, output, threads or torch.get_num_threads()))
            bar.update()
    shutil.rmtree(output / "running", ignore_errors=True)
    rows = [
        _row(search, task, run["dev_f1"])
        for search, task, run in zip(searches, tasks, runs, strict=True)
    ]
    result = {
        "spacy_openmed": __version__,
        "note": NOTE,
        "backbone": first.backbone.to_dict(),
        "init_adapter": first.init_adapter,
        "settings": to_dict(first.start),
        "fixed": first.settings.fixed,
        "space": to_dict(first.settings)["space"],
        "configuration": values,
        "corpora": rows,
        "mean": {name: _mean([row[name] for row in rows]) for name in _FIGURES},
        "seconds": round(sum(run["seconds"] for run in runs), 1),
    }
    write_json(output / RESULT, result)
    with atomic_file(output / CONFIGURATION) as part:
        part.write_text(tomli_w.dumps(to_dict(space.apply(first.start, values))), encoding="utf8")
    return result


def _make(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OpenMedError(f"{output} cannot be made ({error.strerror}).") from error


def _check_adapter(search: Finished, init_adapter: Path | None) -> None:
    try:
        given = file_hash(init_adapter) if init_adapter else "none"
    except OSError as error:
        raise OpenMedError(
            f"No pre-training adapter in {init_adapter} ({error.strerror}). 'dapt' writes one."
        ) from error
    if given != search.init_adapter:
        raise OpenMedError(
            f"The searches had the pre-training adapter {search.init_adapter} (sha256), and this "
            f"is {given}. Give the same one with --init-adapter, or 'none' for none."
        )


def _task(
    search: Finished,
    train: Sequence[Document],
    dev: Sequence[Document],
    output: Path,
    init_adapter: Path | None,
) -> Task:
    """What the trials of a search got."""
    task = Search(
        train,
        dev,
        search.dataset,
        search.backbone.id,
        output,
        search.settings,
        search.start,
        init_adapter,
        search.seed,
    ).task
    for split, part, whole in (("train", task.train, train), ("dev", task.dev, dev)):
        now, then = describe(part, whole)["sha256"], search.data[split]["sha256"]
        if now != then:
            raise OpenMedError(
                f"The {split} data of '{search.dataset}' are not those of the search in "
                f"{search.folder} (sha256 {now}, then {then}). Point --corpus at the folder that "
                f"it was given, or search again."
            )
    # "auto" may be something else on this machine.
    same = space.apply(task.settings, {"optim.precision": search.precision})
    return replace(task, settings=same)


def _run(
    search: Finished, task: Task, values: space.Values, output: Path, threads: int
) -> dict[str, Any]:
    """Run the configuration on one corpus, unless that is done."""
    path = output / RUNS / f"{search.dataset}.json"
    facts = {
        "dataset": search.dataset,
        "backbone": search.backbone.sha256,
        "pre-training adapter": search.init_adapter,
        "settings": to_dict(space.apply(task.settings, values)),
        "data": search.data,
    }
    if (kept := _kept(path, facts)) is not None:
        return kept
    with Worker(task, output, threads) as worker:
        try:
            outcome = worker.run(0, values, lambda epoch, dev_f1: False)
        except Died as error:
            raise OpenMedError(
                f"The common configuration cannot be run on '{search.dataset}': {error}. More is "
                f"in {output / LOG}; runs that ended are kept."
            ) from error
    run = {
        "facts": facts,
        "dev_f1": outcome.dev_f1,
        "epochs": outcome.epochs,
        "seconds": outcome.seconds,
        "energy": outcome.energy,
    }
    write_json(path, run)
    return run


def _kept(path: Path, facts: dict[str, Any]) -> dict[str, Any] | None:
    """A run that has ended, if it is the same run."""
    run = read_json_if_there(path, "Remove it to run it again.")
    return run if run is not None and run.get("facts") == facts else None


def _row(search: Finished, task: Task, dev_f1: float) -> dict[str, Any]:
    """What the configuration costs a corpus, and the corpus's own pattern.

    RETURNS (dict): "gain" is over the settings that the search started from. Of "quarter",
        medians; numbers that were searched on a logarithmic scale have geometric ones.
    """

    def pattern(trial: Row) -> dict[str, Any]:
        known = flat(to_dict(space.apply(task.settings, trial["params"])))
        return {name: known[name] for name in _PATTERN}

    best, start = search.best["dev_f1"], search.defaults
    quarter = [pattern(trial) for trial in search.best_quarter]
    return {
        "dataset": search.dataset,
        "train_mentions": search.data["train"]["mentions"],
        "trials": len(search.rows),
        "defaults": start,
        "own_best": best,
        "common": dev_f1,
        "cost": round(best - dev_f1, 4),
        "gain": None if start is None else round(dev_f1 - start, 4),
        "best": pattern(search.best),
        "quarter": {
            "trials": [trial["number"] for trial in search.best_quarter],
            **{
                name: _median([each[name] for each in quarter], _is_log(search, name))
                for name in _PATTERN
            },
        },
    }


def _is_log(search: Finished, name: str) -> bool:
    dimension = search.settings.space.get(name)
    return dimension is not None and dimension.log


def _mean(figures: Sequence[float | None]) -> float | None:
    """None where a corpus lacks it: a mean over others could not be compared."""
    known = [figure for figure in figures if figure is not None]
    return round(statistics.fmean(known), 4) if len(known) == len(figures) else None
