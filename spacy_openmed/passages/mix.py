"""The mix: passages of all sources, without repetitions and held-out text, sampled.

Read → cut → order by a hash of the text and the seed → take, one after the other, what is
neither held out nor a near duplicate of what was taken, until there is enough of each source.

The hash stands in for a random order that no order of files can change. Equal texts have
equal hashes and meet there. What a source has beyond what is wanted of it is not looked at,
so the index of what was taken grows with the mix and not with the sources.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tqdm

from ..corpora.problems import OnError, Skipped, stop
from ..errors import OpenMedError
from ..files import atomic_folder
from .buckets import Buckets
from .cutting import cut
from .held_out import HeldOut, split_files
from .inputs import expand
from .manifest import describe_input, gzip_lines, versions
from .near_duplicates import NearDuplicates
from .plain import NAMES as PLAIN_NAMES
from .settings import ALL, PassageSettings
from .sources import SOURCES, files, read
from .tokens import Wordpieces, Words

PASSAGES = "passages.txt.gz"
ORIGINS = "sources.txt.gz"
MANIFEST = "manifest.json"
# What can become of a text and its passages; all from too_short on add up to "passages".
STAGES = (
    "texts",
    "passages",
    "too_short",
    "too_long",
    "exact_duplicates",
    "not_needed",
    "held_out",
    "near_duplicates",
    "taken",
)

Counts = dict[str, dict[str, int]]

_WORD = re.compile(r"\w+")


def mix(
    inputs: Mapping[str, Sequence[Path]],
    output: Path,
    settings: PassageSettings | None = None,
    corpora: Path | None = None,
    held_out: Sequence[Path] = (),
    backbone: str | None = None,
    on_error: OnError = stop,
) -> dict[str, Any]:
    """Make a mix of passages for pre-training.

    Memory does not grow with the sources, but for a hundredth of their text. Scratch files of
    about twice the size of the text lie in the folder beside ``output`` that becomes it.

    inputs (Mapping[str, Sequence[Path]]): Files or folders of each source that there is:
        "pubmed", "arxiv", "mimic", "clinicaltrials", "text".
    output (Path): The folder to make, whole or not at all: passages.txt.gz with a passage a
        line, sources.txt.gz with SOURCE TAB ID for each, and manifest.json.
    settings (PassageSettings | None): The settings.
    corpora (Path | None): Folder of the annotated corpora; what shares text with any
        dev.jsonl or test.jsonl below it is left out.
    held_out (Sequence[Path]): Further text to keep out, one passage a line.
    backbone (str | None): Measure passages in wordpieces of this backbone; None: in words.
    on_error (OnError): Called with what is wrong with a record, which is then left out.
    RETURNS (dict): The manifest: settings, inputs with hashes, counts of each source at every
        stage (``STAGES``), what is missing of what was wanted, and hashes of the output.
    RAISES (OpenMedError): No source, ``output`` exists, or a file is not as it should be:
        names file, line or record, and reason.
    """
    settings = settings or PassageSettings()
    if output.exists():
        raise OpenMedError(f"{output} exists. Choose another folder.")
    found = {name: files(name, paths) for name, paths in inputs.items() if paths}
    if not found:
        raise OpenMedError(f"No source of text. Give files of at least one: {', '.join(SOURCES)}.")
    kept_out = [*(split_files(corpora) if corpora else ()), *expand(held_out, PLAIN_NAMES)]
    tokens = Wordpieces(backbone) if backbone else Words()
    if settings.max_tokens <= tokens.special:
        raise OpenMedError(f"max_tokens ({settings.max_tokens}) leaves no room for text.")
    counts = {name: dict.fromkeys(STAGES, 0) for name in SOURCES if name in found}
    index = HeldOut(kept_out)
    with atomic_folder(output) as part:
        with TemporaryDirectory(dir=part) as scratch:
            folder = Path(scratch)
            with Buckets(folder / "read") as candidates, Buckets(folder / "taken") as taken:
                for name in counts:
                    _collect(name, found[name], candidates, tokens, settings, counts, on_error)
                _take(candidates, taken, index, folder / "near.sqlite", settings, counts)
                outputs = _write(taken, part)
        manifest = {
            "settings": asdict(settings),
            **tokens.describe(),
            "inputs": {
                name: [describe_input(path, files(name, [path])) for path in inputs[name]]
                for name in counts
            },
            "held_out": {
                "runs": len(index),
                "files": [
                    {"folder": path.parent.name, **describe_input(path, [path])}
                    for path in kept_out
                ],
            },
            "counts": counts,
            "missing": _missing(counts, settings),
            "skipped": _skipped(on_error),
            "outputs": outputs,
            "versions": versions(),
        }
        text = json.dumps(manifest, indent=2, ensure_ascii=False)
        (part / MANIFEST).write_text(text + "\n", encoding="utf8")
    return manifest


def _collect(
    source: str,
    paths: Iterable[Path],
    candidates: Buckets,
    tokens: Words | Wordpieces,
    settings: PassageSettings,
    counts: Counts,
    on_error: OnError,
) -> None:
    """Cut the texts of a source, and keep what has the right length."""
    count = counts[source]
    # Sources in their own order: of equal texts that of the first one is kept.
    rank = str(SOURCES.index(source))
    longest = settings.max_tokens - tokens.special
    shortest = settings.min_tokens - tokens.special
    records = read(source, paths, settings, on_error)
    for record in tqdm.tqdm(records, f"reading {source}", unit=" texts", disable=None):
        count["texts"] += 1
        passages = cut(record.text, tokens, longest)
        count["passages"] += len(passages)
        for number, (passage, length) in enumerate(passages, 1):
            if length < shortest:
                count["too_short"] += 1
            elif length > longest:
                count["too_long"] += 1
            else:
                name = " ".join(record.id.split())
                name += f"#{number}" if len(passages) > 1 else ""
                candidates.add(_key(passage, settings.seed), rank, name, passage)


def _take(
    candidates: Buckets,
    taken: Buckets,
    held_out: HeldOut,
    scratch: Path,
    settings: PassageSettings,
    counts: Counts,
) -> None:
    """Go through the passages by their hashes, and take what is wanted."""
    quotas = asdict(settings.quotas)
    size, threshold = settings.near_duplicate_words, settings.near_duplicate_threshold
    with closing(NearDuplicates(scratch, size, threshold)) as near:
        bar = tqdm.tqdm(candidates.in_order(), "taking", len(candidates), disable=None)
        for key, equal in groupby(bar, key=lambda fields: fields[0]):
            (_, rank, name, passage), *others = equal
            for _, other_rank, *_ in others:
                counts[SOURCES[int(other_rank)]]["exact_duplicates"] += 1
            source = SOURCES[int(rank)]
            count = counts[source]
            if quotas[source] != ALL and count["taken"] >= quotas[source]:
                count["not_needed"] += 1
            elif held_out.shared(passage) >= settings.held_out_runs:
                count["held_out"] += 1
            elif not near.take(passage):
                count["near_duplicates"] += 1
            else:
                count["taken"] += 1
                taken.add(_next_key(key), source, name, passage)


def _write(taken: Buckets, folder: Path) -> dict[str, Any]:
    passages, origins = folder / PASSAGES, folder / ORIGINS
    with gzip_lines(passages) as texts, gzip_lines(origins) as names:
        for _, source, name, passage in taken.in_order():
            texts.write(passage)
            names.write(f"{source}\t{name}")
    return {PASSAGES: texts.describe(), ORIGINS: names.describe()}


def _key(passage: str, seed: int) -> bytes:
    """Equal for passages of the same words, letter case and punctuation ignored."""
    words = " ".join(_WORD.findall(passage.lower()))
    return blake2b(words.encode(), digest_size=16, key=str(seed).encode()).digest()


def _next_key(key: str) -> bytes:
    """For another order: in that of the first keys a source that has little left is rare at
    the beginning, where the others are taken, and alone at the end."""
    return blake2b(key.encode(), digest_size=16).digest()


def _missing(counts: Counts, settings: PassageSettings) -> dict[str, int]:
    """How many passages each source is short of what was wanted."""
    found = {
        name: getattr(settings.quotas, name) - count["taken"] for name, count in counts.items()
    }
    return {name: missing for name, missing in found.items() if missing > 0}


def _skipped(on_error: OnError) -> dict[str, Any]:
    if isinstance(on_error, Skipped):
        return {"count": on_error.count, "messages": on_error.messages}
    return {"count": 0, "messages": []}
