"""``spacy openmed dapt``"""

from pathlib import Path

import typer


def dapt(
    text: list[Path] = typer.Option(
        ..., help="File with one passage a line, .gz allowed; several times"
    ),
    backbone: str = typer.Option("minilm", help="Backbone id, or a folder that holds one"),
    output: Path = typer.Option(..., help="Gets adapter/ and, while running, checkpoints/"),
    config: str | None = typer.Option(
        None, help="Settings: a TOML file, or a name in configs/ [dapt-BACKBONE or dapt]"
    ),
    resume: bool = typer.Option(False, help="Go on from the last checkpoint in OUTPUT"),
) -> None:
    """Adapt a backbone to a domain: masked language modelling with LoRA."""
    from ..training import settings
    from ..training.dapt import dapt as run

    name = config or (f"dapt-{backbone}" if settings.exists(f"dapt-{backbone}") else "dapt")
    report = run(backbone, text, output, settings.load(settings.DaptSettings, name), resume)
    typer.echo(f"{report['adaptation']['steps']} steps; adapter in {output / 'adapter'}")
