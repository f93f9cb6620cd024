"""The commands, each in a module of its own. Importing this imports neither spaCy nor torch."""

import functools
import sys
from collections.abc import Callable
from typing import Any

import typer

from ..errors import OpenMedError
from . import (
    ablation,
    average,
    backbones,
    calibrate,
    card,
    common,
    compare,
    corpora,
    cross,
    dapt,
    evaluate,
    export,
    package,
    passages,
    perplexity,
    recipe,
    report,
    robustness,
    search,
    select,
    show,
    train,
)

app = typer.Typer(
    name="openmed",
    help="Biomedical entities: train, evaluate and package adapters.",
    no_args_is_help=True,
    add_completion=False,
    # Else what stands in square brackets is taken for markup, and not shown.
    rich_markup_mode=None,
)


def _plain_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Show an OpenMedError as its message alone, and exit with status 1."""

    @functools.wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except OpenMedError as error:
            typer.secho(f"✘ {error}", fg="red", err=True)
            sys.exit(1)

    return guarded


groups = {
    "backbones": backbones.backbones,
    "corpora": corpora.corpora,
    "recipe": recipe.recipe,
}
for name, group in groups.items():
    for command in group.registered_commands:
        command.callback = _plain_errors(command.callback) if command.callback else None
    app.add_typer(group, name=name)
app.command("show")(_plain_errors(show.show))
app.command("train")(_plain_errors(train.train))
app.command("average")(_plain_errors(average.average))
app.command("passages")(_plain_errors(passages.mix))
app.command("dapt")(_plain_errors(dapt.dapt))
app.command("perplexity")(_plain_errors(perplexity.perplexity))
app.command("ablation")(_plain_errors(ablation.ablation))
app.command("search")(_plain_errors(search.search))
app.command("common")(_plain_errors(common.common))
app.command("select")(_plain_errors(select.select))
app.command("calibrate")(_plain_errors(calibrate.calibrate))
app.command("evaluate")(_plain_errors(evaluate.evaluate))
app.command("robustness")(_plain_errors(robustness.robustness))
app.command("cross")(_plain_errors(cross.cross))
app.command("compare")(_plain_errors(compare.compare))
app.command("report")(_plain_errors(report.report))
app.command("card")(_plain_errors(card.card))
app.command("export")(_plain_errors(export.export))
app.command("package")(_plain_errors(package.package))


def run() -> None:
    """Entry point without spaCy."""
    app(prog_name="python -m spacy_openmed")
