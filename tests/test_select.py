"""Best-of-breed selection on dev, and what reads it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import make_network
from typer.testing import CliRunner, Result

from spacy_openmed import adapters, backbones, network
from spacy_openmed.adapters import AdapterInfo
from spacy_openmed.backbones import BackboneRef
from spacy_openmed.cli.app import app
from spacy_openmed.errors import OpenMedError
from spacy_openmed.evaluation import select
from spacy_openmed.evaluation.select import Candidate
from spacy_openmed.packaging import package

pytestmark = pytest.mark.usefixtures("one_torch_thread")

DEV, TRAIN = "d0" * 32, "70" * 32


def training_record(f1: float = 80.0, **changes: Any) -> dict[str, Any]:
    """A training.json as the trainer writes it."""
    score = {"precision": f1, "recall": f1, "f1": f1, "tp": 8, "fp": 2, "fn": 2}
    lora = {"rank": 4, "alpha": 8, "dropout": 0.0, "target_modules": "query"}
    optim = {"learning_rate": 1e-3, "warmup_ratio": 0.1, "batch_size": 8, "seed": 1}
    settings = {"window": 256, "sentences": True, "label_smoothing": 0.1, "dropout": 0.1}
    return {
        "spacy_openmed": "0.1.0",
        "edition": None,
        "settings": {**settings, "lora": lora, "optim": optim},
        "init_adapter": None,
        "data": {"train": TRAIN, "dev": DEV},
        "trainable_parameters": 1234,
        "epochs": [{"epoch": 1.0, "dev_f1": f1}],
        "seconds": 90.0,
        "dev": {**score, "per_label": {"DISEASE": score}},
        **changes,
    }


def write_adapter(
    folder: Path,
    backbone: Path,
    dataset: str = "ncbi",
    f1: float = 80.0,
    rank: int = 4,
    seed: int = 0,
    **changes: Any,
) -> Path:
    """An adapter of random weights with a record of its training."""
    info = AdapterInfo(dataset, ("DISEASE",), backbones.reference(str(backbone)), 64, 10)
    record = {"dataset": dataset, **training_record(f1, **changes)}
    card = {adapters.TRAINING: json.dumps(record)}
    tagger = make_network(backbone, len(info.labels), rank=rank, seed=seed)
    adapters.write(network.to_adapter(tagger, info, card=card), folder)
    return folder


def run_select(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["select", *map(str, arguments)])


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_best_on_dev_is_chosen_for_each_dataset(tiny_backbone: Path, tmp_path: Path) -> None:
    train = tmp_path / "runs" / "train"
    write_adapter(train / "linnaeus" / "a" / "adapter", tiny_backbone, "linnaeus", 70.0)
    write_adapter(train / "ncbi" / "a" / "adapter", tiny_backbone, f1=80.0)
    write_adapter(train / "ncbi" / "b" / "adapter", tiny_backbone, f1=80.02, rank=8)
    # What a write that was cut off leaves.
    write_adapter(train / "ncbi" / ".adapter-x1", tiny_backbone, f1=99.0)
    output = tmp_path / "elsewhere" / "selection.json"
    run = run_select(train, "--output", output)
    assert run.exit_code == 0, run.output
    lines = [line.split() for line in run.output.splitlines() if " chosen" in line]
    assert [(line[0], line[2]) for line in lines] == [("ncbi", "80.02"), ("linnaeus", "70.00")]
    found = json.loads(output.read_text())["datasets"]
    assert list(found) == ["ncbi", "linnaeus"]
    best = found["ncbi"]
    assert best["adapter"] == "../runs/train/ncbi/b/adapter"
    assert best["sha256"] == adapters.content_hash(adapters.read(train / "ncbi" / "b" / "adapter"))
    assert best["backbone"] == backbones.reference(str(tiny_backbone)).to_dict()
    assert [c["dev_f1"] for c in best["candidates"]] == [80.02, 80.0]
    assert best["candidates"][0] == {key: best[key] for key in best["candidates"][0]}
    ncbi, linnaeus = select.read(output)
    assert ncbi.folder.samefile(train / "ncbi" / "b" / "adapter")
    assert linnaeus.read().info.dataset == "linnaeus"


def test_of_equals_the_smaller_is_chosen(tiny_backbone: Path, tmp_path: Path) -> None:
    write_adapter(tmp_path / "large", tiny_backbone, f1=80.004, rank=8)
    write_adapter(tmp_path / "small", tiny_backbone, f1=79.996, rank=2)
    gone = write_adapter(tmp_path / "gone", tiny_backbone, f1=80.0, rank=1)
    unknown = BackboneRef("gone", "0" * 64).to_dict()
    edit(gone / adapters.INFO, backbone=unknown)
    ranked = select.rank(select.candidates([tmp_path, tmp_path / "small"]))["ncbi"]
    assert [one.folder.name for one in ranked] == ["small", "large", "gone"]
    small, large, lost = [one.parameters for one in ranked]
    assert small is not None and large is not None and small < large and lost is None
    edit(gone / adapters.TRAINING, parameters=17)
    ranked = select.rank(select.candidates([tmp_path]))["ncbi"]
    assert (ranked[0].folder.name, ranked[0].parameters) == ("gone", 17)


def test_parameters_are_those_of_the_file(tiny_backbone: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModel

    model = AutoModel.from_pretrained(tiny_backbone)
    expected = sum(parameter.numel() for parameter in model.parameters())
    assert select.count_parameters(tiny_backbone / backbones.WEIGHTS) == expected
    folder = write_adapter(tmp_path / "adapter", tiny_backbone)
    adapter = adapters.read(folder)
    own = [*adapter.lora.values(), adapter.weight, adapter.bias]
    (one,) = select.candidates([folder])
    assert one.parameters == expected + sum(tensor.numel() for tensor in own)
    save_file(
        {
            "positions": torch.arange(512),
            "half": torch.zeros(3, 5, dtype=torch.bfloat16),
            "mask": torch.ones(7, dtype=torch.bool),
            "scalar": torch.zeros(()),
        },
        tmp_path / "w.safetensors",
    )
    assert select.count_parameters(tmp_path / "w.safetensors") == 16


@given(st.lists(st.tuples(st.floats(0, 100), st.one_of(st.none(), st.integers(1, 5))), min_size=1))
def test_none_is_better_than_the_chosen_one(scores: list[tuple[float, int | None]]) -> None:
    found = [
        Candidate(Path(str(i)), "ncbi", "", BackboneRef("x"), f1, DEV, None, size)
        for i, (f1, size) in enumerate(scores)
    ]
    ranked = select.rank(found)["ncbi"]
    assert sorted(one.folder for one in ranked) == sorted(one.folder for one in found)
    best = ranked[0]
    for one in found:
        assert round(one.dev_f1, 2) <= round(best.dev_f1, 2)
        if round(one.dev_f1, 2) == round(best.dev_f1, 2) and one.parameters is not None:
            assert best.parameters is not None and best.parameters <= one.parameters
    assert select.rank(found[::-1])["ncbi"] == ranked


def test_what_cannot_be_compared_is_refused(tiny_backbone: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    output = tmp_path / "selection.json"
    write_adapter(one, tiny_backbone)

    def refused(message: str) -> None:
        run = run_select(tmp_path, "--output", output)
        assert run.exit_code == 1 and message in run.output, run.output
        assert not output.exists()

    write_adapter(other, tiny_backbone, data={"train": TRAIN, "dev": "e0" * 32})
    refused(f"differ in their dev data, so their F1 cannot be compared ({one}: {DEV}; {other}: ")
    write_adapter(other, tiny_backbone, edition="official")
    refused("differ in their edition")
    write_adapter(other, tiny_backbone, "")
    refused(f"{other} was trained on data without a name")
    for lacking in ({"dev": None}, {"dev": {"precision": 1.0}}, {"data": {"train": TRAIN}}):
        write_adapter(other, tiny_backbone, **lacking)
        refused(f"{other / adapters.TRAINING} lacks the score on dev")
    (other / adapters.TRAINING).unlink()
    refused(f"{other} has no training.json")
    # Another dataset has other data.
    write_adapter(other, tiny_backbone, "s800", data={"train": TRAIN, "dev": "e0" * 32})
    assert run_select(tmp_path, "--output", output).exit_code == 0


def test_no_adapter(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        run = run_select(folder, "--output", tmp_path / "selection.json")
        assert run.exit_code == 1 and f"No adapter in {folder}" in run.output


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"datasets": {"ncbi": {}}}', '{"datasets": 1}'])
def test_a_file_that_is_no_selection(tmp_path: Path, text: str) -> None:
    path = tmp_path / "selection.json"
    with pytest.raises(OpenMedError, match="'spacy openmed select' writes it"):
        select.read(path)
    path.write_text(text)
    with pytest.raises(OpenMedError, match="is not a selection"):
        select.read(path)


def test_package_of_a_selection(
    tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[tuple[Any, ...]] = []

    def build(*arguments: Any) -> Path:
        built.append(arguments)
        return tmp_path / "x.whl"

    monkeypatch.setattr(package, "build_package", build)
    adapter = write_adapter(tmp_path / "train" / "adapter", tiny_backbone)
    selection, wheels = tmp_path / "selection.json", tmp_path / "packages"
    assert run_select(tmp_path, "--output", selection).exit_code == 0

    def command(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["package", *map(str, arguments)])

    run = command("--selection", selection, wheels, "--bundle-backbone")
    assert run.exit_code == 0, run.output
    ((dataset, output, folder, bundle),) = built
    assert (dataset, output, bundle) == ("ncbi", wheels, True) and folder.samefile(adapter)
    assert command("ncbi", wheels, "--adapter", adapter).exit_code == 0
    assert built[1:] == [("ncbi", wheels, adapter, False)]
    together: list[list[str]] = []

    def build_all(found: dict[str, Any], *arguments: Any) -> Path:
        together.append(list(found))
        return tmp_path / "y.whl"

    monkeypatch.setattr(package, "build_package_of_all", build_all)
    run = command("--selection", selection, "--all", wheels)
    assert run.exit_code == 0 and "y.whl" in run.output
    assert (built.pop()[0], together.pop()) == ("ncbi", ["ncbi"])
    run = command("--all", wheels)
    assert run.exit_code == 0, run.output
    (names,) = together
    assert "ncbi" in names and "sample" not in names
    assert [one[0] for one in built[2:]] == names
    del built[2:]
    for arguments, message in (
        (["--all", "ncbi", wheels], "give only the folder"),
        (["ncbi"], "Give a dataset and a folder"),
        (["--selection", selection, "ncbi", wheels], "give only the folder"),
        (["--selection", selection, wheels, "--adapter", adapter], "give only the folder"),
    ):
        run = command(*arguments)
        assert run.exit_code == 1 and message in run.output
    write_adapter(adapter, tiny_backbone, seed=1)
    run = command("--selection", selection, wheels)
    assert run.exit_code == 1 and "is not the one that was chosen" in run.output
    assert len(built) == 2
