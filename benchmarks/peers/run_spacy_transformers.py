"""The ``transformer`` of spacy-transformers on the same encoder: features, no entities.

It has no component that runs the head of a token classification checkpoint: its ``ner`` would be
trained anew on these features. What they cost is the least that such a pipeline costs.
"""

from collections.abc import Sequence
from typing import Any

from measure import Prepare, Run, serve


def load(job: dict[str, Any]) -> Prepare:
    import spacy

    nlp = spacy.blank("en")
    nlp.add_pipe(
        "transformer",
        config={
            "model": {
                "@architectures": "spacy-transformers.TransformerModel.v3",
                "name": job["checkpoint"],
                "get_spans": {
                    "@span_getters": "spacy-transformers.strided_spans.v1",
                    "window": 128,
                    "stride": 96,
                },
            }
        },
    )
    nlp.initialize()

    def prepare(texts: Sequence[str]) -> Run:
        def run() -> None:
            for _ in nlp.pipe(texts):
                pass

        return run

    return prepare


if __name__ == "__main__":
    serve(load, ["spacy-transformers", "spacy", "transformers", "torch"])
