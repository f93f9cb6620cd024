"""Checkpoints of others in the pipe: found, refused, run, saved."""

import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from checkpoint_files import ARCHITECTURES, SCHEMES, make_checkpoint
from spm import SENTENCES
from test_component import annotations, examples, make_adapter, make_nlp, offsets

from spacy_openmed import backbones, checkpoints
from spacy_openmed.decoding import decode, units
from spacy_openmed.errors import OpenMedError
from spacy_openmed.windows import encode, special_tokens

TEXT = " ".join(SENTENCES[:3])
LONG = " ".join(SENTENCES * 3)

pytestmark = [
    pytest.mark.usefixtures("one_torch_thread"),
    # DeBERTa's own spm.model has bytes as pieces, too.
    pytest.mark.filterwarnings("ignore:The sentencepiece tokenizer that you are converting"),
]


@pytest.fixture(scope="module")
def checkpoint(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoints") / "bert", tiny_backbone)


@pytest.fixture()
def spoiled(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy, to be spoiled."""
    return shutil.copytree(checkpoint, tmp_path / "spoiled")


def edit_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf8"))
    (folder / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf8")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_finds_what_transformers_says(
    architecture: str, scheme: str, tiny_backbone: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForTokenClassification

    labels = SCHEMES[scheme]
    folder = make_checkpoint(tmp_path / "checkpoint", tiny_backbone, labels, architecture)
    nlp, pipe = make_nlp(checkpoint=str(folder))
    found = [(e.start_char, e.end_char, e.label_, e._.openmed_score) for e in nlp(TEXT).ents]
    assert set(pipe.labels) == {"GENE", "DISEASE"} >= {label for _, _, label, *_ in found} != set()

    tokenizer = backbones.load_tokenizer(folder)
    encoding = encode(TEXT, tokenizer)
    model = AutoModelForTokenClassification.from_pretrained(folder).eval()
    special = special_tokens(tokenizer, model.config.pad_token_id)
    assert (len(special.prefix), len(special.suffix)) == (1, 1)
    ids = torch.tensor([[*special.prefix, *encoding.ids.tolist(), *special.suffix]])
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0, 1:-1].numpy()
    read = checkpoints.read(str(folder)).scheme
    bio = read.to_bio(logits, units(TEXT, encoding))
    (expected,) = decode([TEXT], [encoding], [bio], read.types)
    assert [(e.start, e.end, e.label) for e in expected] == [entry[:3] for entry in found]
    assert [e.score for e in expected] == pytest.approx([entry[3] for entry in found], abs=1e-4)


def test_labels_are_renamed_by_their_upper_case(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint=str(checkpoint), labels={"GENE": "Protein"})
    assert pipe.labels == ("Protein", "DISEASE")
    plain, _ = make_nlp(checkpoint=str(checkpoint))
    renamed = [(s, e, {"GENE": "Protein"}.get(n, n)) for s, e, n in offsets(plain(TEXT).ents)]
    assert offsets(nlp(TEXT).ents) == renamed


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_windows_are_no_longer_than_the_checkpoint_reads(
    architecture: str, tiny_backbone: Path, tmp_path: Path
) -> None:
    # RoBERTa's table has a row for padding and one before it.
    rows = 130 if architecture == "roberta" else 128
    folder = make_checkpoint(
        tmp_path / "c", tiny_backbone, architecture=architecture, max_position_embeddings=rows
    )
    whole, _ = make_nlp(checkpoint=str(folder))
    # The overlap shrinks with the window.
    same, _ = make_nlp(checkpoint=str(folder), window=128, overlap=25)
    doc = whole(LONG)
    assert annotations(doc) == annotations(same(LONG))
    # Nothing is cut off: the last sentences have entities, too.
    assert doc.ents[-1].end_char > len(LONG) - 200
    shorter, _ = make_nlp(checkpoint=str(folder), window=40, overlap=10)
    assert annotations(shorter(LONG)) != annotations(doc)


def test_a_checkpoint_may_read_less_than_windows_overlap_as_a_rule(
    tiny_backbone: Path, tmp_path: Path
) -> None:
    folder = make_checkpoint(tmp_path / "c", tiny_backbone, max_position_embeddings=52)
    nlp, _ = make_nlp(checkpoint=str(folder))
    assert nlp(LONG).ents[-1].end_char > len(LONG) - 200


def test_components_share_one_network(checkpoint: Path, tmp_path: Path) -> None:
    twin = shutil.copytree(checkpoint, tmp_path / "twin")
    nlp, first = make_nlp(checkpoint=str(checkpoint), annotate="spans", spans_key="one")
    config = {"checkpoint": str(twin), "annotate": "spans", "spans_key": "two"}
    second = nlp.add_pipe("openmed_ner", name="second", config={"precision": "fp32", **config})
    doc = nlp(TEXT)
    assert first.shim.source.network is second.shim.source.network  # type: ignore[attr-defined]
    assert offsets(doc.spans["one"]) == offsets(doc.spans["two"]) != []


def test_streams_and_threads_agree(checkpoint: Path) -> None:
    nlp, _ = make_nlp(checkpoint=str(checkpoint))
    texts = [*SENTENCES, "", LONG]
    singly = [offsets(nlp(text).ents) for text in texts]
    assert sum(map(len, singly)) > 20
    for size in (3, 100):
        assert [offsets(doc.ents) for doc in nlp.pipe(texts, batch_size=size)] == singly
    with ThreadPoolExecutor(4) as pool:
        assert [offsets(doc.ents) for doc in pool.map(nlp, texts)] == singly


def test_beside_an_adapter(checkpoint: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tiny_backbone, tmp_path / "adapter")
    nlp, _ = make_nlp(adapter=str(adapter), annotate="spans", spans_key="adapter")
    config = {"checkpoint": str(checkpoint), "annotate": "spans", "spans_key": "checkpoint"}
    nlp.add_pipe("openmed_ner", name="second", config={"precision": "fp32", **config})
    doc = nlp(TEXT)
    for key, source in (("adapter", adapter), ("checkpoint", checkpoint)):
        alone, _ = make_nlp(**{key: str(source)}, annotate="spans", spans_key=key)
        single = alone(TEXT)
        assert offsets(doc.spans[key]) == offsets(single.spans[key]) != []


# Found and refused


def test_no_weights_are_loaded_before_they_are_needed(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(checkpoints, "_load", refuse)
    checkpoints._shared.clear()
    nlp, pipe = make_nlp(checkpoint=str(checkpoint))
    assert pipe.labels == ("GENE", "DISEASE")
    nlp.to_disk(tmp_path / "saved")
    again = spacy.load(tmp_path / "saved")
    assert again.pipe_labels["openmed_ner"] == ["GENE", "DISEASE"]
    with pytest.raises(AssertionError, match="weights were loaded"):
        again("p53")


@pytest.mark.parametrize("other", ["dataset", "adapter", "backbone"])
def test_goes_with_nothing_else(other: str) -> None:
    value = {"dataset": "ncbi", "adapter": "somewhere", "backbone": "minilm"}[other]
    with pytest.raises(OpenMedError, match=rf"checkpoint = 'x'.*does not go with {other}"):
        make_nlp(checkpoint="x", **{other: value})


def test_is_not_trained(checkpoint: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    nlp, pipe = make_nlp(checkpoint=str(checkpoint))
    for attempt in (
        lambda: nlp.initialize(lambda: examples(nlp)),
        lambda: nlp.update(examples(nlp)),
    ):
        with pytest.raises(OpenMedError, match=r"'openmed_ner' runs a checkpoint.*'backbone'"):
            attempt()
    # Neither is one that was loaded into a component whose config knows nothing of it ...
    fresh, other = make_nlp()
    other.from_bytes(pipe.to_bytes())
    with pytest.raises(OpenMedError, match="runs a checkpoint"):
        fresh.update(examples(fresh))
    # ... but what the message says works.
    trained, _ = make_nlp(backbone=str(checkpoint))
    trained.initialize(lambda: examples(trained))
    assert trained.update(examples(trained))["openmed_ner"] > 0


def test_what_was_tried_is_listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(backbones.ALLOW_HUB, raising=False)
    name = str(tmp_path / "nowhere")
    nlp, pipe = make_nlp(checkpoint=name)
    assert pipe.labels == ()
    with pytest.raises(OpenMedError) as error:
        nlp("p53")
    for part in (f"the folder {name}", "local Hugging Face cache: absent", "OPENMED_ALLOW_HUB=1"):
        assert part in str(error.value)


def test_hub_and_cache(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "snapshots" / commit
    partial = tmp_path / "partial"
    asked: list[tuple[str, str | None, bool]] = []

    def download(
        name: str, revision: str | None, local_files_only: bool, allow_patterns: list[str]
    ) -> str:
        asked.append((name, revision, local_files_only))
        assert not any(pattern.endswith((".bin", ".py", "*")) for pattern in allow_patterns)
        if partial.is_dir() and local_files_only and not snapshot.is_dir():
            return str(partial)
        if local_files_only and not snapshot.is_dir():
            raise FileNotFoundError("not in the cache")
        if not local_files_only:
            shutil.copytree(checkpoint, snapshot)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.delenv(backbones.ALLOW_HUB, raising=False)
    with pytest.raises(OpenMedError, match="was not found"):
        checkpoints.read("some/model")
    assert asked == [("some/model", None, True)]
    # Another program has left the config and the tokenizer there.
    shutil.copytree(checkpoint, partial)
    (partial / "model.safetensors").unlink()
    with pytest.raises(OpenMedError, match=r"local Hugging Face cache \(no model\.safetensors\)"):
        checkpoints.read("some/model")
    asked.clear()

    monkeypatch.setenv(backbones.ALLOW_HUB, "1")
    found = checkpoints.read("some/model@main")
    assert asked == [("some/model", "main", True), ("some/model", "main", False)]
    digest = backbones.file_sha256(checkpoint / "model.safetensors")
    assert found.ref == checkpoints.CheckpointRef("some/model", digest, commit)

    # Once there, the cache is enough, and the recorded revision is the one asked for.
    monkeypatch.delenv(backbones.ALLOW_HUB)
    assert checkpoints.find(found.ref) == snapshot
    assert asked[2:] == [("some/model", commit, True)]


def test_pickles_are_refused(spoiled: Path) -> None:
    (spoiled / "model.safetensors").rename(spoiled / "pytorch_model.bin")
    nlp, _ = make_nlp(checkpoint=str(spoiled))
    with pytest.raises(
        OpenMedError, match=r"no model\.safetensors.*never pickles.*save_pretrained"
    ):
        nlp("p53")


def test_damaged_weights(spoiled: Path) -> None:
    weights = spoiled / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    nlp, _ = make_nlp(checkpoint=str(spoiled))
    with pytest.raises(OpenMedError, match="cannot load the checkpoint"):
        nlp("p53")


def test_a_bare_encoder_is_refused(tiny_backbone: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_backbone, tmp_path / "bare")
    edit_config(folder, id2label={"0": "O", "1": "B-X", "2": "I-X"})
    nlp, _ = make_nlp(checkpoint=str(folder))
    with pytest.raises(OpenMedError, match=r"has no classifier\.bias, classifier\.weight"):
        nlp("p53")


def test_code_of_a_repository_is_not_run(spoiled: Path) -> None:
    (spoiled / "own.py").write_text(f"open({str(spoiled / 'ran')!r}, 'w')", encoding="utf8")
    auto_map = {"AutoConfig": "own.Config", "AutoModelForTokenClassification": "own.Model"}
    edit_config(spoiled, model_type="of-its-own", auto_map=auto_map)
    nlp, _ = make_nlp(checkpoint=str(spoiled))
    with pytest.raises(OpenMedError, match="code of their own are not run"):
        nlp("p53")
    assert not (spoiled / "ran").exists()


def test_without_a_tokenizer(spoiled: Path) -> None:
    (spoiled / "tokenizer.json").unlink()
    (spoiled / "tokenizer_config.json").unlink()
    nlp, _ = make_nlp(checkpoint=str(spoiled))
    with pytest.raises(OpenMedError, match=r"no tokenizer\.json.*AutoTokenizer"):
        nlp("p53")


def test_labels_that_mean_nothing(spoiled: Path) -> None:
    edit_config(spoiled, id2label={str(i): f"LABEL_{i}" for i in range(5)})
    nlp, _ = make_nlp(checkpoint=str(spoiled))
    with pytest.raises(OpenMedError, match=r"spoiled.*LABEL_0, LABEL_1.*correct id2label"):
        nlp("p53")
    edit_config(spoiled, id2label=["O"])
    with pytest.raises(OpenMedError, match="no readable id2label"):
        nlp("p53")


# Saved


@pytest.mark.parametrize("bundle", [False, True])
def test_saved_pipelines_find_the_same(checkpoint: Path, tmp_path: Path, bundle: bool) -> None:
    moving = shutil.copytree(checkpoint, tmp_path / "moving")
    nlp, _ = make_nlp(checkpoint=str(moving), bundle_backbone=bundle)
    expected = annotations(nlp(LONG))
    nlp.to_disk(tmp_path / "saved")
    saved = tmp_path / "saved" / "openmed_ner" / "checkpoint"
    assert (saved / "model.safetensors").is_file() == bundle
    again = spacy.load(tmp_path / "saved")
    from_bytes = make_nlp()[0].from_bytes(nlp.to_bytes())
    for copy in (again, from_bytes, pickle.loads(pickle.dumps(nlp))):
        assert annotations(copy(LONG)) == expected
    shutil.rmtree(moving)
    checkpoints._shared.clear()
    moved = spacy.load(tmp_path / "saved")
    if bundle:
        assert annotations(moved(LONG)) == expected
        # In place, elsewhere, and from there once the first is gone.
        moved.to_disk(tmp_path / "saved")
        moved.to_disk(tmp_path / "second")
        shutil.rmtree(tmp_path / "saved")
        checkpoints._shared.clear()
        assert annotations(spacy.load(tmp_path / "second")(LONG)) == expected
    else:
        assert moved.get_pipe("openmed_ner").labels == ("GENE", "DISEASE")
        with pytest.raises(OpenMedError, match="moving' was not found"):
            moved(LONG)


def test_other_weights_than_the_saved_ones_are_refused(
    spoiled: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    make_nlp(checkpoint=str(spoiled))[0].to_disk(tmp_path / "saved")
    other = make_checkpoint(tmp_path / "other", tiny_backbone, seed=1)
    shutil.copyfile(other / "model.safetensors", spoiled / "model.safetensors")
    with pytest.raises(OpenMedError, match=r"not the recorded ones.*sha256.*expected"):
        spacy.load(tmp_path / "saved")("p53")


def test_what_an_earlier_pipeline_left_is_not_read(
    checkpoint: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    adapter = make_adapter(tiny_backbone, tmp_path / "adapter")
    with_adapter, _ = make_nlp(adapter=str(adapter), bundle_backbone=True)
    with_checkpoint, _ = make_nlp(checkpoint=str(checkpoint), bundle_backbone=True)
    folder = tmp_path / "saved" / "openmed_ner"
    for nlp, names in (
        (with_adapter, {"adapter", "backbone", "tokenizer.json"}),
        (with_checkpoint, {"checkpoint"}),
        (with_adapter, {"adapter", "backbone", "tokenizer.json"}),
    ):
        nlp.to_disk(tmp_path / "saved")
        assert {path.name for path in folder.iterdir()} - {"vocab"} == names
        assert annotations(spacy.load(tmp_path / "saved")(TEXT)) == annotations(nlp(TEXT))


@pytest.mark.parametrize("name", [checkpoints.REFERENCE, "config.json", "tokenizer.json"])
def test_damaged_pipelines(checkpoint: Path, tmp_path: Path, name: str) -> None:
    make_nlp(checkpoint=str(checkpoint))[0].to_disk(tmp_path / "saved")
    (tmp_path / "saved" / "openmed_ner" / "checkpoint" / name).unlink()
    with pytest.raises(OpenMedError, match=rf"lacks a file.*{name}"):
        spacy.load(tmp_path / "saved")


def test_logits_of_padding_do_not_matter(checkpoint: Path) -> None:
    network = checkpoints.shared_checkpoint(checkpoint)
    ids = np.array([[2, 40, 41, 3], [2, 40, 3, 0]], dtype=np.int64)
    both = network.logits(ids, (ids != 0).astype(np.int64))
    alone = network.logits(ids[1:, :3], np.ones((1, 3), dtype=np.int64))
    assert both[1, :3] == pytest.approx(alone[0], abs=1e-5)
