"""``spacy openmed common``"""

from pathlib import Path

import typer

from . import inputs


def common(
    folders: list[Path] = typer.Argument(
        ..., metavar="FOLDER...", help="Finished searches, of at least two corpora"
    ),
    corpus: Path | None = typer.Option(
        None, help="Folder with the prepared corpora [OPENMED_CORPORA or assets/corpora]"
    ),
    output: Path = typer.Option(
        ..., help="Gets common.json and common.toml; finished runs there are kept"
    ),
    init_adapter: Path | None = typer.Option(
        None,
        help="Pre-training adapter of the searches; 'none' for none "
        "[the one that ships for the backbone, if there is one]",
    ),
    threads: int = typer.Option(0, min=0, help="Of torch [all]"),
) -> None:
    """Derive one configuration for all corpora, and run it on each (dev) to see what it costs."""
    from ..corpora.guarded import read_guarded
    from ..evaluation.common_table import table
    from ..training.search.common import CONFIGURATION, NOTE, read
    from ..training.search.common import common as run

    searches = read(folders)
    corpora = {
        one.dataset: (
            read_guarded(corpus, one.dataset, "train"),
            read_guarded(corpus, one.dataset, "dev"),
        )
        for one in searches
    }
    init = inputs.pretraining_adapter(init_adapter, searches[0].backbone.id)
    result = run(searches, corpora, output, init, threads)
    for name, value in result["configuration"].items():
        inputs.say(f"{name} = {value}")
    inputs.say(f"\n{table(result)}\n\n{NOTE}")
    inputs.say(f"for train --config: {output / CONFIGURATION}")
