"""Formats whose files are one document after the other, between a beginning and an end."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ...corpora.documents import Document
from ..records import Found, Skipped


class Joined:
    """Writes such a format.

    encode (Callable): A document, and what was found in it, as it stands in the file.
    before, after (bytes): The beginning and the end of the file.
    first, separator (bytes): What stands before the first document, and before the others.
    """

    def __init__(
        self,
        encode: Callable[[Document, Sequence[Found]], bytes],
        before: bytes = b"",
        after: bytes = b"",
        first: bytes = b"",
        separator: bytes = b"",
    ) -> None:
        self.piece = encode
        self.before = before
        self.after = after
        self.first = first
        self.separator = separator

    def payload(self, pieces: Sequence[bytes]) -> bytes:
        return self.separator.join(pieces)

    def join(self, payloads: Iterator[bytes], target: Path) -> list[Skipped]:
        with target.open("wb") as file:
            file.write(self.before)
            separator = self.first
            for payload in filter(None, payloads):
                file.write(separator)
                file.write(payload)
                separator = self.separator
            file.write(self.after)
        return []
