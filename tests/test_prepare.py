"""Preparing corpora: whole or not at all, once, and only what the registry knows."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spacy_openmed.cli.app import app
from spacy_openmed.corpora import originals, registry
from spacy_openmed.corpora import prepare as module
from spacy_openmed.corpora.formats import conll, docbin, jsonl
from spacy_openmed.corpora.prepare import prepare
from spacy_openmed.corpora.problems import Skipped
from spacy_openmed.corpora.registry import Dataset, Edition, Source
from spacy_openmed.corpora.statistics import SplitStatistics
from spacy_openmed.errors import OpenMedError

TEXT = "Gout of the left foot came back after colchicine was stopped"


def rows(split: str) -> list[dict[str, object]]:
    entities = [[0, 21, "Disease", "D006073"], [0, 4, "Disease"]]
    return [{"id": f"{split}1", "text": TEXT, "entities": entities}]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A prepared corpus with a nested mention, and a registry that knows it."""
    folder = tmp_path / "source" / "ner" / "toy"
    folder.mkdir(parents=True)
    for split in ("train", "dev", "test"):
        lines = [json.dumps(row) for row in rows(split)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf8")
        tags = ["B-Disease"] + ["I-Disease"] * 4 + ["O"] * 6
        tokens = [f"{t}\t{tag}" for t, tag in zip(TEXT.split(), tags, strict=True)]
        (folder / f"{split}.conll").write_text(
            f"# doc = {split}1\n" + "\n".join(tokens) + "\n\n", encoding="utf8"
        )
    counts = SplitStatistics(1, 2, None, None, 1, 11, 1)
    edition = Edition(
        "official",
        splits={split: counts for split in ("train", "dev", "test")},
        repeated={"dev_in_train": (1, 1)},
    )
    toy = Dataset(
        id="toy",
        name="Toy",
        types={"Disease": "DISEASE"},
        licence="ours",
        format="",
        split="",
        citation="",
        sources=(Source(url="https://example.org/toy.zip"),),
        editions={"official": edition},
    )
    monkeypatch.setattr(registry, "_load", lambda: ({"toy": toy}, []))
    return tmp_path / "source"


def toy() -> Dataset:
    return registry.dataset("toy")


def test_all_three_forms_and_a_record(source: Path, tmp_path: Path) -> None:
    record = prepare(toy(), source, tmp_path / "out")
    folder = tmp_path / "out" / "ner" / "toy"
    names = {f"{s}.{e}" for s in ("train", "dev", "test") for e in ("jsonl", "conll", "spacy")}
    assert {p.name for p in folder.iterdir()} == {*names, module.RECORD}
    assert json.loads((folder / module.RECORD).read_text()) == record
    for suffix in ("jsonl", "conll"):
        original = source / "ner" / "toy" / f"dev.{suffix}"
        assert (folder / f"dev.{suffix}").read_text() == original.read_text()
    (document,) = docbin.read(folder / "dev.spacy")
    assert document.text == TEXT
    assert {e[:3] for e in document.entities} == {(0, 21, "DISEASE"), (0, 4, "DISEASE")}
    assert document.concepts == {(0, 21, "DISEASE"): "D006073"}


def test_done_once(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    first = prepare(toy(), source, out)
    said: list[str] = []
    monkeypatch.setattr(module, "_write", None)  # whoever calls it fails
    assert prepare(toy(), source, out, say=said.append) == first
    assert said == ["toy: up to date"]
    monkeypatch.undo()


@pytest.mark.parametrize("what", ["source", "result", "lost"])
def test_done_again_when_something_changed(source: Path, tmp_path: Path, what: str) -> None:
    out = tmp_path / "out"
    prepare(toy(), source, out)
    result = out / "ner" / "toy" / "dev.jsonl"
    if what == "source":
        path = source / "ner" / "toy" / "dev.jsonl"
        path.write_text(path.read_text() + "\n", encoding="utf8")
    elif what == "result":
        result.write_text(result.read_text().replace("left", "foul"), encoding="utf8")
    else:
        result.unlink()
    said: list[str] = []
    prepare(toy(), source, out, say=said.append)
    assert said == [f"toy: from {source / 'ner' / 'toy'}"]
    assert result.read_text() == (source / "ner" / "toy" / "dev.jsonl").read_text().strip() + "\n"


def test_what_differs_from_the_registry_is_not_written(source: Path, tmp_path: Path) -> None:
    path = source / "ner" / "toy" / "dev.jsonl"
    path.write_text(path.read_text().replace(', [0, 4, "Disease"]', ""), encoding="utf8")
    out = tmp_path / "out"
    with pytest.raises(OpenMedError, match=r"dev: mentions 1, the registry has 2"):
        prepare(toy(), source, out)
    assert not list((out / "ner").iterdir())
    record = prepare(toy(), source, out, accept_differences=True)
    assert record["differences"] == ["dev: mentions 1, the registry has 2"]


@pytest.mark.parametrize(
    ("file", "old", "new", "reason"),
    [
        ("dev.jsonl", "[0, 21,", "[0, 999,", "dev.jsonl, line 1: entity 0 to 999"),
        ("test.conll", "B-Disease", "I-Disease", "test.conll, line 2"),
        ("dev.jsonl", "Disease", "Virus", "unexpected type 'Virus'"),
    ],
)
def test_a_broken_file_leaves_what_was_there(
    source: Path, tmp_path: Path, file: str, old: str, new: str, reason: str
) -> None:
    out = tmp_path / "out"
    prepare(toy(), source, out)
    before = {p: p.read_bytes() for p in (out / "ner" / "toy").iterdir()}
    path = source / "ner" / "toy" / file
    path.write_text(path.read_text().replace(old, new, 1), encoding="utf8")
    with pytest.raises(OpenMedError, match=reason):
        prepare(toy(), source, out)
    assert {p: p.read_bytes() for p in (out / "ner" / "toy").iterdir()} == before
    skipped = Skipped()
    prepare(toy(), source, out, skipped, accept_differences=True)
    assert skipped.count == 1 and reason.split(", line")[0] in skipped.messages[0]


def test_originals_are_converted(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no train.jsonl, the folder is taken for originals."""
    prepared = source / "ner" / "toy"
    raw = tmp_path / "raw" / "toy"
    raw.mkdir(parents=True)
    (raw / "archive.zip").write_bytes(b"PK")

    def convert(name: str, folder: Path, on_error: object) -> dict[str, originals.Split]:
        assert (name, folder) == ("toy", raw)
        return {
            split: originals.Split(
                jsonl.read(prepared / f"{split}.jsonl"), conll.read(prepared / f"{split}.conll")
            )
            for split in ("train", "dev", "test")
        }

    monkeypatch.setattr(originals, "convert", convert)
    record = prepare(toy(), tmp_path / "raw", tmp_path / "out")
    assert record["edition"] == "official" and record["differences"] == []
    assert record["splits"] == prepare(toy(), source, tmp_path / "other")["splits"]


def test_where_to_get_what_is_missing(source: Path, tmp_path: Path) -> None:
    with pytest.raises(OpenMedError, match=r"spacy project assets.*example\.org/toy\.zip"):
        prepare(toy(), tmp_path / "nothing", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def no_corpora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.delenv("OPENMED_CORPORA", raising=False)
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def test_fsu_says_where_to_get_it(no_corpora: Path) -> None:
    run = CliRunner().invoke(app, ["corpora", "prepare", "fsu"])
    assert run.exit_code == 1
    assert "julielab.de" in run.output and "Traceback" not in run.output


def test_command_prepares_what_the_folder_has(source: Path, no_corpora: Path) -> None:
    run = CliRunner().invoke(app, ["corpora", "prepare", "--from", str(source)])
    assert run.exit_code == 0, run.output
    assert (no_corpora / "assets" / "corpora" / "ner" / "toy" / module.RECORD).is_file()
    run = CliRunner().invoke(app, ["corpora", "prepare", "--from", str(no_corpora / "nothing")])
    assert run.exit_code == 1 and "Nothing to prepare" in run.output


def test_command_converts(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "dev.spacy"
    command = ["corpora", "convert", str(source / "ner" / "toy" / "dev.jsonl"), str(target)]
    assert CliRunner().invoke(app, command).exit_code == 0
    (document,) = docbin.read(target)
    assert len(document.entities) == 2
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 1 and "exists" in run.output


@pytest.mark.parametrize("name", ["cll", "bionlp13cg"])
def test_a_real_corpus_is_prepared_as_it_is(corpora_dir: Path, tmp_path: Path, name: str) -> None:
    record = prepare(registry.dataset(name), corpora_dir, tmp_path)
    assert record["differences"] == []
    assert record["edition"] == next(iter(registry.dataset(name).editions))
    again = prepare(registry.dataset(name), tmp_path, tmp_path / "again")
    assert again["files"] == record["files"]
    shutil.rmtree(tmp_path / "ner")


def test_nothing_but_what_was_prepared_is_replaced(source: Path, tmp_path: Path) -> None:
    with pytest.raises(OpenMedError, match="cannot be prepared in place"):
        prepare(toy(), source, source)
    out = tmp_path / "out"
    prepare(toy(), source, out)
    notes = out / "ner" / "toy" / "notes.md"
    notes.write_text("ours")
    changed = source / "ner" / "toy" / "dev.jsonl"
    changed.write_text(changed.read_text() + "\n", encoding="utf8")
    with pytest.raises(OpenMedError, match=r"not prepared here \(notes\.md\)"):
        prepare(toy(), source, out)
    assert notes.read_text() == "ours"


def test_differences_that_were_accepted_once_are_not_up_to_date(
    source: Path, tmp_path: Path
) -> None:
    path = source / "ner" / "toy" / "dev.jsonl"
    path.write_text(path.read_text().replace(', [0, 4, "Disease"]', ""), encoding="utf8")
    prepare(toy(), source, tmp_path, accept_differences=True)
    with pytest.raises(OpenMedError, match="mentions 1"):
        prepare(toy(), source, tmp_path)
    said: list[str] = []
    prepare(toy(), source, tmp_path, accept_differences=True, say=said.append)
    assert said == ["toy: up to date"]


def test_a_download_with_another_checksum(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "raw" / "toy"
    raw.mkdir(parents=True)
    (raw / "toy.zip").write_bytes(b"PK")
    sources = (Source(url="https://example.org/toy.zip", sha256="00"),)
    with pytest.raises(OpenMedError, match=r"toy\.zip has sha256 .* the registry has 00"):
        prepare(replace(toy(), sources=sources), tmp_path / "raw", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_that_fails_does_not_stop_the_others(
    source: Path, no_corpora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, user = replace(toy(), id="lost"), replace(toy(), id="user", user_data="x")
    known = {"lost": lost, "user": user, "toy": toy()}
    monkeypatch.setattr(registry, "_load", lambda: (known, []))
    for name in ("lost", "user"):
        (source / name).mkdir()
    run = CliRunner().invoke(app, ["corpora", "prepare", "--from", str(source)])
    assert run.exit_code == 1
    assert "not prepared: lost" in run.output and "✘ user" in run.output
    assert (no_corpora / "assets" / "corpora" / "ner" / "toy" / module.RECORD).is_file()


def test_tokens_are_optional_where_none_are_recorded(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (source / "ner" / "toy").glob("*.conll"):
        path.unlink()
    with pytest.raises(OpenMedError, match="sentences None"):
        prepare(toy(), source, tmp_path / "out")
    counts = SplitStatistics(documents=1, mentions=2)
    raw_only = Edition("raw", splits={s: counts for s in ("train", "dev", "test")})
    dataset = replace(toy(), editions={**toy().editions, "raw": raw_only})
    record = prepare(dataset, source, tmp_path / "out")
    assert (record["edition"], record["differences"]) == ("raw", [])
    assert not list((tmp_path / "out" / "ner" / "toy").glob("*.conll"))
