r"""Does the memory of ``nlp.pipe`` stay the same over very many abstracts?

Abstracts of a corpus, again and again; resident memory after every thousand.

    python benchmarks/flat_memory.py CORPORA --json benchmarks/results/flat_memory.json
"""

import argparse
import os
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import spacy
import torch
from common import report

from spacy_openmed.corpora.folder import read_split

STATUS = Path("/proc/self/statm")
EVERY = 1_000


def resident() -> float:
    """MB."""
    return int(STATUS.read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def abstracts(corpora: Path, dataset: str, documents: int) -> Iterator[str]:
    texts = [d.text for d in read_split(corpora, dataset, "dev")]
    # Numbered, as no text of a real stream comes again: what is kept by text would show.
    for number, text in enumerate(islice(cycle(texts), documents)):
        yield f"{text}\n{number}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--adapter", default="ncbi")
    parser.add_argument("--texts", default="bc5cdr-disease", help="Dataset whose dev is read")
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    nlp = spacy.blank("en")
    nlp.add_pipe("openmed_ner", config={"dataset": arguments.adapter})
    rows = []
    words = entities = 0
    begun = time.perf_counter()
    stream = nlp.pipe(abstracts(arguments.corpora, arguments.texts, arguments.documents))
    for number, doc in enumerate(stream, start=1):
        words += len(doc.text.split())
        entities += len(doc.ents)
        if number % EVERY == 0 or number == arguments.documents:
            row = {"documents": number, "resident, MB": resident(), "entities": entities}
            rows.append(row)
            print(row, flush=True)
    memory = [float(row["resident, MB"]) for row in rows]
    report(
        rows,
        arguments.json,
        threads=arguments.threads,
        words=words,
        seconds=round(time.perf_counter() - begun),
        after_first_mb=memory[0],
        most_mb=max(memory),
        last_mb=memory[-1],
    )


if __name__ == "__main__":
    main()
