"""What was not measured, so that nobody takes silence for a good result."""

from collections.abc import Iterator

from ...evaluation.ledger import TEST
from .material import Material
from .text import Section, bullets


def section(material: Material) -> Section:
    """What no file at hand has a figure of."""
    return Section("What was not measured", [bullets(_missing(material))])


def _missing(material: Material) -> Iterator[str]:
    main = material.main
    if main is None:
        yield "Scores on data of its own: no result was given."
    elif material.dataset is None:
        yield "Scores on a public corpus: the figures are on the user's own annotations."
    elif main.content.get("split") != TEST:
        yield "Scores on test: the figures are on data that settings may have been chosen on."
    if main is not None and "f1_ci" not in main.content["raw"]:
        yield "Intervals of F1: the result file has no counts of single documents."
    if main is not None and "conll" not in main.content:
        yield "F1 on tokens, as the literature has it: these data come without published tokens."
    if material.main_errors is None:
        yield "Mentions that training did not have, and kinds of errors."
    elif material.main_errors.content["unseen"] is None:
        yield "Mentions that training did not have."
    if main is None or not main.content.get("calibration"):
        yield "Calibration: how often entities with a given score are right."
    if material.main_robustness is None:
        yield "Robustness: F1 on text in other forms, such as capitals, lists and typos."
    if not material.cross:
        yield "Other corpora: F1 under other annotation rules."
    if not material.record.get("energy"):
        yield "Energy and carbon of the training."
    if material.dataset is not None:
        yield "Clinical notes: no figure here is on text that was written in the care of a patient."
    yield (
        "Differences between groups of people, such as by sex, age or origin: the data do not say "
        "whom a text is about."
    )
    yield "Text that was made to mislead the model."
    for name in material.not_used:
        yield f"`{name}` is there, but of another adapter or other data, and was not used."
