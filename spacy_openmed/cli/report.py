"""``spacy openmed report``"""

import json
from pathlib import Path

import typer


def report(
    runs: Path = typer.Argument(..., help="Folder of a run, e.g. runs"),
    output: Path | None = typer.Option(None, help="Folder for the report [RUNS/report]"),
    corpus: Path | None = typer.Option(
        None,
        help="Folder with the prepared corpora: errors are counted anew where predictions are "
        "there, and report-with-text.html shows examples, with text of the corpora",
    ),
    ledger: Path | None = typer.Option(
        None, help="The record of looks at test [RUNS/ledger.jsonl, OPENMED_LEDGER or ledger.jsonl]"
    ),
) -> None:
    """What a run of the recipe gave, from its files: Markdown, one HTML page, JSON and plots."""
    from ..evaluation import ledger as record
    from ..evaluation.report import derived, html, markdown, plots
    from ..evaluation.report.collect import collect
    from ..evaluation.report.examples import Shown, examples
    from ..evaluation.report.files import ledger_of
    from ..files import atomic_file

    folder = output or runs / "report"
    looks = ledger_of(runs, ledger)
    shown: list[Shown] = []
    problems: list[str] = []
    if corpus is not None:
        predicted = derived.with_predictions(runs, record.read(looks))
        problems = derived.update(predicted, corpus)
        shown, unreadable = examples(predicted, corpus)
        problems += [sentence for sentence in unreadable if sentence not in problems]
    found = collect(runs, folder, looks)
    found["warnings"] += problems
    try:
        drawn = plots.draw(found, folder / "plots")
    except plots.MatplotlibMissing as error:
        drawn = []
        found["missing"].append(f"plots: {str(error).removesuffix('.')}")
    texts = {
        "report.json": json.dumps(found, indent=2, ensure_ascii=False) + "\n",
        "report.md": markdown.render(found, drawn),
        "report.html": html.render(found, drawn, folder / "plots"),
    }
    if shown:
        texts[html.WITH_TEXT] = html.render(found, drawn, folder / "plots", shown)
    else:
        # Of an earlier report, with other figures.
        (folder / html.WITH_TEXT).unlink(missing_ok=True)
    for name, text in texts.items():
        with atomic_file(folder / name) as part:
            part.write_text(text, encoding="utf8")
        typer.echo(f"{folder / name}")
    for plot in drawn:
        typer.echo(f"{folder / 'plots' / plot.file}")
    for sentence in found["warnings"]:
        typer.secho(sentence, fg="yellow", err=True)
    if found["missing"]:
        typer.echo(f"missing: {len(found['missing'])}, listed in the report")
    if shown:
        typer.echo(
            f"{folder / html.WITH_TEXT} has text of the corpora in it: hand it on only where their "
            f"licences allow that"
        )
