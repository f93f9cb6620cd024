"""``spacy openmed export``"""

from pathlib import Path

import typer

from ..errors import OpenMedError


def export(
    dataset: str = typer.Argument(..., help="Dataset id, or the folder of an adapter"),
    output: Path = typer.Argument(..., help="Folder to write; must not exist"),
    peft: bool = typer.Option(False, "--peft", help="One LoRA that plain PEFT runs"),
) -> None:
    """Write an adapter in a form that other tools run."""
    from .. import adapters
    from ..packaging.peft_export import export_peft

    if not peft:
        raise OpenMedError("Say what to write: --peft.")
    folder = Path(dataset)
    found = adapters.read(folder if folder.is_dir() else adapters.find(dataset))
    export_peft(found, output)
    typer.echo(f"{output}")
