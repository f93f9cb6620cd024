"""The commands, each in a module of its own. Importing this imports neither spaCy nor torch."""

import functools
import sys
from collections.abc import Callable
from typing import Any

import typer

from ..errors import OpenMedError
from ..training.processes import part
from . import (
    ablation,
    annotate,
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


def guarded(command: Callable[..., Any]) -> Callable[..., Any]:
    """Show an OpenMedError as its message alone, and exit with status 1.

    Of several processes each leaves the others when all went well.
    """

    @functools.wraps(command)
    def run_guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            result = command(*args, **kwargs)
        except OpenMedError as error:
            typer.secho(f"✘ {error}", fg="red", err=True)
            sys.exit(1)
        part()
        return result

    return run_guarded


groups = {
    "backbones": backbones.backbones,
    "corpora": corpora.corpora,
    "recipe": recipe.recipe,
}
for name, group in groups.items():
    for command in group.registered_commands:
        command.callback = guarded(command.callback) if command.callback else None
    app.add_typer(group, name=name)
app.command("show")(guarded(show.show))
app.command("annotate")(guarded(annotate.annotate))
app.command("train")(guarded(train.train))
app.command("average")(guarded(average.average))
app.command("passages")(guarded(passages.mix))
app.command("dapt")(guarded(dapt.dapt))
app.command("perplexity")(guarded(perplexity.perplexity))
app.command("ablation")(guarded(ablation.ablation))
app.command("search")(guarded(search.search))
app.command("common")(guarded(common.common))
app.command("select")(guarded(select.select))
app.command("calibrate")(guarded(calibrate.calibrate))
app.command("evaluate")(guarded(evaluate.evaluate))
app.command("robustness")(guarded(robustness.robustness))
app.command("cross")(guarded(cross.cross))
app.command("compare")(guarded(compare.compare))
app.command("report")(guarded(report.report))
app.command("card")(guarded(card.card))
app.command("export")(guarded(export.export))
app.command("package")(guarded(package.package))


def run() -> None:
    """Entry point without spaCy."""
    app(prog_name="python -m spacy_openmed")
