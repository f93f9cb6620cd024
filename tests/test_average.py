"""The mean of several runs' adapters."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import LINEAR, make_network, write_pretraining

from spacy_openmed import adapters, backbones, network, pretraining
from spacy_openmed.adapters import Adapter, AdapterInfo
from spacy_openmed.corpora.documents import Document
from spacy_openmed.entities import Entity
from spacy_openmed.errors import OpenMedError
from spacy_openmed.inference import SharedBackbone
from spacy_openmed.network import TokenTagger
from spacy_openmed.training import lora
from spacy_openmed.training.average import average
from spacy_openmed.training.settings import LoraSettings

DEV = [Document("1", "BRCA1 mutations raise the risk of ovarian cancer.", [Entity(34, 48, "X")])]
RECORD = {
    "settings": {"optim": {"seed": 1}},
    "epochs": [],
    "seconds": 2.0,
    "dev": {"f1": 50.0},
    "init_adapter": "aa",
    "data": {"train": "bb", "dev": "cc"},
}


@pytest.fixture(scope="module")
def base(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pretraining(tiny_backbone, tmp_path_factory.mktemp("average") / "base", 3)


def write_run(
    folder: Path, backbone: Path, base: Path | None, seed: int, alpha: int = 8, **changes: Any
) -> Path:
    """An adapter of random weights, on a merged pre-training adapter if there is one."""
    tagger = make_network(backbone, 3, alpha=alpha, seed=seed)
    info = AdapterInfo("", ("X",), backbones.reference(str(backbone)), 32, 8)
    card = {adapters.TRAINING: json.dumps({**RECORD, **changes})}
    if base is not None:
        found = pretraining.read(base)
        encoder = backbones.load_encoder(backbone)
        pretraining.merge(encoder, found)
        shape = LoraSettings(4, alpha, 0.0, LINEAR)
        built = TokenTagger(lora.wrap(encoder, shape), 3, pretraining=found)
        network.load_lora(built.encoder, network.to_adapter(tagger, info).lora)
        built.head.load_state_dict(tagger.head.state_dict())
        tagger = built.eval()
    adapters.write(network.to_adapter(tagger, info, card=card), folder)
    return folder


def updates(adapter: Adapter) -> dict[str, torch.Tensor]:
    return {delta.path: delta.matrix() for delta in adapter.deltas()}


def test_on_merged_weights_the_updates_are_averaged(
    tiny_backbone: Path, base: Path, tmp_path: Path
) -> None:
    folders = [write_run(tmp_path / str(i), tiny_backbone, base, i) for i in range(3)]
    record = average(folders, DEV, tmp_path / "mean")
    parts = [adapters.read(folder) for folder in folders]
    mean = adapters.read(tmp_path / "mean" / "adapter")
    assert mean.lora_config["r"] == 12 and mean.info.pretraining == parts[0].info.pretraining
    found = updates(mean)
    for path, matrix in found.items():
        expected = torch.stack([updates(part)[path] for part in parts]).mean(0)
        torch.testing.assert_close(matrix, expected, atol=1e-5, rtol=1e-4)
    assert len(found) == len(updates(parts[0]))
    torch.testing.assert_close(mean.weight, torch.stack([p.weight for p in parts]).mean(0))
    bias = torch.stack([p.bias for p in parts]).mean(0)
    bias[0] += record["outside_bias"]
    torch.testing.assert_close(mean.bias, bias)
    assert record["seconds"] == 6.0 and len(record["averaged"]) == 3
    # And it runs: what the mean of the weights gives is not the mean of the logits.
    ids = np.arange(5, 15)[None]
    assert np.isfinite(SharedBackbone(tiny_backbone).logits(mean, ids, np.ones_like(ids))).all()


def test_a_smaller_rank_is_the_nearest(tiny_backbone: Path, base: Path, tmp_path: Path) -> None:
    folders = [write_run(tmp_path / str(i), tiny_backbone, base, i) for i in range(3)]
    average(folders, DEV, tmp_path / "all")
    record = average(folders, DEV, tmp_path / "few", rank=5)
    whole, few = (adapters.read(tmp_path / name / "adapter") for name in ("all", "few"))
    assert record["rank"] == few.lora_config["r"] == 5
    for path, matrix in updates(few).items():
        u, values, v = torch.linalg.svd(updates(whole)[path], full_matrices=False)
        nearest = (u[:, :5] * values[:5]) @ v[:5]
        torch.testing.assert_close(matrix, nearest, atol=1e-3, rtol=1e-2)
    same = average(folders, DEV, tmp_path / "more", rank=50)
    assert same["rank"] == whole.lora_config["r"]


def test_an_average_among_the_parts_brings_its_runs(
    tiny_backbone: Path, base: Path, tmp_path: Path
) -> None:
    folders = [write_run(tmp_path / str(i), tiny_backbone, base, i) for i in range(3)]
    first = average(folders[:2], DEV, tmp_path / "two", rank=4)
    assert [run["share"] for run in first["averaged"]] == [0.5, 0.5]
    record = average([tmp_path / "two" / "adapter", folders[2]], DEV, tmp_path / "three")
    assert [run["share"] for run in record["averaged"]] == [0.25, 0.25, 0.5]
    hashes = [adapters.content_hash(adapters.read(folder)) for folder in folders]
    assert [run["adapter"] for run in record["averaged"]] == hashes
    assert record["seconds"] == 6.0
    biases = [float(bias) for bias in record["outside_biases_tried"]]
    assert record["outside_bias"] - first["outside_bias"] / 2 in biases
    with pytest.raises(OpenMedError, match="in two of these averages"):
        average([tmp_path / "two" / "adapter", folders[0]], DEV, tmp_path / "twice")
    mean = updates(adapters.read(tmp_path / "three" / "adapter"))
    parts = [updates(adapters.read(f)) for f in (tmp_path / "two" / "adapter", folders[2])]
    for path, matrix in mean.items():
        expected = (parts[0][path] + parts[1][path]) / 2
        torch.testing.assert_close(matrix, expected, atol=1e-5, rtol=1e-4)


def test_of_runs_that_went_on_a_and_b_are_averaged(tiny_backbone: Path, tmp_path: Path) -> None:
    folders = [write_run(tmp_path / str(i), tiny_backbone, None, i) for i in range(2)]
    average(folders, DEV, tmp_path / "mean")
    parts = [adapters.read(folder) for folder in folders]
    mean = adapters.read(tmp_path / "mean" / "adapter")
    assert mean.lora_config["r"] == 4
    for name, tensor in mean.lora.items():
        expected = torch.stack([part.lora[name].float() for part in parts]).mean(0)
        torch.testing.assert_close(tensor.float(), expected, atol=1e-3, rtol=1e-3)


def test_runs_that_are_not_alike_are_refused(
    tiny_backbone: Path, base: Path, tmp_path: Path
) -> None:
    one = write_run(tmp_path / "one", tiny_backbone, base, 1)
    with pytest.raises(OpenMedError, match="at least two"):
        average([one], DEV, tmp_path / "mean")
    other = write_run(tmp_path / "plain", tiny_backbone, None, 1)
    with pytest.raises(OpenMedError, match="started apart"):
        average([one, other], DEV, tmp_path / "mean")
    other = write_run(tmp_path / "alpha", tiny_backbone, base, 1, alpha=16)
    with pytest.raises(OpenMedError, match="started apart"):
        average([one, other], DEV, tmp_path / "mean")
    data = {"train": "dd", "dev": "cc"}
    other = write_run(tmp_path / "data", tiny_backbone, base, 1, data=data)
    with pytest.raises(OpenMedError, match="started apart"):
        average([one, other], DEV, tmp_path / "mean")
    config = json.loads((one / "adapter_config.json").read_text())
    (one / "adapter_config.json").write_text(json.dumps({**config, "use_rslora": True}))
    with pytest.raises(OpenMedError, match="linear layers only"):
        average([one, one], DEV, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
