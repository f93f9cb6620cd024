"""Do some documents have the text of a known corpus's test, in whatever form?

Whoever measures on test by way of a file of their own, or trains on it, leaves no record. So a
sample of every test's runs of letters is kept, as hashes, and a file's own runs are looked up in
it. Labels, formats, tokens, letter case, order and the cutting into documents make no difference;
a changed word hides only the runs that it is in.

The hashes, ``fingerprints.json``, are made by ``spacy openmed corpora fingerprints``.

What passes: texts of other words; texts cut into pieces of fewer than ``LETTERS`` letters; a
few sentences, of which nothing may be sampled; less than ``PERCENT`` of both the file and the
test; and tests of which nothing is recorded (the official bc4chemd, fsu).
"""

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import registry
from .documents import Document
from .folder import corpus_file, installed
from .formats import jsonl

# About eight words: of fewer there are set phrases that many articles have.
LETTERS = 48
# One run of so many is kept: two in a paragraph, and a file of some 80 KB for all tests.
SAMPLED = 256
# From this share on a file has a test's text, or a test is in a file. Between any train or dev of
# the known corpora and any test it is 3 at most, so that corpora with a few common texts pass.
PERCENT = 20.0
# Fewer are chance, unless the file has no others.
AT_LEAST = 3

_FILE = Path(__file__).parent / "fingerprints.json"
# ASCII only: Greek and the like are written out in some forms of a text and not in others.
_DROPPED = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Shared:
    """What some documents have in common with a test.

    datasets (tuple[str, ...]): Ids; more than one where their tests have the same texts.
    of_documents (float): The share of the documents' text that is in that test, in percent.
    of_test (float): The share of that test's text that is in the documents, in percent.
    """

    datasets: tuple[str, ...]
    of_documents: float
    of_test: float

    def __str__(self) -> str:
        names = " and ".join(f"'{name}'" for name in self.datasets)
        return (
            f"test of {names} ({self.of_documents:.0f} percent of what is given, "
            f"{self.of_test:.0f} percent of that test)"
        )


def shared_with_test(documents: Sequence[Document]) -> Shared | None:
    """The test of a known corpus whose text makes up much of some documents, or is mostly there.

    Shares are of the runs of letters that are sampled.

    documents (Sequence[Document]): In any form and order.
    RETURNS (Shared | None): The one with the most; None if all are below ``PERCENT`` both ways,
        or have fewer than ``AT_LEAST`` sampled runs in common.
    """
    given = fingerprints(document.text for document in documents)
    found: dict[tuple[float, float], list[str]] = {}
    for name, known in _known().items():
        common = int(np.isin(known, given, assume_unique=True).sum())
        if common == 0 or common < min(AT_LEAST, len(given)):
            continue
        shares = 100 * common / len(given), 100 * common / len(known)
        if max(shares) >= PERCENT:
            found.setdefault(shares, []).append(name)
    if not found:
        return None
    shares = max(found)
    return Shared(tuple(found[shares]), *shares)


def fingerprints(texts: Iterable[str]) -> NDArray[np.uint32]:
    """Hashes of the sampled runs of ``LETTERS`` letters of texts, of each text by itself.

    Letters are ASCII letters and digits, in lower case, with nothing between them. The same on
    every machine and in every process. No text can be had back from them.

    RETURNS (uint32[n]): Sorted, without repetition.
    """
    found = [np.empty(0, dtype=np.uint32), *map(_sampled, texts)]
    return np.unique(np.concatenate(found))


def _sampled(text: str) -> NDArray[np.uint32]:
    letters = np.frombuffer(_DROPPED.sub("", text.lower()).encode("ascii"), dtype=np.uint8)
    count = len(letters) - LETTERS + 1
    if count < 1:
        return np.empty(0, dtype=np.uint32)
    wide = letters.astype(np.uint64)
    runs = np.zeros(count, dtype=np.uint64)
    for i in range(LETTERS):
        # A polynomial over the letters, modulo 2**64: their order counts.
        runs = runs * np.uint64(0x9E3779B97F4A7C15) + wide[i : i + count]
    # SplitMix64's last step. A polynomial's low bits are of low bits only, and would not sample
    # evenly.
    runs = (runs ^ (runs >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    runs = (runs ^ (runs >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    runs ^= runs >> np.uint64(31)
    # By other bits than those that are kept.
    sampled: NDArray[np.bool_] = (runs >> np.uint64(32)) % np.uint64(SAMPLED) == 0
    return runs[sampled].astype(np.uint32)


def of_folders(folders: Iterable[Path]) -> dict[str, NDArray[np.uint32]]:
    """The fingerprints of all tests in folders of prepared corpora, by dataset.

    RAISES (OpenMedError): What is wrong in a file.
    """
    texts: dict[str, list[str]] = {}
    for folder in folders:
        for name, dataset in registry.with_demos().items():
            if installed(folder, name):
                path = corpus_file(folder, name, "test", ".jsonl")
                read = jsonl.read(path, dataset.types)
                texts.setdefault(name, []).extend(document.text for document in read)
    return {name: fingerprints(texts[name]) for name in registry.with_demos() if name in texts}


def to_json(tests: Mapping[str, NDArray[np.uint32]]) -> str:
    """As ``fingerprints.json`` has them: a dataset a line, base64 of 4 bytes a hash, low first."""
    lines = {
        name: base64.b64encode(found.astype("<u4").tobytes()).decode("ascii")
        for name, found in tests.items()
    }
    return json.dumps(lines, indent=0) + "\n"


@cache
def _known() -> dict[str, NDArray[np.uint32]]:
    lines = json.loads(_FILE.read_text(encoding="utf8"))
    return {
        name: np.frombuffer(base64.b64decode(line), dtype="<u4").astype(np.uint32)
        for name, line in lines.items()
    }
