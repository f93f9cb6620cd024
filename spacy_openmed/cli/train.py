"""``spacy openmed train``"""

from pathlib import Path

import typer

from ..errors import OpenMedError


def train(
    dataset: str = typer.Option(..., help="Dataset id, e.g. ncbi"),
    backbone: str = typer.Option("minilm", help="Backbone id, or a folder that holds one"),
    corpus: Path = typer.Option(..., help="Folder with the prepared corpora"),
    output: Path = typer.Option(..., help="Gets adapter/ and, while running, checkpoints/"),
    config: str | None = typer.Option(
        None, help="Settings: a TOML file, or a name in configs/ [finetune-BACKBONE or finetune]"
    ),
    init_adapter: Path | None = typer.Option(
        None, help="PEFT folder whose LoRA goes on, e.g. from 'dapt'"
    ),
    seed: int | None = typer.Option(None, help="Instead of the settings' seed"),
    resume: bool = typer.Option(False, help="Go on from the last checkpoint in OUTPUT"),
) -> None:
    """Fine-tune an adapter on train; the epoch with the best F1 on dev is kept."""
    from dataclasses import replace

    from ..corpora.folder import corpus_file
    from ..corpora.formats import jsonl
    from ..corpora.registry import dataset as find_dataset
    from ..training import settings
    from ..training.finetune import finetune

    types = find_dataset(dataset).types
    name = config or (
        f"finetune-{backbone}" if settings.exists(f"finetune-{backbone}") else "finetune"
    )
    chosen = settings.load(settings.FinetuneSettings, name)
    if seed is not None:
        chosen = replace(chosen, optim=replace(chosen.optim, seed=seed))
    if (output / "adapter").exists() and not resume:
        raise OpenMedError(
            f"{output / 'adapter'} exists. Choose another --output, or --resume the run there."
        )
    record = finetune(
        list(jsonl.read(corpus_file(corpus, dataset, "train", ".jsonl"), types)),
        list(jsonl.read(corpus_file(corpus, dataset, "dev", ".jsonl"), types)),
        backbone,
        output,
        chosen,
        dataset,
        init_adapter,
        resume,
    )
    typer.echo(f"dev raw F1 {record['dev']['f1']:.2f}; adapter in {output / 'adapter'}")
