"""Runs of bulk annotation: what is found, going on after a stop, refusals, the command."""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import spacy
import torch
import typer
from checkpoint_files import SCHEMES, make_checkpoint
from test_component import make_adapter
from typer.testing import CliRunner

from spacy_openmed import hub, inference
from spacy_openmed.bulk import annotator, progress, run
from spacy_openmed.bulk.ledger import folder_of
from spacy_openmed.bulk.options import Options
from spacy_openmed.bulk.records import Found
from spacy_openmed.bulk.writers import docbin
from spacy_openmed.cli.annotate import annotate as command
from spacy_openmed.errors import OpenMedError

pytestmark = pytest.mark.usefixtures("one_torch_thread")

TEXTS = [
    "Patients with hereditary breast and ovarian cancer carry BRCA1 mutations.",
    "CYP)-induced nephrotoxicity, leukemia\nand p53-deficient tumors of mice.",
    "",
    "They were treated with IL-2 therapy for the syndrome.",
    "α-synuclein is expressed in neurons.\r\nThe drug was toxic.",
]
OUTPUTS = {
    "jsonl": "out.jsonl",
    "parquet": "out.parquet",
    "docbin": "out.spacy",
    "pubtator": "out.pubtator",
    "bioc": "out.xml",
    "bioc json": "out.json",
    "brat": "out",
}


@pytest.fixture(scope="session")
def adapter(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(tiny_backbone, tmp_path_factory.mktemp("adapters") / "a")


@pytest.fixture(scope="session")
def other(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters") / "b"
    return make_adapter(tiny_backbone, folder, "bc2gm", ("GENE",), seed=1)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    rows = [{"id": f"d{i}", "text": TEXTS[i % len(TEXTS)]} for i in range(23)]
    lines = [json.dumps(row) for row in rows]
    lines[7] = '{"id": "d7"}'
    path.write_text("\n".join(lines) + "\n")
    return path


def options(source: Path, output: Path, *adapters: Path, **changes: Any) -> Options:
    if output.suffix == "":
        changes.setdefault("output_format", "brat")
    return Options(
        source, output, adapters=adapters, **{"part_documents": 4, "precision": "fp32", **changes}
    )


def content(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


class Stop(BaseException):
    """Ends a run like a signal: no handler of exceptions sees it."""


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Ends runs after so many parts."""
    original = annotator.Annotator.annotate

    def set_up(number: int) -> None:
        left = iter(range(number))

        def annotate(*args: Any, **kwargs: Any) -> Any:
            if next(left, None) is None:
                raise Stop
            return original(*args, **kwargs)

        monkeypatch.setattr(annotator.Annotator, "annotate", annotate)

    return set_up


def test_entities_are_those_of_the_pipeline(adapter: Path, other: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    output = tmp_path / "out.jsonl"
    summary = run.annotate(options(source, output, adapter, other))
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["text"] for row in rows] == TEXTS
    for folder, dataset in ((adapter, "ncbi"), (other, "bc2gm")):
        nlp = spacy.blank("en")
        pipe = nlp.add_pipe("openmed_ner", config={"adapter": str(folder)})
        pipe.cfg["precision"] = "fp32"  # type: ignore[attr-defined]
        for row, doc in zip(rows, nlp.pipe(TEXTS), strict=True):
            mine = [e for e in row["entities"] if e["dataset"] == dataset]
            assert [(e["start"], e["end"], e["label"], e["text"]) for e in mine] == [
                (e.start_char, e.end_char, e.label_, e.text) for e in doc.ents
            ]
            assert [e["score"] for e in mine] == pytest.approx(
                [e._.openmed_score for e in doc.ents], abs=1e-3
            )
    assert summary is not None and summary.entities["ncbi DISEASE"] > 3
    assert summary.entities.total() == sum(len(row["entities"]) for row in rows)
    assert summary.words == sum(len(text.split()) for text in TEXTS)


@pytest.mark.parametrize("name", OUTPUTS.values())
def test_a_run_that_was_stopped_goes_on_to_the_same_output(
    adapter: Path, source: Path, tmp_path: Path, name: str, stop_after: Callable[[int], None]
) -> None:
    whole = tmp_path / "whole" / name
    expected = run.annotate(options(source, whole, adapter))
    output = tmp_path / "stopped" / name
    for parts in (2, 1):
        stop_after(parts)
        with pytest.raises(Stop):
            run.annotate(options(source, output, adapter, resume=True))
        assert not output.exists()
    stop_after(100)
    summary = run.annotate(options(source, output, adapter, resume=True))
    assert content(output) == content(whole)
    assert summary is not None and expected is not None
    assert (summary.documents, summary.entities, summary.reasons) == (
        expected.documents,
        expected.entities,
        expected.reasons,
    )
    assert summary.documents == 22 and summary.reasons == {"no field 'text'": 1}
    # Nothing is left beside the output.
    assert [path.name for path in output.parent.iterdir()] == [name]


def test_a_run_that_was_stopped_while_it_joined(
    adapter: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, output = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    run.annotate(options(source, whole, adapter))
    with monkeypatch.context() as patch:

        def remove(ledger: Any) -> None:
            raise Stop

        patch.setattr(run.Ledger, "remove", remove)
        with pytest.raises(Stop):
            run.annotate(options(source, output, adapter))
    assert output.exists()
    run.annotate(options(source, output, adapter, resume=True))
    assert content(output) == content(whole) and not folder_of(output).exists()
    assert run.annotate(options(source, output, adapter, resume=True)) is None


def test_a_part_that_was_cut_short_is_made_again(
    adapter: Path, source: Path, tmp_path: Path, stop_after: Callable[[int], None]
) -> None:
    whole, output = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    run.annotate(options(source, whole, adapter))
    stop_after(3)
    with pytest.raises(Stop):
        run.annotate(options(source, output, adapter))
    first, second, _ = sorted(folder_of(output).glob("*.part"))
    first.write_bytes(first.read_bytes()[:-1])
    second.write_bytes(b"")
    stop_after(100)
    run.annotate(options(source, output, adapter, resume=True))
    assert content(output) == content(whole)


def test_another_run_is_not_gone_on_with(
    adapter: Path,
    other: Path,
    source: Path,
    tmp_path: Path,
    stop_after: Callable[[int], None],
) -> None:
    output = tmp_path / "out.jsonl"
    stop_after(2)
    with pytest.raises(Stop):
        run.annotate(options(source, output, adapter))
    stop_after(100)
    with pytest.raises(OpenMedError, match="--resume goes on with it, --overwrite"):
        run.annotate(options(source, output, adapter))
    with pytest.raises(OpenMedError, match=r"adapters\.ncbi was \w{64}, is absent"):
        run.annotate(options(source, output, other, resume=True))
    with pytest.raises(OpenMedError, match="id field was id, is pmid"):
        run.annotate(options(source, output, adapter, resume=True, id_field="pmid"))
    with source.open("a") as file:
        file.write('{"text": "More."}\n')
    with pytest.raises(OpenMedError, match=r"input\.bytes was \d+, is \d+"):
        run.annotate(options(source, output, adapter, resume=True))
    summary = run.annotate(options(source, output, adapter, overwrite=True))
    assert summary is not None and summary.documents == 23


def pretend_gpus(monkeypatch: pytest.MonkeyPatch, number: int, mps: bool = False) -> None:
    """GPUs that can be chosen, but not computed on."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


def test_a_run_does_not_go_on_on_another_kind_of_device(
    adapter: Path,
    source: Path,
    tmp_path: Path,
    stop_after: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "out.jsonl"
    stop_after(2)
    with pytest.raises(Stop):
        run.annotate(options(source, output, adapter))
    pretend_gpus(monkeypatch, 1)
    with pytest.raises(OpenMedError, match=r"others.*: device was cpu, is cuda\. Give the same"):
        run.annotate(options(source, output, adapter, resume=True))
    stop_after(100)
    summary = run.annotate(options(source, output, adapter, resume=True, gpu_id=-1))
    assert summary is not None and summary.documents == 22


@pytest.mark.parametrize(
    ("gpus", "mps", "changes", "device"),
    [
        (0, False, {}, "cpu"),
        (2, False, {}, "cuda"),
        (2, False, {"gpu_id": -1}, "cpu"),
        (2, False, {"gpu_id": 1}, "cuda:1"),
        (2, False, {"gpu_id": 1, "workers": 2}, "cuda"),
        (0, True, {}, "cpu"),
        (0, True, {"gpu_id": 0}, "mps"),
        # The cluster's, whatever this machine has.
        (0, False, {"gpu_id": 0, "address": "10.0.0.9:6379"}, "cuda"),
    ],
)
def test_devices(
    adapter: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gpus: int,
    mps: bool,
    changes: dict[str, Any],
    device: str,
) -> None:
    pretend_gpus(monkeypatch, gpus, mps)
    found = annotator.Models.find(options(tmp_path, tmp_path / "out.jsonl", adapter, **changes))
    assert found.device == device and found.device_kind == device.removesuffix(":1")
    asked = []
    with monkeypatch.context() as patch:
        patch.setattr(inference, "shared_backbone", lambda *args: asked.append(args) or Mock())
        found.load()
    assert [args[1] for args in asked] == [device]


@pytest.mark.parametrize(("gpus", "wanted"), [(0, 0), (2, 2), (2, -2)])
def test_a_gpu_that_is_not_there_is_refused(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, wanted: int
) -> None:
    pretend_gpus(monkeypatch, gpus)
    for workers in (1, 2):
        chosen = options(tmp_path, tmp_path / "o.jsonl", adapter, gpu_id=wanted, workers=workers)
        with pytest.raises(OpenMedError, match=f"--gpu-id {wanted}: there are {gpus} GPUs"):
            annotator.Models.find(chosen)


def test_what_gpus_of_a_cluster_compute_in_cannot_be_seen_from_elsewhere(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpus(monkeypatch, 0)
    chosen = options(
        tmp_path, tmp_path / "o.jsonl", adapter, gpu_id=0, address="a:1", precision="auto"
    )
    with pytest.raises(OpenMedError, match="give --precision bf16, fp16 or fp32"):
        annotator.Models.find(chosen)


def test_outputs_are_not_lost(adapter: Path, source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    output.write_text("mine")
    with pytest.raises(OpenMedError, match=r"is there already\. --overwrite"):
        run.annotate(options(source, output, adapter))
    assert output.read_text() == "mine"
    assert run.annotate(options(source, output, adapter, resume=True)) is None
    run.annotate(options(source, output, adapter, overwrite=True))
    assert len(output.read_text().splitlines()) == 22
    with pytest.raises(OpenMedError, match="lies in the input"):
        run.annotate(options(source, source, adapter, overwrite=True))
    with pytest.raises(OpenMedError, match="lies in the input"):
        run.annotate(options(tmp_path, output, adapter, overwrite=True))
    with pytest.raises(OpenMedError, match="give one of them"):
        options(source, output, adapter, overwrite=True, resume=True)


def test_folders_and_files_replace_each_other(
    adapter: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.spacy"
    for limit, is_folder in ((10**6, False), (20, True), (20, True), (10**6, False)):
        monkeypatch.setattr(docbin, "ONE_FILE_TOKENS", limit)
        run.annotate(options(source, output, adapter, overwrite=True))
        assert output.is_dir() == is_folder
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.spacy"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.doc").touch()
    with pytest.raises(OpenMedError, match="would be lost"):
        run.annotate(options(source, tmp_path / "mine", adapter, overwrite=True))
    assert (tmp_path / "mine" / "mine.doc").exists()


def test_two_runs_of_one_output_do_not_meet(
    adapter: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.jsonl"
    original = annotator.Annotator.annotate
    refused = []

    def annotate(*args: Any, **kwargs: Any) -> Any:
        with pytest.raises(OpenMedError, match="Another annotation is running") as error:
            run.annotate(options(source, output, adapter, resume=True))
        refused.append(error)
        return original(*args, **kwargs)

    monkeypatch.setattr(annotator.Annotator, "annotate", annotate)
    summary = run.annotate(options(source, output, adapter))
    assert summary is not None and summary.documents == 22 and refused


def test_an_input_in_which_nothing_can_be_read_is_refused_at_once(
    adapter: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annotator.Models, "load", lambda self: pytest.fail("too late"))
    output = tmp_path / "out.jsonl"
    with pytest.raises(OpenMedError, match=r"in\.jsonl:1: no field 'note' \(fields: id, text\)"):
        run.annotate(options(source, output, adapter, text_field="note"))
    with pytest.raises(OpenMedError, match=r"no field 'note'.*With --strict every row"):
        run.annotate(options(source, output, adapter, text_field="note", strict=True))
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_an_empty_input_gives_an_empty_output(adapter: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("\n")
    for number, name in enumerate(OUTPUTS.values()):
        summary = run.annotate(options(source, tmp_path / f"{number}" / name, adapter))
        assert summary is not None and summary.documents == 0
        assert (tmp_path / f"{number}" / name).exists()


def test_strict_stops_at_the_first_row_and_goes_on_without(
    adapter: Path, source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    with pytest.raises(OpenMedError, match=r"in\.jsonl:8: no field 'text'.*With --strict"):
        run.annotate(options(source, output, adapter, strict=True))
    with pytest.raises(OpenMedError, match=r"in\.jsonl:8"):
        run.annotate(options(source, output, adapter, strict=True, resume=True))
    summary = run.annotate(options(source, output, adapter, resume=True))
    assert summary is not None and summary.documents == 22


def test_a_document_that_fails_costs_no_other(
    adapter: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = annotator.Annotator.__call__

    def fail(self: annotator.Annotator, texts: Sequence[str]) -> list[list[Found]]:
        if TEXTS[1] in texts:
            raise MemoryError("too much")
        return original(self, texts)

    monkeypatch.setattr(annotator.Annotator, "__call__", fail)
    output = tmp_path / "out.jsonl"
    summary = run.annotate(options(source, output, adapter))
    assert summary is not None and summary.documents == 17
    assert summary.reasons == {"failed": 5, "no field 'text'": 1}
    first = summary.named["failed"][0]
    assert first.where == "document 'd1'" and "too much" in first.reason
    assert len(summary.named["failed"]) == 3


def test_a_full_disk_ends_a_run_that_can_go_on(
    adapter: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.jsonl"
    original = run.Ledger.add

    def add(ledger: run.Ledger, result: Any) -> None:
        if result.number == 2:
            raise OSError(28, "No space left on device")
        original(ledger, result)

    with monkeypatch.context() as patch:
        patch.setattr(run.Ledger, "add", add)
        with pytest.raises(OpenMedError, match=r"No space left on device.*--resume goes on"):
            run.annotate(options(source, output, adapter))
    assert len(list(folder_of(output).glob("*.part"))) == 2
    summary = run.annotate(options(source, output, adapter, resume=True))
    assert summary is not None and summary.documents == 22


def test_progress_shows_rates_and_what_is_left(
    adapter: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    class AtOnce:
        """Counts before the work begins, so that it is done when the bar is looked at."""

        def __init__(self, target: Callable[..., None], args: Any, daemon: bool) -> None:
            self.start = partial(target, *args)

    terminal = Terminal()
    monkeypatch.setattr(progress, "tqdm", partial(progress.tqdm, file=terminal, mininterval=0))
    monkeypatch.setattr(progress.threading, "Thread", AtOnce)
    run.annotate(options(source, tmp_path / "out.jsonl", adapter))
    shown = terminal.getvalue()
    assert "23/23" in shown and "doc/s" in shown and "words/s" in shown


def test_checkpoints_give_what_the_pipeline_finds_with_them(
    tiny_backbone: Path, adapter: Path, tmp_path: Path
) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", tiny_backbone, SCHEMES["bioes"])
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    run.annotate(options(source, output, adapter, checkpoints=(str(checkpoint),)))
    nlp = spacy.blank("en")
    nlp.add_pipe("openmed_ner", config={"checkpoint": str(checkpoint), "precision": "fp32"})
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    found = [[e for e in row["entities"] if e["dataset"] == "model"] for row in rows]
    expected = [[(e.start_char, e.end_char, e.label_) for e in doc.ents] for doc in nlp.pipe(TEXTS)]
    assert [[(e["start"], e["end"], e["label"]) for e in mine] for mine in found] == expected
    assert sum(map(len, expected)) > 3
    assert any(e["dataset"] == "ncbi" for row in rows for e in row["entities"])
    with pytest.raises(OpenMedError, match="would both be 'model'"):
        run.annotate(
            options(source, tmp_path / "b.jsonl", checkpoints=(str(checkpoint), f"{checkpoint}/"))
        )
    with pytest.raises(OpenMedError, match="was not found"):
        run.annotate(options(source, tmp_path / "c.jsonl", checkpoints=("nobody/nothing",)))


def test_a_run_does_not_go_on_with_other_labels_of_a_checkpoint(
    tiny_backbone: Path, source: Path, tmp_path: Path, stop_after: Callable[[int], None]
) -> None:
    checkpoint = make_checkpoint(tmp_path / "me@home" / "model", tiny_backbone)
    output = tmp_path / "out.jsonl"
    stop_after(2)
    with pytest.raises(Stop):
        run.annotate(options(source, output, checkpoints=(str(checkpoint),)))
    config = checkpoint / "config.json"
    config.write_text(config.read_text().replace("Disease", "Disorder"))
    stop_after(100)
    with pytest.raises(OpenMedError, match=r"checkpoints\.model was \w{64}, is \w{64}"):
        run.annotate(options(source, output, checkpoints=(str(checkpoint),), resume=True))


def test_checkpoints_of_the_hub_are_called_by_their_names(
    tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_checkpoint(tmp_path / "snapshots" / ("a" * 40), tiny_backbone)
    asked = []

    def snapshot(repository: str, revision: str, files: Sequence[str], online: bool) -> Path:
        asked.append((repository, revision))
        return folder

    monkeypatch.setattr(hub, "snapshot", snapshot)
    found = annotator.Models.find(
        options(tmp_path, tmp_path / "out.jsonl", checkpoints=("org/model@v1",))
    )
    assert list(found.checkpoints) == ["model"] and asked == [("org/model", "v1")]
    # From then on the very commit is asked for.
    (entities,) = found.load()(["p53-deficient tumors of mice"])
    assert {e.dataset for e in entities} <= {"model"} and asked[-1] == ("org/model", "a" * 40)


def test_adapters_of_one_name_are_refused(adapter: Path, source: Path, tmp_path: Path) -> None:
    with pytest.raises(OpenMedError, match="would both be 'ncbi'"):
        run.annotate(options(source, tmp_path / "out.jsonl", adapter, adapter))
    with pytest.raises(OpenMedError, match="Give --dataset, --adapter or --checkpoint"):
        options(source, tmp_path / "out.jsonl")


@pytest.fixture
def app() -> Iterator[typer.Typer]:
    own = typer.Typer()
    own.command()(command)
    yield own


def test_the_command(app: typer.Typer, adapter: Path, source: Path, tmp_path: Path) -> None:
    output, summary = tmp_path / "out.parquet", tmp_path / "summary.json"
    arguments = [
        *(str(source), str(output), "--adapter", str(adapter), "--text-column", "text"),
        *("--threads", "1", "--gpu-id", "-1", "--precision", "fp32", "--json", str(summary)),
    ]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stderr.startswith("Using cpu in fp32\n")
    assert "22 documents" in result.output and "ncbi DISEASE" in result.output
    assert "left out: 1 × no field 'text'\n  in.jsonl:8: no field 'text'" in result.output
    written = json.loads(summary.read_text())
    assert written["documents"] == 22 and set(written["seconds"]) == {"start", "annotate", "join"}
    again = CliRunner().invoke(app, [*arguments, "--resume"], catch_exceptions=False)
    assert "nothing to go on with" in again.output


def test_the_embedded_adapter(minilm: Path, tmp_path: Path) -> None:
    source = tmp_path / "note.txt"
    source.write_text("Germline BRCA1 mutations predispose to breast cancer.")
    output = tmp_path / "out.jsonl"
    run.annotate(Options(source, output, ("ncbi",)))
    row = json.loads(output.read_text())
    nlp = spacy.blank("en")
    nlp.add_pipe("openmed_ner", config={"dataset": "ncbi"})
    doc = nlp(source.read_text())
    assert row["id"] == "note" and doc.ents
    assert [(e["start"], e["end"], e["label"]) for e in row["entities"]] == [
        (e.start_char, e.end_char, e.label_) for e in doc.ents
    ]
