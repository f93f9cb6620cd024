"""Text: a document a file."""

from collections.abc import Iterator

from ...corpora.documents import Document
from ...errors import OpenMedError
from ...passages.inputs import DAMAGE, open_bytes
from ..options import Options
from ..records import Row, Skipped
from ..sources import Source


def read(source: Source, options: Options) -> Iterator[Row]:
    """Read files whole, line ends as they are.

    YIELDS (Document | Skipped): Ids are names without suffix.
    """
    for path, name in zip(source.paths, source.names, strict=True):
        try:
            with open_bytes(path) as file:
                text = file.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            yield Skipped(name, f"not UTF-8 ({error})")
        except (*DAMAGE, OpenMedError) as error:
            yield Skipped(name, f"cannot be read ({error})")
        else:
            yield Document(name.removesuffix(".gz").removesuffix(".txt"), text, [])


def count(source: Source) -> int:
    return len(source.paths)
