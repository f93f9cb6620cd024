"""``spacy openmed ablation``"""

from pathlib import Path

import typer

from ..errors import OpenMedError


def ablation(
    backbone: str = typer.Option("minilm", help="Backbone id, or a folder that holds one"),
    adapter: Path | None = typer.Option(
        None, help="Pre-training adapter [the one that ships for the backbone]"
    ),
    corpus: Path | None = typer.Option(
        None, help="Folder with the prepared corpora [OPENMED_CORPORA or assets/corpora]"
    ),
    output: Path = typer.Option(..., help="Finished runs are kept here and not run again"),
    config: str | None = typer.Option(
        None, help="Settings: a TOML file, or a name in configs/ [ablation-BACKBONE or ablation]"
    ),
    workers: int = typer.Option(1, min=1, help="Runs at a time; they share the threads"),
    json_path: Path | None = typer.Option(None, "--json", help="Write the figures here"),
    plot: Path | None = typer.Option(None, help="Draw them: .png, .svg or .pdf"),
) -> None:
    """Compare no pre-training, pre-training × LoRA, full fine-tuning, head only, on dev."""
    from .. import backbones, pretraining
    from ..evaluation.ablation import check_plot, cost_table, draw, f1_table
    from ..files import write_json
    from ..training import settings
    from ..training.ablation import Ablation
    from ..training.ablation import ablation as run

    if plot is not None:
        check_plot(plot)
    name = settings.choose("ablation", backbone, config)
    folder = adapter or pretraining.find(backbones.reference(backbone))
    if folder is None:
        raise OpenMedError(
            f"No pre-training adapter ships for '{backbone}': make one with 'spacy openmed "
            f"dapt', and give its folder as --adapter."
        )
    chosen = settings.load(settings.AblationSettings, name)
    result = run(Ablation(backbone, folder, corpus, output, chosen), workers)
    typer.echo(f"{f1_table(result)}\n\n{cost_table(result)}")
    if json_path is not None:
        write_json(json_path, result)
    if plot is not None:
        draw(result, plot)
