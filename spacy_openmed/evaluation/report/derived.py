"""What is computed from predictions: kinds of errors.

They are counts without text, kept beside the result they are of as ``<result>.errors.json``, so
that a report can be made where neither the corpus nor the predictions are.
"""

from collections.abc import Sequence
from pathlib import Path

from ...errors import OpenMedError
from ...files import write_json
from .. import ledger, predictions
from ..errors import analyse_file, beside
from ..ledger import TEST
from . import recipe
from .files import Result, Row, read, results


def with_predictions(runs: Path) -> list[tuple[Result, Path]]:
    """The results of a run whose predictions are there.

    Those of test are taken only if the ledger has the look that gave them: nothing is computed
    from a test split behind its back.
    """
    seen = recipe.looks(ledger.read(runs / "ledger.jsonl"))
    found = []
    for result in results(runs / "results"):
        kept = predictions.of(result.content, result.path)
        if kept and (result.split != TEST or recipe.recorded(recipe.measured(result), seen)):
            found.append((result, kept))
    return found


def update(runs: Path, corpus: Path) -> list[str]:
    """Count the errors of results where that was not done, or was of other predictions.

    runs (Path): Folder of a run.
    corpus (Path): Folder with the prepared corpora.
    RETURNS (list[str]): Sentences on what could not be counted.
    """
    problems = []
    for result, kept in with_predictions(runs):
        path = beside(result.path)
        if result.fits(read(path)):
            continue
        try:
            write_json(path, analyse_file(kept, corpus))
        except OpenMedError as error:
            problems.append(f"results/{kept.name}: {str(error).removesuffix('.')}")
    return problems


def errors(measured: Sequence[Result]) -> tuple[list[Row], list[str]]:
    """The errors of results, see ``errors.analyse_file``, and sentences on what is outdated."""
    rows, problems = [], []
    for result in measured:
        path = beside(result.path)
        found = read(path)
        if found and result.fits(found):
            rows.append(found)
        elif found:
            problems.append(f"results/{path.name}: of another adapter or other data, left out")
    return rows, problems
