"""``spacy openmed backbones …``"""

from pathlib import Path

import typer

backbones = typer.Typer(
    help="The backbones: what they are, which are here, import one.",
    invoke_without_command=True,
    add_completion=False,
)


@backbones.callback()
def overview(context: typer.Context) -> None:
    """List the known backbones, and where they were found on this machine."""
    if context.invoked_subcommand is not None:
        return
    from ..backbone_import import installed_here
    from ..backbones import BackboneRef, located, registry
    from ..tables import aligned

    rows = []
    notes = []
    for name, entry in registry().items():
        found = located(BackboneRef.from_dict({"id": name, **entry}))
        rows.append(
            [
                name,
                entry["hub_id"],
                entry["tokenizer"],
                entry["hidden_size"],
                f"{entry['parameters'] / 1e6:.1f} M",
                entry["licence"],
                found[0] if found else "not here",
            ]
        )
        notes.append(f"{name}: {entry['note']}")
    head = ["id", "hub", "tokenizer", "hidden", "parameters", "licence as stated", "found"]
    typer.echo(aligned(head, rows))
    own = installed_here()
    if own:
        typer.echo(f"\nOthers in $OPENMED_HOME/backbones: {', '.join(own)}")
    typer.echo("\n" + "\n".join(notes))
    typer.echo("\nTo add one: spacy openmed backbones import ID FOLDER")


@backbones.command("import")
def import_(
    name: str = typer.Argument(..., metavar="ID", help="Known id, or a name of your own"),
    folder: Path = typer.Argument(..., help="The model's files as the hub has them"),
    output: Path | None = typer.Option(
        None, help="Folder to write; must not exist [$OPENMED_HOME/backbones/ID]"
    ),
) -> None:
    """Make a downloaded model a backbone: safetensors, tokenizer.json, checked."""
    from ..backbone_import import import_backbone
    from ..backbones import WEIGHTS, file_sha256

    written = import_backbone(name, folder, output)
    typer.secho(f"✔ {written}", fg="green")
    typer.echo(f"sha256 of {WEIGHTS}: {file_sha256(written / WEIGHTS)}")
