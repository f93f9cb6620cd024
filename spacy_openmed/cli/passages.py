"""``spacy openmed passages``"""

from pathlib import Path

import typer

_FILES = "files or folders; may be given several times"


def mix(
    output: Path = typer.Option(..., help="Folder to make: passages, their sources, a manifest"),
    pubmed: list[Path] = typer.Option([], help=f"Baseline and update files (.xml.gz): {_FILES}"),
    arxiv: list[Path] = typer.Option([], help=f"Metadata snapshot (.json, .jsonl): {_FILES}"),
    mimic: list[Path] = typer.Option([], help=f"NOTEEVENTS.csv, plain or .gz: {_FILES}"),
    clinicaltrials: list[Path] = typer.Option(
        [], help=f"JSON of the API (version 2), or tables of AACT: {_FILES}"
    ),
    text: list[Path] = typer.Option([], help=f"Text with one passage a line (.txt): {_FILES}"),
    corpora: Path | None = typer.Option(
        None,
        envvar="OPENMED_CORPORA",
        help="Folder of the annotated corpora, whose dev and test text is kept out",
    ),
    held_out: list[Path] = typer.Option([], help=f"More text to keep out (.txt): {_FILES}"),
    backbone: str | None = typer.Option(
        None, help="Measure passages in wordpieces of this backbone [in words]"
    ),
    config: str = typer.Option("passages", help="Settings: a TOML file, or a name in configs/"),
    seed: int | None = typer.Option(None, help="Instead of the settings' seed"),
    keep_going: bool = typer.Option(False, help="Skip and count what cannot be read"),
) -> None:
    """Make a clean mix of PubMed, arXiv, MIMIC-III and ClinicalTrials.gov for 'dapt'."""
    from dataclasses import replace

    from ..corpora.problems import Skipped, stop
    from ..passages.mix import PASSAGES, STAGES
    from ..passages.mix import mix as run
    from ..passages.settings import PassageSettings
    from ..training.settings import load

    settings = load(PassageSettings, config)
    if seed is not None:
        settings = replace(settings, seed=seed)
    if corpora is None and not held_out:
        typer.secho(
            "No --corpora and no --held-out: the mix may hold text that models are tested on.",
            fg="yellow",
            err=True,
        )
    inputs = {
        "pubmed": pubmed,
        "arxiv": arxiv,
        "mimic": mimic,
        "clinicaltrials": clinicaltrials,
        "text": text,
    }
    skipped = Skipped()
    on_error = skipped if keep_going else stop
    manifest = run(inputs, output, settings, corpora, held_out, backbone, on_error)
    counts = manifest["counts"]
    typer.echo("".join(f"{name:>16}" for name in ("", *counts)))
    for stage in STAGES:
        typer.echo(f"{stage:>16}" + "".join(f"{one[stage]:>16,}" for one in counts.values()))
    for source, missing in manifest["missing"].items():
        typer.secho(f"{source}: {missing:,} passages fewer than wanted.", fg="yellow", err=True)
    if skipped.count:
        typer.secho(f"{skipped.count:,} skipped, the first:", fg="yellow", err=True)
        for message in skipped.messages:
            typer.echo(f"  {message}", err=True)
    written = manifest["outputs"][PASSAGES]
    typer.echo(f"{written['lines']:,} passages in {output / PASSAGES}, sha256 {written['sha256']}")
