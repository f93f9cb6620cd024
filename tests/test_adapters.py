"""Adapter folders: written, read, refused, found."""

import dataclasses
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from networks import make_network

from spacy_openmed import adapters, backbones, network
from spacy_openmed.adapters import Adapter, AdapterInfo
from spacy_openmed.backbones import BackboneRef
from spacy_openmed.corpora.registry import datasets
from spacy_openmed.errors import OpenMedError
from spacy_openmed.files import atomic_folder

FILES = (adapters.INFO, adapters.LORA_CONFIG, adapters.LORA_WEIGHTS, adapters.HEAD)


pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def info(tiny_backbone: Path) -> AdapterInfo:
    ref = backbones.reference(str(tiny_backbone))
    return AdapterInfo("ncbi", ("DISEASE", "GENE"), ref, 128, 20, 1.25)


@pytest.fixture(scope="module")
def tagger(tiny_backbone: Path, info: AdapterInfo) -> network.TokenTagger:
    return make_network(tiny_backbone, len(info.labels))


@pytest.fixture(scope="module")
def adapter(tagger: network.TokenTagger, info: AdapterInfo) -> Adapter:
    card = {adapters.CARD: "# Karte für ncbi\n", adapters.TRAINING: '{"dev": {"f1": 50}}'}
    return network.to_adapter(tagger, info, card=card)


@pytest.fixture()
def folder(adapter: Adapter, tmp_path: Path) -> Path:
    adapters.write(adapter, tmp_path / "adapter")
    return tmp_path / "adapter"


def check_equal(found: Adapter, expected: Adapter) -> None:
    assert found.info == expected.info
    assert found.lora_config == expected.lora_config
    assert found.card == expected.card
    assert set(found.lora) == set(expected.lora)
    for name, tensor in expected.lora.items():
        assert found.lora[name].dtype == tensor.dtype
        assert torch.equal(found.lora[name], tensor)
    assert torch.equal(found.weight, expected.weight)
    assert torch.equal(found.bias, expected.bias)


def test_folder_round_trip(adapter: Adapter, folder: Path) -> None:
    check_equal(adapters.read(folder), adapter)
    assert {p.name for p in folder.iterdir()} == {*FILES, adapters.CARD, adapters.TRAINING}
    assert [p.name for p in folder.parent.iterdir()] == ["adapter"]


def test_bytes_round_trip(adapter: Adapter) -> None:
    files = adapters.to_files(adapter)
    again = adapters.from_files(files, "memory")
    check_equal(again, adapter)
    assert adapters.to_files(again) == files


def test_half_precision_is_kept(tagger: network.TokenTagger, info: AdapterInfo) -> None:
    half = network.to_adapter(tagger, info, dtype=torch.float16)
    again = adapters.from_files(adapters.to_files(half), "memory")
    assert {t.dtype for t in again.lora.values()} == {torch.float16}
    assert again.weight.dtype == torch.float32


def test_consistency_is_of_a_format_of_its_own(adapter: Adapter) -> None:
    assert "consistency" not in adapter.info.to_dict()
    carrying = dataclasses.replace(adapter.info, consistency=0.9)
    assert carrying.to_dict()["format"] == 3 > adapter.info.to_dict()["format"]
    assert AdapterInfo.from_dict(carrying.to_dict()) == carrying
    plain = adapters.unfitted(dataclasses.replace(carrying, temperature=2.0))
    assert plain == dataclasses.replace(adapter.info, temperature=1.0)


def test_writing_replaces_the_whole_folder(adapter: Adapter, folder: Path) -> None:
    (folder / "old.txt").touch()
    adapters.write(dataclasses.replace(adapter, card={}), folder)
    assert {p.name for p in folder.iterdir()} == set(FILES)


def test_adapter_is_a_copy_of_the_weights(tiny_backbone: Path, info: AdapterInfo) -> None:
    tagger = make_network(tiny_backbone, 5)
    copy = network.to_adapter(tagger, info)
    before = adapters.content_hash(copy)
    with torch.no_grad():
        for parameter in tagger.parameters():
            parameter.zero_()
    assert adapters.content_hash(copy) == before


def test_hash_is_of_weights_and_description_only(adapter: Adapter) -> None:
    before = adapters.content_hash(adapter)
    assert adapters.content_hash(dataclasses.replace(adapter, card={"README.md": "x"})) == before
    changed = dataclasses.replace(adapter.info, temperature=2.0)
    assert adapters.content_hash(dataclasses.replace(adapter, info=changed)) != before
    bias = adapter.bias.clone()
    bias[0] += 1
    assert adapters.content_hash(dataclasses.replace(adapter, bias=bias)) != before


def test_network_continues_from_an_adapter(
    tiny_backbone: Path, tagger: network.TokenTagger, adapter: Adapter
) -> None:
    again = network.from_adapter(backbones.load_encoder(tiny_backbone), adapter).eval()
    ids = torch.arange(6, 26)[None]
    mask = torch.ones_like(ids)
    with torch.no_grad():
        assert torch.equal(again(ids, mask), tagger(ids, mask))
    check_equal(network.to_adapter(again, adapter.info, card=adapter.card), adapter)


def test_peft_loads_the_folder_by_itself(
    tiny_backbone: Path, tagger: network.TokenTagger, folder: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModel

    plain = AutoModel.from_pretrained(tiny_backbone).eval()
    ids = torch.arange(6, 26).reshape(2, 10)
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    with torch.no_grad(), warnings.catch_warnings():
        # The pooler, whose "dense" matches too, and which tagging leaves out.
        warnings.filterwarnings("ignore", "Found missing adapter keys.*pooler")
        without = plain(input_ids=ids, attention_mask=mask)[0]
        loaded = PeftModel.from_pretrained(plain, str(folder)).eval()
        theirs = loaded(input_ids=ids, attention_mask=mask)[0]
        ours = tagger.encoder(input_ids=ids, attention_mask=mask)[0]
    assert not torch.allclose(without, ours, atol=0.1)
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)


def test_pooler_is_left_out(adapter: Adapter) -> None:
    assert not any("pooler" in name for name in adapter.lora)
    assert any("output.dense" in name for name in adapter.lora)


# What is refused


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(OpenMedError, match=f"{name}") as caught:
        adapters.read(folder)
    assert str(folder) in str(caught.value)


def test_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(OpenMedError, match="nowhere is not an adapter"):
        adapters.read(tmp_path / "nowhere")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.99])
def test_truncated_file_is_named(name: str, keep: float, folder: Path) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(OpenMedError, match=name) as caught:
        adapters.read(folder)
    assert str(folder) in str(caught.value)


def test_pickle_is_not_read(folder: Path) -> None:
    torch.save({"weight": torch.zeros(5, 32)}, folder / adapters.HEAD)
    with pytest.raises(OpenMedError, match=adapters.HEAD):
        adapters.read(folder)


def refuse(adapter: Adapter, match: str) -> None:
    with pytest.raises(OpenMedError, match=match) as caught:
        adapters.from_files(adapters.to_files(adapter), "some/folder")
    assert "some/folder" in str(caught.value)


@pytest.mark.parametrize(
    ("weight", "bias"),
    [((3, 32), (3,)), ((7, 32), (7,)), ((5, 32), (3,)), ((5,), (5,)), ((), ()), ((5, 32), (5, 1))],
)
def test_head_of_other_labels_is_refused(
    adapter: Adapter, weight: tuple[int, ...], bias: tuple[int, ...]
) -> None:
    head = {"weight": torch.zeros(weight), "bias": torch.zeros(bias)}
    refuse(dataclasses.replace(adapter, **head), r"head\.safetensors.*DISEASE, GENE need 5")


def test_head_without_bias_is_refused(adapter: Adapter) -> None:
    from safetensors.torch import save

    files = adapters.to_files(adapter) | {adapters.HEAD: save({"weight": adapter.weight})}
    with pytest.raises(OpenMedError, match=r"head\.safetensors in here has no bias"):
        adapters.from_files(files, "here")


def test_weights_of_another_rank_are_refused(adapter: Adapter) -> None:
    config = {**adapter.lora_config, "r": 8}
    refuse(dataclasses.replace(adapter, lora_config=config), r"adapter_model.*not rank 8")


def changed(adapter: Adapter, **tensors: torch.Tensor | None) -> Adapter:
    """With the first A and B replaced or left out."""
    lora = dict(adapter.lora)
    for half, tensor in tensors.items():
        name = next(n for n in lora if f"lora_{half}" in n)
        del lora[name]
        if tensor is not None:
            lora[name] = tensor
    return dataclasses.replace(adapter, lora=lora)


@pytest.mark.parametrize("half", ["A", "B"])
def test_unpaired_and_shapeless_matrices_are_refused(adapter: Adapter, half: str) -> None:
    refuse(changed(adapter, **{half: None}), r"adapter_model\.safetensors.*do not pair up")
    refuse(changed(adapter, **{half: torch.zeros(4)}), r"adapter_model\.safetensors.*\(4,\)")
    refuse(changed(adapter, **{half: torch.zeros(5, 5)}), r"adapter_model\.safetensors.*\(5, 5\)")


def test_no_matrices_and_other_tensors_are_refused(adapter: Adapter) -> None:
    refuse(dataclasses.replace(adapter, lora={}), r"adapter_model\.safetensors.*do not pair up")
    name = "base_model.model.embeddings.LayerNorm.bias"
    lora = {**adapter.lora, name: torch.zeros(32)}
    refuse(dataclasses.replace(adapter, lora=lora), rf"adapter_model\.safetensors.*{name}")


@pytest.mark.parametrize(
    "entry",
    [
        {"peft_type": "LOHA"},
        {"use_dora": True},
        {"modules_to_save": ["classifier"]},
    ],
)
def test_what_cannot_be_merged_is_refused(adapter: Adapter, entry: dict[str, object]) -> None:
    config = {**adapter.lora_config, **entry}
    refuse(dataclasses.replace(adapter, lora_config=config), r"adapter_config\.json.*plain LoRA")


def with_info(folder: Path, **entries: object) -> None:
    path = folder / adapters.INFO
    data = {**json.loads(path.read_text()), **entries}
    path.write_text(json.dumps({k: v for k, v in data.items() if v is not ...}))


@pytest.mark.parametrize("number", [max(adapters.FORMATS) + 1, 0, "1", None, ...])
def test_other_formats_are_refused(folder: Path, number: object) -> None:
    with_info(folder, format=number)
    with pytest.raises(OpenMedError, match=r"openmed\.json.*format.*Upgrade"):
        adapters.read(folder)


@pytest.mark.parametrize(
    "entry",
    [
        {"types": ...},
        {"types": 3},
        {"backbone": ...},
        {"backbone": "minilm"},
        {"window": "wide"},
        {"window": None},
        {"dataset": ...},
        {"temperature": "hot"},
    ],
)
def test_wrong_description_is_refused(folder: Path, entry: dict[str, object]) -> None:
    with_info(folder, **entry)
    with pytest.raises(OpenMedError, match=r"openmed\.json"):
        adapters.read(folder)


@pytest.mark.parametrize("name", [adapters.INFO, adapters.LORA_CONFIG])
def test_json_of_another_kind_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_text("[1, 2]")
    with pytest.raises(OpenMedError, match=name):
        adapters.read(folder)


@pytest.mark.parametrize("key", ["r", "lora_alpha"])
def test_config_without_scale_is_refused(adapter: Adapter, key: str) -> None:
    config = {k: v for k, v in adapter.lora_config.items() if k != key}
    refuse(dataclasses.replace(adapter, lora_config=config), rf"adapter_config\.json.*{key}")


def test_other_backbone_is_refused(adapter: Adapter) -> None:
    own = adapter.info.backbone
    adapters.verify_backbone(adapter, dataclasses.replace(own, id="another name"), "here")
    other = BackboneRef("minilm", "0" * 64)
    with pytest.raises(OpenMedError, match=f"{own.sha256}.*'minilm'.*{'0' * 64}"):
        adapters.verify_backbone(adapter, other, "here")


# find


@pytest.fixture()
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(adapters, "SHIPPED", tmp_path / "shipped")
    yield tmp_path / "shipped"


def ship(adapter: Adapter, place: Path, backbone: str, f1: float) -> None:
    info = dataclasses.replace(adapter.info, backbone=BackboneRef(backbone, "0" * 64))
    card = {adapters.TRAINING: json.dumps({"dev": {"f1": f1}})}
    adapters.write(dataclasses.replace(adapter, info=info, card=card), place)


def test_best_or_wanted_adapter_is_found(adapter: Adapter, shipped: Path) -> None:
    # Packages that this environment happens to have.
    installed = set(adapters.available())
    for backbone, f1 in (("one", 80.0), ("two", 90.0), ("three", 85.0)):
        ship(adapter, shipped / "cll" / backbone, backbone, f1)
    assert adapters.find("cll") == shipped / "cll" / "two"
    assert adapters.find("cll", "three") == shipped / "cll" / "three"
    assert set(adapters.available()) - installed == {"cll"}
    with pytest.raises(OpenMedError, match="'cll' and backbone 'four'") as caught:
        adapters.find("cll", "four")
    for part in ("en_openmed_cll (not installed)", "for backbone one", "for backbone two"):
        assert part in str(caught.value)


def test_unknown_dataset_lists_the_known_ones() -> None:
    with pytest.raises(OpenMedError, match="'ncbi-disease'") as caught:
        adapters.find("ncbi-disease")
    assert all(name in str(caught.value) for name in datasets())


@pytest.mark.parametrize("name", ["cll", "fsu"])
def test_no_adapter_says_what_was_tried_and_what_to_do(name: str, shipped: Path) -> None:
    with pytest.raises(OpenMedError) as caught:
        adapters.find(name)
    message = str(caught.value)
    for part in (
        f"package en_openmed_{name}",
        "ship with spacy_openmed",
        f"train --dataset {name}",
    ):
        assert part in message
    url = "https://julielab.de/downloads/resources/fsu_prge_release_v1_0.tgz"
    assert (url in message) == (name == "fsu")


def test_package_names() -> None:
    assert adapters.package_name("bc5cdr-chem") == "en_openmed_bc5cdr_chem"


# atomic_folder


@pytest.mark.parametrize("exists", [True, False])
def test_failure_leaves_the_target_as_it_was(tmp_path: Path, exists: bool) -> None:
    target = tmp_path / "target"
    if exists:
        target.mkdir()
        (target / "old").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_folder(target) as part:
        (part / "new").write_text("half")
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == (["target"] if exists else [])
    if exists:
        assert [(p.name, p.read_text()) for p in target.iterdir()] == [("old", "old")]


def test_target_keeps_its_old_content_until_the_end(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "target"
    with atomic_folder(target) as part:
        (part / "one").touch()
        assert not target.exists()
    with atomic_folder(target) as part:
        assert list(part.iterdir()) == []
        (part / "two").touch()
        assert [p.name for p in target.iterdir()] == ["one"]
    assert [p.name for p in target.iterdir()] == ["two"]
    assert [p.name for p in target.parent.iterdir()] == ["target"]
    assert target.stat().st_mode & 0o777 == 0o755


def test_failed_renaming_brings_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "old").touch()
    rename = Path.rename

    def fail_for_new(self: Path, to: Path) -> Path:
        if (self / "new").exists():
            raise OSError("disk on fire")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", fail_for_new)
    with pytest.raises(OSError, match="on fire"), atomic_folder(target) as part:
        (part / "new").touch()
    assert [p.name for p in tmp_path.iterdir()] == ["target"]
    assert [p.name for p in target.iterdir()] == ["old"]
