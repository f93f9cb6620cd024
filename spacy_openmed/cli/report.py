"""``spacy openmed report``"""

import json
from pathlib import Path

import typer


def report(
    runs: Path = typer.Argument(..., help="Folder of a run, e.g. runs"),
    output: Path | None = typer.Option(None, help="Folder for the report [RUNS/report]"),
) -> None:
    """What a run of the recipe gave, as Markdown and as JSON, from the files in its folder."""
    from ..evaluation.report import collect
    from ..evaluation.report_markdown import render
    from ..files import atomic_file

    folder = output or runs / "report"
    found = collect(runs, folder)
    texts = {
        "report.json": json.dumps(found, indent=2, ensure_ascii=False) + "\n",
        "report.md": render(found),
    }
    for name, text in texts.items():
        with atomic_file(folder / name) as part:
            part.write_text(text, encoding="utf8")
        typer.echo(f"{folder / name}")
    for sentence in found["warnings"]:
        typer.secho(sentence, fg="yellow", err=True)
    if found["missing"]:
        typer.echo(f"missing: {len(found['missing'])}, listed in the report")
