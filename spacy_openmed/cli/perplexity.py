"""``spacy openmed perplexity``"""

import json
from collections.abc import Callable
from pathlib import Path

import typer


def perplexity(
    text: list[Path] = typer.Option(
        ..., help="File with one passage a line, .gz allowed; several times"
    ),
    backbone: str = typer.Option("minilm", help="Backbone id, or a folder that holds one"),
    adapter: Path | None = typer.Option(
        None, help="Pre-training adapter, from 'dapt' [the one that ships for the backbone]"
    ),
    limit: int | None = typer.Option(None, help="Only so many passages"),
    seed: int = typer.Option(0, help="Of the masks and the bootstrap"),
    json_path: Path | None = typer.Option(None, "--json", help="Write the figures here"),
) -> None:
    """Masked-LM perplexity of a backbone, plain and adapted, on text it was not trained on."""
    from tqdm import tqdm

    from ..evaluation.perplexity import perplexity as run

    def progress(name: str, windows: int) -> Callable[[int], None]:
        bar = tqdm(total=windows, desc=name, unit=" windows", disable=None)

        def advance(done: int) -> None:
            bar.update(done)
            if bar.n == windows:
                bar.close()

        return advance

    result = run(backbone, text, adapter, limit, seed=seed, progress=progress)
    for name in ("base", "adapted"):
        if name in result:
            low, high = result[name]["ci"]
            typer.echo(f"{name:8} {result[name]['perplexity']:8.2f}  [{low:.2f}, {high:.2f}]")
    if "fall" in result:
        low, high = result["fall"]["ci"]
        typer.echo(f"{'fall':8} {result['fall']['percent']:7.1f} %  [{low:.1f}, {high:.1f}]")
    typer.echo(f"{result['passages']} passages, {result['masked']} wordpieces hidden")
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf8")
