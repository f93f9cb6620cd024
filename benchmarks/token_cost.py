"""Annotated mentions that lie exactly on spaCy's tokens, before and after splitting."""

import argparse
from pathlib import Path

import spacy
from common import report

from spacy_openmed.alignment import ALIGNMENTS, align
from spacy_openmed.corpora.folder import corpus_file
from spacy_openmed.corpora.formats import jsonl
from spacy_openmed.labelling import outermost

DATASETS = ["ncbi", "bc5cdr-chem", "bc5cdr-disease", "s800", "linnaeus", "bionlp13cg"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    nlp = spacy.blank("en")
    nlp.max_length = 10_000_000
    rows = []
    for name in DATASETS:
        documents = list(
            jsonl.read(corpus_file(arguments.corpora, name, arguments.split, ".jsonl"))
        )
        gold = [outermost(d.entities) for d in documents]
        row = {"dataset": name, "mentions": sum(map(len, gold))}
        for mode in ALIGNMENTS:
            exact = 0
            for document, entities in zip(documents, gold, strict=True):
                doc = nlp.make_doc(document.text)
                placed = {(s.start_char, s.end_char) for s, _ in align(doc, entities, mode)}
                exact += len(placed & {(e.start, e.end) for e in entities})
            row[f"percent, {mode}"] = 100 * exact / max(1, row["mentions"])
        rows.append(row)
    report(rows, arguments.json, split=arguments.split)


if __name__ == "__main__":
    main()
