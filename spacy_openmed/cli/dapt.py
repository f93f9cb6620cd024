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
    tdp: float = typer.Option(
        0.0, min=0.0, help="Watts of all devices together, for the energy in the record [looked up]"
    ),
) -> None:
    """Adapt a backbone to a domain: masked language modelling with LoRA."""
    from accelerate import PartialState

    from ..training import settings
    from ..training.dapt import dapt as run
    from ..training.dapt_files import is_finished

    name = settings.choose("dapt", backbone, config)
    chosen = settings.load(settings.DaptSettings, name)
    before = is_finished(output)
    record = run(backbone, text, output, chosen, resume, tdp)
    if PartialState().is_main_process:
        what = "was finished before" if before else f"{record['adaptation']['steps']} updates"
        typer.echo(f"{what}; adapter in {output / 'adapter'}")
