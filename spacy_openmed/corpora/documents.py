"""A document with annotations, as every reader yields it."""

from dataclasses import dataclass, field
from pathlib import Path

from ..entities import Entity
from ..errors import OpenMedError


@dataclass(frozen=True)
class Document:
    """Text and entities, with the corpus's own tokens and sentences where it has them.

    id (str): Name in the corpus, may be "".
    text (str): Raw text.
    entities (list[Entity]): Annotated; may be nested in raw form.
    tokens (list[tuple[int, int]]): Character ranges of the corpus's tokens, or empty.
    sentences (list[tuple[int, int]]): Token ranges of its sentences, or empty.
    """

    id: str
    text: str
    entities: list[Entity]
    tokens: list[tuple[int, int]] = field(default_factory=list)
    sentences: list[tuple[int, int]] = field(default_factory=list)


def corpus_file(folder: Path, dataset: str, split: str, suffix: str) -> Path:
    """The file of a split in a prepared corpus folder.

    folder (Path): Holds ``ner/<dataset>``, ``<dataset>``, or the files themselves.
    suffix (str): ".jsonl" or ".conll".
    RAISES (OpenMedError): Not there; lists what was tried.
    """
    tried = [
        base / f"{split}{suffix}" for base in (folder / "ner" / dataset, folder / dataset, folder)
    ]
    for path in tried:
        if path.is_file():
            return path
    raise OpenMedError(
        f"No {split}{suffix} of '{dataset}'. Tried: {', '.join(map(str, tried))}. "
        f"Point --corpus at the folder with the prepared corpora."
    )
