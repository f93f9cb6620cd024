"""``spacy openmed annotate``"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from ..bulk.results import Summary


def annotate(
    input: Path = typer.Argument(..., metavar="INPUT", help="A file, or a folder of files"),
    output: Path = typer.Argument(..., metavar="OUTPUT", help="A file, for some formats a folder"),
    dataset: list[str] = typer.Option([], help="Dataset id, e.g. ncbi; several times for several"),
    adapter: list[Path] = typer.Option([], help="Adapter folder; several times for several"),
    checkpoint: list[str] = typer.Option(
        [],
        help="Hugging Face model for token classification, a folder or an id on the hub, whose "
        "name its entities are given; several times for several",
    ),
    backbone: str | None = typer.Option(None, help="Backbone id for --dataset [the best one]"),
    input_format: str | None = typer.Option(
        None,
        help="text, jsonl, csv, parquet, pubmed or docbin (.spacy), plain or .gz [by the suffix]",
    ),
    output_format: str | None = typer.Option(
        None, help="jsonl, parquet, docbin (.spacy), pubtator, bioc or brat [by the suffix]"
    ),
    text_field: str = typer.Option(
        "text", "--text-field", "--text-column", help="Of jsonl, csv and parquet"
    ),
    id_field: str = typer.Option("id", "--id-field", "--id-column", help="Likewise"),
    lines: bool = typer.Option(False, "--lines", help="A .txt file has a document on each line"),
    workers: int = typer.Option(1, min=1, help="Processes, on Ray"),
    threads: int = typer.Option(0, min=0, help="Of each worker [all, divided by the workers]"),
    precision: str = typer.Option("auto", help="auto, fp32, bf16, fp16 or int8"),
    gpu_id: int | None = typer.Option(
        None,
        "--gpu-id",
        "-g",
        min=-1,
        help="Which GPU; -1: the CPU; with --ray any number means those of the cluster [a GPU "
        "where this machine has one]",
    ),
    ray: str = typer.Option(
        "",
        "--ray",
        help="Address of a Ray cluster, whose machines have input, backbone and checkpoints at the "
        "same paths, or the latter in their Hugging Face caches [this machine]",
    ),
    part: int = typer.Option(
        256, min=1, help="Documents that are annotated together, and lost if the run is killed"
    ),
    resume: bool = typer.Option(False, "--resume", help="Go on with a run that was stopped"),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the output"),
    strict: bool = typer.Option(
        False, "--strict", help="Stop at a row that cannot be annotated, instead of counting it"
    ),
    json: Path | None = typer.Option(None, help="Gets the summary"),
) -> None:
    """Annotate files of any size: documents in, documents with entities out."""
    from ..bulk.options import Options
    from ..bulk.run import annotate as run
    from ..files import write_json

    summary = run(
        Options(
            input=input,
            output=output,
            datasets=tuple(dict.fromkeys(dataset)),
            adapters=tuple(adapter),
            checkpoints=tuple(dict.fromkeys(checkpoint)),
            backbone=backbone,
            input_format=input_format,
            output_format=output_format,
            text_field=text_field,
            id_field=id_field,
            lines=lines,
            part_documents=part,
            workers=workers,
            threads=threads,
            precision=precision,
            gpu_id=gpu_id,
            address=ray,
            resume=resume,
            overwrite=overwrite,
            strict=strict,
        ),
        partial(typer.echo, err=True),
    )
    if summary is None:
        typer.echo(f"{output} is there, and no unfinished run: nothing to go on with")
        return
    if json is not None:
        write_json(json, summary.to_dict())
    _show(summary, output)


def _show(summary: "Summary", output: Path) -> None:
    total = summary.entities.total()
    typer.echo(f"{output}: {summary.documents} documents, {summary.words} words, {total} entities")
    for name, number in sorted(summary.entities.items()):
        typer.echo(f"  {name}: {number}")
    for kind, number in summary.reasons.most_common():
        typer.secho(f"left out: {number} × {kind}", fg="yellow", err=True)
        for one in summary.named[kind]:
            typer.secho(f"  {one.where}: {one.reason}", fg="yellow", err=True)
