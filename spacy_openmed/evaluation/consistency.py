"""Whether, and from which score on, an adapter's mentions are carried: chosen on dev.

See ``spacy_openmed.repeats`` for what carrying is.
"""

from collections.abc import Sequence
from typing import Any

from ..decoding import Decoded
from ..entities import Entity
from .scores import score

# Scores from which on mentions are carried.
LEASTS = (0.5, 0.7, 0.8, 0.9, 0.95)
# Points of F1. What gains less on dev gains nothing for sure, and text is left as it was read.
GAIN = 0.2


def fit_consistency(
    decoded: Decoded, temperature: float, gold: Sequence[Sequence[Entity]]
) -> dict[str, Any]:
    """Choose "consistency" by micro-F1 on dev.

    decoded (Decoded): What was found on dev.
    temperature (float): That of the scores.
    gold (Sequence[Sequence[Entity]]): Annotated, flat, one list a text.
    RETURNS (dict): "least", the score, or None for no carrying; and "f1", in percent, without
        it ("off") and from each score on that was tried.
    """
    tried = {
        least: 100 * score(gold, decoded.entities(temperature, consistency=least)).micro.f1
        for least in (None, *LEASTS)
    }
    off = tried[None]
    best = max(LEASTS, key=lambda least: (tried[least], least))
    return {
        "least": best if tried[best] >= off + GAIN else None,
        "f1": {"off" if least is None else str(least): f1 for least, f1 in tried.items()},
    }
