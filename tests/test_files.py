"""Writing files."""

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from spacy_openmed.files import write_json

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
