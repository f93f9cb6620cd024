"""Examples of errors with displaCy. They have text of the corpus in them: for a page that stays
where the corpus is."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from ...errors import OpenMedError
from ..errors import Example, examples_of_file
from .derived import Predicted
from .files import SPLITS, Row

EACH = 2
# Light, for dark text on them in either mode of the page.
_COLOURS = (
    *("#b3d9f2", "#ffd9a0", "#b5e3c8", "#f2c4d8", "#e3d3f5", "#fff0a3", "#c9e4e7", "#f6c9b6"),
    *("#d7e6a9", "#d9d9d9", "#c5cdf7", "#f9d5e5", "#bfe8e0", "#efd9c3", "#dbeafe", "#e9c7c7"),
)


@dataclass(frozen=True)
class Shown:
    """An error as HTML.

    dataset, split (str): Where it was made.
    outcome (str): What is wrong.
    document (str): Id of the document.
    gold, predicted (Markup): The text with what was annotated, and with what was found.
    """

    dataset: str
    split: str
    outcome: str
    document: str
    gold: Markup
    predicted: Markup


def examples(predicted: Predicted, corpus: Path) -> tuple[list[Shown], list[str]]:
    """Some errors of each kind for each dataset, on test, or on dev where test has no predictions.

    predicted (Predicted): See ``derived.with_predictions``.
    corpus (Path): Folder with the prepared corpora.
    RETURNS (tuple): Examples, by dataset and kind; and sentences on what could not be read.
    """
    chosen: dict[str, tuple[str, Path]] = {}
    for split in SPLITS:
        for result, kept in predicted:
            if result.split == split:
                chosen[result.dataset] = split, kept
    shown: list[Shown] = []
    problems: list[str] = []
    for dataset, (split, kept) in sorted(chosen.items()):
        try:
            found = examples_of_file(kept, corpus, each=EACH)
        except OpenMedError as error:
            problems.append(f"results/{kept.name}: {str(error).removesuffix('.')}")
            continue
        shown += [_shown(dataset, split, one, _colours(found)) for one in found]
    return shown, problems


def _colours(found: Sequence[Example]) -> dict[str, str]:
    labels = sorted(
        {e["label"] for one in found for side in (one.gold, one.predicted) for e in side["ents"]}
    )
    return {label: _COLOURS[i % len(_COLOURS)] for i, label in enumerate(labels)}


def _shown(dataset: str, split: str, one: Example, colours: dict[str, str]) -> Shown:
    outcome = one.outcome.value.replace("_", " ")
    gold, predicted = (_render(side, colours) for side in (one.gold, one.predicted))
    return Shown(dataset, split, outcome, one.document, gold, predicted)


def _render(side: Row, colours: dict[str, str]) -> Markup:
    from spacy import displacy

    # displaCy escapes the text, but not the labels.
    ents = [{**entity, "label": html.escape(entity["label"])} for entity in side["ents"]]
    options = {"colors": {html.escape(label).upper(): colour for label, colour in colours.items()}}
    return Markup(
        displacy.render(
            {**side, "ents": ents},
            style="ent",
            manual=True,
            jupyter=False,
            minify=True,
            options=options,
        )
    )
