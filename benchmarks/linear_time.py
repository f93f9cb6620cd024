"""Time per character of ``openmed_ner`` on ever longer texts, as a ratio to the shortest."""

import argparse
import time
from pathlib import Path

import spacy
import torch
from common import report

SENTENCES = [
    "A man of 54 years with type 2 diabetes mellitus and chronic kidney disease was admitted.",
    "Echocardiography showed dilated cardiomyopathy, but no sign of endocarditis.",
    "His brother carries a BRCA2 variant and had been treated for prostate cancer.",
    "After four weeks the patient was discharged on metformin, ramipril and bisoprolol.",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="ncbi")
    parser.add_argument("--characters", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    nlp = spacy.blank("en")
    nlp.max_length = 100_000_000
    pipe = nlp.add_pipe("openmed_ner", config={"dataset": arguments.dataset})
    block = " ".join(SENTENCES) + "\n"
    pipe(nlp.make_doc(block))
    rows = []
    for length in arguments.characters:
        doc = nlp.make_doc((block * (length // len(block) + 1))[:length])
        begun = time.perf_counter()
        doc = pipe(doc)
        seconds = time.perf_counter() - begun
        last = doc.ents[-1].end_char if doc.ents else 0
        rows.append(
            {
                "characters": length,
                "tokens": len(doc),
                "entities": len(doc.ents),
                "last entity ends": last,
                "seconds": seconds,
                "us per character": 1e6 * seconds / length,
            }
        )
    first = rows[0]["us per character"]
    for row in rows:
        row["ratio to first"] = row["us per character"] / first
    report(rows, arguments.json, threads=torch.get_num_threads())


if __name__ == "__main__":
    main()
