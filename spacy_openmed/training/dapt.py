"""Domain-adaptive pre-training: masked language modelling with LoRA on a frozen backbone.

Section 3.2 of arXiv 2508.01630. The adapter that comes out is a plain PEFT folder; fine-
tuning can go on from it (``--init-adapter``).
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, DataCollatorForLanguageModeling

from .. import backbones, pretraining
from ..about import __version__
from ..adapters import CARD as LORA_CARD
from ..errors import OpenMedError
from ..files import atomic_file, atomic_folder
from ..low_rank import LORA_WEIGHTS
from ..windows import SpecialTokens, special_tokens
from . import lora
from .masked_lm import BASE_HEAD, HEAD, MIN_WORDPIECES, MaskedLM, Windows, read_passages, windows
from .settings import DaptSettings, OptimSettings, to_dict
from .trainer import (
    TrainableOnlyTrainer,
    checkpoint_to_resume,
    training_arguments,
)

_HEAD_RECORD = "base_mlm_head.json"


def dapt(
    backbone: str,
    texts: Sequence[Path],
    output: Path,
    settings: DaptSettings,
    resume: bool = False,
) -> dict[str, Any]:
    """Adapt a backbone to a domain.

    A masked-LM head is trained first, on the frozen backbone, where the checkpoint has none;
    then LoRA and head together.

    backbone (str): Backbone id or folder.
    texts (Sequence[Path]): Files with one passage a line, ``.gz`` allowed.
    output (Path): Gets ``adapter/`` (see ``pretraining``), and ``checkpoints/`` and
        ``head-checkpoints/`` while running.
    settings (DaptSettings): The settings.
    resume (bool): Go on from the last checkpoint in ``output``.
    RETURNS (dict): What was done, also written to ``output/adapter/dapt.json``.
    RAISES (OpenMedError): No usable text, or an unfinished run in ``output`` that is not
        resumed.
    """
    checkpoints, head_checkpoints = output / "checkpoints", output / "head-checkpoints"
    found = checkpoint_to_resume(checkpoints, resume)
    head_found = checkpoint_to_resume(head_checkpoints, resume)
    ref = backbones.reference(backbone)
    folder = backbones.find(ref)
    torch.manual_seed(settings.optim.seed)
    model = MaskedLM(folder)
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    fast = backbones.load_tokenizer(folder)
    special = special_tokens(fast, int(model.config.pad_token_id or 0))
    data = _data(texts, fast, special, settings)
    collator = DataCollatorForLanguageModeling(
        tokenizer, mlm_probability=settings.mask_probability, pad_to_multiple_of=8
    )

    def phase(optim: OptimSettings, folder: Path, resume_from: Path | None) -> dict[str, Any]:
        trainer = TrainableOnlyTrainer(
            model=model,
            args=training_arguments(
                optim,
                folder,
                save_strategy="steps",
                save_steps=settings.save_steps,
                save_total_limit=2,
                logging_steps=20,
            ),
            train_dataset=data,
            data_collator=collator,
        )
        result = trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
        return {
            "steps": result.global_step,
            "losses": [row["loss"] for row in trainer.state.log_history if "loss" in row],
            "seconds": result.metrics["train_runtime"],
        }

    report: dict[str, Any] = {
        "spacy_openmed": __version__,
        "backbone": ref.to_dict(),
        "settings": to_dict(settings),
        "texts": {path.name: backbones.file_sha256(path) for path in texts},
        "windows": len(data),
        "wordpieces": data.wordpieces,
        "head": None,
    }
    base_head = output / BASE_HEAD
    if not model.has_own_head and settings.head_steps > 0:
        if resume and base_head.is_file():
            model.load_head(base_head)
            report["head"] = json.loads((output / _HEAD_RECORD).read_text(encoding="utf8"))
        else:
            optim = replace(
                settings.optim,
                learning_rate=settings.head_learning_rate,
                max_steps=settings.head_steps,
                gradient_checkpointing=False,
            )
            report["head"] = phase(optim, head_checkpoints, head_found)
            with atomic_file(output / _HEAD_RECORD) as part:
                part.write_text(json.dumps(report["head"]), encoding="utf8")
            with atomic_file(base_head) as part:
                model.save_head(part)
    model.encoder = lora.wrap(model.encoder, settings.lora)
    report["adaptation"] = phase(settings.optim, checkpoints, found)
    # Names of folders on the training machine mean nothing elsewhere.
    model.encoder.peft_config["default"].base_model_name_or_path = ref.hub_id or None
    with atomic_folder(output / "adapter") as part:
        model.encoder.save_pretrained(str(part))
        _to_float16(part / LORA_WEIGHTS)
        (part / LORA_CARD).unlink(missing_ok=True)
        model.save_head(part / HEAD)
        if base_head.is_file():
            shutil.copyfile(base_head, part / BASE_HEAD)
        text = json.dumps(report, indent=2) + "\n"
        (part / pretraining.RECORD).write_text(text, encoding="utf8")
    return report


def _data(
    texts: Sequence[Path], tokenizer: Any, special: SpecialTokens, settings: DaptSettings
) -> Windows:
    found = Windows(
        windows(read_passages(texts), tokenizer, special, settings.window, settings.overlap)
    )
    if len(found) < settings.optim.batch_size:
        raise OpenMedError(
            f"{len(found)} passages of at least {MIN_WORDPIECES} wordpieces in "
            f"{', '.join(map(str, texts))}: fewer than one batch ({settings.optim.batch_size})."
        )
    return found


def _to_float16(path: Path) -> None:
    """Halve the size of an adapter; the last bits of low-rank matrices change nothing."""
    tensors = {name: tensor.half() for name, tensor in load_file(str(path)).items()}
    save_file(tensors, str(path), metadata={"format": "pt"})
