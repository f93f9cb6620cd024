"""brat standoff: NAME.txt is a text, NAME.ann its annotations, a line each.

    T1 TAB Disease 0 5 TAB words
    N1 TAB Reference T1 MESH:D003920 TAB name

Offsets count the characters of the .txt file as they are: each of CR and LF is one, and so is a
byte order mark, as in brat itself. Of BioNLP Shared Task files the entities in NAME.a1 are read.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ...entities import Entity
from ...errors import OpenMedError
from ...files import atomic_folder
from ..documents import Document, check_span, user_label
from ..problems import OnError, stop
from .lines import check_text, numbered_lines
from .mentions import ONE_BLANK, add_concept, check_mention

_SUFFIXES = (".txt", ".ann", ".a1")
_MENTION = re.compile(
    r"(T[^\t]*)\t(\S+) ([0-9]{1,18} [0-9]{1,18}(?:;[0-9]{1,18} [0-9]{1,18})*) *\t(.*)", re.DOTALL
)
_REFERENCE = re.compile(r"N[^\t]*\t\S+ (\S+) (\S+)[^\t]*(?:\t.*)?", re.DOTALL)
# Relations, events, attributes, modifications, equivalences, notes: an id and a TAB.
_OTHER = re.compile(r"[A-Z*#][^\t]*\t.*", re.DOTALL)
# brat wants DATABASE:ID. This stands before an id whose database is not known.
_NO_DATABASE = "concept:"
_WITH_DATABASE = re.compile(r"[^\s:]+:\S+")


def read(
    path: Path, types: Mapping[str, str] | None = None, on_error: OnError = stop
) -> Iterator[Document]:
    """Read documents one at a time, in the order of their names.

    A mention of several parts becomes one entity from the first character to the last. A
    reference (N) is the concept of its mention, as DATABASE:ID; several are joined with "|".
    Other annotations are read past. A .txt without .ann or .a1 is a document without
    annotations.

    path (Path): A folder, with folders in it or not, or one .txt, .ann or .a1.
    types (Mapping[str, str] | None): Corpus types to user-facing labels.
    on_error (OnError): Called with what is wrong with a document, which is then left out.
    YIELDS (Document): Its id is the path in the folder without suffix.
    RAISES (OpenMedError): Names file and line of what is not as it should be.
    """
    for identifier, base in _members(path):
        try:
            document = _document(identifier, base, types)
        except OpenMedError as error:
            on_error(error)
        else:
            yield document


def write(documents: Iterable[Document], path: Path) -> None:
    """Write a folder; it appears, or replaces another of such files, when all are written.

    An id with "/" makes folders. Entities keep their order. The parts of a concept between "|"
    become references of their own, and those without a database get "concept:", which is
    taken away on reading. Passages are not written.

    path (Path): A folder that is not there, or holds .txt and .ann files only; its name does
        not end like those of files.
    RAISES (OpenMedError): An id that cannot be a file name, or comes twice; a label or concept
        with white space in it; lone surrogates.
    """
    check_target(path)
    with atomic_folder(path) as folder:
        for document in documents:
            where = f"document '{document.id}'"
            base = base_of(folder, document.id)
            content = {".txt": document.text, ".ann": annotation_lines(document, where)}
            try:
                base.parent.mkdir(parents=True, exist_ok=True)
                for suffix, text in content.items():
                    with Path(f"{base}{suffix}").open("xb") as file:
                        file.write(text.encode("utf8"))
            except UnicodeEncodeError as error:
                raise OpenMedError(
                    f"{where}: a lone surrogate ({error.object[error.start]!r}), which UTF-8 "
                    f"cannot hold. Replace it, or write JSONL."
                ) from error
            except FileExistsError as error:
                raise OpenMedError(
                    f"{where}: its files would be those of another document. Give it another id."
                ) from error
            except OSError as error:
                raise OpenMedError(f"{where}: cannot be written ({error.strerror}).") from error


def _members(path: Path) -> Iterator[tuple[str, Path]]:
    """RETURNS (Iterator[tuple[str, Path]]): Ids, and paths without suffix."""
    if path.is_dir():
        names = (
            file.relative_to(path).as_posix()
            for file in path.rglob("*")
            if file.name.endswith(_SUFFIXES) and file.is_file()
        )
        for identifier in sorted({name.rpartition(".")[0] for name in names}):
            yield identifier, path / identifier
    elif path.name.endswith(_SUFFIXES):
        identifier = path.name.rpartition(".")[0]
        yield identifier, path.with_name(identifier)
    else:
        raise OpenMedError(f"{path}: neither a folder nor a .txt, .ann or .a1 file.")


def _document(identifier: str, base: Path, types: Mapping[str, str] | None) -> Document:
    annotations = [f for f in (Path(f"{base}.ann"), Path(f"{base}.a1")) if f.is_file()]
    text_file = Path(f"{base}.txt")
    if annotations and not text_file.is_file():
        raise OpenMedError(f"{annotations[0]}: there is no {text_file.name} beside it.")
    text = _text(text_file)
    if not annotations:
        return Document(identifier, text, [])
    entities: dict[str, Entity] = {}
    references: dict[str, list[str]] = {}
    places = {}
    for where, line in numbered_lines(annotations[0]):
        if line.startswith("T"):
            name, entity = _mention(line, text, types, where)
            if name in entities:
                raise OpenMedError(f"{where}: {name} is there already.")
            entities[name] = entity
        elif line.startswith("N"):
            reference = _REFERENCE.fullmatch(line)
            if reference is None:
                raise OpenMedError(f"{where}: expected N1, TAB and TYPE T1 DATABASE:ID: {line!r}")
            references.setdefault(reference[1], []).append(reference[2])
            places[reference[1]] = where
        elif line.strip() and not _OTHER.fullmatch(line):
            raise OpenMedError(f"{where}: not a line of brat standoff: {line!r}")
    concepts: dict[tuple[int, int, str], str] = {}
    for name, values in references.items():
        if name in entities:
            concept = "|".join(value.removeprefix(_NO_DATABASE) for value in values)
            add_concept(concepts, entities[name][:3], concept)
        elif name.startswith("T"):
            raise OpenMedError(f"{places[name]}: a reference of {name}, which is not there.")
    return Document(identifier, text, list(entities.values()), concepts=concepts)


def _text(path: Path) -> str:
    check_text(path)
    content = path.read_bytes()
    try:
        return content.decode("utf8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise OpenMedError(
            f"{path}, line {line}: not UTF-8 ({error}). Convert the file."
        ) from error


def _mention(
    line: str, text: str, types: Mapping[str, str] | None, where: str
) -> tuple[str, Entity]:
    found = _MENTION.fullmatch(line)
    if found is None:
        raise OpenMedError(f"{where}: expected T1, TAB, TYPE START END, TAB, words: {line!r}")
    name, label, offsets, words = found.groups()
    spans = []
    for part in offsets.split(";"):
        start, end = part.split(" ")
        spans.append(check_span(int(start), int(end), text, where))
    check_mention(text, spans, words, where)
    start = min(start for start, _ in spans)
    end = max(end for _, end in spans)
    return name, Entity(start, end, user_label(label, types, where))


def check_target(path: Path) -> None:
    """See that a path may become, or be replaced by, a folder of such files.

    RAISES (OpenMedError): A file, a folder with other files, or a name like those of files.
    """
    if path.name.lower().endswith(_SUFFIXES):
        raise OpenMedError(
            f"{path}: brat is written to a folder, which has two files for each document. Give "
            f"the path of a folder, without {path.suffix}, and the format brat."
        )
    if path.is_dir():
        others = (
            file
            for file in path.rglob("*")
            if file.is_file() and not file.name.endswith((".txt", ".ann"))
        )
        other = next(others, None)
        if other is not None:
            raise OpenMedError(f"{path}: {other} in it would be lost. Write to another folder.")
    elif path.exists():
        raise OpenMedError(f"{path}: not a folder. brat has two files for each document.")


def base_of(folder: Path, identifier: str) -> Path:
    """Where the files of a document belong, without suffix.

    RAISES (OpenMedError): The id cannot be a file name.
    """
    parts = identifier.split("/")
    if "\0" in identifier or any(part in ("", ".", "..") for part in parts):
        raise OpenMedError(
            f"document '{identifier}': brat files are named by ids, and this cannot be a name. "
            f"Give it another id, or write JSONL."
        )
    return folder.joinpath(*parts)


def annotation_lines(document: Document, where: str) -> str:
    """What stands in the .ann file of a document, see ``write``.

    RETURNS (str): The n-th of its entities is Tn.
    """
    lines = []
    count = 0
    for number, (start, end, label, *_) in enumerate(document.entities, 1):
        words = document.text[start:end].translate(ONE_BLANK)
        lines.append(f"T{number}\t{_word(label, where)} {start} {end}\t{words}")
        concept = document.concepts.get((start, end, label))
        for part in concept.split("|") if concept else ():
            count += 1
            database = "" if _has_database(part) else _NO_DATABASE
            lines.append(f"N{count}\tReference T{number} {database}{_word(part, where)}\t{words}")
    return "".join(f"{line}\n" for line in lines)


def _has_database(concept: str) -> bool:
    return bool(_WITH_DATABASE.fullmatch(concept)) and not concept.startswith(_NO_DATABASE)


def _word(value: str, where: str) -> str:
    if not re.fullmatch(r"\S+", value):
        raise OpenMedError(
            f"{where}: {value!r} as label or concept. brat cannot hold white space there, nor "
            f"nothing. Write JSONL."
        )
    return value
