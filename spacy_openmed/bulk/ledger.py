"""What of a run is done: a hidden folder beside the output, a file a part.

A part is there as a whole or not at all, so whatever ends the process, and whenever, the run goes
on with the parts that are missing.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import OpenMedError
from ..files import atomic_file, write_json
from ..training.begun import flat
from .records import Skipped
from .results import Result
from .writers import Writer

_RUN = "run.json"
_BEGUN = "begun.json"
_SUFFIX = ".part"
_JOINED = "joined"
# What was there before, if it was a folder.
_REPLACED = "replaced"


def folder_of(output: Path) -> Path:
    """Where the parts of an output are until it is made."""
    return output.parent / f".{output.name}.parts"


class Ledger:
    """The parts of a run.

    output (Path): What the run makes. The folder with its parts is beside it as long as the run
        has not ended.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = folder_of(output)
        self._done: dict[int, set[int]] = {}
        self._lasts: dict[int, int] = {}

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Note what the run is begun with; what was there is gone."""
        (self.folder / _RUN).unlink(missing_ok=True)
        for path in self.folder.glob(f"*{_SUFFIX}"):
            path.unlink()
        self.begun.unlink(missing_ok=True)
        write_json(self.folder / _RUN, dict(facts))

    def go_on(self, facts: Mapping[str, Any]) -> Iterator[Result]:
        """Take up a run.

        facts (Mapping): What changes the output, as it is now.
        YIELDS (Result): Of each part that is there, without payload.
        RAISES (OpenMedError): It was begun with others; names each.
        """
        _check(self.folder / _RUN, facts)
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            result = _header(path)
            if result is None:
                path.unlink()
            else:
                self._note(result)
                yield result

    @property
    def is_begun(self) -> bool:
        return (self.folder / _RUN).is_file()

    @property
    def begun(self) -> Path:
        """Where it is noted which part is being annotated; see ``deaths``."""
        return self.folder / _BEGUN

    def add(self, result: Result) -> None:
        """Keep a part."""
        with atomic_file(self._path(result.source, result.number)) as part:
            part.write_bytes(result.to_bytes())
        self._note(result)

    def done(self, source: int) -> set[int]:
        """The parts of a source that are there."""
        return self._done.get(source, set())

    def is_complete(self, source: int) -> bool:
        last = self._lasts.get(source)
        return last is not None and len(self.done(source)) == last + 1

    def join(self, writer: Writer) -> list[Skipped]:
        """Make the output of the parts.

        RETURNS (list[Skipped]): Documents that it has no room for.
        """
        # What an earlier process left.
        shutil.rmtree(self.joined.parent, ignore_errors=True)
        self.joined.parent.mkdir()
        return writer.join(self._payloads(), self.joined)

    def _payloads(self) -> Iterator[bytes]:
        """Those of all parts, in the order of the input."""
        for source in sorted(self._done):
            for number in range(self._lasts[source] + 1):
                with self._path(source, number).open("rb") as file:
                    file.readline()
                    yield file.read()

    @property
    def joined(self) -> Path:
        """Where the output is made."""
        return self.folder / _JOINED / self.output.name

    def put_in_place(self) -> None:
        """Let the output have its name, and forget the run.

        Where this is interrupted, the run goes on with making the output once more.
        """
        if self.output.is_dir() or (self.joined.is_dir() and self.output.exists()):
            # Only a file can be replaced in one step.
            old = self.folder / _REPLACED
            shutil.rmtree(old, ignore_errors=True)
            self.output.rename(old)
        os.replace(self.joined, self.output)
        self.remove()

    def remove(self) -> None:
        """Forget the run."""
        # Without this the rest is nothing to go on from, if the rest stays.
        (self.folder / _RUN).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _note(self, result: Result) -> None:
        self._done.setdefault(result.source, set()).add(result.number)
        if result.last:
            self._lasts[result.source] = result.number

    def _path(self, source: int, number: int) -> Path:
        return self.folder / f"{source:07}-{number:07}{_SUFFIX}"


def _header(path: Path) -> Result | None:
    """None where the machine, and not only the process, went down while it was written."""
    try:
        with path.open("rb") as file:
            result, size = Result.from_header(file.readline())
            complete = path.stat().st_size == file.tell() + size
    except (ValueError, KeyError, TypeError):
        return None
    return result if complete else None


def _check(path: Path, facts: Mapping[str, Any]) -> None:
    try:
        before = flat(json.loads(path.read_text(encoding="utf8")))
    except (ValueError, AttributeError) as error:
        raise OpenMedError(
            f"{path} is broken, so nobody can tell what the run was begun with. Start it anew "
            f"with --overwrite."
        ) from error
    now = flat(json.loads(json.dumps(facts)))
    differing = [
        f"{name} was {before.get(name, 'absent')}, is {now.get(name, 'absent')}"
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name)
    ]
    if differing:
        raise OpenMedError(
            f"The run in {path.parent} was begun with others than it is to go on with: "
            f"{'; '.join(differing)}. Give the same again, or start anew with --overwrite."
        )
