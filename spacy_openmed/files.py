"""Writing files and folders so that a reader sees all of one or nothing."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import OpenMedError

# No string can match: JSON has no line breaks in strings.
_NUMBERS = re.compile(r"\[\n\s*((?:-?[\d.][-+.\deE]*,?\s+)+)\]")

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Write a file beside its target, and put it in place only if nothing failed.

    target (Path): The file to make or to replace; its folder is made.
    YIELDS (Path): An empty file to write to.
    RAISES (OpenMedError): The target is a folder, or cannot be written.
    """
    if target.is_dir():
        raise OpenMedError(f"{target} is a folder. Give the name of a file.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    except OSError as error:
        raise _unwritable(target, error) from error
    os.close(handle)
    part = Path(name)
    try:
        # mkstemp makes files that only their owner can read.
        part.chmod(0o644)
        yield part
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def write_json(target: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all, a list of numbers on one line.

    RAISES (OpenMedError): See ``atomic_file``.
    """
    text = _NUMBERS.sub(
        lambda found: f"[{' '.join(found[1].split())}]", json.dumps(content, indent=2)
    )
    with atomic_file(target) as part:
        part.write_text(text + "\n", encoding="utf8")


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Write a folder beside its target, and put it in place only if nothing failed.

    target (Path): The folder to make or to replace; of a link, what it leads to.
    YIELDS (Path): An empty folder to write into.
    RAISES (OpenMedError): The target is a file, or cannot be written.
    """
    target = target.resolve()
    if target.exists() and not target.is_dir():
        raise OpenMedError(f"{target} is a file. Give the name of a folder.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise _unwritable(target, error) from error
    try:
        part.chmod(0o755)
        yield part
        if target.exists():
            old = part.with_name(part.name + ".old")
            target.rename(old)
            try:
                part.rename(target)
            except BaseException:
                old.rename(target)
                raise
            shutil.rmtree(old)
        else:
            part.rename(target)
    finally:
        if part.exists():
            shutil.rmtree(part)


@contextmanager
def only_one(path: Path, what: str) -> Iterator[None]:
    """Hold a file for this process, as long as it lives, where the system can lock files.

    path (Path): The file; made if it is not there, and left.
    what (str): What only one process may do, for the message.
    RAISES (OpenMedError): Another process holds it, or it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise _unwritable(path, error) from error
    with file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OpenMedError(
                    f"Another {what} is running in {path.parent}. Let it end, or stop it."
                ) from None
        yield


def _unwritable(target: Path, error: OSError) -> OpenMedError:
    return OpenMedError(f"{target} cannot be written ({error.strerror}). Choose another place.")
