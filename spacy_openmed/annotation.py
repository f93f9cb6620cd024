"""Scored spans written to a Doc: ``doc.ents``, ``doc.spans`` and ``Span._.openmed_score``."""

from collections.abc import Iterable, Sequence

import numpy as np
from spacy.tokens import Doc, Span, SpanGroup

ANNOTATE = ("ents", "spans", "both")
Scored = tuple[Span, float]

if not Span.has_extension("openmed_score"):
    Span.set_extension("openmed_score", default=None)


def annotate(
    doc: Doc, placed: Sequence[Scored], where: str, spans_key: str, overwrite: bool
) -> None:
    """Write spans and their scores to a doc.

    doc (Doc): Changed in place.
    placed (Sequence[tuple[Span, float]]): Spans of this doc, as ``alignment.align`` gives them.
    where (str): One of ``ANNOTATE``.
    spans_key (str): Key of doc.spans.
    overwrite (bool): False keeps the annotations that are there; True replaces overlapping
        entities, and the whole span group.
    """
    scored: list[Scored] = []
    if where in ("spans", "both"):
        _add_spans(doc, placed, spans_key, overwrite)
        # An extension value belongs to a range, whatever the label: that of an entity in
        # doc.ents stays, and of several spans the likeliest one is heard.
        known = {(e.start, e.end) for e in doc.ents if e._.openmed_score is not None}
        scored += sorted(
            (item for item in placed if (item[0].start, item[0].end) not in known),
            key=lambda item: item[1],
        )
    if where in ("ents", "both"):
        scored += _add_ents(doc, placed, overwrite)
    for span, score in scored:
        span._.openmed_score = score


def _add_ents(doc: Doc, placed: Sequence[Scored], overwrite: bool) -> list[Scored]:
    """RETURNS (list[tuple[Span, float]]): The new ones among doc.ents, with scores."""
    present = list(doc.ents)
    if overwrite:
        chosen = without_conflicts(placed)
        covered = {i for span, _ in chosen for i in range(span.start, span.end)}
        present = [e for e in present if covered.isdisjoint(range(e.start, e.end))]
    else:
        chosen = without_conflicts(placed, present)
    # Tokens that nobody found an entity on are "outside" from now on, not "missing".
    doc.set_ents([*present, *(span for span, _ in chosen)], default="outside")
    return chosen


def _add_spans(doc: Doc, placed: Sequence[Scored], key: str, overwrite: bool) -> None:
    spans: list[Span] = []
    scores: list[float] = []
    if key in doc.spans and not overwrite:
        spans = list(doc.spans[key])
        known = doc.spans[key].attrs.get("scores", [])
        scores = [*known, *[1.0] * (len(spans) - len(known))]
    present = {(s.start_char, s.end_char, s.label) for s in spans}
    for span, score in placed:
        if (span.start_char, span.end_char, span.label) not in present:
            spans.append(span)
            scores.append(score)
    group = SpanGroup(doc, name=key, spans=spans)
    group.attrs["scores"] = np.array(scores, dtype="float32")
    doc.spans[key] = group


def without_conflicts(scored: Iterable[Scored], taken: Sequence[Span] = ()) -> list[Scored]:
    """Keep a set of spans that share no token: higher score first, then longer, then earlier.

    scored (Iterable[tuple[Span, float]]): Candidates with their scores.
    taken (Sequence[Span]): Spans that stay in any case.
    RETURNS (list[tuple[Span, float]]): Those kept, in text order.
    """
    occupied = {i for span in taken for i in range(span.start, span.end)}
    kept = []
    for span, score in sorted(
        scored, key=lambda item: (-item[1], item[0].start_char - item[0].end_char, item[0].start)
    ):
        tokens = range(span.start, span.end)
        if occupied.isdisjoint(tokens):
            occupied.update(tokens)
            kept.append((span, score))
    return sorted(kept, key=lambda item: item[0].start)
