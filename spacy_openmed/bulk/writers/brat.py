"""brat: a folder with a .txt and an .ann file for each document; scores are annotators' notes."""

import errno
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...corpora.documents import Document
from ...corpora.formats import brat
from ..records import Found, Skipped
from .standing import annotated

_OF_NAMES = (errno.ENAMETOOLONG, errno.EINVAL, errno.ENOTDIR, errno.EISDIR)


def writer(target: Path) -> "Brat":
    """The writer.

    RAISES (OpenMedError): The target is a file, or a folder with other files.
    """
    brat.check_target(target)
    return Brat()


class Brat:
    """An id with "/" makes folders."""

    def piece(self, document: Document, found: Sequence[Found]) -> bytes:
        brat.base_of(Path(), document.id)
        lines = brat.annotation_lines(annotated(document, found), f"document '{document.id}'")
        notes = [
            f"#{number}\tAnnotatorNotes T{number}\t{one.score:.4f} {one.dataset}\n"
            for number, one in enumerate(found, 1)
        ]
        row = [document.id, document.text, lines + "".join(notes)]
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"

    def payload(self, pieces: Sequence[bytes]) -> bytes:
        return b"".join(pieces)

    def join(self, payloads: Iterator[bytes], target: Path) -> list[Skipped]:
        """Documents whose files are there already, or cannot be named, are skipped."""
        skipped = []
        target.mkdir()
        for payload in payloads:
            for line in payload.splitlines():
                identifier, text, annotations = json.loads(line)
                reason = _write(brat.base_of(target, identifier), text, annotations)
                if reason:
                    skipped.append(Skipped(f"document '{identifier}'", reason))
        return skipped


def _write(base: Path, text: str, annotations: str) -> str:
    """RETURNS (str): Why the files cannot be written, "" if they are."""
    try:
        base.parent.mkdir(parents=True, exist_ok=True)
        with Path(f"{base}.txt").open("xb") as file:
            file.write(text.encode())
        Path(f"{base}.ann").write_bytes(annotations.encode())
    except FileExistsError:
        return "its files would be those of another document"
    except (OSError, ValueError) as error:
        # A full disk is not this document's fault.
        if isinstance(error, OSError) and error.errno not in _OF_NAMES:
            raise
        return f"its id cannot be the name of files ({error})"
    return ""
