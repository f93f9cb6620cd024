"""The file of predictions: written whole, of known data, and never of other figures."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_ledger import evaluate_run, write_corpus
from test_ledger import run_folder as run_folder
from test_select import write_adapter

from spacy_openmed import adapters
from spacy_openmed.entities import Entity
from spacy_openmed.errors import OpenMedError
from spacy_openmed.evaluation import chosen, evaluate, ledger, predictions
from spacy_openmed.evaluation.evaluate import Found
from spacy_openmed.evaluation.predictions import Predictions
from spacy_openmed.files import write_json

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@st.composite
def entities(draw: st.DrawFn) -> list[Entity]:
    start = st.integers(0, 1000)
    labels = st.text(min_size=1)
    drawn = st.tuples(start, st.integers(1, 50), labels, st.floats(0, 1))
    return [Entity(a, a + n, label, p) for a, n, label, p in draw(st.lists(drawn, max_size=3))]


FOUND = st.lists(st.builds(Found, st.text(), entities()), max_size=4)


@given(FOUND, st.none() | FOUND)
def test_written_and_read(
    tmp_path_factory: pytest.TempPathFactory, raw: list[Found], conll: list[Found] | None
) -> None:
    path = tmp_path_factory.getbasetemp() / "found.predictions.jsonl"
    data = {"dev.jsonl": "f1" * 32}
    one = Predictions("ncbi", "dev", data, "ad" * 32, "word", [], raw, conll)
    predictions.write(one, path)
    assert predictions.read(path) == one
    content = path.read_bytes()
    assert predictions.read(path).sha256 == one.sha256
    # Torn anywhere but before its last line break, it is refused.
    for cut in {0, 1, len(content) // 2, len(content) - 2}:
        path.write_bytes(content[:cut])
        with pytest.raises(OpenMedError, match="not a whole file of predictions"):
            predictions.read(path)


HEADER = {
    "format": predictions.FORMAT, "dataset": "ncbi", "split": "dev", "data": {}, "adapter": "ad",
    "edges": "word", "trained_on": [], "documents": {"raw": 1},
}  # fmt: skip
ROW = {"id": "1", "raw": [[0, 4, "X", 0.5]]}


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ({"format": "spacy-openmed predictions 1"}, {}),
        ({"format": None}, {}),
        ({"documents": {"raw": 2}}, {}),
        ({"documents": {"raw": 0}}, {}),
        ({"documents": {"raw": 0, "conll": 1}}, {}),
        ({"documents": None}, {}),
        ({"data": None}, {}),
        ({"trained_on": "ncbi"}, {}),
        ({}, {"raw": None}),
        ({}, {"raw": [[0, 4, "X"]]}),
        ({}, {"raw": [[4, 4, "X", 0.5]]}),
        ({}, {"raw": [[-1, 4, "X", 0.5]]}),
        ({}, {"raw": [[0, 4.0, "X", 0.5]]}),
        ({}, {"raw": [[0, 4, 1, 0.5]]}),
        ({}, {"raw": [[0, 4, "X", float("nan")]]}),
    ],
)
def test_what_is_no_such_file_is_refused(
    tmp_path: Path, header: dict[str, Any], row: dict[str, Any]
) -> None:
    path = tmp_path / "x.predictions.jsonl"
    path.write_text(f"{json.dumps(HEADER)}\n{json.dumps(ROW)}\n")
    assert predictions.read(path).raw == [Found("1", [Entity(0, 4, "X", 0.5)])]
    path.write_text(f"{json.dumps(HEADER | header)}\n{json.dumps(ROW | row)}\n")
    with pytest.raises(OpenMedError, match=r"x\.predictions\.jsonl is not a whole"):
        predictions.read(path)


@pytest.mark.parametrize("content", [b"", b"[]\n", b"1\n", b"{}\n", b"\xff\n", b"text\n"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.jsonl"
    with pytest.raises(OpenMedError, match="cannot be read"):
        predictions.read(path)
    path.write_bytes(content)
    with pytest.raises(OpenMedError, match=r"x\.jsonl"):
        predictions.read(path)


# --- beside a result --------------------------------------------------------------------------


def test_what_a_run_keeps(run_folder: Path, corpus: Path) -> None:
    assert evaluate_run(run_folder, corpus).exit_code == 0
    for split in ("dev", "test"):
        path = run_folder / "results" / f"ncbi-{split}.json"
        result = json.loads(path.read_text())
        kept = predictions.of(result, path)
        assert kept == path.with_name(f"ncbi-{split}.predictions.jsonl")
        found, at = predictions.with_gold(kept, corpus)
        assert (found.dataset, found.split, found.trained_on) == ("ncbi", split, ["ncbi"])
        assert (found.adapter, found.edges) == (result["adapter"], result["edges"])
        again = evaluate.figures(at, found.raw, found.conll)
        assert again == {key: result[key] for key in again}
        assert any(one.entities for one in found.raw)
        # Places, labels and scores, and no word of the text.
        assert "cancer" not in kept.read_text()


def test_predictions_of_other_data_are_refused(
    run_folder: Path, corpus: Path, tmp_path: Path
) -> None:
    assert evaluate_run(run_folder, corpus).exit_code == 0
    path = run_folder / "results" / "ncbi-dev.predictions.jsonl"
    found = predictions.read(path)
    other = write_corpus(tmp_path / "other")
    predictions.with_gold(path, other)
    for name in ("dev.jsonl", "dev.conll"):
        file = other / "ner" / "ncbi" / name
        content = file.read_text()
        file.write_text(content.replace("mice", "rats"))
        with pytest.raises(OpenMedError, match=f"other data than dev of 'ncbi'.*{name}"):
            predictions.with_gold(path, other)
        file.write_text(content)
    first = found.raw[0]
    for wrong, message in (
        (Found("another", first.entities), "not the documents"),
        (Found(first.id, [Entity(0, 99, "DISEASE")]), "lies outside document"),
    ):
        changed = replace(found, raw=[wrong])
        predictions.write(changed, path)
        with pytest.raises(OpenMedError, match=message):
            predictions.with_gold(path, corpus)


def test_how_far_scores_are_off_before_and_after(
    run_folder: Path, corpus: Path, tiny_backbone: Path
) -> None:
    folder = write_adapter(run_folder / "hot" / "adapter", tiny_backbone)
    plain = chosen.look(folder, "ncbi", "dev", corpus, "word")
    adapter = adapters.read(folder)
    hot = replace(adapter, info=replace(adapter.info, temperature=2.0))
    adapters.write(hot, folder)
    scaled = chosen.look(folder, "ncbi", "dev", corpus, "word")
    before, after = (one.result["calibration"] for one in (plain, scaled))
    assert before["temperature"] == 1 and before["before"] == before["after"]
    assert after["temperature"] == 2 and after["before"] == before["before"]
    assert after["after"]["mean_score"] != after["before"]["mean_score"]
    raw = scaled.result["raw"]
    assert after["after"]["entities"] == raw["tp"] + raw["fp"] > 0
    assert raw == plain.result["raw"]


class Killed(BaseException):
    """In place of a signal."""


def killed(*arguments: object) -> None:
    raise Killed


def then_killed(function: Callable[..., object]) -> Callable[..., None]:
    def run(*arguments: object) -> None:
        function(*arguments)
        raise Killed

    return run


@pytest.mark.parametrize(
    ("module", "name", "when", "kept"),
    [
        (chosen, "look", "after", True),
        (ledger, "record", "before", True),
        # Recorded, and nothing else on disk: the figures are in the ledger, no predictions.
        (ledger, "record", "after", False),
        (predictions, "write", "before", False),
        (predictions, "write", "after", True),
        (chosen, "write_json", "before", True),
        (chosen, "write_json", "after", True),
    ],
)
def test_killed_at_test_and_run_again(
    run_folder: Path,
    corpus: Path,
    tiny_backbone: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    name: str,
    when: str,
    kept: bool,
) -> None:
    """Whatever was there of an earlier choice, figures and predictions are of one look."""
    runs = run_folder
    results, record = runs / "results", runs / "ledger.jsonl"
    stale = write_adapter(runs / "other" / "adapter", tiny_backbone, seed=3)
    old = chosen.look(stale, "ncbi", "test", corpus, "word")
    path = results / "ncbi-test.json"
    predictions.write(old.predictions, predictions.beside(path))
    write_json(path, old.result)

    function = getattr(module, name)
    steps = {"before": killed, "after": then_killed(function)}

    def only_for_test(*arguments: Any) -> object:
        of_test = "test" in map(str, arguments) or any("ncbi-test" in str(a) for a in arguments)
        of_test = of_test or any(getattr(a, "split", "") == "test" for a in arguments)
        return (steps[when] if of_test else function)(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, only_for_test)
        with pytest.raises(Killed):
            list(chosen.evaluate_chosen(runs / "selection.json", results, corpus, record))
    looks = ledger.read(record).entries
    there = json.loads(path.read_text())
    found = predictions.of(there, path)
    assert found is None or predictions.read(found).adapter == there["adapter"]
    if not looks:
        # Nothing of a look that nobody recorded.
        assert (there, found) == (old.result, predictions.beside(path))

    dev, test = chosen.evaluate_chosen(runs / "selection.json", results, corpus, record)
    assert len(ledger.read(record).entries) == 1
    assert dev.predictions is not None and (test.predictions is not None) == kept
    assert json.loads(path.read_text()) == test.result == ledger.read(record).entries[0]["result"]
    assert test.result["adapter"] != old.result["adapter"]
    assert predictions.of(test.result, path) == test.predictions


def test_dev_is_measured_again_where_predictions_are_missing(
    run_folder: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = run_folder / "results"
    assert evaluate_run(run_folder, corpus).exit_code == 0
    files = {path: path.read_bytes() for path in results.iterdir()}
    (results / "ncbi-dev.predictions.jsonl").write_bytes(b"torn")
    (results / "ncbi-test.predictions.jsonl").unlink()
    arguments = (run_folder / "selection.json", results, corpus, run_folder / "ledger.jsonl")
    dev, test = chosen.evaluate_chosen(*arguments)
    assert (dev.how, test.how, test.predictions) == (chosen.MEASURED, chosen.THERE, None)
    assert {path: path.read_bytes() for path in results.iterdir()} == {
        path: content
        for path, content in files.items()
        if path.name != "ncbi-test.predictions.jsonl"
    }
