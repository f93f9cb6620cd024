"""An append-only record of looks at a split: what was measured, when, on what.

JSON lines. Each has the sha256 of the line before it, its line break included, so that a line
that was removed or changed shows; the last line alone has none after it that would tell.

Test is to be looked at once, after everything was chosen on dev. A further look needs a reason,
which is recorded with it.
"""

import datetime
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ..about import __version__
from ..backbones import file_sha256
from ..corpora.folder import corpus_file, corpus_file_or_none, read_split
from ..corpora.statistics import content_hash
from ..errors import OpenMedError

try:
    import fcntl
except ImportError:  # not on Windows, where nothing keeps two commands apart
    fcntl = None  # type: ignore[assignment]

LEDGER = "OPENMED_LEDGER"
TEST = "test"
# What figures are of unless something else is asked for.
PRECISION = "fp32"

Entry = dict[str, Any]
# What tells results of ``robustness`` and of ``cross`` from those of ``evaluate``.
_OTHERWISE = frozenset(("robustness", "labels"))


@dataclass(frozen=True)
class Subject:
    """What is looked at.

    dataset (str): Id.
    split (str): "train", "dev" or "test".
    files (Mapping[str, str]): Name to sha256 of each file of the split.
    raw_sha256 (str): Hash of the texts and mentions themselves, see ``content_hash``: a corpus
        that was prepared anew may have other files with the same in them.
    """

    dataset: str
    split: str
    files: Mapping[str, str]
    raw_sha256: str

    def was_seen_by(self, entry: Entry) -> bool:
        """Whether an entry is of a look at these texts."""
        if (entry.get("dataset"), entry.get("split")) != (self.dataset, self.split):
            return False
        files = entry.get("data")
        known = list(files.values()) if isinstance(files, dict) else []
        return entry.get("raw_sha256") == self.raw_sha256 or any(
            digest in known for digest in self.files.values()
        )


@dataclass(frozen=True)
class Contents:
    """What a ledger says.

    entries (list[dict]): One for each look, the oldest first.
    torn (list[int]): Numbers of lines that cannot be read: a command was killed while it wrote
        them, before it showed a figure.
    faults (list[str]): Where a line was removed or changed.
    lines (list[tuple[int, str]]): Of each entry, the number of its line and the hash of that.
    """

    entries: list[Entry]
    torn: list[int]
    faults: list[str]
    lines: list[tuple[int, str]] = field(default_factory=list)

    def looks(self, subject: Subject) -> list[Entry]:
        """The entries of looks at the same texts."""
        return [entry for entry in self.entries if subject.was_seen_by(entry)]

    def looks_of(self, adapter: str, edges: str, files: Mapping[str, str]) -> list[Entry]:
        """The entries of looks that gave what ``evaluate`` writes of an adapter by default.

        Those in another precision, at disturbed texts and at the labels of another corpus are
        left out: they are of the same files, but their figures are others.

        adapter (str): Its hash.
        edges (str): "word" or "wordpiece".
        files (Mapping[str, str]): Name to sha256 of each file of the split.
        RETURNS (list[dict]): The oldest first.
        """
        wanted = {"adapter": adapter, "edges": edges, "data": dict(files)}
        return [
            entry
            for entry in self.entries
            if all(entry.get(key) == value for key, value in wanted.items())
            and _is_evaluation(entry.get("result"))
            and precision_of(entry.get("result")) == PRECISION
        ]


def precision_of(result: Any) -> str:
    """What a result was computed in; earlier versions knew one precision, and did not say so."""
    found = result.get("precision", PRECISION) if isinstance(result, dict) else PRECISION
    return str(found)


def default_path() -> Path:
    """``OPENMED_LEDGER``, or where ``project.yml`` has the ledger."""
    return Path(os.environ.get(LEDGER) or "ledger.jsonl")


def subject(corpus: Path, dataset: str, split: str) -> Subject:
    """Describe a split without anything being measured on it.

    corpus (Path): Folder with the prepared corpora.
    RAISES (OpenMedError): Unknown dataset, no such files, or what is wrong in them.
    """
    raw = content_hash(read_split(corpus, dataset, split))
    tagged = corpus_file_or_none(corpus, dataset, split, ".conll")
    files = [corpus_file(corpus, dataset, split, ".jsonl"), *([tagged] if tagged else [])]
    return Subject(dataset, split, {path.name: file_sha256(path) for path in files}, raw)


def read(path: Path) -> Contents:
    """Read a ledger; one that is not there is empty.

    path (Path): JSON lines. Lines of earlier versions, with no link to the one before, may
        stand at the beginning.
    RAISES (OpenMedError): It cannot be read.
    """
    try:
        return _parse(path.read_bytes())
    except FileNotFoundError:
        return Contents([], [], [])
    except OSError as error:
        raise _unusable(path, error) from error


def verify(path: Path) -> list[str]:
    """Where a ledger was tampered with.

    RETURNS (list[str]): Empty if every line follows the one it was written after.
    RAISES (OpenMedError): It cannot be read.
    """
    return read(path).faults


def check(path: Path, at: Subject, reason: str | None = None) -> Contents:
    """Refuse a further look at test, before anything is measured.

    at (Subject): What is to be looked at. Only looks at test are limited.
    reason (str | None): Why to look again.
    RETURNS (Contents): What the ledger says so far.
    RAISES (OpenMedError): There was a look already, or lines are missing, and no reason is
        given; or the ledger cannot be written.
    """
    with _locked(path) as file:
        contents = _parse(file.read())
        _refuse(path, contents, at, reason)
        return contents


def record(path: Path, at: Subject, result: dict[str, Any], reason: str | None = None) -> Entry:
    """Add a look. It is on disk when this returns: show no figure before.

    path (Path): The ledger; made if it is not there.
    at (Subject): What was looked at.
    result (dict): What was measured: see ``evaluate``, with "adapter", "backbone", "edges".
        The whole of it is kept, so that a file with it can be written again.
    reason (str | None): Why test was looked at again; not kept where there is no need of one.
    RETURNS (dict): The entry.
    RAISES (OpenMedError): As ``check``: another process may have looked since.
    """
    with _locked(path) as file:
        data = file.read()
        contents = _parse(data)
        needed = _refuse(path, contents, at, reason)
        entry = {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "dataset": at.dataset,
            "split": at.split,
            "look": len(contents.looks(at)) + 1,
            "reason": reason if needed else None,
            "adapter": result["adapter"],
            "backbone": {key: result["backbone"][key] for key in ("id", "sha256")},
            "edges": result["edges"],
            "data": dict(at.files),
            "raw_sha256": at.raw_sha256,
            "raw_f1": result["raw"]["f1"],
            "conll_f1": result["conll"]["f1"] if "conll" in result else None,
            "spacy_openmed": __version__,
            "result": result,
            "previous": _sha256(_lines(data)[-1] + b"\n" if data else b""),
        }
        # A torn line is left as it is, for nothing is ever taken out; it only gets its end.
        start = b"\n" if data and not data.endswith(b"\n") else b""
        file.write(start + json.dumps(entry).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return entry


def _refuse(path: Path, contents: Contents, at: Subject, reason: str | None) -> bool:
    """Whether a reason is needed; refuses if it is, and there is none."""
    earlier = contents.looks(at)
    if at.split != TEST or not (earlier or contents.faults):
        return False
    if reason is not None and reason.strip():
        return True
    advice = "To look all the same, give --again REASON; the reason is recorded."
    if not earlier:
        raise OpenMedError(
            f"{path} is not as it was written ({'; '.join(contents.faults)}), so nobody can tell "
            f"whether test of '{at.dataset}' was looked at. {advice}"
        )
    last = earlier[-1]
    times = "once" if len(earlier) == 1 else f"{len(earlier)} times, the last time"
    raise OpenMedError(
        f"Test of '{at.dataset}' was looked at {times} on {last.get('time')} with adapter "
        f"{last.get('adapter')} ({path}). What is chosen after a look at test is chosen on test: "
        f"choose with --split dev. {advice}"
    )


def _parse(data: bytes) -> Contents:
    contents = Contents([], [], [])
    linked = False
    before = b""
    for number, line in enumerate(_lines(data), 1):
        entry = _entry(line)
        if entry is None:
            contents.torn.append(number)
        else:
            contents.entries.append(entry)
            contents.lines.append((number, _sha256(line + b"\n")))
            if "previous" in entry:
                right = entry["previous"] == _sha256(before)
            else:
                right = not linked and not contents.torn
            if not right:
                contents.faults.append(f"line {number} does not follow the line before it")
            linked = linked or "previous" in entry
        before = line + b"\n"
    return contents


def _lines(data: bytes) -> list[bytes]:
    return data.removesuffix(b"\n").split(b"\n") if data else []


def _entry(line: bytes) -> Entry | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _is_evaluation(result: object) -> bool:
    # Lines of earlier versions have no result, and are all of ``evaluate``.
    return not isinstance(result, dict) or _OTHERWISE.isdisjoint(result)


def _sha256(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """The ledger at its beginning, for this process alone; what is written goes to its end."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            # What is written to a device or a pipe is not kept.
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OpenMedError(f"{path} is not a file: a ledger must be one.")
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            yield file
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> OpenMedError:
    return OpenMedError(
        f"{path}: the record of looks cannot be used ({error.strerror}). Choose another place "
        f"with --ledger or ${LEDGER}."
    )
