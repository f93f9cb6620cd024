"""The two trainers on the same documents: ``spacy train`` and ``spacy openmed train``.

Both start from the plain backbone and read whole documents only, so that what differs is the
machinery: batching, optimizer and schedule. F1 is raw, on dev.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import spacy
from common import report
from spacy.cli.train import train as spacy_train
from spacy.tokens import DocBin

from spacy_openmed.alignment import align
from spacy_openmed.corpora.documents import Document
from spacy_openmed.corpora.folder import corpus_file
from spacy_openmed.corpora.formats import jsonl
from spacy_openmed.corpora.registry import dataset as find_dataset
from spacy_openmed.evaluation.evaluate import raw_scores
from spacy_openmed.labelling import outermost
from spacy_openmed.training import settings
from spacy_openmed.training.finetune import finetune

CONFIGS = Path(__file__).parents[1] / "configs"


def to_spacy(documents: list[Document], path: Path) -> None:
    nlp = spacy.blank("en")
    docs = DocBin(store_user_data=False)
    for document in documents:
        doc = nlp.make_doc(document.text)
        spans = [span for span, _ in align(doc, outermost(document.entities), "split")]
        doc.set_ents(spans, default="outside")
        docs.add(doc)
    docs.to_disk(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--dataset", default="ncbi")
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    types = find_dataset(arguments.dataset).types
    train, dev = (
        list(jsonl.read(corpus_file(arguments.corpora, arguments.dataset, split, ".jsonl"), types))
        for split in ("train", "dev")
    )
    train = train[: arguments.documents]
    base = settings.load(settings.FinetuneSettings, "finetune-minilm")
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        to_spacy(train, folder / "train.spacy")
        to_spacy(dev, folder / "dev.spacy")
        for seed in arguments.seeds:
            begun = time.perf_counter()
            optim = replace(base.optim, seed=seed, epochs=float(arguments.epochs))
            chosen = replace(base, optim=optim, sentences=False, patience=arguments.epochs)
            record = finetune(train, dev, "minilm", folder / f"hf-{seed}", chosen)
            rows.append(row("spacy openmed train", seed, record["dev"]["f1"], begun))

            begun = time.perf_counter()
            steps = record["steps"]
            spacy_train(
                CONFIGS / "spacy-train.cfg",
                folder / f"spacy-{seed}",
                overrides={
                    "paths.train": str(folder / "train.spacy"),
                    "paths.dev": str(folder / "dev.spacy"),
                    "system.seed": seed,
                    "training.max_steps": steps,
                    "training.eval_frequency": steps // arguments.epochs,
                    "training.optimizer.learn_rate.initial_rate": optim.learning_rate,
                    "training.optimizer.learn_rate.warmup_steps": steps // 10,
                    "training.optimizer.learn_rate.total_steps": steps,
                },
            )
            nlp = spacy.load(folder / f"spacy-{seed}" / "model-best")
            pipe = nlp.get_pipe("openmed_ner")
            scores = raw_scores(lambda texts: pipe.predict([nlp.make_doc(t) for t in texts]), dev)  # noqa: B023
            rows.append(row("spacy train", seed, 100 * scores.micro.f1, begun))
    report(rows, arguments.json, dataset=arguments.dataset, documents=len(train))


def row(trainer: str, seed: int, f1: float, begun: float) -> dict[str, object]:
    return {
        "trainer": trainer,
        "seed": seed,
        "dev raw F1": f1,
        "minutes": (time.perf_counter() - begun) / 60,
    }


if __name__ == "__main__":
    main()
