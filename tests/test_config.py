"""The factory: found, described, configured, and what it says of bad input."""

import json
import shutil
import subprocess
import sys

import pytest
import spacy
from spacy.language import Language
from test_component import TEXT, make_adapter, make_nlp

from spacy_openmed import adapters, backbones, inference
from spacy_openmed.errors import OpenMedError

DEFAULTS = {
    "dataset": None,
    "backbone": None,
    "adapter": None,
    "checkpoint": None,
    "annotate": "ents",
    "spans_key": "openmed",
    "threshold": 0.0,
    "consistency": "adapter",
    "alignment": "split",
    "overwrite": False,
    "labels": {},
    "precision": "auto",
    "batch_wordpieces": 4096,
    "window": None,
    "overlap": None,
}


@pytest.fixture(scope="module")
def adapter(tiny_backbone, tmp_path_factory):
    return make_adapter(tiny_backbone, tmp_path_factory.mktemp("config") / "adapter")


@pytest.fixture()
def spoiled(adapter, tmp_path):
    """A copy of an adapter, to be spoiled."""
    return shutil.copytree(adapter, tmp_path / "spoiled")


def test_factory_is_found_without_an_import():
    program = (
        "import spacy, sys\n"
        "assert 'spacy_openmed' not in sys.modules\n"
        "nlp = spacy.blank('en')\n"
        "pipe = nlp.add_pipe('openmed_ner')\n"
        "assert pipe.name == 'openmed_ner' and nlp.pipe_names == ['openmed_ner']\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_metadata():
    nlp, _ = make_nlp()
    meta = Language.get_factory_meta("openmed_ner")
    assert {"doc.ents", "doc.spans", "token.ent_iob", "token.ent_type"} <= set(meta.assigns)
    assert "span._.openmed_score" in meta.assigns
    assert meta.retokenizes
    assert meta.default_score_weights["ents_f"] == 1.0
    analysis = nlp.analyze_pipes()
    assert analysis["problems"] == {"openmed_ner": []}
    assert analysis["summary"]["openmed_ner"]["retokenizes"]
    assert nlp.config["training"]["score_weights"]["ents_f"] == 1.0


def test_defaults():
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe("openmed_ner")
    config = nlp.get_pipe_config("openmed_ner")
    assert {key: config[key] for key in DEFAULTS} == DEFAULTS
    assert config["model"]["@architectures"] == "spacy-openmed.PeftTokenTagger.v1"
    assert {key: pipe.cfg[key] for key in DEFAULTS} == DEFAULTS


def test_class_and_factory_have_the_same_defaults():
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe("openmed_ner")
    bare = type(pipe)(nlp.vocab, pipe.model)
    assert bare.cfg == pipe.cfg


@pytest.mark.parametrize(
    "config",
    [
        {"annotate": "entities"},
        {"annotate": None},
        {"alignment": "loose"},
        {"edges": "token"},
        {"threshold": 1.5},
        {"threshold": -0.1},
        {"threshold": float("nan")},
        {"threshold": "high"},
        {"threshold": {"DISEASE": 2.0}},
        {"threshold": {"DISEASE": "high"}},
        {"consistency": 1.5},
        {"consistency": -0.1},
        {"consistency": "on"},
        {"consistency": None},
        {"batch_wordpieces": 0},
        {"batch_wordpieces": "many"},
        {"window": 0},
        {"window": -256},
        {"window": "wide"},
        {"window": 2},
        {"overlap": -1},
        {"labels": ["DISEASE"]},
        {"spans_key": None},
        {"overwrite": "sometimes"},
        {"dataset": "nbci"},
        {"dataset": ["ncbi", "nbci"]},
        {"dataset": ["ncbi", "ncbi"]},
        {"dataset": 3},
        {"checkpoint": 3},
        {"precision": "fp8"},
        {"colour": "red"},
    ],
    ids=str,
)
def test_bad_values_are_refused_by_name(config):
    # confection's ConfigValidationError is a ValueError, too.
    with pytest.raises((OpenMedError, ValueError)) as error:
        make_nlp(**config)
    (key,) = config
    assert key in str(error.value)


def test_a_window_must_have_something_of_its_own(adapter):
    make_nlp(window=256, overlap=253)
    with pytest.raises(OpenMedError, match="window = 256, overlap = 254"):
        make_nlp(window=256, overlap=254)
    # The other one is the adapter's.
    for config in ({"window": 52}, {"overlap": 254}):
        nlp, _ = make_nlp(adapter=str(adapter), **config)
        with pytest.raises(OpenMedError, match="cannot overlap its neighbour"):
            nlp("Breast cancer.")


def test_unknown_dataset_lists_the_known():
    with pytest.raises(OpenMedError, match=r"'nbci'.*bc4chemd.*ncbi.*fsu"):
        make_nlp(dataset="nbci")


def test_unknown_backbone_lists_the_known(adapter):
    nlp, _ = make_nlp(adapter=str(adapter), backbone="minlim")
    with pytest.raises(OpenMedError, match=r"Unknown backbone 'minlim'.*minilm"):
        nlp("leukemia")


def test_fsu_names_the_download():
    nlp, _ = make_nlp(dataset="fsu")
    with pytest.raises(OpenMedError, match=r"fsu.*http"):
        nlp("p53")


def test_no_adapter_for_the_pair_lists_what_was_tried(monkeypatch, tmp_path, adapter):
    shutil.copytree(adapter, tmp_path / "ncbi" / "tiny")
    monkeypatch.setattr(adapters, "SHIPPED", tmp_path)
    nlp, _ = make_nlp(dataset="ncbi", backbone="minilm")
    with pytest.raises(OpenMedError) as error:
        nlp("p53")
    for part in ("'ncbi'", "'minilm'", "en_openmed_ncbi", "shipped tiny", "spacy openmed train"):
        assert part in str(error.value)


@pytest.mark.parametrize("config", [{}, {"dataset": []}])
def test_no_adapter_at_all(config):
    nlp, pipe = make_nlp(**config)
    with pytest.raises(OpenMedError, match=r"has no adapter.*'dataset'.*'adapter'"):
        nlp("p53")
    assert pipe.labels == ()


def test_adapter_wins_over_dataset(adapter):
    nlp, _ = make_nlp(dataset="fsu", adapter=str(adapter))
    assert nlp(TEXT).ents


def test_no_adapter_folder(tmp_path):
    nlp, _ = make_nlp(adapter=str(tmp_path / "nowhere"))
    with pytest.raises(OpenMedError, match=r"nowhere is not an adapter.*openmed\.json"):
        nlp("p53")


def test_factory_loads_no_weights(adapter, monkeypatch):
    def refuse(folder):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(backbones, "load_encoder", refuse)
    inference._shared.clear()
    nlp, pipe = make_nlp(adapter=str(adapter))
    assert pipe.labels == ("DISEASE",)
    nlp.to_bytes(exclude=["openmed_ner"])
    assert not nlp.select_pipes(disable=[])
    with pytest.raises(AssertionError, match="weights were loaded"):
        nlp("p53")


@pytest.mark.parametrize(
    "name", [adapters.INFO, adapters.LORA_CONFIG, adapters.LORA_WEIGHTS, adapters.HEAD]
)
def test_truncated_or_missing_adapter_files(spoiled, name):
    file = spoiled / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    nlp, _ = make_nlp(adapter=str(spoiled))
    with pytest.raises(OpenMedError, match=rf"{name} in .*spoiled.*truncated"):
        nlp("p53")
    file.unlink()
    with pytest.raises(OpenMedError, match=rf"spoiled is not an adapter.*{name}"):
        nlp("p53")


def test_truncated_shipped_adapter(monkeypatch, tmp_path, adapter):
    folder = shutil.copytree(adapter, tmp_path / "ncbi" / "tiny")
    (folder / adapters.INFO).write_text('{"dataset": "ncbi"')
    monkeypatch.setattr(adapters, "SHIPPED", tmp_path)
    nlp, _ = make_nlp(dataset="ncbi")
    with pytest.raises(OpenMedError, match=r"openmed\.json.*truncated"):
        nlp("p53")


def test_head_of_other_labels(spoiled):
    info = json.loads((spoiled / adapters.INFO).read_text())
    info["types"].append("GENE")
    (spoiled / adapters.INFO).write_text(json.dumps(info))
    nlp, _ = make_nlp(adapter=str(spoiled))
    with pytest.raises(OpenMedError, match=r"head.*DISEASE, GENE need 5"):
        nlp("p53")


def test_adapter_of_another_backbone(adapter):
    nlp, _ = make_nlp(adapter=str(adapter), backbone="minilm")
    with pytest.raises(OpenMedError, match=r"trained on backbone .* not on 'minilm'"):
        nlp("p53")


def test_missing_and_changed_weights(tiny_backbone, tmp_path):
    backbone = shutil.copytree(tiny_backbone, tmp_path / "backbone")
    folder = make_adapter(backbone, tmp_path / "adapter")
    inference._shared.clear()
    weights = backbone / backbones.WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    nlp, _ = make_nlp(adapter=str(folder))
    with pytest.raises(OpenMedError, match=r"not the recorded ones.*sha256.*expected"):
        nlp("p53")
    weights.unlink()
    with pytest.raises(OpenMedError, match=r"has no model\.safetensors"):
        nlp("p53")
    shutil.rmtree(backbone)
    with pytest.raises(OpenMedError, match=r"was not found\. Tried: .*OPENMED_HOME"):
        nlp("p53")


def test_window_that_the_backbone_cannot_read(adapter):
    nlp, _ = make_nlp(adapter=str(adapter), window=513)
    with pytest.raises(OpenMedError, match=r"window = 513.*512"):
        nlp("p53")
    longest, _ = make_nlp(adapter=str(adapter), window=512)
    assert longest(TEXT * 20).ents


def test_an_error_is_said_again(tmp_path, adapter):
    """A failed start leaves nothing half loaded, and succeeds once the cause is gone."""
    folder = tmp_path / "late"
    nlp, pipe = make_nlp(adapter=str(folder))
    for _ in range(2):
        with pytest.raises(OpenMedError, match="late is not an adapter"):
            nlp("p53")
    assert pipe.labels == ()
    shutil.copytree(adapter, folder)
    assert nlp(TEXT).ents
