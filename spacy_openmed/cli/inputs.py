"""What several commands are given in the same way: corpora, settings, pre-training adapters."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..errors import OpenMedError
from ..low_rank import LORA_WEIGHTS
from ..training.processes import is_main

if TYPE_CHECKING:
    from ..corpora.documents import Document


def say(text: str, warning: bool = False) -> None:
    """Print a line, once, however many processes there are."""
    if is_main() and warning:
        typer.secho(text, fg="yellow", err=True)
    elif is_main():
        typer.echo(text)


def pretraining_adapter(folder: Path | None, backbone: str) -> Path | None:
    """The pre-training adapter to build on, said on the screen.

    folder (Path | None): What the user gave: "none" for no adapter, None for the one that ships.
    """
    from .. import backbones, pretraining

    found = folder or pretraining.find(backbones.reference(backbone))
    if found == Path("none"):
        found = None
    if found is not None and not (found / LORA_WEIGHTS).is_file():
        raise OpenMedError(f"{found} has no {LORA_WEIGHTS}: it is not a pre-training adapter.")
    say(f"pre-training adapter: {found or 'none'}")
    return found


def check_train_and_dev(dataset: str, train_file: Path | None, dev_file: Path | None) -> None:
    """Refuse what cannot be read, before anything slow is imported."""
    if (train_file is None) != (dev_file is None):
        raise OpenMedError("--train and --dev come together: dev chooses what to keep.")
    if train_file is None and not dataset:
        raise OpenMedError("Give --dataset for a prepared corpus, or --train and --dev.")


def train_and_dev(
    dataset: str,
    corpus: Path | None,
    train_file: Path | None,
    dev_file: Path | None,
    format_name: str | None,
    keep_going: bool,
) -> "tuple[list[Document], list[Document]]":
    """The train and dev splits of a prepared corpus, or the user's own files.

    RAISES (OpenMedError): Only one of the files, no dataset, or what is wrong with the data.
    """
    from ..corpora.folder import read_split

    check_train_and_dev(dataset, train_file, dev_file)
    if train_file is None or dev_file is None:
        return read_split(corpus, dataset, "train"), read_split(corpus, dataset, "dev")
    return _own(dataset, train_file, dev_file, format_name, keep_going)


def _own(
    dataset: str, train_file: Path, dev_file: Path, format_name: str | None, keep_going: bool
) -> "tuple[list[Document], list[Document]]":
    from ..corpora import own, registry
    from ..corpora.problems import Skipped, stop

    if dataset in registry.with_demos():
        raise OpenMedError(f"'{dataset}' is a known dataset: give your own another name.")
    skipped = Skipped()
    on_error = skipped if keep_going else stop
    train = own.load(train_file, format_name, on_error)
    dev = own.load(dev_file, format_name, on_error)
    for message in skipped.messages:
        say(message, warning=True)
    for name, part in (("train", train), ("dev", dev)):
        say(f"{name}: {len(part)} documents; {own.label_counts(part)}")
    if keep_going:
        say(f"left out: {skipped.count}")
    shared = own.shared_texts(train, dev)
    if shared == len(dev):
        raise OpenMedError(
            f"Every text of {dev_file} is in {train_file} as well: dev could not choose "
            f"anything. Give texts that are not trained on."
        )
    if shared:
        say(f"{shared} texts of dev are in train as well", warning=True)
    return train, dev
