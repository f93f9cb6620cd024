"""What an adapter is for, what it is not for, and where it ends."""

import re
from collections.abc import Iterator
from typing import Any

from .figures import mentions, percent
from .material import REGISTRY, Material, where
from .source import Source
from .text import Section, bullets, interval, listed

# Below, one mention more or less moves recall by half a point.
_FEW = 200


def sections(material: Material) -> Iterator[Section]:
    """Intended use, out-of-scope use, limits."""
    labels = listed(material.adapter.info.types)
    kind = "English biomedical text" if material.dataset else "text like that it was trained on"
    yield Section(
        "Intended use",
        [
            f"Finding mentions of {labels} in {kind}, to search, count or sort texts, or to "
            f"annotate them for people who check what matters. What is found is a place in the "
            f"text with a label and a score; each can be looked up where it stands.",
        ],
    )
    yield Section(
        "Out-of-scope use",
        [
            bullets(
                [
                    "Any decision about a patient: diagnosis, treatment, triage, eligibility. Not "
                    "a medical device.",
                    "Taking a mention for a fact. A disease that is denied, suspected, or of a "
                    "relative is a mention like any other.",
                    "Taking silence for absence: mentions are missed.",
                    "De-identification: it finds no names of people, and no dates or numbers."
                    if material.dataset
                    else "",
                    "Texts in other languages than those of the training data.",
                ]
            )
        ],
    )
    yield Section("Limits", [bullets(_limits(material))])


def _limits(material: Material) -> Iterator[str]:
    yield _little(material)
    yield _age(material)
    yield _repeated(material)
    main = material.main
    if main is not None:
        yield from _of_figures(main)
    yield _sources(material)
    yield from _rules(material)
    yield _new_mentions(material)
    yield _form(material)
    if main is not None and main.content.get("calibration"):
        after = main.content["calibration"]["after"]
        yield (
            f"Scores are off by {100 * after['ece']:.1f} points on average, on "
            f"{where(main.content)} (expected calibration error; {main}). On other text it may be "
            f"more."
        )
    else:
        yield "How often entities with a given score are right was not checked."
    if material.dataset is not None and not material.dataset.demo:
        yield "Trained on published text: clinical notes are written otherwise."
    yield "Nested and discontinuous mentions are not found, only one of those that overlap."
    yield "Mentions are not linked to any vocabulary, and not compared with each other."


def _little(material: Material) -> str:
    """That there was little to learn from, if so."""
    dataset, edition = material.dataset, material.edition
    if dataset and dataset.demo:
        return f"{dataset.notes} ({REGISTRY})"
    return f"{edition.about} ({REGISTRY})" if edition and edition.partial else ""


def _age(material: Material) -> str:
    year = re.search(r"\((\d{4})\)", material.dataset.citation if material.dataset else "")
    if material.dataset is None or not year:
        return ""
    return (
        f"The corpus was published in {year[1]} ({REGISTRY}): names that came up later are in none "
        f"of its texts, and what it calls an entity is what its guidelines say."
    )


def _repeated(material: Material) -> str:
    edition = material.edition
    _, long = edition.repeated.get("test_in_train", (0, 0)) if edition else (0, 0)
    if not long:
        return ""
    return (
        f"{long} of the longer sentences of test are in the training data, too ({REGISTRY}): "
        f"figures are the better for it."
    )


def _of_figures(main: Source) -> Iterator[str]:
    raw: dict[str, Any] = main.content["raw"]
    yield (
        f"Of {mentions(raw)} annotated mentions in {where(main.content)}, {raw['fn']} are not "
        f"found as they are annotated; {raw['fp']} entities are found that are not annotated so "
        f"({main})."
    )
    if mentions(raw) < _FEW and "f1_ci" in raw:
        yield (
            f"So few mentions say little: the interval of F1 is {interval(raw['f1_ci'])} ({main})."
        )
    labels = {name: one for name, one in raw["per_label"].items() if mentions(one)}
    if len(labels) > 1:
        worst = min(labels, key=lambda name: labels[name]["f1"])
        yield (
            f"Labels differ: F1 of {worst} is {labels[worst]['f1']:.2f}, on "
            f"{mentions(labels[worst])} mentions, against {raw['f1']:.2f} of all ({main})."
        )


def _sources(material: Material) -> str:
    found = material.main_errors
    scores = found and found.content.get("by_source")
    if found is None or not scores:
        return ""
    worst = min(scores, key=lambda name: scores[name]["f1"])
    return (
        f"Sources differ: F1 on {worst} is {scores[worst]['f1']:.2f}, on "
        f"{mentions(scores[worst])} mentions, against {percent(found.content['overall']['f1'])} of "
        f"all ({found})."
    )


def _rules(material: Material) -> Iterator[str]:
    for source in material.cross:
        content = source.content
        yield (
            f"Under the rules and on the texts of `{content['dataset']}` raw F1 is "
            f"{content['raw']['f1']:.2f} ({content['split']}; {source})."
        )


def _new_mentions(material: Material) -> str:
    found = material.main_errors
    new = found and found.content["unseen"]
    if found is None or not new or new["recall"] is None:
        return ""
    seen = found.content["by_seen"]["seen"]["gold"]["recall"]
    return (
        f"Of mentions that its training data did not have it finds {percent(new['recall'])} %, "
        f"of others {percent(seen)} % ({found})."
    )


def _form(material: Material) -> str:
    found = material.main_robustness
    if found is None or not found.content["disturbed"]:
        return ""
    forms = found.content["disturbed"]
    worst = max(forms, key=lambda name: forms[name]["lost"])
    if forms[worst]["lost"] <= 0:
        return ""
    return (
        f"Form matters: it loses {forms[worst]['lost']:.2f} points of F1 under "
        f'"{worst.replace("_", " ")}" ({found}).'
    )
