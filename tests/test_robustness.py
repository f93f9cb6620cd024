"""F1 that is lost in clinical form: the figures, the one look at test, and the command."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from test_select import write_adapter
from typer.testing import CliRunner, Result

from spacy_openmed import adapters
from spacy_openmed.cli.app import guarded
from spacy_openmed.cli.robustness import robustness as command
from spacy_openmed.corpora.documents import Document
from spacy_openmed.corpora.folder import read_split
from spacy_openmed.corpora.statistics import content_hash
from spacy_openmed.entities import Entity
from spacy_openmed.errors import OpenMedError
from spacy_openmed.evaluation import chosen, evaluate, ledger, robustness, significance
from spacy_openmed.evaluation.disturb import DISTURBANCES, Disturbance, Edit
from spacy_openmed.evaluation.select import Chosen

pytestmark = pytest.mark.usefixtures("one_torch_thread")

SENTENCES = [
    "Ovarian cancer was seen in twelve women of this family.",
    "A rare ovarian cancer and a breast cancer came later.",
    "Nothing was found in the others, not even breast cancer.",
]


def write_split(folder: Path, dataset: str, split: str, texts: Sequence[str], **types: str) -> None:
    """Texts in which whatever a pattern finds is annotated with its type."""
    place = folder / "ner" / dataset
    place.mkdir(parents=True, exist_ok=True)
    with (place / f"{split}.jsonl").open("w", encoding="utf8") as file:
        for number, text in enumerate(texts):
            entities = [[*m.span(), t] for t, one in types.items() for m in re.finditer(one, text)]
            row = {"id": f"{split}{number}", "text": text, "entities": entities}
            file.write(json.dumps(row) + "\n")


class ByPattern:
    """A predictor that finds what a pattern finds, in place of a network."""

    pattern = r"[Oo]varian cancer|breast cancer"
    label = "DISEASE"
    backbone = SimpleNamespace(precision="fp32")

    def __init__(self, folder: Path) -> None:
        self.adapter = adapters.read(folder)

    @classmethod
    def load(cls, folder: Path) -> "ByPattern":
        return cls(folder)

    def __call__(self, texts: Sequence[str], edges: str) -> list[list[Entity]]:
        return [
            [Entity(*m.span(), self.label, 0.5) for m in re.finditer(self.pattern, text)]
            for text in texts
        ]


@pytest.fixture
def by_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robustness, "Predictor", ByPattern)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for split in ("dev", "test"):
        write_split(folder, "ncbi", split, SENTENCES, Disease="[Oo]varian cancer|breast cancer")
    return folder


@pytest.fixture(scope="module")
def adapter(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(tmp_path_factory.mktemp("robustness") / "adapter", tiny_backbone)


def _same(document: Document, rng: Random) -> list[Edit]:
    return []


SAME = Disturbance("same", "Nothing is another.", 1, _same)


def test_what_is_measured(corpus: Path, adapter: Path, by_pattern: None) -> None:
    result = robustness.measure(adapter, "ncbi", "dev", corpus, "word", 3, (SAME, *DISTURBANCES))
    assert (result["dataset"], result["split"], result["seed"]) == ("ncbi", "dev", 3)
    assert result["edges"] == "word"
    assert result["adapter"] == adapters.content_hash(adapters.read(adapter))
    assert result["data"] == evaluate.load("ncbi", "dev", corpus).data
    assert result["clean"]["f1"] == 100 and result["clean"]["tp"] == 4
    found = result["disturbed"]
    assert list(found) == ["same", *(one.name for one in DISTURBANCES)]
    # A pattern does not know capitals, misses what has a typo, and does not mind the rest.
    lost = {name for name, one in found.items() if one["lost"]}
    assert {"capitals", "line_breaks_in_mentions", "typos_in_mentions"} <= lost
    assert lost.isdisjoint({"same", "headings", "lists", "placeholders"})
    documents = read_split(corpus, "ncbi", "dev")
    for name, one in found.items():
        disturbance = next(d for d in (SAME, *DISTURBANCES) if d.name == name)
        assert (one["about"], one["version"]) == (disturbance.about, disturbance.version)
        assert one["lost"] == result["clean"]["f1"] - one["f1"]
        paired = significance.paired_bootstrap(result["clean"]["documents"], one["documents"])
        assert one["lost_ci"] == [paired.low, paired.high]
        now = robustness.disturbed(documents, disturbance, 3)
        assert one["raw_sha256"] == content_hash(now)
        assert one["changed"] == sum(a.text != b.text for a, b in zip(documents, now, strict=True))
    assert found["same"]["lost_ci"] == [0, 0] and found["same"]["changed"] == 0
    assert found["lists"]["changed"] == 3
    assert found["typos_in_mentions"]["fn"] == 4


def test_clean_figures_are_those_of_evaluate(corpus: Path, adapter: Path) -> None:
    result = robustness.measure(adapter, "ncbi", "dev", corpus, "word", 0, (SAME,))
    assert result["clean"] == chosen.look(adapter, "ncbi", "dev", corpus, "word").result["raw"]
    same = {key: result["disturbed"]["same"][key] for key in result["clean"]}
    assert same == result["clean"]


def test_each_document_has_chance_of_its_own() -> None:
    documents = [Document(str(i), "nobody knows many letters " * 40, []) for i in range(3)]
    typos = next(one for one in DISTURBANCES if one.name == "typos")
    first, second, third = robustness.disturbed(documents, typos, 0)
    assert len({first.text, second.text, third.text}) == 3
    assert robustness.disturbed(documents[:1], typos, 0) == [first]
    assert robustness.disturbed(documents, typos, 0) == [first, second, third]
    assert robustness.disturbed(documents, typos, 1)[0] != first
    assert robustness.disturbed(documents, replace(typos, name="other"), 0)[0] != first


def test_the_same_mentions_count_whatever_their_length(
    tmp_path: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In capitals "ßß" is the longer of two that overlap."""

    class None_(ByPattern):
        pattern = "nothing"

    monkeypatch.setattr(robustness, "Predictor", None_)
    write_split(tmp_path, "ncbi", "dev", ["aaaßß here"], Disease="aaaß")
    path = tmp_path / "ner" / "ncbi" / "dev.jsonl"
    row = json.loads(path.read_text())
    row["entities"] = [[0, 4, "Disease"], [2, 5, "Disease"]]
    path.write_text(json.dumps(row))
    (document,) = read_split(tmp_path, "ncbi", "dev")
    capitals = next(one for one in DISTURBANCES if one.name == "capitals")
    after = capitals(document, Random(0))
    assert [e[:2] for e in after.entities] == [(0, 5), (2, 7)]
    gold = robustness._same(robustness.registry.flatten("ncbi"), document, after)
    assert [e[:2] for e in gold] == [(0, 5)]


def test_other_types_are_refused(corpus: Path, adapter: Path) -> None:
    with pytest.raises(OpenMedError, match="finds DISEASE"):
        robustness.measure(adapter, "linnaeus", "dev", corpus, "word")


# --- the command ------------------------------------------------------------------------------


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(guarded(command))
    return CliRunner().invoke(app, [*map(str, arguments)])


def forbidden(*arguments: object) -> dict[str, Any]:
    raise AssertionError("measured")


def test_a_table_and_a_file(
    corpus: Path, adapter: Path, by_pattern: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, target = tmp_path / "ledger.jsonl", tmp_path / "new" / "ncbi-dev.json"
    monkeypatch.setenv("OPENMED_LEDGER", str(record))
    shown = run("--dataset", "ncbi", "--corpus", corpus, "--adapter", adapter, "--json", target)
    assert shown.exit_code == 0, shown.output
    result = json.loads(target.read_text())
    assert result == robustness.measure(adapter, "ncbi", "dev", corpus, "word", 0)
    lines = {line.split()[0]: line.split() for line in shown.output.splitlines()}
    assert lines["none"] == ["none", "100.00"]
    for name, one in result["disturbed"].items():
        low, high = one["lost_ci"]
        numbers = [f"{one['f1']:.2f}", f"{one['lost']:.2f}", f"[{low:.2f},", f"{high:.2f}]"]
        assert lines[name] == [name, *numbers, str(one["changed"]), "of", "3"]
    assert not record.exists()


def test_all_disturbances_are_one_look_at_test(
    corpus: Path, adapter: Path, by_pattern: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, target = tmp_path / "ledger.jsonl", tmp_path / "out.json"
    given = ["--dataset", "ncbi", "--corpus", corpus, "--adapter", adapter, "--split", "test"]
    given += ["--ledger", record, "--json", target]
    assert run(*given).exit_code == 0
    (entry,) = ledger.read(record).entries
    result = json.loads(target.read_text())
    assert entry["result"]["robustness"] == {
        name: row["f1"] for name, row in result["disturbed"].items()
    }
    assert (entry["dataset"], entry["split"], entry["look"]) == ("ncbi", "test", 1)
    assert (entry["adapter"], entry["edges"]) == (result["adapter"], "word")
    assert (entry["raw_f1"], entry["conll_f1"]) == (result["clean"]["f1"], None)
    assert entry["raw_sha256"] == content_hash(read_split(corpus, "ncbi", "test"))
    target.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(robustness, "measure", forbidden)
        for arguments, said in (
            ([], "was looked at once"),
            (["--again", " "], "needs a reason"),
            (["--split", "./test"], "choose train, dev, test"),
            (["--split", "dev", "--again", "curious"], "--again is for a further look"),
        ):
            refused = run(*given, *arguments)
            assert refused.exit_code == 1 and said in refused.stderr
            assert refused.stdout == "" and not target.exists()
    assert run(*given, "--again", "a form was added").exit_code == 0
    assert [e["reason"] for e in ledger.read(record).entries] == [None, "a form was added"]


def test_no_look_is_spent_on_figures_that_cannot_be_written(
    corpus: Path,
    adapter: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unwritable: Path,
) -> None:
    monkeypatch.setattr(robustness, "measure", forbidden)
    record = tmp_path / "ledger.jsonl"
    given = ["--dataset", "ncbi", "--corpus", corpus, "--adapter", adapter, "--split", "test"]
    refused = run(*given, "--ledger", record, "--json", unwritable)
    assert refused.exit_code == 1 and str(unwritable) in refused.stderr
    assert not record.exists()


def test_nothing_is_shown_that_is_not_recorded(
    corpus: Path, adapter: Path, by_pattern: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, target = tmp_path / "ledger.jsonl", tmp_path / "out.json"
    measure = robustness.measure
    other = {"adapter": "other", "backbone": {"id": "x", "sha256": "y"}, "edges": "word"}

    def overtaken(*arguments: Any) -> dict[str, Any]:
        at = ledger.subject(corpus, "ncbi", "test")
        ledger.record(record, at, {**other, "raw": {"f1": 1.0}})
        return measure(*arguments)

    monkeypatch.setattr(robustness, "measure", overtaken)
    given = ["--dataset", "ncbi", "--corpus", corpus, "--adapter", adapter, "--split", "test"]
    refused = run(*given, "--ledger", record, "--json", target)
    assert refused.exit_code == 1 and "with adapter other" in refused.stderr
    assert refused.stdout == "" and not target.exists()


def test_its_look_is_not_taken_for_one_of_evaluate(
    corpus: Path, adapter: Path, by_pattern: None, tmp_path: Path
) -> None:
    record = tmp_path / "ledger.jsonl"
    given = ["--dataset", "ncbi", "--corpus", corpus, "--adapter", adapter, "--split", "test"]
    assert run(*given, "--ledger", record).exit_code == 0
    sha256 = adapters.content_hash(adapters.read(adapter))
    at = ledger.subject(corpus, "ncbi", "test")
    one = chosen._Step(Chosen("ncbi", adapter, sha256), at, "word", tmp_path / "ncbi-test.json")
    assert one.restorable(record) is None
