"""Small networks that several test files build."""

from pathlib import Path

import torch

from spacy_openmed import backbones
from spacy_openmed.network import TokenTagger
from spacy_openmed.training.lora import wrap
from spacy_openmed.training.settings import LoraSettings


def make_network(
    backbone: Path, labels: int, rank: int = 4, alpha: int = 8, seed: int = 0
) -> TokenTagger:
    """A network whose LoRA changes what the backbone says, unlike a fresh one."""
    lora = LoraSettings(rank, alpha, 0.0, r".*\.(query|key|value|dense)")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tagger = TokenTagger(wrap(backbones.load_encoder(backbone), lora), labels)
        with torch.no_grad():
            for name, parameter in tagger.named_parameters():
                if "lora_B" in name or name.startswith("head"):
                    parameter.normal_(std=0.2)
    return tagger.eval()
