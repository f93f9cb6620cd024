"""Which code made a file: a hash of this package's Python files, which a version alone is not."""

import hashlib
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).parent


@cache
def code_sha256() -> str:
    """sha256 over the package's Python files, as they are when it is first asked for."""
    return sha256_of_code(_PACKAGE)


def sha256_of_code(folder: Path) -> str:
    """sha256 over the names and the contents of all ``*.py`` files in a folder."""
    digest = hashlib.sha256()
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))
    for name in names:
        content = (folder / name).read_bytes()
        # With its length nothing can pass from one file to the next unnoticed.
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()
