"""Documents to train on or to choose by: never those of a test split.

A look at test by way of its file would be in no ledger, and training on test spoils all looks.
"""

from collections.abc import Sequence
from pathlib import Path

from ..errors import OpenMedError
from .documents import Document
from .folder import read_split
from .known import shared_with_test


def read_guarded(corpus: Path | None, dataset: str, split: str) -> list[Document]:
    """The train or dev split of a prepared corpus.

    corpus (Path | None): See ``folder.read_split``.
    RAISES (OpenMedError): What is wrong with it; or it is test under another name.
    """
    documents = read_split(corpus, dataset, split)
    refuse_test(documents, f"{split} of '{dataset}'")
    return documents


def refuse_test(documents: Sequence[Document], what: str) -> None:
    """Refuse the text of a known test split, in whatever form.

    what (str): What the documents are, for the message.
    RAISES (OpenMedError): They are, or hold, a test split or a part of one.
    """
    shared = shared_with_test(documents)
    if shared is not None:
        raise OpenMedError(
            f"{what} has the text of {shared}. Nothing is trained, chosen or fitted with test, and "
            f"every look at it is recorded: to measure on it use --dataset {shared.datasets[0]} "
            f"--split test of 'evaluate', for anything else leave those texts out."
        )
