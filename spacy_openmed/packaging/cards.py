"""Model cards: what an adapter is, how it was trained, what it scores.

Every figure is taken from a file that a command wrote: ``training.json`` in the adapter's
folder, and the JSON of ``spacy openmed evaluate``.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from .. import adapters
from ..adapters import Adapter
from ..corpora import registry
from ..corpora.registry import Edition
from ..errors import OpenMedError
from ..tables import markdown

# What became of the pre-training's LoRA.
_INITS = {"continue": "continued", "merge": "merged into the backbone"}


def write_card(folder: Path, results: Sequence[Path]) -> None:
    """Write README.md into an adapter's folder.

    folder (Path): Adapter folder with ``training.json``.
    results (Sequence[Path]): JSON files of ``spacy openmed evaluate`` for this adapter.
    RAISES (OpenMedError): No training record, or a result of another adapter.
    """
    adapter = adapters.read(folder)
    if adapters.TRAINING not in adapter.card:
        raise OpenMedError(f"{folder} has no {adapters.TRAINING}: a card needs that record.")
    found = [json.loads(path.read_text(encoding="utf8")) for path in results]
    own = adapters.content_hash(adapter)
    for path, result in zip(results, found, strict=True):
        if result["adapter"] != own:
            raise OpenMedError(
                f"{path} was measured on another adapter (sha256 {result['adapter']}) than the "
                f"one in {folder} ({own}). Evaluate this one."
            )
    text = card(adapter, json.loads(adapter.card[adapters.TRAINING]), found)
    (folder / adapters.CARD).write_text(text, encoding="utf8")


def trained_on(adapter: Adapter) -> Edition | None:
    """The edition of its dataset that an adapter was trained on, as its record has it."""
    if adapters.TRAINING not in adapter.card:
        return None
    data = json.loads(adapter.card[adapters.TRAINING]).get("data", {})
    return registry.edition_with(adapter.info.dataset, "train", data.get("train", ""))


def card(adapter: Adapter, record: dict[str, Any], results: Sequence[dict[str, Any]]) -> str:
    """The text of a card, Markdown with the hub's metadata."""
    info = adapter.info
    dataset = registry.with_demos().get(info.dataset)
    edition = trained_on(adapter)
    metadata = ModelCardData(
        language="en",
        license="apache-2.0",
        library_name="spacy-openmed",
        base_model=info.backbone.hub_id or None,
        tags=["spacy", "token-classification", "named-entity-recognition", "biomedical", "lora"],
        pipeline_tag="token-classification",
    )
    settings = record["settings"]
    optim, lora = settings["optim"], settings["lora"]
    runs = record.get("averaged", [record])
    facts = {
        "Corpus": f"`{dataset.id}` ({dataset.licence})" if dataset else "the user's own",
        "Labels": ", ".join(info.types),
        "Backbone": f"`{info.backbone.id}`, sha256 `{info.backbone.sha256}`",
        "Adapter": f"sha256 `{adapters.content_hash(adapter)}`",
        "LoRA": f"rank {lora['rank']}, alpha {lora['alpha']}, on `{lora['target_modules']}`",
        "Trained parameters": f"{record['trainable_parameters']:,}",
        "Pre-training adapter": (
            f"sha256 `{record['init_adapter']}`, {_INITS[settings.get('init', 'continue')]}"
            if record["init_adapter"]
            else "none"
        ),
        "Learning rate": f"{optim['learning_rate']}, warm-up {optim['warmup_ratio']}, cosine",
        "Batch": f"about {optim['batch_size'] * settings['window']} wordpieces",
        "Epochs": "; ".join(
            f"{len(run['epochs'])}, the best on dev kept ({max(_f1s(run)):.2f})" for run in runs
        ),
        "Average": (
            f"of {len(runs)} runs with seeds {', '.join(str(run['seed']) for run in runs)}; "
            f"{record['outside_bias']} added to the logit of O, chosen on dev"
            if "averaged" in record
            else "no, one run"
        ),
        "Scores": _scores(info.temperature, record.get("calibration")),
        "Label smoothing": settings["label_smoothing"],
        "Dropout": settings["dropout"],
        "Documents and their sentences": "both" if settings["sentences"] else "documents",
        "Seed": optim["seed"],
        "Training data": f"sha256 `{record['data']['train']}`",
        "Development data": f"sha256 `{record['data']['dev']}`",
        "Duration": f"{record['seconds'] / 60:.0f} minutes",
        **energy_facts(record),
        "Made with": f"spacy-openmed {record['spacy_openmed']}",
    }
    return f"""---
{metadata.to_yaml().strip()}
---

# {info.dataset or "An adapter"} on {info.backbone.id}
{f"{chr(10)}**{edition.about}**{chr(10)}" if edition and edition.partial else ""}
A LoRA adapter and linear head that find {", ".join(info.types)} in English biomedical text. It
is in PEFT's folder format and belongs to the backbone named below, whose weights are not part
of it.

```python
nlp = spacy.blank("en")
nlp.add_pipe("openmed_ner", config={{{_config(dataset.id if dataset else "")}}})
```

## Figures

Exact match of span and label, percent. "raw": character offsets on raw text. "conll": the
corpus's own tokens, predicted on whole documents. The epoch and all settings were chosen on dev.

{results_table(results)}

## Training

{markdown(["", ""], [[name, value] for name, value in facts.items()])}

F1 on dev, raw, after each epoch: {"; ".join(", ".join(f"{f:.2f}" for f in _f1s(r)) for r in runs)}.

## Limits

Trained on abstracts of published papers. Text of another kind, clinical notes above all, gives
lower scores. Nested and discontinuous mentions are not found. Not a medical device: no output
of this model may decide about a patient.
"""


def _scores(temperature: float, fitted: dict[str, Any] | None) -> str:
    """How an entity's score was made a probability of being right."""
    if fitted is None or fitted["temperature"] != temperature:
        return f"temperature {temperature:g}, not fitted"
    before, after = (100 * fitted["ece"][when] for when in ("before", "after"))
    return (
        f"temperature {temperature:g}, fitted on {fitted['entities']:,} entities of dev; expected "
        f"calibration error there {before:.1f} % before, {after:.1f} % after"
    )


def energy_facts(record: dict[str, Any]) -> dict[str, str]:
    """Rows of a card: time, device, energy and carbon; none where the record has no "energy".

    record (dict): Of a training run; "energy" is described at ``training.energy.Meter``.
    RETURNS (dict): Name to text.
    """
    used = record.get("energy")
    if not used:
        return {}
    parts = f", in {used['parts']} parts" if used["parts"] > 1 else ""
    if used["tdp_kwh"] is None:
        by_tdp = f"not known: {used['tdp_note']}"
    else:
        watts = "TDP" if used["tdp_watts"] is None else f"TDP of {used['tdp_watts']:g} W"
        note = f" ({used['tdp_note']})" if used["tdp_note"] else ""
        by_tdp = (
            f"{_amount(used['tdp_kwh'])} kWh, {_amount(used['tdp_g_co2'])} g CO2: {watts}{note} × "
            f"hours × {used['grid_g_per_kwh']} g CO2 a kWh, as arXiv 2508.01630 reckons"
        )
    device = used["device"] or "an unknown device"
    facts = {
        "Time and device": f"{_hours(used)} hours on {device}{parts}",
        "Energy and carbon by TDP": by_tdp,
    }
    if used["codecarbon"]:
        facts["Energy and carbon by codecarbon"] = _codecarbon(used["codecarbon"], _hours(used))
    return facts


def _codecarbon(found: dict[str, Any], hours: str) -> str:
    country = found["country"]
    grid = f"the grid of {country}" if country else "an average grid of the world, no country set"
    whose = {"machine": "the whole machine", "process": "this process"}
    return "; ".join(
        [
            f"{_amount(found['kwh'])} kWh, {_amount(found['g_co2'])} g CO2 with {grid}",
            *(
                f"{kind}: {', '.join(found[kind]).upper()}"
                for kind in ("measured", "estimated")
                if found[kind]
            ),
            whose.get(found["tracking_mode"], found["tracking_mode"]),
            *([] if _hours(found) == hours else [f"over {_hours(found)} of the hours"]),
            f"codecarbon {found['version']}",
        ]
    )


def _hours(used: dict[str, Any]) -> str:
    return f"{used['seconds'] / 3600:.2f}"


def _amount(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _config(dataset: str) -> str:
    return f'"dataset": "{dataset}"' if dataset else '"adapter": "FOLDER"'


def _f1s(run: dict[str, Any]) -> list[float]:
    return [epoch["dev_f1"] for epoch in run["epochs"]]


def results_table(results: Sequence[dict[str, Any]]) -> str:
    """Markdown table of the JSON that ``spacy openmed evaluate`` writes."""
    rows = [
        [
            f"`{result.get('dataset') or result['file']}`",
            result.get("split", ""),
            kind,
            *(f"{result[kind][key]:.2f}" for key in ("precision", "recall", "f1")),
            result[kind]["tp"] + result[kind]["fn"],
        ]
        for result in results
        for kind in ("raw", "conll")
        if kind in result
    ]
    return markdown(["dataset", "split", "scored on", "P", "R", "F1", "mentions"], rows)
