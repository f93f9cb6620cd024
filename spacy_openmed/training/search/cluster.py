"""A search with several trials at a time: Ray Tune, on this machine or on a cluster.

The study stays with the driver: Ray asks it for trials and tells it how they go. What a worker
gets is a ``Task`` and the settings of a trial.
"""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ...errors import OpenMedError
from ...ray_session import connect, gpu_share
from .study import SearchStudy
from .trial import Task, TrialResult, run_trial
from .worker import describe

# A relative path, such as that of a backbone in OPENMED_HOME, means the same in a trial.
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
# Seconds that a trial which was ended has to put its network away, before its process gets another
# one. Ray's 2 are few for a large network or a busy machine.
os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", "120")


def search_on_ray(
    study: SearchStudy,
    task: Task,
    trials: int,
    workers: int,
    threads: int,
    address: str,
    ended: Callable[[], None],
) -> None:
    """Run trials until so many have finished.

    study (SearchStudy): The study, made for parallel trials.
    workers (int): Trials at a time.
    threads (int): Of torch, for each.
    address (str): Of a Ray cluster; "" starts Ray on this machine and ends it with the search.
    ended (Callable): Called after every trial that ended.
    RAISES (OpenMedError): Ray is not installed or not reachable; or trials die in a row.
    """
    if study.finished >= trials:
        # Ray takes its time to start.
        return
    ray, tune = _imported()
    driver = _Driver(study, trials, ended)
    while True:
        connect(ray, address, workers * threads)
        try:
            _run(ray, tune, driver, task, workers, threads)
            break
        except RuntimeError as error:
            # Ray ends a process before memory runs out, and Tune does not know of that end.
            if not isinstance(error.__cause__, ray.exceptions.OutOfMemoryError):
                raise
            driver.lose_running("memory ran out, and Ray ended a process")
        finally:
            ray.shutdown()
    if driver.error is not None:
        raise driver.error
    if study.finished < trials:
        # Ray takes Ctrl-C for a wish to end early, and returns.
        raise OpenMedError(
            f"The search was stopped after {study.finished} of {trials} trials. The same command "
            f"goes on."
        )


def _run(ray: Any, tune: Any, driver: "_Driver", task: Task, workers: int, threads: int) -> None:
    gpus = ray.cluster_resources().get("GPU", 0)
    with tempfile.TemporaryDirectory() as storage:
        tune.Tuner(
            tune.with_resources(
                tune.with_parameters(_trainable, task=task, threads=threads),
                {"cpu": threads, "gpu": gpu_share(workers, gpus)},
            ),
            tune_config=tune.TuneConfig(
                search_alg=_searcher(driver),
                scheduler=_scheduler(driver),
                # The searcher says when it is enough: trials that die do not count.
                num_samples=-1,
                max_concurrent_trials=workers,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(storage_path=storage, verbose=0),
        ).fit()


def _imported() -> tuple[Any, Any]:
    try:
        import ray
        from ray import tune
    except ImportError as error:
        raise OpenMedError(
            "Several trials at a time need Ray Tune: pip install 'spacy-openmed[ray]'."
        ) from error
    return ray, tune


def _trainable(config: dict[str, Any], task: Task, threads: int) -> None:
    """One trial, in a process of Ray's."""
    from ray import tune

    torch.set_num_threads(threads)
    epochs: list[float] = []

    def report(epoch: int, dev_f1: float) -> bool:
        epochs.append(dev_f1)
        # Does not return where the driver ends the trial.
        tune.report({"epochs": list(epochs)})
        return False

    with tempfile.TemporaryDirectory() as folder:
        try:
            outcome = run_trial(task, config["values"], Path(folder), report)
        except Exception as error:  # whatever it is, it ends this trial and no other
            tune.report({"died": describe(error)})
        else:
            # As text, because Ray takes nested results apart.
            tune.report({"outcome": json.dumps(outcome.to_dict())})


class _Driver:
    """Between Ray, which names trials by its own ids, and the study."""

    def __init__(self, study: SearchStudy, trials: int, ended: Callable[[], None]) -> None:
        self.study = study
        self.trials = trials
        self.ended = ended
        self.running: dict[str, Any] = {}
        # The same trials as Ray has them.
        self.of_ray: dict[str, Any] = {}
        # What each reported last.
        self.last: dict[str, dict[str, Any]] = {}
        self.pruned: set[str] = set()
        self.error: OpenMedError | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Ray saves what it runs, to go on from it; a search goes on from its study.
        return {}

    def next(self, name: str) -> dict[str, Any] | None:
        """What a new trial is to run; None where no more are needed for now."""
        self._end_lost()
        if self.study.finished + len(self.running) >= self.trials:
            return None
        try:
            trial, values = self.study.ask()
        except OpenMedError as error:
            self.error = error
            return None
        self.running[name] = trial
        return {"values": values}

    def _end_lost(self) -> None:
        """Mark trials as failed that Ray has ended without saying so.

        It does so where a process is still busy with the trial before, and would then wait for
        a trial that never ends.
        """
        for name, trial in list(self.of_ray.items()):
            if trial.status == "ERROR":
                self.last[name] = {"died": "the process that was to run it was still busy"}
                self.end(name)

    @property
    def is_over(self) -> bool:
        return self.error is not None or self.study.finished >= self.trials

    def is_hopeless(self, name: str, result: dict[str, Any]) -> bool:
        """Take what a trial reports, and say whether it is to end."""
        self.last[name] = result
        epochs = result.get("epochs")
        if epochs and self.study.report(self.running[name], len(epochs), epochs[-1]):
            self.pruned.add(name)
        return name in self.pruned

    def end(self, name: str) -> None:
        self.of_ray.pop(name, None)
        trial, last = self.running.pop(name), self.last.pop(name, {})
        if name in self.pruned:
            epochs = last["epochs"]
            # Its own account of energy ended with it.
            outcome = TrialResult(max(epochs), epochs, True, last["time_total_s"], None)
            self.study.tell(trial, outcome)
        elif "outcome" in last:
            self.study.tell(trial, TrialResult(**json.loads(last["outcome"])))
        else:
            self.study.fail(trial, reason=last.get("died", "the process that ran it died"))
        self.ended()

    def lose_running(self, reason: str) -> None:
        """Mark what was running as failed, where it ended with Ray.

        RAISES (OpenMedError): Nothing was, so that the same would happen again.
        """
        if not self.running:
            raise OpenMedError(f"No trial can be started: {reason}.")
        self.pruned.clear()
        self.study.fail(*self.running.values(), reason=reason)
        self.running.clear()
        self.of_ray.clear()
        self.last.clear()
        self.ended()


def _searcher(driver: _Driver) -> Any:
    from ray.tune.search import Searcher

    class FromStudy(Searcher):
        """Takes trials from the study; what Ray would save of it is on disk already."""

        def suggest(self, trial_id: str) -> Any:
            if driver.is_over:
                return Searcher.FINISHED
            return driver.next(trial_id)

        def on_trial_complete(
            self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
        ) -> None:
            driver.end(trial_id)

        def save(self, checkpoint_path: str) -> None:
            pass

        def restore(self, checkpoint_path: str) -> None:
            pass

    return FromStudy()


def _scheduler(driver: _Driver) -> Any:
    from ray.tune.schedulers import FIFOScheduler

    class Pruning(FIFOScheduler):  # type: ignore[misc]
        """Ends the trials that the study finds hopeless."""

        def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
            driver.of_ray[trial.trial_id] = trial
            super().on_trial_add(tune_controller, trial)

        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            if driver.is_hopeless(trial.trial_id, result):
                return str(FIFOScheduler.STOP)
            return str(FIFOScheduler.CONTINUE)

    return Pruning()  # type: ignore[no-untyped-call]
