"""The hash of the code."""

from pathlib import Path

import spacy_openmed
from spacy_openmed.code_hash import code_sha256, sha256_of_code


def test_it_is_of_names_and_contents_of_python_files(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "b" / "c.py").write_text("y = 2\n")
    first = sha256_of_code(tmp_path)
    (tmp_path / "card.md").write_text("text")
    assert sha256_of_code(tmp_path) == first
    (tmp_path / "a.py").write_text("x = 2\n")
    changed = sha256_of_code(tmp_path)
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "b" / "c.py").rename(tmp_path / "b" / "d.py")
    assert len({first, changed, sha256_of_code(tmp_path)}) == 3
    (tmp_path / "b" / "d.py").rename(tmp_path / "b" / "c.py")
    assert sha256_of_code(tmp_path) == first


def test_it_is_that_of_this_package() -> None:
    assert code_sha256() == sha256_of_code(Path(spacy_openmed.__file__).parent)
