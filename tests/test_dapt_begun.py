"""What a run was begun with, and whether it may go on."""

from pathlib import Path
from typing import Any

import pytest

from spacy_openmed.errors import OpenMedError
from spacy_openmed.training import begun

FACTS: dict[str, Any] = {
    "backbone": "abc",
    "settings": {"window": 48, "seeds": (1, 2), "optim": {"seed": 1, "precision": None}},
    "processes": 1,
}


@pytest.fixture
def noted(tmp_path: Path) -> Path:
    path = tmp_path / "out" / "run.json"
    begun.write(path, FACTS)
    return path


def test_the_same_may_go_on(noted: Path):
    assert begun.check(noted, FACTS)
    assert [path.name for path in noted.parent.iterdir()] == ["run.json"]


def test_without_a_file_nothing_can_be_said(tmp_path: Path):
    assert not begun.check(tmp_path / "run.json", FACTS)


def test_what_differs_is_named_with_both_values(noted: Path):
    now = {
        "backbone": "abd",
        "settings": {"window": 48, "seeds": [1, 3], "optim": {"seed": 2}},
        "processes": 1,
        "text 1": "e",
    }
    with pytest.raises(OpenMedError) as caught:
        begun.check(noted, now)
    assert str(caught.value) == (
        f"The run in {noted.parent} was begun with others than it is to go on with: "
        "backbone was abc, is abd; settings.seeds was [1, 2], is [1, 3]; settings.optim.seed was "
        "1, is 2; settings.optim.precision was None, is absent; text 1 was absent, is e. Give the "
        "same again, or choose another --output."
    )


def test_what_is_free_may_differ_with_all_that_is_in_it(noted: Path):
    now = {**FACTS, "settings": {**FACTS["settings"], "optim": {"seed": 2}, "window": 40}}
    assert begun.check(noted, now, ("settings.optim", "settings.window"))
    with pytest.raises(OpenMedError, match=r"settings\.window was 48, is 40\. Give"):
        begun.check(noted, now, ("settings.optim", "settings.win"))


@pytest.mark.parametrize(
    "content",
    [b"", b'{"backbone": "ab', b"[1, 2]", b"null", b'{"other": 1}', b"{}", b"\xff\xfe"],
)
def test_a_broken_file_is_refused_as_such(noted: Path, content: bytes):
    noted.write_bytes(content)
    with pytest.raises(OpenMedError, match=r"run\.json is broken.*Choose another --output"):
        begun.check(noted, FACTS)


def test_what_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(OpenMedError, match="cannot be read"):
        begun.check(tmp_path, FACTS)
