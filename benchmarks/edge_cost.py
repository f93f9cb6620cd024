"""Mentions that a perfect model could not return, by where entities may begin and end.

Gold mentions are turned into wordpiece labels and decoded again; what does not come back is
lost to the decoding, whatever the model.
"""

import argparse
from pathlib import Path

import numpy as np
from common import report

from spacy_openmed import backbones
from spacy_openmed.corpora.folder import corpus_file
from spacy_openmed.corpora.formats import jsonl
from spacy_openmed.corpora.registry import dataset as find_dataset
from spacy_openmed.decoding import bio_labels, decode
from spacy_openmed.labelling import label_wordpieces, outermost
from spacy_openmed.windows import encode_batch

DATASETS = [
    "ncbi", "bc5cdr-chem", "bc5cdr-disease", "bc2gm", "jnlpba",
    "linnaeus", "s800", "anatem", "bionlp13cg", "cll",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--split", default="test")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    folder = backbones.find(backbones.reference(arguments.backbone))
    tokenizer = backbones.load_tokenizer(folder)
    rows = []
    for name in DATASETS:
        mapping = find_dataset(name).types
        path = corpus_file(arguments.corpora, name, arguments.split, ".jsonl")
        documents = list(jsonl.read(path, mapping))
        types = sorted(set(mapping.values()))
        ids = {label: i for i, label in enumerate(bio_labels(types))}
        gold = [outermost(d.entities) for d in documents]
        texts = [d.text for d in documents]
        encodings = encode_batch(texts, tokenizer)
        logits = []
        for encoding, entities in zip(encodings, gold, strict=True):
            labels = label_wordpieces(encoding, entities, ids)
            logits.append(20 * np.eye(len(ids), dtype=np.float32)[labels])
        row = {"dataset": name, "mentions": sum(map(len, gold))}
        for edges in ("word", "wordpiece"):
            found = decode(texts, encodings, logits, types, edges)
            lost = sum(
                len({e[:3] for e in wanted} - {e[:3] for e in got})
                for wanted, got in zip(gold, found, strict=True)
            )
            row[f"lost, {edges}"] = lost
            row[f"percent, {edges}"] = 100 * lost / max(1, row["mentions"])
        rows.append(row)
    report(rows, arguments.json, split=arguments.split, backbone=arguments.backbone)


if __name__ == "__main__":
    main()
