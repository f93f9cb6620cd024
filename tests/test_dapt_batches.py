"""Batches of pre-training: their order, their masks, and what is shown of them."""

import io
import random
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, TrainingArguments

from spacy_openmed.errors import OpenMedError
from spacy_openmed.training import dapt as module
from spacy_openmed.training.dapt import dapt
from spacy_openmed.training.masked_lm import ByLength, Masking
from spacy_openmed.training.settings import DaptSettings, LoraSettings, OptimSettings, load
from spacy_openmed.training.trainer import TrainableOnlyTrainer, training_arguments

pytestmark = [
    pytest.mark.usefixtures("one_torch_thread"),
    pytest.mark.filterwarnings("ignore:mtime may not be reliable"),
]

SETTINGS = DaptSettings(
    lora=LoraSettings(rank=2, alpha=4, dropout=0.0),
    optim=OptimSettings(batch_size=4, learning_rate=1e-2, epochs=2, precision="bf16"),
    window=48,
    head_steps=3,
    save_steps=100,
)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = random.Random(5)
    words = ("breast", "cancer", "of", "the", "patients", "was", "in", "therapy", "with", "a")
    lines = [" ".join(generator.choices(words, k=generator.randint(22, 46))) for _ in range(30)]
    path = tmp_path_factory.mktemp("text") / "own.txt"
    path.write_text("\n".join(lines), encoding="utf8")
    return path


# Order


@given(
    lengths=st.lists(st.integers(1, 256), min_size=1, max_size=200),
    batch=st.integers(1, 16),
    seed=st.text(max_size=5),
)
def test_each_pass_has_whole_updates_and_no_window_twice(lengths: list[int], batch: int, seed: str):
    order = ByLength(lengths, batch, seed)
    first = list(order)
    assert len(first) == len(order) == len(lengths) // batch * batch
    assert len(set(first)) == len(first) and set(first) <= set(range(len(lengths)))
    assert list(ByLength(lengths, batch, seed)) == first == list(order)
    order.current_pass = 1
    assert len(set(order)) == len(first)


def test_another_pass_another_order():
    order = ByLength(list(range(20, 100)), 4, "seed")
    first = list(order)
    order.current_pass = 1
    assert list(order) != first != list(ByLength(list(range(20, 100)), 4, "other"))


def share_of_padding(lengths: list[int], order: list[int], batch: int) -> float:
    batches = [[lengths[i] for i in order[a : a + batch]] for a in range(0, len(order), batch)]
    return 1 - sum(lengths) / sum(max(inside) * len(inside) for inside in batches)


def test_windows_of_a_batch_are_about_equally_long():
    generator = random.Random(1)
    lengths = [generator.randint(20, 256) for _ in range(5000)]
    grouped = share_of_padding(lengths, list(ByLength(lengths, 32, "seed")), 32)
    shuffled = share_of_padding(lengths, generator.sample(range(5000), 5000), 32)
    assert grouped < 0.05 < 0.3 < shuffled


# Masks


@pytest.fixture(scope="module")
def tokenizer(tiny_backbone: Path) -> Any:
    return AutoTokenizer.from_pretrained(str(tiny_backbone))


def some_windows(tokenizer: Any, seed: int = 0, count: int = 4) -> list[dict[str, torch.Tensor]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "input_ids": torch.tensor(
                [
                    tokenizer.cls_token_id,
                    *rng.integers(5, len(tokenizer), size),
                    tokenizer.sep_token_id,
                ]
            )
        }
        for size in rng.integers(20, 40, count)
    ]


def test_masks_depend_on_seed_pass_and_batch_alone(tokenizer: Any):
    batch = some_windows(tokenizer)
    first = Masking(tokenizer, 0.15, "seed")(batch)
    again = Masking(tokenizer, 0.15, "seed")
    again(some_windows(tokenizer, 1))
    torch.rand(7)
    found = again(batch)
    assert all(torch.equal(found[name], first[name]) for name in first)
    again.current_pass = 1
    others = [again(batch), Masking(tokenizer, 0.15, "other")(batch)]
    assert not any(torch.equal(other["labels"], first["labels"]) for other in others)


def test_masks_leave_the_generator_of_dropout_as_it_was(tokenizer: Any):
    state = torch.get_rng_state()
    Masking(tokenizer, 0.15, "seed")(some_windows(tokenizer))
    assert torch.equal(torch.get_rng_state(), state)


def test_so_many_wordpieces_are_hidden_and_none_that_is_special(tokenizer: Any):
    masking = Masking(tokenizer, 0.3, "seed")
    windows = some_windows(tokenizer, count=200)
    batch = masking(windows)
    hidden = batch["labels"] != -100
    real = sum(len(window["input_ids"]) - 2 for window in windows)
    assert 0.27 < hidden.sum().item() / real < 0.33
    special = torch.tensor(tokenizer.all_special_ids)
    assert not torch.isin(batch["labels"][hidden], special).any()
    assert batch["input_ids"].shape[1] % 8 == 0
    assert masking.wordpieces == batch["attention_mask"].sum()


# Warm-up


@pytest.mark.parametrize(
    ("steps", "ratio", "expected"), [(500, 0.06, 500), (1, 0.5, 1), (0, 0.06, 60), (0, 0.0, 0)]
)
def test_warm_up_by_updates_or_by_their_share(
    tmp_path: Path, steps: int, ratio: float, expected: int
):
    optim = OptimSettings(warmup_steps=steps, warmup_ratio=ratio, precision="fp32")
    assert training_arguments(optim, tmp_path).get_warmup_steps(1000) == expected


def test_the_paper_warms_up_for_500_updates():
    assert load(DaptSettings, "dapt").optim.warmup_steps == 500


# A run


class Seen:
    """A run and what was seen of it."""

    def __init__(self, backbone: Path, text: Path, output: Path, patch: pytest.MonkeyPatch) -> None:
        self.optims: list[OptimSettings] = []
        self.batches: list[tuple[str, bytes]] = []
        self.attended: dict[str, list[torch.Tensor]] = {}
        self.stderr = io.StringIO()
        step = TrainableOnlyTrainer.training_step

        def arguments(optim: OptimSettings, *args: Any, **kwargs: Any) -> TrainingArguments:
            self.optims.append(optim)
            return training_arguments(optim, *args, **kwargs)

        def watched(trainer: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            warnings.warn("something else", FutureWarning, stacklevel=1)
            name = Path(trainer.args.output_dir).name
            self.batches.append((name, inputs["labels"].numpy().tobytes()))
            self.attended.setdefault(name, []).append(inputs["attention_mask"].flatten())
            return step(trainer, model, inputs, *args, **kwargs)

        patch.setattr(module, "training_arguments", arguments)
        patch.setattr(TrainableOnlyTrainer, "training_step", watched)
        patch.setattr("sys.stderr", self.stderr)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            optim = replace(SETTINGS.optim, warmup_steps=5, warmup_ratio=0.2)
            self.record = dapt(str(backbone), [text], output, replace(SETTINGS, optim=optim))
        self.warnings = [str(one.message) for one in caught if one.category is FutureWarning]


@pytest.fixture(scope="module")
def seen(tiny_backbone: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    with pytest.MonkeyPatch.context() as patch:
        return Seen(tiny_backbone, text, tmp_path_factory.mktemp("run") / "out", patch)


def test_the_head_warms_up_by_share(seen: Seen):
    *_, head, adaptation = seen.optims
    assert (head.warmup_steps, head.warmup_ratio) == (0, 0.2)
    assert adaptation.warmup_steps == 5


def test_no_masks_come_twice(seen: Seen):
    # Three updates of the head, and two passes of LoRA.
    assert [name for name, _ in seen.batches].count("head-checkpoints") == 3
    masks = [labels for _, labels in seen.batches]
    assert len(set(masks)) == len(masks) == 3 + seen.record["adaptation"]["steps"]


def test_the_record_has_the_share_of_padding(seen: Seen):
    for phase, name in (("head", "head-checkpoints"), ("adaptation", "checkpoints")):
        expected = 1 - torch.cat(seen.attended[name]).float().mean().item()
        assert seen.record[phase]["padding"] == pytest.approx(expected, abs=1e-4) != 0


def test_one_warning_is_silenced_and_no_other(seen: Seen):
    assert "something else" in seen.warnings
    assert not [text for text in seen.warnings if "autocast" in text]


def test_without_a_terminal_there_is_a_line_a_phase(seen: Seen):
    shown = [line for line in seen.stderr.getvalue().splitlines() if "updates" in line]
    steps = seen.record["adaptation"]["steps"]
    assert [line.split(",")[0] for line in shown] == [
        "head: 3/3 updates",
        f"LoRA: {steps}/{steps} updates",
    ]
    assert all("loss" in line and "wordpieces/s" in line for line in shown)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_there_is_a_bar_a_phase(
    tiny_backbone: Path,
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    dapt(str(tiny_backbone), [text], tmp_path / "out", SETTINGS)
    lines = terminal.getvalue().split("\n")
    bars = [line for line in lines if "wordpieces/s" in line]
    assert [bar.strip("\r").split(":")[0] for bar in bars] == ["head", "LoRA"]
    # Within a line, the bar draws over itself.
    assert all("100%" in bar and "loss" in bar for bar in bars)
    assert "{'" not in terminal.getvalue() + capsys.readouterr().out


def test_one_process_for_several_gpus_is_refused_before_anything_is_read(
    tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: 4))
    with pytest.raises(OpenMedError, match="torchrun --nproc-per-node 4 -m spacy_openmed"):
        dapt(str(tiny_backbone), [tmp_path / "absent.txt"], tmp_path / "out", SETTINGS)
    assert not (tmp_path / "out").exists()
