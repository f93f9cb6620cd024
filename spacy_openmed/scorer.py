"""A scorer that compares character offsets.

spaCy's own aligns tokens first and forgives a boundary that falls inside one: "CYP" then
counts as right where "CYP)-induced" is annotated.
"""

from collections.abc import Callable, Iterable
from typing import Any

from spacy.tokens import Doc
from spacy.training import Example

from .evaluation.scores import Scores, Span, score


def offset_score(
    examples: Iterable[Example],
    annotate: str = "ents",
    spans_key: str = "openmed",
    **_: Any,
) -> dict[str, Any]:
    """Precision, recall and F1, in [0, 1], on (start, end, label) of characters.

    examples (Iterable[Example]): Those whose reference has no entity annotation are left out.
    annotate (str): "ents", "spans" or "both": what to score.
    spans_key (str): Key of doc.spans. A reference without that key is taken by its ents.
    RETURNS (dict): ents_p, ents_r, ents_f, ents_per_type; with spans, spans_KEY_p and so on
        (for "spans" alone, ents_* repeat them).
    """
    examples = list(examples)
    results: dict[str, Any] = {}
    if annotate in ("ents", "both"):
        annotated = [eg for eg in examples if eg.reference.has_annotation("ENT_IOB")]
        scores = score(
            [_offsets(eg.reference.ents) for eg in annotated],
            [_offsets(eg.predicted.ents) for eg in annotated],
        )
        results.update(_named(scores, "ents", bool(annotated)))
    if annotate in ("spans", "both"):
        annotated = [
            eg
            for eg in examples
            if spans_key in eg.reference.spans or eg.reference.has_annotation("ENT_IOB")
        ]
        scores = score(
            [_offsets(_gold_spans(eg.reference, spans_key)) for eg in annotated],
            [_offsets(eg.predicted.spans.get(spans_key, [])) for eg in annotated],
        )
        results.update(_named(scores, f"spans_{spans_key}", bool(annotated)))
        if annotate == "spans":
            # The default score weights, which choose the best model, know ents_f only.
            results.update(_named(scores, "ents", bool(annotated)))
    return results


def make_offset_scorer() -> Callable[..., dict[str, Any]]:
    """For configs: ``@scorers = "spacy-openmed.offset_scorer.v1"``."""
    return offset_score


def _gold_spans(doc: Doc, spans_key: str) -> Iterable[Any]:
    spans: Iterable[Any] = doc.spans.get(spans_key, doc.ents)
    return spans


def _offsets(spans: Iterable[Any]) -> list[Span]:
    return [(span.start_char, span.end_char, span.label_) for span in spans]


def _named(scores: Scores, prefix: str, annotated: bool) -> dict[str, Any]:
    if not annotated:
        return {f"{prefix}_{key}": None for key in ("p", "r", "f", "per_type")}
    micro = scores.micro
    return {
        f"{prefix}_p": micro.precision,
        f"{prefix}_r": micro.recall,
        f"{prefix}_f": micro.f1,
        f"{prefix}_per_type": {
            label: {"p": one.precision, "r": one.recall, "f": one.f1}
            for label, one in sorted(scores.per_label.items())
        },
    }
