"""``spacy openmed search``"""

from pathlib import Path

import typer

from ..runs import Runs
from ..training.processes import is_main, one_voice
from . import inputs


@one_voice()
def search(
    dataset: str = typer.Option("", help="Dataset id, e.g. ncbi; or a name for your own corpus"),
    corpus: Path | None = typer.Option(
        None, help="Folder with the prepared corpora [OPENMED_CORPORA or assets/corpora]"
    ),
    train_file: Path | None = typer.Option(
        None, "--train", help="Your own corpus: a file or folder of any format"
    ),
    dev_file: Path | None = typer.Option(None, "--dev", help="Likewise, to compare trials on"),
    format_name: str | None = typer.Option(
        None, "--format", help="Of --train and --dev, if their names do not tell"
    ),
    keep_going: bool = typer.Option(
        False, help="Leave out documents of --train and --dev that cannot be read"
    ),
    backbone: str = typer.Option("minilm", help="Backbone id, or a folder that holds one"),
    trials: int = typer.Option(40, min=1, help="Finished trials, with those that are there"),
    output: Path | None = typer.Option(
        None,
        help="Gets study.db, search.json and best.toml; a search there goes on "
        "[runs/search/DATASET/BACKBONE]",
    ),
    config: str | None = typer.Option(
        None, help="The space: a TOML file, or a name in configs/ [search-BACKBONE or search]"
    ),
    init_adapter: Path | None = typer.Option(
        None,
        help="Pre-training adapter, from 'dapt'; 'none' for the plain backbone "
        "[the one that ships for the backbone, if there is one]",
    ),
    seed: int = typer.Option(1, help="Of what is drawn"),
    workers: int = typer.Option(1, min=1, help="Trials at a time, on Ray"),
    threads: int = typer.Option(0, min=0, help="Of each worker [all, divided by the workers]"),
    ray: str = typer.Option(
        "",
        "--ray",
        help="Address of a Ray cluster, whose machines have backbone and adapter at the same "
        "paths [this machine]",
    ),
    plots: bool = typer.Option(True, help="Draw Optuna's plots into OUTPUT/plots"),
) -> None:
    """Search for the settings with the best F1 on dev (Optuna TPE); train takes best.toml."""
    inputs.check_train_and_dev(dataset, train_file, dev_file)

    from ..evaluation.search_plots import check_matplotlib, draw
    from ..training import settings
    from ..training.search.run import BEST, Search
    from ..training.search.run import search as run

    if plots:
        check_matplotlib()
    chosen = settings.load(settings.SearchSettings, settings.choose("search", backbone, config))
    start = settings.load(
        settings.FinetuneSettings, settings.choose("finetune", backbone, chosen.finetune)
    )
    train, dev = inputs.train_and_dev(
        dataset, corpus, train_file, dev_file, format_name, keep_going
    )
    init = inputs.pretraining_adapter(init_adapter, backbone)
    folder = output or Runs(Path("runs")).search(dataset or "own", backbone)
    plan = Search(train, dev, dataset, backbone, folder, chosen, start, init, seed)
    result = run(plan, trials, workers, threads, ray)
    best, gain = result["best"], result["gain"]
    inputs.say(f"best: trial {best['number']}, dev F1 {best['dev_f1']:.2f}")
    if gain is not None:
        inputs.say(f"over the settings it began with: {gain:+.2f}")
    for name, value in best["params"].items():
        inputs.say(f"  {name} = {value}")
    inputs.say(f"for train --config: {folder / BEST}")
    if plots and is_main():
        for path in draw(folder):
            inputs.say(str(path))
