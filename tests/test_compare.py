"""Comparing two result files: the figures, what is said of them, and what is refused."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from test_significance import systems
from typer.testing import CliRunner, Result

from spacy_openmed.cli.app import app
from spacy_openmed.evaluation.significance import (
    approximate_randomization,
    bootstrap_interval,
    f1,
    paired_bootstrap,
)

FAR, NEAR = systems(80, (0.8, 0.5), seed=1), systems(80, (0.7, 0.7), seed=2)


def scores(counts: Any) -> dict[str, Any]:
    tp, fp, fn = counts.sum(axis=0).tolist()
    return {"f1": f1(counts), "tp": tp, "fp": fp, "fn": fn, "documents": counts.tolist()}


def result(raw: Any, conll: Any = None) -> dict[str, Any]:
    return {
        "dataset": "ncbi",
        "split": "dev",
        "data": {"dev.jsonl": "a" * 64, "dev.conll": "b" * 64},
        "raw": scores(raw),
        **({} if conll is None else {"conll": scores(conll)}),
        "adapter": "c" * 64,
        "edges": "word",
    }


def compare(folder: Path, a: Any, b: Any, *options: str) -> Result:
    paths = [folder / "a.json", folder / "b.json"]
    for path, content in zip(paths, (a, b), strict=True):
        path.write_text(json.dumps(content), encoding="utf8")
    return CliRunner().invoke(app, ["compare", *map(str, paths), *options])


def refusal(outcome: Result) -> str:
    assert outcome.exit_code == 1
    assert outcome.stdout == ""
    return outcome.stderr


def test_a_clear_difference(tmp_path: Path) -> None:
    a, b = FAR
    target = tmp_path / "out" / "compared.json"
    outcome = compare(tmp_path, result(a), result(b), "--json", str(target))
    assert outcome.exit_code == 0, outcome.output
    found = json.loads(target.read_text(encoding="utf8"))
    assert found["p"] == approximate_randomization(a, b) < 0.001
    assert found["difference"] == pytest.approx(f1(a) - f1(b))
    paired = paired_bootstrap(a, b)
    assert (*found["difference_ci"], found["not_ahead"]) == (
        paired.low,
        paired.high,
        paired.not_ahead,
    )
    assert [one["f1"] for one in found["systems"]] == [f1(a), f1(b)]
    assert [one["f1_ci"] for one in found["systems"]] == [
        list(bootstrap_interval(a)),
        list(bootstrap_interval(b)),
    ]
    assert (found["dataset"], found["split"], found["on"]) == ("ncbi", "dev", "raw")
    assert found["documents"] == 80
    assert found["differing"] == sum(x != y for x, y in zip(a.tolist(), b.tolist(), strict=True))
    low, high = bootstrap_interval(a)
    assert f"{f1(a):.2f}  [{low:.2f}, {high:.2f}]" in outcome.stdout
    assert f"p = {found['p']:.4f}" in outcome.stdout
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    points = f1(a) - f1(b)
    assert f"{first} is ahead by {points:.2f} points, more than chance" in outcome.stdout
    swapped = compare(tmp_path, result(b), result(a))
    assert f"{second} is ahead by {points:.2f} points, more than chance" in swapped.stdout


def test_a_difference_that_may_be_chance(tmp_path: Path) -> None:
    a, b = NEAR
    assert f1(a) != f1(b)
    said = compare(tmp_path, result(a), result(b)).stdout
    assert "Chance alone may well make such a difference" in said
    assert "ahead" not in said
    same = compare(tmp_path, result(a), result(a)).stdout
    assert "p = 1.0000" in same
    assert "80 documents, 0 of them scored differently" in same


def test_raw_and_conll_are_told_apart(tmp_path: Path) -> None:
    files = result(FAR[0], NEAR[0]), result(FAR[1], NEAR[1])
    assert "more than chance" in compare(tmp_path, *files).stdout
    assert "Chance alone" in compare(tmp_path, *files, "--on", "conll").stdout
    assert "--on" in refusal(compare(tmp_path, *files, "--on", "tokens"))
    raw_only = result(FAR[0])
    assert "no conll scores" in refusal(compare(tmp_path, raw_only, files[1], "--on", "conll"))


def test_results_on_files_of_ones_own(tmp_path: Path) -> None:
    one, other = (
        {"file": name, "data": {"raw_sha256": "d" * 64}, "raw": scores(counts)}
        for name, counts in zip(("notes.jsonl", "copy.jsonl"), FAR, strict=True)
    )
    assert "more than chance" in compare(tmp_path, one, other).stdout
    assert "a file" in refusal(compare(tmp_path, one, result(FAR[1])))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("dataset", "bc2gm", "dev of 'ncbi'"),
        ("split", "train", "train of 'ncbi'"),
        ("data", {"dev.jsonl": "a" * 64, "dev.conll": "e" * 64}, "different data: dev.conll"),
        ("data", {"dev.jsonl": "a" * 64}, "different data: dev.conll"),
    ],
)
def test_other_data_is_refused(tmp_path: Path, key: str, value: Any, said: str) -> None:
    a, b = map(result, FAR)
    assert said in refusal(compare(tmp_path, a, {**b, key: value}))
    assert said in refusal(compare(tmp_path, {**b, key: value}, a))


def test_other_annotations_are_refused(tmp_path: Path) -> None:
    a, b = FAR
    changed = b.copy()
    changed[0, 2] += 1
    assert "not of the same annotations" in refusal(compare(tmp_path, result(a), result(changed)))
    assert "not of the same" in refusal(compare(tmp_path, result(a), result(b[:-1])))


def test_files_of_earlier_versions_are_refused(tmp_path: Path) -> None:
    old = result(FAR[0])
    del old["raw"]["documents"]
    said = refusal(compare(tmp_path, result(FAR[1]), old))
    assert f"{tmp_path / 'b.json'} has no counts" in said
    assert "spacy openmed evaluate" in said.replace("\n", " ")


def _cut(rows: list[Any]) -> Any:
    return rows[:-5]


def _longer(rows: list[Any]) -> Any:
    return [*rows, [0, 0, 0, 0]]


def _negative(rows: list[Any]) -> Any:
    (tp, fp, fn), (tp2, fp2, fn2), *rest = rows
    return [[tp, -1, fn], [tp2, fp + fp2 + 1, fn2], *rest]


def _words(rows: list[Any]) -> Any:
    return [["a", "b", "c"], *rows[1:]]


@pytest.mark.parametrize(
    "change", [_cut, _longer, _negative, _words, lambda rows: 7, lambda rows: []]
)
def test_counts_that_do_not_add_up_are_refused(tmp_path: Path, change: Any) -> None:
    a, b = map(result, FAR)
    broken = copy.deepcopy(b)
    broken["raw"]["documents"] = change(broken["raw"]["documents"])
    assert "do not add up" in refusal(compare(tmp_path, a, broken))


@pytest.mark.parametrize("content", [{}, {"raw": 1, "data": {}}, {"raw": {}}, {"ents_f": 0.8}])
def test_other_files_are_refused(tmp_path: Path, content: Any) -> None:
    said = refusal(compare(tmp_path, result(FAR[0]), content))
    assert f"{tmp_path / 'b.json'} is not what" in said


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    good, broken = tmp_path / "good.json", tmp_path / "broken.json"
    good.write_text(json.dumps(result(FAR[0])), encoding="utf8")
    broken.write_text("{", encoding="utf8")
    for path, what in (
        (broken, "is broken"),
        (tmp_path / "gone.json", "cannot be read"),
        (tmp_path, "cannot be read"),
    ):
        outcome = CliRunner().invoke(app, ["compare", str(good), str(path)])
        assert f"{path} {what}" in refusal(outcome)
