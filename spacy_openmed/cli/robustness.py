"""``spacy openmed robustness``"""

from pathlib import Path
from typing import Any

import typer

from .looks import Edges, Ledger, Looks, Reason


def robustness(
    dataset: str = typer.Option(..., help="Dataset id, e.g. ncbi"),
    split: str = typer.Option("dev", help="train, dev or test"),
    adapter: Path | None = typer.Option(None, help="Adapter folder [the best installed one]"),
    corpus: Path | None = typer.Option(
        None, help="Folder with the prepared corpora [OPENMED_CORPORA or assets/corpora]"
    ),
    edges: Edges = "word",
    seed: int = typer.Option(0, help="What is disturbed where"),
    ledger: Ledger = None,
    reason: Reason = "",
    json_path: Path | None = typer.Option(None, "--json", help="Write the figures here"),
) -> None:
    """Raw F1 that is lost when the text of a split is put into the forms of clinical notes.

    Disturbed text of test is test: all forms together are one look, which is recorded.
    """
    from .. import adapters
    from ..corpora.folder import default_folder
    from ..evaluation import robustness as forms
    from ..files import check_writable, write_json

    looks = Looks(split, ledger, reason)
    folder, place = adapter or adapters.find(dataset), corpus or default_folder()
    if json_path is not None:
        check_writable(json_path)
    looks.check(place, dataset)
    result = forms.measure(folder, dataset, split, place, edges, seed)
    looks.record(dataset, forms.for_ledger(result))
    if json_path is not None:
        write_json(json_path, result)
    _show(result)


def _show(result: dict[str, Any]) -> None:
    from ..tables import aligned

    if result["partial"]:
        typer.secho(
            f"{result['dataset']}: a part of the corpus, not comparable with others' figures",
            fg="yellow",
        )
    clean = result["clean"]
    rows = [("none", f"{clean['f1']:.2f}", "", "", "")]
    for name, one in result["disturbed"].items():
        low, high = one["lost_ci"]
        changed = f"{one['changed']} of {len(clean['documents'])}"
        rows.append(
            (name, f"{one['f1']:.2f}", f"{one['lost']:z.2f}", f"[{low:z.2f}, {high:z.2f}]", changed)
        )
    typer.echo(
        aligned(["disturbance", "raw F1", "lost", "95 % interval", "documents changed"], rows)
    )
