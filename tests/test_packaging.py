"""Model packages: built, installed, loaded, found."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import spacy
from spacy.tokens import Doc
from test_component import TEXT, make_adapter, offsets

from spacy_openmed import adapters, backbones
from spacy_openmed.about import __version__
from spacy_openmed.corpora import registry
from spacy_openmed.errors import OpenMedError
from spacy_openmed.packaging import package

CARD = (
    "# Diseases\n\nWhat was [measured](../../results/ncbi-test.json), for "
    f"[spaCy](https://spacy.io), as [`{adapters.TRAINING}`](./{adapters.TRAINING}) says.\n"
)
# Where the record is beside it, and where it is not.
BESIDE = CARD.replace("[measured](../../results/ncbi-test.json)", "measured")
ALONE = BESIDE.replace(f"[`{adapters.TRAINING}`](./{adapters.TRAINING})", f"`{adapters.TRAINING}`")


def run(*command, **environment):
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def backbone(tiny_backbone, tmp_path_factory):
    """A backbone that a test may take away."""
    return shutil.copytree(tiny_backbone, tmp_path_factory.mktemp("packaging") / "backbone")


@pytest.fixture(scope="module")
def adapter(backbone):
    folder = make_adapter(backbone, backbone.parent / "adapter")
    (folder / adapters.CARD).write_text(CARD)
    (folder / adapters.TRAINING).write_text('{"dev": {"f1": 50.0}}')
    return folder


@pytest.fixture(scope="module")
def expected(adapter):
    nlp = package.build_pipeline("ncbi", adapters.read(adapter))
    found = [list(entity) for entity in offsets(nlp(TEXT).ents)]
    assert found
    return found


@pytest.fixture(scope="module")
def wheel(adapter, tmp_path_factory):
    output = tmp_path_factory.mktemp("wheel") / "new" / "folder"
    return package.build_package("ncbi", output, adapter, bundle_backbone=True)


@pytest.fixture(scope="module")
def installed(wheel):
    target = wheel.parent / "site"
    pip = ["-m", "pip", "install", "--no-deps", "--no-index", "--disable-pip-version-check"]
    run(*pip, "--target", target, wheel)
    return target


def test_wheel(wheel):
    assert wheel.name == f"en_openmed_ncbi-{__version__}-py3-none-any.whl"
    assert [path.name for path in wheel.parent.glob("*.*")] == [wheel.name]
    archive = zipfile.ZipFile(wheel)
    root = f"en_openmed_ncbi/en_openmed_ncbi-{__version__}"
    found = set(archive.namelist())
    pipe = f"{root}/openmed_ner"
    files = (adapters.INFO, adapters.LORA_CONFIG, adapters.LORA_WEIGHTS, adapters.HEAD)
    assert {f"{pipe}/adapter/{name}" for name in (*files, adapters.CARD)} <= found
    assert {f"{pipe}/tokenizer.json", f"{pipe}/backbone/{backbones.WEIGHTS}"} <= found
    assert archive.read(f"{root}/README.md").decode("utf8") == ALONE
    assert archive.read(f"{pipe}/adapter/{adapters.CARD}").decode("utf8") == BESIDE
    assert f"{pipe}/adapter/{adapters.TRAINING}" in found
    meta = json.loads(archive.read(f"{root}/meta.json"))
    assert (meta["lang"], meta["name"]) == ("en", "openmed_ncbi")
    assert meta["license"] == "Apache-2.0"
    assert meta["labels"] == {"openmed_ner": ["DISEASE"]}
    (metadata,) = [name for name in found if name.endswith(".dist-info/METADATA")]
    required = archive.read(metadata).decode("utf8")
    assert "Requires-Dist: spacy-openmed" in required.replace("_", "-")


def test_config_names_no_folder_of_this_machine(wheel, backbone):
    archive = zipfile.ZipFile(wheel)
    (config,) = [name for name in archive.namelist() if name.endswith("config.cfg")]
    assert str(backbone.parent).encode() not in archive.read(config)


LOAD = """
import json, spacy, sys
nlp = spacy.load("en_openmed_ncbi")
other = spacy.blank("en")
pipe = other.add_pipe("openmed_ner", config={"dataset": "ncbi"})
text = sys.argv[1]
ents = [[[e.start_char, e.end_char, e.label_] for e in n(text).ents] for n in (nlp, other)]
place = str(pipe.shim.backbone.folder)
print(json.dumps([ents, nlp.meta["version"], place]))
"""


def test_installed_package_finds_the_same_and_is_found(installed, backbone, expected):
    moved = backbone.rename(backbone.with_name("elsewhere"))
    try:
        output = run("-c", LOAD, TEXT, PYTHONPATH=str(installed))
    finally:
        moved.rename(backbone)
    (loaded, found), version, place = json.loads(output.splitlines()[-1])
    assert loaded == expected
    # By the dataset's id the package's adapter is found before those that ship with us,
    # and the backbone that the package carries with it.
    assert found == expected
    assert version == __version__
    assert Path(place).is_relative_to(installed)


def test_without_a_bundle_the_backbone_is_a_requirement(adapter, tmp_path):
    nlp = package.build_pipeline("ncbi", adapters.read(adapter))
    nlp.to_disk(tmp_path / "pipeline")
    assert not (tmp_path / "pipeline" / "openmed_ner" / "backbone").exists()
    minilm = backbones.reference("minilm")
    found = adapters.read(adapter)
    info = adapters.AdapterInfo("ncbi", ("DISEASE",), minilm)
    on_minilm = {"ncbi": adapters.Adapter(**{**vars(found), "info": info})}
    meta = package._meta("en_openmed_ncbi", "About.", on_minilm, False)
    # The extra names the package of the backbone, with pins that package itself lacks.
    assert meta["requirements"] == [f"spacy-openmed[embedded]~={__version__}"]
    bundled = package._meta("en_openmed_ncbi", "About.", on_minilm, True)
    assert bundled["requirements"] == []


def test_all_adapters_in_one_wheel(adapter, backbone, tmp_path):
    genes = make_adapter(backbone, tmp_path / "genes", "bc2gm", ("GENE",), seed=3)
    found = {"ncbi": adapters.read(adapter), "bc2gm": adapters.read(genes)}
    wheel = package.build_package_of_all(found, tmp_path / "output", bundle_backbone=True)
    assert wheel.name == f"en_openmed_all-{__version__}-py3-none-any.whl"
    zipfile.ZipFile(wheel).extractall(tmp_path / "wheel")
    root = tmp_path / "wheel" / "en_openmed_all" / f"en_openmed_all-{__version__}"
    assert len(list(root.glob(f"openmed_ner/*/{backbones.WEIGHTS}"))) == 1
    card = (root / "README.md").read_text(encoding="utf8")
    assert "`ncbi`" in card and "`bc2gm`" in card
    nlp = spacy.load(root)
    doc = nlp(TEXT)
    alone = [
        entity
        for name, one in found.items()
        for entity in offsets(package.build_pipeline(name, one)(TEXT).ents)
    ]
    assert {label for _, _, label in alone} == {"DISEASE", "GENE"}
    assert sorted(offsets(doc.spans["openmed"])) == sorted(alone)
    assert set(offsets(doc.ents)) <= set(alone)
    assert {source["name"] for source in nlp.meta["sources"]} >= {"corpus ncbi", "corpus bc2gm"}


def test_a_part_of_a_corpus_is_marked_among_all(adapter, backbone, tmp_path):
    tenth = registry.dataset("bc4chemd").editions["tenth"]
    folder = make_adapter(backbone, tmp_path / "chemicals", "bc4chemd", ("CHEMICAL",), seed=5)
    record = {"data": {"train": tenth.splits["train"].raw_sha256}}
    (folder / adapters.TRAINING).write_text(json.dumps(record))
    found = {"ncbi": adapters.read(adapter), "bc4chemd": adapters.read(folder)}
    about = package.build_pipeline_of_all(found).meta["description"]
    assert about.endswith(f"bc4chemd: {tenth.about}") and "ncbi:" not in about
    card = package._card_of_all(found)
    (row,) = [line for line in card.splitlines() if line.startswith("| `bc4chemd`")]
    assert tenth.about in row and card.count(tenth.about) == 1
    one = package.build_pipeline("bc4chemd", found["bc4chemd"]).meta["description"]
    assert one.endswith(tenth.about)


def test_a_span_says_which_adapter_found_it(adapter, backbone, tmp_path):
    other = make_adapter(backbone, tmp_path / "other", "bc5cdr-disease", ("DISEASE",), seed=3)
    found = {"ncbi": adapters.read(adapter), "bc5cdr-disease": adapters.read(other)}
    nlp = package.build_pipeline_of_all(found)
    alone = {
        name: set(offsets(package.build_pipeline(name, one)(TEXT).ents))
        for name, one in found.items()
    }
    doc = nlp(TEXT)
    for kept in (doc, Doc(nlp.vocab).from_bytes(doc.to_bytes())):
        for name, expected in alone.items():
            own = [span for span in kept.spans["openmed"] if span.id_ == name]
            assert set(offsets(own)) == expected != set()
        assert all(set(offsets([ent])) <= alone[ent.id_] for ent in kept.ents)
        assert kept.ents


def test_all_adapters_are_on_one_backbone(adapter, tmp_path):
    found = adapters.read(adapter)
    info = adapters.AdapterInfo("bc2gm", ("GENE",), backbones.reference("minilm"))
    other = adapters.Adapter(**{**vars(found), "info": info})
    for several in ({"ncbi": found, "bc2gm": other}, {}):
        with pytest.raises(OpenMedError, match="on one backbone"):
            package.build_package_of_all(several, tmp_path / "output")
    assert not (tmp_path / "output").exists()


def test_hyphens_become_underscores():
    assert adapters.package_name("bc5cdr-chem") == "en_openmed_bc5cdr_chem"


@pytest.mark.parametrize("dataset", ["nbci", "fsu", "bc2gm"])
def test_bad_requests_write_nothing(dataset, adapter, tmp_path):
    output = tmp_path / "output"
    with pytest.raises(OpenMedError, match=dataset):
        package.build_package(dataset, output, None if dataset == "fsu" else adapter)
    assert not output.exists()


def test_a_failed_build_writes_nothing(adapter, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise SystemExit(1)

    monkeypatch.setattr(package, "spacy_package", fail)
    with pytest.raises(OpenMedError, match="nothing was written"):
        package.build_package("ncbi", tmp_path / "output", adapter)
    assert not (tmp_path / "output").exists()


def test_a_failed_copy_leaves_nothing(adapter, tmp_path, monkeypatch):
    def build(folder, output, **_):
        (output / "x" / "dist").mkdir(parents=True)
        (output / "x" / "dist" / "en_openmed_ncbi-1-py3-none-any.whl").write_bytes(b"wheel")

    def fail(source, target):
        Path(target).write_bytes(b"wh")
        raise OSError("disk full")

    monkeypatch.setattr(package, "spacy_package", build)
    monkeypatch.setattr(package.shutil, "copyfile", fail)
    with pytest.raises(OSError, match="disk full"):
        package.build_package("ncbi", tmp_path / "output", adapter)
    assert not list((tmp_path / "output").iterdir())


def test_links_of_cards_that_ship_lead_somewhere(tmp_path):
    root = Path(__file__).parents[1]
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    cards = sorted((tmp_path / "spacy_openmed" / "shipped").glob("*/*/README.md"))
    assert len(cards) > 11
    for card in cards:
        text = card.read_text(encoding="utf8")
        links = [one for one in re.findall(r"\]\(([^)]*)\)", text) if "://" not in one]
        assert all((card.parent / link).is_file() for link in links), card
    ncbi = tmp_path / "spacy_openmed" / "shipped" / "ncbi" / "minilm" / adapters.CARD
    text = ncbi.read_text(encoding="utf8")
    assert "`ncbi-test.json`" in text and f"](./{adapters.TRAINING})" in text
