"""Settings of training runs: read from TOML, checked, and written into cards."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_openmed.errors import OpenMedError
from spacy_openmed.passages.settings import PassageSettings
from spacy_openmed.training import settings
from spacy_openmed.training.search.space import check
from spacy_openmed.training.settings import (
    AblationSettings,
    DaptSettings,
    FinetuneSettings,
    LoraSettings,
    OptimSettings,
    SearchSettings,
    from_dict,
    load,
    to_dict,
)

CONFIGS = Path(__file__).parents[1] / "configs"


def toml(folder: Path, text: str) -> Path:
    path = folder / "own.toml"
    path.write_text(text, encoding="utf8")
    return path


def test_what_a_file_leaves_out_keeps_its_default(tmp_path: Path):
    found = load(FinetuneSettings, toml(tmp_path, "window = 128\n[optim]\nepochs = 3\n"))
    assert found == FinetuneSettings(window=128, optim=OptimSettings(epochs=3.0))
    assert load(DaptSettings, toml(tmp_path, "")) == DaptSettings()


def test_sections_fill_the_nested_settings(tmp_path: Path):
    text = "[lora]\nrank = 4\ntarget_modules = '.*\\.dense'\n[optim]\nprecision = 'fp32'\n"
    found = load(DaptSettings, toml(tmp_path, text))
    assert found.lora == LoraSettings(rank=4, target_modules=r".*\.dense")
    assert found.optim == OptimSettings(precision="fp32")


def test_a_whole_number_will_do_for_a_float():
    found = from_dict(OptimSettings, {"epochs": 3, "learning_rate": 1}, "here")
    assert (found.epochs, found.learning_rate) == (3.0, 1.0)
    assert isinstance(found.epochs, float)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"windw": 128}, "unknown setting windw. Known: lora, optim, window"),
        ({"optim": {"lr": 1e-3}}, "[optim]: unknown setting lr"),
        ({"window": "128"}, "window = '128' must be of type int"),
        ({"window": 128.0}, "window = 128.0 must be of type int"),
        ({"window": True}, "window = True must be of type int"),
        ({"label_smoothing": "0.1"}, "label_smoothing = '0.1' must be of type float"),
        ({"label_smoothing": True}, "label_smoothing = True must be of type float"),
        ({"sentences": 1}, "sentences = 1 must be of type bool"),
        ({"optim": {"precision": 16}}, "[optim]: precision = 16 must be of type str"),
        ({"optim": {"seed": None}}, "[optim]: seed = None must be of type int"),
        ({"lora": 16}, "lora must be a section [lora]"),
        ({"lora": [{"rank": 16}]}, "lora must be a section [lora]"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(data: dict, said: str):
    with pytest.raises(OpenMedError) as caught:
        from_dict(FinetuneSettings, data, "own.toml")
    assert str(caught.value).startswith("own.toml")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"corpora": "ncbi"}, "corpora = 'ncbi' must be of type list[str]"),
        ({"corpora": ["ncbi", 1]}, "corpora = ['ncbi', 1] must be of type list[str]"),
        ({"seeds": 3}, "seeds = 3 must be of type list[int]"),
        ({"seeds": [1.5]}, "seeds = [1.5] must be of type list[int]"),
        ({"seeds": [True]}, "seeds = [True] must be of type list[int]"),
        ({"learning_rates": [1e-3]}, "learning_rates = [0.001] must be of type dict[str, list"),
        (
            {"learning_rates": {"lora": 1e-3}},
            "learning_rates = {'lora': 0.001} must be of type dict[str, list[float]]",
        ),
        (
            {"learning_rates": {"lora": ["1e-3"]}},
            "learning_rates = {'lora': ['1e-3']} must be of type dict[str, list[float]]",
        ),
    ],
)
def test_what_is_inside_lists_and_tables_is_checked(data: dict, said: str):
    with pytest.raises(OpenMedError) as caught:
        from_dict(AblationSettings, data, "own.toml")
    assert str(caught.value).startswith("own.toml: ") and said in str(caught.value)


def test_a_whole_number_will_do_for_a_float_inside_a_list():
    data = {"corpora": [], "seeds": [4], "learning_rates": {"lora": [1, 0.5], "full": []}}
    found = from_dict(AblationSettings, data, "here")
    assert found == AblationSettings([], [4], learning_rates={"lora": [1.0, 0.5], "full": []})
    assert all(type(rate) is float for rate in found.learning_rates["lora"])


@pytest.mark.parametrize("content", [b"window : 128\n", b"window = 1\nwindow = 2\n", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, content: bytes):
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(OpenMedError, match=r"broken\.toml is not TOML"):
        load(FinetuneSettings, path)


def test_a_missing_file_lists_every_place_that_was_tried(tmp_path: Path):
    wanted = tmp_path / "absent"
    with pytest.raises(OpenMedError) as caught:
        load(FinetuneSettings, wanted)
    assert f"Tried: {wanted}, {wanted}.toml" in str(caught.value)
    with pytest.raises(OpenMedError) as caught:
        load(FinetuneSettings, "finetune-nothing")
    assert str(CONFIGS / "finetune-nothing.toml") in str(caught.value)


def test_names_are_looked_up_among_the_projects_own_files():
    assert settings.exists("finetune")
    assert not settings.exists("finetune-nothing")
    assert load(FinetuneSettings, "finetune") == load(FinetuneSettings, CONFIGS / "finetune.toml")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda p: p.stem)
def test_every_file_of_the_project_loads(path: Path):
    kinds = {
        "ablation": AblationSettings,
        "dapt": DaptSettings,
        "finetune": FinetuneSettings,
        "passages": PassageSettings,
        "search": SearchSettings,
    }
    found = load(kinds[path.stem.split("-")[0]], path)
    if isinstance(found, PassageSettings):
        return
    if isinstance(found, SearchSettings):
        # A space is checked against the settings that it starts from.
        start = found.finetune or path.stem.replace("search", "finetune")
        check(found, load(FinetuneSettings, start))
        return
    if isinstance(found, AblationSettings):
        found = found.finetune
    assert 0 <= found.overlap < found.window - 2
    assert found.optim.batch_size > 0 < found.lora.rank


def test_there_are_files_for_both_kinds_of_run():
    kinds = {path.stem.split("-")[0] for path in CONFIGS.glob("*.toml")}
    assert {"finetune", "dapt"} <= kinds


floats = st.floats(allow_nan=False, allow_infinity=False)
lora = st.builds(LoraSettings, st.integers(), st.integers(), floats, st.text())
optim = st.builds(
    OptimSettings,
    batch_size=st.integers(),
    learning_rate=floats,
    max_steps=st.integers(),
    precision=st.text(),
    gradient_checkpointing=st.booleans(),
)
any_settings = st.one_of(
    st.builds(FinetuneSettings, lora, optim, st.integers(), sentences=st.booleans()),
    st.builds(DaptSettings, lora, optim, mask_probability=floats),
)


@given(any_settings)
def test_to_dict_and_from_dict_are_inverse(value: FinetuneSettings | DaptSettings):
    assert from_dict(type(value), to_dict(value), "here") == value


def test_annotations_are_classes_so_that_types_are_checked():
    # "from __future__ import annotations" in settings.py would make them strings, and
    # from_dict would check nothing.
    @dataclass(frozen=True)
    class Own:
        count: int = 1

    with pytest.raises(OpenMedError):
        from_dict(Own, {"count": "1"}, "here")
    assert FinetuneSettings.__dataclass_fields__["lora"].type is LoraSettings
