"""The ablation: what each variant trains, which runs are made, and what is shown of them."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from networks import write_pretraining
from test_training import MARKED, marked
from typer.testing import CliRunner

from spacy_openmed import pretraining
from spacy_openmed.cli.app import app
from spacy_openmed.corpora.documents import Document
from spacy_openmed.entities import Entity
from spacy_openmed.errors import OpenMedError
from spacy_openmed.evaluation import ablation as report
from spacy_openmed.training import ablation as module
from spacy_openmed.training.ablation import CELLS, Ablation, Cell, Run, ablation, train_one
from spacy_openmed.training.settings import (
    AblationSettings,
    FinetuneSettings,
    LoraSettings,
    OptimSettings,
    load,
)
from spacy_openmed.training.share import share

SETTINGS = AblationSettings(
    corpora=["ncbi", "bc2gm"],
    seeds=[1, 2],
    learning_rates={"lora": [1e-3, 2e-3], "continue": [1e-3], "full": [1e-4], "head": [1e-2]},
    finetune=FinetuneSettings(
        lora=LoraSettings(rank=4, alpha=8, dropout=0.0),
        optim=OptimSettings(batch_size=1, epochs=1, precision="fp32"),
        window=32,
        overlap=8,
        sentences=False,
    ),
)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two of the corpora by name, with sentences of our own."""
    folder = tmp_path_factory.mktemp("corpora")
    for dataset, label, original in (("ncbi", "DISEASE", "Disease"), ("bc2gm", "GENE", "GENE")):
        (folder / dataset).mkdir()
        for split in ("train", "dev"):
            lines = [
                {
                    "id": str(i),
                    "text": document.text,
                    "entities": [
                        [e.start, e.end, original] for e in document.entities if e.label == label
                    ],
                }
                for i, document in enumerate(map(marked, MARKED.strip().splitlines()))
            ]
            (folder / dataset / f"{split}.jsonl").write_text(
                "\n".join(map(json.dumps, lines)), encoding="utf8"
            )
    return folder


@pytest.fixture
def plan(tiny_backbone: Path, corpora: Path, tmp_path: Path) -> Ablation:
    adapter = write_pretraining(tiny_backbone, tmp_path / "pretraining", 1)
    return Ablation(str(tiny_backbone), adapter, corpora, tmp_path / "out", SETTINGS)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Run], float]], list[Run]]:
    """Runs that only write an F1, and are listed."""

    def install(f1: Callable[[Run], float]) -> list[Run]:
        made: list[Run] = []

        def run_all(plan: Ablation, runs: Any, workers: int, title: str) -> Any:
            for run in runs:
                path = plan.result(run)
                if not path.is_file():
                    made.append(run)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(json.dumps(row(run, f1(run))), encoding="utf8")
                yield json.loads(path.read_text(encoding="utf8"))

        monkeypatch.setattr(module, "_run_all", run_all)
        return made

    return install


def row(run: Run, f1: float) -> dict[str, Any]:
    energy = {
        "seconds": 6.0,
        "parts": 1,
        "device": "a processor",
        "tdp_watts": 10.0,
        "tdp_source": "given",
        "tdp_note": None,
        "tdp_kwh": 0.5,
        "tdp_g_co2": 121.0,
        "codecarbon": None,
        "warnings": [],
    }
    return {
        "corpus": run.corpus,
        "pretraining": run.cell.pretraining,
        "method": run.cell.method,
        "learning_rate": run.learning_rate,
        "seed": run.seed,
        "dev_f1": f1,
        "steps": 10,
        "step_seconds": 3.0,
        "seconds": 6.0,
        "peak_memory_mb": 100,
        "trainable_parameters": 1000,
        "disk_bytes": 2_000_000,
        "energy": energy,
    }


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_every_variant_trains_what_it_says(
    plan: Ablation, cell: Cell, monkeypatch: pytest.MonkeyPatch
):
    fitted = []
    real = module.fit

    def spy(*args: Any, **kwargs: Any) -> Any:
        fitted.append(real(*args, **kwargs))
        return fitted[-1]

    monkeypatch.setattr(module, "fit", spy)
    result = train_one(plan, Run("ncbi", cell, 1e-3, 1))
    network = fitted[0].network
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    encoder = {name for name in trained if not name.startswith("head.")}
    assert {"head.weight", "head.bias"} <= trained
    if cell.method == "head":
        assert not encoder
    elif cell.method == "lora":
        assert encoder and all("lora_" in name for name in encoder)
        # What is continued brings its own shape, here with the word embeddings.
        assert any("word_embeddings" in n for n in encoder) == (cell.pretraining == "continue")
    else:
        everything = {n for n, _ in network.named_parameters() if not n.startswith("head.")}
        assert encoder == everything
    merged = cell.pretraining == "merge"
    assert (network.pretraining is not None) == merged
    count = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert result["trainable_parameters"] == count
    assert 2 * count < result["disk_bytes"] < 2 * count + 20_000
    assert result["dev_f1"] == max(epoch["dev_f1"] for epoch in fitted[0].record["epochs"])
    assert json.loads(plan.result(Run("ncbi", cell, 1e-3, 1)).read_text("utf8")) == result
    assert not (plan.output / "running" / Run("ncbi", cell, 1e-3, 1).name).exists()


def test_runs_in_processes_of_their_own(plan: Ablation):
    run = Run("bc2gm", CELLS[0], 1e-2, 1)
    (result,) = module._run_all(plan, [run], 1, "ablation")
    assert result["corpus"] == "bc2gm" and result["steps"] > 0 and result["peak_memory_mb"] > 0


def test_an_error_in_a_run_is_the_error(plan: Ablation, tmp_path: Path):
    lost = replace(plan, corpora=tmp_path / "nowhere")
    with pytest.raises(OpenMedError, match="nowhere"):
        list(module._run_all(lost, [Run("ncbi", CELLS[0], 1e-2, 1)], 1, "ablation"))


def test_the_rate_is_chosen_and_then_used(
    plan: Ablation, scripted: Callable[[Callable[[Run], float]], list[Run]]
):
    made = scripted(lambda run: 50.0 + 1000 * run.learning_rate)
    result = ablation(plan)
    lora = Cell("none", "lora")
    assert {run.learning_rate for run in made if run.cell == lora and run.seed == 2} == {2e-3}
    assert len(made) == len(set(made))
    assert len(result["runs"]) == len(CELLS) * 4
    # Two variants have two rates each to choose from.
    assert len(result["learning_rates"]) == len(CELLS) + 2 and len(made) == len(CELLS) * 4 + 2
    assert result["energy"]["seconds"] == 6.0 * len(made)


def test_finished_runs_are_not_made_again(
    plan: Ablation, scripted: Callable[[Callable[[Run], float]], list[Run]]
):
    scripted(lambda run: 60.0)
    first = ablation(plan)
    made = scripted(lambda run: 0.0)
    assert ablation(plan) == first and made == []
    plan.result(Run("bc2gm", CELLS[3], 1e-2, 2)).unlink()
    ablation(plan)
    assert made == [Run("bc2gm", CELLS[3], 1e-2, 2)]


def test_results_of_other_settings_are_refused(
    plan: Ablation, scripted: Callable[[Callable[[Run], float]], list[Run]]
):
    scripted(lambda run: 60.0)
    ablation(plan)
    other = replace(plan, settings=replace(SETTINGS, train_characters=100))
    with pytest.raises(OpenMedError, match=r"another data, settings\. Choose another --output"):
        ablation(other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corpora": []}, "at least one corpus"),
        ({"seeds": []}, "one seed"),
        ({"learning_rates": {"lora": [1e-3], "full": []}}, "lacks continue, full, head"),
        ({"learning_rates": {**SETTINGS.learning_rates, "lroa": [1e-3]}}, "has lroa"),
        ({"learning_rates": {**SETTINGS.learning_rates, "lora": [0.0]}}, "above 0"),
        ({"seeds": [1, 2, 1]}, "there twice"),
    ],
)
def test_unusable_settings(plan: Ablation, change: dict[str, Any], message: str):
    with pytest.raises(OpenMedError, match=message):
        ablation(replace(plan, settings=replace(SETTINGS, **change)))


def test_a_share_has_the_labels_that_it_must_have():
    documents = [
        Document(str(i), "a" * 10, [Entity(0, 1, "RARE" if i == 7 else "COMMON")])
        for i in range(20)
    ]
    plain = share(documents, 20)
    rare = share(documents, 20, {"RARE", "COMMON"})
    assert rare[: len(plain)] == plain
    assert "7" not in {d.id for d in plain}
    assert {d.id for d in rare} == {d.id for d in plain} | {"7"}
    # What no document has does not draw in the whole corpus.
    assert share(documents, 20, {"NONE"}) == plain
    # Nor does a share change that has all already.
    assert share(documents, 20, {"COMMON"}) == plain


def test_a_share_is_whole_documents_and_always_the_same():
    documents = [Document(str(i), "x" * (10 + i), []) for i in range(50)]
    taken = share(documents, 200)
    assert taken == share(documents, 200) and len({d.id for d in taken}) == len(taken)
    assert sum(len(d.text) for d in taken[:-1]) < 200 <= sum(len(d.text) for d in taken)
    assert taken != documents[: len(taken)]
    assert sorted(d.id for d in share(documents, 10**9)) == sorted(d.id for d in documents)


def test_shipped_settings_are_usable():
    settings = load(AblationSettings, "ablation-minilm")
    module._check(settings)
    assert len(settings.seeds) >= 3
    assert {"ncbi", "bc5cdr-chem", "bc2gm", "jnlpba"} <= set(settings.corpora)


def example() -> dict[str, Any]:
    """F1 of 60 and 62 with the seeds 1 and 2 on ncbi, 70 and 80 on bc2gm."""
    figures = {("ncbi", 1): 60.0, ("ncbi", 2): 62.0, ("bc2gm", 1): 70.0, ("bc2gm", 2): 80.0}
    return {
        "runs": [
            row(Run(corpus, cell, 1e-3, seed), f1)
            for (corpus, seed), f1 in figures.items()
            for cell in CELLS
        ]
    }


def test_mean_and_spread_by_hand():
    result = example()
    assert report.f1(result, ("none", "lora"), "ncbi") == (61.0, pytest.approx(2**0.5))
    # Seed by seed: 65 and 71, not the spread between corpora.
    assert report.f1(result, ("none", "lora")) == (68.0, pytest.approx(18**0.5))
    single = {"runs": [r for r in result["runs"] if r["seed"] == 1]}
    mean, deviation = report.f1(single, ("none", "lora"), "bc2gm")
    assert mean == 70.0 and math.isnan(deviation)
    assert "| 70.00 |" in report.f1_table(single)


def test_the_tables_show_every_variant():
    lines = report.f1_table(example()).splitlines()
    assert len(lines) == 2 + len(CELLS)
    assert lines[3] == "| none | LoRA | 61.00 ± 1.41 | 75.00 ± 7.07 | 68.00 ± 4.24 |"
    lines = report.cost_table(example()).splitlines()
    assert len(lines) == 2 + len(CELLS)
    assert lines[3] == "| none | LoRA | 0.001 | 0.1 | 300 | 100 | 1,000 | 2.00 |"


@pytest.mark.parametrize("suffix", ["PNG", "svg", "pdf"])
def test_the_plot_is_a_file_of_its_kind(tmp_path: Path, suffix: str):
    pytest.importorskip("matplotlib")
    path = tmp_path / f"plot.{suffix}"
    report.draw(example(), path)
    begins = {"PNG": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
    assert path.read_bytes().startswith(begins)


def test_a_plot_of_no_known_kind_is_refused(tmp_path: Path):
    pytest.importorskip("matplotlib")
    with pytest.raises(OpenMedError, match=r"\.png, \.svg or \.pdf"):
        report.draw(example(), tmp_path / "plot.txt")


def test_the_command_writes_what_it_measured(
    plan: Ablation,
    tmp_path: Path,
    scripted: Callable[[Callable[[Run], float]], list[Run]],
):
    scripted(lambda run: 60.0)
    config = tmp_path / "small.toml"
    config.write_text(
        'corpora = ["ncbi"]\nseeds = [1]\n[learning_rates]\nlora = [1e-3]\ncontinue = [1e-3]\n'
        "full = [1e-4]\nhead = [1e-2]\n",
        encoding="utf8",
    )
    arguments = [
        "ablation", "--backbone", plan.backbone, "--adapter", str(plan.pretraining),
        "--corpus", str(plan.corpora), "--output", str(plan.output), "--config", str(config),
        "--json", str(tmp_path / "result.json"),
    ]  # fmt: skip
    shown = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert shown.exit_code == 0 and "| DAPT, continued | LoRA | 60.00 |" in shown.output
    result = json.loads((tmp_path / "result.json").read_text("utf8"))
    assert result["pretraining_sha256"] == pretraining.read(plan.pretraining).sha256
    assert result["data"]["ncbi"]["train"]["share"] == 1.0
