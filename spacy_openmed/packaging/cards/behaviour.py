"""How an adapter errs: kinds of errors, scores, disturbed text, other corpora."""

from collections.abc import Iterator
from typing import Any

from ... import lineage
from ...evaluation.errors import Outcome
from ...evaluation.report.files import FEWEST_DOCUMENTS
from ...tables import markdown
from .figures import mentions, percent
from .material import Material, where
from .source import cited
from .text import Section, bullets, interval

_OUTCOMES = {
    Outcome.CORRECT: "right",
    Outcome.TOO_LONG: "right label, too long",
    Outcome.TOO_SHORT: "right label, too short",
    Outcome.SHIFTED: "right label, shifted",
    Outcome.WRONG_TYPE: "right place, wrong label",
    Outcome.WRONG_BOUNDARY_AND_TYPE: "wrong place and label",
    Outcome.MISSED: "nothing found there",
    Outcome.SPURIOUS: "nothing annotated there",
}


def sections(material: Material) -> Iterator[Section]:
    """What was measured beside the figures themselves; nothing of what was not."""
    yield _errors(material)
    yield _sources(material)
    yield _calibration(material)
    yield _robustness(material)
    yield _cross(material)


def _errors(material: Material) -> Section:
    found = material.main_errors
    if found is None:
        return Section("Kinds of errors", [])
    overall = found.content["overall"]
    sides = [overall[side]["outcomes"] for side in ("gold", "predicted")]
    rows = [
        [name, *(side.get(outcome.value, "") for side in sides)]
        for outcome, name in _OUTCOMES.items()
    ]
    rows.append(["all", *(overall[side]["mentions"] for side in ("gold", "predicted"))])
    frequency = [
        [times, one["gold"]["mentions"], percent(one["gold"]["recall"])]
        for times, one in (found.content["by_frequency"] or {}).items()
    ]
    by_frequency = [
        "Recall by how often a mention's words were annotated with its label in training:",
        markdown(["times in training", "mentions", "recall"], frequency),
    ]
    return Section(
        "Kinds of errors",
        [
            f"On raw text, {where(found.content)}, by what became of each annotated mention and "
            f"of each prediction.",
            markdown(["", "annotated", "predicted"], rows),
            *(by_frequency if frequency else []),
            cited([found]),
        ],
        level=3,
    )


def _sources(material: Material) -> Section:
    found = material.main_errors
    scores = found and found.content.get("by_source")
    if found is None or not scores:
        return Section("Sources of the text", [])
    rows = [
        [
            source,
            one["documents"],
            *(f"{one[key]:.2f}" for key in ("precision", "recall", "f1")),
            interval(one["f1_ci"]) if one["documents"] >= FEWEST_DOCUMENTS else "–",
            mentions(one),
        ]
        for source, one in scores.items()
    ]
    return Section(
        "Sources of the text",
        [
            f"Raw F1 on {where(found.content)}, by where a text is from, as far as the ids of the "
            f"corpus tell.",
            markdown(["source", "documents", "P", "R", "F1", "95 % interval", "mentions"], rows),
            cited([found]),
        ],
        level=3,
    )


def _calibration(material: Material) -> Section:
    main = material.main
    found = main and main.content.get("calibration")
    if main is None or not found:
        return Section("Calibration", [])
    before, after = found["before"], found["after"]
    rows = [
        [name, *(f"{scale * one[key]:.{digits}f}" for one in (before, after))]
        for name, key, scale, digits in (
            ("mean score, %", "mean_score", 100, 1),
            ("right, %", "accuracy", 100, 1),
            ("expected calibration error, %", "ece", 100, 1),
            ("Brier score", "brier", 1, 3),
        )
    ]
    carried = (
        "A mention that was carried has the score of the one that it repeats, and is not counted. "
    )
    return Section(
        "Calibration",
        [
            f"A score is meant to be the probability that exactly this span with this label is "
            f"right. {carried if material.adapter.info.consistency is not None else ''}"
            f"On {where(main.content)}, {after['entities']:,} entities found, before and "
            f"after logits are divided by the temperature {found['temperature']:g}:",
            markdown(["", "before", "after"], rows),
            cited([main]),
        ],
        level=3,
    )


def _robustness(material: Material) -> Section:
    found = material.main_robustness
    if found is None:
        return Section("Robustness", [])
    clean = found.content["clean"]
    rows = [
        [
            f"{name.replace('_', ' ')}: {one['about']}",
            f"{one['f1']:.2f}",
            f"{one['lost']:z.2f}",
            interval(one["lost_ci"]),
            one["changed"],
        ]
        for name, one in found.content["disturbed"].items()
    ]
    head = ["disturbance", "F1", "points lost", "95 % interval", "documents changed"]
    return Section(
        "Robustness",
        [
            f"Raw F1 when {where(found.content)} is put into forms of clinical notes. "
            f"Undisturbed it is {clean['f1']:.2f}. The words are still those of the corpus: this "
            f"is no measurement on clinical notes.",
            markdown(head, rows),
            cited([found]),
        ],
        level=3,
    )


def _cross(material: Material) -> Section:
    if not material.cross:
        return Section("Other corpora", [])
    rows = []
    for source in material.cross:
        content = source.content
        shared = content.get("shared", {})
        rest = shared.get("without", {}).get("raw")
        rows.append(
            [
                f"`{content['dataset']}`" + (" (a part)" if content.get("partial") else ""),
                content["split"],
                *(f"{content['raw'][key]:.2f}" for key in ("precision", "recall", "f1")),
                interval(content["raw"]["f1_ci"]) if "f1_ci" in content["raw"] else "",
                f"{content['conll']['f1']:.2f}" if "conll" in content else "",
                mentions(content["raw"]),
                _shared(shared),
                f"{rest['f1']:.2f}" if rest else "",
            ]
        )
    head = ["dataset", "split", "P", "R", "raw F1", "95 % interval", "conll F1", "mentions"]
    reasons = {
        source.content["dataset"]: f"`{source.content['dataset']}`: {source.content['reason']}"
        for source in material.cross
        if "reason" in source.content
    }
    return Section(
        "Other corpora",
        [
            "The same adapter on corpora of other texts, annotated by other rules. Where documents "
            "share text with the training data, F1 without these stands last.",
            markdown([*head, "documents that share text", "raw F1 without"], rows),
            bullets(reasons.values()),
            bullets(_seen_before(material)),
            cited(material.cross),
        ],
        level=3,
    )


def _shared(found: dict[str, Any]) -> str:
    if not found:
        return ""
    if found["documents"] is None:
        return "not known"
    return f"{found['documents']} of {found['of']}"


def _seen_before(material: Material) -> Iterator[str]:
    """Of a corpus whose train the adapter has seen it is no figure on a new one."""
    before = lineage.datasets(material.record)
    for name in dict.fromkeys(source.content["dataset"] for source in material.cross):
        if name in before:
            yield (
                f"Training went on from an adapter for `{name}`: its texts and rules are not new "
                f"to this one ({material.training})."
            )
