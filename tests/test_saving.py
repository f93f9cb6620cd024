"""Saved pipelines: they find the same, hold what they should and read what they wrote."""

import copy
import json
import pickle
import shutil

import pytest
import spacy
from test_component import EXACT, TEXT, annotations, examples, make_adapter, make_nlp, offsets
from thinc.api import Adam

from spacy_openmed import adapters, backbones, inference
from spacy_openmed.errors import OpenMedError
from spacy_openmed.packaging.hf_export import export_checkpoint
from spacy_openmed.packaging.peft_export import export_peft
from spacy_openmed.predictor import Predictor

CONFIG = {"annotate": "both", "threshold": 0.01}


@pytest.fixture(scope="module")
def adapter(tiny_backbone, tmp_path_factory):
    return make_adapter(tiny_backbone, tmp_path_factory.mktemp("saving") / "adapter")


@pytest.fixture()
def movable(tiny_backbone, tmp_path):
    """A backbone that a test may take away."""
    return shutil.copytree(tiny_backbone, tmp_path / "movable")


@pytest.fixture()
def nlp(adapter):
    return make_nlp(adapter=str(adapter), **CONFIG)[0]


@pytest.fixture(scope="module")
def expected(adapter):
    found = annotations(make_nlp(adapter=str(adapter), **CONFIG)[0](TEXT))
    assert found[1]
    return found


def names(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_disk(nlp, expected, tmp_path):
    nlp.to_disk(tmp_path / "saved")
    assert annotations(spacy.load(tmp_path / "saved")(TEXT)) == expected


def test_bytes(nlp, expected, adapter):
    data = nlp.to_bytes()
    again, pipe = make_nlp(**CONFIG)
    again.from_bytes(data)
    assert annotations(again(TEXT)) == expected
    single, fresh = make_nlp(**CONFIG)
    fresh.from_bytes(pipe.to_bytes())
    assert annotations(single(TEXT)) == expected


def test_pickle(nlp, expected):
    again = pickle.loads(pickle.dumps(nlp))
    assert annotations(again(TEXT)) == expected
    pipe = pickle.loads(pickle.dumps(nlp.get_pipe("openmed_ner")))
    assert pipe.cfg == nlp.get_pipe("openmed_ner").cfg
    doc = nlp.make_doc(TEXT)
    assert annotations(pipe(doc)) == expected
    assert annotations(copy.deepcopy(pipe)(nlp.make_doc(TEXT))) == expected


def test_trained_pipeline(tiny_backbone, tmp_path):
    nlp, pipe = make_nlp(backbone=str(tiny_backbone), model=EXACT)
    nlp.initialize(lambda: examples(nlp))
    optimizer = Adam(0.01)
    for _ in range(30):
        nlp.update(examples(nlp), sgd=optimizer)
    text = examples(nlp)[0].text
    assert offsets(nlp(text).ents)
    nlp.to_disk(tmp_path / "saved")
    copies = [spacy.load(tmp_path / "saved"), make_nlp(model=EXACT)[0].from_bytes(nlp.to_bytes())]
    copies.append(pickle.loads(pickle.dumps(nlp)))
    for again in copies:
        assert offsets(again(text).ents) == offsets(nlp(text).ents)
        # ... and training goes on where it was.
        other = again.get_pipe("openmed_ner")
        loss = other.update(examples(again))["openmed_ner"]
        assert loss == pytest.approx(pipe.update(examples(nlp))["openmed_ner"], abs=1e-4)


def test_folder_is_small_and_complete(nlp, adapter, tmp_path):
    nlp.to_disk(tmp_path / "saved")
    folder = tmp_path / "saved" / "openmed_ner"
    assert names(folder) >= {"tokenizer.json", *(f"adapter/{n}" for n in names(adapter))}
    assert backbones.WEIGHTS not in {path.name for path in folder.rglob("*")}
    weights = sum((adapter / name).stat().st_size for name in names(adapter))
    assert sum(path.stat().st_size for path in (folder / "adapter").iterdir()) <= weights + 1000
    # spaCy's part aside, nothing but the reference says where the backbone was.
    info = json.loads((folder / "adapter" / adapters.INFO).read_text())
    path = info["backbone"]["id"]
    for file in folder.rglob("*"):
        if file.is_file() and file.name != adapters.INFO:
            assert path.encode() not in file.read_bytes(), file


def test_adapter_need_not_stay(adapter, expected, tmp_path):
    moving = shutil.copytree(adapter, tmp_path / "moving")
    nlp, _ = make_nlp(adapter=str(moving), **CONFIG)
    nlp.to_disk(tmp_path / "saved")  # before anything was read
    shutil.rmtree(moving)
    assert annotations(spacy.load(tmp_path / "saved")(TEXT)) == expected


def test_loading_needs_no_weights(nlp, tmp_path, monkeypatch):
    nlp.to_disk(tmp_path / "saved")

    def refuse(folder):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(backbones, "load_encoder", refuse)
    again = spacy.load(tmp_path / "saved")
    assert again.get_pipe("openmed_ner").labels == ("DISEASE",)


def test_uninitialized_pipeline(tmp_path):
    nlp, _ = make_nlp()
    nlp.to_disk(tmp_path / "saved")
    for again in (spacy.load(tmp_path / "saved"), make_nlp()[0].from_bytes(nlp.to_bytes())):
        with pytest.raises(OpenMedError, match="has no adapter"):
            again("leukemia")


def test_bundled_backbone(movable, tmp_path):
    folder = make_adapter(movable, tmp_path / "adapter")
    nlp, _ = make_nlp(adapter=str(folder), bundle_backbone=True, **CONFIG)
    found = annotations(nlp(TEXT))
    predicted = Predictor.load(folder)([TEXT])
    nlp.to_disk(tmp_path / "first")
    shutil.rmtree(movable)
    shutil.rmtree(folder)
    inference._shared.clear()
    again = spacy.load(tmp_path / "first")
    assert annotations(again(TEXT)) == found
    assert again.get_pipe("openmed_ner").shim.backbone.folder == (
        tmp_path / "first" / "openmed_ner" / "backbone"
    )
    # What does without spaCy finds it, too.
    inside = tmp_path / "first" / "openmed_ner" / "adapter"
    assert Predictor.load(inside)([TEXT]) == predicted
    export_checkpoint(adapters.read(inside), tmp_path / "exported")
    export_peft(adapters.read(inside), tmp_path / "peft")
    # In place, elsewhere, and from there once the first is gone.
    again.to_disk(tmp_path / "first")
    again.to_disk(tmp_path / "second")
    shutil.rmtree(tmp_path / "first")
    inference._shared.clear()
    assert annotations(spacy.load(tmp_path / "second")(TEXT)) == found


def test_bundled_backbone_saved_in_place_by_a_relative_path(
    adapter, expected, tmp_path, monkeypatch
):
    nlp, _ = make_nlp(adapter=str(adapter), bundle_backbone=True, **CONFIG)
    nlp.to_disk(tmp_path / "saved")
    monkeypatch.chdir(tmp_path)
    again = spacy.load("./saved")
    again.to_disk(tmp_path / "saved")
    assert annotations(spacy.load("saved")(TEXT)) == expected


def test_what_an_earlier_pipeline_left_is_not_read(adapter, movable, tmp_path, monkeypatch):
    second = make_adapter(movable, tmp_path / "second", "bc5cdr-chem", ("CHEMICAL",), seed=2)
    folders = {"ncbi": adapter, "bc5cdr-chem": second}
    monkeypatch.setattr(adapters, "find", lambda dataset, backbone=None: folders[dataset])
    both, _ = make_nlp(dataset=["ncbi", "bc5cdr-chem"], bundle_backbone=True)
    both.to_disk(tmp_path / "saved")
    again = spacy.load(tmp_path / "saved")
    assert again.get_pipe("openmed_ner").labels == ("DISEASE", "CHEMICAL")
    assert annotations(again(TEXT)) == annotations(both(TEXT))
    one, _ = make_nlp(dataset="ncbi")
    one.to_disk(tmp_path / "saved")
    assert spacy.load(tmp_path / "saved").get_pipe("openmed_ner").labels == ("DISEASE",)
    assert not (tmp_path / "saved" / "openmed_ner" / "backbone").exists()


def test_from_disk_over_another_pipeline(nlp, tiny_backbone, expected, tmp_path):
    nlp.to_disk(tmp_path / "saved")
    other = make_adapter(tiny_backbone, tmp_path / "other", types=("GENE",), seed=5)
    over, pipe = make_nlp(adapter=str(other), **CONFIG)
    over(TEXT)
    over.from_disk(tmp_path / "saved")
    assert pipe.labels == ("DISEASE",)
    assert annotations(over(TEXT)) == expected


def test_config_overrides_win_at_load(nlp, expected, tmp_path):
    nlp.to_disk(tmp_path / "saved")
    scores = sorted(e[3] for e in expected[1])
    limit = scores[len(scores) // 2]
    override = {"components": {"openmed_ner": {"threshold": limit, "annotate": "ents"}}}
    doc = spacy.load(tmp_path / "saved", config=override)(TEXT)
    assert not doc.spans
    assert offsets(doc.ents) == [e[:3] for e in expected[1] if e[3] >= limit]
    assert 0 < len(doc.ents) < len(scores)
    renamed = {"components.openmed_ner.labels": {"DISEASE": "Illness"}}
    assert {e.label_ for e in spacy.load(tmp_path / "saved", config=renamed)(TEXT).ents} == {
        "Illness"
    }


def test_exclude(nlp, tmp_path):
    nlp.get_pipe("openmed_ner").to_disk(tmp_path / "pipe", exclude=["model"])
    assert not (tmp_path / "pipe" / "adapter").exists()


def test_a_failed_save_leaves_the_old_adapter(nlp, expected, tmp_path, monkeypatch):
    nlp.to_disk(tmp_path / "saved")

    def fail(adapter):
        yield adapters.INFO, b"{}"
        raise OSError("disk full")

    monkeypatch.setattr(
        adapters, "to_files", lambda adapter: type("F", (), {"items": lambda s: fail(adapter)})()
    )
    with pytest.raises(OSError, match="disk full"):
        nlp.to_disk(tmp_path / "saved")
    monkeypatch.undo()
    assert {p.name for p in (tmp_path / "saved" / "openmed_ner").iterdir()} >= {"adapter"}
    assert not [p for p in (tmp_path / "saved" / "openmed_ner").iterdir() if p.name[0] == "."]
    assert annotations(spacy.load(tmp_path / "saved")(TEXT)) == expected


def test_docs_can_be_saved(nlp):
    doc = nlp(TEXT)
    again = type(doc)(nlp.vocab).from_bytes(doc.to_bytes())
    assert annotations(again) == annotations(doc)
