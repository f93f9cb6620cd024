r"""What several adapters in one pipeline cost in memory and time, beside one.

In bulk, and one sentence after another, as a service is asked. Each in a process of its own, in
turns; the medians count. The one is each adapter in turn.

    python benchmarks/many_adapters.py CORPORA --json benchmarks/results/many_adapters.json
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import spacy
import torch
from common import report

from spacy_openmed import adapters
from spacy_openmed.corpora.folder import read_split

SENTENCES = 50
MEASURED = ("seconds", "peak", "entities", "sentence_ms", "sentences_peak")


def measure(
    corpora: Path, datasets: list[str], texts: str, limit: int, keep: bool
) -> dict[str, Any]:
    """In this process: sentence after sentence, then all in one pass.

    RETURNS (dict): Seconds of the pass and its entities, milliseconds a sentence, and peak memory
        in MB, after the sentences and after all.
    """
    nlp = spacy.blank("en")
    config = {"dataset": datasets if len(datasets) > 1 else datasets[0], "annotate": "spans"}
    nlp.add_pipe("openmed_ner", config={**config, "keep_merged": keep})
    inputs = [d.text for d in read_split(corpora, texts, "dev")][:limit]
    sentences = [text[: text.find(". ") + 1] or text for text in inputs]
    for sentence in sentences[:4]:
        nlp(sentence)
    times = []
    for sentence in sentences[4 : 4 + SENTENCES]:
        begun = time.perf_counter()
        nlp(sentence)
        times.append(time.perf_counter() - begun)
    sentences_peak = _peak()
    list(nlp.pipe(inputs[:8]))
    begun = time.perf_counter()
    found = sum(len(doc.spans["openmed"]) for doc in nlp.pipe(inputs))
    return {
        "seconds": time.perf_counter() - begun,
        "peak": _peak(),
        "entities": found,
        "sentence_ms": statistics.median(times) * 1000,
        "sentences_peak": sentences_peak,
    }


def _peak() -> float:
    """So far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def in_process(
    arguments: argparse.Namespace, datasets: list[str], keep: bool = False
) -> dict[str, Any]:
    command = [
        *(sys.executable, __file__, str(arguments.corpora), "--only", *datasets),
        *("--texts", arguments.texts, "--limit", str(arguments.limit)),
        *("--threads", str(arguments.threads)),
        *(["--keep"] if keep else []),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--texts", default="bc5cdr-disease", help="Dataset whose dev is read")
    parser.add_argument("--limit", type=int, default=256)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", nargs="+", help="These, in this process")
    parser.add_argument("--keep", action="store_true", help="With --only: keep_merged = True")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.only:
        found = measure(
            arguments.corpora, arguments.only, arguments.texts, arguments.limit, arguments.keep
        )
        print(json.dumps(found))
        return
    every = sorted(
        path.parent.parent.name for path in adapters.SHIPPED.glob(f"*/*/{adapters.INFO}")
    )
    rows: list[dict[str, Any]] = []
    together: list[dict[str, Any]] = []
    kept: list[dict[str, Any]] = []
    for number, dataset in enumerate(every):
        rows.append({"adapters": dataset, **in_process(arguments, [dataset])})
        # Among the single ones: the machine is not always as fast.
        if number % 5 == 0:
            together.append(in_process(arguments, every))
            kept.append(in_process(arguments, every, keep=True))
    one, most, most_kept = (
        {key: statistics.median(row[key] for row in measured) for key in MEASURED}
        for measured in (rows, together, kept)
    )
    rows += [
        {"adapters": "median of one", **one},
        {"adapters": f"all {len(every)}", **most},
        {"adapters": f"all {len(every)}, kept", **most_kept},
    ]
    report(
        rows,
        arguments.json,
        threads=arguments.threads,
        documents=arguments.limit,
        adapters=len(every),
        memory_ratio=most["peak"] / one["peak"],
        time_ratio=most["seconds"] / one["seconds"],
        sentence_ms={
            "one": one["sentence_ms"],
            "all": most["sentence_ms"],
            "all, kept": most_kept["sentence_ms"],
        },
        sentences_memory_ratio={
            "all": most["sentences_peak"] / one["sentences_peak"],
            "all, kept": most_kept["sentences_peak"] / one["sentences_peak"],
        },
    )
    print(f"memory {most['peak'] / one['peak']:.3f}, time {most['seconds'] / one['seconds']:.2f}")


if __name__ == "__main__":
    main()
