"""LoRA fine-tuning with a new linear head, on Hugging Face ``Trainer`` and PEFT.

Section 3.3 of arXiv 2508.01630. Only train and dev are read here; the function is given no
path to a test split.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, TrainerCallback, TrainerState, set_seed

from .. import adapters, backbones, network, pretraining
from ..about import __version__
from ..adapters import AdapterInfo
from ..code_hash import code_sha256
from ..corpora import registry
from ..corpora.documents import Document, labels_of
from ..corpora.statistics import content_hash
from ..decoding import bio_labels
from ..errors import OpenMedError
from ..evaluation.evaluate import Predict, raw_scores
from ..evaluation.scores import Scores, total
from ..inference import Forward, shared_backbone
from ..labelling import Flatten
from ..low_rank import LORA_WEIGHTS
from ..network import TokenTagger, tagging_loss
from ..precision import attention, default_device, resolve_precision
from ..predictor import NetworkPredictor, Predictor
from ..windows import SpecialTokens, special_tokens
from . import begun, lora, warm
from .begun import RUN
from .dropout import use_cpu_dropout
from .energy import ENERGY, Meter, SaveEnergy
from .processes import process_group
from .samples import BatchSampler, Share, samples
from .settings import FinetuneSettings, to_dict
from .trainer import (
    STATE,
    Passes,
    TrainableOnlyTrainer,
    checkpoint_to_resume,
    discard_incomplete,
    is_over,
    load_best,
    training_arguments,
)

# What may differ when a run goes on: it does not change what is computed.
_FREE = ("settings.optim.gradient_checkpointing",)
INITS = ("continue", "merge")
# What is trained besides the head. Adapters are "lora"; the others are there to compare with.
METHODS = ("lora", "full", "head")

# Called after each epoch with its number (1, 2, …) and dev F1 in percent; True ends the training.
Report = Callable[[int, float], bool]


class Epochs(TrainerCallback):
    """Reports every epoch, and ends the training when told to.

    report (Report | None): Whom to tell. Every process asks its own; they must agree.
    """

    def __init__(self, report: Report | None) -> None:
        self.report = report

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # So that a run that has diverged ends here at the latest.
        control.should_log = True

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, float], **kwargs: Any
    ) -> None:
        if self.report is not None and self.report(len(dev_scores(state)), metrics["eval_f1"]):
            control.should_training_stop = True


class StepTimer(TrainerCallback):
    """Seconds spent in updates.

    seconds (float): So far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._begun = 0.0

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self._begun = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.seconds += time.perf_counter() - self._begun


class FinetuneTrainer(TrainableOnlyTrainer):
    """Trainer with batches by wordpieces, our loss, and dev F1 on entities."""

    def __init__(
        self,
        *args: Any,
        sampler: BatchSampler,
        head_learning_rate: float,
        label_smoothing: float,
        predictor: NetworkPredictor,
        flatten: Flatten,
        **kwargs: Any,
    ) -> None:
        self.flatten = flatten
        self.sampler = sampler
        self.head_learning_rate = head_learning_rate
        self.smoothing = label_smoothing
        self.predictor = predictor
        super().__init__(*args, **kwargs)

    def get_train_dataloader(self) -> DataLoader:  # type: ignore[type-arg]
        # Not as accelerate does it, which would give every process batches of its own.
        return DataLoader(
            self.train_dataset,  # type: ignore[arg-type]
            batch_sampler=self.sampler,
            collate_fn=self.data_collator,
        )

    def create_optimizer(self, *args: Any) -> torch.optim.Optimizer:
        """The Trainer's own, with the head in groups of its own where it has its own rate."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(*args)
        if not self.head_learning_rate:
            return optimizer
        head = set(self.model.head.parameters())  # type: ignore[union-attr]
        for group in optimizer.param_groups[:]:
            own = [p for p in group["params"] if p in head]
            group["params"] = [p for p in group["params"] if p not in head]
            if own:
                optimizer.add_param_group({**group, "params": own, "lr": self.head_learning_rate})
        return optimizer

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **kwargs: Any
    ) -> Any:
        labels = inputs["labels"]
        logits = model(inputs["input_ids"], inputs["attention_mask"])
        loss = tagging_loss(logits, labels, self.smoothing) * inputs["weight"]
        return (loss, {"logits": logits}) if return_outputs else loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Entity F1 on the raw text of dev, with the decoding of run time."""
        self.check_finite()
        self.model.eval()
        micro = shared_scores(self.predictor, self.eval_dataset, self.flatten).micro
        metrics = {
            "eval_f1": 100 * micro.f1,
            "eval_precision": 100 * micro.precision,
            "eval_recall": 100 * micro.recall,
        }
        self.log(dict(metrics))
        self.control: Any = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


@dataclass(frozen=True)
class Tokens:
    """What encoding takes of a backbone.

    tokenizer (Tokenizer): Text to wordpieces.
    special (SpecialTokens): What belongs around them.
    """

    tokenizer: Any
    special: SpecialTokens


@dataclass(frozen=True)
class Fitted:
    """A trained network, at its best epoch on dev.

    network (TokenTagger): The network.
    info (AdapterInfo): Its labels and backbone.
    folder (Path): The backbone's.
    record (dict): Settings, data, epochs, time: see ``fit``.
    """

    network: TokenTagger
    info: AdapterInfo
    folder: Path
    record: dict[str, Any]


def finetune(
    train: Sequence[Document],
    dev: Sequence[Document],
    backbone: str,
    output: Path,
    settings: FinetuneSettings,
    dataset: str = "",
    init_adapter: Path | None = None,
    resume: bool = False,
    tdp_watts: float = 0.0,
    report: Report | None = None,
    warm_start: Path | None = None,
) -> dict[str, Any]:
    """Train an adapter and write it to ``output/adapter``.

    In several processes (``torchrun``) each takes its share of every batch and of dev, with the
    result of one; the first one writes.

    train, dev (Sequence[Document]): Annotated documents; dev chooses the epoch.
    backbone (str): Backbone id or folder.
    output (Path): Gets ``adapter/``, and ``checkpoints/`` while running.
    settings (FinetuneSettings): The settings.
    dataset (str): Id of the corpus, "" for the user's own.
    init_adapter (Path | None): Pre-training adapter, which enters as ``settings.init`` says.
    resume (bool): Go on from the last checkpoint in ``output``.
    tdp_watts (float): Thermal design power of all devices, for the energy; 0 to look it up.
    report (Report | None): Told the dev F1 of every epoch; it can end the training. Of several
        processes each calls its own, and all must say the same.
    warm_start (Path | None): Adapter of another corpus whose LoRA goes on, and its head if that
        has the same labels.
    RETURNS (dict): The record that is also written to ``output/adapter/training.json``.
    RAISES (OpenMedError): Nothing annotated, settings that do not fit the backbone, or an
        unfinished run in ``output`` that is not resumed; ``Diverged``: the loss, a gradient or
        a weight is no finite number.
    """
    fitted = fit(
        train,
        dev,
        backbone,
        output,
        settings,
        dataset,
        init_adapter,
        resume,
        tdp_watts=tdp_watts,
        report=report,
        warm_start=warm_start,
    )
    # float16 halves the adapter; every figure is measured on the rounded weights.
    adapter = network.to_adapter(fitted.network, fitted.info, torch.float16)
    predictor = Predictor(adapter, shared_backbone(fitted.folder, default_device()))
    scores = shared_scores(predictor, dev, registry.flatten(dataset))
    record = {**fitted.record, "dev": scores.to_dict()}
    card = {adapters.TRAINING: json.dumps(record, indent=2) + "\n"}
    processes = process_group()
    if processes.is_main_process:
        adapters.write(replace(adapter, card=card), output / "adapter")
    processes.wait_for_everyone()
    return record


def learnable(train: Sequence[Document], dev: Sequence[Document]) -> list[str]:
    """The entity types that can be learned from train and seen on dev, in order.

    RAISES (OpenMedError): There are none, or dev has some that train lacks.
    """
    types = labels_of(train)
    if not types or not any(d.entities for d in dev):
        raise OpenMedError(
            f"Nothing to learn: train has {sum(len(d.entities) for d in train)} and dev "
            f"{sum(len(d.entities) for d in dev)} annotated entities; both need some."
        )
    if unseen := labels_of(dev) - types:
        raise OpenMedError(f"dev has labels that train lacks: {', '.join(sorted(unseen))}.")
    return sorted(types)


def fit(
    train: Sequence[Document],
    dev: Sequence[Document],
    backbone: str,
    output: Path,
    settings: FinetuneSettings,
    dataset: str = "",
    init_adapter: Path | None = None,
    resume: bool = False,
    method: str = "lora",
    tdp_watts: float = 0.0,
    report: Report | None = None,
    warm_start: Path | None = None,
) -> Fitted:
    """Train a network; arguments and errors are those of ``finetune``.

    method (str): What is trained besides the head: "lora", "full" (the whole encoder) or
        "head" (nothing).
    """
    types = learnable(train, dev)
    processes = process_group()
    checkpoints = output / "checkpoints"
    arguments = training_arguments(
        settings.optim,
        checkpoints,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        logging_steps=50,
        load_best_model_at_end=True,
        metric_for_best_model="f1",
        greater_is_better=True,
    )
    found = checkpoint_to_resume(checkpoints, resume)
    set_seed(settings.optim.seed)
    if method == "lora" and settings.init == "continue" and init_adapter is not None:
        settings = replace(settings, lora=lora.same_shape(settings.lora, init_adapter))
    start = adapters.read(warm_start) if warm_start is not None else None
    if start is not None:
        if method != "lora" or (settings.init == "continue" and init_adapter is not None):
            raise OpenMedError(
                "A warm start goes on with the LoRA of an adapter, and with no other: neither with "
                "that of --init-adapter (choose init = 'merge', or --init-adapter none), nor "
                "without LoRA."
            )
        settings = replace(settings, lora=warm.same_shape(settings.lora, start))
    ref = backbones.reference(backbone)
    train_hash, dev_hash = content_hash(train), content_hash(dev)
    facts = {
        "backbone": ref.sha256,
        "method": method,
        "settings": to_dict(settings),
        "precision": resolve_precision(settings.optim.precision),
        "processes": processes.num_processes,
        "pre-training adapter": file_hash(init_adapter) if init_adapter else "none",
        "warm start": adapters.content_hash(start) if start else "none",
        "train": train_hash,
        "dev": dev_hash,
    }
    if found is not None:
        begun.check(output / RUN, facts, _FREE)
    folder = backbones.find(ref)
    info = AdapterInfo(dataset, tuple(types), ref, settings.window, settings.overlap)
    model = build(folder, settings, len(info.labels), init_adapter, method)
    if start is not None:
        warm.go_on(model, start, info)
    tokenizer = backbones.load_tokenizer(folder)
    tokens = Tokens(
        tokenizer, special_tokens(tokenizer, int(model.encoder.config.pad_token_id or 0))
    )
    label_ids = {label: i for i, label in enumerate(bio_labels(types))}
    flatten = registry.flatten(dataset)
    data = samples(
        train,
        tokens.tokenizer,
        tokens.special,
        label_ids,
        settings.window,
        settings.overlap,
        settings.sentences,
        flatten,
    )
    if processes.is_main_process:
        discard_incomplete(checkpoints)
        if found is None:
            begun.write(output / RUN, facts)
    processes.wait_for_everyone()
    order = BatchSampler(
        [len(s["input_ids"]) for s in data],
        settings.optim.batch_size * settings.window,
        settings.optim.seed,
    )
    timer = StepTimer()
    meter = Meter(output / ENERGY, found is not None, tdp_watts)
    trainer = FinetuneTrainer(
        model=model,
        args=arguments,
        train_dataset=data,
        eval_dataset=dev,
        data_collator=Share(tokens.special.pad, processes.process_index, processes.num_processes),
        callbacks=[
            EarlyStoppingCallback(settings.patience),
            Passes(order),
            Epochs(report),
            timer,
            SaveEnergy(meter),
        ],
        sampler=order,
        head_learning_rate=settings.head_learning_rate,
        label_smoothing=settings.label_smoothing,
        predictor=NetworkPredictor(
            info,
            tokens,  # type: ignore[arg-type]  # all that it reads of a backbone
            network_forward(model, arguments),
        ),
        flatten=flatten,
    )
    # Or the dropout of all processes would leave out the same.
    torch.manual_seed(settings.optim.seed + processes.process_index)
    state = TrainerState.load_from_json(str(found / STATE)) if found else None
    with meter:
        if state and is_over(state):
            # Killed after its last checkpoint.
            load_best(model, state, checkpoints)
        else:
            trainer.train(resume_from_checkpoint=str(found) if found else None)
            state = trainer.state
    energy = meter.to_dict()
    edition = registry.edition_with(dataset, "train", train_hash)
    record = {
        "spacy_openmed": __version__,
        "code": code_sha256(),
        "backbone": ref.to_dict(),
        "dataset": dataset,
        "edition": edition.id if edition else None,
        "settings": to_dict(settings),
        "init_adapter": file_hash(init_adapter) if init_adapter else None,
        "warm_start": warm.record(start) if start else None,
        "data": {"train": train_hash, "dev": dev_hash},
        "precision": facts["precision"],
        # Of encoder, LoRA and head together.
        "parameters": sum(p.numel() for p in model.parameters()),
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "epochs": dev_scores(state),
        "stopped": why_stopped(state, settings),
        "steps": state.global_step,
        "processes": processes.num_processes,
        # Updates alone, without scoring dev and writing checkpoints; of the last part of a run.
        "step_seconds": round(timer.seconds, 1),
        "seconds": energy["seconds"],
        "energy": energy,
        "resumed": found is not None,
    }
    return Fitted(model, info, folder, record)


def build(
    folder: Path,
    settings: FinetuneSettings,
    labels: int,
    init_adapter: Path | None = None,
    method: str = "lora",
) -> TokenTagger:
    """A network ready to train: backbone, LoRA (fresh or continued), new head.

    method (str): One of ``METHODS``; without LoRA, a pre-training adapter is always merged.
    RAISES (OpenMedError): ``init_adapter`` has another shape than the settings ask for, or
        is for another backbone.
    """
    if settings.init not in INITS:
        raise OpenMedError(f"init = {settings.init!r}: choose {' or '.join(map(repr, INITS))}.")
    if method not in METHODS:
        raise OpenMedError(f"method {method!r}: choose {', '.join(METHODS)}.")
    base = merged = None
    # A folder that PEFT alone wrote says nothing of its backbone, and can only be continued.
    if init_adapter is not None and (
        settings.init == "merge" or method != "lora" or (init_adapter / pretraining.RECORD).exists()
    ):
        base = pretraining.read(init_adapter)
        pretraining.verify_backbone(base, backbones.reference(str(folder)), str(init_adapter))
    precision = resolve_precision(settings.optim.precision)
    encoder = backbones.load_encoder(folder, attention(precision))
    network.set_dropout(encoder, settings.dropout, settings.attention_dropout)
    if base is not None and (settings.init == "merge" or method != "lora"):
        merged = base
        pretraining.merge(encoder, merged)
    if method == "lora":
        encoder = lora.wrap(encoder, settings.lora)
        if init_adapter is not None and merged is None:
            lora.continue_from(encoder, init_adapter)
    elif method == "full":
        encoder.requires_grad_(True)
    model = TokenTagger(encoder, labels, settings.dropout, merged)
    use_cpu_dropout(model)
    # The Trainer asks the model itself for these when gradient checkpointing is on.
    model.gradient_checkpointing_enable = encoder.gradient_checkpointing_enable  # type: ignore
    return model


def shared_scores(predict: Predict, documents: Sequence[Document], flatten: Flatten) -> Scores:
    """``raw_scores``, each process scoring its share of the documents; all get the sum."""
    processes = process_group()
    mine = documents[processes.process_index :: processes.num_processes]
    return total(gather_object([raw_scores(predict, mine, flatten)]))


def dev_scores(state: TrainerState) -> list[dict[str, float]]:
    """The epochs so far.

    RETURNS (list[dict]): "epoch" and "dev_f1", in percent.
    """
    return [
        {"epoch": row["epoch"], "dev_f1": row["eval_f1"]}
        for row in state.log_history
        if "eval_f1" in row
    ]


def why_stopped(state: TrainerState, settings: FinetuneSettings) -> str:
    """Why a training ended.

    RETURNS (str): "epochs" or "max_steps": it is through; "patience": dev got no better;
        "reported": who was told the epochs wanted no more.
    """
    if state.global_step >= state.max_steps:
        return "epochs" if settings.optim.max_steps <= 0 else "max_steps"
    scores = [row["dev_f1"] for row in dev_scores(state)]
    since_best = len(scores) - 1 - scores.index(max(scores))
    return "patience" if since_best >= settings.patience else "reported"


def network_forward(model: TokenTagger, arguments: Any) -> Forward:
    """The live network as inference sees it: arrays in, arrays out, no gradients."""

    def forward(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        device = next(model.parameters()).device
        dtype = torch.bfloat16 if arguments.bf16 else torch.float16
        with (
            torch.inference_mode(),
            torch.autocast(device.type, dtype, enabled=arguments.bf16 or arguments.fp16),
        ):
            logits = model(torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device))
        scores: np.ndarray = logits.float().cpu().numpy()  # type: ignore[type-arg]
        return scores

    return forward


def file_hash(folder: Path) -> str:
    """sha256 of the LoRA weights in a PEFT folder."""
    return backbones.file_sha256(folder / LORA_WEIGHTS)
