"""LoRA fine-tuning with a new linear head, on Hugging Face ``Trainer`` and PEFT.

Section 3.3 of arXiv 2508.01630. Only train and dev are read here; the function is given no
path to a test split.
"""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, TrainerCallback, set_seed

from .. import adapters, backbones, network, pretraining
from ..about import __version__
from ..adapters import AdapterInfo
from ..corpora import registry
from ..corpora.documents import Document
from ..corpora.statistics import content_hash
from ..decoding import bio_labels
from ..errors import OpenMedError
from ..evaluation.evaluate import raw_scores
from ..inference import Forward, SharedBackbone, shared_backbone
from ..labelling import Flatten
from ..low_rank import LORA_WEIGHTS
from ..network import TokenTagger, tagging_loss
from ..precision import resolve_precision
from ..predictor import NetworkPredictor, Predictor
from . import begun, lora
from .begun import RUN
from .energy import ENERGY, Meter, SaveEnergy
from .samples import BatchSampler, collate, samples
from .settings import FinetuneSettings, to_dict
from .trainer import TrainableOnlyTrainer, checkpoint_to_resume, training_arguments

# What may differ when a run goes on: it does not change what is computed.
_FREE = ("settings.optim.gradient_checkpointing",)
INITS = ("continue", "merge")
# What is trained besides the head. Adapters are "lora"; the others are there to compare with.
METHODS = ("lora", "full", "head")


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
        loader = DataLoader(
            self.train_dataset,  # type: ignore[arg-type]
            batch_sampler=self.sampler,
            collate_fn=self.data_collator,
        )
        prepared: DataLoader = self.accelerator.prepare(loader)  # type: ignore[type-arg]
        return prepared

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
        loss = tagging_loss(logits, labels, self.smoothing)
        return (loss, {"logits": logits}) if return_outputs else loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Entity F1 on the raw text of dev, with the decoding of run time."""
        self.model.eval()
        micro = raw_scores(self.predictor, self.eval_dataset, self.flatten).micro
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
class Fitted:
    """A trained network, at its best epoch on dev.

    network (TokenTagger): The network.
    info (AdapterInfo): Its labels and backbone.
    tokens (SharedBackbone): Tokenizer and special tokens.
    record (dict): Settings, data, epochs, time: see ``fit``.
    """

    network: TokenTagger
    info: AdapterInfo
    tokens: SharedBackbone
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
) -> dict[str, Any]:
    """Train an adapter and write it to ``output/adapter``.

    train, dev (Sequence[Document]): Annotated documents; dev chooses the epoch.
    backbone (str): Backbone id or folder.
    output (Path): Gets ``adapter/``, and ``checkpoints/`` while running.
    settings (FinetuneSettings): The settings.
    dataset (str): Id of the corpus, "" for the user's own.
    init_adapter (Path | None): Pre-training adapter, which enters as ``settings.init`` says.
    resume (bool): Go on from the last checkpoint in ``output``.
    tdp_watts (float): Thermal design power of all devices, for the energy; 0 to look it up.
    RETURNS (dict): The record that is also written to ``output/adapter/training.json``.
    RAISES (OpenMedError): Nothing annotated, settings that do not fit the backbone, or an
        unfinished run in ``output`` that is not resumed.
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
    )
    # float16 halves the adapter; every figure is measured on the rounded weights.
    adapter = network.to_adapter(fitted.network, fitted.info, torch.float16)
    scores = raw_scores(Predictor(adapter, fitted.tokens), dev, registry.flatten(dataset))
    record = {**fitted.record, "dev": scores.to_dict()}
    card = {adapters.TRAINING: json.dumps(record, indent=2) + "\n"}
    adapters.write(replace(adapter, card=card), output / "adapter")
    return record


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
) -> Fitted:
    """Train a network; arguments and errors are those of ``finetune``.

    method (str): What is trained besides the head: "lora", "full" (the whole encoder) or
        "head" (nothing).
    """
    types = sorted({e.label for d in train for e in d.entities})
    if not types or not any(d.entities for d in dev):
        raise OpenMedError(
            f"Nothing to learn: train has {sum(len(d.entities) for d in train)} and dev "
            f"{sum(len(d.entities) for d in dev)} annotated entities; both need some."
        )
    unseen = {e.label for d in dev for e in d.entities} - set(types)
    if unseen:
        raise OpenMedError(f"dev has labels that train lacks: {', '.join(sorted(unseen))}.")
    if int(os.environ.get("WORLD_SIZE") or 1) > 1:
        raise OpenMedError(
            "Fine-tuning runs in one process. Start it without torchrun; CUDA_VISIBLE_DEVICES "
            "chooses a GPU."
        )
    checkpoints = output / "checkpoints"
    found = checkpoint_to_resume(checkpoints, resume)
    set_seed(settings.optim.seed)
    if method == "lora" and settings.init == "continue" and init_adapter is not None:
        settings = replace(settings, lora=lora.same_shape(settings.lora, init_adapter))
    ref = backbones.reference(backbone)
    train_hash, dev_hash = content_hash(train), content_hash(dev)
    facts = {
        "backbone": ref.sha256,
        "method": method,
        "settings": to_dict(settings),
        "precision": resolve_precision(settings.optim.precision),
        "pre-training adapter": file_hash(init_adapter) if init_adapter else "none",
        "train": train_hash,
        "dev": dev_hash,
    }
    if found is not None:
        begun.check(output / RUN, facts, _FREE)
    folder = backbones.find(ref)
    tokens = shared_backbone(folder)
    info = AdapterInfo(dataset, tuple(types), ref, settings.window, settings.overlap)
    model = build(folder, settings, len(info.labels), init_adapter, method)
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
    if found is None:
        begun.write(output / RUN, facts)
    timer = StepTimer()
    meter = Meter(output / ENERGY, found is not None, tdp_watts)
    trainer = FinetuneTrainer(
        model=model,
        args=arguments,
        train_dataset=data,
        eval_dataset=dev,
        data_collator=partial(collate, pad=tokens.special.pad),
        callbacks=[EarlyStoppingCallback(settings.patience), timer, SaveEnergy(meter)],
        sampler=BatchSampler(
            [len(s["input_ids"]) for s in data],
            settings.optim.batch_size * settings.window,
            settings.optim.seed,
        ),
        head_learning_rate=settings.head_learning_rate,
        label_smoothing=settings.label_smoothing,
        predictor=NetworkPredictor(info, tokens, network_forward(model, arguments)),
        flatten=flatten,
    )
    with meter:
        result = trainer.train(resume_from_checkpoint=str(found) if found else None)
    energy = meter.to_dict()
    edition = registry.edition_with(dataset, "train", train_hash)
    record = {
        "spacy_openmed": __version__,
        "backbone": ref.to_dict(),
        "dataset": dataset,
        "edition": edition.id if edition else None,
        "settings": to_dict(settings),
        "init_adapter": file_hash(init_adapter) if init_adapter else None,
        "data": {"train": train_hash, "dev": dev_hash},
        "precision": facts["precision"],
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "epochs": [
            {"epoch": row["epoch"], "dev_f1": row["eval_f1"]}
            for row in trainer.state.log_history
            if "eval_f1" in row
        ],
        "steps": result.global_step,
        # Updates alone, without scoring dev and writing checkpoints; of the last part of a run.
        "step_seconds": round(timer.seconds, 1),
        "seconds": energy["seconds"],
        "energy": energy,
        "resumed": found is not None,
    }
    return Fitted(model, info, tokens, record)


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
    encoder = backbones.load_encoder(folder)
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
    # The Trainer asks the model itself for these when gradient checkpointing is on.
    model.gradient_checkpointing_enable = encoder.gradient_checkpointing_enable  # type: ignore
    return model


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
