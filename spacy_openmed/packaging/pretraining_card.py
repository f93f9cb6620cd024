"""The card of a pre-training adapter, from its record and its measured perplexity."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from .. import pretraining
from ..adapters import CARD
from ..errors import OpenMedError
from ..files import read_json
from ..tables import markdown
from .cards import energy_facts


def write_card(folder: Path, results: Sequence[Path]) -> None:
    """Write README.md into the folder of a pre-training adapter.

    folder (Path): What ``spacy openmed dapt`` wrote.
    results (Sequence[Path]): JSON files of ``spacy openmed perplexity`` for this adapter.
    RAISES (OpenMedError): Not such a folder, or a result that is broken or of another adapter.
    """
    found = pretraining.read(folder)
    measured = [read_json(path, "'spacy openmed perplexity' writes it.") for path in results]
    for path, result in zip(results, measured, strict=True):
        if result.get("adapter") != found.sha256:
            raise OpenMedError(
                f"{path} was measured on another adapter (sha256 {result.get('adapter')}) than "
                f"the one in {folder} ({found.sha256})."
            )
    record = json.loads((folder / pretraining.RECORD).read_text(encoding="utf8"))
    (folder / CARD).write_text(card(found, record, measured), encoding="utf8")


def card(
    adapter: pretraining.Pretraining,
    record: dict[str, Any],
    results: Sequence[dict[str, Any]],
) -> str:
    """The text of the card, Markdown with the hub's metadata."""
    backbone = adapter.backbone
    metadata = ModelCardData(
        language="en",
        license="apache-2.0" if adapter.is_shipped else None,
        library_name="peft",
        base_model=backbone.hub_id or None,
        tags=["biomedical", "domain-adaptation", "fill-mask", "lora"],
    )
    lora, optim = record["settings"]["lora"], record["settings"]["optim"]
    head, adaptation = record["head"], record["adaptation"]
    facts = {
        "Backbone": f"`{backbone.id}`, sha256 `{backbone.sha256}`",
        "This adapter": f"sha256 `{adapter.sha256}`",
        "LoRA": f"rank {lora['rank']}, alpha {lora['alpha']}, on `{lora['target_modules']}`",
        "On the word embeddings": f"rank {lora['embedding_rank']}"
        if lora["embedding_rank"]
        else "no",
        "Parameters": f"{sum(tensor.numel() for tensor in adapter.lora.values()):,}",
        "Updates of the head alone": head["steps"] if head else "none, the checkpoint has a head",
        "Updates of LoRA and head": adaptation["steps"],
        **_kept(record),
        "Windows an update": optim["batch_size"]
        * optim["accumulation"]
        * record.get("processes", 1),
        "Wordpieces a window": f"at most {record['settings']['window']}",
        "Text": f"{record['wordpieces']:,} wordpieces in {record['windows']:,} windows",
        "Hidden wordpieces": f"{100 * record['settings']['mask_probability']:.0f} %",
        "Learning rate": f"{optim['learning_rate']}, {_warmup(optim)}, cosine",
        "Seed": optim["seed"],
        "Loss": f"{adaptation['losses'][0]:.2f} at first, {adaptation['losses'][-1]:.2f} at last",
        "Duration": f"{adaptation['seconds'] / 60:.0f} minutes",
        **energy_facts(record),
        "Made with": f"spacy-openmed {record['spacy_openmed']}",
        **({"Note": record["note"]} if "note" in record else {}),
    }
    texts = [[f"`{name}`", f"`{digest}`"] for name, digest in record["texts"].items()]
    return f"""---
{metadata.to_yaml().strip()}
---

# Biomedical pre-training of {backbone.id}

Domain-adaptive pre-training (masked language modelling) of a frozen backbone with LoRA, in
PEFT's folder format. Fine-tuning builds on it: `spacy openmed train --init-adapter FOLDER`, which
either goes on with the same matrices or merges them into the backbone first (`init` in the
settings). By itself it finds no entities.

## Perplexity

Of hidden wordpieces in text that was not trained on; the same ones for both, with 95 % bootstrap
intervals over passages. {_plain(head)}

{perplexity_table(results)}

## Training

{markdown(["", ""], [[name, value] for name, value in facts.items()])}

Text, one passage a line:

{markdown(["file", "sha256"], texts)}

{_limits(adapter)}"""


def _plain(head: dict[str, Any] | None) -> str:
    if head is None:
        return '"plain" is the backbone with the masked-LM head of its checkpoint.'
    return (
        '"plain" is the backbone with a masked-LM head that was\n'
        "trained on it while it was frozen, since its checkpoint has none."
    )


def _limits(adapter: pretraining.Pretraining) -> str:
    # What a user's text is, and who may see what was learned from it, is the user's to say.
    if not adapter.is_shipped:
        return ""
    return (
        "## Limits\n\nEnglish abstracts and articles above all, few clinical notes, none of them "
        "of real patients.\n"
    )


def _warmup(optim: dict[str, Any]) -> str:
    if optim.get("warmup_steps"):
        return f"warm-up of {optim['warmup_steps']} updates"
    return f"warm-up {optim['warmup_ratio']}"


def _kept(record: dict[str, Any]) -> dict[str, str]:
    keep = record["settings"].get("keep", 1.0)
    if keep == 1.0:
        return {}
    settled = record.get("settled")
    return {
        "Kept of the update": f"{100 * keep:.0f} % (interpolation as in arXiv 2109.01903)",
        "Updates of the head alone after that": f"{settled['steps']}, loss "
        f"{settled['losses'][0]:.2f} at first, {settled['losses'][-1]:.2f} at last"
        if settled
        else "none",
    }


def perplexity_table(results: Sequence[dict[str, Any]]) -> str:
    """Markdown table of the JSON that ``spacy openmed perplexity`` writes."""

    def cell(figure: dict[str, Any], key: str, digits: int) -> str:
        low, high = figure["ci"]
        return f"{figure[key]:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"

    rows = [
        [
            ", ".join(f"`{name}`" for name in result["texts"]),
            result["passages"],
            result["masked"],
            cell(result["base"], "perplexity", 2),
            cell(result["adapted"], "perplexity", 2),
            cell(result["fall"], "percent", 1) + " %",
        ]
        for result in results
    ]
    return markdown(["text", "passages", "hidden", "plain", "adapted", "fall"], rows)
