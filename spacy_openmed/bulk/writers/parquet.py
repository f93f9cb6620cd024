"""Parquet: id, text, and a list of entities."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...corpora.documents import Document
from ..records import Found, Skipped
from .jsonl import entities

# In memory; parts are smaller than readers like row groups to be.
_ROW_GROUP_BYTES = 64_000_000


def writer(target: Path) -> "Parquet":
    return Parquet()


class Parquet:
    """Entities are structs of start, end, label, text, score and dataset."""

    def __init__(self) -> None:
        import pyarrow as pa

        entity = pa.struct(
            [
                ("start", pa.int64()),
                ("end", pa.int64()),
                ("label", pa.string()),
                ("text", pa.string()),
                ("score", pa.float64()),
                ("dataset", pa.string()),
            ]
        )
        self.schema = pa.schema(
            [("id", pa.string()), ("text", pa.string()), ("entities", pa.list_(entity))]
        )

    def piece(self, document: Document, found: Sequence[Found]) -> dict[str, Any]:
        return {
            "id": document.id,
            "text": document.text,
            "entities": entities(document, found),
        }

    def payload(self, pieces: Sequence[dict[str, Any]]) -> bytes:
        import pyarrow as pa
        from pyarrow import parquet

        if not pieces:
            # It would be a row group without rows.
            return b""
        file = io.BytesIO()
        parquet.write_table(pa.Table.from_pylist(list(pieces), self.schema), file)
        return file.getvalue()

    def join(self, payloads: Iterator[bytes], target: Path) -> list[Skipped]:
        import pyarrow as pa
        from pyarrow import parquet

        with parquet.ParquetWriter(target, self.schema) as file:
            tables: list[Any] = []
            for payload in filter(None, payloads):
                tables.append(parquet.read_table(pa.BufferReader(payload), schema=self.schema))
                if sum(table.nbytes for table in tables) >= _ROW_GROUP_BYTES:
                    file.write_table(pa.concat_tables(tables))
                    tables = []
            if tables:
                file.write_table(pa.concat_tables(tables))
        return []
