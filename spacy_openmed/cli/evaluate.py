"""``spacy openmed evaluate``"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..errors import OpenMedError
from . import inputs
from .looks import Edges, Ledger, Looks, Reason, opened, reason_given

if TYPE_CHECKING:
    from ..corpora.documents import Document


def evaluate(
    dataset: str = typer.Option("", help="Dataset id, e.g. ncbi"),
    split: str = typer.Option("dev", help="train, dev or test"),
    corpus: Path | None = typer.Option(
        None, help="Folder with the prepared corpora [OPENMED_CORPORA or assets/corpora]"
    ),
    file: Path | None = typer.Option(
        None, help="Your own annotated file or folder of any format, instead of a split"
    ),
    format_name: str | None = typer.Option(
        None, "--format", help="Of --file, if its name does not tell"
    ),
    keep_going: bool = typer.Option(
        False, help="Leave out documents of --file that cannot be read"
    ),
    adapter: Path | None = typer.Option(None, help="Adapter folder [the best installed one]"),
    edges: Edges = "word",
    precision: str | None = typer.Option(
        None, help="What is computed in: fp32, bf16, fp16, int8 or auto [fp32]"
    ),
    json_path: Path | None = typer.Option(
        None,
        "--json",
        help="Write the figures here and, for a dataset, its predictions beside them",
    ),
    selection: Path | None = typer.Option(
        None, help="From 'select': every chosen adapter on dev, then once on test, and its card"
    ),
    results: Path = typer.Option(
        Path("runs", "results"), help="Folder for the figures of --selection"
    ),
    ledger: Ledger = None,
    reason: Reason = "",
) -> None:
    """Raw F1 and CoNLL F1 of an adapter on a split; raw F1 on a file of your own.

    Every look at test is recorded before a figure is shown, and a second one needs --again.
    """
    from .. import adapters
    from ..corpora.folder import default_folder
    from ..evaluation import chosen, predictions
    from ..evaluation.ledger import PRECISION
    from ..files import check_writable, write_json

    if selection is not None:
        if dataset or file or adapter or json_path or precision:
            raise OpenMedError(
                "--selection names datasets and adapters itself, and --results the folder for the "
                "figures, which are of fp32: leave --dataset, --file, --adapter, --json and "
                "--precision out."
            )
        place = corpus or default_folder()
        _evaluate_selection(selection, results, place, opened(ledger), reason_given(reason), edges)
        return
    if not dataset and (file is None or adapter is None):
        raise OpenMedError("Give --dataset, or --file and --adapter, or --selection.")
    if file is not None and (reason or ledger is not None):
        raise OpenMedError(
            "--ledger and --again are for looks at a dataset's splits, not at --file."
        )
    number_format = precision or PRECISION
    if json_path is not None:
        # A look at test whose figures cannot be written would be one for nothing.
        check_writable(json_path)
        if file is None:
            check_writable(predictions.beside(json_path))
    if file is not None:
        folder = adapter or adapters.find(dataset)
        result = _evaluate_file(file, format_name, keep_going, folder, edges, number_format)
        found = None
    else:
        looks = Looks(split, ledger, reason)
        place = corpus or default_folder()
        looks.check(place, dataset)
        measured = chosen.look(
            adapter or adapters.find(dataset), dataset, split, place, edges, number_format
        )
        result, found = measured.result, measured.predictions
        looks.record(dataset, result)
    _show(result)
    if json_path is not None:
        if found is not None:
            predictions.write(found, predictions.beside(json_path))
        write_json(json_path, result)


def _evaluate_file(
    file: Path,
    format_name: str | None,
    keep_going: bool,
    folder: Path,
    edges: str,
    precision: str,
) -> dict[str, Any]:
    from functools import partial

    from ..evaluation.chosen import describe
    from ..evaluation.evaluate import evaluate_own
    from ..predictor import Predictor

    documents = inputs.own_documents(file, format_name, keep_going)
    predictor = Predictor.load(folder, precision)
    _check_labels(documents, predictor.adapter.info.types, file)
    result = evaluate_own(partial(predictor, edges=edges), documents, file)
    return {**result, **describe(predictor, edges)}


def _evaluate_selection(
    selection: Path, results: Path, corpus: Path, ledger: Path, again: str | None, edges: str
) -> None:
    from ..evaluation.chosen import MEASURED, evaluate_chosen

    for outcome in evaluate_chosen(selection, results, corpus, ledger, again, edges):
        how = "" if outcome.how == MEASURED else f" ({outcome.how})"
        typer.echo(f"{outcome.path}{how}")
        if not outcome.recorded:
            typer.secho(f"{ledger} has no look at test that gave this", fg="yellow", err=True)
        if outcome.unanalysed:
            typer.secho(
                f"{outcome.path}: no analysis of errors: {outcome.unanalysed}",
                fg="yellow",
                err=True,
            )
        _show(outcome.result)


def _check_labels(documents: "list[Document]", types: tuple[str, ...], file: Path) -> None:
    """An adapter that knows none of the labels would get 0, and say nothing of its worth."""
    labels = {entity.label for document in documents for entity in document.entities}
    if labels.isdisjoint(types):
        raise OpenMedError(
            f"{file} has the labels {', '.join(sorted(labels))}, the adapter finds "
            f"{', '.join(types)}: none in common. Rename those of the file."
        )
    if unknown := sorted(labels - set(types)):
        typer.secho(f"labels that the adapter cannot find: {', '.join(unknown)}", fg="yellow")


def _show(result: dict[str, Any]) -> None:
    if result.get("partial"):
        typer.secho(
            f"{result['dataset']}: a part of the corpus, not comparable with others' figures",
            fg="yellow",
        )
    for kind in ("raw", "conll"):
        if kind in result:
            _print(kind, result[kind])


def _print(kind: str, scores: dict[str, Any]) -> None:
    rows = [
        (kind, scores),
        *((f"      {label}:", one) for label, one in scores["per_label"].items()),
    ]
    for name, row in rows:
        typer.echo(
            f"{name:5} P {row['precision']:6.2f}  R {row['recall']:6.2f}  F1 {row['f1']:6.2f}"
        )
