"""``hf_token_pipe`` of spacy-huggingface-pipelines."""

from collections.abc import Sequence
from typing import Any

from measure import Prepare, Run, serve


def load(job: dict[str, Any]) -> Prepare:
    import spacy

    nlp = spacy.blank("en")
    nlp.add_pipe(
        "hf_token_pipe",
        config={
            "model": job["checkpoint"],
            "stride": job["overlap"],
            "aggregation_strategy": "first",
            "kwargs": {"batch_size": job["options"]["batch_size"]},
        },
    )

    def prepare(texts: Sequence[str]) -> Run:
        return lambda: [
            [(e.start_char, e.end_char, e.label_) for e in doc.ents] for doc in nlp.pipe(texts)
        ]

    return prepare


if __name__ == "__main__":
    serve(load, ["spacy-huggingface-pipelines", "spacy", "transformers", "torch"])
