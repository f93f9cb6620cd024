"""Text and id of a row that has named fields."""

from collections.abc import Mapping
from typing import Any

from ...corpora.documents import Document
from ..options import Options
from ..records import Row, Skipped


def document(row: Mapping[str, Any], options: Options, name: str, number: int) -> Row:
    """A row as a document.

    row (Mapping): Field to value.
    name (str), number (int): File, and row in it: the id of a row without one.
    RETURNS (Document | Skipped)
    """
    where = f"{name}:{number}"
    text, identifier = row.get(options.text_field), row.get(options.id_field)
    if text is None:
        known = ", ".join(map(str, row)) or "none"
        return Skipped(where, f"no field '{options.text_field}' (fields: {known})")
    if not isinstance(text, str):
        return Skipped(where, f"field '{options.text_field}' is no text ({text!r:.50})")
    if isinstance(identifier, bool) or not isinstance(identifier, str | int | float | None):
        return Skipped(where, f"field '{options.id_field}' is no id ({identifier!r:.50})")
    given = "" if identifier is None else str(identifier)
    try:
        f"{given}{text}".encode()
    except UnicodeEncodeError as error:
        return Skipped(where, f"not UTF-8, or half a surrogate pair ({error})")
    return Document(given or where, text, [])
