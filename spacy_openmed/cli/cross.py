"""``spacy openmed cross``"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..errors import OpenMedError
from .looks import Edges, Ledger, Looks, Reason

if TYPE_CHECKING:
    from ..evaluation.cross import Pair


def cross(
    trained_on: str = typer.Option("", help="Dataset id of the adapter, e.g. ncbi"),
    dataset: str = typer.Option("", help="Dataset id to measure it on, e.g. bc5cdr-disease"),
    everything: bool = typer.Option(
        False, "--all", help="Every pair of corpora that there is an adapter for"
    ),
    split: str = typer.Option("dev", help="train, dev or test"),
    adapter: Path | None = typer.Option(None, help="Adapter folder [the best installed one]"),
    selection: Path | None = typer.Option(
        None, help="From 'select': the adapters for --all [the best installed ones]"
    ),
    corpus: Path | None = typer.Option(
        None, help="Folder with the prepared corpora [OPENMED_CORPORA or assets/corpora]"
    ),
    edges: Edges = "word",
    ledger: Ledger = None,
    reason: Reason = "",
    json_path: Path | None = typer.Option(None, "--json", help="Write the figures here"),
    results: Path = typer.Option(
        Path("runs", "results", "cross"),
        help="Folder for the figures of --all; those that are there already stay",
    ),
) -> None:
    """Raw F1 and CoNLL F1 of an adapter on another corpus that annotates the same.

    Documents that share text with what the adapter was trained on are counted, and F1 is given
    without them, too.
    """
    from .. import adapters
    from ..corpora.folder import default_folder
    from ..evaluation import cross as corpora
    from ..files import check_writable, write_json

    looks = Looks(split, ledger, reason)
    place = corpus or default_folder()
    if everything:
        if trained_on or dataset or adapter or json_path:
            raise OpenMedError(
                "--all takes every pair, and --results is its folder for the figures: leave "
                "--trained-on, --dataset, --adapter and --json out."
            )
        steps = _all_steps(selection, place, results, split)
    else:
        if not (trained_on and dataset):
            raise OpenMedError("Give --trained-on and --dataset, or --all.")
        if selection is not None:
            raise OpenMedError("--selection is for --all: give --adapter.")
        pair = corpora.pair(trained_on, dataset)
        steps = [(pair, adapter or adapters.find(trained_on), json_path)]
    there = [
        _there(pair, folder, path, place, split, edges) if everything and path else None
        for pair, folder, path in steps
    ]
    # Before the first takes its time.
    for (pair, _, path), result in zip(steps, there, strict=True):
        if result is None:
            if path is not None:
                check_writable(path)
            looks.check(place, pair.dataset)
    found = []
    for (pair, folder, path), result in zip(steps, there, strict=True):
        if result is None:
            result = corpora.measure(pair, folder, split, place, edges)
            looks.record(pair.dataset, result)
            if path is not None:
                write_json(path, result)
        found.append(result)
    _show(found)


def _all_steps(
    selection: Path | None, corpus: Path, results: Path, split: str
) -> "list[tuple[Pair, Path, Path | None]]":
    """Pair, adapter and file of what can be measured; says what cannot."""
    from .. import adapters
    from ..corpora.folder import installed
    from ..evaluation import select
    from ..evaluation.cross import PAIRS

    if selection is not None:
        chosen = select.read(selection)
        for one in chosen:
            one.read()  # refuses another adapter than the chosen one
        folders = {one.dataset: one.folder for one in chosen}
    else:
        folders = {name: adapters.find(name) for name in adapters.available()}
    steps: list[tuple[Pair, Path, Path | None]] = []
    for pair in PAIRS:
        absent = [name for name in (pair.trained_on, pair.dataset) if not installed(corpus, name)]
        if pair.trained_on not in folders:
            typer.echo(f"{pair.name}: left out, no adapter for '{pair.trained_on}'")
        elif absent:
            typer.echo(f"{pair.name}: left out, no {' and no '.join(absent)} in {corpus}")
        else:
            path = results / f"{pair.name}-{split}.json"
            steps.append((pair, folders[pair.trained_on], path))
    if not steps:
        raise OpenMedError("There is no pair to measure. Train an adapter, or give --selection.")
    return steps


def _there(
    pair: "Pair", folder: Path, path: Path, corpus: Path, split: str, edges: str
) -> dict[str, Any] | None:
    """The result that an earlier run wrote, if it is of this adapter and data."""
    from .. import adapters
    from ..evaluation import ledger
    from ..evaluation.cross import is_of
    from ..files import json_or_none

    result = json_or_none(path)
    if result is None:
        return None
    files = ledger.subject(corpus, pair.dataset, split).files
    return result if is_of(result, pair, adapters.read(folder), edges, files) else None


def _show(results: Sequence[dict[str, Any]]) -> None:
    from ..tables import aligned

    rows = []
    for result in results:
        shared = result["shared"]
        rest = shared.get("without", {}).get("raw")
        low, high = result["raw"]["f1_ci"]
        rows.append(
            (
                result["trained_on"],
                f"{result['dataset']} {result['split']}" + (" (part)" if result["partial"] else ""),
                *(f"{result['raw'][key]:.2f}" for key in ("precision", "recall", "f1")),
                f"[{low:.2f}, {high:.2f}]",
                f"{result['conll']['f1']:.2f}" if "conll" in result else "",
                f"{shared['documents']} of {shared['of']}"
                if shared["documents"] is not None
                else "not known",
                f"{rest['f1']:.2f}" if rest else "",
            )
        )
    head = ["trained on", "measured on", "P", "R", "raw F1", "95 % interval", "conll F1"]
    typer.echo(aligned([*head, "share text", "raw F1 without"], rows))
