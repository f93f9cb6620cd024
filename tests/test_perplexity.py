"""Perplexity: the same hidden wordpieces for both, and figures that mean what they say."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from spacy_openmed import adapters, pretraining
from spacy_openmed.cli.app import app
from spacy_openmed.errors import OpenMedError
from spacy_openmed.evaluation.perplexity import (
    MaskedWindow,
    compare,
    mask,
    perplexity,
    window_losses,
)
from spacy_openmed.training.dapt import dapt
from spacy_openmed.training.masked_lm import BASE_HEAD, HEAD, MaskedLM
from spacy_openmed.training.settings import DaptSettings, LoraSettings, OptimSettings

LINEAR = r"encoder\.layer\.\d+\..*\.(query|key|value|dense)"
SETTINGS = DaptSettings(
    lora=LoraSettings(4, 8, 0.0, LINEAR, embedding_rank=2),
    optim=OptimSettings(batch_size=8, learning_rate=1e-2, max_steps=60, precision="fp32"),
    window=48,
    head_steps=30,
    head_learning_rate=1e-2,
    save_steps=30,
)
LINES = [
    "mutation of the brca gene is by far a factor in breast cancer of human patients",
    "hepatitis was induced in mice by the toxic drug and therapy was with a receptor",
    "expression of the kinase protein in a tumor cell is for treatment of leukemia",
]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n".join(f"{a} . {b} . {a}" for a in LINES for b in LINES) + "\n")
    return path


@pytest.fixture(scope="module")
def adapted(tiny_backbone: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("dapt")
    dapt(str(tiny_backbone), [text], output, SETTINGS)
    return output / "adapter"


@given(
    st.lists(st.integers(0, 99), min_size=1, max_size=60),
    st.floats(0.01, 1.0),
    st.integers(0, 3),
)
def test_hidden_wordpieces_are_of_the_asked_number_and_never_special(
    values: list[int], probability: float, seed: int
) -> None:
    ids = np.array(values)
    special = [0, 1, 2]
    new, labels = mask(ids, special, 4, 100, probability, (seed, 7))
    hidden = labels != -100
    candidates = int(np.sum(~np.isin(ids, special)))
    assert hidden.sum() == min(candidates, max(1, round(probability * candidates)))
    assert np.array_equal(labels[hidden], ids[hidden])
    assert not np.isin(ids[hidden], special).any()
    assert np.array_equal(new[~hidden], ids[~hidden])
    again = mask(ids, special, 4, 100, probability, (seed, 7))
    assert np.array_equal(new, again[0]) and np.array_equal(labels, again[1])


def test_of_the_hidden_ones_most_become_the_mask() -> None:
    ids = np.full(20_000, 50)
    new, labels = mask(ids, [], 4, 1000, 0.5, (1,))
    hidden = new[labels != -100]
    assert abs((hidden == 4).mean() - 0.8) < 0.02
    assert abs((hidden == 50).mean() - 0.1) < 0.02


def window(passage: int, hidden: int) -> MaskedWindow:
    labels = np.full(30, -100)
    labels[:hidden] = 9
    return MaskedWindow(passage, np.full(30, 4), labels)


def test_perplexity_is_the_exponential_of_the_mean_loss() -> None:
    masked = [window(0, 2), window(0, 1), window(3, 5)]
    sums = {"base": np.array([2.0, 1.0, 10.0]), "adapted": np.array([1.0, 0.5, 5.0])}
    result = compare(sums, masked, seed=0)
    assert result["base"]["perplexity"] == pytest.approx(np.exp(13 / 8))
    assert result["adapted"]["perplexity"] == pytest.approx(np.exp(6.5 / 8))
    assert result["fall"]["percent"] == pytest.approx(100 * (1 - np.exp(-6.5 / 8)))
    assert (result["passages"], result["masked"]) == (2, 8)
    for name in ("base", "adapted"):
        low, high = result[name]["ci"]
        assert low <= result[name]["perplexity"] <= high
    # A draw is one of the two passages twice, or both: these are all the values there are.
    assert result["base"]["ci"] == pytest.approx([np.exp(1.0), np.exp(2.0)])
    with pytest.raises(OpenMedError, match="No passage"):
        compare({"base": np.array([])}, [], seed=0)


@given(st.integers(40, 400), st.integers(0, 5))
def test_losses_do_not_depend_on_the_batches(budget: int, seed: int) -> None:
    model = toy_model()
    rng = np.random.default_rng(seed)
    masked = []
    for number in range(7):
        ids = rng.integers(5, 40, rng.integers(3, 30))
        masked.append(MaskedWindow(number, *mask(ids, [], 4, 40, 0.3, (seed, number))))
    one_by_one = [window_losses(model, [w], 0)[0] for w in masked]
    np.testing.assert_allclose(window_losses(model, masked, 0, budget), one_by_one, rtol=1e-5)


def toy_model() -> SimpleNamespace:
    """Loses as many nats on a wordpiece as its id says, padding or not."""
    parameter = torch.nn.Parameter(torch.zeros(1))

    def losses(ids: torch.Tensor, attention: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        assert bool((attention.bool() | (labels == -100)).all())
        return labels[labels != -100].float()

    return SimpleNamespace(parameters=lambda: iter([parameter]), losses=losses)


def test_adaptation_lowers_it_and_the_figures_repeat(
    tiny_backbone: Path, text: Path, adapted: Path
) -> None:
    result = perplexity(str(tiny_backbone), [text], adapted, window=48)
    assert result["adapted"]["perplexity"] < 0.9 * result["base"]["perplexity"]
    assert result["fall"]["ci"][0] > 0
    assert result["passages"] == 9
    assert result["adapter"] == pretraining.read(adapted).sha256
    assert perplexity(str(tiny_backbone), [text], adapted, window=48) == result
    other = perplexity(str(tiny_backbone), [text], adapted, window=48, seed=1)
    assert other["base"] != result["base"]
    assert perplexity(str(tiny_backbone), [text], adapted, limit=2, window=48)["passages"] == 2


def test_base_and_adapted_are_what_was_trained(
    tiny_backbone: Path, text: Path, adapted: Path
) -> None:
    """The loss of the merged model is that of the model with live LoRA layers."""
    from peft import PeftModel

    ids = torch.randint(5, 90, (2, 20), generator=torch.Generator().manual_seed(0))
    labels = torch.full_like(ids, -100)
    labels[:, 3:9] = ids[:, 3:9]
    model, merged = MaskedLM(tiny_backbone).eval(), MaskedLM(tiny_backbone).eval()
    model.encoder = PeftModel.from_pretrained(model.encoder, str(adapted))
    pretraining.merge(merged.encoder, pretraining.read(adapted))
    for one in (model, merged):
        one.load_head(adapted / HEAD)
    with torch.inference_mode():
        expected = model.eval().losses(ids, torch.ones_like(ids), labels)
        found = merged.losses(ids, torch.ones_like(ids), labels)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_without_a_head_there_is_no_figure(
    tiny_backbone: Path, text: Path, adapted: Path, tmp_path: Path
) -> None:
    with pytest.raises(OpenMedError, match="no masked-LM head"):
        perplexity(str(tiny_backbone), [text], window=48)
    for name in (adapters.LORA_CONFIG, adapters.LORA_WEIGHTS, pretraining.RECORD, HEAD):
        (tmp_path / name).write_bytes((adapted / name).read_bytes())
    with pytest.raises(OpenMedError, match=BASE_HEAD):
        perplexity(str(tiny_backbone), [text], tmp_path, window=48)


def test_command_writes_json(
    tiny_backbone: Path, text: Path, adapted: Path, tmp_path: Path
) -> None:
    options = ["--backbone", str(tiny_backbone), "--text", str(text), "--adapter", str(adapted)]
    out = tmp_path / "out" / "perplexity.json"
    run = CliRunner().invoke(app, ["perplexity", *options, "--json", str(out)])
    assert run.exit_code == 0, run.output
    found = json.loads(out.read_text())
    assert {"base", "adapted", "fall", "passages", "masked"} <= set(found)
    assert f"{found['fall']['percent']:.1f} %" in run.output
    missing = ["perplexity", *options[:2], "--text", str(tmp_path / "no.txt"), *options[4:]]
    run = CliRunner().invoke(app, missing)
    assert run.exit_code == 1 and "no.txt" in run.output and "Traceback" not in run.output


def test_card_says_what_was_measured(
    tiny_backbone: Path, text: Path, adapted: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(adapted, folder)
    result = perplexity(str(tiny_backbone), [text], folder, window=48)
    path = tmp_path / "perplexity.json"
    path.write_text(json.dumps(result), encoding="utf8")
    run = CliRunner().invoke(app, ["card", str(folder), "--result", str(path)])
    assert run.exit_code == 0, run.output
    card = (folder / "README.md").read_text(encoding="utf8")
    assert f"{result['adapted']['perplexity']:.2f} [" in card
    assert f"{result['fall']['percent']:.1f} [" in card
    assert pretraining.read(folder).sha256 in card
    record = json.loads((folder / pretraining.RECORD).read_text(encoding="utf8"))
    assert f" hours on {record['energy']['device']}" in card
    older = {key: value for key, value in record.items() if key != "energy"}
    (folder / pretraining.RECORD).write_text(json.dumps(older), encoding="utf8")
    run = CliRunner().invoke(app, ["card", str(folder), "--result", str(path)])
    assert run.exit_code == 0, run.output
    assert "Energy" not in (folder / "README.md").read_text(encoding="utf8")
    path.write_text(json.dumps({**result, "adapter": "00"}), encoding="utf8")
    run = CliRunner().invoke(app, ["card", str(folder), "--result", str(path)])
    assert run.exit_code == 1 and "measured on another adapter" in run.output
