"""Adapters to try the component with, and its annotation, robustness and training."""

from pathlib import Path

import pytest
import spacy
import torch

from spacy_openmed import adapters, backbones
from spacy_openmed.adapters import AdapterInfo
from spacy_openmed.network import TokenTagger, to_adapter
from spacy_openmed.tagger import LINEAR_LAYERS
from spacy_openmed.training.lora import wrap
from spacy_openmed.training.settings import LoraSettings

TEXT = (
    "Patients with hereditary breast and ovarian cancer carry BRCA1 mutations. CYP)-induced "
    "nephrotoxicity, leukemia\nand p53-deficient tumors of mice were treated with IL-2 therapy."
)


def make_adapter(
    backbone: Path, folder: Path, dataset: str = "ncbi", types=("DISEASE",), seed: int = 0
) -> Path:
    """An adapter folder with random weights that find something in most texts."""
    info = AdapterInfo(dataset, tuple(types), backbones.reference(str(backbone)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        lora = LoraSettings(rank=4, alpha=8, target_modules=LINEAR_LAYERS)
        tagger = TokenTagger(wrap(backbones.load_encoder(backbone), lora), len(info.labels))
        for name, parameter in tagger.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.3)
        torch.nn.init.normal_(tagger.head.weight, std=0.5)
    adapters.write(to_adapter(tagger, info), folder)
    return folder
