"""Rows of Hugging Face ``datasets``: {"id", "tokens": ["flu", …], "ner_tags": [1, …]}.

Tags are strings, or ids that the ClassLabel feature of their column names. Columns may be called
"words" and "tags", "labels" or "ner", too. Rows of text are read as those of JSONL.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import suppress
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...entities import Entity
from ...errors import OpenMedError
from ...files import atomic_file
from ...labelling import outermost
from .. import bio
from ..documents import Document, user_label
from ..problems import OnError, stop
from . import jsonl
from .ids import UniqueIds
from .reading import read_each
from .splits import check_one_split

if TYPE_CHECKING:
    import datasets
    from pyarrow import parquet

_TOKENS = ("tokens", "words")
_TAGS = ("ner_tags", "tags", "labels", "ner")
_OTHERS = ("id", "text", "entities", "spans", "label", "answer", "passages")
# What a batch of rows to write holds; a document is never cut.
BATCH_TOKENS = 200_000
# Rows may be whole papers.
_READ_ROWS = 64


def documents(
    rows: Iterable[Mapping[str, Any]],
    tag_names: Sequence[str] | None = None,
    types: Mapping[str, str] | None = None,
    on_error: OnError = stop,
    where: str = "",
    scheme: str | None = None,
) -> Iterator[Document]:
    """Documents from rows.

    The text of a row of tokens is these with single blanks between. Rows without a column of
    tags but with a text are read as ``jsonl.from_row`` says.

    rows (Iterable[Mapping]): A ``Dataset``, ``IterableDataset`` or any other rows.
    tag_names (Sequence[str] | None): Names of the tag ids; by default those of the features
        of a Dataset.
    types (Mapping[str, str] | None): Corpus types to user-facing labels.
    on_error (OnError): Called with what is wrong with a row, which is then left out.
    where (str): File, for messages.
    scheme (str | None): Tag scheme (see ``bio``); None finds it by going through the rows
        once before, and takes an iterator, which lasts for one time only, for BIO2.
    YIELDS (Document): With tokens, if the row has them.
    RAISES (OpenMedError): Names the row, counted from 0 as in ``dataset[0]``.
    """
    if tag_names is None:
        tag_names = _class_names(getattr(rows, "features", None))
    if scheme is None:
        scheme = "BIO2" if isinstance(rows, Iterator) else bio.detect(_sentences(rows, tag_names))
    sources = (
        (number, f"{where}, row {number}" if where else f"row {number}", row)
        for number, row in enumerate(rows)
    )
    yield from read_each(
        sources,
        lambda row, place: _document(row, tag_names, types, place, scheme),
        "row",
        on_error,
    )


def read(
    path: Path, types: Mapping[str, str] | None = None, on_error: OnError = stop
) -> Iterator[Document]:
    """Read documents a few rows at a time. The tags are gone through once before.

    path (Path): A .parquet or .arrow file, a folder that ``Dataset.save_to_disk`` made, or a
        folder with .parquet files of one split, which are read in the order of their names.
    types (Mapping[str, str] | None): Corpus types to user-facing labels.
    on_error (OnError): Called with what is wrong with a row, which is then left out.
    YIELDS (Document): See ``documents``.
    RAISES (OpenMedError): Names file and row (counted from 0), or says why the file cannot be
        read.
    """
    files = _files(path)
    detector = bio.Detector()
    for file in files:
        names, rows = _open(file)
        for tags in _sentences(rows, names):
            detector.add(tags)
    for file in files:
        names, rows = _open(file)
        yield from documents(rows, names, types, on_error, str(file), detector.scheme())


def write(documents: Iterable[Document], path: Path) -> None:
    """Write documents as rows with BIO2 tags; the file appears when all are written.

    Tags are ids, named by a ClassLabel feature in the file's schema as ``datasets`` has it.

    path (Path): "….parquet".
    RAISES (OpenMedError): Another suffix; a document without tokens; an entity that does not
        begin and end at tokens; lone surrogates; an id that comes twice.
    """
    import pyarrow
    from pyarrow import parquet

    if path.suffix.lower() != ".parquet":
        raise OpenMedError(f"{path}: rows are written to .parquet files.")
    tag_ids = {"O": 0}
    schema = pyarrow.schema(_features(tag_ids).type)
    # The tags are known when all is written. They can come last in the metadata of the file,
    # but not in a stored Arrow schema, which readers would prefer.
    with (
        atomic_file(path) as part,
        parquet.ParquetWriter(part, schema, store_schema=False) as writer,
    ):
        for batch in _batches(documents, tag_ids):
            writer.write_batch(pyarrow.RecordBatch.from_pylist(batch, schema))
        metadata = _features(tag_ids).arrow_schema.metadata
        writer.add_key_value_metadata({k.decode(): v.decode() for k, v in metadata.items()})


def _files(path: Path) -> list[Path]:
    """What is read one after the other: files, or one folder of ``save_to_disk``."""
    if not path.is_dir() or (path / "state.json").is_file():
        return [path]
    if (path / "dataset_dict.json").is_file():
        splits = ", ".join(sorted(p.parent.name for p in path.glob("*/state.json")))
        raise OpenMedError(f"{path} holds several splits ({splits}). Give one of them.")
    files = sorted(path.rglob("*.parquet"))
    if not files:
        raise OpenMedError(f"{path}: no data set of save_to_disk, and no .parquet file in it.")
    check_one_split(path, (file.relative_to(path) for file in files))
    return files


def _open(path: Path) -> tuple[Sequence[str] | None, Iterator[Mapping[str, Any]]]:
    """RETURNS (tuple): Names of the tag ids, if it has them; its rows."""
    import datasets
    from pyarrow import parquet

    try:
        if path.is_dir():
            data = datasets.load_from_disk(str(path))
        elif path.suffix.lower() == ".arrow":
            data = datasets.Dataset.from_file(str(path))
        else:
            # Read ahead, Arrow would hold the columns of a whole row group, of any size.
            file = parquet.ParquetFile(path, pre_buffer=False)
            features = datasets.Features.from_arrow_schema(file.schema_arrow)
            return _class_names(features), _readable(_parquet_rows(file), path)
    except Exception as error:
        raise _unreadable(path, error) from error
    return _class_names(data.features), _readable(data, path)


def _parquet_rows(file: "parquet.ParquetFile") -> Iterator[Mapping[str, Any]]:
    known = (*_TOKENS, *_TAGS, *_OTHERS)
    columns = [name for name in file.schema_arrow.names if name in known]
    # Without a known one the message shall name those there are.
    for batch in file.iter_batches(_READ_ROWS, columns=columns or None):
        yield from batch.to_pylist()


def _readable(rows: Iterable[Mapping[str, Any]], path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        yield from rows
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> OpenMedError:
    # Arrow and datasets raise whatever the wrong bytes make them stumble over.
    return OpenMedError(f"{path}: cannot be read as a data set, or is cut short: {error!r}")


def _class_names(features: Any) -> Sequence[str] | None:
    """RETURNS (Sequence[str] | None): Names of the tag ids, if the tags are ids with names."""
    for column in _TAGS:
        feature = (features or {}).get(column)
        inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
        names: Sequence[str] | None = getattr(inner, "names", None)
        if names:
            return names
    return None


def _features(names: Iterable[str]) -> "datasets.Features":
    from datasets import ClassLabel, Features, Sequence, Value

    return Features(
        id=Value("string"),
        tokens=Sequence(Value("string")),
        ner_tags=Sequence(ClassLabel(names=list(names))),
    )


def _sentences(
    rows: Iterable[Mapping[str, Any]], tag_names: Sequence[str] | None
) -> Iterator[list[str]]:
    """YIELDS (list[str]): The tags of rows whose tags can be read."""
    for row in rows:
        tags = _first(row, _TAGS) if isinstance(row, Mapping) else None
        if isinstance(tags, Iterable):
            with suppress(OpenMedError):
                yield [_tag(tag, tag_names) for tag in tags]


def _first(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _document(
    row: Any,
    tag_names: Sequence[str] | None,
    types: Mapping[str, str] | None,
    where: str,
    scheme: str,
) -> Document | None:
    if not isinstance(row, Mapping):
        raise OpenMedError(f"{where}: {row!r} is no row. Of a DatasetDict give one split.")
    # A column that this row has nothing in.
    row = {name: value for name, value in row.items() if value is not None}
    tokens, tags = _first(row, _TOKENS), _first(row, _TAGS)
    if tokens is not None and tags is not None:
        spans = _token_spans(tokens, tags, where)
        entities = [
            Entity(spans[first][0], spans[last - 1][1], user_label(label, types, where))
            for first, last, label in _decode(tags, tag_names, where, scheme)
        ]
        return Document(str(row.get("id", "")), " ".join(tokens), entities, tokens=spans)
    if "text" in row:
        row = {name: _as_list(value, where) for name, value in row.items()}
        return jsonl.from_row(row, types, where)
    raise OpenMedError(
        f"{where}: expected columns of tokens ({', '.join(_TOKENS)}) and tags "
        f"({', '.join(_TAGS)}), or text and entities. There are: {', '.join(row)}."
    )


def _as_list(value: Any, where: str) -> Any:
    """A list of objects where ``datasets`` makes one object of lists of it; others as they are."""
    if not isinstance(value, Mapping):
        return value
    try:
        return [dict(zip(value, items, strict=True)) for items in zip(*value.values(), strict=True)]
    except (TypeError, ValueError) as error:
        raise OpenMedError(f"{where}: entities are {value!r}") from error


def _token_spans(tokens: Any, tags: Any, where: str) -> list[tuple[int, int]]:
    lists = all(isinstance(x, Sized) and not isinstance(x, str) for x in (tokens, tags))
    if not lists or len(tokens) != len(tags):
        raise OpenMedError(f"{where}: tokens and tags are not two lists of one length.")
    spans = []
    position = 0
    for number, token in enumerate(tokens, 1):
        if not isinstance(token, str) or not token:
            raise OpenMedError(f"{where}, token {number}: {token!r} is no token.")
        spans.append((position, position + len(token)))
        position += len(token) + 1
    return spans


def _decode(
    tags: Iterable[Any], tag_names: Sequence[str] | None, where: str, scheme: str
) -> list[bio.Span]:
    try:
        return bio.decode([_tag(tag, tag_names) for tag in tags], scheme)
    except OpenMedError as error:
        raise OpenMedError(f"{where}, {error}") from error


def _tag(tag: Any, tag_names: Sequence[str] | None) -> str:
    if isinstance(tag, str):
        return tag
    if tag_names is None:
        raise OpenMedError(
            "tags: these are numbers without names. Give tag_names, or the column a feature with "
            "ClassLabel."
        )
    if not isinstance(tag, Integral) or not 0 <= int(tag) < len(tag_names):
        raise OpenMedError(f"tags: {tag!r} is none of 0 to {len(tag_names) - 1}.")
    return tag_names[int(tag)]


def _batches(
    documents: Iterable[Document], tag_ids: dict[str, int]
) -> Iterator[list[dict[str, Any]]]:
    ids = UniqueIds("document")
    batch: list[dict[str, Any]] = []
    size = 0
    for number, document in enumerate(documents, 1):
        where = f"document {number} ('{document.id}')"
        ids.check(document.id, number, where)
        batch.append(_row(document, tag_ids, where))
        size += len(document.tokens)
        if size >= BATCH_TOKENS:
            yield batch
            batch = []
            size = 0
    yield batch


def _row(document: Document, tag_ids: dict[str, int], where: str) -> dict[str, Any]:
    """A document as a row; new tags get the next ids."""
    if document.text.strip() and not document.tokens:
        raise OpenMedError(
            f"{where}: has no tokens, which rows consist of. Write .spacy and read that: then it "
            f"has spaCy's."
        )
    firsts = {start: i for i, (start, _) in enumerate(document.tokens)}
    lasts = {end: i for i, (_, end) in enumerate(document.tokens, 1)}
    spans = []
    for start, end, label, *_ in outermost(document.entities):
        if start not in firsts or end not in lasts or not label:
            raise OpenMedError(
                f"{where}: {label!r} entity {start} to {end} ({document.text[start:end]!r}) has "
                f"no label, or begins or ends inside a token. Write .spacy or JSONL."
            )
        spans.append((firsts[start], lasts[end], label))
        for letter in "BI":
            tag_ids.setdefault(f"{letter}-{label}", len(tag_ids))
    tokens = [document.text[start:end] for start, end in document.tokens]
    tags = bio.encode(spans, len(tokens))
    try:
        "".join((document.id, *tokens, *tags)).encode()
    except UnicodeEncodeError as error:
        raise OpenMedError(
            f"{where}: a lone surrogate ({error.object[error.start]!r}), which Arrow cannot hold. "
            f"Replace it, or write JSONL."
        ) from error
    return {"id": document.id, "tokens": tokens, "ner_tags": [tag_ids[tag] for tag in tags]}
