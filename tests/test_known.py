"""Test of a known corpus is found in files of every form, and no command takes it for own data."""

import json
import random
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_select import write_adapter
from typer.testing import CliRunner

from spacy_openmed.cli.app import app
from spacy_openmed.corpora import formats, known, own, registry
from spacy_openmed.corpora.documents import Document
from spacy_openmed.corpora.folder import SPLITS, installed, read_split
from spacy_openmed.corpora.guarded import read_guarded
from spacy_openmed.corpora.known import fingerprints, shared_with_test
from spacy_openmed.entities import Entity
from spacy_openmed.errors import OpenMedError

# Ours, so that what is found in it can be tried without the corpora.
ASSETS = Path(__file__).parents[1] / "assets" / "sample"
SAMPLE = ASSETS / "ner" / "sample"
RECORDED = Path(known.__file__).parent / "fingerprints.json"


@pytest.fixture(scope="module")
def splits() -> dict[str, list[Document]]:
    return {split: read_split(ASSETS, "sample", split) for split in SPLITS}


@pytest.fixture(scope="module")
def sample(splits: dict[str, list[Document]]) -> list[Document]:
    return splits["test"]


def found(documents: list[Document]) -> tuple[str, ...]:
    shared = shared_with_test(documents)
    return shared.datasets if shared else ()


def sentences(document: Document) -> Iterator[Document]:
    """Cut at full stops, each with its own mentions."""
    for piece in re.finditer(r"\S.*?(?:[.?!](?= |$)|$)", document.text):
        start, stop = piece.span()
        inside = [
            Entity(e.start - start, e.end - start, e.label)
            for e in document.entities
            if start <= e.start and e.end <= stop
        ]
        yield Document("", piece.group(), inside)


@pytest.mark.parametrize("name", ["a.conll", "a.jsonl", "a.xml", "a.spacy"])
def test_every_format(sample: list[Document], tmp_path: Path, name: str) -> None:
    formats.write(sample, tmp_path / name)
    assert found(own.load(tmp_path / name)) == ("sample",)


def test_tokens_without_documents(sample: list[Document], tmp_path: Path) -> None:
    formats.write(sample, tmp_path / "marked.conll")
    lines = (tmp_path / "marked.conll").read_text().splitlines()
    kept = [line for line in lines if not line.startswith("# doc")]
    assert len(kept) < len(lines)
    file = tmp_path / "a.conll"
    file.write_text("\n".join(kept) + "\n")
    assert found(own.load(file)) == ("sample",)


def test_other_labels_order_case_and_parts(sample: list[Document]) -> None:
    renamed = [replace(d, entities=[e._replace(label="X") for e in d.entities]) for d in sample]
    assert found(renamed) == ("sample",)
    shuffled = random.Random(1).sample(sample, len(sample))
    assert shared_with_test(shuffled) == shared_with_test(sample)
    assert found([replace(d, text=d.text.upper(), entities=[]) for d in sample]) == ("sample",)
    assert (
        found(sample[:-1]) == found(sample[:5]) == found(sample[len(sample) // 2 :]) == ("sample",)
    )


def test_cut_into_sentences_and_joined(sample: list[Document]) -> None:
    cut = [piece for document in sample for piece in sentences(document)]
    assert len(cut) > 4 * len(sample)
    assert found(cut) == ("sample",)
    assert found([Document("", "\n".join(d.text for d in sample), [])]) == ("sample",)


def test_changed_here_and_there(sample: list[Document]) -> None:
    changed = [
        replace(d, text=re.sub(r"\band\b", "as well as", d.text), entities=[]) for d in sample
    ]
    shared = shared_with_test(changed)
    assert shared is not None and shared.of_test < 100


def test_among_other_texts(splits: dict[str, list[Document]]) -> None:
    """All of test beside five times as much, and a little of it beside the same."""
    train, test = splits["train"], splits["test"]
    shared = shared_with_test(train + test)
    assert shared is not None
    assert shared.of_test == 100 and shared.of_documents < known.PERCENT
    part = fingerprints(document.text for document in test[:2])
    assert 0 < len(part) < len(fingerprints(d.text for d in test)) * known.PERCENT / 100
    assert found(train + test[:2]) == ()


def test_train_and_dev_are_not_test(splits: dict[str, list[Document]]) -> None:
    assert found(splits["train"]) == found(splits["dev"]) == ()
    assert found([]) == ()
    # Too short to be of anything.
    assert found([Document("", "the patient with gout", [])]) == ()


def test_where_tests_have_the_same_texts_all_are_named(
    sample: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fingerprints(d.text for d in sample)
    # As a corpus made from a part of another, whose own test is told from the larger one's.
    part = fingerprints(d.text for d in sample[: len(sample) // 2])
    monkeypatch.setattr(known, "_known", lambda: {"whole": whole, "twin": whole, "part": part})
    assert found(sample) == ("whole", "twin")
    assert found(sample[: len(sample) // 2]) == ("part",)


texts = st.integers(0, 2**32).map(
    lambda seed: "".join(random.Random(seed).choices("abcdefghij  .,-(", k=4000))
)


@given(texts, texts)
def test_only_letters_count(first: str, second: str) -> None:
    plain = fingerprints([first])
    assert len(plain) > 0
    spaced = " ".join(re.sub(r"\W+", "", first)).upper()
    assert np.array_equal(fingerprints([spaced]), plain)
    both = fingerprints([second, first])
    assert np.array_equal(both, np.union1d(plain, fingerprints([second])))
    # Joined there are the runs across the seam in addition.
    assert np.isin(both, fingerprints([first + second])).all()


def test_fingerprints_are_the_same_everywhere() -> None:
    words = " ".join(f"word {number}" for number in range(300))
    assert fingerprints([words]).tolist() == [
        1593461043,
        1689828835,
        1887813195,
        1945788030,
        2017823414,
        2106830383,
        2492580488,
        3233943582,
        3495005257,
    ]


def test_recorded_is_what_the_sample_has() -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf8"))
    made = json.loads(known.to_json(known.of_folders([ASSETS])))
    assert made == {"sample": recorded["sample"]}
    assert set(recorded) <= set(registry.with_demos())
    assert RECORDED.stat().st_size < 150_000


# The corpora themselves


def test_recorded_is_what_the_corpora_have(corpora_dir: Path) -> None:
    run = CliRunner().invoke(
        app, ["corpora", "fingerprints", str(corpora_dir), str(ASSETS)], catch_exceptions=False
    )
    assert run.stdout == RECORDED.read_text(encoding="utf8")


SAME = {"bc5cdr-chem": ("bc5cdr-chem", "bc5cdr-disease")}
SAME["bc5cdr-disease"] = SAME["bc5cdr-chem"]


@pytest.mark.parametrize("name", registry.datasets())
def test_test_of_a_corpus_is_known_in_every_form(
    corpora_dir: Path, tmp_path: Path, name: str
) -> None:
    if not installed(corpora_dir, name):
        pytest.skip(f"{corpora_dir} has no {name}")
    folder = corpora_dir / "ner" / name
    test = own.load(folder / "test.jsonl")
    assert found(test) == SAME.get(name, (name,))
    assert found(test[:-1]) == SAME.get(name, (name,))
    tokens = own.load(folder / "test.conll")
    shared = shared_with_test(tokens)
    # The published tokens of linnaeus leave parts of the papers out.
    assert shared is not None and shared.datasets == SAME.get(name, (name,))
    assert min(shared.of_documents, shared.of_test) > (95 if name == "linnaeus" else 99.9)
    lines = (folder / "test.conll").read_text(encoding="utf8").split("\n")
    file = tmp_path / "test.conll"
    file.write_text("\n".join(line for line in lines if not line.startswith("# doc")))
    assert found(own.load(file)) == SAME.get(name, (name,))
    for split in ("train", "dev"):
        other = own.load(folder / f"{split}.jsonl")
        assert found(other) == ()
    assert found(own.load(folder / "train.jsonl") + test) != ()


# The commands


@pytest.fixture(scope="module")
def adapter(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(tmp_path_factory.mktemp("known") / "adapter", tiny_backbone)


@pytest.fixture()
def dev_is_test(tmp_path: Path) -> Path:
    """A prepared corpus whose dev is test under another name."""
    place = tmp_path / "corpora" / "ner" / "sample"
    shutil.copytree(SAMPLE, place)
    shutil.copy(SAMPLE / "test.jsonl", place / "dev.jsonl")
    return tmp_path / "corpora"


def refused(*arguments: object) -> None:
    run = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert run.exit_code == 1, run.output
    assert "test of 'sample'" in run.output, run.output
    assert "--dataset sample --split test" in run.output


def test_no_command_takes_test_as_ones_own(
    adapter: Path, tiny_backbone: Path, tmp_path: Path, sample: list[Document]
) -> None:
    file, train = tmp_path / "mine.conll", SAMPLE / "train.jsonl"
    formats.write(sample[:-1], file)
    refused("evaluate", "--file", file, "--adapter", adapter)
    refused("calibrate", "--dev", file, "--adapter", adapter)
    output = tmp_path / "run"
    for command in ("train", "search"):
        chosen = (command, "--backbone", tiny_backbone, "--output", output)
        refused(*chosen, "--train", train, "--dev", file)
        refused(*chosen, "--train", file, "--dev", SAMPLE / "dev.jsonl")
    assert not output.exists()


def test_no_command_takes_test_for_dev_of_a_corpus(
    adapter: Path, tiny_backbone: Path, tmp_path: Path, dev_is_test: Path
) -> None:
    corpus = ("--dataset", "sample", "--corpus", dev_is_test)
    refused("calibrate", "--adapter", adapter, *corpus)
    output = tmp_path / "run"
    for command in ("train", "search"):
        refused(command, "--backbone", tiny_backbone, "--output", output, *corpus)
    refused("average", adapter, adapter, "--output", output, *corpus)
    assert not output.exists()
    runs = ("--runs", tmp_path / "runs", "--backbones", tiny_backbone, "--datasets", "sample")
    refused("recipe", "search", *runs, "--corpus", dev_is_test, "--trials", 1)
    for part in ("train", "dev"):
        read_guarded(ASSETS, "sample", part)
    with pytest.raises(OpenMedError, match="dev of 'sample' has the text of"):
        read_guarded(dev_is_test, "sample", "dev")
