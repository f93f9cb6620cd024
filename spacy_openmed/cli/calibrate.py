"""``spacy openmed calibrate``"""

from pathlib import Path
from typing import Any

import typer

from ..errors import OpenMedError
from . import inputs


def calibrate(
    adapter: Path = typer.Option(..., help="Adapter folder; gets what is fitted"),
    dataset: str = typer.Option("", help="Dataset id, e.g. ncbi"),
    corpus: Path | None = typer.Option(
        None, help="Folder with the prepared corpora [OPENMED_CORPORA or assets/corpora]"
    ),
    dev: Path | None = typer.Option(
        None, help="Your own file or folder that was --dev in training, instead of a dataset"
    ),
    format_name: str | None = typer.Option(
        None, "--format", help="Of --dev, if its name does not tell"
    ),
    keep_going: bool = typer.Option(False, help="Leave out documents of --dev that cannot be read"),
    json_path: Path | None = typer.Option(None, "--json", help="Write the figures here"),
    plot: Path | None = typer.Option(None, help="Draw before and after here, a PNG"),
) -> None:
    """Fit an adapter's temperature on dev, so that its scores are probabilities of being right.

    Then from which score on, if any, its mentions are carried to the same words elsewhere in a
    text. It is another adapter by its hash, so calibrate before 'select' and 'evaluate'.
    """
    from ..corpora.guarded import read_guarded
    from ..evaluation import calibration
    from ..files import write_json

    if bool(dataset) == (dev is not None):
        raise OpenMedError("Give either --dataset for a prepared corpus, or --dev.")
    documents = (
        read_guarded(corpus, dataset, calibration.DEV)
        if dev is None
        else inputs.own_documents(dev, format_name, keep_going)
    )
    result = calibration.calibrate(adapter, documents)
    _show(result["calibration"], calibration.BOUNDS)
    _show_consistency(result["consistency"])
    _warn_of_card(adapter, result["adapter"])
    if json_path is not None:
        write_json(json_path, result)
    if plot is not None:
        calibration.plot(result["before"], result["after"], plot)


def _show(found: dict[str, Any], bounds: tuple[float, float]) -> None:
    typer.echo(f"temperature {found['temperature']:.3f}, from {found['entities']} entities on dev")
    for name, key in (
        ("expected calibration error", "ece"),
        ("Brier score", "brier"),
        ("log loss", "log_loss"),
    ):
        typer.echo(f"{name:26}  {found[key]['before']:.4f} -> {found[key]['after']:.4f}")
    if found["temperature"] in bounds:
        typer.secho(
            f"The temperature is at the end of what is allowed ({bounds[0]:g} to {bounds[1]:g}): "
            f"dev says too little about the scores of this adapter.",
            fg="yellow",
            err=True,
        )


def _show_consistency(found: dict[str, Any]) -> None:
    least, f1 = found["least"], found["f1"]
    if least is None:
        typer.echo(
            f"mentions are not carried: F1 {f1['off']:.2f} on dev, at best "
            f"{max(f1[key] for key in f1 if key != 'off'):.2f} with it"
        )
    else:
        typer.echo(
            f"mentions are carried from {least:g} on: F1 {f1['off']:.2f} -> {f1[str(least)]:.2f}"
        )


def _warn_of_card(folder: Path, sha256: str) -> None:
    from ..adapters import CARD

    card = folder / CARD
    if card.is_file() and sha256 not in card.read_text(encoding="utf8"):
        typer.secho(
            f"{card} is of the adapter as it was before: evaluate again, and write it with "
            f"'spacy openmed card'.",
            fg="yellow",
            err=True,
        )
