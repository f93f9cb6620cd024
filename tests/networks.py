"""Small networks that several test files build."""

import json
from dataclasses import asdict
from pathlib import Path

import torch

from spacy_openmed import backbones, pretraining
from spacy_openmed.network import TokenTagger
from spacy_openmed.training.lora import wrap
from spacy_openmed.training.settings import LoraSettings

LINEAR = r".*\.(query|key|value|dense)"


def make_network(
    backbone: Path, labels: int, rank: int = 4, alpha: int = 8, seed: int = 0
) -> TokenTagger:
    """A network whose LoRA changes what the backbone says, unlike a fresh one."""
    lora = LoraSettings(rank, alpha, 0.0, LINEAR)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tagger = TokenTagger(wrap(backbones.load_encoder(backbone), lora), labels)
        with torch.no_grad():
            for name, parameter in tagger.named_parameters():
                if "lora_B" in name or name.startswith("head"):
                    parameter.normal_(std=0.2)
    return tagger.eval()


def write_pretraining(backbone: Path, folder: Path, seed: int) -> Path:
    """A pre-training adapter of random weights, word embeddings included."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        settings = LoraSettings(4, 8, 0.0, LINEAR, embedding_rank=2)
        model = wrap(backbones.load_encoder(backbone), settings)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(str(folder))
    record = {
        "backbone": backbones.reference(str(backbone)).to_dict(),
        "settings": {"lora": asdict(settings)},
    }
    (folder / pretraining.RECORD).write_text(json.dumps(record), encoding="utf8")
    return folder
