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
from spacy_openmed.bulk.ledger import folder_of
from spacy_openmed.bulk.records import Found, Part, Skipped
from spacy_openmed.bulk.results import Result
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
    # Parts of two: of what dies the neighbour is lost, too.
    without.write_text("".join(rows[:8] + rows[10:]))
    expected = tmp_path / "expected.jsonl"
    checkpoints = (str(make_checkpoint(tmp_path / "model", tiny_backbone)),)
    run.annotate(options(without, expected, adapter, part_documents=2, checkpoints=checkpoints))

    def find(chosen: Any) -> Models:
        found = Models.find(chosen)
        return Deadly(**vars(found), remembers=tmp_path / "died")

    monkeypatch.setattr(run, "Models", SimpleNamespace(find=find))
    # Each death takes the start of a process.
    monkeypatch.setattr(cluster, "_ATTEMPTS", 2)
    output = tmp_path / "out.jsonl"
    wanted = options(
        path, output, adapter, part_documents=2, workers=2, threads=1, checkpoints=checkpoints
    )
    summary = run.annotate(wanted)
    assert content(output) == content(expected)
    assert summary is not None and summary.documents == 22
    assert summary.reasons == {"the process that annotated it died": 2}
    lost = summary.named["the process that annotated it died"]
    assert [one.where for one in lost] == ["document 'd8'", "document 'd9'"]
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
        attempts = cluster._Attempts()
        remote = SimpleNamespace(begin=SimpleNamespace(remote=lambda *args: attempts.begin(*args)))
        monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda value: value))
        missing = run.missing()
        wanted = {i: (run.sources[i], run.ledger.done(i)) for i in missing}
        import pyarrow as pa

        parts = list(cluster._Reader(run.options, wanted)(pa.table({"source": missing})))
        worker = cluster._Worker(run.options, run.models, run.format, threads, remote, 3)
        stop = stops.pop(0)
        for number, part in enumerate(reversed(parts)):
            if stop and number == 2:
                raise ray.exceptions.RayError("A node went down.\nTraces.")
            (row,) = worker(part).to_pylist()
            yield Result.from_bytes(row["result"]), row["given up"]

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
        yield Result(0, 0, True, 0, 0, {}, [Skipped("document 'd0'", cluster._DIED)]), True

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

    def stop(self: Annotator, part: Part, writer: Any) -> Result:
        if part.last:
            raise KeyboardInterrupt
        return original(self, part, writer)

    output = tmp_path / "out.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(annotator.Annotator, "annotate", stop)
        with pytest.raises(KeyboardInterrupt):
            run.annotate(options(source, output, adapter))
    monkeypatch.setattr(cluster, "_imported", fake_ray)

    def results(ray: Any, run: Any, threads: int) -> Any:
        yield Result(0, 5, True, 0, 0, {}, [Skipped("document 'd20'", cluster._DIED)]), True

    monkeypatch.setattr(cluster, "_results", results)
    summary = run.annotate(options(source, output, adapter, workers=2, resume=True))
    assert summary is not None and summary.documents == 19
    assert summary.reasons[cluster._DIED] == 1 and len(output.read_text().splitlines()) == 19


def test_a_part_that_was_begun_too_often_is_given_up(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa

    chosen = options(tmp_path / "in.jsonl", tmp_path / "out.jsonl", adapter)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda value: value))
    attempts = SimpleNamespace(begin=SimpleNamespace(remote=lambda *args: 4))
    monkeypatch.setattr(
        annotator.Annotator, "annotate", lambda *args: pytest.fail("it would die again")
    )
    worker = cluster._Worker(chosen, Models.find(chosen), "jsonl", 1, attempts, 3)
    part = Part(0, 2, skipped=[Skipped("in.jsonl:1", "bad")], last=True)
    (row,) = worker(pa.table({"part": [part.to_bytes()]})).to_pylist()
    result = Result.from_bytes(row["result"])
    assert row["given up"] and result.number == 2 and result.last
    assert result.skipped == part.skipped
