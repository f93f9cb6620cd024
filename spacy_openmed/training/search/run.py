"""The search: trials until enough have finished, and what came of them."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tomli_w
import torch
from tqdm import tqdm

from ... import backbones
from ...about import __version__
from ...corpora.documents import Document, labels_of
from ...errors import OpenMedError
from ...files import atomic_file, only_one, write_json
from ...precision import resolve_precision
from .. import begun
from ..begun import RUN
from ..energy import total
from ..finetune import file_hash, learnable
from ..processes import process_group
from ..processes import threads as threads_of_each
from ..settings import FinetuneSettings, SearchSettings, to_dict
from ..share import describe, share
from . import space
from .study import STUDY, SearchStudy
from .together import Together
from .trial import Died, Task, TrialResult
from .worker import Worker
from .worker import describe as describe_error

RESULT = "search.json"
BEST = "best.toml"
LOCK = "search.lock"


@dataclass(frozen=True)
class Search:
    """What a search is about. No test split comes near it: it is given documents.

    train, dev (Sequence[Document]): Annotated documents of the whole splits.
    dataset (str): Id of the corpus.
    backbone (str): Backbone id or folder.
    output (Path): Gets ``study.db``, ``search.json`` and ``best.toml``.
    settings (SearchSettings): Space, shares and pruner.
    start (FinetuneSettings): Where the search starts from, and what the gain is counted from.
    init_adapter (Path | None): Pre-training adapter.
    seed (int): Of what is drawn; that of training is in ``start``.
    """

    train: Sequence[Document]
    dev: Sequence[Document]
    dataset: str
    backbone: str
    output: Path
    settings: SearchSettings
    start: FinetuneSettings
    init_adapter: Path | None = None
    seed: int = 1

    @property
    def task(self) -> Task:
        """What every trial gets: shares that can be learned from, where the whole can be."""
        dev = share(self.dev, self.settings.dev_characters)
        return Task(
            share(self.train, self.settings.train_characters, labels_of(dev)),
            dev,
            self.dataset,
            # A trial may run in another working folder.
            str(Path(self.backbone).resolve()) if Path(self.backbone).is_dir() else self.backbone,
            self.init_adapter and self.init_adapter.resolve(),
            space.apply(self.start, self.settings.fixed),
        )


def search(
    plan: Search,
    trials: int,
    workers: int = 1,
    threads: int = 0,
    address: str = "",
) -> dict[str, Any]:
    """Run trials until so many have finished, and write what came of them.

    Trials that are there already count, so that a search that was killed goes on, and one of 20
    trials can be made one of 40. With one worker the outcome depends on the seed alone.

    plan (Search): What to search.
    trials (int): Finished trials wanted: run to their end, or pruned.
    workers (int): Trials at a time; more than one, or a cluster, needs Ray.
    threads (int): Of torch, for each worker; 0 shares those of this process.
    address (str): Of a Ray cluster, "" for none.
    RETURNS (dict): What is also written to ``output/search.json``.
    RAISES (OpenMedError): A space that makes no sense; nothing that can be learned; a study in
        ``output`` of another space, dataset or backbone, or one that is being searched; trials
        that die one after another; no Ray for several workers.
    """
    space.check(plan.settings, plan.start)
    _check_continued(plan)
    processes = process_group()
    if processes.num_processes > 1 and (workers > 1 or address):
        raise OpenMedError("Several processes for a trial (torchrun), or several trials: not both.")
    ref = backbones.reference(plan.backbone)
    backbones.find(ref)
    task = plan.task
    # Else every trial would find out by itself.
    learnable(task.train, task.dev)
    facts = {
        "dataset": plan.dataset,
        "backbone": ref.sha256,
        "settings": to_dict(plan.settings),
        "start": to_dict(plan.start),
        "pre-training adapter": file_hash(plan.init_adapter) if plan.init_adapter else "none",
        "precision": resolve_precision(task.settings.optim.precision),
        "seed": plan.seed,
        "data": {
            "train": describe(task.train, plan.train),
            "dev": describe(task.dev, plan.dev),
        },
    }
    together = Together(task, plan.output)
    if not processes.is_main_process:
        together.follow()
        return _result_of_main(plan.output / RESULT)
    with only_one(plan.output / LOCK, "search"):
        if not begun.check(plan.output / RUN, facts):
            if (plan.output / STUDY).exists():
                raise OpenMedError(
                    f"{plan.output} has a study, but no {RUN} to tell of what. Choose another "
                    f"--output."
                )
            begun.write(plan.output / RUN, facts)
        study = SearchStudy(
            plan.output,
            plan.settings,
            plan.start,
            plan.seed,
            space.most_epochs(plan.settings, task.settings),
            parallel=workers > 1 or bool(address),
        )
        with _Bar(study, trials) as bar:
            if study.parallel:
                from .cluster import search_on_ray

                search_on_ray(
                    study,
                    task,
                    trials,
                    workers,
                    threads or threads_of_each(workers),
                    address,
                    bar.update,
                )
            elif processes.num_processes > 1:
                _one_by_one(study, trials, together.run, bar.update, shared=True)
            else:
                with Worker(task, plan.output, threads or torch.get_num_threads()) as worker:
                    _one_by_one(study, trials, worker.run, bar.update)
        shutil.rmtree(plan.output / "running", ignore_errors=True)
        result = _result(plan, study, facts, ref.to_dict())
        _write(plan, result)
    if processes.num_processes > 1:
        together.release()
    return result


def _result_of_main(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise OpenMedError(f"The first process has ended the search without a {path}.")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf8"))
    return found


def _check_continued(plan: Search) -> None:
    given = [name for name in plan.settings.space if name.startswith("lora.")]
    shape = [name for name in given if name != "lora.dropout"]
    if plan.init_adapter is not None and plan.start.init == "continue" and shape:
        raise OpenMedError(
            f"[space] {', '.join(shape)}: the LoRA goes on from pre-training with the shape it "
            f'has. Set init = "merge" in the settings that the search starts from, or leave '
            f"these out."
        )


def _one_by_one(
    study: SearchStudy,
    trials: int,
    run: Callable[[int, space.Values, Callable[[int, float], bool]], TrialResult],
    ended: Callable[[], None],
    shared: bool = False,
) -> None:
    while study.finished < trials:
        trial, values = study.ask()
        try:
            outcome = run(trial.number, values, partial(study.report, trial))
        except Died as error:
            study.fail(trial, reason=str(error))
            if shared and not error.everywhere:
                raise OpenMedError(
                    f"Trial {trial.number} died in one of several processes: {error}. It is "
                    f"marked, and the same command goes on without it; torchrun --max-restarts "
                    f"gives it again by itself."
                ) from error
        except Exception as error:
            # It ends the search, whose next session is not to begin with this trial again.
            study.fail(trial, reason=describe_error(error))
            raise
        else:
            study.tell(trial, outcome)
        ended()


class _Bar:
    """How many trials have finished, the best F1 so far, and how many died."""

    def __init__(self, study: SearchStudy, trials: int) -> None:
        self.study = study
        self.trials = trials

    def __enter__(self) -> "_Bar":
        self._bar = tqdm(
            total=self.trials,
            initial=min(self.study.finished, self.trials),
            desc="search",
            unit="trial",
            dynamic_ncols=True,
        )
        return self

    def __exit__(self, *args: object) -> None:
        self._bar.close()

    def update(self) -> None:
        done = [row["dev_f1"] for row in self.study.rows() if row["state"] == "COMPLETE"]
        best = f"best dev F1 {max(done):.2f}" if done else "nothing finished"
        died = len(self.study.failures())
        self._bar.set_postfix_str(f"{best}, {died} failed" if died else best)
        self._bar.update(self.study.finished - self._bar.n)


def _result(
    plan: Search, study: SearchStudy, facts: dict[str, Any], backbone: dict[str, str]
) -> dict[str, Any]:
    rows = study.rows()
    complete = [row for row in rows if row["state"] == "COMPLETE"]
    if not complete:
        raise OpenMedError(f"Of {len(rows)} trials none ran to its end: choose another pruner.")
    # The first of equals, whatever came later.
    best = max(complete, key=lambda row: row["dev_f1"])
    start = next((row for row in rows if row["defaults"]), None)
    measured = [row["energy"] for row in rows if row["energy"] is not None]
    return {
        "spacy_openmed": __version__,
        "dataset": plan.dataset,
        "backbone": backbone,
        "seed": plan.seed,
        "settings": facts["start"],
        "fixed": plan.settings.fixed,
        "space": facts["settings"]["space"],
        "pruner": plan.settings.pruner,
        "init_adapter": facts["pre-training adapter"],
        "precision": facts["precision"],
        "data": facts["data"],
        "defaults": start and {name: start[name] for name in ("number", "dev_f1")},
        "best": {name: best[name] for name in ("number", "dev_f1", "params")},
        "gain": best["dev_f1"] - start["dev_f1"] if start else None,
        "finished": [{k: v for k, v in row.items() if k != "energy"} for row in rows],
        "failed": study.failures(),
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        "energy": total(measured) if measured else None,
    }


def _write(plan: Search, result: dict[str, Any]) -> None:
    write_json(plan.output / RESULT, result)
    # What held in the search alone, such as fewer epochs, is left out.
    best = to_dict(space.apply(plan.start, result["best"]["params"]))
    with atomic_file(plan.output / BEST) as part:
        part.write_text(tomli_w.dumps(best), encoding="utf8")
