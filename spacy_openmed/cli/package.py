"""``spacy openmed package``"""

from pathlib import Path

import typer


def package(
    dataset: str = typer.Argument(..., help="Dataset id, e.g. ncbi"),
    output: Path = typer.Argument(..., help="Folder for the wheel"),
    adapter: Path | None = typer.Option(None, help="Adapter folder [the best installed one]"),
    bundle_backbone: bool = typer.Option(False, help="Put the backbone's weights inside"),
) -> None:
    """Build an installable spaCy pipeline, en_openmed_DATASET, as a wheel."""
    from ..packaging.package import build_package

    wheel = build_package(dataset, output, adapter, bundle_backbone)
    typer.echo(f"{wheel}")
