"""``spacy openmed average``"""

from pathlib import Path

import typer


def average(
    adapter: list[Path] = typer.Argument(..., help="Adapter folders of runs from the same start"),
    dataset: str = typer.Option(..., help="Dataset id, e.g. ncbi"),
    corpus: Path | None = typer.Option(
        None, help="Folder with the prepared corpora [OPENMED_CORPORA or assets/corpora]"
    ),
    output: Path = typer.Option(..., help="Gets adapter/"),
) -> None:
    """Average the weights of several runs; the bias of "O" is chosen on dev."""
    from ..corpora.folder import read_split
    from ..training.average import average as run

    record = run(adapter, read_split(corpus, dataset, "dev"), output)
    typer.echo(
        f"dev raw F1 {record['dev']['f1']:.2f} with bias {record['outside_bias']}; "
        f"adapter in {output / 'adapter'}"
    )
