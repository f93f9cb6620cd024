"""``spacy openmed train``"""

from pathlib import Path

import typer

from ..errors import OpenMedError
from ..training.processes import is_main, one_voice
from . import inputs


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
    warm_start: Path | None = typer.Option(
        None,
        help="Folder of an adapter, of another corpus perhaps, to go on from with its LoRA, and "
        "with its head if it has the same labels",
    ),
    seed: int | None = typer.Option(None, help="Instead of the settings' seed"),
    resume: bool = typer.Option(False, help="Go on from the last checkpoint in OUTPUT"),
    tdp: float = typer.Option(
        0.0, min=0.0, help="Watts of all devices together, for the energy [looked up by name]"
    ),
) -> None:
    """Fine-tune an adapter on train; the epoch with the best F1 on dev is kept."""
    inputs.check_train_and_dev(dataset, train_file, dev_file)

    from dataclasses import replace

    from ..evaluation.calibration import calibrate_new
    from ..training import settings
    from ..training.finetune import finetune
    from ..training.lora import same_shape

    chosen = settings.load(settings.FinetuneSettings, settings.choose("finetune", backbone, config))
    if seed is not None:
        chosen = replace(chosen, optim=replace(chosen.optim, seed=seed))
    if (output / "adapter").exists() and not resume:
        raise OpenMedError(
            f"{output / 'adapter'} exists. Choose another --output, or --resume the run there."
        )
    train_documents, dev_documents = inputs.train_and_dev(
        dataset, corpus, train_file, dev_file, format_name, keep_going
    )
    init = inputs.pretraining_adapter(init_adapter, backbone)
    if init is not None and chosen.init == "continue":
        lora = same_shape(chosen.lora, init)
        if lora != chosen.lora:
            inputs.say(
                f"its LoRA goes on, with its rank {lora.rank}, alpha {lora.alpha} and targets "
                f"instead of the settings'"
            )
    record = finetune(
        train_documents,
        dev_documents,
        backbone,
        output,
        chosen,
        dataset,
        init,
        resume,
        tdp,
        warm_start=warm_start,
    )
    inputs.say(f"dev raw F1 {record['dev']['f1']:.2f}; adapter in {output / 'adapter'}")
    if is_main():
        calibrate_new(output / "adapter", dev_documents, typer.echo)
