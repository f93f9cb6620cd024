"""``spacy openmed evaluate``"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..errors import OpenMedError

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
    edges: str = typer.Option("word", help="Where entities may begin and end: word, wordpiece"),
    json_path: Path | None = typer.Option(None, "--json", help="Write the figures here"),
    ledger: Path | None = typer.Option(None, help="Append the figures to this record of looks"),
) -> None:
    """Raw F1 and CoNLL F1 of an adapter on a split; raw F1 on a file of your own."""
    from functools import partial

    from .. import adapters
    from ..corpora import own
    from ..corpora.folder import default_folder
    from ..corpora.problems import Skipped, stop
    from ..evaluation.evaluate import evaluate as run
    from ..evaluation.evaluate import evaluate_own
    from ..evaluation.ledger import append
    from ..predictor import Predictor

    if not dataset and (file is None or adapter is None):
        raise OpenMedError("Give --dataset, or --file and --adapter.")
    folder = adapter or adapters.find(dataset)
    predictor = Predictor.load(folder)
    predict = partial(predictor, edges=edges)
    if file is not None:
        skipped = Skipped()
        documents = own.load(file, format_name, skipped if keep_going else stop)
        for message in skipped.messages:
            typer.secho(message, fg="yellow", err=True)
        if keep_going:
            typer.echo(f"left out: {skipped.count}")
        _check_labels(documents, predictor.adapter.info.types, file)
        result = evaluate_own(predict, documents, file)
    else:
        adapters.verify_types(predictor.adapter, dataset, str(folder))
        result = run(predict, dataset, split, corpus or default_folder())
        if result["partial"]:
            typer.secho(
                f"{dataset}: a part of the corpus, not comparable with others' figures", fg="yellow"
            )
    result = {
        **result,
        "adapter": adapters.content_hash(predictor.adapter),
        "backbone": predictor.adapter.info.backbone.to_dict(),
        "edges": edges,
    }
    for kind in ("raw", "conll"):
        if kind in result:
            _print(kind, result[kind])
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf8")
    if ledger is not None:
        append(ledger, result)


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


def _print(kind: str, scores: dict[str, Any]) -> None:
    rows = [
        (kind, scores),
        *((f"      {label}:", one) for label, one in scores["per_label"].items()),
    ]
    for name, row in rows:
        typer.echo(
            f"{name:5} P {row['precision']:6.2f}  R {row['recall']:6.2f}  F1 {row['f1']:6.2f}"
        )
