"""One adapter out of several runs: the mean of their weights.

"Model soups" (Wortsman et al., arXiv 2203.05482): fine-tuning runs that start from the same
weights end in the same basin, where the mean of two is often better than either.

Of runs that went on with a pre-training adapter's LoRA the means of A and of B are taken apart,
which is only sensible because they also share those matrices at the start. Of runs that began a
LoRA of their own on merged weights the updates themselves are averaged: side by side their
matrices are one LoRA of the ranks' sum, (s/k)·[B1 … Bk]·[A1; …; Ak], or the nearest to it of a
given rank.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import adapters, low_rank
from ..about import __version__
from ..adapters import Adapter
from ..code_hash import code_sha256
from ..corpora import registry
from ..corpora.documents import Document
from ..corpora.statistics import content_hash
from ..decoding import decode
from ..errors import OpenMedError
from ..evaluation.scores import score
from ..inference import shared_backbone
from ..low_rank import LINEAR
from ..predictor import Predictor
from .energy import total

# The mean of two networks is less sure of "O" than either, and finds too much: what is added
# to its logit is chosen on dev.
OUTSIDE_BIASES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)
# With these the scale of a LoRA is not alpha by the one rank.
_NOT_BY_RANK = ("use_rslora", "rank_pattern", "alpha_pattern")
# What a record says of one run alone.
_OF_ONE = ("epochs", "resumed", "calibration", "consistency", "warm_start")


def average(
    folders: Sequence[Path], dev: Sequence[Document], output: Path, rank: int | None = None
) -> dict[str, Any]:
    """Average adapters and write the result to ``output/adapter``.

    folders (Sequence[Path]): Adapter folders with training records, at least two; averages
        among them.
    dev (Sequence[Document]): Chooses the bias of the label "O".
    output (Path): Gets ``adapter/``.
    rank (int | None): Of the LoRA, at most; None for the sum of the ranks on merged weights. Of
        runs that went on with the same LoRA it stays as it is.
    RETURNS (dict): The record that is also written to ``output/adapter/training.json``.
    RAISES (OpenMedError): The adapters do not start from the same weights, a run is in two of
        them, or there is an adapter in ``output`` already.
    """
    if (output / "adapter").exists():
        raise OpenMedError(f"{output / 'adapter'} exists. Choose another --output.")
    parts = [adapters.read(folder) for folder in folders]
    records = [_record(part, folder) for part, folder in zip(parts, folders, strict=True)]
    _check(parts, records)
    runs = [
        {**run, "share": run["share"] / len(parts)}
        for part, one in zip(parts, records, strict=True)
        for run in _runs(part, one)
    ]
    if len({run["adapter"] for run in runs}) < len(runs):
        raise OpenMedError("A run is in two of these averages: it would count twice.")
    # Averages among the parts have one in their heads.
    earlier = sum(one.get("outside_bias", 0.0) for one in records) / len(parts)
    first = parts[0]
    lora_config, lora = _mean_of_lora(parts)
    if rank is not None and rank < lora_config["r"]:
        lora_config, lora = {**lora_config, "r": rank}, low_rank.nearest(lora_config, lora, rank)
    mean = Adapter(
        # What was fitted on dev was fitted to one run's scores.
        adapters.unfitted(first.info),
        lora_config,
        lora,
        torch.stack([part.weight for part in parts]).mean(0),
        torch.stack([part.bias for part in parts]).mean(0),
        pretraining=first.pretraining,
    )
    backbone = shared_backbone(first.find_backbone())
    texts = [document.text for document in dev]
    flatten = registry.flatten(first.info.dataset)
    gold = [flatten(document.entities) for document in dev]
    encodings, logits = Predictor(mean, backbone).tag(texts)
    tried = {}
    for bias in OUTSIDE_BIASES:
        shift = np.zeros(len(first.info.labels), dtype=np.float32)
        shift[0] = bias
        found = decode(texts, encodings, [rows + shift for rows in logits], first.info.types)
        tried[bias] = score(gold, found)
    best = max(tried, key=lambda bias: (tried[bias].micro.f1, -bias))
    shifted = mean.bias.clone()
    shifted[0] += best
    record = {
        **{key: value for key, value in records[0].items() if key not in _OF_ONE},
        "spacy_openmed": __version__,
        "code": code_sha256(),
        "averaged": runs,
        "rank": lora_config["r"],
        "outside_bias": earlier + best,
        "outside_biases_tried": {str(bias): 100 * s.micro.f1 for bias, s in tried.items()},
        "seconds": sum(one["seconds"] for one in records),
        # Older records have none; the energy of some of the runs would pass for that of all.
        "energy": total([one["energy"] for one in records])
        if all(one.get("energy") for one in records)
        else None,
        "data": {**records[0]["data"], "dev": content_hash(dev)},
        "dev": tried[best].to_dict(),
    }
    card = {adapters.TRAINING: json.dumps(record, indent=2) + "\n"}
    adapters.write(replace(mean, bias=shifted, card=card), output / "adapter")
    return record


def _runs(part: Adapter, record: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs that an adapter is the mean of, or the one that it is, with their shares."""
    if "averaged" in record:
        runs: list[dict[str, Any]] = record["averaged"]
        return [{"share": 1 / len(runs), **run} for run in runs]
    return [
        {
            "adapter": adapters.content_hash(part),
            "seed": record["settings"]["optim"]["seed"],
            "epochs": record["epochs"],
            "seconds": record["seconds"],
            "energy": record.get("energy"),
            "dev_f1": record["dev"]["f1"],
            "warm_start": record.get("warm_start"),
            "share": 1.0,
        }
    ]


def _mean_of_lora(
    parts: Sequence[Adapter],
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """RETURNS (tuple): PEFT's configuration and the matrices."""
    first = parts[0]
    together = {name: [part.lora[name] for part in parts] for name in first.lora}
    if first.pretraining is None:
        return first.lora_config, {
            name: torch.stack([one.float() for one in found]).mean(0).to(found[0].dtype)
            for name, found in together.items()
        }
    # alpha stays: divided by k times the rank it is the scale of the mean.
    config = {**first.lora_config, "r": first.lora_config["r"] * len(parts)}
    return config, {
        # A has a row for each rank, B a column.
        name: torch.cat(found, dim=0 if name.endswith(LINEAR[0]) else 1)
        for name, found in together.items()
    }


def _record(adapter: Adapter, folder: Path) -> dict[str, Any]:
    if adapters.TRAINING not in adapter.card:
        raise OpenMedError(f"{folder} has no {adapters.TRAINING}: it cannot be averaged.")
    record: dict[str, Any] = json.loads(adapter.card[adapters.TRAINING])
    return record


def _check(parts: Sequence[Adapter], records: Sequence[dict[str, Any]]) -> None:
    if len(parts) < 2:
        raise OpenMedError("An average needs at least two adapters.")
    kinds = {
        (
            part.info.types,
            part.info.backbone.sha256,
            part.lora_config["r"],
            part.lora_config["lora_alpha"],
            str(part.lora_config["target_modules"]),
            record["init_adapter"],
            # What is not merged into the backbone is in the LoRA, and averaged with it.
            None if part.info.pretraining else str(record.get("warm_start")),
            part.info.pretraining,
            record["data"]["train"],
            part.info.window,
            part.info.overlap,
        )
        for part, record in zip(parts, records, strict=True)
    }
    if len(kinds) > 1 or records[0]["init_adapter"] is None:
        raise OpenMedError(
            "Only adapters with the same types, backbone, LoRA shape and --init-adapter can be "
            "averaged: the mean of runs that started apart is noise."
        )
    first = parts[0]
    plain = all(name.endswith(LINEAR) for name in first.lora)
    if first.pretraining is not None and (
        not plain or any(first.lora_config.get(key) for key in _NOT_BY_RANK)
    ):
        raise OpenMedError(
            f"Adapters on merged weights can be averaged if their LoRA is on linear layers only "
            f"and plain (no {', '.join(_NOT_BY_RANK)})."
        )
