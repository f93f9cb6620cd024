"""Bulk annotation on Ray: the same output, and workers that die."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from checkpoint_files import make_checkpoint
from test_annotate_runs import OUTPUTS, TEXTS, content, options
from test_annotate_runs import adapter as adapter
from test_annotate_runs import source as source

from spacy_openmed.bulk import annotator, cluster, run
from spacy_openmed.bulk.annotator import Annotator, Models
from spacy_openmed.bulk.deaths import DIED, Deaths
from spacy_openmed.bulk.ledger import folder_of
from spacy_openmed.bulk.records import Found, Part, Skipped
from spacy_openmed.bulk.results import Result
from spacy_openmed.corpora.documents import Document
from spacy_openmed.errors import OpenMedError

pytestmark = pytest.mark.usefixtures("one_torch_thread")

# Kills the process that is to annotate it: always, or the first time.
DEADLY = "This text is deadly."
DEADLY_ONCE = "This text is deadly once."


@dataclass(frozen=True)
class Deadly(Models):
    """Models that some texts kill.

    remembers (Path): Made at the first death of the second text.
    """

    remembers: Path = Path()

    def load(self) -> Annotator:
        return Dying(super().load().predictors, self.remembers)


class Dying(Annotator):
    def __init__(self, predictors: Any, remembers: Path) -> None:
        super().__init__(predictors)
        self.remembers = remembers

    def __call__(self, texts: Any) -> list[list[Found]]:
        if DEADLY in texts:
            os._exit(1)
        if DEADLY_ONCE in texts and not self.remembers.exists():
            self.remembers.touch()
            os._exit(1)
        return super().__call__(texts)


@pytest.mark.timeout(900)  # Ray takes minutes to start on a busy machine
def test_two_workers_give_the_same_and_outlive_texts_that_kill(
    adapter: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ray's processes import what the driver imports.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))
    texts = [f"{number} {TEXTS[number % len(TEXTS)]}" for number in range(24)]
    texts[9], texts[17] = DEADLY, DEADLY_ONCE
    path, without = tmp_path / "in.jsonl", tmp_path / "without.jsonl"
    rows = [json.dumps({"id": f"d{i}", "text": text}) + "\n" for i, text in enumerate(texts)]
    path.write_text("".join(rows))
    # Its neighbour in a part of two is not lost.
    without.write_text("".join(rows[:9] + rows[10:]))
    expected = tmp_path / "expected.jsonl"
    checkpoints = (str(make_checkpoint(tmp_path / "model", tiny_backbone)),)
    run.annotate(options(without, expected, adapter, part_documents=2, checkpoints=checkpoints))

    def find(chosen: Any) -> Models:
        found = Models.find(chosen)
        return Deadly(**vars(found), remembers=tmp_path / "died")

    monkeypatch.setattr(run, "Models", SimpleNamespace(find=find))
    output = tmp_path / "out.jsonl"
    wanted = options(
        path, output, adapter, part_documents=2, workers=2, threads=1, checkpoints=checkpoints
    )
    summary = run.annotate(wanted)
    assert content(output) == content(expected)
    assert summary is not None and summary.documents == 23
    assert summary.reasons == {DIED: 1}
    assert [one.where for one in summary.named[DIED]] == ["document 'd9'"]
    assert (tmp_path / "died").exists()


def test_without_ray_it_says_how_to_get_it(
    adapter: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    output = tmp_path / "out.jsonl"
    with pytest.raises(OpenMedError, match=r"pip install 'spacy-openmed\[ray\]'"):
        run.annotate(options(source, output, adapter, workers=2))
    # One worker goes on from there.
    assert run.annotate(options(source, output, adapter, resume=True)) is not None


def actor(instance: Any) -> Any:
    """As a handle of Ray's, but at once."""
    methods = ("begin", "mark", "release", "end", "in_a_row")
    return SimpleNamespace(
        **{name: SimpleNamespace(remote=getattr(instance, name)) for name in methods}
    )


def fake_ray(**changes: Any) -> Any:
    class RayError(Exception): ...

    return SimpleNamespace(
        init=lambda **kwargs: None,
        shutdown=lambda: None,
        exceptions=SimpleNamespace(RayError=RayError),
        data=SimpleNamespace(
            DataContext=SimpleNamespace(
                get_current=lambda: SimpleNamespace(
                    target_max_block_size=1, enable_progress_bars=True
                )
            )
        ),
        **changes,
    )


def test_an_address_that_nobody_answers_is_refused(
    adapter: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**kwargs: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance")

    ray = fake_ray()
    ray.init = init
    monkeypatch.setattr(cluster, "_imported", lambda: ray)
    with pytest.raises(OpenMedError, match=r"reached at '10\.0\.0\.9:6379'.*any running Ray"):
        run.annotate(options(source, tmp_path / "out.jsonl", adapter, address="10.0.0.9:6379"))


@pytest.mark.parametrize("name", OUTPUTS.values())
def test_parts_in_any_order_with_a_stop_between_give_the_same(
    adapter: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The driver's side, with the workers' classes but without Ray's processes."""
    whole = tmp_path / "whole" / name
    run.annotate(options(source, whole, adapter))
    ray = fake_ray()
    monkeypatch.setattr(cluster, "_imported", lambda: ray)
    stops = [True, False]

    def results(ray: Any, run: Any, threads: int) -> Any:
        monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda value: value))
        missing = run.missing()
        wanted = {i: (run.sources[i], run.ledger.done(i)) for i in missing}
        import pyarrow as pa

        parts = list(cluster._Reader(run.options, wanted)(pa.table({"source": missing})))
        worker = cluster._Worker(run.options, run.models, run.format, threads, actor(Deaths()))
        stop = stops.pop(0)
        for number, part in enumerate(reversed(parts)):
            if stop and number == 2:
                raise ray.exceptions.RayError("A node went down.\nTraces.")
            (row,) = worker(part).to_pylist()
            yield Result.from_bytes(row["result"])

    monkeypatch.setattr(cluster, "_results", results)
    output = tmp_path / "out" / name
    with pytest.raises(OpenMedError, match=r"A node went down\. What is done is kept"):
        run.annotate(options(source, output, adapter, workers=2, threads=1))
    assert len(list(folder_of(output).glob("*.part"))) == 2
    run.annotate(options(source, output, adapter, workers=2, threads=1, resume=True))
    assert content(output) == content(whole)


def test_workers_that_do_nothing_but_die_end_the_run(
    adapter: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_imported", fake_ray)

    def results(ray: Any, run: Any, threads: int) -> Any:
        yield Result(0, 0, True, 0, 0, {}, [Skipped("document 'd0'", DIED)])

    monkeypatch.setattr(cluster, "_results", results)
    output = tmp_path / "out.jsonl"
    with pytest.raises(OpenMedError, match=r"die without annotating anything.*--resume"):
        run.annotate(options(source, output, adapter, workers=2))
    # Not taken for done.
    assert not list(folder_of(output).glob("*.part"))
    assert run.annotate(options(source, output, adapter, resume=True)) is not None


def test_a_run_of_which_only_what_kills_is_left_ends(
    adapter: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = annotator.Annotator.annotate

    def stop(self: Annotator, part: Part, *args: Any, **kwargs: Any) -> Result:
        if part.last:
            raise KeyboardInterrupt
        return original(self, part, *args, **kwargs)

    output = tmp_path / "out.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(annotator.Annotator, "annotate", stop)
        with pytest.raises(KeyboardInterrupt):
            run.annotate(options(source, output, adapter))
    monkeypatch.setattr(cluster, "_imported", fake_ray)

    def results(ray: Any, run: Any, threads: int) -> Any:
        yield Result(0, 5, True, 0, 0, {}, [Skipped("document 'd20'", DIED)])

    monkeypatch.setattr(cluster, "_results", results)
    summary = run.annotate(options(source, output, adapter, workers=2, resume=True))
    assert summary is not None and summary.documents == 19
    assert summary.reasons[DIED] == 1 and len(output.read_text().splitlines()) == 19


def test_workers_that_died_too_often_in_a_row_say_so(
    adapter: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa

    chosen = options(source, tmp_path / "out.jsonl", adapter, workers=2)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda value: value))
    notes = Deaths()
    held = actor(notes)
    worker = cluster._Worker(chosen, Models.find(chosen), "jsonl", 1, held)
    part = Part(0, 2, [Document("d1", DEADLY, [])], last=True)
    batch = pa.table({"part": [part.to_bytes()]})

    def die(*args: Any, **kwargs: Any) -> Result:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(annotator.Annotator, "annotate", die)
        # Who is dead tells nobody.
        patch.setattr(held.release, "remote", lambda *args: None)
        # The first begin comes before the first death.
        for _ in range(2 * cluster._DEATHS + 1):
            assert worker.notes.in_a_row() < 2 * cluster._DEATHS
            with pytest.raises(KeyboardInterrupt):
                worker(batch)
    assert worker(batch).to_pylist() == [{"result": None}]
    # Others have done something since.
    notes.begin(0, 3, 1)
    notes.end(0, 3)
    (row,) = worker(batch).to_pylist()
    assert Result.from_bytes(row["result"]).skipped == [("document 'd1'", DIED)]


def test_a_worker_that_says_it_is_of_no_use_ends_the_run(
    adapter: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa

    class Data:
        """What Ray Data would give: a part that is done, and no more."""

        def map_batches(self, *args: Any, **kwargs: Any) -> "Data":
            return self

        def iter_batches(self, **kwargs: Any) -> Any:
            done = Result(0, 0, False, 4, 20, {}, [], b"").to_bytes()
            yield pa.table({"result": pa.array([done, None], pa.binary())})

    ray = fake_ray(
        cluster_resources=dict, remote=lambda **kwargs: lambda made: SimpleNamespace(remote=made)
    )
    ray.data.ActorPoolStrategy = lambda **kwargs: None
    ray.data.from_items = lambda *args, **kwargs: Data()
    monkeypatch.setattr(cluster, "_imported", lambda: ray)
    output = tmp_path / "out.jsonl"
    with pytest.raises(OpenMedError, match=r"die without annotating anything.*--resume"):
        run.annotate(options(source, output, adapter, workers=2))
    assert len(list(folder_of(output).glob("*.part"))) == 1


def test_gpus_that_ray_does_not_have_are_not_waited_for(
    adapter: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = fake_ray(cluster_resources=dict)
    monkeypatch.setattr(cluster, "_imported", lambda: ray)
    chosen = options(source, tmp_path / "out.jsonl", adapter, address="10.0.0.9:6379", gpu_id=0)
    with pytest.raises(OpenMedError, match=r"have no GPU\. --gpu-id -1 takes their CPUs"):
        run.annotate(chosen)
