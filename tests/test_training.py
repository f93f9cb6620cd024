"""LoRA fine-tuning: the loss, the gradients, what a run writes, and how it goes on."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from networks import write_pretraining
from safetensors.torch import load_file
from torch.utils.checkpoint import checkpoint
from transformers import TrainingArguments
from typer.testing import CliRunner

from spacy_openmed import adapters, backbones, lineage, network, pretraining
from spacy_openmed.adapters import AdapterInfo
from spacy_openmed.code_hash import code_sha256
from spacy_openmed.corpora.documents import Document
from spacy_openmed.corpora.statistics import content_hash
from spacy_openmed.entities import Entity
from spacy_openmed.errors import OpenMedError
from spacy_openmed.evaluation.evaluate import raw_scores
from spacy_openmed.evaluation.scores import Score, Scores
from spacy_openmed.network import tagging_loss
from spacy_openmed.precision import resolve_precision, resolve_unscaled
from spacy_openmed.predictor import Predictor
from spacy_openmed.training import finetune as module
from spacy_openmed.training.finetune import FinetuneTrainer, build, finetune, fit
from spacy_openmed.training.samples import BatchSampler
from spacy_openmed.training.settings import FinetuneSettings, LoraSettings, OptimSettings, to_dict
from spacy_openmed.training.trainer import (
    TRAINABLE,
    Diverged,
    TrainableOnlyTrainer,
    last_checkpoint,
    trainable_state,
    training_arguments,
)

TRANSFORMERS = int(transformers.__version__.split(".")[0])
LINEAR = r"encoder\.layer\.\d+\..*\.(query|key|value|dense)"
SETTINGS = FinetuneSettings(
    lora=LoraSettings(rank=8, alpha=16, dropout=0.0, target_modules=LINEAR),
    optim=OptimSettings(
        batch_size=1,
        learning_rate=5e-3,
        epochs=25,
        weight_decay=0.0,
        max_grad_norm=0.3,
        precision="fp32",
    ),
    window=32,
    overlap=8,
    sentences=False,
    label_smoothing=0.0,
    dropout=0.0,
    patience=25,
)
# {} around diseases, [] around genes.
MARKED = """
Mutation of [BRCA1] is by far a factor in {breast cancer}. The patients were human.
{Hepatitis} was induced in mice. A receptor of the [p53 gene] is in the human cell.
Therapy for {ovarian cancer} in patients with [BRCA2] or [p53] expression.
The {inter nephritis} of patients and the {leukemia} of mice were in the [cyp gene].
A kinase inhibitor is a drug for {neuropathy}; the [il2 gene] is a cell factor.
{Toxic hepatitis}, {meningitis} and {neuritis} of the patients were by treatment.
[BRCA1] and [BRCA2] are human genes. Expression in the {tumor} is by a receptor.
The drug was toxic to cells from {breast cancer} and from {carditis}.
Human cells with [p53] expression from mice with a {hyper syndrome} were in therapy.
A {leukemia} patient was in treatment by anti kinase drug for {hepatitis}.
The [kinase gene] and the [cyp gene] are by the receptor. Patients were in therapy.
No human cell in the {ovarian tumor} or {neuropathy} is from a [brca1 mutation].
"""


def marked(line: str) -> Document:
    """A document from a line with marks around its entities."""
    text, entities, start = "", [], 0
    for character in line:
        if character in "{[":
            start = len(text)
        elif character in "}]":
            label = "DISEASE" if character == "}" else "GENE"
            entities.append(Entity(start, len(text), label))
        else:
            text += character
    return Document("", text, entities)


TEXTS = [marked(line) for line in MARKED.strip().splitlines()]


def with_optim(settings: FinetuneSettings = SETTINGS, **changes: Any) -> FinetuneSettings:
    return replace(settings, optim=replace(settings.optim, **changes))


SHORT = with_optim(epochs=4)


class Interrupted(Exception):
    """Stands for whatever ends a run before its time."""


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make the next runs fail after so many updates; 0 lets them be again."""
    original = FinetuneTrainer.training_step

    def arrange(after: int) -> None:
        def step(self: FinetuneTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
            if self.state.global_step == after > 0:
                raise Interrupted
            return original(self, *args, **kwargs)

        monkeypatch.setattr(FinetuneTrainer, "training_step", step)

    return arrange


@pytest.fixture
def scripted_f1(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[float]], None]:
    """Make the next run see these figures on dev, one an epoch."""

    def arrange(figures: list[float]) -> None:
        left: Iterator[float] = iter(figures)

        def scores(*args: Any) -> Scores:
            f1 = next(left, None)
            if f1 is None:
                return raw_scores(*args)
            right = round(500 * f1)
            return Scores(Score(tp=right, fp=500 - right, fn=500 - right))

        monkeypatch.setattr(module, "raw_scores", scores)

    return arrange


@pytest.fixture(scope="module")
def overfitted(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished run whose dev is its train."""
    output = tmp_path_factory.mktemp("run")
    losses: list[float] = []
    bases: list[dict[str, torch.Tensor]] = []
    with pytest.MonkeyPatch.context() as patch:
        step = FinetuneTrainer.training_step

        def recorded(self: FinetuneTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
            loss = step(self, *args, **kwargs)
            losses.append(float(loss))
            base = self.model.encoder.get_base_model().state_dict()
            bases[:] = [base]
            return loss

        patch.setattr(FinetuneTrainer, "training_step", recorded)
        record = finetune(TEXTS, TEXTS, str(tiny_backbone), output, SETTINGS, "ncbi")
    return SimpleNamespace(output=output, record=record, losses=losses, base=bases[0])


@pytest.fixture(scope="module")
def unbroken(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Four epochs with everything that is random in training."""
    output = tmp_path_factory.mktemp("unbroken")
    settings = noisy(SHORT)
    record = finetune(TEXTS, TEXTS, str(tiny_backbone), output, settings)
    return SimpleNamespace(output=output, record=record, settings=settings)


def noisy(settings: FinetuneSettings) -> FinetuneSettings:
    lora = replace(settings.lora, dropout=0.1)
    return replace(
        settings,
        lora=lora,
        sentences=True,
        dropout=0.1,
        attention_dropout=0.1,
        label_smoothing=0.1,
    )


def weights(output: Path) -> dict[str, torch.Tensor]:
    folder = output / "adapter"
    return {**load_file(folder / adapters.LORA_WEIGHTS), **load_file(folder / adapters.HEAD)}


def newest_state(output: Path) -> dict[str, torch.Tensor]:
    """Weights at the end of a run; those of its adapter are of the best epoch."""
    folder = last_checkpoint(output / "checkpoints")
    assert folder is not None
    return load_file(folder / TRAINABLE)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# The loss


def test_loss_without_smoothing_by_hand():
    logits = torch.tensor([[2.0, 0.5, -1.0], [0.0, 1.0, 3.0]])
    expected = -(torch.log_softmax(logits, -1)[0, 0] + torch.log_softmax(logits, -1)[1, 2]) / 2
    assert torch.isclose(tagging_loss(logits, torch.tensor([0, 2]), 0.0), expected)


def test_smoothed_loss_by_hand():
    logits = torch.tensor([[[2.0, 0.5, -1.0], [0.0, 1.0, 3.0], [9.0, 0.0, 0.0]]])
    labels = torch.tensor([[0, 2, -100]])
    log_p = torch.log_softmax(logits, -1)[0]
    target = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    expected = -(target * log_p[:2]).sum() / 2
    assert torch.isclose(tagging_loss(logits, labels, 0.3), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_ignored_wordpieces_neither_count_nor_get_a_gradient(smoothing: float):
    logits = torch.randn(2, 5, 3, requires_grad=True)
    labels = torch.tensor([[-100, 0, 1, -100, -100], [-100, 2, -100, -100, -100]])
    loss = tagging_loss(logits, labels, smoothing)
    kept = logits[labels != -100]
    assert torch.isclose(loss, tagging_loss(kept, labels[labels != -100], smoothing))
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad[labels == -100].any()
    assert logits.grad[labels != -100].all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_batch_without_labels_poisons_nothing(smoothing: float):
    logits = torch.randn(2, 4, 3, requires_grad=True)
    loss = tagging_loss(logits, torch.full((2, 4), -100), smoothing)
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


# Gradients


def lora_gradients(folder: Path, settings: FinetuneSettings, **kwargs: Any) -> dict[str, Any]:
    """LoRA gradients of one batch, checkpointing switched on as the Trainer does it."""
    torch.manual_seed(5)
    model = build(folder, settings, labels=3)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at first, which gives lora_A no gradient
            torch.nn.init.normal_(parameter, std=0.1)
    arguments = training_arguments(settings.optim, folder / "unused")
    if arguments.gradient_checkpointing:
        chosen = {**arguments.gradient_checkpointing_kwargs, **kwargs}
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=chosen)
    model.train()
    ids = torch.randint(5, 100, (2, 12), generator=torch.Generator().manual_seed(3))
    loss = tagging_loss(model(ids, torch.ones_like(ids)), ids % 3, 0.1)
    loss.backward()
    return {n: p.grad for n, p in model.named_parameters() if "lora_" in n}


@pytest.fixture
def recomputed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Grows with every layer that is checkpointed: equal gradients alone would also be
    seen where nothing is."""
    calls: list[bool] = []

    def counting(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs["use_reentrant"])
        return checkpoint(*args, **kwargs)

    monkeypatch.setattr("transformers.modeling_utils.checkpoint", counting)
    return calls


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_gradient_checkpointing_changes_no_gradient(tiny_backbone: Path, recomputed: list[bool]):
    plain = lora_gradients(tiny_backbone, SETTINGS)
    assert not recomputed
    saving = lora_gradients(tiny_backbone, with_optim(gradient_checkpointing=True))
    assert recomputed == [False, False]
    assert plain.keys() == saving.keys()
    assert len(plain) == 2 * 2 * 6
    for name, gradient in plain.items():
        assert gradient is not None and gradient.abs().max() > 1e-6, name
        assert saving[name] is not None, name
        assert torch.allclose(gradient, saving[name], rtol=1e-4, atol=1e-7), name


@pytest.mark.filterwarnings("ignore")
def test_reentrant_checkpointing_would_freeze_lora(tiny_backbone: Path, recomputed: list[bool]):
    # Why the setting is not left to PyTorch. Transformers 5 gives the embeddings' output a
    # gradient, which mends it; the test above sees the wrong kind all the same.
    settings = with_optim(gradient_checkpointing=True)
    gradients = lora_gradients(tiny_backbone, settings, use_reentrant=True)
    assert recomputed == [True, True]
    frozen = [gradient is None for gradient in gradients.values()]
    assert all(frozen) if TRANSFORMERS < 5 else not any(frozen)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_run_with_gradient_checkpointing_learns_the_same(
    tiny_backbone: Path, tmp_path: Path, recomputed: list[bool]
):
    for name in ("plain", "saving"):
        settings = with_optim(max_steps=2, gradient_checkpointing=name == "saving")
        finetune(TEXTS, TEXTS, str(tiny_backbone), tmp_path / name, settings)
    assert recomputed == [False] * 4
    plain, saving = weights(tmp_path / "plain"), weights(tmp_path / "saving")
    assert max(float(plain[name].abs().max()) for name in plain if "lora_B" in name) > 1e-3
    for name, value in plain.items():
        assert torch.allclose(value.float(), saving[name].float(), atol=1e-3), name


# What a run learns and writes


def test_a_run_learns_its_own_text(overfitted: Any):
    first, last = overfitted.losses[0], overfitted.losses[-1]
    assert last < 0.2 * first
    assert overfitted.record["dev"]["f1"] > 90


def test_only_lora_and_head_are_trained(overfitted: Any, tiny_backbone: Path):
    pristine = backbones.load_encoder(tiny_backbone).state_dict()
    kept = {n.replace(".base_layer", ""): t for n, t in overfitted.base.items() if "lora" not in n}
    assert same(kept, pristine)
    rank, hidden, inner = 8, 32, 64
    layer = rank * (4 * 2 * hidden + 2 * (hidden + inner))
    trained = 2 * layer + 5 * hidden + 5
    assert overfitted.record["trainable_parameters"] == trained
    frozen = sum(tensor.numel() for tensor in pristine.values())
    assert overfitted.record["parameters"] == frozen + trained


def test_adapter_folder_is_complete(overfitted: Any, tiny_backbone: Path):
    folder = overfitted.output / "adapter"
    names = {adapters.INFO, adapters.LORA_CONFIG, adapters.LORA_WEIGHTS, adapters.HEAD}
    assert {path.name for path in folder.iterdir()} == {*names, adapters.TRAINING}
    info = adapters.read(folder).info
    assert info.types == ("DISEASE", "GENE")
    assert (info.dataset, info.window, info.overlap) == ("ncbi", 32, 8)
    assert info.backbone.sha256 == backbones.file_sha256(tiny_backbone / backbones.WEIGHTS)
    config = json.loads((folder / adapters.LORA_CONFIG).read_text())
    assert config["base_model_name_or_path"] is None
    assert config["target_modules"] == LINEAR
    assert {t.dtype for t in load_file(folder / adapters.LORA_WEIGHTS).values()} == {torch.float16}


def test_the_record_tells_what_was_done(overfitted: Any, tiny_backbone: Path):
    record = overfitted.record
    written = json.loads((overfitted.output / "adapter" / adapters.TRAINING).read_text())
    assert written == json.loads(json.dumps(record))
    assert record["settings"] == to_dict(SETTINGS)
    assert record["code"] == code_sha256()
    assert record["backbone"]["id"] == str(tiny_backbone)
    assert record["dataset"] == "ncbi"
    assert record["data"]["train"] == record["data"]["dev"] == content_hash(TEXTS)
    assert content_hash(TEXTS[1:]) != record["data"]["dev"]
    assert (record["init_adapter"], record["resumed"]) == (None, False)
    assert record["seconds"] > 0
    assert [row["epoch"] for row in record["epochs"]] == list(range(1, 26))
    assert record["steps"] == len(overfitted.losses)
    assert (record["stopped"], record["processes"]) == ("epochs", 1)


def test_figures_are_those_of_the_written_adapter(overfitted: Any):
    scores = raw_scores(Predictor.load(overfitted.output / "adapter"), TEXTS).to_dict()
    assert scores == overfitted.record["dev"]
    # Rounding to float16 may move a borderline entity, no more.
    best = max(row["dev_f1"] for row in overfitted.record["epochs"])
    assert scores["f1"] == pytest.approx(best, abs=3)


def test_plain_peft_loads_the_adapter(overfitted: Any, tiny_backbone: Path):
    from peft import PeftModel

    folder = overfitted.output / "adapter"
    model = PeftModel.from_pretrained(backbones.load_encoder(tiny_backbone), str(folder)).eval()
    predictor = Predictor.load(folder)
    ids = np.random.default_rng(1).integers(5, 100, (2, 20))
    mask = np.ones_like(ids)
    ours = predictor.backbone.logits(predictor.adapter, ids, mask)
    with torch.inference_mode():
        hidden = model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))[0]
        head = load_file(folder / adapters.HEAD)
        theirs = hidden @ head["weight"].T + head["bias"]
    assert np.abs(ours - theirs.numpy()).max() < 1e-3 * np.abs(ours).max()
    with torch.inference_mode(), model.disable_adapter():
        plain = model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))[0]
    assert (hidden - plain).abs().max() > 0.1


def test_live_network_and_its_adapter_agree(tiny_backbone: Path):
    torch.manual_seed(2)
    model = build(tiny_backbone, SETTINGS, labels=3)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.eval()
    ref = backbones.reference(str(tiny_backbone))
    adapter = network.to_adapter(model, AdapterInfo("", ("X",), ref))
    again = network.from_adapter(backbones.load_encoder(tiny_backbone), adapter).eval()
    ids = torch.arange(5, 45).reshape(2, 20)
    with torch.inference_mode():
        expected = model(ids, torch.ones_like(ids))
        assert torch.equal(again(ids, torch.ones_like(ids)), expected)
    merged = module.shared_backbone(tiny_backbone).logits(
        adapter, ids.numpy(), np.ones((2, 20), dtype=np.int64)
    )
    assert np.abs(merged - expected.numpy()).max() < 1e-4


def test_the_head_learns_at_its_own_rate(tiny_backbone: Path, tmp_path: Path, monkeypatch: Any):
    trainers = []
    real = FinetuneTrainer.create_optimizer

    def spy(self: Any, *args: Any) -> Any:
        trainers.append(self)
        return real(self, *args)

    monkeypatch.setattr(FinetuneTrainer, "create_optimizer", spy)
    settings = replace(with_optim(epochs=1, weight_decay=0.1), head_learning_rate=0.5)
    finetune(TEXTS, TEXTS, str(tiny_backbone), tmp_path, settings)
    model, groups = trainers[0].model, trainers[0].optimizer.param_groups
    rates = {id(p): (g["initial_lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert rates.pop(id(model.head.weight)) == (0.5, 0.1)
    assert rates.pop(id(model.head.bias)) == (0.5, 0.0)
    assert {rate for rate, _ in rates.values()} == {5e-3}
    assert len(rates) == sum(p.requires_grad for p in model.parameters()) - 2


def test_dropout_goes_where_the_settings_say(tiny_backbone: Path):
    settings = replace(SETTINGS, dropout=0.2, attention_dropout=0.3)
    settings = replace(settings, lora=replace(settings.lora, dropout=0.4))
    model = build(tiny_backbone, settings, labels=3)
    found = {n: m.p for n, m in model.named_modules() if isinstance(m, torch.nn.Dropout)}
    assert {p for n, p in found.items() if ".lora_" in n} == {0.4}
    assert {p for n, p in found.items() if n.endswith("attention.self.dropout")} == {0.3}
    rest = [n for n in found if ".lora_" not in n and not n.endswith("attention.self.dropout")]
    assert len(rest) == 1 + 2 * 2 + 1
    assert {found[n] for n in rest} == {0.2}


def test_same_seed_same_adapter(unbroken: Any, tiny_backbone: Path, tmp_path: Path):
    torch.manual_seed(99)  # what was random before a run is no part of it
    finetune(TEXTS, TEXTS, str(tiny_backbone), tmp_path / "again", unbroken.settings)
    assert same(weights(tmp_path / "again"), weights(unbroken.output))
    other = with_optim(unbroken.settings, seed=2, max_steps=2)
    finetune(TEXTS, TEXTS, str(tiny_backbone), tmp_path / "other", other)
    assert not same(weights(tmp_path / "other"), weights(unbroken.output))


def test_a_run_computes_in_its_own_precision(tiny_backbone: Path, tmp_path: Path):
    found = []
    for number, precision in enumerate(("fp32", "bf16", "fp32")):
        settings = with_optim(max_steps=2, precision=precision)
        finetune(TEXTS, TEXTS, str(tiny_backbone), tmp_path / str(number), settings)
        found.append(weights(tmp_path / str(number)))
    assert all(torch.isfinite(tensor).all() for tensor in found[1].values())
    assert not same(found[0], found[1])
    # What one run of a process chose is nothing to the next.
    assert same(found[0], found[2])


def test_unknown_precision_is_refused():
    with pytest.raises(OpenMedError, match="precision = 'int8': choose 'auto'"):
        resolve_precision("int8")
    assert resolve_precision("fp32") == "fp32"
    assert resolve_precision("auto") in ("bf16", "fp16", "fp32")


@pytest.mark.parametrize("emulated", [False, True])
def test_gpus_that_would_emulate_bf16(monkeypatch: pytest.MonkeyPatch, emulated: bool) -> None:
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: including_emulation or not emulated,
    )
    assert resolve_precision("auto", "cuda") == ("fp16" if emulated else "bf16")
    # fp16 needs gradients to be scaled.
    assert resolve_unscaled("auto", "cuda") == ("fp32" if emulated else "bf16")
    with pytest.raises(OpenMedError, match="needs loss scaling"):
        resolve_unscaled("fp16", "cuda")
    assert resolve_unscaled("bf16", "cpu") == "bf16"


# Stopping and choosing


def test_training_stops_when_dev_gets_no_better(
    tiny_backbone: Path, tmp_path: Path, scripted_f1: Callable[[list[float]], None]
):
    scripted_f1([0.2, 0.5, 0.5, 0.4])
    settings = replace(SETTINGS, patience=2)
    record = finetune(TEXTS, TEXTS, str(tiny_backbone), tmp_path, settings)
    assert [row["dev_f1"] for row in record["epochs"]] == [20.0, 50.0, 50.0, 40.0]
    assert record["stopped"] == "patience"


def test_who_is_told_the_epochs_can_end_the_training(
    tiny_backbone: Path, tmp_path: Path, scripted_f1: Callable[[list[float]], None]
):
    scripted_f1([0.2, 0.5, 0.4])
    told: list[tuple[int, float]] = []

    def report(epoch: int, dev_f1: float) -> bool:
        told.append((epoch, dev_f1))
        return epoch == 3

    fitted = fit(TEXTS, TEXTS, str(tiny_backbone), tmp_path, SETTINGS, report=report)
    assert told == [(1, 20.0), (2, 50.0), (3, 40.0)]
    assert fitted.record["stopped"] == "reported"
    assert [row["dev_f1"] for row in fitted.record["epochs"]] == [20.0, 50.0, 40.0]
    # At its best epoch, as ever.
    best = tmp_path / "checkpoints" / f"checkpoint-{fitted.record['steps'] // 3 * 2}"
    assert same(trainable_state(fitted.network), load_file(best / TRAINABLE))


def test_a_run_that_nobody_stops_tells_every_epoch(tiny_backbone: Path, tmp_path: Path):
    told: list[tuple[int, float]] = []

    def report(epoch: int, dev_f1: float) -> bool:
        told.append((epoch, dev_f1))
        return False

    settings = with_optim(max_steps=5)
    record = finetune(TEXTS, TEXTS, str(tiny_backbone), tmp_path, settings, report=report)
    assert told == [(n, row["dev_f1"]) for n, row in enumerate(record["epochs"], 1)]
    assert (record["stopped"], record["steps"]) == ("max_steps", 5)


def test_epochs_meet_the_windows_in_orders_of_their_own(
    tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    passes = []
    original = BatchSampler.__iter__

    def watched(self: BatchSampler) -> Iterator[list[int]]:
        passes.append(self.current_pass)
        return original(self)

    monkeypatch.setattr(BatchSampler, "__iter__", watched)
    finetune(TEXTS, TEXTS, str(tiny_backbone), tmp_path, SHORT)
    assert passes == [0, 1, 2, 3]


# Runs that fall apart


def test_a_run_that_has_diverged_ends(tiny_backbone: Path, tmp_path: Path):
    told: list[float] = []
    settings = with_optim(learning_rate=1e30, max_grad_norm=0.0, warmup_ratio=0.0)
    with pytest.raises(Diverged, match=r"diverged: loss is .* Lower learning_rate \(it is 1e\+30"):
        fit(
            *(TEXTS, TEXTS, str(tiny_backbone), tmp_path, settings),
            report=lambda epoch, dev_f1: bool(told.append(dev_f1)),
        )
    # In its first epoch: nobody was told a figure, and nothing is there to go on from.
    assert told == []
    assert last_checkpoint(tmp_path / "checkpoints") is None


def trainer_of(folder: Path) -> TrainableOnlyTrainer:
    arguments = training_arguments(OptimSettings(precision="fp32"), folder)
    return TrainableOnlyTrainer(model=torch.nn.Linear(1, 1), args=arguments)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_number_is_logged_that_is_none(tmp_path: Path, value: float):
    trainer = trainer_of(tmp_path)
    for name in ("loss", "grad_norm"):
        with pytest.raises(Diverged, match=f"{name} is {value}"):
            trainer.log({"loss": 1.0, "grad_norm": 1.0, name: value})
    trainer.log({"loss": 1.0})
    # Of half precision, gradients that overflow are a part: the update is left out.
    trainer.args.fp16 = True
    trainer.log({"loss": 1.0, "grad_norm": value})
    with pytest.raises(Diverged, match=r'set precision = "fp32" \(it is fp16\)'):
        trainer.log({"loss": value})


def test_weights_that_are_no_numbers_are_not_kept(tmp_path: Path):
    trainer = trainer_of(tmp_path)
    trainer.check_finite()
    with torch.no_grad():
        trainer.model.bias.fill_(float("nan"))  # type: ignore[union-attr, operator]
    with pytest.raises(Diverged, match="weights are no finite numbers"):
        trainer._save_checkpoint(trainer.model, None)
    assert not list(tmp_path.glob("checkpoint-*"))


def test_the_best_epoch_is_restored(
    tiny_backbone: Path, tmp_path: Path, scripted_f1: Callable[[list[float]], None]
):
    scripted_f1([0.2, 0.5, 0.4, 0.3])
    record = finetune(TEXTS, TEXTS, str(tiny_backbone), tmp_path, SHORT)
    an_epoch = record["steps"] // 4
    kept = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert kept == {f"checkpoint-{2 * an_epoch}", f"checkpoint-{4 * an_epoch}"}
    found = weights(tmp_path)
    for epoch, equal in ((2, True), (4, False)):
        path = tmp_path / "checkpoints" / f"checkpoint-{epoch * an_epoch}" / TRAINABLE
        saved = load_file(path)
        assert torch.equal(saved["head.weight"], found["weight"]) is equal
        lora = {n: t for n, t in saved.items() if "lora_" in n}
        for name, tensor in lora.items():
            short = name.removeprefix("encoder.").replace(".default", "")
            assert torch.equal(tensor.half(), found[short]) is equal, name


# Checkpoints


def test_a_checkpoint_holds_what_is_trained_and_no_more(unbroken: Any):
    folder = last_checkpoint(unbroken.output / "checkpoints")
    assert folder is not None
    names = {path.name for path in folder.iterdir()}
    assert {TRAINABLE, "optimizer.pt", "scheduler.pt", "trainer_state.json"} <= names
    assert names <= {
        TRAINABLE,
        "optimizer.pt",
        "scheduler.pt",
        "trainer_state.json",
        "rng_state.pth",
        "scaler.pt",
    }
    saved = load_file(folder / TRAINABLE)
    assert all("lora_" in name or name.startswith("head.") for name in saved)
    trained = sum(tensor.numel() for tensor in saved.values())
    assert trained == unbroken.record["trainable_parameters"]
    # weights_only: numbers, no pickled code.
    state = torch.load(folder / "optimizer.pt", weights_only=True)["state"]
    tensors = [t for one in state.values() for t in one.values() if torch.is_tensor(t)]
    assert sum(t.numel() for t in tensors if t.dim()) == 2 * trained


def test_an_interrupted_run_goes_on_as_if_nothing_had_been(
    unbroken: Any, tiny_backbone: Path, tmp_path: Path, interrupt: Callable[[int], None]
):
    an_epoch = unbroken.record["steps"] // 4
    interrupt(2 * an_epoch + 1)
    with pytest.raises(Interrupted):
        finetune(TEXTS, TEXTS, str(tiny_backbone), tmp_path, unbroken.settings)
    assert not (tmp_path / "adapter").exists()
    newest = last_checkpoint(tmp_path / "checkpoints")
    assert newest is not None and newest.name == f"checkpoint-{2 * an_epoch}"
    interrupt(0)
    record = finetune(TEXTS, TEXTS, str(tiny_backbone), tmp_path, unbroken.settings, resume=True)
    assert record["resumed"] is True
    assert record["steps"] == unbroken.record["steps"]
    assert record["epochs"] == unbroken.record["epochs"]
    assert record["dev"] == unbroken.record["dev"]
    assert same(weights(tmp_path), weights(unbroken.output))
    assert same(newest_state(tmp_path), newest_state(unbroken.output))


@pytest.mark.parametrize(
    ("figures", "stopped"), [([0.1, 0.3, 0.2, 0.4], "epochs"), ([0.5, 0.4, 0.3], "patience")]
)
def test_a_run_that_was_killed_when_it_was_through_is_not_trained_further(
    tiny_backbone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scripted_f1: Callable[[list[float]], None],
    figures: list[float],
    stopped: str,
):
    settings = replace(SHORT, patience=2)
    output = tmp_path / "begun"

    def die(*args: Any) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        scripted_f1(figures)
        patch.setattr(adapters, "write", die)
        with pytest.raises(Interrupted):
            finetune(TEXTS, TEXTS, str(tiny_backbone), output, settings)
    before = newest_state(output)
    # Checkpoints know each other by where they were written.
    output = output.rename(tmp_path / "moved")
    monkeypatch.setattr(FinetuneTrainer, "training_step", None)
    record = finetune(TEXTS, TEXTS, str(tiny_backbone), output, settings, resume=True)
    assert record["stopped"] == stopped
    assert len(record["epochs"]) == len(figures)
    assert same(newest_state(output), before)
    best = max(range(len(record["epochs"])), key=lambda i: record["epochs"][i]["dev_f1"])
    steps = record["steps"] // len(record["epochs"]) * (best + 1)
    kept = load_file(output / "checkpoints" / f"checkpoint-{steps}" / TRAINABLE)
    assert torch.equal(kept["head.weight"], weights(output)["weight"])


def test_one_process_for_several_gpus_is_refused_before_anything_is_made(
    tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: 4))
    monkeypatch.setattr(module, "samples", None)
    with pytest.raises(OpenMedError, match="torchrun --nproc-per-node 4 -m spacy_openmed"):
        finetune(TEXTS, TEXTS, str(tiny_backbone), tmp_path / "run", SETTINGS)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": with_optim(epochs=4, learning_rate=1e-3)}, "learning_rate was 0.005"),
        ({"settings": with_optim(epochs=4, seed=7)}, "seed was 1, is 7"),
        ({"train": TEXTS[1:]}, "train was [0-9a-f]{64}"),
        ({"dev": TEXTS[1:]}, "dev was [0-9a-f]{64}"),
        ({"init_adapter": True}, "pre-training adapter was none"),
    ],
)
def test_a_run_goes_on_with_what_it_was_begun_with(
    tiny_backbone: Path,
    tmp_path: Path,
    interrupt: Callable[[int], None],
    change: dict[str, Any],
    message: str,
):
    begun = {"train": TEXTS, "dev": TEXTS, "settings": with_optim(epochs=4)}
    interrupt(8)
    with pytest.raises(Interrupted):
        finetune(**begun, backbone=str(tiny_backbone), output=tmp_path / "run")
    interrupt(0)
    if "init_adapter" in change:
        change = {"init_adapter": write_pretraining(tiny_backbone, tmp_path / "pre", 1)}
    assert last_checkpoint(tmp_path / "run" / "checkpoints") is not None
    with pytest.raises(OpenMedError, match=message):
        finetune(
            **{**begun, **change}, backbone=str(tiny_backbone), output=tmp_path / "run", resume=True
        )


@pytest.mark.parametrize("init", ["continue", "merge"])
def test_pretraining_of_another_backbone_is_refused(tiny_backbone: Path, tmp_path: Path, init: str):
    folder = write_pretraining(tiny_backbone, tmp_path / "pre", 1)
    record = json.loads((folder / pretraining.RECORD).read_text(encoding="utf8"))
    record["backbone"]["sha256"] = "0" * 64
    (folder / pretraining.RECORD).write_text(json.dumps(record), encoding="utf8")
    with pytest.raises(OpenMedError, match="is for backbone"):
        build(tiny_backbone, replace(SETTINGS, init=init), 3, folder)


def test_patience_survives_an_interruption(
    tiny_backbone: Path, tmp_path: Path, interrupt: Callable[[int], None]
):
    settings = replace(with_optim(learning_rate=0.0, max_grad_norm=0.0), patience=3)
    interrupt(0)
    whole = finetune(TEXTS, TEXTS, str(tiny_backbone), tmp_path / "whole", settings)
    assert len(whole["epochs"]) == 1 + 3
    interrupt(3 * whole["steps"] // 4)
    with pytest.raises(Interrupted):
        finetune(TEXTS, TEXTS, str(tiny_backbone), tmp_path / "broken", settings)
    interrupt(0)
    resumed = finetune(TEXTS, TEXTS, str(tiny_backbone), tmp_path / "broken", settings, resume=True)
    assert resumed["epochs"] == whole["epochs"]


def test_resume_with_nothing_there_starts_anew(tiny_backbone: Path, tmp_path: Path):
    settings = with_optim(max_steps=2)
    record = finetune(TEXTS, TEXTS, str(tiny_backbone), tmp_path, settings, resume=True)
    assert (record["resumed"], record["steps"]) == (False, 2)


def test_without_resume_an_unfinished_run_is_not_built_over(
    tiny_backbone: Path, tmp_path: Path, interrupt: Callable[[int], None]
):
    # Its later checkpoints would be taken for those of the new run.
    interrupt(8)
    with pytest.raises(Interrupted):
        finetune(TEXTS, TEXTS, str(tiny_backbone), tmp_path, SHORT)
    interrupt(0)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OpenMedError, match=r"has checkpoints of an earlier run.*--resume"):
        finetune(TEXTS, TEXTS, str(tiny_backbone), tmp_path, SHORT)
    assert sorted(tmp_path.rglob("*")) == before


def test_half_written_checkpoints_are_passed_over(tmp_path: Path):
    assert last_checkpoint(tmp_path / "absent") is None
    for step, content in ((4, "{}"), (20, '{"epoch": 2}'), (100, '{"epo'), (120, "")):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / TRAINABLE).touch()
        (folder / "trainer_state.json").write_text(content)
    missing = tmp_path / "checkpoint-140"
    missing.mkdir()
    (missing / TRAINABLE).touch()
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "checkpoint-best" / "trainer_state.json").write_text("{}")
    found = last_checkpoint(tmp_path)
    assert found is not None and found.name == "checkpoint-20"


def test_a_run_passes_over_its_half_written_checkpoint(
    unbroken: Any, tiny_backbone: Path, tmp_path: Path, interrupt: Callable[[int], None]
):
    an_epoch = unbroken.record["steps"] // 4
    interrupt(2 * an_epoch)
    with pytest.raises(Interrupted):
        finetune(TEXTS, TEXTS, str(tiny_backbone), tmp_path, unbroken.settings)
    interrupt(0)
    newest = last_checkpoint(tmp_path / "checkpoints")
    assert newest is not None and newest.name == f"checkpoint-{2 * an_epoch}"
    (newest / "trainer_state.json").unlink()
    record = finetune(TEXTS, TEXTS, str(tiny_backbone), tmp_path, unbroken.settings, resume=True)
    assert record["epochs"] == unbroken.record["epochs"]
    assert same(newest_state(tmp_path), newest_state(unbroken.output))


def test_checkpoints_of_other_settings_are_refused(
    tiny_backbone: Path, tmp_path: Path, interrupt: Callable[[int], None]
):
    interrupt(8)
    with pytest.raises(Interrupted):
        finetune(TEXTS, TEXTS, str(tiny_backbone), tmp_path, SHORT)
    interrupt(0)
    # As in a folder of an older version, which did not note what a run was begun with.
    (tmp_path / "run.json").unlink()
    kept = sorted(tmp_path.rglob("*"))
    other_rank = replace(SHORT, lora=replace(SHORT.lora, rank=4))
    other_modules = replace(SHORT, lora=replace(SHORT.lora, target_modules=r".*\.query"))
    one_label = [replace(d, entities=[e for e in d.entities if e.label == "GENE"]) for d in TEXTS]
    for texts, settings in ((TEXTS, other_rank), (TEXTS, other_modules), (one_label, SHORT)):
        with pytest.raises(OpenMedError, match="does not fit the model: it was written by a run"):
            finetune(texts, texts, str(tiny_backbone), tmp_path, settings, resume=True)
    assert sorted(tmp_path.rglob("*")) == kept


# Going on from another adapter


def test_fine_tuning_goes_on_from_an_adapter(overfitted: Any, tiny_backbone: Path, tmp_path: Path):
    start = overfitted.output / "adapter"
    model = build(tiny_backbone, SETTINGS, 3, start)
    saved = load_file(start / adapters.LORA_WEIGHTS)
    ref = backbones.reference(str(tiny_backbone))
    own = network.to_adapter(model, AdapterInfo("", ("X",), ref)).lora
    assert same(own, {name: tensor.float() for name, tensor in saved.items()})
    assert all(p.requires_grad for n, p in model.named_parameters() if "lora_" in n)

    frozen = with_optim(learning_rate=0.0, max_steps=1)
    record = finetune(TEXTS, TEXTS, str(tiny_backbone), tmp_path, frozen, init_adapter=start)
    assert record["init_adapter"] == backbones.file_sha256(start / adapters.LORA_WEIGHTS)
    found = load_file(tmp_path / "adapter" / adapters.LORA_WEIGHTS)
    assert same(found, saved)


def test_a_warm_start_goes_on_with_lora_and_head(
    overfitted: Any, tiny_backbone: Path, tmp_path: Path
):
    start = overfitted.output / "adapter"
    still = with_optim(replace(SETTINGS, head_learning_rate=0.0), learning_rate=0.0, max_steps=1)
    record = finetune(TEXTS, TEXTS, str(tiny_backbone), tmp_path, still, warm_start=start)
    own = adapters.read(start)
    assert record["warm_start"] == {
        "adapter": adapters.content_hash(own),
        "dataset": "ncbi",
        "types": list(own.info.types),
        "runs": lineage.made_by(adapters.content_hash(own), overfitted.record),
    }
    assert record["warm_start"]["runs"][0]["energy"] == overfitted.record["energy"]
    assert adapters.trained_on(adapters.read(tmp_path / "adapter")) == ["ncbi"]
    found = adapters.read(tmp_path / "adapter")
    assert same(found.lora, own.lora)
    assert torch.equal(found.weight, own.weight) and torch.equal(found.bias, own.bias)


def test_a_warm_start_with_other_labels_has_a_head_of_its_own(
    overfitted: Any, tiny_backbone: Path, tmp_path: Path
):
    start = overfitted.output / "adapter"
    others = [replace(d, entities=[e._replace(label="X") for e in d.entities]) for d in TEXTS]
    still = with_optim(replace(SETTINGS, head_learning_rate=0.0), learning_rate=0.0, max_steps=1)
    finetune(others, others, str(tiny_backbone), tmp_path, still, warm_start=start)
    own, found = adapters.read(start), adapters.read(tmp_path / "adapter")
    assert same(found.lora, own.lora)
    assert found.weight.shape != own.weight.shape


def test_a_warm_start_brings_its_own_shape(
    overfitted: Any, tiny_backbone: Path, tmp_path: Path
) -> None:
    start = overfitted.output / "adapter"
    own = adapters.read(start)
    other = replace(SETTINGS.lora, rank=3, alpha=1, target_modules=r".*\.query")
    still = replace(SETTINGS, lora=other, head_learning_rate=0.0)
    still = with_optim(still, learning_rate=0.0, max_steps=1)
    record = finetune(TEXTS, TEXTS, str(tiny_backbone), tmp_path, still, warm_start=start)
    assert record["settings"]["lora"]["alpha"] == own.lora_config["lora_alpha"]
    found = adapters.read(tmp_path / "adapter")
    one, two = ({d.path: d.matrix("cpu") for d in each.deltas()} for each in (found, own))
    assert one.keys() == two.keys() and same(one, two)


def test_a_warm_start_and_another_lora_are_too_much(
    overfitted: Any, tiny_backbone: Path, tmp_path: Path
) -> None:
    start = overfitted.output / "adapter"
    both = {"warm_start": start, "init_adapter": start}
    with pytest.raises(OpenMedError, match="with no other"):
        finetune(TEXTS, TEXTS, str(tiny_backbone), tmp_path, SETTINGS, **both)
    assert not list(tmp_path.iterdir())


def test_a_warm_start_on_another_backbone_is_refused(
    overfitted: Any, tiny_backbone: Path, tmp_path: Path
):
    start = adapters.read(overfitted.output / "adapter")
    info = replace(start.info, backbone=replace(start.info.backbone, sha256="0" * 64))
    adapters.write(replace(start, info=info), tmp_path / "other")
    run, other = tmp_path / "run", tmp_path / "other"
    with pytest.raises(OpenMedError, match="is for backbone"):
        finetune(TEXTS, TEXTS, str(tiny_backbone), run, SETTINGS, warm_start=other)
    assert not run.exists()


@pytest.mark.parametrize(
    "changes", [{"rank": 4}, {"target_modules": r".*\.query"}], ids=["rank", "modules"]
)
def test_an_adapter_of_another_shape_is_refused(
    overfitted: Any, tiny_backbone: Path, tmp_path: Path, changes: dict[str, Any]
):
    settings = replace(SETTINGS, lora=replace(SETTINGS.lora, **changes))
    start = overfitted.output / "adapter"
    with pytest.raises(OpenMedError, match="use the rank and target_modules it was trained with"):
        finetune(TEXTS, TEXTS, str(tiny_backbone), tmp_path, settings, init_adapter=start)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_lora_is_refused(tiny_backbone: Path, tmp_path: Path):
    with pytest.raises(OpenMedError, match=r"has no adapter_model\.safetensors"):
        build(tiny_backbone, SETTINGS, 3, tmp_path)


def test_target_modules_that_match_nothing_are_refused(tiny_backbone: Path):
    settings = replace(SETTINGS, lora=replace(SETTINGS.lora, target_modules=".*query_proj"))
    with pytest.raises(OpenMedError, match="linear layers are named dense, key, query, value"):
        build(tiny_backbone, settings, 3)


# Data that nothing can be learned from


def test_no_entities_is_an_error(tiny_backbone: Path, tmp_path: Path):
    bare = [replace(document, entities=[]) for document in TEXTS]
    for train, dev in ((bare, TEXTS), (TEXTS, bare), ([], []), (TEXTS, [])):
        with pytest.raises(OpenMedError, match=r"Nothing to learn: train has \d+ and dev \d+"):
            finetune(train, dev, str(tiny_backbone), tmp_path, SHORT)
    assert not list(tmp_path.iterdir())


def test_a_label_that_only_dev_has_is_an_error(tiny_backbone: Path, tmp_path: Path):
    strange = [Document("", "Mice were in therapy", [Entity(0, 4, "SPECIES")])]
    with pytest.raises(OpenMedError, match="dev has labels that train lacks: SPECIES"):
        finetune(TEXTS, [*TEXTS, *strange], str(tiny_backbone), tmp_path, SHORT)
    assert not list(tmp_path.iterdir())


# The commands


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared corpus of one type in the layout of the real ones."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "ner" / "ncbi").mkdir(parents=True)
    for split, documents in (("train", TEXTS), ("dev", TEXTS[:4]), ("test", TEXTS[4:])):
        rows, lines = [], []
        for number, document in enumerate(documents):
            found = [e for e in document.entities if e.label == "DISEASE"]
            spans = [[e.start, e.end, "Disease"] for e in found]
            rows.append(json.dumps({"id": str(number), "text": document.text, "entities": spans}))
            lines += [f"# doc = {number}", *conll(document.text, found), ""]
        base = folder / "ner" / "ncbi" / split
        base.with_suffix(".jsonl").write_text("\n".join(rows) + "\n", encoding="utf8")
        base.with_suffix(".conll").write_text("\n".join(lines) + "\n", encoding="utf8")
    return folder


def conll(text: str, entities: list[Entity]) -> Iterator[str]:
    """Tokens between blanks, punctuation apart, with their tags."""
    position = 0
    for token in text.replace(".", " .").replace(",", " ,").replace(";", " ;").split():
        start = text.index(token, position)
        position = start + len(token)
        inside = next((e for e in entities if e.start <= start < e.end), None)
        tag = "O" if inside is None else ("B-Disease" if inside.start == start else "I-Disease")
        yield f"{token}\t{tag}"


CONFIG = f"""
window = 64
overlap = 10
dropout = 0.0
[lora]
rank = 8
target_modules = '{LINEAR}'
[optim]
batch_size = 2
epochs = 3
learning_rate = 1e-2
precision = "fp32"
"""


def command(*arguments: object) -> Any:
    from spacy_openmed.cli.app import app

    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "own.toml"
    path.write_text(CONFIG, encoding="utf8")
    return path


def options(corpus: Path, backbone: Path, config: Path, output: Path) -> list[object]:
    return [
        *("--corpus", corpus, "--backbone", backbone),
        *("--config", config, "--output", output),
    ]


def test_train_and_evaluate_commands(
    tiny_backbone: Path, corpus: Path, config: Path, tmp_path: Path
):
    output = tmp_path / "run"
    given = options(corpus, tiny_backbone, config, output)
    result = command("train", "--dataset", "ncbi", *given, "--seed", 7)
    assert result.exit_code == 0, result.output
    assert f"adapter in {output / 'adapter'}" in result.output
    assert "its scores are not calibrated: No entity was found" in result.output
    record = json.loads((output / "adapter" / adapters.TRAINING).read_text())
    assert record["settings"]["optim"]["seed"] == 7
    assert record["settings"]["lora"]["rank"] == 8
    assert adapters.read(output / "adapter").info.types == ("DISEASE",)

    figures, ledger = tmp_path / "new" / "figures.json", tmp_path / "ledger.jsonl"
    result = command(
        *("evaluate", "--dataset", "ncbi", "--split", "dev", "--corpus", corpus),
        *("--adapter", output / "adapter", "--json", figures, "--ledger", ledger),
    )
    assert result.exit_code == 0, result.output
    found = json.loads(figures.read_text())
    assert {"dataset", "split", "data", "raw", "conll", "adapter", "backbone"} <= set(found)
    assert (found["dataset"], found["split"]) == ("ncbi", "dev")
    assert set(found["data"]) == {"dev.jsonl", "dev.conll"}
    for kind in ("raw", "conll"):
        counts = {"precision", "recall", "f1", "tp", "fp", "fn", "per_label"}
        assert counts | {"documents", "f1_ci"} == set(found[kind])
        assert found[kind]["tp"] + found[kind]["fn"] == 5
    assert found["raw"] == {**found["raw"], **record["dev"]}
    # A network this small finds nothing, which leaves no scores to calibrate.
    assert found["raw"]["tp"] + found["raw"]["fp"] == 0
    assert found["calibration"] is None and "calibration" not in record
    assert json.loads(ledger.read_text())["raw_f1"] == found["raw"]["f1"]

    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    result = command("train", "--dataset", "ncbi", *given)
    assert result.exit_code == 1
    assert "exists. Choose another --output, or --resume" in result.output
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def test_bad_input_to_the_train_command_writes_nothing(
    tiny_backbone: Path, corpus: Path, config: Path, tmp_path: Path
):
    output = tmp_path / "run"
    good = options(corpus, tiny_backbone, config, output)
    cases = [
        (("nbci", *good), "Unknown dataset 'nbci'. Known ids: bc4chemd"),
        (("jnlpba", *good), "No train.jsonl of 'jnlpba'. Tried:"),
        (("ncbi", *options(corpus, tmp_path, config, output)), "Unknown backbone"),
        (("ncbi", *options(corpus, tiny_backbone, tmp_path / "no", output)), "No settings"),
    ]
    for (dataset, *rest), said in cases:
        result = command("train", "--dataset", dataset, *rest)
        assert result.exit_code == 1
        assert said in result.output
        assert "Traceback" not in result.output
    assert not output.exists()
