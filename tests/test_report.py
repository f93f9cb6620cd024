"""The report on a run: what its files say, what is missing, what lessens the figures."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from report_files import ablation, errors, further, look, put
from report_files import result as made
from test_select import write_adapter
from typer.testing import CliRunner, Result

from spacy_openmed import adapters
from spacy_openmed.cli.app import app
from spacy_openmed.errors import OpenMedError
from spacy_openmed.evaluation.ledger import LEDGER
from spacy_openmed.evaluation.report.collect import collect
from spacy_openmed.evaluation.report.markdown import render
from spacy_openmed.evaluation.report.plots import plots

pytestmark = pytest.mark.usefixtures("one_torch_thread")

# No source at hand has these.
LACKING = [
    "results/seeds/ncbi-*-test.json: 2 runs, which is less than 3",
    "published: no source for the F1 of OpenMed NER on ncbi",
    "published: no source for the F1 of the closed-source system it compares itself with on ncbi",
]
ENERGY: dict[str, Any] = {
    "seconds": 3600.0,
    "parts": 1,
    "device": "1 × a device",
    "tdp_watts": 100.0,
    "tdp_source": "given",
    "tdp_note": None,
    "tdp_kwh": 0.1,
    "tdp_g_co2": 24.2,
    "grid_g_per_kwh": 242,
    "codecarbon": None,
    "warnings": [],
}


def score(f1: float, label: str = "DISEASE") -> dict[str, Any]:
    one = {"precision": f1 + 1, "recall": f1 - 1, "f1": f1, "tp": 60, "fp": 20, "fn": 40}
    counts = [[12, 4, 8]] * 5
    return {**one, "per_label": {label: one}, "f1_ci": [f1 - 2, f1 + 2], "documents": counts}


def result(dataset: str, split: str, sha256: str, f1: float) -> dict[str, Any]:
    return {
        "dataset": dataset,
        "split": split,
        "edition": "official",
        "partial": False,
        "data": {f"{split}.jsonl": split * 8},
        "raw": score(f1),
        "conll": score(f1 + 1),
        "adapter": sha256,
        "backbone": {"id": "tiny", "sha256": "b0" * 32, "hub_id": "", "revision": ""},
        "edges": "word",
        "calibration": made(dataset, split, 0.8)["calibration"],
    }


def change(path: Path, **changes: Any) -> None:
    put(path, {**json.loads(path.read_text(encoding="utf8")), **changes})


@pytest.fixture()
def runs(tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of one dataset on one backbone, with all that there should be."""
    monkeypatch.delenv(LEDGER, raising=False)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs"
    place = folder / "train" / "ncbi" / "tiny" / "adapter"
    write_adapter(place, tiny_backbone, f1=80.0, energy=ENERGY, edition="official")
    adapter = adapters.read(place)
    sha256, backbone = adapters.content_hash(adapter), {"sha256": adapter.info.backbone.sha256}
    arguments = ["select", str(folder / "train"), "--output", str(folder / "selection.json")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    # A backbone that is a folder; in a run it has an id, which names folders, too.
    selection = json.loads((folder / "selection.json").read_text())
    entry = selection["datasets"]["ncbi"]
    entry["backbone"]["id"] = entry["candidates"][0]["backbone"]["id"] = "tiny"
    put(folder / "selection.json", selection)

    search = folder / "search" / "ncbi" / "tiny"
    trial = {"number": 0, "state": "COMPLETE", "params": {}, "dev_f1": 79.0}
    put(
        search / "search.json",
        {
            "spacy_openmed": "0.1.0",
            "dataset": "ncbi",
            "backbone": backbone,
            "data": {"train": {"share": 0.25}, "dev": {"share": 1.0}},
            "defaults": {"number": 0, "dev_f1": 79.0},
            "best": {"number": 1, "dev_f1": 79.75, "params": {"optim.learning_rate": 0.00123}},
            "gain": 0.75,
            "finished": [trial, {**trial, "number": 1}, {**trial, "number": 2, "state": "PRUNED"}],
            "failed": [{"number": 3, "params": {}, "reason": "out of memory"}],
            "seconds": 7200.0,
            "energy": ENERGY,
        },
    )
    (search / "plots").mkdir()
    (search / "plots" / "parameter importance.png").touch()

    dapt = folder / "dapt" / "tiny"
    (dapt / "adapter").mkdir(parents=True)
    weights = (place / adapters.LORA_WEIGHTS).read_bytes()
    (dapt / "adapter" / adapters.LORA_WEIGHTS).write_bytes(weights)
    record = {"adaptation": {"steps": 50, "seconds": 600.0}, "energy": ENERGY}
    put(dapt / "adapter" / "dapt.json", {"backbone": backbone, **record})
    perplexity = {
        "base": {"perplexity": 495.88, "ci": [489.0, 502.0]},
        "adapted": {"perplexity": 38.48, "ci": [37.7, 39.2]},
        "fall": {"percent": 92.24, "ci": [92.1, 92.4]},
        "adapter": collect(folder, folder / "report")["pretraining"][0]["sha256"],
        "texts": {"held-out.txt": "d0" * 32},
    }
    put(dapt / "perplexity.json", perplexity)

    for split, f1 in (("dev", 80.0), ("test", 77.0)):
        found = result("ncbi", split, sha256, f1)
        put(folder / "results" / f"ncbi-{split}.json", found)
        counted = {**errors("ncbi", split, sha256), "data": found["data"]}
        put(folder / "results" / f"ncbi-{split}.errors.json", counted)
    look(folder, found)
    further(folder, found)
    theirs = {**result("ncbi", "test", "", 70.0), "system": {"version": "3", "seconds": 60.0}}
    put(folder / "baselines" / "spacy-ner" / "ncbi-test.json", theirs)
    put(folder / "ablation.json", ablation(["ncbi"]))
    return folder


def run_report(runs: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["report", str(runs), *map(str, arguments)])


def test_everything_is_reported(runs: Path) -> None:
    run = run_report(runs)
    assert run.exit_code == 0, run.output
    report = json.loads((runs / "report" / "report.json").read_text(encoding="utf8"))
    assert report == collect(runs, runs / "report")
    assert report["missing"] == LACKING and report["warnings"] == []
    assert (report["datasets"], report["backbones"]) == (["ncbi"], ["tiny"])
    assert report["energy"]["tdp_kwh"] == pytest.approx(0.3)
    text = (runs / "report" / "report.md").read_text(encoding="utf8")
    assert text == render(report, plots(report))
    weights = runs / "train" / "ncbi" / "tiny" / "adapter" / adapters.LORA_WEIGHTS
    megabytes = f"{weights.stat().st_size / 1e6:.2f}"
    rows = [line.removeprefix("| ").removesuffix(" |") for line in text.splitlines()]
    cells = [row.split(" | ") for row in rows]
    for expected in (
        ["`ncbi`", "dev", "raw", "81.00", "79.00", "80.00", "100"],
        ["`ncbi`", "test", "conll", "79.00", "77.00", "78.00", "100"],
        ["`ncbi`", "test", "DISEASE", "78.00", "76.00", "77.00", "100"],
        [
            *("`ncbi`", "`tiny`", "3 (1 pruned)", "1", "25 %, 100 %", "79.00", "79.75", "+0.75"),
            *("120.0", "0.1", "24.2", "–"),
        ],
        ["`ncbi`", "`tiny`", "80.00", "1,234", megabytes, "1", "1.5", "0.1", "24.2", "–"],
    ):
        assert expected in cells
    (pretrained,) = [row for row in cells if "92.2 % [92.1, 92.4]" in row]
    assert pretrained[1:3] == ["495.88", "38.48"] and pretrained[5:7] == ["50", "10.0"]
    (looked,) = [row for row in cells if f"`{report['looks'][0]['adapter']}`" in row[3:4]]
    assert looked[:2] == ["`ncbi`", "1"] and looked[4:6] == ["77.00", "78.00"]
    assert any(row[:2] == ["`ncbi`", "`tiny`"] and row[-1] == "chosen" for row in cells)
    assert "optim.learning_rate 0.00123" in text
    assert "3.00 hours on 1 × a device" in text
    trained = report["trained"][0]
    for digest in ("test" * 8, trained["sha256"], trained["backbone_sha256"]):
        assert f"`{digest}`" in text


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_links_lead_to_the_plots(runs: Path, tmp_path: Path) -> None:
    for output in (runs / "report", tmp_path / "far" / "away"):
        assert run_report(runs, "--output", output).exit_code == 0
        text = (output / "report.md").read_text(encoding="utf8")
        link = text.split("[parameter importance](")[1].split(")")[0]
        assert (output / link.replace("%20", " ")).is_file()


def test_the_report_of_the_same_files_is_the_same(runs: Path) -> None:
    assert run_report(runs).exit_code == 0
    before = contents(runs / "report")
    assert {path.suffix for path in before} == {".json", ".md", ".html", ".png"}
    assert run_report(runs).exit_code == 0
    assert contents(runs / "report") == before


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("dapt/tiny/perplexity.json", "dapt/tiny: no perplexity of the plain backbone"),
        ("dapt/tiny/adapter/dapt.json", "dapt/tiny: no energy"),
        ("search/ncbi/tiny/search.json", "search/ncbi/tiny: no F1 of the best settings"),
        ("search/ncbi/tiny/plots/parameter importance.png", "search/ncbi/tiny: no plots"),
        ("train/ncbi/tiny/adapter/openmed.json", "train/ncbi/tiny: no adapter"),
        ("train/ncbi/tiny/adapter/training.json", "train/ncbi/tiny: no F1 on dev"),
        ("selection.json", "selection.json: nothing chosen for 'ncbi'"),
        ("results/ncbi-dev.json", "results/ncbi-dev.json: not evaluated"),
        ("results/ncbi-test.json", "results/ncbi-test.json: not evaluated"),
        ("ledger.jsonl", "../ledger.jsonl: no record of looks at test"),
        ("results/ncbi-test.errors.json", "results/ncbi-test.errors.json: no analysis of errors"),
        ("baselines/spacy-ner/ncbi-test.json", "baselines: no other system on the same splits"),
        ("results/seeds/ncbi-7-test.json", "results/seeds: no runs with further seeds"),
        ("results/cross/ncbi-on-s800-dev.json", "results/cross: no adapter on another corpus"),
        ("results/robustness/ncbi-test.json", "results/robustness: no disturbed text"),
        ("ablation.json", "ablation.json: no comparison with and without pre-training"),
    ],
)
def test_what_is_missing_is_said(runs: Path, path: str, message: str) -> None:
    (runs / path).unlink()
    report = collect(runs, runs / "report")
    assert message in report["missing"] and f"- {message}." in render(report)


def test_what_was_not_run_is_said(runs: Path) -> None:
    (runs / "train" / "s800" / "large" / "adapter").mkdir(parents=True)
    change(runs / "results" / "ncbi-test.json", conll=None)
    missing = collect(runs, runs / "report")["missing"]
    for sentence in (
        "dapt/large: no pre-training",
        "search/ncbi/large: no search",
        "search/s800/tiny: no search",
        "train/ncbi/large: no adapter",
        "train/s800/large: no adapter",
        "train/s800/tiny: no adapter",
        "selection.json: nothing chosen for 's800'",
        "results/s800-test.json: not evaluated",
        "results/ncbi-test.json: no CoNLL score",
    ):
        assert sentence in missing
    assert "search/ncbi/tiny: no search" not in missing


def test_a_score_of_zero_is_not_missing(runs: Path) -> None:
    path = runs / "search" / "ncbi" / "tiny" / "search.json"
    change(path, defaults={"number": 0, "dev_f1": 0.0}, gain=0.0)
    report = collect(runs, runs / "report")
    assert report["missing"] == LACKING
    assert "| 0.00 | 79.75 | +0.00 |" in render(report)


def test_figures_that_are_worth_less_say_so(runs: Path) -> None:
    def warnings() -> list[str]:
        report = collect(runs, runs / "report")
        text = render(report)
        assert all(f"- {sentence}." in text for sentence in report["warnings"])
        found: list[str] = report["warnings"]
        return found

    results = runs / "results"
    whole = {path: path.read_bytes() for path in [*results.glob("*.json"), runs / "ledger.jsonl"]}

    def restore() -> None:
        for path, content in whole.items():
            path.write_bytes(content)

    test, dev = results / "ncbi-test.json", results / "ncbi-dev.json"
    change(test, partial=True)
    assert warnings() == [
        "results/ncbi-test.json: a part of the corpus, not comparable with others' figures"
    ]
    assert "| `ncbi` (a part) | test | raw |" in render(collect(runs, runs / "report"))
    change(test, partial=None, edition=None)
    assert warnings() == [
        "results/ncbi-test.json: the data is of no edition that the registry knows"
    ]
    restore()
    change(test, conll=score(75.5))
    assert warnings() == [
        "results/ncbi-test.json: raw F1 77.00, CoNLL F1 75.50, more than 1 point apart"
    ]
    restore()
    change(results / "robustness" / "ncbi-test.json", adapter="other")
    assert warnings() == [
        "results/robustness/ncbi-test.json: of another adapter or other data, left out"
    ]
    change(results / "robustness" / "ncbi-test.json", adapter=json.loads(whole[test])["adapter"])
    change(runs / "baselines" / "spacy-ner" / "ncbi-test.json", data={"test.jsonl": "other"})
    (sentence,) = warnings()
    assert sentence.startswith("baselines/spacy-ner/ncbi-test.json: not compared. ")
    assert "of different data: test.jsonl" in sentence
    change(runs / "baselines" / "spacy-ner" / "ncbi-test.json", data={"test.jsonl": "test" * 8})
    change(test, raw=score(77.5))
    assert warnings() == ["results/ncbi-test.json: the ledger has no look that gave this"]
    restore()
    change(dev, raw=score(81.0))
    assert warnings() == ["results/ncbi-dev.json: raw F1 81.00, at the end of training 80.00"]
    restore()
    change(dev, adapter="other")
    assert warnings() == [
        "results/ncbi-dev.json: of another adapter than the one that was chosen",
        "results/ncbi-dev.errors.json: of another adapter or other data, left out",
        "results/cross/ncbi-on-s800-dev.json: of another adapter or other data, left out",
    ]
    restore()
    look(runs, json.loads(test.read_text()), "a table was lost")
    (sentence,) = warnings()
    assert sentence.startswith("test of 'ncbi': look 2 on ") and "a table was lost" in sentence
    assert "| `ncbi` | **2** | " in render(collect(runs, runs / "report"))
    lines = (runs / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (runs / "ledger.jsonl").write_bytes(lines[1])
    assert warnings()[0].startswith("ledger.jsonl: line 1 does not follow the line before it")
    restore()
    with (runs / "ledger.jsonl").open("a") as file:
        file.write('{"time"')
    assert warnings() == ["ledger.jsonl: line 2 is torn, a command was killed while it wrote it"]
    restore()
    change(runs / "search" / "ncbi" / "tiny" / "search.json", backbone={"sha256": "b1" * 32})
    (sentence,) = warnings()
    assert sentence == "backbone 'tiny': its weights were not the same in every step"
    change(runs / "search" / "ncbi" / "tiny" / "search.json", backbone=None)
    change(runs / "dapt" / "tiny" / "perplexity.json", adapter="other")
    assert warnings() == ["dapt/tiny: the perplexity was measured with another adapter"]


def test_an_adapter_that_was_trained_again_is_not_the_chosen_one(
    runs: Path, tiny_backbone: Path
) -> None:
    write_adapter(runs / "train" / "ncbi" / "tiny" / "adapter", tiny_backbone, seed=1)
    assert (
        "train/ncbi: the adapter that was chosen is not there any more"
        in collect(runs, runs / "report")["warnings"]
    )


def test_a_report_of_nothing_but_gaps(runs: Path) -> None:
    """Every value that may be null is null."""
    report = collect(runs, runs / "report")
    bare = copy.deepcopy(report)
    keys = ("dataset", "backbone", "split", "look", "chosen", "plots", "finished", "failed")
    for name in ("pretraining", "searches", "trained", "candidates", "results", "looks"):
        for row in bare[name]:
            row.update({key: None for key in row if key not in (*keys, "pruned")})
    bare["energy"] = None
    text = render(bare)
    assert "None" not in text and "## Energy" not in text


def test_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(OpenMedError, match="is no folder"):
        collect(tmp_path / "absent", tmp_path)
    with pytest.raises(OpenMedError, match="has nothing to report"):
        collect(tmp_path, tmp_path)
    run = run_report(tmp_path)
    assert run.exit_code == 1 and not (tmp_path / "report").exists()


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_broken_file_is_named(runs: Path, text: str) -> None:
    path = runs / "search" / "ncbi" / "tiny" / "search.json"
    path.write_text(text)
    run = run_report(runs)
    assert run.exit_code == 1 and str(path) in run.output and "Run the step" in run.output
