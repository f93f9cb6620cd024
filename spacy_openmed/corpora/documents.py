"""A document with annotations, as every reader yields it."""

from collections.abc import Iterator
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


def numbered_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Read a UTF-8 file, with or without a byte order mark, LF or CRLF.

    YIELDS (tuple[str, str]): File and line number for messages; the line without its end.
    RAISES (OpenMedError): Names the line that is not UTF-8.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            where = f"{path}, line {number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise OpenMedError(f"{where}: not UTF-8 ({error}). Convert the file.") from error
            yield where, text.rstrip("\r\n")


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
