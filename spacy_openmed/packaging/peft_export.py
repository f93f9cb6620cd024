"""An adapter as one folder that plain PEFT runs on the plain backbone."""

import json
import re
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, TaskType
from safetensors.torch import save
from transformers import AutoConfig, AutoModelForTokenClassification

from ..adapters import Adapter
from ..errors import OpenMedError
from ..files import atomic_folder
from ..low_rank import EMBEDDING, LINEAR, LORA_WEIGHTS, PREFIX, Delta


def export_peft(adapter: Adapter, output: Path) -> None:
    """Write an adapter for ``PeftModel.from_pretrained`` on ``AutoModelForTokenClassification``.

    An adapter on top of a merged pre-training adapter becomes one LoRA whose ranks add up:
    s1·B1·A1 + s2·B2·A2 = [s1·B1 s2·B2]·[A1; A2]. PEFT would load the task's part alone as
    well, and silently compute something else.

    adapter (Adapter): The adapter.
    output (Path): Gets PEFT's files and ``labels.json`` (num_labels, id2label), whole or not
        at all.
    RAISES (OpenMedError): ``output`` exists, or the backbone is not at hand.
    """
    if output.exists():
        raise OpenMedError(f"{output} exists. Choose another folder.")
    folder = adapter.find_backbone()
    with torch.device("meta"):
        model: Any = AutoModelForTokenClassification.from_config(
            AutoConfig.from_pretrained(str(folder), local_files_only=True)
        )
    base = adapter.pretraining.deltas() if adapter.pretraining else ()
    tensors: dict[str, torch.Tensor] = {}
    ranks: dict[str, int] = {}
    for path, parts in _by_path(chain(base, adapter.deltas())).items():
        a = torch.cat([delta.a.float() for delta in parts])
        b = torch.cat([delta.b.float() * delta.scale for delta in parts], dim=1)
        name = f"{model.base_model_prefix}.{path}"
        ranks[name] = a.shape[0]
        if isinstance(model.get_submodule(name), torch.nn.Embedding):
            pair = zip(EMBEDDING, (b.T, a.T), strict=True)
        else:
            pair = zip(LINEAR, (a, b), strict=True)
        for suffix, tensor in pair:
            tensors[f"{PREFIX}{name}{suffix}"] = tensor.contiguous()
    # PEFT has no temperature: it goes into the head.
    temperature = adapter.info.temperature
    tensors[f"{PREFIX}classifier.weight"] = adapter.weight.float() / temperature
    tensors[f"{PREFIX}classifier.bias"] = adapter.bias.float() / temperature
    largest = max(ranks.values())
    patterns = {re.escape(name): rank for name, rank in ranks.items() if rank != largest}
    config = LoraConfig(
        task_type=TaskType.TOKEN_CLS,
        r=largest,
        # alpha equal to the rank everywhere: the scales are in B.
        lora_alpha=largest,
        rank_pattern=patterns,
        alpha_pattern=dict(patterns),
        target_modules=sorted(ranks),
        modules_to_save=["classifier"],
        bias="none",
        inference_mode=True,
        base_model_name_or_path=adapter.info.backbone.hub_id or None,
    )
    labels = adapter.info.labels
    with atomic_folder(output) as part:
        config.save_pretrained(str(part))
        (part / LORA_WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))
        description = {"num_labels": len(labels), "id2label": dict(enumerate(labels))}
        (part / "labels.json").write_text(json.dumps(description, indent=2) + "\n", "utf8")


def _by_path(deltas: Iterable[Delta]) -> dict[str, list[Delta]]:
    found: dict[str, list[Delta]] = {}
    for delta in deltas:
        found.setdefault(delta.path, []).append(delta)
    return found
