"""Tiny token-classification checkpoints of random weights, in the forms that the hub has."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from spm import SENTENCES, train_sentencepiece

SCHEMES = {
    "bio": ("I-Gene", "O", "B-Gene", "B-Disease", "I-Disease"),
    "bioes": ("O", *(f"{letter}-{kind}" for kind in ("Gene", "Disease") for letter in "BIES")),
    "io": ("I-Gene", "I-Disease", "O"),
    "plain": ("O", "Gene", "Disease"),
}
ARCHITECTURES = ("bert", "electra", "roberta", "deberta-v2")
_SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    # As in conftest: neighbours must matter.
    "initializer_range": 0.3,
}


def make_checkpoint(
    folder: Path,
    backbone: Path,
    labels: Sequence[str] = SCHEMES["bio"],
    architecture: str = "bert",
    seed: int = 0,
    **settings: Any,
) -> Path:
    """Write a checkpoint; ``backbone`` lends its tokenizer to BERT and ELECTRA."""
    from transformers import AutoConfig, AutoModelForTokenClassification

    folder.mkdir(parents=True)
    pad = 1 if architecture == "roberta" else 0
    if architecture == "roberta":
        _byte_level_bpe(folder)
    elif architecture == "deberta-v2":
        # As the hub has it: no tokenizer.json.
        train_sentencepiece(folder / "spm.model")
        text = json.dumps({"do_lower_case": False, "vocab_type": "spm"})
        (folder / "tokenizer_config.json").write_text(text, encoding="utf8")
        settings = {
            "relative_attention": True,
            "position_buckets": 16,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            **settings,
        }
    else:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(backbone / name, folder / name)
    config = AutoConfig.for_model(
        architecture,
        **{
            "vocab_size": 700,
            "pad_token_id": pad,
            **_SMALL,
            "id2label": dict(enumerate(labels)),
            "label2id": {label: i for i, label in enumerate(labels)},
            **settings,
        },
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForTokenClassification.from_config(config)
        torch.nn.init.normal_(model.classifier.weight)
    model.save_pretrained(folder)
    return folder


def _byte_level_bpe(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.save(str(folder / "tokenizer.json"))
