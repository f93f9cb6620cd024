"""``spacy openmed compare``"""

from pathlib import Path
from typing import Any

import typer

from ..errors import OpenMedError

SIGNIFICANT = 0.05


def compare(
    first: Path = typer.Argument(..., metavar="A.json", help="From 'evaluate --json'"),
    second: Path = typer.Argument(
        ..., metavar="B.json", help="Of another system, on the same documents"
    ),
    on: str = typer.Option("raw", help="Which scores: raw, conll"),
    json_path: Path | None = typer.Option(None, "--json", help="Write the figures here"),
) -> None:
    """Whether two systems differ by more than chance, from their scores on each document.

    Test: approximate randomization. Intervals: bootstrap. Both are over documents.
    """
    from ..evaluation import significance
    from ..files import read_json, write_json

    if on not in ("raw", "conll"):
        raise OpenMedError(f"--on {on}: choose raw or conll.")
    results = [
        read_json(path, "Give a file that 'spacy openmed evaluate --json' wrote.")
        for path in (first, second)
    ]
    found = significance.compare(results[0], results[1], on, (str(first), str(second)))
    if json_path is not None:
        write_json(json_path, found)
    _show(found)


def _show(found: dict[str, Any]) -> None:
    from ..tables import aligned

    rows = [(one["name"], one["f1"], one["f1_ci"]) for one in found["systems"]]
    rows.append(("difference", found["difference"], found["difference_ci"]))
    typer.echo(
        aligned(
            [f"{found['on']} F1", "", f"{100 * found['level']:.0f} % interval"],
            [
                (name, f"{value:6.2f}", f"[{low:.2f}, {high:.2f}]")
                for name, value, (low, high) in rows
            ],
        )
    )
    typer.echo(f"{found['documents']} documents, {found['differing']} of them scored differently")
    typer.echo(f"p = {found['p']:.4f} (approximate randomization, {found['shuffles']:,} shuffles)")
    typer.echo(_verdict(found))


def _verdict(found: dict[str, Any]) -> str:
    if found["p"] >= SIGNIFICANT:
        return f"Chance alone may well make such a difference (p is not below {SIGNIFICANT})."
    ahead = found["systems"][0 if found["difference"] > 0 else 1]["name"]
    points = abs(found["difference"])
    return f"{ahead} is ahead by {points:.2f} points, more than chance (p is below {SIGNIFICANT})."
