"""The record of looks at test: linked lines, one look, further ones with a reason."""

import json
import re
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_select import write_adapter
from typer.testing import CliRunner, Result

from spacy_openmed import adapters
from spacy_openmed.cli.app import app
from spacy_openmed.errors import OpenMedError
from spacy_openmed.evaluation import chosen, errors, ledger, predictions
from spacy_openmed.evaluation.chosen import Measured
from spacy_openmed.evaluation.ledger import Subject

pytestmark = pytest.mark.usefixtures("one_torch_thread")

NCBI = Subject("ncbi", "test", {"test.jsonl": "f1" * 32, "test.conll": "f2" * 32}, "a1" * 32)
DEV = Subject("ncbi", "dev", {"dev.jsonl": "f3" * 32}, "a2" * 32)
# As versions without links wrote them.
OLD = Path(__file__).parents[1] / "benchmarks" / "results" / "suite" / "ledger.jsonl"


def measured(adapter: str = "ad", f1: float = 12.5) -> dict[str, Any]:
    backbone = {"id": "minilm", "sha256": "bb", "hub_id": "", "revision": ""}
    return {"adapter": adapter, "backbone": backbone, "edges": "word", "raw": {"f1": f1}}


def write_looks(path: Path, count: int) -> list[bytes]:
    """So many looks at dev, which need no reason."""
    path.unlink(missing_ok=True)
    for number in range(count):
        ledger.record(path, DEV, measured(f1=float(number)))
    return path.read_bytes().splitlines(keepends=True)


def test_one_look_and_further_ones_with_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.jsonl"
    ledger.check(path, NCBI)
    first = ledger.record(path, NCBI, measured(), "not needed")
    assert (first["look"], first["reason"], first["conll_f1"]) == (1, None, None)
    assert first["backbone"] == {"id": "minilm", "sha256": "bb"}
    assert first["result"] == measured()
    for refused in (
        lambda: ledger.check(path, NCBI),
        lambda: ledger.check(path, NCBI, "  "),
        lambda: ledger.record(path, NCBI, measured("another", 99.25)),
    ):
        with pytest.raises(OpenMedError, match=r"looked at once on .*--again") as caught:
            refused()
        # When and with what, but nothing to compare with.
        assert first["time"] in str(caught.value) and "adapter ad " in str(caught.value)
        assert "12.5" not in str(caught.value)
    assert len(ledger.read(path).entries) == 1
    second = ledger.record(path, NCBI, measured("another"), "a table was lost")
    assert (second["look"], second["reason"]) == (2, "a table was lost")
    with pytest.raises(OpenMedError, match=r"2 times, the last time on .* adapter another"):
        ledger.check(path, NCBI)
    assert ledger.read(path).entries == [first, second]
    assert ledger.verify(path) == []


def test_dev_is_never_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    assert [ledger.record(path, DEV, measured())["look"] for _ in range(3)] == [1, 2, 3]
    assert ledger.record(path, NCBI, measured())["look"] == 1


@pytest.mark.parametrize(
    ("other", "same"),
    [
        # Prepared anew: other bytes, the same texts and mentions.
        (Subject("ncbi", "test", {"test.jsonl": "00" * 32}, NCBI.raw_sha256), True),
        (Subject("ncbi", "test", {"test.conll": "f2" * 32}, "00" * 32), True),
        (Subject("ncbi", "test", {"test.jsonl": "00" * 32}, "00" * 32), False),
        (Subject("linnaeus", "test", NCBI.files, NCBI.raw_sha256), False),
    ],
)
def test_what_counts_as_the_same_test(tmp_path: Path, other: Subject, same: bool) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger.record(path, NCBI, measured())
    assert bool(ledger.read(path).looks(other)) is same


def test_older_ledgers_go_on(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    # The first line was written before lines were linked.
    first = OLD.read_bytes().splitlines(keepends=True)[0]
    path.write_bytes(first)
    (old,) = ledger.read(path).entries
    at = Subject("ncbi", "test", old["data"], "00" * 32)
    with pytest.raises(OpenMedError, match=old["adapter"]):
        ledger.check(path, at)
    assert ledger.record(path, at, measured(), "measured anew")["look"] == 2
    ledger.record(path, DEV, measured())
    assert ledger.verify(path) == []
    path.write_bytes(path.read_bytes().replace(b"85.0", b"95.0", 1))
    assert ledger.verify(path) == ["line 2 does not follow the line before it"]
    path.write_bytes(path.read_bytes() + first)
    assert ledger.verify(path)[-1] == "line 4 does not follow the line before it"


@given(st.data())
def test_no_line_but_the_last_can_be_removed_or_changed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "chain.jsonl"
    lines = write_looks(path, data.draw(st.integers(2, 5)))
    assert ledger.verify(path) == []
    index = data.draw(st.integers(0, len(lines) - 2))
    kind = data.draw(st.sampled_from(["remove", "change", "replace", "blank", "insert", "swap"]))
    if kind == "remove":
        del lines[index]
    elif kind == "change":
        at = data.draw(st.integers(0, len(lines[index]) - 2))
        byte = data.draw(st.integers(0, 255).filter(lambda b: b != lines[index][at]))
        lines[index] = lines[index][:at] + bytes([byte]) + lines[index][at + 1 :]
    elif kind == "replace":
        # An entry as older versions wrote them, for which no link is asked.
        lines[index] = b'{"dataset": "ncbi", "split": "test"}\n'
    elif kind == "blank":
        lines[index] = b"\n"
    elif kind == "insert":
        lines.insert(index, data.draw(st.sampled_from([b"\n", b"{}\n", lines[-1]])))
    else:
        lines[index], lines[index + 1] = lines[index + 1], lines[index]
    path.write_bytes(b"".join(lines))
    assert ledger.verify(path)
    # It goes on to show, whatever is written after it.
    ledger.record(path, DEV, measured())
    assert ledger.verify(path)


def test_a_ledger_with_missing_lines_allows_no_look_without_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger.record(path, NCBI, measured())
    ledger.record(path, DEV, measured())
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[1])
    with pytest.raises(OpenMedError, match=r"line 1 does not follow.*nobody can tell"):
        ledger.check(path, NCBI)
    entry = ledger.record(path, NCBI, measured(), "the ledger was damaged")
    assert (entry["look"], entry["reason"]) == (1, "the ledger was damaged")


@given(st.data())
def test_a_torn_last_line_loses_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "torn.jsonl"
    lines = write_looks(path, 3)
    cut = data.draw(st.integers(1, len(lines[-1]) - 1))
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:cut])
    whole = cut == len(lines[-1]) - 1  # only its end is lost
    found = ledger.read(path)
    assert [e["raw_f1"] for e in found.entries] == ([0, 1, 2] if whole else [0, 1])
    assert found.torn == ([] if whole else [3])
    before = path.read_bytes()
    assert ledger.record(path, DEV, measured(f1=7.0))["look"] == (4 if whole else 3)
    assert path.read_bytes().startswith(before + b"\n")
    again = ledger.read(path)
    assert again.entries == [*found.entries, again.entries[-1]]
    assert (again.torn, again.faults) == (found.torn, [])


# Every process waits for all others between the check and the record.
LOOK = """
import json, sys, time
from pathlib import Path
from spacy_openmed.errors import OpenMedError
from spacy_openmed.evaluation import ledger

at, result, reason, times, me, path = json.loads(sys.argv[1])
path = Path(path)
at = ledger.Subject(**at)
ledger.check(path, at, reason)
path.with_name(f"{me}.ready").touch()
while len(list(path.parent.glob("*.ready"))) < 2:
    time.sleep(0.001)
for _ in range(times):
    try:
        print(ledger.record(path, at, result, reason)["look"])
    except OpenMedError as error:
        print(error)
"""


def look_at_once(path: Path, reason: str | None, times: int) -> list[str]:
    """What two processes are told that look at the same time."""
    for ready in path.parent.glob("*.ready"):
        ready.unlink()
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-c", LOOK),
                json.dumps([asdict(NCBI), measured(), reason, times, me, str(path)]),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        for me in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0]
    return [line for output in outputs for line in output.splitlines()]


def test_of_two_looks_at_once_one_is_the_first(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    # Both were allowed to begin.
    found = look_at_once(path, None, 1)
    assert found.count("1") == 1
    assert sum("was looked at once" in answer for answer in found) == 1
    assert len(ledger.read(path).entries) == 1
    found = look_at_once(path, "both again", 20)
    assert sorted(map(int, found)) == list(range(2, 42))
    assert ledger.read(path).torn == ledger.verify(path) == []


def test_a_look_waits_for_one_that_is_being_recorded(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    path, other = tmp_path / "ledger.jsonl", tmp_path / "other.jsonl"
    ledger.record(other, NCBI, measured("another"))
    refused: list[str] = []

    def look() -> None:
        try:
            ledger.record(path, NCBI, measured())
        except OpenMedError as error:
            refused.append(str(error))

    thread = threading.Thread(target=look)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        thread.start()
        # Without a lock it would be done in a thousandth of this.
        thread.join(0.5)
        assert thread.is_alive()
        file.write(other.read_bytes())
    thread.join()
    assert "with adapter another" in refused[0]
    assert path.read_bytes() == other.read_bytes()


def test_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "fcntl", None)
    assert ledger.record(tmp_path / "ledger.jsonl", NCBI, measured())["look"] == 1


def test_a_ledger_must_be_kept(tmp_path: Path) -> None:
    with pytest.raises(OpenMedError, match="/dev/null is not a file"):
        ledger.check(Path("/dev/null"), NCBI)
    with pytest.raises(OpenMedError, match=r"cannot be used .*--ledger"):
        ledger.check(tmp_path, NCBI)
    (tmp_path / "file").touch()
    with pytest.raises(OpenMedError, match=r"cannot be used .*--ledger"):
        ledger.check(tmp_path / "file" / "ledger.jsonl", NCBI)


# The command


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def write_corpus(folder: Path) -> Path:
    """Splits of one sentence each, in the form of a prepared corpus."""
    place = folder / "ner" / "ncbi"
    place.mkdir(parents=True)
    for split, name in (("train", "lung"), ("dev", "breast"), ("test", "ovarian")):
        text = f"the {name} cancer of mice"
        stop = text.index(" of")
        line = {"text": text, "entities": [[4, stop, "Disease"]]}
        (place / f"{split}.jsonl").write_text(json.dumps(line) + "\n")
        tags = ["O", "B-Disease", "I-Disease", "O", "O"]
        rows = [f"{word}\t{tag}" for word, tag in zip(text.split(), tags, strict=True)]
        (place / f"{split}.conll").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def adapter(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(tmp_path_factory.mktemp("ledger") / "adapter", tiny_backbone)


def evaluate(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def forbidden(*arguments: object) -> dict[str, Any]:
    raise AssertionError("measured")


def test_figures_tell_what_was_computed_in(corpus: Path, adapter: Path, tmp_path: Path) -> None:
    given = ["--dataset", "ncbi", "--corpus", corpus, "--adapter", adapter, "--json"]
    for precision, arguments in (("fp32", []), ("int8", ["--precision", "int8"])):
        run = evaluate(*given, tmp_path / "figures.json", *arguments)
        assert run.exit_code == 0, run.output
        assert json.loads((tmp_path / "figures.json").read_text())["precision"] == precision
    run = evaluate(*given, tmp_path / "other.json", "--precision", "fp8")
    assert run.exit_code == 1 and "precision = 'fp8'" in run.output
    assert not (tmp_path / "other.json").exists()


def test_evaluate_looks_at_test_once(
    corpus: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, figures = tmp_path / "own.jsonl", tmp_path / "figures.json"
    monkeypatch.setenv("OPENMED_LEDGER", str(path))
    given = ["--dataset", "ncbi", "--corpus", corpus, "--adapter", adapter]
    run = evaluate(*given, "--split", "dev")
    assert run.exit_code == 0 and "F1" in run.output, run.output
    assert not path.exists()
    run = evaluate(*given, "--split", "test", "--json", figures)
    assert run.exit_code == 0 and "F1" in run.output, run.output
    (entry,) = ledger.read(path).entries
    result = json.loads(figures.read_text())
    assert entry["result"] == result
    assert (entry["raw_f1"], entry["conll_f1"]) == (result["raw"]["f1"], result["conll"]["f1"])
    assert entry["data"] == result["data"] and set(entry["data"]) == {"test.jsonl", "test.conll"}
    assert entry["adapter"] == adapters.content_hash(adapters.read(adapter))

    with monkeypatch.context() as patch:
        patch.setattr(chosen, "look", forbidden)
        run = evaluate(*given, "--split", "test")
        assert run.exit_code == 1 and "F1" not in run.output
        assert f"on {entry['time']} with adapter {entry['adapter']}" in run.output
        for arguments, message in (
            (["--split", "./test"], "choose train, dev, test"),
            (["--split", "test", "--again", " "], "needs a reason"),
            (["--split", "test", "--ledger", "/dev/null"], "not a file"),
            (["--again", "curious"], "--again is for a further look at --split test"),
        ):
            run = evaluate(*given, *arguments)
            assert run.exit_code == 1 and message in run.output
        # An empty reason, as of a variable that is not set, is none.
        run = evaluate(*given, "--split", "test", "--again", "")
        assert run.exit_code == 1 and "looked at once" in run.output
    run = evaluate(*given, "--split", "test", "--again", "shown at a talk")
    assert run.exit_code == 0, run.output
    assert [e["reason"] for e in ledger.read(path).entries] == [None, "shown at a talk"]


@pytest.mark.parametrize(
    "name", ["file/figures.json", "folder", "taken.json"], ids=["in a file", "a folder", "beside"]
)
def test_no_look_is_spent_on_figures_that_cannot_be_written(
    corpus: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    predictions.beside(tmp_path / "taken.json").mkdir()
    path = tmp_path / "ledger.jsonl"
    monkeypatch.setattr(chosen, "look", forbidden)
    given = ["--dataset", "ncbi", "--corpus", corpus, "--adapter", adapter, "--split", "test"]
    run = evaluate(*given, "--ledger", path, "--json", tmp_path / name)
    assert run.exit_code == 1 and re.search("cannot be written|is a folder", run.output)
    assert not path.exists()


def test_no_figure_is_shown_that_is_not_recorded(
    corpus: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, figures = tmp_path / "ledger.jsonl", tmp_path / "figures.json"
    given = ["--dataset", "ncbi", "--corpus", corpus, "--adapter", adapter, "--split", "test"]
    at = ledger.subject(corpus, "ncbi", "test")
    look = chosen.look

    def overtaken(*arguments: Any) -> Measured:
        ledger.record(path, at, measured("another"))
        return look(*arguments)

    monkeypatch.setattr(chosen, "look", overtaken)
    run = evaluate(*given, "--ledger", path, "--json", figures)
    assert run.exit_code == 1 and "with adapter another" in run.output
    assert "F1" not in run.output and not figures.exists()


def test_ledger_of_dev_and_of_own_files(corpus: Path, adapter: Path, tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    given = ["--dataset", "ncbi", "--corpus", corpus, "--adapter", adapter, "--ledger", path]
    for number in (1, 2):
        run = evaluate(*given)
        assert run.exit_code == 0, run.output
        assert ledger.read(path).entries[-1]["look"] == number
    torn = path.read_bytes() + b'{"time": "20'
    path.write_bytes(torn)
    run = evaluate(*given)
    assert run.exit_code == 0 and "line 3 is torn" in run.output
    file = corpus / "ner" / "ncbi" / "test.jsonl"
    run = evaluate("--file", file, "--adapter", adapter, "--ledger", path)
    assert run.exit_code == 1 and "not at --file" in run.output


SAMPLE = Path(__file__).parents[1] / "assets" / "sample" / "ner" / "sample"


@pytest.mark.parametrize("names", [{}, {"DISEASE": "Illness", "CHEMICAL": "Drug"}])
def test_test_is_not_looked_at_by_way_of_its_file(
    adapter: Path, tmp_path: Path, names: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spacy_openmed.evaluation.evaluate.evaluate_own", forbidden)
    text = (SAMPLE / "test.jsonl").read_text()
    for old, new in names.items():
        text = text.replace(f'"{old}"', f'"{new}"')
    file = tmp_path / "own.jsonl"
    file.write_text(text)
    run = evaluate("--file", file, "--adapter", adapter)
    assert run.exit_code == 1, run.output
    assert "test of 'sample'" in run.output and "--dataset sample --split test" in run.output


# The chosen adapters


@pytest.fixture()
def run_folder(tiny_backbone: Path, corpus: Path, tmp_path: Path) -> Path:
    """A run up to its selection."""
    runs = tmp_path / "runs"
    write_adapter(runs / "train" / "ncbi" / "tiny" / "adapter", tiny_backbone)
    select_in(runs)
    return runs


def select_in(runs: Path) -> None:
    arguments = ["select", str(runs / "train"), "--output", str(runs / "selection.json")]
    run = CliRunner().invoke(app, arguments)
    assert run.exit_code == 0, run.output


def evaluate_run(runs: Path, corpus: Path, *arguments: object) -> Result:
    return evaluate(
        *("--selection", runs / "selection.json", "--results", runs / "results"),
        *("--corpus", corpus, "--ledger", runs / "ledger.jsonl", *arguments),
    )


def test_the_chosen_adapters_are_evaluated_once(
    run_folder: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = evaluate_run(run_folder, corpus)
    assert run.exit_code == 0, run.output
    results = run_folder / "results"
    files = {path.name: path.read_bytes() for path in results.iterdir()}
    names = ("ncbi-dev.json", "ncbi-test.json")
    made = (
        beside(Path(name)).name for beside in (predictions.beside, errors.beside) for name in names
    )
    assert set(files) == {*names, *made}
    place = run_folder / "train" / "ncbi" / "tiny" / "adapter"
    card = (place / adapters.CARD).read_text()
    assert "### Kinds of errors" in card
    assert "| `ncbi` | test | conll |" in card and "| `ncbi` | dev | raw |" in card
    record = run_folder / "ledger.jsonl"
    looks = record.read_bytes()
    assert len(ledger.read(record).entries) == 1

    with monkeypatch.context() as patch:
        patch.setattr(chosen, "look", forbidden)
        run = evaluate_run(run_folder, corpus)
        assert run.exit_code == 0 and run.output.count("there already") == 2, run.output
        # Killed after the entry was written: the figures come from the entry.
        (results / "ncbi-test.json").unlink()
        run = evaluate_run(run_folder, corpus)
        assert run.exit_code == 0 and "written again from the ledger" in run.output, run.output
        assert {path.name: path.read_bytes() for path in results.iterdir()} == files
        assert record.read_bytes() == looks
        # A ledger of an earlier version has no result to write again.
        (results / "ncbi-test.json").unlink()
        (old,) = ledger.read(record).entries
        lean = {k: v for k, v in old.items() if k not in ("result", "previous", "raw_sha256")}
        record.write_text(json.dumps(lean) + "\n")
        run = evaluate_run(run_folder, corpus)
        assert run.exit_code == 1 and "--again REASON" in run.output
    run = evaluate_run(run_folder, corpus, "--again", "the file was lost")
    assert run.exit_code == 0, run.output
    assert (results / "ncbi-test.json").read_bytes() == files["ncbi-test.json"]
    assert [e["reason"] for e in ledger.read(record).entries[1:]] == ["the file was lost"]

    record.unlink()
    run = evaluate_run(run_folder, corpus)
    assert run.exit_code == 0 and "has no look at test that gave this" in run.output


def test_another_choice_after_the_look_is_refused(
    run_folder: Path, corpus: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert evaluate_run(run_folder, corpus).exit_code == 0
    write_adapter(run_folder / "train" / "ncbi" / "b" / "adapter", tiny_backbone, f1=90.0, seed=1)
    monkeypatch.setattr(chosen, "look", forbidden)
    select_in(run_folder)
    files = {path: path.read_bytes() for path in (run_folder / "results").iterdir()}
    run = evaluate_run(run_folder, corpus)
    assert run.exit_code == 1 and "was looked at once" in run.output
    assert {path: path.read_bytes() for path in (run_folder / "results").iterdir()} == files


def test_an_adapter_that_changed_since_it_was_chosen_is_refused(
    run_folder: Path, corpus: Path, tiny_backbone: Path
) -> None:
    write_adapter(run_folder / "train" / "ncbi" / "tiny" / "adapter", tiny_backbone, seed=1)
    run = evaluate_run(run_folder, corpus)
    assert run.exit_code == 1 and "is not the one that was chosen" in run.output
    assert not (run_folder / "results").exists() and not (run_folder / "ledger.jsonl").exists()


@pytest.mark.parametrize("taken", ["ncbi-test.json", "ncbi-test.predictions.jsonl"])
def test_no_look_of_a_selection_is_spent_on_what_cannot_be_written(
    run_folder: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, taken: str
) -> None:
    (run_folder / "results" / taken).mkdir(parents=True)
    monkeypatch.setattr(chosen, "look", forbidden)
    run = evaluate_run(run_folder, corpus)
    assert run.exit_code == 1 and f"{taken} is a folder" in run.output
    assert ledger.read(run_folder / "ledger.jsonl").entries == []


def test_a_selection_names_everything_itself(run_folder: Path, corpus: Path) -> None:
    run = evaluate_run(run_folder, corpus, "--dataset", "ncbi")
    assert run.exit_code == 1 and "leave --dataset" in run.output
