"""A search with several trials at a time on Ray, and one whose trials several processes share."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_search import SETTINGS, START, plan_in
from test_search import _write_settings as write_settings
from test_search import corpus as corpus

from spacy_openmed.errors import OpenMedError
from spacy_openmed.training.search import cluster, run, together
from spacy_openmed.training.search.run import search
from spacy_openmed.training.search.study import MAX_DEATHS, SearchStudy
from spacy_openmed.training.search.trial import Died, TrialResult


@pytest.fixture
def python_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's processes import what the driver imports."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))


def test_a_trial_that_ray_has_ended_is_not_waited_for(tmp_path: Path) -> None:
    driver = cluster._Driver(SearchStudy(tmp_path, SETTINGS, START, 1, 2), 1, lambda: None)
    assert driver.next("a") and driver.next("b") is None
    driver.of_ray["a"] = SimpleNamespace(status="RUNNING")
    assert driver.next("b") is None
    driver.of_ray["a"] = SimpleNamespace(status="ERROR")
    assert driver.next("b") and list(driver.running) == ["b"]
    assert "still busy" in driver.study.failures()[0]["reason"]


@pytest.mark.timeout(600)  # Ray alone takes a minute to start on a busy machine
def test_two_workers_finish_a_search_and_prune(
    monkeypatch: pytest.MonkeyPatch, tiny_backbone: Path, tmp_path: Path, python_path: None
) -> None:
    settings = replace(SETTINGS, pruner_startup_trials=1)
    # Ray's processes begin elsewhere.
    monkeypatch.chdir(tiny_backbone.parent)
    plan = plan_in(tmp_path, Path(tiny_backbone.name), settings=settings)
    result = search(plan, 6, workers=2, threads=1)
    assert len(result["finished"]) == 6 and not result["failed"]
    assert result["finished"][0]["defaults"]
    states = [row["state"] for row in result["finished"]]
    for row in result["finished"]:
        assert len(row["epochs"]) == (2 if row["state"] == "COMPLETE" else 1)
    assert result["best"]["dev_f1"] == max(
        row["dev_f1"] for row in result["finished"] if row["state"] == "COMPLETE"
    )
    assert states.count("COMPLETE") >= 2
    # One worker goes on where two stopped.
    more = search(plan, 7, threads=1)
    assert more["finished"][:6] == result["finished"]


def test_without_ray_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tiny_backbone: Path, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OpenMedError, match=r"pip install 'spacy-openmed\[ray\]'"):
        search(plan_in(tmp_path, tiny_backbone), 2, workers=2)


def test_an_address_that_nobody_answers_is_refused(
    monkeypatch: pytest.MonkeyPatch, tiny_backbone: Path, tmp_path: Path
) -> None:
    class Ray:
        @staticmethod
        def init(address: str, log_to_driver: bool) -> None:
            raise ConnectionError("Could not find any running Ray instance")

    monkeypatch.setattr(cluster, "_imported", lambda: (Ray, None))
    with pytest.raises(OpenMedError, match=r"reached at '10\.0\.0\.9:6379'.*any running Ray"):
        search(plan_in(tmp_path, tiny_backbone), 2, address="10.0.0.9:6379")


def test_several_processes_and_several_trials_at_once_are_refused(
    monkeypatch: pytest.MonkeyPatch, tiny_backbone: Path, tmp_path: Path
) -> None:

    class Two:
        num_processes = 2
        is_main_process = True

    monkeypatch.setattr(run, "process_group", Two)
    with pytest.raises(OpenMedError, match="not both"):
        search(plan_in(tmp_path, tiny_backbone), 2, workers=2)


def fakes(tuner: type, out_of_memory: type[Exception] = MemoryError) -> tuple[Any, Any]:
    """What stands for ``ray`` and ``ray.tune``, with a Tuner of the test's."""
    tune = SimpleNamespace(
        Tuner=tuner,
        with_resources=lambda *args: None,
        with_parameters=lambda *args, **kwargs: None,
        TuneConfig=lambda **kwargs: kwargs,
        RunConfig=lambda **kwargs: None,
    )
    ray = SimpleNamespace(
        init=lambda **kwargs: None,
        shutdown=lambda: None,
        cluster_resources=lambda: {},
        exceptions=SimpleNamespace(OutOfMemoryError=out_of_memory),
    )
    return ray, tune


def test_a_search_that_ray_ends_early_has_not_finished(
    monkeypatch: pytest.MonkeyPatch, tiny_backbone: Path, tmp_path: Path
) -> None:
    """Ray returns from Ctrl-C as from the end; no settings may be taken from that."""

    class Tuner:
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

        def fit(self) -> None: ...

    monkeypatch.setattr(cluster, "_imported", lambda: fakes(Tuner))
    with pytest.raises(OpenMedError, match="stopped after 0 of 2 trials"):
        search(plan_in(tmp_path, tiny_backbone), 2, workers=2)
    assert not (tmp_path / "best.toml").exists()


def test_a_search_goes_on_where_ray_ran_out_of_memory(
    monkeypatch: pytest.MonkeyPatch, tiny_backbone: Path, tmp_path: Path
) -> None:
    class OutOfMemoryError(Exception):
        """Ray's own."""

    runs: list[int] = []

    class Tuner:
        def __init__(self, trainable: Any, tune_config: dict[str, Any], run_config: Any) -> None:
            self.config = tune_config

        def fit(self) -> None:
            runs.append(len(runs))
            searcher, scheduler = self.config["search_alg"], self.config["scheduler"]
            if len(runs) < 3:
                assert searcher.suggest("first") and searcher.suggest("second")
                raise RuntimeError("unexpected") from OutOfMemoryError("7.9GB used")
            for name in ("third", "fourth"):
                assert searcher.suggest(name)
                outcome = TrialResult(50.0, [50.0], False, 1.0, None)
                trial = SimpleNamespace(trial_id=name)
                scheduler.on_trial_result(None, trial, {"outcome": json.dumps(outcome.to_dict())})
                searcher.on_trial_complete(name)

    monkeypatch.setattr(cluster, "_imported", lambda: fakes(Tuner, OutOfMemoryError))
    result = search(plan_in(tmp_path, tiny_backbone), 2, workers=2)
    assert len(runs) == 3 and len(result["finished"]) == 2
    assert len(result["failed"]) == 4
    assert all("memory ran out" in row["reason"] for row in result["failed"])


def test_memory_that_is_short_from_the_start_ends_a_search(
    monkeypatch: pytest.MonkeyPatch, tiny_backbone: Path, tmp_path: Path
) -> None:
    class OutOfMemoryError(Exception):
        """Ray's own."""

    class Tuner:
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

        def fit(self) -> None:
            raise RuntimeError("unexpected") from OutOfMemoryError("7.9GB used")

    monkeypatch.setattr(cluster, "_imported", lambda: fakes(Tuner, OutOfMemoryError))
    with pytest.raises(OpenMedError, match="No trial can be started: memory ran out"):
        search(plan_in(tmp_path, tiny_backbone), 2, workers=2)


@pytest.mark.parametrize("everywhere", [True, False])
def test_what_one_of_several_processes_meets_alone_ends_all(
    monkeypatch: pytest.MonkeyPatch, tiny_backbone: Path, tmp_path: Path, everywhere: bool
) -> None:
    """The others stand in the middle of the trial: nothing more can be agreed with them."""
    orders = iter([(0, {}), (1, {}), None])
    ran: list[Path] = []

    def run_trial(task: Any, values: Any, folder: Path, report: Any) -> None:
        ran.append(folder)
        raise Died("for a reason", everywhere=everywhere)

    monkeypatch.setattr(together, "_share", lambda content: next(orders))
    monkeypatch.setattr(together, "run_trial", run_trial)
    follower = together.Together(plan_in(tmp_path, tiny_backbone).task, tmp_path)
    if everywhere:
        follower.follow()
        assert [folder.name for folder in ran] == ["0", "1"]
    else:
        with pytest.raises(Died):
            follower.follow()
        assert len(ran) == 1


def test_trials_that_end_together_are_one_death(tmp_path: Path) -> None:
    """Ray ends with all that run on it, when one process takes too much memory."""
    study = SearchStudy(tmp_path, SETTINGS, START, 1, 2, parallel=True)
    driver = cluster._Driver(study, 20, lambda: None)
    for round in range(MAX_DEATHS):
        for name in range(8):
            assert driver.next(f"{round}-{name}")
        driver.lose_running("memory ran out")
        assert not driver.running
    assert len(study.failures()) == 8 * MAX_DEATHS
    assert driver.next("one more") is None
    assert "trials in a row died" in str(driver.error)
    with pytest.raises(OpenMedError, match="No trial can be started: memory ran out"):
        driver.lose_running("memory ran out")


def test_ray_is_not_started_for_a_finished_search(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    study = SearchStudy(tmp_path, SETTINGS, START, 1, 2, parallel=True)
    monkeypatch.setattr(cluster, "_imported", lambda: pytest.fail("started"))
    task: Any = None
    cluster.search_on_ray(study, task, 0, 2, 1, "", lambda: None)


def test_whatever_ends_the_first_process_is_not_tried_again(tmp_path: Path) -> None:
    study = SearchStudy(tmp_path, SETTINGS, START, 1, 2)

    def fail(number: int, values: Any, report: Any) -> Any:
        raise OSError("no disk")

    with pytest.raises(OSError, match="no disk"):
        run._one_by_one(study, 3, fail, lambda: None, shared=True)
    assert [row["reason"] for row in study.failures()] == ["OSError: no disk"]


def test_the_first_process_marks_such_a_trial_and_ends(tiny_backbone: Path, tmp_path: Path) -> None:
    study = SearchStudy(tmp_path, SETTINGS, START, 1, 2)

    def die(number: int, values: Any, report: Any) -> Any:
        raise Died("out of memory")

    with pytest.raises(OpenMedError, match="Trial 0 died in one of several processes"):
        run._one_by_one(study, 3, die, lambda: None, shared=True)
    assert [row["reason"] for row in study.failures()] == ["out of memory"]


@pytest.mark.timeout(600)
def test_the_trials_of_two_processes_are_those_of_one(
    tiny_backbone: Path, tmp_path: Path, corpus: Path
) -> None:
    """The real command under torchrun: the same draws, and F1 within rounding."""
    config = write_settings(tmp_path)
    results = []
    for name, launcher in {
        "one": ["-m"],
        "two": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"],
    }.items():
        command = [
            sys.executable, *launcher, "spacy_openmed", "search", "--dataset", "ncbi",
            "--corpus", str(corpus), "--backbone", str(tiny_backbone), "--config", str(config),
            "--trials", "3", "--no-plots", "--output", str(tmp_path / name),
        ]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        results.append(json.loads((tmp_path / name / "search.json").read_text()))
        # Only one process speaks.
        assert done.stdout.count("best: trial") == 1
    one, two = results
    assert [r["params"] for r in one["finished"]] == [r["params"] for r in two["finished"]]
    assert [r["number"] for r in two["finished"]] == [0, 1, 2] and not two["failed"]
    for a, b in zip(one["finished"], two["finished"], strict=True):
        assert a["epochs"] == pytest.approx(b["epochs"], abs=0.01)
