"""Task adapters on top of a pre-training adapter that was merged into the backbone."""

import itertools
import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import make_network, write_pretraining
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForTokenClassification

from spacy_openmed import adapters, backbones, network, pretraining
from spacy_openmed.adapters import Adapter, AdapterInfo
from spacy_openmed.engine import bert
from spacy_openmed.errors import OpenMedError
from spacy_openmed.inference import SharedBackbone
from spacy_openmed.network import TokenTagger
from spacy_openmed.packaging.peft_export import export_peft
from spacy_openmed.training import lora
from spacy_openmed.training.settings import LoraSettings

LINEAR = r".*\.(query|key|value|dense)"


@pytest.fixture(scope="module")
def pretrained(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pretrained")
    return [write_pretraining(tiny_backbone, folder / str(i), i) for i in (1, 2)]


def task(backbone: Path, base: Path | None, seed: int) -> tuple[TokenTagger, Adapter]:
    """A network with random LoRA on a backbone that has, or has not, another one merged."""
    tagger = make_network(backbone, 3, seed=seed)
    if base is not None:
        encoder = backbones.load_encoder(backbone)
        found = pretraining.read(base)
        plain = network.to_adapter(tagger, info(backbone))
        pretraining.merge(encoder, found)
        built = TokenTagger(
            lora.wrap(encoder, LoraSettings(4, 8, 0.0, LINEAR)), 3, pretraining=found
        )
        network.load_lora(built.encoder, plain.lora)
        built.head.load_state_dict(tagger.head.state_dict())
        tagger = built.eval()
    return tagger, network.to_adapter(tagger, info(backbone))


def info(backbone: Path) -> AdapterInfo:
    return AdapterInfo("", ("DISEASE",), backbones.reference(str(backbone)))


def batch() -> tuple[np.ndarray, np.ndarray]:
    ids = np.random.default_rng(0).integers(5, 90, (3, 14))
    return ids, np.ones_like(ids)


def live(tagger: TokenTagger) -> np.ndarray:
    with torch.inference_mode():
        return tagger(*(torch.from_numpy(part) for part in batch())).numpy()


def test_adapters_with_and_without_take_turns(tiny_backbone: Path, pretrained: list[Path]) -> None:
    shared = SharedBackbone(tiny_backbone)
    before = {n: t.clone() for n, t in shared.encoder.state_dict().items()}
    tasks = [
        task(tiny_backbone, base, seed)
        for seed, base in enumerate([None, pretrained[0], pretrained[0], pretrained[1], None])
    ]
    expected = [live(tagger) for tagger, _ in tasks]
    for i in (0, 1, 2, 3, 4, 1, 3, 0, 2, 1):
        found = shared.logits(tasks[i][1], *batch())
        np.testing.assert_allclose(found, expected[i], atol=1e-4)
    far = [np.abs(a - b).max() for a in expected for b in expected if a is not b]
    assert min(far) > 0.01
    for name, tensor in shared.encoder.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_switch_that_is_stopped_half_way_is_made_anew(
    tiny_backbone: Path, pretrained: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [
        task(tiny_backbone, base, seed)
        for seed, base in enumerate([None, pretrained[0], pretrained[1], pretrained[1]])
    ]
    for before, stopped, after in itertools.product(range(4), repeat=3):
        shared = SharedBackbone(tiny_backbone)
        shared.logits(tasks[before][1], *batch())
        with monkeypatch.context() as patch:
            patch.setattr(bert, "linear", stop_after(3, bert.linear))
            if stopped != before:
                with pytest.raises(KeyboardInterrupt):
                    shared.logits(tasks[stopped][1], *batch())
        found = shared.logits(tasks[after][1], *batch())
        np.testing.assert_allclose(found, live(tasks[after][0]), atol=1e-4)


def stop_after(times: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, until Ctrl-C is pressed."""
    left = itertools.count(times, -1)

    def stopped(*arguments: Any) -> Any:
        if not next(left):
            raise KeyboardInterrupt
        return function(*arguments)

    return stopped


def test_adapters_on_equal_pretraining_need_not_share_it(
    tiny_backbone: Path, pretrained: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pipelines may each bring a copy: what is the same is not merged anew."""
    (_, one), (_, two) = (task(tiny_backbone, pretrained[0], seed) for seed in (1, 2))
    assert two.pretraining is not None
    two = replace(two, pretraining=replace(two.pretraining))
    shared = SharedBackbone(tiny_backbone)
    shared.logits(one, *batch())
    rebuilt: list[set[str]] = []
    monkeypatch.setattr(shared._engine, "rebuild", lambda paths, _: rebuilt.append(set(paths)))
    shared.logits(two, *batch())
    assert rebuilt == [{delta.path for delta in (*one.deltas(), *two.deltas())}]


def test_a_tied_decoder_keeps_its_weights(tiny_backbone: Path, pretrained: list[Path]) -> None:
    encoder = backbones.load_encoder(tiny_backbone)
    tied = encoder.get_input_embeddings().weight
    before = tied.detach().clone()
    pretraining.merge(encoder, pretraining.read(pretrained[0]))
    assert torch.equal(tied, before)
    assert not torch.equal(encoder.get_input_embeddings().weight, before)


def test_an_adapter_carries_what_is_not_installed(
    tiny_backbone: Path, pretrained: list[Path], tmp_path: Path
) -> None:
    tagger, adapter = task(tiny_backbone, pretrained[0], 5)
    adapters.write(adapter, tmp_path / "a")
    again = adapters.read(tmp_path / "a")
    assert again.info == adapter.info and again.info.pretraining
    assert adapters.content_hash(again) == adapters.content_hash(adapter)
    found = SharedBackbone(tiny_backbone).logits(again, *batch())
    np.testing.assert_allclose(found, live(tagger), atol=1e-4)


def test_an_adapter_refuses_to_run_without(
    tiny_backbone: Path,
    pretrained: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, adapter = task(tiny_backbone, pretrained[0], 5)
    adapters.write(adapter, tmp_path / "a")
    shutil.rmtree(tmp_path / "a" / "pretraining")
    with pytest.raises(OpenMedError, match=f"sha256 {adapter.info.pretraining}.* is not here"):
        adapters.read(tmp_path / "a")
    home = tmp_path / "home"
    monkeypatch.setenv("OPENMED_HOME", str(home))
    shutil.copytree(pretrained[1], home / "pretraining" / "other")
    with pytest.raises(OpenMedError, match="other"):
        adapters.read(tmp_path / "a")
    shutil.copytree(pretrained[0], home / "pretraining" / "mine")
    found = adapters.read(tmp_path / "a").pretraining
    assert found is not None and found.sha256 == adapter.info.pretraining


def test_shipped_ones_are_not_copied(
    tiny_backbone: Path,
    pretrained: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, adapter = task(tiny_backbone, pretrained[0], 5)
    monkeypatch.setattr(pretraining, "SHIPPED", pretrained[0].parent)
    adapters.write(adapter, tmp_path / "a")
    assert not (tmp_path / "a" / "pretraining").exists()
    assert adapters.read(tmp_path / "a").pretraining is pretraining.read(pretrained[0])
    assert pretraining.find(adapter.info.backbone) == pretrained[0]


@pytest.mark.parametrize("merged", [False, True])
def test_plain_peft_runs_the_export(
    tiny_backbone: Path, pretrained: list[Path], tmp_path: Path, merged: bool
) -> None:
    tagger, adapter = task(tiny_backbone, pretrained[0] if merged else None, 5)
    adapter = replace(adapter, info=replace(adapter.info, temperature=2.0))
    export_peft(adapter, tmp_path / "out")
    labels = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert labels["id2label"] == {"0": "O", "1": "B-DISEASE", "2": "I-DISEASE"}
    plain = AutoModelForTokenClassification.from_pretrained(
        str(tiny_backbone), num_labels=labels["num_labels"]
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*missing.*")
        model = PeftModel.from_pretrained(plain, str(tmp_path / "out")).eval()
    ids, mask = (torch.from_numpy(part) for part in batch())
    with torch.inference_mode():
        found = model(input_ids=ids, attention_mask=mask).logits.numpy()
    np.testing.assert_allclose(found, live(tagger) / 2.0, atol=1e-4)
    with pytest.raises(OpenMedError, match="exists"):
        export_peft(adapter, tmp_path / "out")


def test_another_one_beside_the_adapter_is_refused(
    tiny_backbone: Path, pretrained: list[Path], tmp_path: Path
) -> None:
    _, adapter = task(tiny_backbone, pretrained[0], 5)
    adapters.write(adapter, tmp_path / "a")
    shutil.copy(pretrained[1] / adapters.LORA_WEIGHTS, tmp_path / "a" / "pretraining")
    with pytest.raises(OpenMedError, match="the one beside it has"):
        adapters.read(tmp_path / "a")


def test_bad_folders_are_named(tiny_backbone: Path, pretrained: list[Path], tmp_path: Path) -> None:
    with pytest.raises(OpenMedError, match=r"not a pre-training adapter.*dapt\.json"):
        pretraining.read(tmp_path)
    shutil.copytree(pretrained[0], tmp_path / "cut")
    weights = tmp_path / "cut" / adapters.LORA_WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(OpenMedError, match="truncated"):
        pretraining.read(tmp_path / "cut")
    shutil.copytree(pretrained[0], tmp_path / "foreign")
    save_file({"x": torch.zeros(2)}, str(tmp_path / "foreign" / adapters.LORA_WEIGHTS))
    with pytest.raises(OpenMedError, match="neither an A nor a B"):
        pretraining.read(tmp_path / "foreign")
    other = backbones.BackboneRef("other", "00")
    with pytest.raises(OpenMedError, match="not for 'other'"):
        pretraining.verify_backbone(pretraining.read(pretrained[0]), other, "here")


def test_training_goes_on_from_an_adapter_with_one(
    tiny_backbone: Path, pretrained: list[Path]
) -> None:
    tagger, adapter = task(tiny_backbone, pretrained[0], 5)
    again = network.from_adapter(backbones.load_encoder(tiny_backbone), adapter).eval()
    np.testing.assert_allclose(live(again), live(tagger), atol=1e-5)
    assert network.to_adapter(again, adapter.info).pretraining is adapter.pretraining
