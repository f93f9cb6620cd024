"""What the files of a run must look like, so that a report never stumbles over one of them.

A shape is a type or several; a list of one shape, for any number of it, or of several, for just
these; an object's keys with their shapes, "?" after a key that may be missing or null; or
``Each``. What a file has more is left alone.
"""

from dataclasses import dataclass
from types import NoneType
from typing import Any

from ..errors import FREQUENCIES, LENGTHS, OF_GOLD, OF_PREDICTED, SEEN, UNSEEN


@dataclass(frozen=True)
class Each:
    """An object with any keys, all of whose values have one shape."""

    shape: Any


NUMBER = (int, float)
_KNOWN_OR_NOT = (int, float, NoneType)
_COUNTS = {key: int for key in ("tp", "fp", "fn")}
_SCORE = {**{key: NUMBER for key in ("precision", "recall", "f1")}, **_COUNTS}
SCORE = {
    **_SCORE,
    "per_label": Each(_SCORE),
    "f1_ci?": [NUMBER, NUMBER],
    "documents?": [[int, int, int]],
}
_RELIABILITY = {
    "entities": int,
    "ece": NUMBER,
    "brier": NUMBER,
    "bins": [{"count": int, "mean_score": _KNOWN_OR_NOT, "accuracy": _KNOWN_OR_NOT}],
}
_SUBJECT = {"data?": Each(str), "adapter?": str, "edges?": str}
# What ``evaluate``, ``cross`` and ``robustness`` write, and results of other systems.
RESULT = {
    **_SUBJECT,
    "edition?": str,
    "partial?": bool,
    "raw?": SCORE,
    "conll?": SCORE,
    "calibration?": {"temperature": NUMBER, "before": _RELIABILITY, "after": _RELIABILITY},
    "predictions?": str,
    "system?": {"version?": str, "seconds?": NUMBER},
    "labels?": Each(str),
    "reason?": str,
    "shared?": {
        "documents?": int,
        "train?": Each((str, NoneType)),
        "without?": {"raw?": {"f1": NUMBER}},
    },
    "clean?": {"f1": NUMBER, "documents?": [[int, int, int]]},
    "disturbed?": Each({"about?": str, "f1": NUMBER, "lost_ci?": [NUMBER, NUMBER]}),
}
_BIN = {
    "gold": {
        "mentions": int,
        "outcomes": {one.value: int for one in OF_GOLD},
        "recall": _KNOWN_OR_NOT,
    },
    "predicted": {"outcomes": {one.value: int for one in OF_PREDICTED}, "precision": _KNOWN_OR_NOT},
}
# What ``errors.analyse_file`` gives.
ERRORS = {
    **_SUBJECT,
    "dataset": str,
    "split": str,
    "train": {"datasets": [str], "absent": [str]},
    "unseen?": {"mentions": int, "correct": int, "recall": _KNOWN_OR_NOT},
    "overall": _BIN,
    "by_label": Each(_BIN),
    "by_length": {name: _BIN for name in LENGTHS},
    "by_seen?": {name: _BIN for name in (SEEN, UNSEEN)},
    "by_frequency?": {name: _BIN for name in FREQUENCIES},
    "types": Each(Each(int)),
    # Earlier versions did not count it.
    "by_source?": Each({**_SCORE, "documents": int, "f1_ci": [NUMBER, NUMBER]}),
}
# A line of the ledger; versions before the first release wrote fewer keys.
LOOK = {
    **_SUBJECT,
    "dataset": str,
    "split": str,
    "time?": str,
    "raw_sha256?": str,
    "raw_f1?": NUMBER,
    "conll_f1?": NUMBER,
    "reason?": str,
}


def fault(value: Any, shape: Any, where: str = "") -> str | None:
    """What is first found to have another shape.

    value (Any): From a JSON file.
    shape (Any): One of this module's.
    where (str): Keys that lead to the value.
    RETURNS (str | None): The keys that lead to it, with dots between them; None if all is right.
    """
    match shape:
        case Each(shape=one):
            if not isinstance(value, dict):
                return where
            inside = [(key, found, one) for key, found in value.items()]
        case dict():
            if not isinstance(value, dict):
                return where
            inside = [
                (key.removesuffix("?"), value.get(key.removesuffix("?")), one)
                for key, one in shape.items()
                if not (key.endswith("?") and value.get(key.removesuffix("?")) is None)
            ]
        case list():
            if not isinstance(value, list) or len(shape) not in (1, len(value)):
                return where
            shapes = shape * len(value) if len(shape) == 1 else shape
            inside = [(str(i), *pair) for i, pair in enumerate(zip(value, shapes, strict=True))]
        case _:
            # To Python true is an int.
            right = isinstance(value, shape) and (shape is bool or not isinstance(value, bool))
            return None if right else where
    places = (fault(one, of, f"{where}.{key}" if where else key) for key, one, of in inside)
    return next((place for place in places if place is not None), None)
