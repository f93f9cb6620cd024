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


def _guarded(command: Callable[..., Any]) -> Callable[..., Any]:
    """Show an OpenMedError as its message alone, and exit with status 1.

    Of several processes each leaves the others when all went well.
    """

    @functools.wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            result = command(*args, **kwargs)
        except OpenMedError as error:
            typer.secho(f"✘ {error}", fg="red", err=True)
            sys.exit(1)
        part()
        return result

    return guarded


groups = {
    "backbones": backbones.backbones,
    "corpora": corpora.corpora,
    "recipe": recipe.recipe,
}
for name, group in groups.items():
    for command in group.registered_commands:
        command.callback = _guarded(command.callback) if command.callback else None
    app.add_typer(group, name=name)
app.command("show")(_guarded(show.show))
app.command("annotate")(_guarded(annotate.annotate))
app.command("train")(_guarded(train.train))
app.command("average")(_guarded(average.average))
app.command("passages")(_guarded(passages.mix))
app.command("dapt")(_guarded(dapt.dapt))
app.command("perplexity")(_guarded(perplexity.perplexity))
app.command("ablation")(_guarded(ablation.ablation))
app.command("search")(_guarded(search.search))
app.command("common")(_guarded(common.common))
app.command("select")(_guarded(select.select))
app.command("calibrate")(_guarded(calibrate.calibrate))
app.command("evaluate")(_guarded(evaluate.evaluate))
app.command("robustness")(_guarded(robustness.robustness))
app.command("cross")(_guarded(cross.cross))
app.command("compare")(_guarded(compare.compare))
app.command("report")(_guarded(report.report))
app.command("card")(_guarded(card.card))
app.command("export")(_guarded(export.export))
app.command("package")(_guarded(package.package))


def run() -> None:
    """Entry point without spaCy."""
    app(prog_name="python -m spacy_openmed")
