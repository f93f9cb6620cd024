"""``spacy openmed card``"""

from pathlib import Path

import typer


def card(
    adapter: Path = typer.Argument(..., help="Folder of an adapter, or of a pre-training adapter"),
    result: list[Path] = typer.Option(
        ..., help="JSON of 'evaluate', or of 'perplexity', for it; several times"
    ),
) -> None:
    """Write an adapter's model card from its training record and its results."""
    from .. import pretraining
    from ..packaging import cards, pretraining_card

    if (adapter / pretraining.RECORD).is_file():
        pretraining_card.write_card(adapter, result)
    else:
        cards.write_card(adapter, result)
    typer.echo(f"{adapter / 'README.md'}")
