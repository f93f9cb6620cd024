"""A search with several trials at a time on Ray, and one whose trials several processes share."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_search import SETTINGS, plan_in
from test_search import _write_settings as write_settings
from test_search import corpus as corpus

from spacy_openmed.errors import OpenMedError
from spacy_openmed.training.search import cluster
from spacy_openmed.training.search.run import search


@pytest.fixture
def python_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's processes import what the driver imports."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))


@pytest.mark.timeout(600)  # Ray alone takes a minute to start on a busy machine
def test_two_workers_finish_a_search_and_prune(
    tiny_backbone: Path, tmp_path: Path, python_path: None
) -> None:
    settings = replace(SETTINGS, pruner_startup_trials=1)
    plan = plan_in(tmp_path, tiny_backbone, settings=settings)
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
    from spacy_openmed.training.search import run

    class Two:
        num_processes = 2
        is_main_process = True

    monkeypatch.setattr(run, "process_group", Two)
    with pytest.raises(OpenMedError, match="not both"):
        search(plan_in(tmp_path, tiny_backbone), 2, workers=2)


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
