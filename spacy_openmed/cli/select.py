"""``spacy openmed select``"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..errors import OpenMedError

if TYPE_CHECKING:
    from ..evaluation.select import Candidate


def select(
    folders: list[Path] = typer.Argument(
        None,
        metavar="[FOLDER]...",
        help="Adapter folders, or folders with adapters in them [runs/train]",
    ),
    output: Path = typer.Option(Path("runs", "selection.json"), help="The selection, JSON"),
    dataset: str = typer.Option("", help="Only these dataset ids, with commas [all]"),
    backbone: str = typer.Option("", help="Only these backbone ids, with commas [all]"),
) -> None:
    """For each dataset the backbone whose adapter is best on dev; test has no part in it."""
    from ..evaluation import select as selection
    from ..tables import aligned

    found = selection.candidates(folders or [Path("runs", "train")])
    found = _only(found, dataset, lambda one: one.dataset, "dataset")
    found = _only(found, backbone, lambda one: one.backbone.id, "backbone")
    ranked = selection.rank(found)
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


def _only(
    found: "list[Candidate]", listed: str, name: Callable[["Candidate"], str], what: str
) -> "list[Candidate]":
    # A backbone may be a folder, whose name is noted as Path writes it.
    wanted = [str(Path(part.strip())) for part in listed.split(",") if part.strip()]
    here = {name(one) for one in found}
    if missing := [part for part in wanted if part not in here]:
        raise OpenMedError(
            f"No adapter for {what} {', '.join(missing)}; there are some for "
            f"{', '.join(sorted(here))}."
        )
    return [one for one in found if not wanted or name(one) in wanted]
