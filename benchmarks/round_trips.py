"""Does every mention of every corpus survive being written and read again, in every format?

    python benchmarks/round_trips.py CORPORA --json benchmarks/results/round_trips.json

Raw documents go through the formats that keep a text, documents of tokens through those that
keep tokens. A document that a format cannot hold is refused by its writer, and counted.
"""

import argparse
import tempfile
from collections import Counter
from pathlib import Path

from common import report
from tqdm import tqdm

from spacy_openmed.corpora import formats, registry
from spacy_openmed.corpora.documents import Document
from spacy_openmed.corpora.folder import SPLITS, corpus_file, installed
from spacy_openmed.corpora.formats import conll, jsonl
from spacy_openmed.errors import OpenMedError

RAW = {
    "jsonl": "a.jsonl",
    "pubtator": "a.pubtator",
    "bioc (XML)": "a.xml",
    "bioc (JSON)": "a.json",
    "brat": "brat",
    "docbin": "a.spacy",
}
TOKENS = {"conll": "a.conll", "rows": "a.parquet"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    names = [name for name in registry.datasets() if installed(arguments.corpus, name)]
    for name in tqdm(names):
        for kind, suffix, files in ((jsonl, ".jsonl", RAW), (conll, ".conll", TOKENS)):
            # A split at a time: jnlpba has a document in train and in test.
            splits = [
                list(kind.read(corpus_file(arguments.corpus, name, split, suffix)))
                for split in SPLITS
            ]
            for format_name, file in files.items():
                counts: Counter[str] = Counter()
                for documents in splits:
                    counts.update(measure(documents, file))
                rows.append({"dataset": name, "format": format_name, **counts})
    report(rows, arguments.json)


def measure(documents: list[Document], file: str) -> dict[str, int]:
    """Counts of one corpus in one format."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file
        name = "brat" if file == "brat" else None
        kept = holdable(documents, path, name)
        formats.write(kept, path, name)
        # brat returns documents in the order of file names.
        found = list(formats.read(path, name=name))
        by_id = {d.id: d for d in found} if unique(kept) else None
        counts = {
            "documents": len(documents),
            "refused": len(documents) - len(kept),
            "mentions": 0,
            "lost": 0,
            "moved_or_new": 0,
        }
        for index, document in enumerate(kept):
            one = by_id[document.id] if by_id is not None else found[index]
            wanted = {(document.text[e.start : e.end], *e[:3]) for e in document.entities}
            got = {(one.text[e.start : e.end], *e[:3]) for e in one.entities}
            counts["mentions"] += len(wanted)
            counts["lost"] += len(wanted - got)
            counts["moved_or_new"] += len(got - wanted)
    return counts


def holdable(documents: list[Document], path: Path, name: str | None) -> list[Document]:
    """Those that a format can hold."""
    try:
        formats.write(documents, path, name)
        return documents
    except OpenMedError:
        kept = []
    for document in documents:
        try:
            formats.write([document], path, name)
        except OpenMedError:
            continue
        kept.append(document)
    return kept


def unique(documents: list[Document]) -> bool:
    """Whether ids tell the documents apart."""
    return len({d.id for d in documents}) == len(documents)


if __name__ == "__main__":
    main()
