"""OpenMed's toolkit: its call for one text, its call for many, and its ONNX runtime."""

import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from measure import Entity, Prepare, Run, serve

QUANTISE = "import sys; from openmed.onnx.quantize_int8 import quantize_dynamic_int8 as quantise; "


def before(job: dict[str, Any]) -> None:
    """Quantise with OpenMed's own function, in a process whose memory is not the peer's."""
    if job["options"].get("onnx") == "int8":
        source = Path(job["checkpoint"], "onnx", "model.onnx")
        target = source.with_name("model_int8.onnx")
        if not target.is_file():
            command = [sys.executable, "-c", QUANTISE + "quantise(*sys.argv[1:])"]
            subprocess.run([*command, str(source), str(target)], check=True)


def plain(entities: Iterable[Any]) -> list[Entity]:
    return [(e.start, e.end, e.label) for e in entities]


def load(job: dict[str, Any]) -> Prepare:
    options = job["options"]
    if "onnx" in options:
        return load_onnx(job)
    if options["call"] == "analyze_text":
        return load_single(job)
    return load_batch(job)


def load_single(job: dict[str, Any]) -> Prepare:
    """As the README calls it: every call loads the model."""
    from openmed import OpenMedConfig, analyze_text

    config = OpenMedConfig(device="cpu")

    def prepare(texts: Sequence[str]) -> Run:
        return lambda: [
            plain(analyze_text(text, model_id=job["checkpoint"], config=config).entities)
            for text in texts
        ]

    return prepare


def load_batch(job: dict[str, Any]) -> Prepare:
    """As the README calls it for many texts, or without all that can be left out."""
    from openmed import BatchProcessor, OpenMedConfig

    lean = job["options"]["lean"]
    arguments: dict[str, Any] = {}
    if lean:
        arguments = {
            "aggregation_strategy": "first",
            "sentence_detection": False,
            "stride": job["overlap"],
        }
    processor = BatchProcessor(
        model_name=job["checkpoint"],
        config=OpenMedConfig(device="cpu", use_medical_tokenizer=not lean),
        continue_on_error=False,
        **arguments,
    )

    def prepare(texts: Sequence[str]) -> Run:
        return lambda: [
            plain(item.result.entities) for item in processor.process_texts(list(texts)).items
        ]

    return prepare


def load_onnx(job: dict[str, Any]) -> Prepare:
    import onnxruntime
    from openmed import load_onnx_model

    threads = onnxruntime.SessionOptions()
    threads.intra_op_num_threads = job["threads"]
    threads.inter_op_num_threads = 1
    model = load_onnx_model(
        job["checkpoint"], variant=job["options"]["onnx"], session_options=threads
    )

    def prepare(texts: Sequence[str]) -> Run:
        # Lengths and their limits are taken as they are by the other peers.
        return lambda: [
            plain(entities)
            for entities in model.predict_batch(
                list(texts), max_length=job["window"], stride=job["overlap"]
            )
        ]

    return prepare


if __name__ == "__main__":
    serve(load, ["openmed", "transformers", "torch", "onnxruntime"], before)
