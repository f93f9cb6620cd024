"""``spacy openmed average``"""

from pathlib import Path

import typer


def average(
    adapter: list[Path] = typer.Argument(..., help="Adapter folders of runs from the same start"),
    dataset: str = typer.Option(..., help="Dataset id, e.g. ncbi"),
    corpus: Path = typer.Option(..., help="Folder with the prepared corpora"),
    output: Path = typer.Option(..., help="Gets adapter/"),
) -> None:
    """Average the weights of several runs; the bias of "O" is chosen on dev."""
    from ..corpora.folder import corpus_file
    from ..corpora.formats import jsonl
    from ..corpora.registry import dataset as find_dataset
    from ..training.average import average as run

    types = find_dataset(dataset).types
    dev = list(jsonl.read(corpus_file(corpus, dataset, "dev", ".jsonl"), types))
    record = run(adapter, dev, output)
    typer.echo(
        f"dev raw F1 {record['dev']['f1']:.2f} with bias {record['outside_bias']}; "
        f"adapter in {output / 'adapter'}"
    )
