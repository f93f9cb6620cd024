"""LoRA fine-tuning with a new linear head, on Hugging Face ``Trainer`` and PEFT.

Section 3.3 of arXiv 2508.01630. Only train and dev are read here; the function is given no
path to a test split.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, set_seed

from .. import adapters, backbones, network, pretraining
from ..about import __version__
from ..adapters import AdapterInfo
from ..corpora import registry
from ..corpora.documents import Document
from ..corpora.statistics import content_hash
from ..decoding import bio_labels
from ..errors import OpenMedError
from ..evaluation.evaluate import raw_scores
from ..inference import Forward, shared_backbone
from ..labelling import Flatten
from ..low_rank import LORA_WEIGHTS
from ..network import TokenTagger, tagging_loss
from ..predictor import Predictor
from . import lora
from .samples import BatchSampler, collate, samples
from .settings import FinetuneSettings, to_dict
from .trainer import TrainableOnlyTrainer, checkpoint_to_resume, training_arguments

INITS = ("continue", "merge")


class FinetuneTrainer(TrainableOnlyTrainer):
    """Trainer with batches by wordpieces, our loss, and dev F1 on entities."""

    def __init__(
        self,
        *args: Any,
        sampler: BatchSampler,
        label_smoothing: float,
        predictor: Predictor,
        flatten: Flatten,
        **kwargs: Any,
    ) -> None:
        self.flatten = flatten
        self.sampler = sampler
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


def finetune(
    train: Sequence[Document],
    dev: Sequence[Document],
    backbone: str,
    output: Path,
    settings: FinetuneSettings,
    dataset: str = "",
    init_adapter: Path | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Train an adapter and write it to ``output/adapter``.

    train, dev (Sequence[Document]): Annotated documents; dev chooses the epoch.
    backbone (str): Backbone id or folder.
    output (Path): Gets ``adapter/``, and ``checkpoints/`` while running.
    settings (FinetuneSettings): The settings.
    dataset (str): Id of the corpus, "" for the user's own.
    init_adapter (Path | None): Pre-training adapter, which enters as ``settings.init`` says.
    resume (bool): Go on from the last checkpoint in ``output``.
    RETURNS (dict): The record that is also written to ``output/adapter/training.json``.
    RAISES (OpenMedError): Nothing annotated, settings that do not fit the backbone, or an
        unfinished run in ``output`` that is not resumed.
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
    checkpoints = output / "checkpoints"
    found = checkpoint_to_resume(checkpoints, resume)
    begun = time.time()
    set_seed(settings.optim.seed)
    ref = backbones.reference(backbone)
    folder = backbones.find(ref)
    tokens = shared_backbone(folder)
    info = AdapterInfo(dataset, tuple(types), ref, settings.window, settings.overlap)
    model = build(folder, settings, len(info.labels), init_adapter)
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
    trainer = FinetuneTrainer(
        model=model,
        args=arguments,
        train_dataset=data,
        eval_dataset=dev,
        data_collator=partial(collate, pad=tokens.special.pad),
        callbacks=[EarlyStoppingCallback(settings.patience)],
        sampler=BatchSampler(
            [len(s["input_ids"]) for s in data],
            settings.optim.batch_size * settings.window,
            settings.optim.seed,
        ),
        label_smoothing=settings.label_smoothing,
        predictor=Predictor(
            network.to_adapter(model, info), tokens, network_forward(model, arguments)
        ),
        flatten=flatten,
    )
    result = trainer.train(resume_from_checkpoint=str(found) if found else None)
    # float16 halves the adapter; every figure is measured on the rounded weights.
    rounded = network.to_adapter(model, info, torch.float16)
    train_hash = content_hash(train)
    edition = registry.edition_with(dataset, "train", train_hash)
    record = {
        "spacy_openmed": __version__,
        "backbone": ref.to_dict(),
        "dataset": dataset,
        "edition": edition.id if edition else None,
        "settings": to_dict(settings),
        "init_adapter": file_hash(init_adapter) if init_adapter else None,
        "data": {"train": train_hash, "dev": content_hash(dev)},
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "epochs": [
            {"epoch": row["epoch"], "dev_f1": row["eval_f1"]}
            for row in trainer.state.log_history
            if "eval_f1" in row
        ],
        "steps": result.global_step,
        "seconds": round(time.time() - begun, 1),
        "resumed": found is not None,
        "dev": raw_scores(Predictor(rounded, tokens), dev, flatten).to_dict(),
    }
    card = {adapters.TRAINING: json.dumps(record, indent=2) + "\n"}
    adapters.write(replace(rounded, card=card), output / "adapter")
    return record


def build(
    folder: Path, settings: FinetuneSettings, labels: int, init_adapter: Path | None = None
) -> TokenTagger:
    """A network ready to train: frozen backbone, LoRA (fresh or continued), new head.

    RAISES (OpenMedError): ``init_adapter`` has another shape than the settings ask for, or
        is for another backbone.
    """
    if settings.init not in INITS:
        raise OpenMedError(f"init = {settings.init!r}: choose {' or '.join(map(repr, INITS))}.")
    encoder = backbones.load_encoder(folder)
    network.set_dropout(encoder, settings.dropout, settings.attention_dropout)
    merged = None
    if init_adapter is not None and settings.init == "merge":
        merged = pretraining.read(init_adapter)
        pretraining.verify_backbone(merged, backbones.reference(str(folder)), str(init_adapter))
        pretraining.merge(encoder, merged)
    peft_model = lora.wrap(encoder, settings.lora)
    if init_adapter is not None and settings.init == "continue":
        lora.continue_from(peft_model, init_adapter)
    model = TokenTagger(peft_model, labels, settings.dropout, merged)
    # The Trainer asks the model itself for these when gradient checkpointing is on.
    model.gradient_checkpointing_enable = peft_model.gradient_checkpointing_enable  # type: ignore
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
