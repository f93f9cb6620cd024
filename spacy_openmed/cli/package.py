"""``spacy openmed package``"""

from pathlib import Path

import typer

from ..errors import OpenMedError


def package(
    dataset: str = typer.Argument(
        ..., help="Dataset id, e.g. ncbi; left out with --selection and with --all"
    ),
    output: Path | None = typer.Argument(None, help="Folder for the wheel"),
    adapter: Path | None = typer.Option(None, help="Adapter folder [the best installed one]"),
    selection: Path | None = typer.Option(
        None, help="From 'select': a wheel for every chosen adapter"
    ),
    every: bool = typer.Option(
        False,
        "--all",
        help="A wheel for every adapter, installed or of --selection, and en_openmed_all, which "
        "has them all on one backbone",
    ),
    bundle_backbone: bool = typer.Option(False, help="Put the backbone's weights inside"),
) -> None:
    """Build an installable spaCy pipeline, en_openmed_DATASET, as a wheel."""
    from .. import adapters
    from ..packaging.package import build_package, build_package_of_all, check_one_backbone

    if selection is None and not every:
        if output is None:
            raise OpenMedError(
                "Give a dataset and a folder for the wheel, or --selection, or --all."
            )
        typer.echo(f"{build_package(dataset, output, adapter, bundle_backbone)}")
        return
    if output is not None or adapter is not None:
        raise OpenMedError(
            "--selection and --all name datasets and adapters themselves: give only the folder "
            "for the wheels."
        )
    # Alone, the first argument is the folder.
    place = Path(dataset)
    folders = _folders(selection)
    found = {name: adapters.read(folder) for name, folder in folders.items()}
    if every:
        # Before wheels are built, which takes minutes.
        check_one_backbone(found)
    for name, folder in folders.items():
        typer.echo(f"{build_package(name, place, folder, bundle_backbone)}")
    if every:
        typer.echo(f"{build_package_of_all(found, place, bundle_backbone)}")


def _folders(selection: Path | None) -> dict[str, Path]:
    """The adapters to package, by dataset."""
    from .. import adapters
    from ..corpora import registry
    from ..evaluation import select

    if selection is None:
        # What comes with the project to try it out is no model.
        known = registry.datasets()
        return {name: adapters.find(name) for name in adapters.available() if name in known}
    chosen = select.read(selection)
    for one in chosen:
        one.read()
    return {one.dataset: one.folder for one in chosen}
