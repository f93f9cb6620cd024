"""The user's own annotated files, of any format, as documents to train and evaluate on."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from ..errors import OpenMedError
from . import formats
from .documents import Document
from .problems import OnError, stop

# Formats of tokens: their text is made by ``detokenise``, since that is nearer to what the
# model will read than tokens with blanks around each.
_TOKENS_ONLY = ("conll", "rows")


def load(
    path: Path,
    name: str | None = None,
    on_error: OnError = stop,
    types: Mapping[str, str] | None = None,
) -> list[Document]:
    """Read a file or folder of any format.

    path (Path): JSONL, CoNLL, PubTator, BioC, brat, .spacy or Hugging Face rows.
    name (str | None): The format, if the file's name does not tell.
    on_error (OnError): Called with what is wrong with a document, which is then left out.
    types (Mapping[str, str] | None): Labels to rename; None keeps those of the data.
    RETURNS (list[Document]): At least one, with at least one entity.
    RAISES (OpenMedError): Names file, line and reason; or nothing is annotated.
    """
    chosen = formats.guess(path) if name is None else formats.find(name)
    documents = list(
        formats.read(path, types, on_error, chosen.name, detokenised=chosen.name in _TOKENS_ONLY)
    )
    if not any(document.entities for document in documents):
        raise OpenMedError(
            f"{path}: {len(documents)} documents without a single entity, read as "
            f"{chosen.name}. Give --format if it is another one ({', '.join(formats.FORMATS)})."
        )
    return documents


def label_counts(documents: list[Document]) -> str:
    """How many entities of each label there are, for the screen."""
    counts = Counter(e.label for document in documents for e in document.entities)
    return ", ".join(f"{label} {count}" for label, count in sorted(counts.items()))


def shared_texts(train: list[Document], dev: list[Document]) -> int:
    """How many documents of dev have a text that is in train, too."""
    known = {document.text for document in train}
    return sum(document.text in known for document in dev)
