"""``spacy openmed corpora …``"""

import json
import sys
from pathlib import Path

import typer

from ..errors import OpenMedError

corpora = typer.Typer(
    help="The 12 corpora: what they are, what is installed, prepare, verify.",
    invoke_without_command=True,
    add_completion=False,
)

_FOLDER = typer.Option(
    None, "--corpus", help="Folder with the prepared corpora [OPENMED_CORPORA or assets/corpora]"
)


@corpora.callback()
def overview(context: typer.Context, folder: Path | None = _FOLDER) -> None:
    """List the datasets, and what is installed of them."""
    if context.invoked_subcommand is not None:
        return
    from ..corpora import registry
    from ..corpora.folder import default_folder, installed
    from ..tables import aligned

    where = folder or default_folder()
    rows = [
        [
            d.id,
            "yes" if installed(where, d.id) else "",
            ", ".join(dict.fromkeys(d.types.values())) if len(d.types) < 6 else len(d.types),
            d.licence,
        ]
        for d in registry.datasets().values()
    ]
    typer.echo(aligned(["dataset", "installed", "labels", "licence as stated"], rows))
    typer.echo(f"\nLooked in {where}. More: spacy openmed corpora show ID")


@corpora.command()
def show(dataset: str = typer.Argument(..., help="Dataset id, e.g. ncbi")) -> None:
    """Print what the registry knows of a dataset."""
    from ..corpora import registry
    from ..tables import aligned

    found = registry.dataset(dataset)
    typer.echo(f"{found.id}: {found.name}\n")
    facts = {
        "labels": ", ".join(f"{a} as {b}" if a != b else a for a, b in found.types.items()),
        "licence": found.licence,
        "split": found.split,
        "format": found.format,
        "citation": found.citation,
        "sources": "\n           ".join(map(str, found.sources)),
        "get it": found.user_data,
        "notes": found.notes,
    }
    for name, fact in facts.items():
        if fact:
            typer.echo(f"{name + ':':11}{fact}")
    for edition in found.editions.values():
        typer.echo(f"\n{edition.id}" + (f": {edition.about}" if edition.about else ""))
        fields = ("documents", "mentions", "sentences", "tokens", "entities")
        rows = [
            [split, *("?" if (n := getattr(s, f)) is None else n for f in fields)]
            for split, s in edition.splits.items()
        ]
        if rows:
            typer.echo(aligned(["split", *fields], rows))
    if found.table3:
        typer.echo(
            f"\nThe paper's Table 3: {' / '.join(map(str, found.table3))}: {found.table3_meaning}"
        )


@corpora.command()
def table3() -> None:
    """Print a Markdown table of our counts beside the paper's Table 3."""
    from ..corpora.table3 import table

    typer.echo(table())


@corpora.command()
def formats() -> None:
    """Print a Markdown table of the formats that can be read and written."""
    from ..corpora.formats import table

    typer.echo(table())


@corpora.command()
def fingerprints(
    folders: list[Path] = typer.Argument(..., help="Folders with prepared corpora"),
) -> None:
    """Print hashes of the texts of all tests, as corpora/fingerprints.json has them."""
    from ..corpora.known import of_folders, to_json

    typer.echo(to_json(of_folders(folders)), nl=False)


@corpora.command()
def verify(
    folder: Path | None = typer.Argument(
        None, help="Folder with the corpora [OPENMED_CORPORA or assets/corpora]"
    ),
    dataset: list[str] = typer.Option([], help="Only these; they must be there"),
    json_path: Path | None = typer.Option(None, "--json", help="Write what was found here"),
) -> None:
    """Compare a folder with the registry; exit status 1 on any difference."""
    from ..corpora.folder import default_folder
    from ..corpora.verify import verify as run
    from ..tables import aligned

    report = run(
        folder or default_folder(), dataset, lambda name: typer.echo(f"reading {name}", err=True)
    )
    rows = [
        [
            name,
            split,
            s.documents,
            s.sentences,
            s.tokens,
            s.mentions,
            s.entities,
            *(
                found.repeated.get(f"{split}_in_{earlier}", ("", ""))[1]
                for earlier in ("train", "dev")
            ),
        ]
        for name, found in report.datasets.items()
        for split, s in found.splits.items()
    ]
    head = [
        "dataset",
        "split",
        "documents",
        "sentences",
        "tokens",
        "mentions",
        "on tokens",
        "in train",
        "in dev",
    ]
    typer.echo(aligned(head, rows))
    typer.echo("in train, in dev: sentences of 8 tokens or more that an earlier split has too")
    for overlap in report.overlaps:
        typer.echo(
            f"{overlap.dataset} {overlap.split}: {overlap.percent} percent of its runs of "
            f"13 words are in train of {overlap.train_of}"
        )
    for name, found in report.datasets.items():
        if found.edition.partial:
            typer.echo(f"{name}: {found.edition.about}")
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(report.to_dict(), indent=2) + "\n", encoding="utf8")
    for breach in report.breaches:
        typer.secho(f"✘ {breach}", fg="red", err=True)
    if report.breaches:
        sys.exit(1)
    unknown = [name for name, found in report.datasets.items() if not found.edition.splits]
    if unknown:
        typer.secho(f"nothing is recorded to compare with: {', '.join(unknown)}", fg="yellow")
    same = len(report.datasets) - len(unknown)
    typer.secho(f"✔ {same} datasets as the registry has them", fg="green")


@corpora.command()
def prepare(
    dataset: list[str] = typer.Argument(None, help="Dataset ids [all that SOURCE has]"),
    source: Path = typer.Option(
        Path("assets", "originals"),
        "--from",
        help="Folder with originals in ID/, or with prepared files in ner/ID/",
    ),
    output: Path | None = typer.Option(
        None, help="Gets ner/ID/ [OPENMED_CORPORA or assets/corpora]"
    ),
    keep_going: bool = typer.Option(
        False, help="Leave out documents that cannot be read; accepts the differences it makes"
    ),
    accept_differences: bool = typer.Option(
        False, help="Write what differs from the registry, too"
    ),
) -> None:
    """Convert corpora to raw text with offsets, CoNLL and .spacy files."""
    from ..corpora import registry
    from ..corpora.folder import default_folder
    from ..corpora.prepare import has_source
    from ..corpora.prepare import prepare as run
    from ..corpora.problems import Skipped, stop

    chosen = [registry.dataset(name) for name in dataset or ()]
    chosen = chosen or [d for d in registry.datasets().values() if has_source(d, source)]
    if not chosen:
        raise OpenMedError(
            f"Nothing to prepare in {source}: no folder is named as a dataset "
            f"({', '.join(registry.datasets())}). Run 'spacy project assets' first, or give --from."
        )
    target = output or default_folder()
    failed = []
    for one in chosen:
        skipped = Skipped()
        try:
            record = run(
                one,
                source,
                target,
                skipped if keep_going else stop,
                accept_differences or keep_going,
                typer.echo,
            )
        except OpenMedError as error:
            # One that cannot be had is no reason to leave out those after it.
            typer.secho(f"✘ {one.id}: {error}", fg="red", err=True)
            if dataset or not one.user_data:
                failed.append(one.id)
            continue
        for message in [*skipped.messages, *record["differences"]]:
            typer.secho(f"  {message}", fg="yellow", err=True)
        if skipped.count:
            typer.echo(f"  left out: {skipped.count}")
        if record["partial"]:
            typer.secho(f"  {record['about']}", fg="yellow")
    if failed:
        typer.secho(f"✘ not prepared: {', '.join(failed)}", fg="red", err=True)
        sys.exit(1)
    typer.secho(f"✔ {target}", fg="green")


@corpora.command()
def convert(
    source: Path = typer.Argument(..., help="File or folder of any format"),
    target: Path = typer.Argument(..., help="File or folder to write; must not exist"),
    source_format: str | None = typer.Option(
        None, "--from", help="Format of SOURCE, if its name does not tell"
    ),
    target_format: str | None = typer.Option(
        None, "--to", help="Format of TARGET, if its name does not tell"
    ),
    keep_going: bool = typer.Option(False, help="Leave out documents that cannot be read"),
) -> None:
    """Read annotations in one format and write them in another."""
    from ..corpora.formats import read, write
    from ..corpora.problems import Skipped, stop

    if target.exists():
        raise OpenMedError(f"{target} exists. Remove it or choose another name.")
    skipped = Skipped()
    documents = read(source, on_error=skipped if keep_going else stop, name=source_format)
    write(documents, target, target_format)
    for message in skipped.messages:
        typer.secho(message, fg="yellow", err=True)
    typer.echo(f"{target}" + (f"; left out: {skipped.count}" if keep_going else ""))
