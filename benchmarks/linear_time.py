"""Time per word of ``openmed_ner`` on ever longer texts, as a ratio to the shortest.

    python benchmarks/linear_time.py --json benchmarks/results/linear_time.json

Short texts are timed often, each time another: the median counts.
"""

import argparse
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import spacy
import torch
from common import report

SENTENCES = [
    "A man of 54 years with type 2 diabetes mellitus and chronic kidney disease was admitted.",
    "Echocardiography showed dilated cardiomyopathy, but no sign of endocarditis.",
    "His brother carries a BRCA2 variant and had been treated for prostate cancer.",
    "After four weeks the patient was discharged on metformin, ramipril and bisoprolol.",
]
# Words that each length is timed on, unless one text alone has more.
TIMED = 100_000


def text(words: int, number: int) -> str:
    """So many words, the last of them a number: a text that was encoded before is remembered."""
    block = [word for sentence in SENTENCES for word in sentence.split()]
    return " ".join([*(block * (words // len(block) + 1))[: words - 1], str(number)])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="ncbi")
    parser.add_argument(
        "--words", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000, 5_000_000]
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    nlp = spacy.blank("en")
    nlp.max_length = 100_000_000
    pipe = nlp.add_pipe("openmed_ner", config={"dataset": arguments.dataset})
    pipe(nlp.make_doc(text(arguments.words[0], -1)))
    rows: list[dict[str, Any]] = []
    for length in arguments.words:
        seconds = []
        for number in range(max(1, TIMED // length)):
            doc = nlp.make_doc(text(length, number))
            begun = time.perf_counter()
            doc = pipe(doc)
            seconds.append(time.perf_counter() - begun)
        rows.append(
            {
                "words": length,
                "tokens": len(doc),
                "entities": len(doc.ents),
                "last entity ends": doc.ents[-1].end_char / len(doc.text),
                "seconds": statistics.median(seconds),
                "us per word": 1e6 * statistics.median(seconds) / length,
                "peak memory, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                * 1024
                // 10**6,
            }
        )
    first = rows[0]["us per word"]
    for row in rows:
        row["ratio to first"] = row["us per word"] / first
    report(rows, arguments.json, threads=arguments.threads)


if __name__ == "__main__":
    main()
