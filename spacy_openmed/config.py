"""The component's settings: their defaults, and which values are possible."""

from collections.abc import Mapping
from typing import Any

from .alignment import ALIGNMENTS
from .annotation import ANNOTATE
from .atoms import EDGES
from .corpora import registry
from .errors import OpenMedError
from .precision import INFERENCE_PRECISIONS

# Values of "consistency" besides scores.
OF_ADAPTER, OFF = "adapter", "off"

DEFAULT_CONFIG = """
[openmed_ner]
dataset = null
backbone = null
adapter = null
checkpoint = null
annotate = "ents"
spans_key = "openmed"
threshold = 0.0
consistency = "adapter"
alignment = "split"
edges = "word"
overwrite = false
labels = {}
precision = "auto"
compile = false
keep_merged = false
batch_wordpieces = 4096
window = null
overlap = null
bundle_backbone = false

[openmed_ner.model]
@architectures = "spacy-openmed.PeftTokenTagger.v1"

[openmed_ner.scorer]
@scorers = "spacy-openmed.offset_scorer.v1"
"""


def check_config(cfg: Mapping[str, Any]) -> None:
    """Refuse impossible values when the component is made, not when it first runs.

    cfg (Mapping[str, Any]): The settings by name, as ``make_openmed_ner`` takes them.
    RAISES (OpenMedError): Names the setting and what it can be.
    """
    possible = {
        "annotate": ANNOTATE,
        "alignment": ALIGNMENTS,
        "edges": EDGES,
        "precision": INFERENCE_PRECISIONS,
    }
    for key, choices in possible.items():
        if cfg[key] not in choices:
            raise OpenMedError(
                f"openmed_ner: {key} = {cfg[key]!r}. Choose {', '.join(map(repr, choices))}."
            )
    names = cfg["dataset"]
    names = [names] if isinstance(names, str) else list(names or [])
    for name in names:
        registry.dataset(name)
    if len(set(names)) < len(names):
        raise OpenMedError(f"openmed_ner: dataset = {names!r} names a dataset twice.")
    others = [key for key in ("dataset", "adapter", "backbone") if cfg[key]]
    if cfg["checkpoint"] and others:
        raise OpenMedError(
            f"openmed_ner: checkpoint = {cfg['checkpoint']!r} is a whole model of its own and does "
            f"not go with {' and '.join(others)}. Leave one of the two out."
        )
    if cfg["batch_wordpieces"] < 1:
        raise OpenMedError(
            f"openmed_ner: batch_wordpieces = {cfg['batch_wordpieces']} must be at least 1."
        )
    # Where one of the two is the adapter's, the rest is seen when it is loaded.
    window, overlap = cfg["window"], cfg["overlap"]
    shared = overlap or 0
    if shared < 0 or (window is not None and window - 2 <= shared):
        raise OpenMedError(
            f"openmed_ner: window = {window}, overlap = {overlap}: the overlap must be at least 0 "
            f"and smaller than the window without its 2 special tokens."
        )
    consistency = cfg["consistency"]
    if consistency not in (OF_ADAPTER, OFF) and not _is_score(consistency):
        raise OpenMedError(
            f"openmed_ner: consistency = {consistency!r}. Choose {OF_ADAPTER!r}, {OFF!r}, or a "
            f"score in [0, 1]."
        )
    threshold = cfg["threshold"]
    limits = threshold.values() if isinstance(threshold, Mapping) else [threshold]
    if not all(0.0 <= limit <= 1.0 for limit in limits):
        raise OpenMedError(
            f"openmed_ner: threshold = {threshold!r}: scores are probabilities in [0, 1]."
        )


def _is_score(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
