"""Domain-adaptive pre-training: what is predicted, what is trained, and how it goes on."""

import gzip
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

from spacy_openmed import adapters, backbones, pretraining
from spacy_openmed.errors import OpenMedError
from spacy_openmed.evaluation.perplexity import perplexity
from spacy_openmed.network import TokenTagger
from spacy_openmed.training import dapt as module
from spacy_openmed.training import lora
from spacy_openmed.training.dapt import dapt
from spacy_openmed.training.finetune import build
from spacy_openmed.training.masked_lm import HEAD, MaskedLM, read_passages
from spacy_openmed.training.settings import (
    DaptSettings,
    FinetuneSettings,
    LoraSettings,
    OptimSettings,
    to_dict,
)
from spacy_openmed.training.trainer import TRAINABLE, TrainableOnlyTrainer, last_checkpoint

LINEAR = r"encoder\.layer\.\d+\..*\.(query|key|value|dense)"
SETTINGS = DaptSettings(
    lora=LoraSettings(rank=4, alpha=8, dropout=0.0, target_modules=LINEAR),
    optim=OptimSettings(batch_size=8, learning_rate=1e-2, max_steps=80, precision="fp32"),
    window=48,
    head_steps=20,
    head_learning_rate=1e-2,
    save_steps=30,
)
SHORT = replace(SETTINGS, optim=replace(SETTINGS.optim, max_steps=12), head_steps=0, save_steps=5)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Passages whose next word can be told from the last, plain and gzip."""
    generator = random.Random(4)
    patterns = [
        "mutation of the brca gene is by far a factor in breast cancer of human patients",
        "hepatitis was induced in mice by the toxic drug and therapy was with a receptor",
        "expression of the kinase protein in a tumor cell is for treatment of leukemia",
    ]
    lines = [" . ".join(generator.choices(patterns, k=3)) for _ in range(60)]
    folder = tmp_path_factory.mktemp("texts")
    (folder / "a.txt").write_text("\n\n".join(lines[:30]) + "\n", encoding="utf8")
    with gzip.open(folder / "b.txt.gz", "wt", encoding="utf8") as file:
        file.write("\n".join(lines[30:]))
    return [folder / "a.txt", folder / "b.txt.gz"]


@pytest.fixture(scope="module")
def with_head(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The backbone with a masked-LM head, as some are published."""
    folder = tmp_path_factory.mktemp("with-head")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        AutoModelForMaskedLM.from_pretrained(str(tiny_backbone)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(tiny_backbone)).save_pretrained(folder)
    return folder


class Run:
    """A finished run, and what was seen of it on the way."""

    def __init__(self, backbone: Path, texts: list[Path], output: Path) -> None:
        self.output = output
        self.phases: list[tuple[set[str], set[str]]] = []
        with pytest.MonkeyPatch.context() as patch:
            train = TrainableOnlyTrainer.train

            def watched(trainer: TrainableOnlyTrainer, *args: Any, **kwargs: Any) -> Any:
                model = trainer.model
                before = {n: p.detach().clone() for n, p in model.named_parameters()}
                result = train(trainer, *args, **kwargs)
                changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
                self.phases.append((changed, set(before)))
                self.model = model
                return result

            patch.setattr(TrainableOnlyTrainer, "train", watched)
            self.report = dapt(str(backbone), texts, output, SETTINGS)


@pytest.fixture(scope="module")
def finished(
    tiny_backbone: Path, texts: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Run:
    return Run(tiny_backbone, texts, tmp_path_factory.mktemp("dapt"))


# The model


def masked_batch(length: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(5, 100, (3, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[2, length // 2 :] = 0
    labels = torch.full_like(ids, -100)
    labels[0, 2] = labels[1, 7] = labels[2, 1] = 9
    return ids, mask, labels


def test_loss_is_that_of_the_whole_model_on_masked_positions(with_head: Path):
    ids, mask, labels = masked_batch()
    whole = AutoModelForMaskedLM.from_pretrained(str(with_head)).eval()
    expected = whole(input_ids=ids, attention_mask=mask, labels=labels).loss
    found = MaskedLM(with_head)(ids, mask, labels)["loss"]
    assert torch.isclose(found, expected, rtol=1e-5)
    # The mean over masked wordpieces only: those of one row count as much as all others.
    model = MaskedLM(with_head)
    alone = [model(ids[[i]], mask[[i]], labels[[i]])["loss"] for i in (0, 1)]
    two = model(ids[:2], mask[:2], labels[:2])["loss"]
    assert torch.isclose(two, (alone[0] + alone[1]) / 2, rtol=1e-5)


def test_the_head_scores_masked_positions_only(tiny_backbone: Path):
    model = MaskedLM(tiny_backbone)
    seen = []
    model.head.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    ids, mask, labels = masked_batch()
    model(ids, mask, labels)
    assert [tuple(shape) for shape in seen] == [(3, model.config.vocab_size)]


def test_a_batch_with_nothing_masked_poisons_nothing(tiny_backbone: Path):
    model = MaskedLM(tiny_backbone)
    ids, mask, labels = masked_batch()
    loss = model(ids, mask, torch.full_like(labels, -100))["loss"]
    loss.backward()
    assert loss.item() == 0.0
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert not any(gradient.any() for gradient in gradients)


def test_embeddings_stay_frozen_though_the_decoder_is_tied_to_them(tiny_backbone: Path):
    model = MaskedLM(tiny_backbone)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained and all(name.startswith("head.") for name in trained)
    embeddings = model.encoder.get_input_embeddings().weight
    assert not embeddings.requires_grad
    assert any(p is embeddings for p in model.head.parameters())


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_gradient_checkpointing_changes_no_gradient(tiny_backbone: Path):
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(5)
        model = MaskedLM(tiny_backbone)
        model.encoder = lora.wrap(model.encoder, SETTINGS.lora)
        if checkpointing:
            model.gradient_checkpointing_enable(
                gradient_checkpointing_kwargs={"use_reentrant": False}
            )
        model.train()
        model(*masked_batch())["loss"].backward()
        found.append({n: p.grad for n, p in model.named_parameters() if "lora_B" in n})
    assert all(gradient.abs().max() > 0 for gradient in found[0].values())
    for name, gradient in found[0].items():
        assert torch.allclose(gradient, found[1][name], rtol=1e-4, atol=1e-7), name


@pytest.mark.filterwarnings("ignore:mtime may not be reliable")
def test_a_run_with_gradient_checkpointing_moves_every_layer_and_learns_the_same(
    tiny_backbone: Path, texts: list[Path], tmp_path: Path
):
    found = []
    for name in ("plain", "saving"):
        optim = replace(SHORT.optim, gradient_checkpointing=name == "saving")
        dapt(str(tiny_backbone), texts, tmp_path / name, replace(SHORT, optim=optim))
        found.append(load_file(tmp_path / name / "adapter" / adapters.LORA_WEIGHTS))
    plain, saving = found
    moved = [name for name, tensor in saving.items() if "lora_B" in name and tensor.any()]
    # Six linear layers in each of the two layers.
    assert len(moved) == 12 == sum("lora_B" in name for name in plain)
    for name, tensor in plain.items():
        assert torch.allclose(tensor.float(), saving[name].float(), rtol=1e-3, atol=1e-3), name


# A run


def test_loss_falls_in_both_phases(finished: Run):
    head, whole = finished.report["head"]["losses"], finished.report["adaptation"]["losses"]
    # Every 20 updates, and with every checkpoint.
    assert len(head) == 1 and len(whole) == 5
    assert whole[0] < 0.95 * head[0]
    assert whole[-1] < 0.9 * whole[0]


def test_first_the_head_alone_then_lora_with_it(finished: Run):
    (head, all_before), (both, _) = finished.phases
    assert head and all(name.startswith("head.") for name in head)
    assert not any("lora_" in name for name in all_before)
    assert {name for name in both if not name.startswith("head.")} == {
        name for name, _ in finished.model.named_parameters() if "lora_" in name
    }


def test_the_encoder_is_left_as_it_was(finished: Run, tiny_backbone: Path):
    pristine = backbones.load_encoder(tiny_backbone).state_dict()
    state = finished.model.encoder.get_base_model().state_dict()
    found = {n.replace(".base_layer", ""): t for n, t in state.items()}
    assert all(torch.equal(found[name], tensor) for name, tensor in pristine.items())


def test_the_adapter_is_pefts_own(finished: Run, tiny_backbone: Path):
    from peft import PeftModel

    folder = finished.output / "adapter"
    names = {path.name for path in folder.iterdir()}
    assert {adapters.LORA_CONFIG, adapters.LORA_WEIGHTS} <= names
    model = PeftModel.from_pretrained(backbones.load_encoder(tiny_backbone), str(folder)).eval()
    ids, mask, _ = masked_batch()
    with torch.inference_mode():
        theirs = model(input_ids=ids, attention_mask=mask)[0]
        ours = finished.model.eval().encoder(input_ids=ids, attention_mask=mask)[0]
        with model.disable_adapter():
            plain = model(input_ids=ids, attention_mask=mask)[0]
    assert torch.allclose(ours, theirs, atol=1e-2)
    assert (theirs - plain).abs().max() > 0.01


def test_fine_tuning_goes_on_from_it(finished: Run, tiny_backbone: Path):
    settings = FinetuneSettings(lora=SETTINGS.lora, window=48, overlap=10)
    model = build(tiny_backbone, settings, 3, finished.output / "adapter")
    assert isinstance(model, TokenTagger)
    ids, mask, _ = masked_batch()
    with torch.inference_mode():
        ours = model.eval().encoder(input_ids=ids, attention_mask=mask)[0]
        theirs = finished.model.eval().encoder(input_ids=ids, attention_mask=mask)[0]
    assert torch.allclose(ours, theirs, atol=1e-2)


def test_the_report_tells_what_was_done(finished: Run, tiny_backbone: Path, texts: list[Path]):
    report = finished.report
    record = finished.output / "adapter" / pretraining.RECORD
    assert json.loads(record.read_text()) == json.loads(json.dumps(report))
    assert (report["head"]["steps"], report["adaptation"]["steps"]) == (20, 80)
    assert report["texts"] == {path.name: backbones.file_sha256(path) for path in texts}
    assert report["settings"] == to_dict(SETTINGS)
    assert report["backbone"]["sha256"] == backbones.reference(str(tiny_backbone)).sha256
    assert report["windows"] >= 60
    assert report["wordpieces"] <= 48 * report["windows"]


def test_checkpoints_hold_what_is_trained_and_no_more(finished: Run):
    folder = last_checkpoint(finished.output / "checkpoints")
    assert folder is not None
    names = {path.name for path in folder.iterdir()}
    assert not names & {"model.safetensors", "pytorch_model.bin", "training_args.bin"}
    saved = load_file(folder / TRAINABLE)
    assert all("lora_" in name or name.startswith("head.") for name in saved)
    assert not any("word_embeddings" in name or "base_layer" in name for name in saved)
    assert not any("decoder.weight" in name for name in saved)


# Going on


class Interrupted(Exception):
    """Stands for whatever ends a run before its time."""


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Record the updates of the next runs, which fail after so many; 0 lets them be."""
    original = TrainableOnlyTrainer.training_step

    def arrange(after: int = 0) -> list[int]:
        seen: list[int] = []

        def step(self: TrainableOnlyTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
            if self.state.global_step == after > 0:
                raise Interrupted
            seen.append(self.state.global_step)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(TrainableOnlyTrainer, "training_step", step)
        return seen

    return arrange


def test_resume_loses_no_more_than_the_last_checkpoint(
    tiny_backbone: Path, texts: list[Path], tmp_path: Path, steps: Callable[..., list[int]]
):
    steps(8)
    with pytest.raises(Interrupted):
        dapt(str(tiny_backbone), texts, tmp_path, SHORT)
    assert not (tmp_path / "adapter").exists()
    seen = steps()
    report = dapt(str(tiny_backbone), texts, tmp_path, SHORT, resume=True)
    assert seen == list(range(5, 12))
    assert report["adaptation"]["steps"] == 12
    assert (tmp_path / "adapter" / adapters.LORA_WEIGHTS).is_file()


def test_resume_with_nothing_there_starts_anew(
    tiny_backbone: Path, texts: list[Path], tmp_path: Path, steps: Callable[..., list[int]]
):
    seen = steps()
    assert (
        dapt(str(tiny_backbone), texts, tmp_path, SHORT, resume=True)["adaptation"]["steps"] == 12
    )
    assert seen == list(range(12))


def test_without_resume_an_unfinished_run_is_not_built_over(
    tiny_backbone: Path, texts: list[Path], tmp_path: Path, steps: Callable[..., list[int]]
):
    steps(8)
    with pytest.raises(Interrupted):
        dapt(str(tiny_backbone), texts, tmp_path, SHORT)
    steps()
    with pytest.raises(OpenMedError, match=r"has checkpoints of an earlier run.*--resume"):
        dapt(str(tiny_backbone), texts, tmp_path, SHORT)


# Text


def test_passages_are_lines_of_plain_and_gzip_files(tmp_path: Path):
    (tmp_path / "a.txt").write_text(" one α \n\n \ntwo\n", encoding="utf8")
    with gzip.open(tmp_path / "b.gz", "wt", encoding="utf8") as file:
        file.write("three\n")
    assert list(read_passages([tmp_path / "a.txt", tmp_path / "b.gz"])) == ["one α", "two", "three"]


def test_long_passages_become_windows_of_the_size_asked_for(tiny_backbone: Path, tmp_path: Path):
    (tmp_path / "own.txt").write_text("breast cancer of the patients . " * 100)
    settings = replace(SHORT, optim=replace(SHORT.optim, batch_size=1))
    tokenizer = backbones.load_tokenizer(tiny_backbone)
    special = module.special_tokens(tokenizer, 0)
    found = module._data([tmp_path / "own.txt"], tokenizer, special, settings, 1)
    assert found.wordpieces == sum(len(found[i]["input_ids"]) for i in range(len(found)))
    inner = [found[i]["input_ids"][1:-1].tolist() for i in range(len(found))]
    assert all(20 <= len(ids) <= settings.window - special.count for ids in inner)
    expected = tokenizer.encode("breast cancer of the patients . " * 100, add_special_tokens=False)
    # Windows of one text are equally long, so a few wordpieces may come twice.
    assert len(expected.ids) <= sum(map(len, inner)) <= len(expected.ids) + len(inner)
    assert all(
        tuple(found[i]["input_ids"][:1].tolist()) == special.prefix for i in range(len(found))
    )


def test_a_part_of_the_update_is_taken_back(
    finished: Run, tiny_backbone: Path, texts: list[Path], tmp_path: Path
):
    settings = replace(SETTINGS, keep=0.25, settle_steps=15)
    report = dapt(str(tiny_backbone), texts, tmp_path, settings)
    whole, kept = (
        {delta.path: delta.matrix("cpu") for delta in pretraining.read(run / "adapter").deltas()}
        for run in (finished.output, tmp_path)
    )
    assert set(whole) == set(kept)
    for path, matrix in whole.items():
        assert matrix.abs().max() > 0
        torch.testing.assert_close(kept[path], 0.25 * matrix)
    # All else is the same run; then the head alone goes on, and gets better at it.
    assert report["adaptation"]["losses"] == finished.report["adaptation"]["losses"]
    assert finished.report["settled"] is None and report["settled"]["steps"] == 15
    heads = [load_file(str(run / "adapter" / HEAD)) for run in (finished.output, tmp_path)]
    assert all(not torch.equal(heads[0][name], heads[1][name]) for name in heads[0])
    alone = replace(settings, settle_steps=0)
    assert dapt(str(tiny_backbone), texts, tmp_path / "alone", alone)["settled"] is None
    losses = {
        name: held_out_loss(tiny_backbone, run / "adapter", texts)
        for name, run in (("settled", tmp_path), ("alone", tmp_path / "alone"))
    }
    assert losses["settled"] < losses["alone"]


def test_the_head_settles_on_what_will_be_there(
    tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module._Run, "_phase", lambda *args: {})
    settings = replace(SETTINGS, lora=replace(SETTINGS.lora, dropout=0.5), keep=0.5)
    model = MaskedLM(tiny_backbone)
    model.encoder = lora.wrap(model.encoder, settings.lora)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    run = module._Run(model, Any, None, tmp_path, settings, 8, False, module.PartialState(), [])
    batch = masked_batch()
    model.train()
    assert model(*batch)["loss"] != model(*batch)["loss"]
    assert run.settle() == {}
    model.train()
    assert model(*batch)["loss"] == model(*batch)["loss"]
    assert not model.encoder.get_base_model().is_gradient_checkpointing


def held_out_loss(backbone: Path, adapter: Path, texts: list[Path]) -> float:
    return perplexity(str(backbone), texts, adapter, window=48)["adapted"]["perplexity"]
