"""Which of several overlapping entities stay."""

from collections.abc import Iterable, Sequence

from spacy.tokens import Span


def without_conflicts(
    scored: Iterable[tuple[Span, float]], taken: Sequence[Span] = ()
) -> list[tuple[Span, float]]:
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
