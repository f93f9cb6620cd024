"""``spacy openmed card``"""

from pathlib import Path

import typer


def card(
    adapter: Path = typer.Argument(..., help="Adapter folder"),
    result: list[Path] = typer.Option(..., help="JSON of 'evaluate' for it; several times"),
) -> None:
    """Write an adapter's model card from its training record and its results."""
    from ..packaging.cards import write_card

    write_card(adapter, result)
    typer.echo(f"{adapter / 'README.md'}")
