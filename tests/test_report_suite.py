"""The main table and what was measured beside dev and test: seeds, other corpora, other systems."""

import json
from pathlib import Path
from typing import Any

import pytest
from report_files import counts, errors, look, put, result, suite

from spacy_openmed.corpora import registry
from spacy_openmed.evaluation import significance
from spacy_openmed.evaluation.report import comparisons, further, published
from spacy_openmed.evaluation.report.collect import collect
from spacy_openmed.evaluation.report.files import results
from spacy_openmed.evaluation.report.markdown import main_table, render


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return suite(tmp_path_factory.mktemp("suite"), ["ncbi", *BC5CDR, "bc4chemd", "jnlpba"])


@pytest.fixture(scope="module")
def report(runs: Path) -> dict[str, Any]:
    return collect(runs, runs / "report")


BC5CDR = ("bc5cdr-chem", "bc5cdr-disease")


def rows(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["dataset"]: row for row in report["main"]}


def test_ours_stands_beside_the_others(report: dict[str, Any]) -> None:
    found = rows(report)
    assert list(found)[-1] == "bc5cdr" and set(found) == {
        *BC5CDR, "bc5cdr", "bc4chemd", "jnlpba", "ncbi",
    }  # fmt: skip
    ours, theirs = result("jnlpba", "test", 0.88), result("jnlpba", "test", 0.75)
    row = found["jnlpba"]
    assert row["conll"] == {key: ours["conll"][key] for key in ("f1", "f1_ci")}
    assert row["raw"]["f1"] == ours["raw"]["f1"]
    assert row["to_scispacy"] == pytest.approx(ours["conll"]["f1"] - 72.06)
    assert row["to_openmed"] == pytest.approx(ours["conll"]["f1"] - 81.9)
    expected = significance.compare(ours, theirs, "conll")
    beside = row["spacy_ner"]
    assert beside["f1"] == theirs["conll"]["f1"] and beside["p"] == expected["p"]
    assert beside["difference"] == pytest.approx(ours["conll"]["f1"] - theirs["conll"]["f1"])
    assert row["unseen"] == errors("jnlpba", "test")["unseen"]


def test_a_part_is_compared_only_with_what_saw_the_same_part(report: dict[str, Any]) -> None:
    row = rows(report)["bc4chemd"]
    assert row["partial"] and row["published"]["openmed"] is not None
    assert row["to_openmed"] is row["to_closed"] is row["to_scispacy"] is None
    assert row["spacy_ner"]["difference"] > 0
    line = next(line for line in main_table(report).splitlines() if "bc4chemd" in line)
    assert line.startswith("| `bc4chemd` (a part) |") and "| 95.40 |" in line


def test_two_corpora_that_others_report_as_one(report: dict[str, Any]) -> None:
    parts = [
        result(name, "test", right)["conll"]
        for name, right in zip(BC5CDR, (0.85, 0.86), strict=True)
    ]
    tp, fp, fn = (sum(part[key] for part in parts) for key in ("tp", "fp", "fn"))
    row = rows(report)["bc5cdr"]
    assert row["conll"]["f1"] == pytest.approx(200 * tp / (2 * tp + fp + fn))
    assert row["to_scispacy"] == pytest.approx(row["conll"]["f1"] - 84.28)
    low, high = row["conll"]["f1_ci"]
    assert low < row["conll"]["f1"] < high
    assert row["spacy_ner"]["p"] < 0.05 and row["unseen"]["mentions"] == 6


def test_without_one_of_its_parts_there_is_no_sum(tmp_path: Path) -> None:
    put(tmp_path / "results" / "bc5cdr-chem-test.json", result("bc5cdr-chem", "test", 0.8))
    assert list(rows(collect(tmp_path, tmp_path))) == ["bc5cdr-chem"]


def test_counts_of_other_documents_are_not_added_up(tmp_path: Path) -> None:
    for name, documents in zip(BC5CDR, (20, 30), strict=True):
        score = significance.summary(counts(name, "test", 0.8, documents))
        put(tmp_path / f"{name}-test.json", result(name, "test", 0.8, raw=score, conll=score))
    whole = comparisons.with_sums(list(results(tmp_path)))[-1].content
    assert whole["conll"]["f1"] > 0 and "documents" not in whole["conll"]


def test_the_mean_is_of_whole_corpora(report: dict[str, Any]) -> None:
    whole = [rows(report)[name] for name in ("ncbi", *BC5CDR, "jnlpba")]
    mean = report["mean"]
    assert mean["datasets"] == mean["spacy_ner"]["datasets"] == 4
    assert mean["conll_f1"] == pytest.approx(sum(row["conll"]["f1"] for row in whole) / 4)
    gains = [row["spacy_ner"]["difference"] for row in whole]
    assert mean["spacy_ner"]["difference"] == pytest.approx(sum(gains) / 4)
    assert "| mean of 4 corpora |" in main_table(report)


def test_the_table_of_the_readme_is_that_of_the_report(report: dict[str, Any]) -> None:
    text = main_table(report)
    assert text in render(report)
    assert len(text.splitlines()) == 2 + len(report["main"]) + 1
    assert "None" not in text


def test_no_counts_of_documents_and_no_text_are_copied(report: dict[str, Any]) -> None:
    text = json.dumps(report["results"]) + json.dumps(report["systems"])
    assert '"documents"' not in text and '"f1_ci"' in text
    assert "ectodermal" not in json.dumps(report) + render(report)


def test_seeds(tmp_path: Path) -> None:
    chosen = result("ncbi", "dev", 0.8)
    others = [result("ncbi", "dev", right, adapter=f"seed {right}") for right in (0.7, 0.9)]
    for seed, one in enumerate(others):
        put(tmp_path / "seeds" / f"ncbi-{seed}-dev.json", one)
    put(tmp_path / "seeds" / "s800-1-dev.json", result("s800", "dev", 0.8))
    put(tmp_path / "ncbi-dev.json", chosen)
    found = {(one.dataset, one.split): one for one in results(tmp_path)}
    (row,), left_out = further.seeds(tmp_path / "seeds", found)
    assert row["chosen"] and left_out == []
    values = [one["raw"]["f1"] for one in (chosen, *others)]
    mean = sum(values) / 3
    assert row["raw_f1"] == values and row["mean"] == pytest.approx(mean)
    assert row["deviation"] ** 2 == pytest.approx(sum((v - mean) ** 2 for v in values) / 2)


def test_another_corpus_is_compared_on_the_labels_that_both_have(tmp_path: Path) -> None:
    own = result("jnlpba", "dev", 0.8)
    other = result("jnlpba", "dev", 0.5, labels={"PROTEIN": "GENE"})
    put(tmp_path / "jnlpba-dev.json", own)
    put(tmp_path / "cross" / "bc2gm-on-jnlpba-dev.json", other)
    found = {(one.dataset, one.split): one for one in results(tmp_path)}
    (row,), left_out = further.cross(tmp_path / "cross", found)
    assert left_out == []
    assert (row["trained_on"], row["dataset"], row["split"]) == ("bc2gm", "jnlpba", "dev")
    protein = own["raw"]["per_label"]["PROTEIN"]["f1"]
    assert row["own_f1"] == pytest.approx(protein) != own["raw"]["f1"]
    assert row["lost"] == pytest.approx(protein - other["raw"]["f1"])


def test_disturbed_text(report: dict[str, Any]) -> None:
    row = next(row for row in report["robustness"] if row["dataset"] == "ncbi")
    capitals, typos = row["disturbed"]
    assert capitals["lost"] == pytest.approx(row["clean_f1"] - capitals["f1"])
    assert capitals["lost"] > typos["lost"] > 0
    text = render(report)
    assert "| dataset | split | F1 | ALL CAPS | typos |" in text
    assert "- ALL CAPS: Every letter a capital.." not in text


def test_what_pretraining_brings(report: dict[str, Any]) -> None:
    plain, adapted = report["ablation"]
    assert (plain["pretraining"], adapted["pretraining"]) == ("none", "DAPT, merged")
    assert adapted["mean"] - plain["mean"] == pytest.approx(2.5)
    assert plain["f1"] == {"ncbi": 71.5, "bc2gm": 71.5}


def test_every_published_figure_has_a_source() -> None:
    names = [*registry.datasets(), *comparisons.TOGETHER]
    sources = published.sources(names)
    assert all(one["url"].startswith("https://") and one["datasets"] for one in sources)
    with_source = {name for one in sources for name in one["datasets"]}
    for name in names:
        known = published.of(name).to_dict()
        assert name in with_source or set(known.values()) == {None, False}
        assert all(50 < known[key] < 100 for key in ("openmed", "closed", "scispacy") if known[key])
    scispacy = {name: published.of(name).scispacy for name in names}
    assert {name: f1 for name, f1 in scispacy.items() if f1} == {
        "bc5cdr": 84.28, "jnlpba": 72.06, "bionlp13cg": 77.84,
    }  # fmt: skip


def test_a_result_of_an_earlier_version_is_shown_without_what_it_lacks(tmp_path: Path) -> None:
    old = result("ncbi", "test", 0.8)
    for kind in ("raw", "conll"):
        del old[kind]["documents"], old[kind]["f1_ci"]
    put(tmp_path / "results" / "ncbi-test.json", old)
    put(tmp_path / "baselines" / "spacy-ner" / "ncbi-test.json", result("ncbi", "test", 0.7))
    look(tmp_path, old)
    found = collect(tmp_path, tmp_path)
    (row,) = found["main"]
    assert row["spacy_ner"]["difference"] is None and row["conll"]["f1_ci"] is None
    assert "results/ncbi-test.json: no interval" in found["missing"]
    assert any("no counts of each document" in sentence for sentence in found["warnings"])
    assert "None" not in main_table(found)
