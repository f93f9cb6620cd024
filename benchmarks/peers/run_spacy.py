"""Components of spaCy pipelines: ``openmed_ner``, and a folder that ``spacy train`` wrote."""

from collections.abc import Sequence
from typing import Any

from measure import Prepare, Run, serve


def load(job: dict[str, Any]) -> Prepare:
    import spacy

    options = job["options"]
    if "pipeline" in options:
        nlp = spacy.load(options["pipeline"])
    else:
        nlp = spacy.blank("en")
        nlp.add_pipe(
            "openmed_ner",
            config={"dataset": job["adapter"], "precision": options["precision"]},
        )

    def prepare(texts: Sequence[str]) -> Run:
        return lambda: [
            [(e.start_char, e.end_char, e.label_) for e in doc.ents] for doc in nlp.pipe(texts)
        ]

    return prepare


if __name__ == "__main__":
    serve(load, ["spacy", "thinc", "torch"])
