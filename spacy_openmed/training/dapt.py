"""Domain-adaptive pre-training: masked language modelling with LoRA on a frozen backbone.

Section 3.2 of arXiv 2508.01630. The adapter that comes out is a plain PEFT folder; fine-
tuning can go on from it (``--init-adapter``).
"""

import gzip
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
)

from .. import backbones
from ..errors import OpenMedError
from ..files import atomic_folder
from ..labelling import IGNORED
from ..windows import SpecialTokens, cut, encode_batch, special_tokens
from . import lora
from .settings import DaptSettings, to_dict
from .trainer import (
    TrainableOnlyTrainer,
    checkpoint_to_resume,
    training_arguments,
)

MIN_WORDPIECES = 20


class MaskedLM(torch.nn.Module):
    """Encoder and masked-LM head, with logits for the masked positions alone.

    The stock models score the whole vocabulary at every position, which costs more than
    the encoder when the encoder is small.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        # Without dropout: one pass over the text cannot be overfitted, and on a CPU the
        # random masks cost as much as the arithmetic.
        config = AutoConfig.from_pretrained(
            str(folder),
            local_files_only=True,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        model = AutoModelForMaskedLM.from_pretrained(
            str(folder), config=config, local_files_only=True
        ).float()
        self.config = model.config
        self.encoder = getattr(model, model.base_model_prefix).requires_grad_(False)
        # BERT and DeBERTa have one module after the encoder, ELECTRA two in a row.
        self.head = torch.nn.Sequential(
            *(child for name, child in model.named_children() if name != model.base_model_prefix)
        )
        for parameter in self.head.parameters():
            # The decoder is the embedding matrix and stays frozen with it.
            parameter.requires_grad_(parameter is not model.get_input_embeddings().weight)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The mean cross-entropy over masked wordpieces, in nats.

        input_ids, attention_mask, labels (int64[batch, length]): Labels are -100 where
            nothing is to be predicted.
        """
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask)[0]
        masked = labels != IGNORED
        logits = self.head(hidden[masked])
        loss = torch.nn.functional.cross_entropy(logits.float(), labels[masked], reduction="sum")
        # A short batch may have nothing masked, and the mean of nothing is NaN.
        return {"loss": loss / masked.sum().clamp(min=1)}

    def gradient_checkpointing_enable(self, **kwargs: Any) -> None:
        """What the Trainer asks of a model when gradient checkpointing is on."""
        self.encoder.gradient_checkpointing_enable(**kwargs)


def dapt(
    backbone: str,
    texts: Sequence[Path],
    output: Path,
    settings: DaptSettings,
    resume: bool = False,
) -> dict[str, Any]:
    """Adapt a backbone to a domain.

    backbone (str): Backbone id or folder.
    texts (Sequence[Path]): Files with one passage a line, ``.gz`` allowed.
    output (Path): Gets ``adapter/`` (PEFT), and ``checkpoints/`` while running.
    settings (DaptSettings): The settings.
    resume (bool): Go on from the last checkpoint in ``output``.
    RETURNS (dict): What was done, also written to ``output/dapt.json``.
    RAISES (OpenMedError): No usable text, or an unfinished run in ``output`` that is not
        resumed.
    """
    checkpoints = output / "checkpoints"
    found = checkpoint_to_resume(checkpoints, resume)
    ref = backbones.reference(backbone)
    folder = backbones.find(ref)
    torch.manual_seed(settings.optim.seed)
    model = MaskedLM(folder)
    # The token-id range is the model's; the tokenizer knows the mask and special ids.
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    fast = backbones.load_tokenizer(folder)
    special = special_tokens(fast, int(model.config.pad_token_id or 0))
    windows = _windows(texts, fast, special, settings)
    random.Random(settings.optim.seed).shuffle(windows)
    collator = DataCollatorForLanguageModeling(
        tokenizer, mlm_probability=settings.mask_probability, pad_to_multiple_of=8
    )
    head_loss = _warm_head(model, windows, collator, output, settings)

    model.encoder = lora.wrap(model.encoder, settings.lora)
    trainer = TrainableOnlyTrainer(
        model=model,
        args=training_arguments(
            settings.optim,
            checkpoints,
            save_strategy="steps",
            save_steps=settings.save_steps,
            save_total_limit=2,
            logging_steps=20,
        ),
        train_dataset=windows,  # type: ignore[arg-type]
        data_collator=collator,
    )
    result = trainer.train(resume_from_checkpoint=str(found) if found else None)
    # Names of folders on the training machine mean nothing elsewhere.
    model.encoder.peft_config["default"].base_model_name_or_path = ref.hub_id or None
    with atomic_folder(output / "adapter") as part:
        model.encoder.save_pretrained(str(part))
    report = {
        "backbone": ref.to_dict(),
        "settings": to_dict(settings),
        "texts": [path.name for path in texts],
        "windows": len(windows),
        "wordpieces": sum(len(window["input_ids"]) for window in windows),
        "head_loss": head_loss,
        "steps": result.global_step,
        "final_losses": [row["loss"] for row in trainer.state.log_history if "loss" in row],
        "seconds": result.metrics["train_runtime"],
    }
    (output / "dapt.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf8")
    return report


def read_passages(paths: Iterable[Path]) -> Iterator[str]:
    """Lines of text files, plain or gzip, blank ones left out."""
    for path in paths:
        opener: Any = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf8") as file:
            for line in file:
                if line.strip():
                    yield line.strip()


def _windows(
    texts: Sequence[Path], tokenizer: Any, special: SpecialTokens, settings: DaptSettings
) -> list[dict[str, Any]]:
    size = settings.window - special.count
    windows = []
    chunk: list[str] = []

    def flush() -> None:
        for encoding in encode_batch(chunk, tokenizer):
            for start, end in cut(len(encoding), size, settings.overlap):
                if end - start < MIN_WORDPIECES:
                    continue
                ids = (*special.prefix, *encoding.ids[start:end], *special.suffix)
                windows.append({"input_ids": np.asarray(ids, dtype=np.int64)})
        chunk.clear()

    for passage in read_passages(texts):
        chunk.append(passage)
        if len(chunk) == 1000:
            flush()
    flush()
    if len(windows) < settings.optim.batch_size:
        raise OpenMedError(
            f"{len(windows)} passages of at least {MIN_WORDPIECES} wordpieces in "
            f"{', '.join(map(str, texts))}: fewer than one batch ({settings.optim.batch_size})."
        )
    return windows


def _warm_head(
    model: "MaskedLM",
    windows: list[dict[str, Any]],
    collator: DataCollatorForLanguageModeling,
    output: Path,
    settings: DaptSettings,
) -> list[float]:
    """Train the masked-LM head alone; only then is a later drop in loss the adapter's."""
    if settings.head_steps <= 0:
        return []

    optim = replace(
        settings.optim,
        learning_rate=settings.head_learning_rate,
        max_steps=settings.head_steps,
        gradient_checkpointing=False,
    )
    trainer = TrainableOnlyTrainer(
        model=model,
        args=training_arguments(optim, output / "head", save_strategy="no", logging_steps=20),
        train_dataset=windows,  # type: ignore[arg-type]
        data_collator=collator,
    )
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]
