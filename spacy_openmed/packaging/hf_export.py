"""An adapter as a checkpoint that plain transformers runs."""

import json
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForTokenClassification, AutoTokenizer

from .. import backbones
from ..adapters import Adapter
from ..errors import OpenMedError
from ..files import atomic_folder

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
_SPECIAL = tuple(f"{name}_token" for name in ("unk", "sep", "pad", "cls", "mask", "bos", "eos"))


def export_checkpoint(adapter: Adapter, output: Path, onnx: bool = False) -> None:
    """Write an adapter, merged into its backbone, for ``AutoModelForTokenClassification``.

    adapter (Adapter): The adapter.
    output (Path): Gets weights, config, tokenizer and a card, whole or not at all.
    onnx (bool): Write ``onnx/model.onnx``, too.
    RAISES (OpenMedError): ``output`` exists, the backbone is not at hand, or transformers puts
        more than a linear layer on such an encoder.
    """
    if output.exists():
        raise OpenMedError(f"{output} exists. Choose another folder.")
    folder = adapter.find_backbone()
    model = merged(adapter, folder)
    with atomic_folder(output) as part:
        # One file, so that everything that reads safetensors reads it.
        model.save_pretrained(str(part), max_shard_size="100GB")
        # safetensors writes files that only their owner can read.
        (part / backbones.WEIGHTS).chmod(0o644)
        _write_tokenizer(folder, part, adapter.info.window)
        (part / "README.md").write_text(_card(adapter), encoding="utf8")
        if onnx:
            from .onnx_export import export_onnx

            export_onnx(model, part / "onnx" / "model.onnx")


def merged(adapter: Adapter, folder: Path) -> Any:
    """The network that inference runs, as one model of transformers, in fp32.

    folder (Path): The verified backbone.
    RETURNS (PreTrainedModel): In eval mode; the temperature is in its head.
    RAISES (OpenMedError): See ``export_checkpoint``.
    """
    labels = adapter.info.labels
    config = AutoConfig.from_pretrained(
        str(folder),
        local_files_only=True,
        trust_remote_code=False,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
    with torch.device("meta"):
        model: Any = AutoModelForTokenClassification.from_config(config)
    _check_head(model, adapter)
    encoder: Any = backbones.load_encoder(folder)
    base = adapter.pretraining.deltas() if adapter.pretraining else ()
    for delta in chain(base, adapter.deltas()):
        encoder.get_submodule(delta.path).weight.add_(delta.matrix())
    setattr(model, model.base_model_prefix, encoder)
    temperature = adapter.info.temperature
    model.classifier.weight = torch.nn.Parameter(adapter.weight.float() / temperature)
    model.classifier.bias = torch.nn.Parameter(adapter.bias.float() / temperature)
    return model.eval().requires_grad_(False)


def _check_head(model: Any, adapter: Adapter) -> None:
    """Refuse architectures whose head in transformers is more than a linear layer."""
    prefix = f"{model.base_model_prefix}."
    own = {n: tuple(p.shape) for n, p in model.named_parameters() if not n.startswith(prefix)}
    wanted = {
        "classifier.weight": tuple(adapter.weight.shape),
        "classifier.bias": tuple(adapter.bias.shape),
    }
    if own != wanted:
        raise OpenMedError(
            f"For a backbone of type '{model.config.model_type}' transformers puts "
            f"{', '.join(own)} on the encoder, where the adapter has one linear layer: no such "
            f"checkpoint computes what it does. 'spacy openmed package' writes a pipeline instead."
        )


def _write_tokenizer(folder: Path, part: Path, window: int) -> None:
    """Write the tokenizer so that transformers 4 and 5 load it, and load the same.

    By the name of its general class: from that of a model's, version 5 makes a tokenizer of its
    own out of the vocabulary, and version 4 does not know the names that version 5 writes.

    window (int): Without a limit the pipeline hands all of a long text to the network, which
        fails; with this one, and a ``stride``, it reads windows like those of training.
    """
    backbones.load_tokenizer(folder).save(str(part / TOKENIZER))
    original = AutoTokenizer.from_pretrained(
        str(folder), local_files_only=True, trust_remote_code=False
    )
    special = {name: getattr(original, name, None) for name in _SPECIAL}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": window,
        # Without token_type_ids, of which some models have none and the others need no other
        # than their default for a single text.
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        **{name: str(token) for name, token in special.items() if token is not None},
    }
    (part / TOKENIZER_CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf8")


def _card(adapter: Adapter) -> str:
    info = adapter.info
    calibrated = (
        f"A temperature of {info.temperature:.3f}, fitted on dev, is in the head."
        if info.temperature != 1
        else ""
    )
    if info.consistency is not None:
        calibrated += (
            " In spacy-openmed its mentions are also carried to the same words elsewhere in a "
            "text, which a checkpoint cannot say."
        )
    return f"""---
library_name: transformers
pipeline_tag: token-classification
{f"base_model: {info.backbone.hub_id}" if info.backbone.hub_id else "tags: [biomedical]"}
---

# {info.dataset or "Own annotations"} on {info.backbone.id}

A LoRA adapter and its head, merged into their backbone by spacy-openmed: {", ".join(info.types)}
as {", ".join(f"`{label}`" for label in info.labels)}. {calibrated}

```python
from transformers import pipeline

options = {{"aggregation_strategy": "simple", "stride": {info.overlap}}}
ner = pipeline("token-classification", "FOLDER", **options)
```

Without `stride` the pipeline drops what follows the first {info.window} wordpieces. It takes the
best label of each wordpiece; spacy-openmed, which runs this folder as well (`config={{"checkpoint":
"FOLDER"}}`), looks for the best sequence of labels on words.
"""
