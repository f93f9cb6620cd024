"""Lists of the documents of each split: files NAME.train, NAME.dev and NAME.test, an id a line."""

from ...errors import OpenMedError
from ..folder import SPLITS
from ..formats.lines import numbered_lines
from .sources import Sources


def read_lists(name: str, sources: Sources) -> dict[str, list[str]]:
    """The ids of each split, sorted.

    RAISES (OpenMedError): A list is missing, or an id is in two.
    """
    listed: dict[str, tuple[str, str]] = {}
    for split in SPLITS:
        for where, line in numbered_lines(sources.find(f"{name}.{split}")):
            identifier = line.strip()
            if identifier:
                first, elsewhere = listed.setdefault(identifier, (split, where))
                if first != split:
                    raise OpenMedError(f"{where}: '{identifier}' is in {elsewhere}, too.")
    return {split: sorted(i for i, (of, _) in listed.items() if of == split) for split in SPLITS}
