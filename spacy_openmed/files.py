"""Writing files and folders so that a reader sees all of one or nothing; reading JSON."""

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
    part = _empty_beside(target)
    try:
        # mkstemp makes files that only their owner can read.
        part.chmod(0o644)
        yield part
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def check_writable(target: Path) -> None:
    """Refuse a file that could not be written, before hours are spent on what goes into it.

    target (Path): The file; its folder is made, and nothing else is changed.
    RAISES (OpenMedError): See ``atomic_file``.
    """
    _empty_beside(target).unlink()


def write_json(target: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all, a list of numbers on one line.

    RAISES (OpenMedError): See ``atomic_file``.
    """
    text = _NUMBERS.sub(
        lambda found: f"[{' '.join(found[1].split())}]", json.dumps(content, indent=2)
    )
    with atomic_file(target) as part:
        part.write_text(text + "\n", encoding="utf8")


def read_json(path: Path, advice: str) -> dict[str, Any]:
    """Read a JSON object.

    advice (str): What to do if that fails, one sentence or more.
    RAISES (OpenMedError): It is not there, cannot be read, or is no JSON object.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise OpenMedError(f"{path} cannot be read ({error.strerror}). {advice}") from error
    return json_object(data, path, advice)


def read_json_if_there(path: Path, advice: str) -> dict[str, Any] | None:
    """As ``read_json``, but None where there is no such file."""
    try:
        return read_json(path, advice)
    except OpenMedError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def json_object(data: bytes, path: Path, advice: str) -> dict[str, Any]:
    """The JSON object that a file holds.

    data (bytes): What was read.
    path (Path): The file, for the message.
    advice (str): See ``read_json``.
    RAISES (OpenMedError): It is no JSON object.
    """
    try:
        content = json.loads(data)
    except ValueError as error:
        raise OpenMedError(f"{path} is broken ({error}). {advice}") from error
    if not isinstance(content, dict):
        raise OpenMedError(f"{path} is broken (not a JSON object). {advice}")
    return content


def json_or_none(path: Path) -> dict[str, Any] | None:
    """A JSON object that may be made anew; None where there is none that can be read."""
    try:
        return read_json(path, "")
    except OpenMedError:
        return None


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


def _empty_beside(target: Path) -> Path:
    """A new file in the folder of another, to be put in its place."""
    try:
        if target.is_dir():
            raise OpenMedError(f"{target} is a folder. Give the name of a file.")
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    except OSError as error:
        raise _unwritable(target, error) from error
    os.close(handle)
    return Path(name)


def _unwritable(target: Path, error: OSError) -> OpenMedError:
    return OpenMedError(f"{target} cannot be written ({error.strerror}). Choose another place.")
