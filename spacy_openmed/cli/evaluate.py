"""``spacy openmed evaluate``"""

import json
from pathlib import Path

import typer


def evaluate(
    dataset: str = typer.Option(..., help="Dataset id, e.g. ncbi"),
    split: str = typer.Option("dev", help="train, dev or test"),
    corpus: Path = typer.Option(..., help="Folder with the prepared corpora"),
    adapter: Path | None = typer.Option(None, help="Adapter folder [the best installed one]"),
    edges: str = typer.Option("word", help="Where entities may begin and end: word, wordpiece"),
    json_path: Path | None = typer.Option(None, "--json", help="Write the figures here"),
    ledger: Path | None = typer.Option(None, help="Append the figures to this record of looks"),
) -> None:
    """Raw F1 and CoNLL F1 of an adapter on a split."""
    from functools import partial

    from .. import adapters
    from ..evaluation.evaluate import evaluate as run
    from ..evaluation.ledger import append
    from ..predictor import Predictor

    folder = adapter or adapters.find(dataset)
    predictor = Predictor.load(folder)
    adapters.verify_types(predictor.adapter, dataset, str(folder))
    result = run(partial(predictor, edges=edges), dataset, split, corpus)
    result = {
        **result,
        "adapter": adapters.content_hash(predictor.adapter),
        "backbone": predictor.adapter.info.backbone.to_dict(),
        "edges": edges,
    }
    for kind in ("raw", "conll"):
        row = result[kind]
        typer.echo(
            f"{kind:5} P {row['precision']:6.2f}  R {row['recall']:6.2f}  F1 {row['f1']:6.2f}"
        )
        for label, one in row["per_label"].items():
            typer.echo(
                f"      {label}: P {one['precision']:6.2f}  R {one['recall']:6.2f}  "
                f"F1 {one['f1']:6.2f}"
            )
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf8")
    if ledger is not None:
        append(ledger, result)
