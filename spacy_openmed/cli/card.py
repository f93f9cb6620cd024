"""``spacy openmed card``"""

from pathlib import Path

import typer

from ..errors import OpenMedError


def card(
    adapter: Path = typer.Argument(..., help="Folder of an adapter, or of a pre-training adapter"),
    result: list[Path] = typer.Option(
        ...,
        help="JSON of 'evaluate', or of 'perplexity', for it; several times. Error analysis, "
        "robustness and other corpora are found beside them, or given, too",
    ),
    ledger: Path | None = typer.Option(
        None, help="The record of looks at test [ledger.jsonl of the results' run]"
    ),
    source: str = typer.Option(
        "",
        help="Where readers find the folder of the first result: a URL, or a path relative to the "
        "card. Without it files are named, not linked",
    ),
) -> None:
    """Write an adapter's model card from its training record and its results."""
    from .. import pretraining
    from ..packaging import cards, pretraining_card

    if (adapter / pretraining.RECORD).is_file():
        if ledger is not None or source:
            raise OpenMedError(
                "A pre-training adapter finds no entities and is never tested on a corpus: leave "
                "--ledger and --source out."
            )
        pretraining_card.write_card(adapter, result)
    else:
        cards.write_card(adapter, result, ledger, source)
    typer.echo(f"{adapter / 'README.md'}")
