"""The token classification pipeline of transformers."""

from collections.abc import Sequence
from typing import Any

from measure import Prepare, Run, serve


def load(job: dict[str, Any]) -> Prepare:
    import torch
    from transformers import pipeline

    options = job["options"]
    ner: Any = pipeline(
        "token-classification",
        model=job["checkpoint"],
        aggregation_strategy="first",
        stride=job["overlap"],
        device="cpu",
    )
    # The argument that does this has another name in every major version.
    ner.model.to({"fp32": torch.float32, "bf16": torch.bfloat16}[options["precision"]])

    def prepare(texts: Sequence[str]) -> Run:
        return lambda: [
            [(e["start"], e["end"], e["entity_group"]) for e in entities]
            for entities in ner(list(texts), batch_size=options["batch_size"])
        ]

    return prepare


if __name__ == "__main__":
    serve(load, ["transformers", "torch"])
