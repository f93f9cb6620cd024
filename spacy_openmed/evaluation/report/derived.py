"""What is computed from predictions: kinds of errors.

They are counts without text, kept beside the result they are of as ``<result>.errors.json``, so
that a report can be made where neither the corpus nor the predictions are.
"""

from collections.abc import Sequence
from pathlib import Path

from ...errors import OpenMedError
from ...files import write_json
from .. import predictions
from ..errors import analyse_file, beside
from ..ledger import TEST, Contents
from . import recipe, shapes
from .files import Result, Row, read_as, results

Predicted = Sequence[tuple[Result, Path]]


def with_predictions(runs: Path, seen: Contents) -> Predicted:
    """The results of a run whose predictions are there, with these.

    Those of test are taken only if the ledger has the look that gave them: nothing is computed
    from a test split behind its back.

    runs (Path): Folder of a run.
    seen (Contents): The ledger.
    RAISES (OpenMedError): A file is broken.
    """
    found = []
    for result in results(runs / "results"):
        kept = predictions.of(result.content, result.path)
        if kept and (result.split != TEST or recipe.recorded(recipe.measured(result), seen)):
            found.append((result, kept))
    return found


def update(found: Predicted, corpus: Path) -> list[str]:
    """Count the errors of results where that was not done, or was of other predictions.

    found (Predicted): See ``with_predictions``.
    corpus (Path): Folder with the prepared corpora.
    RETURNS (list[str]): Sentences on what could not be counted.
    """
    problems = []
    for result, kept in found:
        path = beside(result.path)
        if _is_counted(result, path):
            continue
        try:
            write_json(path, analyse_file(kept, corpus))
        except OpenMedError as error:
            problems.append(f"results/{kept.name}: {str(error).removesuffix('.')}")
    return problems


def _is_counted(result: Result, path: Path) -> bool:
    try:
        counted = read_as(path, shapes.ERRORS)
    except OpenMedError:
        return False
    # Earlier versions did not count by source. What was not at hand may be now.
    return result.fits(counted) and "by_source" in counted and not counted["train"]["absent"]


def errors(measured: Sequence[Result]) -> tuple[list[Row], list[str]]:
    """The errors of results, see ``errors.analyse_file``, and sentences on what was left out."""
    rows, problems = [], []
    for result in measured:
        path = beside(result.path)
        try:
            found = read_as(path, shapes.ERRORS)
        except OpenMedError:
            problems.append(
                f"results/{path.name}: broken, left out; --corpus and the predictions give it anew"
            )
            continue
        if found and result.fits(found):
            rows.append(found)
            if absent := found["train"]["absent"]:
                problems.append(
                    f"results/{path.name}: counted without train of {', '.join(absent)}, which the "
                    f"adapter has seen: which mentions are new to it is not known; --corpus and "
                    f"the predictions give it"
                )
        elif found:
            problems.append(f"results/{path.name}: of another adapter or other data, left out")
    return rows, problems
