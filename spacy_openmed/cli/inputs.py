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


def own_documents(path: Path, format_name: str | None, keep_going: bool) -> "list[Document]":
    """The user's own file or folder, with what was left out said on the screen.

    Every command reads what is not a prepared corpus by this, so that none takes test.

    path (Path): Of any format.
    format_name (str | None): The format, if the file's name does not tell.
    keep_going (bool): Leave out documents that cannot be read.
    RAISES (OpenMedError): Names file, line and reason; or it is test of a known corpus.
    """
    from ..corpora import own
    from ..corpora.guarded import refuse_test
    from ..corpora.problems import Skipped, stop

    skipped = Skipped()
    documents = own.load(path, format_name, skipped if keep_going else stop)
    refuse_test(documents, str(path))
    for message in skipped.messages:
        say(message, warning=True)
    if keep_going:
        say(f"{path}: left out: {skipped.count}")
    return documents


def train_and_dev(
    dataset: str,
    corpus: Path | None,
    train_file: Path | None,
    dev_file: Path | None,
    format_name: str | None,
    keep_going: bool,
) -> "tuple[list[Document], list[Document]]":
    """The train and dev splits of a prepared corpus, or the user's own files.

    RAISES (OpenMedError): Only one of the files, no dataset, what is wrong with the data, or one
        of the two is test of a known corpus.
    """
    from ..corpora.guarded import read_guarded

    check_train_and_dev(dataset, train_file, dev_file)
    if train_file is None or dev_file is None:
        return read_guarded(corpus, dataset, "train"), read_guarded(corpus, dataset, "dev")
    return _own(dataset, train_file, dev_file, format_name, keep_going)


def _own(
    dataset: str, train_file: Path, dev_file: Path, format_name: str | None, keep_going: bool
) -> "tuple[list[Document], list[Document]]":
    from ..corpora import own, registry

    if dataset in registry.with_demos():
        raise OpenMedError(f"'{dataset}' is a known dataset: give your own another name.")
    train = own_documents(train_file, format_name, keep_going)
    dev = own_documents(dev_file, format_name, keep_going)
    for name, part in (("train", train), ("dev", dev)):
        say(f"{name}: {len(part)} documents; {own.label_counts(part)}")
    shared = own.shared_texts(train, dev)
    if shared == len(dev):
        raise OpenMedError(
            f"Every text of {dev_file} is in {train_file} as well: dev could not choose "
            f"anything. Give texts that are not trained on."
        )
    if shared:
        say(f"{shared} texts of dev are in train as well", warning=True)
    return train, dev
