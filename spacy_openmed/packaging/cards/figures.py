"""What an adapter scores: in all, per label, and on mentions that training did not have."""

from collections.abc import Iterator, Sequence
from typing import Any

from ...evaluation.errors import SEEN, UNSEEN
from ...tables import markdown
from .material import Material, where
from .source import cited
from .text import Section, interval, listed

_KINDS = ("raw", "conll")


def results_table(results: Sequence[dict[str, Any]]) -> str:
    """Markdown table of the JSON that ``spacy openmed evaluate`` writes."""
    known = any("f1_ci" in result[kind] for result in results for kind in _KINDS if kind in result)
    rows = [
        [
            f"`{result.get('dataset') or result['file']}`",
            result.get("split", ""),
            kind,
            *(f"{result[kind][key]:.2f}" for key in ("precision", "recall", "f1")),
            *([interval(result[kind]["f1_ci"]) if "f1_ci" in result[kind] else ""] * known),
            mentions(result[kind]),
        ]
        for result in results
        for kind in _KINDS
        if kind in result
    ]
    head = ["dataset", "split", "scored on", "P", "R", "F1", *["95 % interval of F1"] * known]
    return markdown([*head, "mentions"], rows)


def mentions(score: dict[str, Any]) -> int:
    """How many are annotated."""
    return int(score["tp"]) + int(score["fn"])


def sections(material: Material) -> Iterator[Section]:
    """Figures, those of each label, and recall on mentions that are new."""
    yield _overall(material)
    yield _per_label(material)
    yield _unseen(material)


def _overall(material: Material) -> Section:
    contents = [source.content for source in material.results]
    if not contents:
        return Section("Figures", [])
    explained = ['Exact match of span and label, percent. "raw": character offsets on raw text.']
    if any("conll" in content for content in contents):
        explained.append('"conll": the corpus\'s own tokens, predicted on whole documents.')
    if any("f1_ci" in content["raw"] for content in contents):
        explained.append("Intervals are by bootstrap over documents.")
    explained.append("The epoch and all settings were chosen on the development data.")
    partial = (
        "Only a part of the corpus is at hand: no figure here can be compared with those that "
        "others publish on all of it."
    )
    return Section(
        "Figures",
        [
            " ".join(explained),
            partial if any(content.get("partial") for content in contents) else "",
            results_table(contents),
            cited(material.results),
        ],
    )


def _per_label(material: Material) -> Section:
    main = material.main
    if main is None or len(main.content["raw"]["per_label"]) < 2:
        return Section("Per label", [])
    rows = [
        [
            label,
            kind,
            *(f"{score[key]:.2f}" for key in ("precision", "recall", "f1")),
            mentions(score),
        ]
        for label in main.content["raw"]["per_label"]
        for kind in _KINDS
        if kind in main.content and (score := main.content[kind]["per_label"].get(label))
    ]
    head = ["label", "scored on", "P", "R", "F1", "mentions"]
    of = f"On {where(main.content)}."
    return Section("Per label", [of, markdown(head, rows), cited([main])], level=3)


def _unseen(material: Material) -> Section:
    title = "Mentions that training did not have"
    found = material.main_errors
    if found is None:
        return Section(title, [])
    _, *before = found.content["train"]["datasets"]
    if absent := found.content["train"]["absent"]:
        names = listed([f"`{name}`" for name in absent])
        text = (
            f"Not known: its training went on from an adapter for {names}, and the training data "
            f"of that was not at hand when errors were counted."
        )
        return Section(title, [text, cited([found])], level=3)
    names = listed([f"`{name}`" for name in before])
    also = f", that of {names} included, from whose adapter it went on" if before else ""
    rows = [
        [name, one["gold"]["mentions"], percent(one["gold"]["recall"]), percent(one["f1"])]
        for name, one in (
            (about, found.content["by_seen"][key])
            for about, key in (("annotated in training", SEEN), ("new", UNSEEN))
        )
    ]
    return Section(
        title,
        [
            f"On raw text, {where(found.content)}. A mention is new if its words were not "
            f"annotated with its label anywhere in the training data{also}. F1 is of the annotated "
            f"mentions of a row and the predictions whose words belong to it.",
            markdown(["mentions", "number", "recall", "F1"], rows),
            cited([found]),
        ],
        level=3,
    )


def percent(value: float | None) -> str:
    """A figure in percent; null where there was nothing to divide by."""
    return "–" if value is None else f"{value:.2f}"
