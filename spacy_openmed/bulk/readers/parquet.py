"""Parquet: a column of texts and, where there is one, a column of ids."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..options import Options
from ..records import Row, Skipped
from ..sources import Source
from .fields import document

if TYPE_CHECKING:
    from pyarrow import RecordBatch

# Rows may be whole papers.
_ROWS = 64


def read(source: Source, options: Options) -> Iterator[Row]:
    """Read a few rows at a time.

    YIELDS (Document | Skipped): A row without id is named by file and row, counted from 1.
    """
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        # Without buffering ahead no more than a row group is in memory.
        with parquet.ParquetFile(source.path, pre_buffer=False) as file:
            names = file.schema_arrow.names
            if options.text_field not in names:
                yield Skipped(
                    source.name,
                    f"no column '{options.text_field}' (columns: {', '.join(names)})",
                )
                return
            columns = [name for name in (options.id_field, options.text_field) if name in names]
            for batch in file.iter_batches(_ROWS, columns=columns):
                for row in _rows(batch):
                    number += 1
                    if isinstance(row, Skipped):
                        yield Skipped(f"{source.name}:{number}", row.reason)
                    else:
                        yield document(row, options, source.name, number)
    except (pyarrow.ArrowException, OSError) as error:
        yield Skipped(f"{source.name}, after row {number}", f"no Parquet, or cut short ({error})")


def count(source: Source) -> int:
    from pyarrow import parquet

    rows: int = parquet.read_metadata(source.path).num_rows
    return rows


def _rows(batch: "RecordBatch") -> Iterator[dict[str, object] | Skipped]:
    for index in range(batch.num_rows):
        try:
            yield batch.slice(index, 1).to_pylist()[0]
        except UnicodeDecodeError as error:
            yield Skipped("", f"not UTF-8 ({error})")
