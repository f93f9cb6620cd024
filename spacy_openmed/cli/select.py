"""``spacy openmed select``"""

from pathlib import Path

import typer


def select(
    folders: list[Path] = typer.Argument(
        ..., metavar="FOLDER...", help="Adapter folders, or folders with adapters in them"
    ),
    output: Path = typer.Option(..., help="The selection, JSON"),
) -> None:
    """For each dataset the backbone whose adapter is best on dev; test has no part in it."""
    from ..evaluation import select as selection
    from ..tables import aligned

    ranked = selection.rank(selection.candidates(folders))
    rows = [
        [
            name,
            one.backbone.id,
            f"{one.dev_f1:.2f}",
            "unknown" if one.parameters is None else f"{one.parameters:,}",
            "chosen" if one is own[0] else "",
        ]
        for name, own in ranked.items()
        for one in own
    ]
    selection.write(ranked, output)
    typer.echo(aligned(["dataset", "backbone", "dev F1", "parameters", ""], rows))
    typer.echo(f"{output}")
