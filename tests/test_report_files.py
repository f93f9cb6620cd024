"""What the report does with files of another adapter, other data or another shape."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_files import (
    ADAPTER,
    baseline,
    counts,
    errors,
    look,
    put,
    result,
    robustness,
    suite,
    write_measured,
)
from typer.testing import CliRunner, Result

from spacy_openmed import adapters
from spacy_openmed.cli.app import app
from spacy_openmed.errors import OpenMedError
from spacy_openmed.evaluation import evaluate, ledger, predictions
from spacy_openmed.evaluation.errors import OF_TRAINING
from spacy_openmed.evaluation.evaluate import Found
from spacy_openmed.evaluation.report import cells, comparisons, files, further, plots, shapes
from spacy_openmed.evaluation.report.collect import collect
from spacy_openmed.evaluation.report.markdown import main_table, render
from spacy_openmed.evaluation.significance import summary
from spacy_openmed.labelling import outermost

SAMPLE = Path(__file__).parents[1] / "assets" / "sample"


@pytest.fixture()
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of one dataset, of measured figures only."""
    monkeypatch.delenv(ledger.LEDGER, raising=False)
    monkeypatch.chdir(tmp_path)
    return suite(tmp_path / "runs", ["ncbi"])


def change(path: Path, **changes: Any) -> None:
    put(path, {**json.loads(path.read_text(encoding="utf8")), **changes})


def run_report(runs: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["report", str(runs), *map(str, arguments)])


# Of another adapter or other data

ROBUSTNESS = "results/robustness/ncbi-test.json"
CROSS = "results/cross/ncbi-on-s800-dev.json"
SEEDS = "results/seeds/ncbi-7-test.json"


@pytest.mark.parametrize(
    ("path", "changes", "why"),
    [
        (ROBUSTNESS, {"adapter": "other"}, "another adapter or other data"),
        (ROBUSTNESS, {"data": {"test.jsonl": "other"}}, "another adapter or other data"),
        (ROBUSTNESS, {"edges": "wordpiece"}, "another adapter or other data"),
        (CROSS, {"adapter": "other"}, "another adapter or other data"),
        (CROSS, {"edges": "wordpiece"}, "another adapter or other data"),
        (SEEDS, {"data": {"test.jsonl": "other"}}, "other data or edges"),
        (SEEDS, {"edges": "wordpiece"}, "other data or edges"),
        (SEEDS, {"adapter": ADAPTER}, "an adapter that is counted already"),
    ],
)
def test_what_is_stale_is_left_out(
    runs: Path, path: str, changes: dict[str, Any], why: str
) -> None:
    name = path.split("/")[1]
    before = collect(runs, runs)
    assert len(before[name]) == 1 and before["warnings"] == []
    change(runs / path, **changes)
    found = collect(runs, runs)
    assert found[name] == []
    assert found["warnings"] == [f"{path}: of {why}, left out"]


def test_another_corpus_is_of_the_data_that_its_own_adapter_was_measured_on(runs: Path) -> None:
    put(runs / "results" / "s800-dev.json", result("s800", "dev", 0.9, adapter="its own"))
    (row,) = collect(runs, runs)["cross"]
    assert row["own_f1"] is not None
    change(runs / CROSS, data={"dev.jsonl": "other"})
    found = collect(runs, runs)
    assert found["cross"] == []
    assert f"{CROSS}: of another adapter or other data, left out" in found["warnings"]


def test_the_chosen_adapter_is_known_by_its_result_on_another_split(runs: Path) -> None:
    """Test of the corpus it was trained on may not have been looked at yet."""
    (runs / "results" / "ncbi-dev.json").unlink()
    assert len(collect(runs, runs)["cross"]) == 1
    change(runs / CROSS, adapter="other")
    assert collect(runs, runs)["cross"] == []


def test_seeds_without_the_chosen_run_do_not_name_it(runs: Path) -> None:
    assert "**Spread over seeds, the chosen run first**" in render(collect(runs, runs))
    (runs / "results" / "ncbi-test.json").unlink()
    second = result("ncbi", "test", 0.7, adapter="second")
    put(runs / "results" / "seeds" / "ncbi-8-test.json", second)
    put(runs / "results" / "seeds" / "ncbi-9-test.json", second)
    found = collect(runs, runs)
    (row,) = found["seeds"]
    assert (row["runs"], row["chosen"]) == (2, False)
    assert "**Spread over seeds**" in render(found)
    (sentence,) = [one for one in found["warnings"] if "seeds" in one]
    assert sentence.startswith("results/seeds/ncbi-9-test.json: of an adapter that is counted")


def test_the_average_of_runs_is_no_run_of_a_seed(runs: Path) -> None:
    second = result("ncbi", "test", 0.7, adapter="second")
    put(runs / "results" / "seeds" / "ncbi-8-test.json", second)
    (row,) = collect(runs, runs)["seeds"]
    assert (row["runs"], row["chosen"]) == (3, True)
    record = runs / "train" / "ncbi" / "minilm" / "adapter" / adapters.TRAINING
    put(record, {"averaged": [{"seed": 1}, {"seed": 2}]})
    (row,) = collect(runs, runs)["seeds"]
    assert (row["runs"], row["chosen"]) == (2, False)


def test_a_run_that_went_on_from_another_is_no_run_of_a_seed(runs: Path) -> None:
    put(runs / "results" / "seeds" / "ncbi-8-test.json", result("ncbi", "test", 0.7, adapter="2"))
    record = runs / "train" / "ncbi" / "minilm" / "adapter" / adapters.TRAINING
    put(record, {"warm_start": {"adapter": "aa", "dataset": "ncbi"}})
    (row,) = collect(runs, runs)["seeds"]
    assert (row["runs"], row["chosen"]) == (2, False)
    assert (
        "results/seeds/ncbi-*-test.json: 2 runs, which is less than 3"
        in (collect(runs, runs)["missing"])
    )


# What is missing, by dataset


def test_datasets_that_further_measurements_lack_are_named(runs: Path) -> None:
    for name in ("s800", "anatem"):
        put(runs / "results" / f"{name}-test.json", result(name, "test", 0.9))
    missing = collect(runs, runs)["missing"]
    for name in ("s800", "anatem"):
        assert f"results/robustness/{name}-*.json: no disturbed text" in missing
    assert "results/seeds/s800-*.json: no runs with further seeds" in missing
    assert not any("seeds/anatem" in sentence for sentence in missing)
    assert not any("robustness/ncbi" in sentence for sentence in missing)


# What is carried has no score of its own, and a temperature may do harm


def test_what_calibration_counts_of_what_was_found(runs: Path) -> None:
    path = runs / "results" / "ncbi-test.json"
    content = json.loads(path.read_text(encoding="utf8"))
    found = collect(runs, runs)
    row = next(one for one in found["calibrations"] if one["split"] == "test")
    assert row["found"] == content["raw"]["tp"] + content["raw"]["fp"]
    assert row["found"] != row["after"]["entities"]
    assert f"| `ncbi` | test | {row['found']} | {row['after']['entities']} |" in render(found)
    assert not any("temperature" in sentence for sentence in found["warnings"])
    worse = content["calibration"]
    worse["before"]["ece"], worse["after"]["ece"] = 0.1412, 0.1893
    change(path, calibration=worse)
    sentence = (
        "results/ncbi-test.json: calibration error 18.9 % with the temperature that was fitted on "
        "dev, 14.1 % without"
    )
    assert collect(runs, runs)["warnings"] == [sentence]


# What came before the runs of an adapter


def trained(runs: Path, dataset: str, **record: Any) -> None:
    used = {"tdp_kwh": 0.5, "tdp_g_co2": 121.0, "seconds": 600.0, "parts": 1, "device": "a CPU"}
    used |= {"tdp_watts": 8.0, "tdp_source": "given", "tdp_note": None, "codecarbon": None}
    energy = {**used, "warnings": []}
    place = runs / "train" / dataset / "minilm" / "adapter" / adapters.TRAINING
    put(place, {"seconds": 600.0, "energy": energy, **record})


def test_the_runs_before_are_in_the_cost_of_an_adapter(runs: Path) -> None:
    trained(runs, "ncbi")
    own = json.loads(next(runs.glob("train/ncbi/*/*/*.json")).read_text(encoding="utf8"))
    assert "| 10.0 | 0.5 | 121 | – |" in render(collect(runs, runs))
    before = {"adapter": "bb", "seconds": 300.0, "energy": own["energy"], "warm_start": None}
    start = {"adapter": "aa", "dataset": "s800", "types": ["X"], "runs": [before]}
    trained(runs, "ncbi", warm_start=start)
    found = collect(runs, runs)
    assert "| 15.0 | 1 | 242 | – |" in render(found) and "without the runs" not in render(found)
    # Of two that went on from the same it is spent once.
    trained(runs, "s800", warm_start=start)
    assert collect(runs, runs)["energy"]["tdp_kwh"] == pytest.approx(1.5)
    trained(runs, "ncbi", warm_start={"adapter": "aa", "dataset": "s800", "types": ["X"]})
    text = render(collect(runs, runs))
    assert "| 10.0 * | 0.5 * | 121 * | – |" in text
    assert "*: without the runs that made the adapter" in text


def test_another_pretraining_adapter_than_those_at_hand(runs: Path) -> None:
    trained(runs, "ncbi", init_adapter="e6" * 32)
    sentence = (
        "train/ncbi/minilm: builds on the pre-training adapter e6e6e6e6e6e6, which is none of "
        "those at hand"
    )
    assert sentence in collect(runs, runs)["warnings"]
    trained(runs, "ncbi", init_adapter=None)
    assert sentence not in collect(runs, runs)["warnings"]


# The ledger


def test_the_ledger_of_a_run_is_its_own_then_that_of_evaluate(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere.jsonl"
    own = runs / "ledger.jsonl"
    monkeypatch.setenv(ledger.LEDGER, str(elsewhere))
    assert files.ledger_of(runs) == own
    assert files.ledger_of(runs, own) == own
    own.rename(elsewhere)
    assert files.ledger_of(runs) == files.ledger_of(runs, elsewhere) == elsewhere
    found = collect(runs, runs)
    assert found["ledger"] == "../elsewhere.jsonl" and len(found["looks"]) == 1
    assert not any("no record of looks" in one for one in found["missing"])
    monkeypatch.delenv(ledger.LEDGER)
    assert files.ledger_of(runs) == Path("ledger.jsonl")
    assert "../ledger.jsonl: no record of looks at test" in collect(runs, runs)["missing"]
    elsewhere.rename(tmp_path / "ledger.jsonl")
    assert len(collect(runs, runs)["looks"]) == 1
    with pytest.raises(OpenMedError, match="is no file"):
        files.ledger_of(runs, own)


def test_the_command_takes_a_ledger_for_all_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ledger.LEDGER, raising=False)
    monkeypatch.chdir(tmp_path)
    runs, elsewhere = tmp_path / "runs", tmp_path / "elsewhere.jsonl"
    found = evaluated(runs, "test")
    counted = runs / "results" / "sample-test.errors.json"
    look(runs, found)
    (runs / "ledger.jsonl").rename(elsewhere)

    def warnings(*arguments: object) -> list[str]:
        run = run_report(runs, "--corpus", SAMPLE, *arguments)
        assert run.exit_code == 0, run.output
        report = json.loads((runs / "report" / "report.json").read_text(encoding="utf8"))
        kept: list[str] = report["warnings"]
        return kept

    assert "results/sample-test.json: the ledger has no look that gave this" in warnings()
    assert not counted.exists()
    assert not any("ledger" in sentence for sentence in warnings("--ledger", elsewhere))
    assert counted.is_file()
    run = run_report(runs, "--ledger", tmp_path / "absent")
    assert run.exit_code == 1 and "is no file" in run.output


@pytest.mark.parametrize(
    "changes",
    [
        {"adapter": "other"},
        {"edges": "wordpiece"},
        {"data": {"test.jsonl": "other"}},
        {"result": {"robustness": {"typos": 70.0}}},
        {"result": {"labels": {"DISEASE": "DISEASE"}, "trained_on": "bc5cdr-disease"}},
        {"raw_f1": 1.0},
    ],
)
def test_only_the_look_that_gave_a_result_counts(runs: Path, changes: dict[str, Any]) -> None:
    sentence = "results/ncbi-test.json: the ledger has no look that gave this"
    assert sentence not in collect(runs, runs)["warnings"]
    path = runs / "ledger.jsonl"
    entry = {**json.loads(path.read_text(encoding="utf8")), **changes}
    path.write_text(json.dumps(entry) + "\n", encoding="utf8")
    assert sentence in collect(runs, runs)["warnings"]


def test_looks_of_an_adapter(runs: Path) -> None:
    own = result("ncbi", "test", 0.84)
    path = runs / "ledger.jsonl"
    other = {**own, "adapter": "other"}
    for number, found in enumerate((other, {**own, "labels": {}}, {**own, "robustness": {}}, own)):
        look(runs, found, f"reason {number}")
    with path.open("a", encoding="utf8") as file:
        # As earlier versions wrote it, and what has no meaning.
        keys = ("adapter", "edges", "data")
        file.write(json.dumps({key: own[key] for key in keys} | {"time": "before"}) + "\n")
        file.write('{"result": 3}\n{"adapter": 3}\n')
    looks = ledger.read(path).looks_of(ADAPTER, "word", own["data"])
    assert [one.get("reason") for one in looks] == [None, "reason 3", None]
    assert ledger.read(path).looks_of(ADAPTER, "word", {"test.jsonl": "other"}) == []


# Broken and foreign files


def test_lines_of_the_ledger_that_are_no_looks(runs: Path) -> None:
    path = runs / "ledger.jsonl"
    before = path.read_text(encoding="utf8")
    lines: tuple[dict[str, Any], ...] = (
        {"split": "test"},
        {"dataset": "ncbi", "split": "test", "data": ["test.jsonl"]},
        {"dataset": "ncbi", "split": "test", "raw_f1": "90"},
        {"dataset": 3, "split": "test"},
        {},
    )
    # Before the linked lines, as those of earlier versions.
    foreign = "".join(json.dumps(line) + "\n" for line in lines)
    path.write_text(foreign + before, encoding="utf8")
    found = collect(runs, runs)
    assert [one["dataset"] for one in found["looks"]] == ["ncbi"]
    assert "ledger.jsonl: lines that are no looks, left out: 5" in found["warnings"]
    render(found)


@pytest.mark.parametrize(
    ("path", "changes", "place"),
    [
        ("results/ncbi-dev.json", {"raw": [1]}, "raw"),
        ("results/ncbi-dev.json", {"raw": {"f1": 80.0}}, "raw.precision"),
        ("results/ncbi-dev.json", {"data": ["dev.jsonl"]}, "data"),
        ("results/ncbi-dev.json", {"data": {"dev.jsonl": 3}}, "data.dev.jsonl"),
        ("results/ncbi-dev.json", {"calibration": {"temperature": "1"}}, "calibration.temperature"),
        ("results/ncbi-dev.json", {"partial": 1}, "partial"),
        (ROBUSTNESS, {"disturbed": {"typos": {"f1": None}}}, "disturbed.typos.f1"),
        (CROSS, {"labels": ["DISEASE"]}, "labels"),
        (SEEDS, {"conll": True}, "conll"),
        ("baselines/spacy-ner/ncbi-test.json", {"system": {"seconds": "8 min"}}, "system.seconds"),
    ],
)
def test_a_result_of_another_shape_is_named(
    runs: Path, path: str, changes: dict[str, Any], place: str
) -> None:
    change(runs / path, **changes)
    with pytest.raises(OpenMedError) as caught:
        collect(runs, runs)
    assert str(caught.value).startswith(f"{runs / path} is broken ('{place}' ")
    run = run_report(runs)
    assert run.exit_code == 1 and isinstance(run.exception, SystemExit)


@pytest.mark.parametrize("key", ["tp", "precision", "per_label", "f1_ci", "documents"])
@pytest.mark.parametrize("value", ["7", [[1, 2]], True, {"a": 1}])
def test_a_score_of_another_shape_is_found(key: str, value: Any) -> None:
    found = result("ncbi", "dev", 0.8)
    assert shapes.fault(found, shapes.RESULT) is None
    found["raw"][key] = value
    assert str(shapes.fault(found, shapes.RESULT)).startswith(f"raw.{key}")


def _keys(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    pairs: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value[:2]))
    for key, one in pairs:
        yield (*before, key)
        yield from _keys(one, (*before, key))


EVERY = [
    (path, keys)
    for path, found in (
        ("results/ncbi-dev.json", result("ncbi", "dev", 0.8)),
        ("results/ncbi-test.errors.json", errors("ncbi", "test")),
        (ROBUSTNESS, robustness(result("ncbi", "test", 0.84))),
    )
    for keys in _keys(found)
]
JUNK = st.sampled_from([None, "x", "", -1, 1.5, True, [], [None], {}, {"x": None}, {"x": {"y": 1}}])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return suite(tmp_path_factory.mktemp("whole"), ["ncbi"])


@given(st.sampled_from(EVERY), JUNK)
def test_no_value_of_a_file_is_a_crash(
    whole: Path, changed: tuple[str, tuple[Any, ...]], junk: Any
) -> None:
    path, keys = whole / changed[0], changed[1]
    before = path.read_text(encoding="utf8")
    content = json.loads(before)
    inside = content
    for key in keys[:-1]:
        inside = inside[key]
    inside[keys[-1]] = junk
    path.write_text(json.dumps(content), encoding="utf8")
    try:
        render(collect(whole, whole))
    except OpenMedError as error:
        assert str(path) in str(error)
    finally:
        path.write_text(before, encoding="utf8")


@pytest.mark.parametrize("text", ["{", "[]", '{"dataset": "ncbi"}', '{"overall": 3}', ""])
def test_a_broken_analysis_is_as_good_as_none(runs: Path, text: str) -> None:
    (runs / "results" / "ncbi-test.errors.json").write_text(text, encoding="utf8")
    found = collect(runs, runs)
    (sentence,) = [one for one in found["warnings"] if "errors.json" in one]
    assert sentence.startswith("results/ncbi-test.errors.json: broken, left out")
    assert [row["split"] for row in found["errors"]] == ["dev"]
    assert "results/ncbi-test.errors.json: no analysis of errors" in found["missing"]
    assert run_report(runs).exit_code == 0


def test_new_mentions_are_not_known_without_all_training_text(runs: Path) -> None:
    path = runs / "results" / "ncbi-test.errors.json"
    seen = {"datasets": ["ncbi", "s800"], "data": {}, "absent": ["s800"]}
    assert collect(runs, runs)["main"][0]["unseen"] is not None
    change(path, train=seen, **dict.fromkeys(OF_TRAINING))
    found = collect(runs, runs)
    assert found["main"][0]["unseen"] is None
    (sentence,) = found["warnings"]
    assert sentence.startswith("results/ncbi-test.errors.json: counted without train of s800")
    text = render(found)
    assert "Outcomes" in text
    assert "Mentions seen and not seen" not in text and "Recall by frequency" not in text
    assert run_report(runs).exit_code == 0


def test_what_an_adapter_had_seen_before_is_beside_it(runs: Path) -> None:
    (row,) = collect(runs, runs)["cross"]
    assert row["after"] == []
    train = {"ncbi": "aa", "s800": "bb"}
    change(runs / CROSS, shared={"documents": 3, "of": 30, "train": train})
    found = collect(runs, runs)
    assert found["cross"][0]["after"] == ["s800"]
    assert "| `ncbi`, after `s800` | `s800` |" in render(found)


def evaluated(runs: Path, split: str) -> dict[str, Any]:
    """Results and predictions of a model that finds every second mention."""
    at = evaluate.load("sample", split, SAMPLE)
    raw = [Found(one.id, outermost(one.entities)[::2]) for one in at.raw]
    return write_measured(runs, at, raw, None)


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_broken_analysis_is_made_again(tmp_path: Path, text: str) -> None:
    evaluated(tmp_path, "dev")
    path = tmp_path / "results" / "sample-dev.errors.json"
    path.write_text(text, encoding="utf8")
    run = run_report(tmp_path, "--corpus", SAMPLE)
    assert run.exit_code == 0 and "left out" not in run.output
    assert shapes.fault(json.loads(path.read_text(encoding="utf8")), shapes.ERRORS) is None


def test_predictions_are_read_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated(tmp_path, "dev")
    hashed: list[Path] = []
    original = predictions.of

    def of(content: dict[str, Any], path: Path) -> Path | None:
        hashed.append(path)
        return original(content, path)

    monkeypatch.setattr(predictions, "of", of)
    assert run_report(tmp_path, "--corpus", SAMPLE).exit_code == 0
    assert hashed == [tmp_path / "results" / "sample-dev.json"]


# Figures that cannot be compared, or say nothing


@pytest.mark.parametrize("whose", ["baselines/spacy-ner", "results"])
def test_without_both_conll_scores_there_is_no_raw_one_in_their_column(
    runs: Path, whose: str
) -> None:
    for name in ("bc2gm", "jnlpba"):
        put(runs / "results" / f"{name}-test.json", result(name, "test", 0.8))
        theirs = baseline(name, "test", 0.7)
        put(runs / "baselines" / "spacy-ner" / f"{name}-test.json", theirs)
    change(runs / whose / "ncbi-test.json", conll=None)
    found = collect(runs, runs)
    rows = {row["dataset"]: row for row in found["main"]}
    assert rows["ncbi"]["spacy_ner"] is None and rows["jnlpba"]["spacy_ner"] is not None
    line = next(line for line in main_table(found).splitlines() if "`ncbi`" in line)
    assert line.split(" | ")[7:9] == ["–", "–"]
    wanted = [rows[name]["spacy_ner"]["f1"] for name in ("bc2gm", "jnlpba")]
    assert found["mean"]["spacy_ner"]["f1"] == pytest.approx(sum(wanted) / 2)
    points = plots._points(found["main"], lambda row: row["spacy_ner"])
    assert sorted(f1 for _, f1, _ in points) == sorted(wanted)
    assert f"{whose}/ncbi-test.json: no CoNLL score" in found["missing"]
    # Where it says what was compared, the difference stands.
    (row,) = [row for row in found["systems"] if row["dataset"] == "ncbi"]
    assert row["on"] == "raw" and f"{row['difference']:+.2f} [" in render(found)
    assert "], raw | " in render(found)


def test_tokens_that_annotate_other_mentions_are_not_compared(runs: Path) -> None:
    for place, right in (("results", 0.8), ("baselines/spacy-ner", 0.6)):
        content = {**result("cll", "test", right), "edition": "cut"}
        put(runs / place / "cll-test.json", content)
    change(runs / "results" / "cll-test.json", conll=result("cll", "test", 0.1)["conll"])
    found = collect(runs, runs)
    row = next(row for row in found["main"] if row["dataset"] == "cll")
    assert row["conll"] is None and row["raw"] is not None
    theirs = result("cll", "test", 0.6)["raw"]["f1"]
    assert row["spacy_ner"]["on"] == "raw" and row["spacy_ner"]["f1"] == theirs
    assert row["spacy_ner"]["difference"] == pytest.approx(row["raw"]["f1"] - theirs)
    line = next(line for line in main_table(found).splitlines() if "`cll`" in line)
    assert line.split(" | ")[1] == "–" and ", raw" in line.split(" | ")[7]
    whole = [row["conll"] for row in found["main"] if row["conll"] and not row["partial"]]
    assert found["mean"]["datasets"] == len(whole)
    assert found["mean"]["conll_f1"] == pytest.approx(sum(one["f1"] for one in whole) / len(whole))
    assert any("annotates other mentions" in sentence for sentence in found["warnings"])


def test_what_is_rounded_to_nothing_has_no_sign() -> None:
    assert cells.number(-0.001, 2) == "0.00" and cells.number(-0.001, 2, "+") == "+0.00"
    assert cells.number(-0.006, 2) == "-0.01" and cells.number(0.0, 1) == "0.0"
    assert cells.interval([-0.04, 0.04]) == " [0.0, 0.0]"


def test_a_lead_that_is_published_as_a_bound_is_shown_as_one(tmp_path: Path) -> None:
    runs = suite(tmp_path / "runs", ["bc2gm", "bc5cdr-disease"])
    text = main_table(collect(runs, runs))
    assert "| OpenMed, by over 5.3 |" in text and "| OpenMed, by 2.70 |" in text


def test_so_few_documents_have_no_interval(runs: Path) -> None:
    few = files.FEWEST_DOCUMENTS - 1

    def score(right: float) -> dict[str, Any]:
        return summary(counts("ncbi", "test", right, few))

    places = (("results/ncbi-test.json", 0.84), ("baselines/spacy-ner/ncbi-test.json", 0.6))
    for path, right in places:
        change(runs / path, raw=score(right), conll=score(right))
    disturbed = json.loads((runs / ROBUSTNESS).read_text(encoding="utf8"))
    one = {**disturbed["disturbed"]["typos"], "lost_ci": [0.0, 0.0]}
    change(runs / ROBUSTNESS, clean=score(0.84), disturbed={"typos": one})
    found = collect(runs, runs)
    (row,) = found["main"]
    assert row["conll"]["f1_ci"] is row["raw"]["f1_ci"] is row["spacy_ner"]["f1_ci"] is None
    assert row["spacy_ner"]["difference_ci"] is None is not row["spacy_ner"]["difference"]
    assert found["robustness"][0]["disturbed"][0]["lost_ci"] is None
    test = next(one for one in found["results"] if one["split"] == "test")
    assert test["raw"]["f1_ci"] is None and test["raw"]["document_count"] == few
    assert "results/ncbi-test.json: no interval, which needs 5 documents" in found["missing"]


def test_as_many_as_needed_have_one() -> None:
    score: dict[str, Any] = {
        "f1": 80.0,
        "f1_ci": [70.0, 90.0],
        "documents": [[8, 2, 2]] * files.FEWEST_DOCUMENTS,
    }
    assert files.interval(score) == [70.0, 90.0]
    assert files.interval({**score, "documents": score["documents"][1:]}) is None
    # An earlier version wrote no counts.
    assert files.interval({"f1": 80.0, "f1_ci": [70.0, 90.0]}) == [70.0, 90.0]
    known = files.figures(score)
    assert known is not None and known["document_count"] == files.FEWEST_DOCUMENTS


def test_sums_of_so_few_documents_have_no_interval(tmp_path: Path) -> None:
    for name in comparisons.TOGETHER["bc5cdr"]:
        found = result(name, "test", 0.8)
        for kind in ("raw", "conll"):
            found[kind]["documents"] = found[kind]["documents"][:1]
        put(tmp_path / "results" / f"{name}-test.json", found)
    rows = {row["dataset"]: row for row in collect(tmp_path, tmp_path)["main"]}
    assert rows["bc5cdr"]["conll"]["f1"] > 0 and rows["bc5cdr"]["conll"]["f1_ci"] is None


def test_an_interval_of_what_is_lost_is_kept(runs: Path) -> None:
    disturbed = json.loads((runs / ROBUSTNESS).read_text(encoding="utf8"))["disturbed"]
    change(runs / ROBUSTNESS, disturbed={"typos": {**disturbed["typos"], "lost_ci": [1.0, 2.0]}})
    place, chosen = runs / "results", {}
    for one in files.results(place):
        chosen[one.dataset, one.split] = one
    (row,), left_out = further.robustness(place / "robustness", chosen)
    assert row["disturbed"][0]["lost_ci"] == [1.0, 2.0] and left_out == []
