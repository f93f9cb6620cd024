"""``spacy openmed train``"""

from pathlib import Path
from typing import Any

import typer

from ..errors import OpenMedError
from ..training.processes import is_main, one_voice


@one_voice()
def train(
    dataset: str = typer.Option("", help="Dataset id, e.g. ncbi; or a name for your own corpus"),
    corpus: Path | None = typer.Option(
        None, help="Folder with the prepared corpora [OPENMED_CORPORA or assets/corpora]"
    ),
    train_file: Path | None = typer.Option(
        None, "--train", help="Your own corpus: a file or folder of any format"
    ),
    dev_file: Path | None = typer.Option(None, "--dev", help="Likewise, to choose the epoch by"),
    format_name: str | None = typer.Option(
        None, "--format", help="Of --train and --dev, if their names do not tell"
    ),
    keep_going: bool = typer.Option(
        False, help="Leave out documents of --train and --dev that cannot be read"
    ),
    backbone: str = typer.Option("minilm", help="Backbone id, or a folder that holds one"),
    output: Path = typer.Option(..., help="Gets adapter/ and, while running, checkpoints/"),
    config: str | None = typer.Option(
        None, help="Settings: a TOML file, or a name in configs/ [finetune-BACKBONE or finetune]"
    ),
    init_adapter: Path | None = typer.Option(
        None,
        help="Pre-training adapter, from 'dapt'; 'none' for the plain backbone "
        "[the one that ships for the backbone, if there is one]",
    ),
    seed: int | None = typer.Option(None, help="Instead of the settings' seed"),
    resume: bool = typer.Option(False, help="Go on from the last checkpoint in OUTPUT"),
    tdp: float = typer.Option(
        0.0, min=0.0, help="Watts of all devices together, for the energy [looked up by name]"
    ),
) -> None:
    """Fine-tune an adapter on train; the epoch with the best F1 on dev is kept."""
    if (train_file is None) != (dev_file is None):
        raise OpenMedError("--train and --dev come together: dev chooses the epoch to keep.")
    if train_file is None and not dataset:
        raise OpenMedError("Give --dataset for a prepared corpus, or --train and --dev.")

    from dataclasses import replace

    from .. import backbones, pretraining
    from ..corpora import own, registry
    from ..corpora.folder import read_split
    from ..corpora.problems import Skipped, stop
    from ..training import settings
    from ..training.finetune import finetune
    from ..training.lora import same_shape

    def say(message: str, **style: Any) -> None:
        # Of several processes, which all read the same, one speaks.
        if is_main():
            typer.secho(message, **style)

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
    if train_file and dev_file:
        if dataset in registry.datasets():
            raise OpenMedError(f"'{dataset}' is a known dataset: give your own another name.")
        skipped = Skipped()
        on_error = skipped if keep_going else stop
        train_documents = own.load(train_file, format_name, on_error)
        dev_documents = own.load(dev_file, format_name, on_error)
        for message in skipped.messages:
            say(message, fg="yellow", err=True)
        for part_name, part in (("train", train_documents), ("dev", dev_documents)):
            say(f"{part_name}: {len(part)} documents; {own.label_counts(part)}")
        if keep_going:
            say(f"left out: {skipped.count}")
        shared = own.shared_texts(train_documents, dev_documents)
        if shared == len(dev_documents):
            raise OpenMedError(
                f"Every text of {dev_file} is in {train_file} as well: dev could not choose an "
                f"epoch. Give texts that are not trained on."
            )
        if shared:
            say(f"{shared} texts of dev are in train as well", fg="yellow", err=True)
    else:
        train_documents = read_split(corpus, dataset, "train")
        dev_documents = read_split(corpus, dataset, "dev")
    init = init_adapter or pretraining.find(backbones.reference(backbone))
    if init == Path("none"):
        init = None
    say(f"pre-training adapter: {init or 'none'}")
    if init is not None and chosen.init == "continue":
        lora = same_shape(chosen.lora, init)
        if lora != chosen.lora:
            say(
                f"its LoRA goes on, with its rank {lora.rank}, alpha {lora.alpha} and targets "
                f"instead of the settings'"
            )
    record = finetune(
        train_documents, dev_documents, backbone, output, chosen, dataset, init, resume, tdp
    )
    say(f"dev raw F1 {record['dev']['f1']:.2f}; adapter in {output / 'adapter'}")
