"""The network alone on packed batches: no tokenising, no decoding, no entities."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measure import Prepare, Run, serve


def load(job: dict[str, Any]) -> Prepare:
    import torch
    from transformers import AutoModelForTokenClassification

    from spacy_openmed import backbones, engine
    from spacy_openmed.engine.threads import divide, side_by_side
    from spacy_openmed.windows import cut, encode_batch, pad, special_tokens

    folder = Path(job["checkpoint"])
    model: Any = AutoModelForTokenClassification.from_pretrained(folder)
    encoder = model.eval().requires_grad_(False).base_model
    forward = engine.build(encoder, job["options"]["precision"])
    tokenizer = backbones.load_tokenizer(folder)
    special = special_tokens(tokenizer, encoder.config.pad_token_id or 0)

    def prepare(texts: Sequence[str]) -> Run:
        windows = [
            encoding.ids[start:end]
            for encoding in encode_batch(texts, tokenizer)
            for start, end in cut(len(encoding), job["window"] - special.count, job["overlap"])
        ]
        lengths = [len(window) + special.count for window in windows]
        workers, divided = divide(lengths, job["options"]["batch_wordpieces"])
        batches = [
            [torch.from_numpy(array) for array in pad([windows[i] for i in batch], special)]
            for batch in divided
        ]

        def one(batch: list[torch.Tensor]) -> None:
            with torch.inference_mode():
                forward(*batch)

        def run() -> None:
            side_by_side(one, batches, workers)

        return run

    return prepare


if __name__ == "__main__":
    serve(load, ["torch"])
