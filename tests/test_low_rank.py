"""Low-rank updates: equal to what PEFT itself merges."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, TaskType, get_peft_model
from peft.utils import get_peft_model_state_dict

from spacy_openmed import backbones, low_rank
from spacy_openmed.errors import OpenMedError
from spacy_openmed.training import lora
from spacy_openmed.training.settings import LoraSettings

LINEAR = r".*\.(query|key|value|dense)"


def random_peft(backbone: Path, config: LoraConfig) -> tuple[Any, dict[str, Any], Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = get_peft_model(backbones.load_encoder(backbone), config)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.2)
    return model, model.peft_config["default"].to_dict(), get_peft_model_state_dict(model)


@pytest.mark.parametrize(
    "options",
    [
        {"r": 4, "lora_alpha": 8},
        {"r": 4, "lora_alpha": 8, "use_rslora": True},
        {"r": 4, "lora_alpha": 8, "rank_pattern": {"query": 2}, "alpha_pattern": {"key": 3}},
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": rf"({LINEAR})|.*word_embeddings",
            "rank_pattern": {"word_embeddings": 2},
            "alpha_pattern": {"word_embeddings": 3.0},
        },
    ],
    ids=["plain", "rslora", "patterns", "embeddings"],
)
def test_updates_are_those_that_peft_merges(tiny_backbone: Path, options: dict[str, Any]) -> None:
    kwargs = {"target_modules": LINEAR, "task_type": TaskType.FEATURE_EXTRACTION, **options}
    model, config, tensors = random_peft(tiny_backbone, LoraConfig(**kwargs))
    low_rank.check(config, tensors, "here")
    ours = backbones.load_encoder(tiny_backbone)
    updates = list(low_rank.deltas(config, tensors))
    with torch.no_grad():
        for update in updates:
            ours.get_submodule(update.path).weight += update.matrix()
    merged = model.merge_and_unload().state_dict()
    plain = backbones.load_encoder(tiny_backbone).state_dict()
    changed = {name for name in merged if not torch.equal(merged[name], plain[name])}
    assert changed == {f"{update.path}.weight" for update in updates}
    for name, tensor in ours.state_dict().items():
        assert torch.allclose(tensor, merged[name], atol=1e-5), name


def test_settings_give_the_embeddings_a_rank_of_their_own(tiny_backbone: Path) -> None:
    settings = LoraSettings(rank=4, alpha=8, target_modules=LINEAR, embedding_rank=2)
    model = lora.wrap(backbones.load_encoder(tiny_backbone), settings)
    config = model.peft_config["default"].to_dict()
    updates = {u.path: u for u in low_rank.deltas(config, get_peft_model_state_dict(model))}
    embeddings = updates.pop("embeddings.word_embeddings")
    assert embeddings.b.shape[1] == embeddings.a.shape[0] == 2
    assert {u.a.shape[0] for u in updates.values()} == {4}
    assert {u.scale for u in updates.values()} | {embeddings.scale} == {2.0}


@pytest.mark.parametrize("change", ["drop b", "rank", "embedding rank", "bias"])
def test_matrices_that_do_not_fit_are_refused(tiny_backbone: Path, change: str) -> None:
    config = LoraConfig(r=4, target_modules=rf"({LINEAR})|.*word_embeddings")
    _, plain, tensors = random_peft(tiny_backbone, config)
    tensors = dict(tensors)
    if change == "drop b":
        del tensors[next(name for name in tensors if name.endswith("lora_embedding_B"))]
    elif change == "bias":
        tensors["base_model.model.pooler.bias"] = torch.zeros(3)
    else:
        plain["rank_pattern"] = {"query" if change == "rank" else "word_embeddings": 3}
    with pytest.raises(OpenMedError, match=r"adapter_model\.safetensors in here"):
        low_rank.check(plain, tensors, "here")


def test_several_updates_of_a_weight_at_once() -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 5)
    updates = [
        low_rank.Delta("x", torch.randn(rank, 5).half(), torch.randn(6, rank).half(), scale)
        for rank, scale in ((2, 0.5), (3, 2.0))
    ]
    before = weight.clone()
    found = low_rank.merged(weight, updates)
    torch.testing.assert_close(found, weight + sum(u.matrix() for u in updates))
    assert torch.equal(weight, before)
    assert low_rank.merged(weight, []) is weight
