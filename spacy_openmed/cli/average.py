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
    rank: int | None = typer.Option(
        None, min=1, help="Rank of the LoRA, at most [the sum of those of the runs]"
    ),
) -> None:
    """Average the weights of several runs; the bias of "O" is chosen on dev."""
    from ..corpora.guarded import read_guarded
    from ..evaluation.calibration import calibrate_new
    from ..training.average import average as run

    dev = read_guarded(corpus, dataset, "dev")
    record = run(adapter, dev, output, rank)
    typer.echo(
        f"dev raw F1 {record['dev']['f1']:.2f} with bias {record['outside_bias']}; "
        f"adapter in {output / 'adapter'}"
    )
    calibrate_new(output / "adapter", dev, typer.echo)
