r"""How near the inference engine comes to what the machine can do, on abstracts.

From the product of two large matrices, through the encoder alone on packed batches, to
``nlp.pipe`` from text to ``doc.ents``; and the Hugging Face pipeline on the same merged weights.
All in one process, one after the other in every round; the medians count.

    python benchmarks/engine.py CORPORA --threads 2 --json benchmarks/results/engine.json
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import spacy
import torch
from common import report
from transformers import pipeline

from spacy_openmed import adapters, backbones
from spacy_openmed.corpora.folder import read_split
from spacy_openmed.engine import build
from spacy_openmed.engine.linear import product
from spacy_openmed.engine.threads import side_by_side
from spacy_openmed.inference import SharedBackbone
from spacy_openmed.packaging.hf_export import export_checkpoint
from spacy_openmed.windows import cut, encode_batch, pack, pad

# What runs gets the number of the round: it is put at the end of every text, because components
# remember the last texts that they have encoded.
Run = Callable[[int], object]
Multiply = Callable[[torch.Tensor, torch.Tensor], object]
# By PyTorch, as everybody does it, and as the engine does it.
PRODUCTS: dict[str, Multiply] = {
    "PyTorch": lambda a, b: torch.nn.functional.linear(a, b),
    "engine": lambda a, b: product(a, b, None),
}
# The pipeline of transformers is slower with larger batches: it pads each to its longest text.
HF_BATCHES = (1, 4, 8)


def ceiling(multiply: Multiply, dtype: torch.dtype, size: int = 2048) -> float:
    """GFLOP/s of a matrix product."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    times = []
    with torch.inference_mode():
        for _ in range(12):
            begun = time.perf_counter()
            multiply(a, b)
            times.append(time.perf_counter() - begun)
    return 2 * size**3 / min(times) / 1e9


def flops(encoder: Any, lengths: Sequence[int]) -> float:
    """Multiplications and additions of the matrix products, for windows of some lengths."""
    linear = sum(
        module.weight.numel()
        for name, module in encoder.named_modules()
        if isinstance(module, torch.nn.Linear) and ".layer." in f".{name}"
    )
    config = encoder.config
    attention = 2 * config.hidden_size * config.num_hidden_layers
    return sum(2.0 * length * (linear + attention * length) for length in lengths)


def batches(
    shared: SharedBackbone, texts: Sequence[str], budget: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    windows = [
        encoding.ids[start:end]
        for encoding in encode_batch(texts, shared.tokenizer)
        for start, end in cut(len(encoding), 256 - shared.special.count, 50)
    ]
    for batch in pack([len(window) + shared.special.count for window in windows], budget):
        ids, mask = pad([windows[i] for i in batch], shared.special)
        yield torch.from_numpy(ids), torch.from_numpy(mask)


def forward(encoder: Any, precision: str, packed: Sequence[tuple[Any, Any]], threads: bool) -> Run:
    """The encoder alone.

    threads (bool): Batches side by side, a thread each, as ``nlp.pipe`` has them; otherwise one
        after the other on all threads.
    """
    engine = build(encoder, precision)

    def one(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
        with torch.inference_mode():
            engine(*batch)

    def run(number: int) -> None:
        side_by_side(one, packed, torch.get_num_threads() if threads else 1)

    return run


def read(pipe: Any, texts: Sequence[str], size: int, number: int) -> None:
    pipe(numbered(texts, number), batch_size=size)


def piped(texts: Sequence[str], config: dict[str, Any]) -> tuple[Run, list[Any]]:
    nlp = spacy.blank("en")
    nlp.add_pipe("openmed_ner", config=config)
    found: list[Any] = []

    def run(number: int) -> None:
        found[:] = [
            {(e.start_char, e.end_char, e.label_) for e in doc.ents}
            for doc in nlp.pipe(numbered(texts, number))
        ]

    return run, found


def numbered(texts: Sequence[str], number: int) -> list[str]:
    return [f"{text}\n{number}" for text in texts]


def agreement(one: Sequence[set[Any]], other: Sequence[set[Any]]) -> float:
    """Percent of the entities of two that both have, as F1."""
    both = sum(len(a & b) for a, b in zip(one, other, strict=True))
    return 200 * both / max(1, sum(len(a) + len(b) for a, b in zip(one, other, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--adapter", default="ncbi")
    parser.add_argument("--texts", default="bc5cdr-disease", help="Dataset whose dev is read")
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budgets", type=int, nargs="+", default=[1024, 2048, 4096])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16", "int8"])
    parser.add_argument("--compiled", action="store_true", help="nlp.pipe by torch.compile, too")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    texts = [d.text for d in read_split(arguments.corpora, arguments.texts, "dev")]
    texts = texts[: arguments.limit]
    words = sum(len(text.split()) for text in texts)
    adapter = adapters.read(adapters.find(arguments.adapter))
    shared = SharedBackbone(backbones.find(adapter.info.backbone))
    runs: dict[str, Run] = {}
    found: dict[str, list[Any]] = {}
    for precision in arguments.precisions:
        for budget in arguments.budgets:
            packed = list(batches(shared, texts, budget))
            name = f"forward {precision} {budget}"
            runs[name] = forward(shared.encoder, precision, packed, threads=True)
        # Of the last and largest budget.
        name = f"{name}, one after the other"
        runs[name] = forward(shared.encoder, precision, packed, threads=False)
        name = f"nlp.pipe {precision}"
        config = {"dataset": arguments.adapter, "precision": precision}
        runs[name], found[name] = piped(texts, config)
        if arguments.compiled:
            name = f"{name}, compiled"
            runs[name], found[name] = piped(texts, {**config, "compile": True})
    lengths = [int(row.sum()) for _, mask in batches(shared, texts, 4096) for row in mask]
    work = flops(shared.encoder, lengths)
    with tempfile.TemporaryDirectory() as folder:
        export_checkpoint(adapter, Path(folder) / "model")
        plain = pipeline(
            "token-classification",
            model=str(Path(folder) / "model"),
            aggregation_strategy="first",
            stride=50,
            device="cpu",
        )
    for size in HF_BATCHES:
        runs[f"transformers {size}"] = partial(read, plain, texts, size)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    tops: dict[str, dict[str, float]] = {"fp32": {}, "bf16": {}}
    for number in range(arguments.rounds + 1):
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            for by, multiply in PRODUCTS.items():
                tops[name][by] = max(tops[name].get(by, 0.0), ceiling(multiply, dtype))
        for name, run in runs.items():
            begun = time.perf_counter()
            run(number)
            # The first round warms up.
            if number:
                seconds[name].append(time.perf_counter() - begun)
    first = found[f"nlp.pipe {arguments.precisions[0]}"]
    speed = {name: words / statistics.median(times) for name, times in seconds.items()}
    best = max(value for name, value in speed.items() if name.startswith("transformers"))
    rows = [
        {"what": name, "words/s": round(value), "transformers = 1": value / best}
        for name, value in speed.items()
    ]
    top = {name: max(values.values()) for name, values in tops.items()}
    fastest = {
        precision: max(
            value for name, value in speed.items() if name.startswith(f"forward {precision} ")
        )
        for precision in arguments.precisions
    }
    facts: dict[str, Any] = {
        "texts": len(texts),
        "words": words,
        "wordpieces": int(np.sum(lengths)),
        "threads": arguments.threads,
        "matrix_product_gflops": {
            name: {by: round(value) for by, value in values.items()}
            for name, values in tops.items()
        },
        "forward_of_matrix_product": {
            name: work * value / words / 1e9 / top[name]
            for name, value in fastest.items()
            if name in top
        },
        "pipe_of_forward": {
            name: speed[f"nlp.pipe {name}"] / value for name, value in fastest.items()
        },
        "entities_as_first_percent": {name: agreement(first, one) for name, one in found.items()},
    }
    for name, value in facts.items():
        print(f"{name}: {value}")
    report(rows, arguments.json, **facts)


if __name__ == "__main__":
    main()
