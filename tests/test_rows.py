"""Rows of Hugging Face datasets: from any iterable, and in the files of datasets."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, IterableDataset, Sequence, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_openmed.corpora import bio
from spacy_openmed.corpora.documents import Document
from spacy_openmed.corpora.formats import rows
from spacy_openmed.corpora.problems import Skipped
from spacy_openmed.entities import Entity
from spacy_openmed.errors import OpenMedError
from spacy_openmed.labelling import outermost

NAMES = ["O", "B-Disease", "I-Disease"]
FEATURES = Features(
    id=Value("string"), tokens=Sequence(Value("string")), ner_tags=Sequence(ClassLabel(names=NAMES))
)
ROWS = [
    {"id": "1", "tokens": ["lung", "cancer", "and", "flu"], "ner_tags": [1, 2, 0, 1]},
    {"id": "2", "tokens": ["none"], "ner_tags": [0]},
]
EXPECTED = [
    Document(
        "1",
        "lung cancer and flu",
        [Entity(0, 11, "Disease"), Entity(16, 19, "Disease")],
        tokens=[(0, 4), (5, 11), (12, 15), (16, 19)],
    ),
    Document("2", "none", [], tokens=[(0, 4)]),
]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rows")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


# Rows


@pytest.mark.parametrize(
    "source",
    [
        Dataset.from_list(ROWS, features=FEATURES),
        Dataset.from_list(ROWS, features=FEATURES).with_format("numpy"),
        IterableDataset.from_generator(lambda: iter(ROWS), features=FEATURES),
    ],
    ids=["Dataset", "numpy", "IterableDataset"],
)
def test_names_of_ids_are_those_of_the_features(source: Any) -> None:
    assert list(rows.documents(source)) == EXPECTED


@pytest.mark.parametrize("tokens", ["tokens", "words"])
@pytest.mark.parametrize("tags", ["ner_tags", "tags", "labels", "ner"])
def test_names_of_columns(tokens: str, tags: str) -> None:
    source = [{"id": r["id"], tokens: r["tokens"], tags: r["ner_tags"]} for r in ROWS]
    assert list(rows.documents(source, NAMES)) == EXPECTED
    assert list(rows.documents(iter(source), NAMES)) == EXPECTED
    features = Features(
        {"id": FEATURES["id"], tokens: FEATURES["tokens"], tags: FEATURES["ner_tags"]}
    )
    assert list(rows.documents(Dataset.from_list(source, features=features))) == EXPECTED


def test_types_become_labels_and_ids_may_be_missing() -> None:
    source = [{"tokens": ["flu"], "ner_tags": ["B-Disease"]}] * 2
    found = list(rows.documents(source, types={"Disease": "DISEASE"}))
    assert found == [Document("", "flu", [Entity(0, 3, "DISEASE")], tokens=[(0, 3)])] * 2
    with pytest.raises(OpenMedError, match=r"^here, row 0: unexpected type 'Disease'"):
        next(rows.documents(source, types={"Virus": "VIRUS"}, where="here"))


@st.composite
def tagged(draw: st.DrawFn) -> list[bio.Span]:
    """Spans on ten tokens."""
    edges = sorted(draw(st.sets(st.integers(0, 10), max_size=8)))
    labels = st.sampled_from(["Disease", "Gene"])
    return [(a, b, draw(labels)) for a, b in zip(edges[::2], edges[1::2], strict=False)]


@given(st.lists(tagged(), min_size=1, max_size=4), st.sampled_from(bio.SCHEMES), st.booleans())
def test_any_scheme(spans: list[list[bio.Span]], scheme: str, as_ids: bool) -> None:
    tags: list[list[Any]] = [bio.encode(s, 10, scheme) for s in spans]
    # Where BIO2 explains the tags as well, nothing tells another scheme.
    expected = [bio.decode(row, bio.detect(tags)) for row in tags]
    names = sorted({tag for row in tags for tag in row})
    if as_ids:
        tags = [[names.index(tag) for tag in row] for row in tags]
    source = [{"tokens": list("abcdefghij"), "tags": row} for row in tags]
    for chosen, wanted in ((scheme, spans), (None, expected)):
        found = rows.documents(source, names, scheme=chosen)
        assert [[(e.start // 2, (e.end + 1) // 2, e.label) for e in d.entities] for d in found] == [
            [tuple(span) for span in row] for row in wanted
        ]


TEXT_ROWS = {
    "lists": {"text": "lung cancer", "entities": [[0, 4, "A"], [0, 11, "D"]]},
    "objects": {
        "text": "lung cancer",
        "spans": [{"start": 0, "end": 4, "label": "A"}, {"start": 0, "end": 11, "label": "D"}],
    },
    "object of lists": {
        "text": "lung cancer",
        "entities": {"start": [0, 0], "end": [4, 11], "label": ["A", "D"]},
    },
    "nothing in other columns": {
        "id": None,
        "text": "lung cancer",
        "tokens": ["lung", "cancer"],
        "ner_tags": None,
        "answer": None,
        "spans": None,
        "label": [[0, 4, "A"], [0, 11, "D"]],
    },
}


@pytest.mark.parametrize("case", TEXT_ROWS)
def test_rows_of_text(case: str) -> None:
    expected = Document("", "lung cancer", [Entity(0, 4, "A"), Entity(0, 11, "D")])
    assert list(rows.documents([TEXT_ROWS[case]])) == [expected]


BAD_ROWS: dict[str, tuple[Any, str]] = {
    "lengths": ({"tokens": ["a", "b"], "tags": ["O"]}, "not two lists of one length"),
    "a text": ({"tokens": "ab", "tags": ["O", "O"]}, "not two lists of one length"),
    "tags as text": ({"tokens": ["a"], "tags": "O"}, "not two lists of one length"),
    "a number": ({"tokens": ["a"], "tags": 3}, "not two lists of one length"),
    "empty token": ({"tokens": ["a", ""], "tags": [0, 0]}, "row 1, token 2: '' is no token"),
    "token null": ({"tokens": ["a", None], "tags": [0, 0]}, "row 1, token 2: None is no token"),
    "id too large": ({"tokens": ["a"], "tags": [3]}, "3 is none of 0 to 2"),
    "ignored id": ({"tokens": ["a"], "tags": [-100]}, "-100 is none of 0 to 2"),
    "tag null": ({"tokens": ["a"], "tags": [None]}, "None is none of 0 to 2"),
    "I without B": ({"tokens": ["a", "b"], "tags": [0, 2]}, "row 1, tag 2: I-Disease follows"),
    "no tag": ({"tokens": ["a"], "tags": ["Disease"]}, "row 1, tag 1: 'Disease' is no tag of BIO2"),
    "other columns": ({"sentence": "a", "target": 1}, "ner_tags.*There are: sentence, target"),
    "tokens only": ({"tokens": ["a"]}, "There are: tokens"),
    "no row": ("train", "'train' is no row. Of a DatasetDict give one split"),
    "outside": ({"text": "a", "entities": [[0, 2, "D"]]}, "0 to 2 lies outside"),
    "ragged": ({"text": "a", "spans": {"start": [0], "end": []}}, "entities are"),
    "same id": ({"id": "x", "tokens": ["a"], "tags": [0]}, "row 1: id 'x' is that of row 0, too"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_errors_name_the_row(case: str) -> None:
    row, message = BAD_ROWS[case]
    good = {"tokens": ["a"], "tags": [1]}
    source = [{**good, "id": "x"}, row, good]
    with pytest.raises(OpenMedError, match=f"^data, row 1[:,].*{message}|^data, {message}"):
        list(rows.documents(source, NAMES, where="data"))
    skipped = Skipped()
    assert len(list(rows.documents(source, NAMES, on_error=skipped))) == 2
    assert skipped.count == 1
    assert skipped.messages[0].startswith("row 1")


def test_ids_without_names() -> None:
    with pytest.raises(OpenMedError, match=r"row 0, tags: these are numbers .*tag_names"):
        list(rows.documents(ROWS))
    with pytest.raises(OpenMedError, match="Of a DatasetDict give one split"):
        list(rows.documents(DatasetDict(train=Dataset.from_list(ROWS))))


def test_numbers_of_numpy() -> None:
    source = [{"tokens": np.array(["flu"]), "tags": np.array([1])}]
    assert next(rows.documents(source, NAMES)).entities == [Entity(0, 3, "Disease")]


# Files


def test_what_datasets_writes(tmp_path: Path) -> None:
    data = Dataset.from_list(ROWS, features=FEATURES)
    data.to_parquet(tmp_path / "a.parquet")
    data.save_to_disk(tmp_path / "saved")
    DatasetDict(train=data, dev=data).save_to_disk(tmp_path / "splits")
    arrow = next((tmp_path / "saved").glob("*.arrow"))
    for path in (tmp_path / "a.parquet", tmp_path / "saved", tmp_path / "splits" / "dev", arrow):
        assert list(rows.read(path)) == EXPECTED, path
    with pytest.raises(OpenMedError, match=r"splits holds several splits \(dev, train\)"):
        list(rows.read(tmp_path / "splits"))


def test_a_folder_of_parquet_files_is_one_data_set(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    features = Features({**FEATURES, "ner_tags": Sequence(Value("string"))})
    # Only together they tell that the scheme is IOB1.
    tags = [["I-Disease", "I-Disease"], ["I-Disease", "B-Disease"]]
    for i, row in enumerate(tags):
        source = [{"id": f"{i}", "tokens": ["a", "b"], "ner_tags": row}]
        Dataset.from_list(source, features=features).to_parquet(
            tmp_path / "data" / f"train-{i}.parquet"
        )
    found = list(rows.read(tmp_path))
    assert [d.id for d in found] == ["0", "1"]
    assert [len(d.entities) for d in found] == [1, 2]


@pytest.mark.parametrize("folder", [".", "data"])
def test_splits_side_by_side_are_not_read_as_one(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    data = Dataset.from_list(ROWS, features=FEATURES)
    for split in ("train", "validation"):
        data.to_parquet(tmp_path / folder / f"{split}-00000-of-00001.parquet")
    with pytest.raises(OpenMedError, match=r"several splits \(.*train-00000.*, .*validation-"):
        list(rows.read(tmp_path))
    assert list(rows.read(tmp_path / folder / "train-00000-of-00001.parquet")) == EXPECTED


def test_other_columns_are_not_read(tmp_path: Path) -> None:
    data = Dataset.from_list(ROWS, features=FEATURES)
    data.add_column("embedding", [[0.5] * 8] * 2).to_parquet(tmp_path / "a.parquet")
    assert list(rows.read(tmp_path / "a.parquet")) == EXPECTED
    Dataset.from_dict({"sentence": ["a"]}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(OpenMedError, match=r"b\.parquet, row 0: .*There are: sentence"):
        list(rows.read(tmp_path / "b.parquet"))


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "saved"])
def test_damaged_files(tmp_path: Path, name: str) -> None:
    data = Dataset.from_list(ROWS * 1, features=FEATURES)
    path = tmp_path / name
    data.save_to_disk(tmp_path / "saved")
    data.to_parquet(tmp_path / "a.parquet")
    arrow = next((tmp_path / "saved").glob("*.arrow"))
    (tmp_path / "a.arrow").write_bytes(arrow.read_bytes())
    file = arrow if path.is_dir() else path
    whole = file.read_bytes()
    for content in (b"", b"PK\x03\x04" + whole, whole[: len(whole) // 2], b'{"tokens": ["a"]}'):
        file.write_bytes(content)
        with pytest.raises(OpenMedError, match=rf"{name}: cannot be read"):
            list(rows.read(path))


def test_a_folder_without_data(tmp_path: Path) -> None:
    with pytest.raises(OpenMedError, match=r"no data set of save_to_disk, and no \.parquet"):
        list(rows.read(tmp_path))


def test_datasets_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows.write(EXPECTED, path)
    cache = str(tmp_path / "cache")
    for data in (
        Dataset.from_parquet(str(path), cache_dir=cache),
        datasets.load_dataset("parquet", data_files=str(path), split="train", streaming=True),
    ):
        assert data.features == FEATURES
        assert list(data) == ROWS
    assert path.stat().st_mode & 0o777 == 0o644


TOKENS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4)


@st.composite
def tokenized_documents(draw: st.DrawFn) -> Document:
    """Mentions on tokens, nested ones among them."""
    words = draw(st.lists(TOKENS, max_size=8))
    edges = [0]
    for word in words:
        edges.append(edges[-1] + len(word) + 1)
    spans = [(start, start + len(word)) for start, word in zip(edges, words, strict=False)]
    numbers = st.integers(0, max(0, len(words) - 1))
    ranges = draw(st.lists(st.tuples(numbers, numbers), max_size=4)) if words else []
    labels = st.sampled_from(["Disease", "Gene", "a b"])
    entities = [Entity(spans[min(r)][0], spans[max(r)][1], draw(labels)) for r in ranges]
    return Document(draw(TOKENS), " ".join(words), entities, tokens=spans)


@given(st.lists(tokenized_documents(), max_size=4, unique_by=lambda d: d.id), st.integers(1, 9))
@settings(max_examples=60)
def test_round_trip(scratch: Path, written: list[Document], batch: int) -> None:
    path = scratch / "a.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "BATCH_TOKENS", batch)
        rows.write(written, path)
    assert list(rows.read(path)) == [
        Document(d.id, d.text, outermost(d.entities), tokens=d.tokens) for d in written
    ]


UNWRITABLE = {
    "no tokens": (Document("7", "flu", []), "no tokens"),
    "inside a token": (Document("7", "flu", [Entity(0, 2, "D")], [(0, 3)]), "'D' entity 0 to 2"),
    "no label": (Document("7", "flu", [Entity(0, 3, "")], [(0, 3)]), "'' entity 0 to 3"),
    "surrogate": (Document("7", "\ud800", [], [(0, 1)]), "lone surrogate"),
    "surrogate label": (Document("7", "a", [Entity(0, 1, "\ud800")], [(0, 1)]), "lone surrogate"),
}


@pytest.mark.parametrize("case", UNWRITABLE)
def test_what_cannot_be_written(tmp_path: Path, case: str) -> None:
    document, message = UNWRITABLE[case]
    with pytest.raises(OpenMedError, match=rf"document 2 \('7'\): .*{message}"):
        rows.write([EXPECTED[0], document], tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []


def test_only_parquet_is_written(tmp_path: Path) -> None:
    for name in ("a.arrow", "folder"):
        with pytest.raises(OpenMedError, match=r"written to \.parquet"):
            rows.write(EXPECTED, tmp_path / name)
