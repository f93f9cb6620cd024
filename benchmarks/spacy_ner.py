r"""spaCy's own ``ner`` (tok2vec, the CPU defaults of ``spacy init config``) on the same splits.

Trained on the corpus's tokens and sentences, the best step by dev kept, evaluated on dev and once
on test as our adapters are: raw F1 on the characters of raw text, with spaCy's tokenizer; CoNLL F1
on the corpus's tokens, of whole documents. Where the token file annotates other mentions than the
raw form it is trained on the raw form, with spaCy's tokenizer.

    python benchmarks/spacy_ner.py CORPORA ncbi --ledger benchmarks/results/suite/ledger.jsonl \
        --output benchmarks/results/suite/baselines/spacy-ner --work runs/spacy-ner
"""

import argparse
import hashlib
import importlib.metadata
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import spacy
from spacy.cli.init_config import init_config
from spacy.cli.train import train
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.util import filter_spans

from spacy_openmed.backbones import file_sha256
from spacy_openmed.corpora.documents import Document
from spacy_openmed.entities import Entity
from spacy_openmed.evaluation import evaluate, ledger, predictions
from spacy_openmed.evaluation.evaluate import Found, Split
from spacy_openmed.evaluation.ledger import TEST
from spacy_openmed.evaluation.predictions import Predictions
from spacy_openmed.files import write_json

SYSTEM = "spacy-ner"


def words(document: Document) -> list[str]:
    return [document.text[start:end] for start, end in document.tokens]


def sentences(nlp: Language, document: Document) -> Iterator[Doc]:
    """Gold docs, one a sentence."""
    tokens = document.tokens
    tags = ["O"] * len(tokens)
    for entity in document.entities:
        inside = [i for i, (a, b) in enumerate(tokens) if a < entity.end and b > entity.start]
        for number, i in enumerate(inside):
            tags[i] = f"{'I' if number else 'B'}-{entity.label}"
    every = words(document)
    for start, end in document.sentences or [(0, len(tokens))]:
        yield Doc(nlp.vocab, words=every[start:end], ents=tags[start:end])


def as_written(nlp: Language, document: Document) -> Doc:
    """A gold doc of raw text; of mentions on the same tokens the longest."""
    doc = nlp.make_doc(document.text)
    spans = [
        doc.char_span(e.start, e.end, label=e.label, alignment_mode="expand")
        for e in document.entities
    ]
    doc.ents = filter_spans([span for span in spans if span is not None])
    return doc


def is_raw_better(train_split: Split) -> bool:
    """Whether the token file annotates other mentions than the raw form."""
    edition = train_split.edition
    return edition is not None and not edition.same_mentions(train_split.split)


def gold(nlp: Language, split: Split, raw: bool) -> Iterator[Doc]:
    if raw:
        yield from (as_written(nlp, document) for document in split.raw)
    else:
        for document in split.conll or []:
            yield from sentences(nlp, document)


def train_on(train_split: Split, dev: Split, folder: Path, seed: int, raw: bool) -> float:
    """Train into ``folder/model-best``; seconds that it took.

    raw (bool): On the raw form instead of the corpus's tokens.
    """
    nlp = spacy.blank("en")
    folder.mkdir(parents=True, exist_ok=True)
    for name, split in (("train", train_split), ("dev", dev)):
        docs = DocBin(docs=gold(nlp, split, raw))
        docs.to_disk(folder / f"{name}.spacy")
    config = init_config(lang="en", pipeline=["ner"], optimize="efficiency", gpu=False)
    config.to_disk(folder / "config.cfg")
    begun = time.monotonic()
    train(
        folder / "config.cfg",
        folder,
        overrides={
            "paths.train": str(folder / "train.spacy"),
            "paths.dev": str(folder / "dev.spacy"),
            "system.seed": seed,
        },
    )
    return time.monotonic() - begun


def hash_of(pipeline: Path) -> str:
    """Of the weights of all its components."""
    files = sorted(pipeline.glob("*/model"))
    return hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()


def found(document: Document, doc: Doc, places: Sequence[tuple[int, int]]) -> Found:
    """Entities on the document's characters."""
    return Found(
        document.id, [Entity(places[e.start][0], places[e.end - 1][1], e.label_) for e in doc.ents]
    )


def look(nlp: Language, split: Split) -> tuple[list[Found], list[Found] | None]:
    raw = [
        found(document, doc, [(t.idx, t.idx + len(t)) for t in doc])
        for document, doc in zip(split.raw, nlp.pipe([d.text for d in split.raw]), strict=True)
    ]
    if split.conll is None:
        return raw, None
    docs = nlp.pipe(Doc(nlp.vocab, words=words(document)) for document in split.conll)
    return raw, [
        found(document, doc, document.tokens)
        for document, doc in zip(split.conll, docs, strict=True)
    ]


def measure(nlp: Language, split: Split, sha256: str) -> tuple[dict[str, Any], Predictions]:
    raw, conll = look(nlp, split)
    result = {
        **evaluate.figures(split, raw, conll),
        "adapter": sha256,
        "backbone": {"id": SYSTEM, "sha256": sha256},
        "edges": "token",
    }
    kept = Predictions(
        split.dataset, split.split, split.data, sha256, "token", [split.dataset], raw, conll
    )
    return {**result, "predictions": kept.sha256}, kept


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpora", type=Path)
    parser.add_argument("datasets", nargs="+")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="Gets the models")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--again",
        default="another system to compare with, whose settings were not chosen",
        help="Why test is looked at, for the ledger",
    )
    arguments = parser.parse_args()
    for dataset in arguments.datasets:
        path = arguments.output / f"{dataset}-{TEST}.json"
        if path.exists():
            print(f"{dataset}: {path} is there")
            continue
        folder = arguments.work / dataset
        splits = {
            name: evaluate.load(dataset, name, arguments.corpora) for name in ("train", "dev")
        }
        raw = is_raw_better(splits["train"])
        seconds = train_on(splits["train"], splits["dev"], folder, arguments.seed, raw)
        nlp = spacy.load(folder / "model-best")
        sha256 = hash_of(folder / "model-best")
        system = {
            "name": SYSTEM,
            "version": importlib.metadata.version("spacy"),
            "settings": "spacy init config --pipeline ner --optimize efficiency",
            "seed": arguments.seed,
            "trained_on": "raw text" if raw else "tokens",
            "seconds": round(seconds, 1),
        }
        for name in ("dev", TEST):
            split = splits.get(name) or evaluate.load(dataset, name, arguments.corpora)
            result, kept = measure(nlp, split, sha256)
            if name == TEST:
                ledger.record(
                    arguments.ledger,
                    ledger.subject(arguments.corpora, dataset, TEST),
                    result,
                    arguments.again,
                )
            target = arguments.output / f"{dataset}-{name}.json"
            predictions.write(kept, predictions.beside(target))
            write_json(target, {**result, "system": system})
            print(f"{dataset} {name}: raw {result['raw']['f1']:.2f}", end="")
            print(f", CoNLL {result['conll']['f1']:.2f}" if "conll" in result else "")


if __name__ == "__main__":
    main()
