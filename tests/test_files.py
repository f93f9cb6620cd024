"""Writing files, and reading JSON."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_openmed.errors import OpenMedError
from spacy_openmed.files import (
    check_writable,
    json_or_none,
    read_json,
    read_json_if_there,
    write_json,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text('[1, ]\n"2'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("a[1,\n"), inner),
    max_leaves=20,
)


@given(content=st.dictionaries(st.text(), VALUES))
def test_json_reads_back(content: dict[str, Any], tmp_path_factory: Any) -> None:
    path: Path = tmp_path_factory.mktemp("json") / "file.json"
    write_json(path, content)
    assert json.loads(path.read_text(encoding="utf8")) == content
    assert read_json(path, "") == content == json_or_none(path) == read_json_if_there(path, "")


def test_numbers_stand_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"documents": [[1, 0, 2], [0, -1.5e-07, 3]], "empty": [], "names": ["1", "2"]})
    assert path.read_text(encoding="utf8").splitlines() == [
        "{",
        '  "documents": [',
        "    [1, 0, 2],",
        "    [0, -1.5e-07, 3]",
        "  ],",
        '  "empty": [],',
        '  "names": [',
        '    "1",',
        '    "2"',
        "  ]",
        "}",
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", r"is broken \(Expecting"),
        (b"", r"is broken \(Expecting"),
        (b"[]", r"is broken \(not a JSON object\)"),
        (b"null", r"is broken \(not a JSON object\)"),
        (b'{"a": "\xff"}', r"is broken \('utf-8' codec"),
        (None, r"cannot be read \(No such file"),
    ],
)
def test_what_is_no_json_object_is_refused(
    content: bytes | None, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "file.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OpenMedError, match=rf"^{path} {reason}.*\. Make it anew\.$"):
        read_json(path, "Make it anew.")
    assert json_or_none(path) is None
    if content is None:
        assert read_json_if_there(path, "") is None
    else:
        with pytest.raises(OpenMedError, match="is broken"):
            read_json_if_there(path, "")


@pytest.mark.parametrize("read", [read_json, read_json_if_there])
def test_a_folder_is_no_json_object(
    read: Callable[[Path, str], dict[str, Any] | None], tmp_path: Path
) -> None:
    with pytest.raises(OpenMedError, match=r"cannot be read \(Is a directory"):
        read(tmp_path, "")


def test_what_can_be_written_is_found_out_without_a_trace(tmp_path: Path) -> None:
    old, new = tmp_path / "old.json", tmp_path / "folder" / "new.json"
    old.write_text("{}", encoding="utf8")
    for path in (old, new):
        check_writable(path)
    assert sorted(tmp_path.rglob("*")) == [new.parent, old]
    assert old.read_text(encoding="utf8") == "{}"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("folder", "is a folder"),
        ("file/new.json", "cannot be written"),
        (f"{'x' * 300}.json", "cannot be written"),
    ],
)
def test_what_cannot_be_written_is_refused_before(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(OpenMedError, match=reason):
        check_writable(tmp_path / name)
