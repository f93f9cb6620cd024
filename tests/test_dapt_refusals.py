"""What pre-training refuses: settings and texts, each with a message that says what to do."""

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spacy_openmed.errors import OpenMedError
from spacy_openmed.training.dapt import dapt
from spacy_openmed.training.settings import DaptSettings, LoraSettings, OptimSettings

SETTINGS = DaptSettings(
    lora=LoraSettings(rank=2, alpha=4, dropout=0.0),
    optim=OptimSettings(batch_size=4, accumulation=2, precision="fp32", epochs=1),
    window=48,
    head_steps=1,
)
PASSAGE = "breast cancer of the patients was in therapy with a toxic drug by treatment in mice "


def passages(count: int) -> str:
    return "".join(f"{PASSAGE * 2}\n" for _ in range(count))


Change = Callable[[DaptSettings], DaptSettings]


def optim(**changes: Any) -> Change:
    return lambda settings: replace(settings, optim=replace(settings.optim, **changes))


def lora(**changes: Any) -> Change:
    return lambda settings: replace(settings, lora=replace(settings.lora, **changes))


def settings(**changes: float) -> Change:
    return lambda settings: replace(settings, **changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (settings(mask_probability=0.0), "mask_probability = 0.0: must be between 0 and 1"),
        (settings(mask_probability=1.0), "mask_probability = 1.0: must be between 0 and 1"),
        (settings(mask_probability=float("nan")), "mask_probability = nan"),
        (settings(head_steps=-1), "head_steps = -1: must be 0 or more"),
        (settings(save_steps=0), "save_steps = 0: must be 1 or more"),
        (optim(max_steps=0), "max_steps = 0: must be 1 or more, or -1 to go by epochs"),
        (optim(max_steps=-2), "max_steps = -2"),
        (optim(batch_size=0), "batch_size = 0: must be 1 or more"),
        (optim(accumulation=0), "accumulation = 0: must be 1 or more"),
        (optim(epochs=0.0), "epochs = 0.0: must be more than 0"),
        (optim(warmup_steps=-1), "warmup_steps = -1: must be 0 or more"),
        (optim(warmup_ratio=1.0), r"warmup_ratio = 1.0: must be 0 or more, below 1"),
        (optim(epochs=float("inf")), "epochs = inf: must be more than 0, and finite"),
        (optim(learning_rate=float("nan")), "learning_rate = nan: must be more than 0"),
        (optim(learning_rate=0.0), "learning_rate = 0.0: must be more than 0"),
        (settings(head_learning_rate=-1.0), "head_learning_rate = -1.0: must be more than 0"),
        (optim(max_grad_norm=-1.0), "max_grad_norm = -1.0: must be 0 or more"),
        (optim(weight_decay=-0.1), "weight_decay = -0.1: must be 0 or more"),
        (optim(seed=-1), "seed = -1: must be 0 or more"),
        (lora(dropout=1.0), "dropout = 1.0: must be 0 or more, below 1"),
        (lora(dropout=-0.1), "dropout = -0.1: must be 0 or more, below 1"),
        (lora(rank=0), "rank = 0: must be 1 or more"),
        (lora(alpha=0), "alpha = 0: must be 1 or more"),
        (lora(embedding_rank=-1), "embedding_rank = -1: must be 0 or more"),
        (lora(target_modules="("), r"target_modules = '\(' is not a regular expression: "),
        (
            lora(target_modules=".*q_proj"),
            r"'.\*q_proj' does not fit this backbone: it matches none of its modules. Its linear "
            r"layers are named dense, key, query, value\.",
        ),
        (
            lora(target_modules=r".*LayerNorm"),
            r"it matches 'embeddings.LayerNorm', which is a LayerNorm. Its linear layers",
        ),
        (optim(precision="fp8"), "precision = 'fp8': choose"),
        (settings(overlap=46), r"overlap = 46: must be 0 or more, and less than .* \(46\)"),
        (settings(overlap=-1), "overlap = -1: must be 0 or more"),
        (settings(window=513), "window = 513: this backbone takes 22 to 512 wordpieces"),
        (settings(window=21), "window = 21: this backbone takes 22 to 512 wordpieces"),
        (optim(warmup_steps=500), r"warmup_steps = 500, but the run has 2 updates"),
        (optim(warmup_steps=5, epochs=2.3), r"warmup_steps = 5, but the run has 5 updates"),
        (optim(warmup_steps=9, max_steps=9), r"warmup_steps = 9, but the run has 9 updates"),
    ],
)
def test_settings(tiny_backbone: Path, tmp_path: Path, change: Change, message: str):
    (tmp_path / "own.txt").write_text(passages(20))
    with pytest.raises(OpenMedError, match=message):
        dapt(str(tiny_backbone), [tmp_path / "own.txt"], tmp_path / "out", change(SETTINGS))
    assert not (tmp_path / "out").exists()


def refused(backbone: Path, tmp_path: Path, *names: str) -> str:
    """The message about texts that are refused, of which nothing was written."""
    with pytest.raises(OpenMedError) as caught:
        dapt(str(backbone), [tmp_path / name for name in names], tmp_path / "out", SETTINGS)
    assert not (tmp_path / "out").exists()
    return str(caught.value)


def test_no_file(tiny_backbone: Path, tmp_path: Path):
    assert "No text to train on" in refused(tiny_backbone, tmp_path)
    message = refused(tiny_backbone, tmp_path, "absent.txt")
    assert "absent.txt: cannot be read (No such file" in message
    (tmp_path / "folder").mkdir()
    assert "folder: cannot be read (Is a directory" in refused(tiny_backbone, tmp_path, "folder")


@pytest.mark.parametrize(
    ("text", "count"),
    [("", 0), ("\n \n", 0), ("the patient was in therapy\n" * 100, 0), (passages(7), 7)],
    ids=["empty", "blank", "too short", "less than an update"],
)
def test_too_little_text(tiny_backbone: Path, tmp_path: Path, text: str, count: int):
    (tmp_path / "own.txt").write_text(text)
    message = refused(tiny_backbone, tmp_path, "own.txt")
    assert message.startswith(f"{count} passages of at least 20 wordpieces in ")
    # Two batches of four make an update.
    assert "own.txt: fewer than one update takes (8)" in message


def test_as_much_text_as_an_update_takes(tiny_backbone: Path, tmp_path: Path):
    (tmp_path / "own.txt").write_text(passages(8))
    record = dapt(str(tiny_backbone), [tmp_path / "own.txt"], tmp_path / "out", SETTINGS)
    assert record["adaptation"]["steps"] == 1


@pytest.mark.parametrize("compressed", [False, True])
def test_another_encoding_is_named_with_file_and_line(
    tiny_backbone: Path, tmp_path: Path, compressed: bool
):
    (tmp_path / "good.txt").write_text(passages(10))
    content = passages(11).encode() + "Wärmebehandlung".encode("latin-1") + b"\n"
    content = gzip.compress(content) if compressed else content
    (tmp_path / "mixed.txt").write_bytes(content)
    message = refused(tiny_backbone, tmp_path, "good.txt", "mixed.txt")
    assert "mixed.txt, line 12: not UTF-8" in message


def test_two_files_of_one_name(tiny_backbone: Path, tmp_path: Path):
    (tmp_path / "a").mkdir()
    message = refused(tiny_backbone, tmp_path, "own.txt", "a/own.txt", "other.txt")
    assert message.startswith("Several texts are named own.txt")
