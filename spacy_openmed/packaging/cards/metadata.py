"""What the Hugging Face hub reads of a card."""

from collections.abc import Iterator
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ... import lineage
from .material import Material

_METRICS = {"raw": "F1 on raw text", "conll": "F1 on the tokens of the corpus"}


def metadata(material: Material) -> ModelCardData:
    """Tags, licence and results, of what is in the card."""
    info = material.adapter.info
    dataset = material.dataset
    # What was learned from others' data, and who may have it, is theirs to say.
    free = dataset is not None and not dataset.user_data
    results = list(_results(material))
    return ModelCardData(
        language="en",
        license="apache-2.0" if free else None,
        library_name="spacy-openmed",
        base_model=info.backbone.hub_id or None,
        base_model_relation="adapter" if info.backbone.hub_id else None,
        tags=["spacy", "token-classification", "named-entity-recognition", "biomedical", "lora"],
        pipeline_tag="token-classification",
        co2_eq_emissions=_emissions(material.record),
        eval_results=results or None,
        model_name=name(material) if results else None,
    )


def name(material: Material) -> str:
    """What the adapter is called."""
    return f"{material.adapter.info.dataset or 'An adapter'} on {material.backbone}"


def _results(material: Material) -> Iterator[EvalResult]:
    for source in material.results:
        content = source.content
        of = content.get("dataset") or content["file"]
        for kind, metric in _METRICS.items():
            if kind in content:
                yield EvalResult(
                    task_type="token-classification",
                    task_name="Named-entity recognition",
                    dataset_type=of,
                    dataset_name=_dataset_name(material, of),
                    dataset_split=content.get("split"),
                    metric_type="f1",
                    metric_name=metric,
                    metric_value=round(content[kind]["f1"], 2),
                    # The hub takes URLs only.
                    source_name=source.name if source.is_online else None,
                    source_url=source.link if source.is_online else None,
                )


def _dataset_name(material: Material, of: str) -> str:
    dataset = material.dataset
    if dataset is None or dataset.id != of:
        return of
    edition = material.edition
    return f"{dataset.name}, a part of it" if edition and edition.partial else dataset.name


def _emissions(record: dict[str, Any]) -> dict[str, Any] | None:
    """In grams, by codecarbon if it measured, else by TDP; of the runs before, too, if known."""
    used = record.get("energy")
    if not used:
        return None
    before = lineage.earlier(record)
    every = [used, *(run["energy"] for run in (before.runs if before else ()) if run["energy"])]
    measured = used["codecarbon"]
    if measured and all(one["codecarbon"] for one in every):
        amounts = [one["codecarbon"]["g_co2"] for one in every]
        source = f"codecarbon {measured['version']}"
    else:
        amounts = [one["tdp_g_co2"] for one in every]
        source = "TDP × hours × carbon intensity, arXiv 2508.01630"
    if None in amounts:
        return None
    grams = sum(amounts)
    told = {
        "emissions": round(grams, 3),
        "source": source,
        "training_type": "fine-tuning",
        "geographical_location": measured["country"] if measured else None,
        "hardware_used": used["device"],
    }
    return {key: value for key, value in told.items() if value is not None}
