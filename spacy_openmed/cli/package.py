"""``spacy openmed package``"""

from pathlib import Path

import typer

from ..errors import OpenMedError


def package(
    dataset: str = typer.Argument(..., help="Dataset id, e.g. ncbi; left out with --selection"),
    output: Path | None = typer.Argument(None, help="Folder for the wheel"),
    adapter: Path | None = typer.Option(None, help="Adapter folder [the best installed one]"),
    selection: Path | None = typer.Option(
        None, help="From 'select': a wheel for every chosen adapter"
    ),
    bundle_backbone: bool = typer.Option(False, help="Put the backbone's weights inside"),
) -> None:
    """Build an installable spaCy pipeline, en_openmed_DATASET, as a wheel."""
    from ..evaluation import select
    from ..packaging.package import build_package

    if selection is None:
        if output is None:
            raise OpenMedError("Give a dataset and a folder for the wheel, or --selection.")
        typer.echo(f"{build_package(dataset, output, adapter, bundle_backbone)}")
        return
    if output is not None or adapter is not None:
        raise OpenMedError(
            "--selection names datasets and adapters itself: give only the folder for the wheels."
        )
    chosen = select.read(selection)
    for one in chosen:
        one.read()
    for one in chosen:
        # Alone, the first argument is the folder.
        wheel = build_package(one.dataset, Path(dataset), one.folder, bundle_backbone)
        typer.echo(f"{wheel}")
