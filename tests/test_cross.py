"""Adapters on other corpora: the pairs, labels, shared text, figures, and the command."""

import json
import re
from pathlib import Path

import pytest
import typer
from test_robustness import ByPattern, forbidden, write_split
from test_select import run_select, write_adapter
from typer.testing import CliRunner, Result

from spacy_openmed import adapters
from spacy_openmed.cli.app import guarded
from spacy_openmed.cli.cross import cross as command
from spacy_openmed.code_hash import code_sha256
from spacy_openmed.corpora import registry
from spacy_openmed.corpora.documents import Document
from spacy_openmed.corpora.folder import read_split
from spacy_openmed.corpora.statistics import content_hash
from spacy_openmed.errors import OpenMedError
from spacy_openmed.evaluation import cross, evaluate, ledger
from spacy_openmed.evaluation.cross import PAIRS, Known

pytestmark = pytest.mark.usefixtures("one_torch_thread")

# Thirteen words, and fourteen.
SHARED = "Ovarian cancer was seen in twelve women of one large family of this town."
DEV = [
    f"We report what follows. {SHARED.upper()} The end.",
    "Breast cancer came later.",
    "Nothing was found in the others, but ovarian cancer was not ruled out.",
]
DISEASES = "(?i)(ovarian|breast) cancer"


def write_conll(folder: Path, dataset: str, split: str, type_: str) -> None:
    """The tokens of a split of documents that were written, one sentence each."""
    place = folder / "ner" / dataset
    sentences = []
    for line in (place / f"{split}.jsonl").read_text(encoding="utf8").splitlines():
        row = json.loads(line)
        tags = []
        for token in re.finditer(r"\w+|[^\w\s]", row["text"]):
            inside = [e for e in row["entities"] if e[0] <= token.start() < e[1] and e[2] == type_]
            begins = inside and inside[0][0] == token.start()
            tags.append(f"{token[0]}\t{('B-' if begins else 'I-') + type_ if inside else 'O'}")
        sentences.append(f"-DOCSTART-\tO\n\n{chr(10).join(tags)}\n")
    (place / f"{split}.conll").write_text("\n".join(sentences), encoding="utf8")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_split(folder, "ncbi", "train", ["Not this one.", SHARED], Disease=DISEASES)
    for split in ("dev", "test"):
        write_split(folder, "bc5cdr-disease", split, DEV, Disease=DISEASES)
        write_conll(folder, "bc5cdr-disease", split, "Disease")
    return folder


@pytest.fixture(scope="module")
def adapter(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(tmp_path_factory.mktemp("cross") / "adapter", tiny_backbone)


class Finder(ByPattern):
    """Finds one of the two kinds, in small letters only."""

    pattern = "ovarian cancer"


@pytest.fixture(autouse=True)
def by_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross, "Predictor", Finder)


ONE = cross.pair("ncbi", "bc5cdr-disease")


# --- pairs ------------------------------------------------------------------------------------


def test_pairs_are_of_labels_that_both_have() -> None:
    known = registry.datasets()
    assert len({one.name for one in PAIRS}) == len(PAIRS) == 7
    for one in PAIRS:
        assert cross.pair(one.trained_on, one.dataset) is one
        assert set(one.labels) <= set(known[one.dataset].types.values())
        assert set(one.labels.values()) == set(known[one.trained_on].types.values())
        assert one.reason.endswith(".")
    assert cross.pair("bc2gm", "jnlpba").labels == {"PROTEIN": "GENE"}
    for names in (("jnlpba", "bc2gm"), ("ncbi", "ncbi"), ("ncbi", "nothing")):
        with pytest.raises(OpenMedError, match="bc2gm-on-jnlpba"):
            cross.pair(*names)


# --- shared text ------------------------------------------------------------------------------

WORDS = [f"word{number}" for number in range(14)]


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        (" ".join(WORDS), True),
        ("(WORD0) word1,\nword2; " + " ".join(WORDS[3:]), True),
        ("before " + " ".join(WORDS[:13]) + " after", True),
        # A run of twelve in a longer text may be chance; all of a short one is not.
        ("before " + " ".join(WORDS[:12]) + " after", False),
        (" ".join(WORDS[:12]), True),
        (" ".join(WORDS[2:10]), True),
        (" ".join(WORDS[2:9]), False),
        (" ".join([*WORDS[2:9], "other"]), False),
        ("", False),
        (" ".join(reversed(WORDS)), False),
    ],
)
def test_what_shares_text(text: str, shares: bool) -> None:
    train = [Document("", "something else", []), Document("", " ".join(WORDS), [])]
    assert Known(train).shares(Document("", text, [])) is shares
    assert Known(train[:1]).shares(Document("", text, [])) is False
    assert Known([]).shares(Document("", text, [])) is False


def test_texts_are_not_one_run() -> None:
    train = [Document("", " ".join(WORDS[:7]), []), Document("", " ".join(WORDS[7:]), [])]
    assert not Known(train).shares(Document("", " ".join(WORDS), []))


# --- figures ----------------------------------------------------------------------------------


def test_what_is_measured(corpus: Path, adapter: Path) -> None:
    result = cross.measure(ONE, adapter, "dev", corpus, "word")
    assert (result["dataset"], result["split"]) == ("bc5cdr-disease", "dev")
    assert (result["trained_on"], result["labels"]) == ("ncbi", {"DISEASE": "DISEASE"})
    assert result["data"] == evaluate.load("bc5cdr-disease", "dev", corpus).data
    assert result["adapter"] == adapters.content_hash(adapters.read(adapter))
    assert result["code"] == code_sha256()
    for on in ("raw", "conll"):
        assert result[on]["documents"] == [[0, 0, 1], [0, 0, 1], [1, 0, 0]]
        assert result[on]["f1"] == 50
    shared = result["shared"]
    assert (shared["documents"], shared["of"]) == (1, 3)
    assert shared["train"] == {"ncbi": content_hash(read_split(corpus, "ncbi", "train"))}
    for on in ("raw", "conll"):
        assert shared["without"][on]["documents"] == [[0, 0, 1], [1, 0, 0]]
        assert shared["without"][on]["f1"] == pytest.approx(200 / 3)


def test_without_shared_text_there_is_one_figure(corpus: Path, adapter: Path) -> None:
    path = corpus / "ner" / "ncbi" / "train.jsonl"
    content = path.read_text()
    try:
        for texts, number in ((["Not this one."], 0), (DEV, 2), ([*DEV, f"{DEV[1]} {DEV[2]}"], 2)):
            write_split(corpus, "ncbi", "train", texts)
            shared = cross.measure(ONE, adapter, "dev", corpus, "word")["shared"]
            assert shared["documents"] == number
            # Of four words, the second text is too short to tell.
            assert ("without" in shared) is (number > 0)
    finally:
        path.write_text(content)


def test_text_that_training_went_on_from_is_shared(tmp_path: Path, tiny_backbone: Path) -> None:
    start = {"adapter": "aa", "dataset": "bc5cdr-disease", "types": ["DISEASE"]}
    folder = write_adapter(tmp_path / "adapter", tiny_backbone, warm_start=start)
    write_split(tmp_path, "ncbi", "train", ["Not this one."])
    write_split(tmp_path, "bc5cdr-disease", "dev", DEV, Disease=DISEASES)
    result = cross.measure(ONE, folder, "dev", tmp_path, "word")
    assert result["shared"]["train"]["bc5cdr-disease"] is None
    assert result["shared"]["documents"] is None and "without" not in result["shared"]
    write_split(tmp_path, "bc5cdr-disease", "train", [SHARED])
    result = cross.measure(ONE, folder, "dev", tmp_path, "word")
    assert list(result["shared"]["train"]) == ["ncbi", "bc5cdr-disease"]
    assert result["shared"]["documents"] == 1 and "without" in result["shared"]
    adapter, edges, files = adapters.read(folder), result["edges"], result["data"]
    assert cross.is_of(result, ONE, adapter, edges, files)
    del result["shared"]["train"]["bc5cdr-disease"]
    assert not cross.is_of(result, ONE, adapter, edges, files)


def test_all_shared(tmp_path: Path, adapter: Path) -> None:
    write_split(tmp_path, "ncbi", "train", [SHARED])
    write_split(tmp_path, "bc5cdr-disease", "dev", [SHARED, SHARED], Disease=DISEASES)
    result = cross.measure(ONE, adapter, "dev", tmp_path, "word")
    assert (result["shared"]["documents"], "without" in result["shared"]) == (2, False)
    assert "conll" not in result


def test_labels_are_mapped_and_others_left_out(
    tmp_path: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Genes(ByPattern):
        pattern = "IL2( receptor)?"
        label = "GENE"

    monkeypatch.setattr(cross, "Predictor", Genes)
    text = "IL2 gene in T cells, and the IL2 receptor and NFKB."
    write_split(tmp_path, "bc2gm", "train", ["Nothing."])
    write_split(
        tmp_path, "jnlpba", "dev", [text],
        DNA="IL2 gene", protein="IL2 receptor|NFKB|IL2(?= gene)", cell_type="T cells",
    )  # fmt: skip
    write_conll(tmp_path, "jnlpba", "dev", "protein")
    folder = write_adapter(tmp_path / "adapter", tiny_backbone, "bc2gm")
    result = cross.measure(cross.pair("bc2gm", "jnlpba"), folder, "dev", tmp_path, "word")
    assert result["labels"] == {"PROTEIN": "GENE"}
    for on in ("raw", "conll"):
        assert list(result[on]["per_label"]) == ["GENE"]
        # The protein in a stretch of DNA counts, for the stretch does not.
        assert result[on]["documents"] == [[2, 0, 1]]


@pytest.mark.parametrize("dataset", ["bc4chemd", "jnlpba"])
def test_the_edition_is_that_of_the_corpus(
    dataset: str, corpora_dir: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    one = next(p for p in PAIRS if p.dataset == dataset)
    if not (corpora_dir / "ner" / one.trained_on).is_dir():
        pytest.skip(f"needs {one.trained_on}")
    folder = write_adapter(tmp_path / "adapter", tiny_backbone, one.trained_on)
    result = cross.measure(one, folder, "dev", corpora_dir, "word")
    at = content_hash(read_split(corpora_dir, dataset, "dev"))
    edition = registry.edition_with(dataset, "dev", at)
    assert edition is not None
    assert (result["edition"], result["partial"]) == (edition.id, edition.partial)


def test_another_adapter_is_refused(corpus: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", tiny_backbone, "bc5cdr-disease")
    with pytest.raises(OpenMedError, match="trained on 'bc5cdr-disease', not on 'ncbi'"):
        cross.measure(ONE, folder, "dev", corpus, "word")


def test_missing_files_are_named(corpus: Path, adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(OpenMedError, match=r"No train\.jsonl of 'bc5cdr-disease'"):
        cross.measure(ONE, adapter, "train", corpus, "word")
    write_split(tmp_path, "bc5cdr-disease", "dev", DEV, Disease=DISEASES)
    with pytest.raises(OpenMedError, match=r"No train\.jsonl of 'ncbi'"):
        cross.measure(ONE, adapter, "dev", tmp_path, "word")


# --- the command ------------------------------------------------------------------------------


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(guarded(command))
    return CliRunner().invoke(app, [*map(str, arguments)])


def given(corpus: Path, adapter: Path) -> list[object]:
    names = ["--trained-on", "ncbi", "--dataset", "bc5cdr-disease"]
    return [*names, "--corpus", corpus, "--adapter", adapter]


def test_one_pair(corpus: Path, adapter: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "out.json"
    shown = run(*given(corpus, adapter), "--json", target)
    assert shown.exit_code == 0, shown.output
    assert json.loads(target.read_text()) == cross.measure(ONE, adapter, "dev", corpus, "word")
    row = shown.stdout.splitlines()[1].split()
    assert row[:6] == ["ncbi", "bc5cdr-disease", "dev", "100.00", "33.33", "50.00"]
    assert row[-5:] == ["50.00", "1", "of", "3", "66.67"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--trained-on", "ncbi"], "Give --trained-on and --dataset, or --all"),
        (["--trained-on", "ncbi", "--dataset", "s800"], "do not annotate the same"),
        (["--all", "--dataset", "ncbi"], "--all takes every pair"),
        (["--trained-on", "ncbi", "--dataset", "x", "--selection", "y"], "--selection is for"),
    ],
)
def test_what_cannot_be(corpus: Path, arguments: list[str], said: str) -> None:
    refused = run("--corpus", corpus, *arguments)
    assert refused.exit_code == 1 and said in refused.stderr


def test_test_is_recorded(
    corpus: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, target = tmp_path / "ledger.jsonl", tmp_path / "out.json"
    options = [*given(corpus, adapter), "--split", "test", "--ledger", record, "--json", target]
    assert run(*options).exit_code == 0
    (entry,) = ledger.read(record).entries
    assert (entry["dataset"], entry["split"]) == ("bc5cdr-disease", "test")
    assert entry["result"] == json.loads(target.read_text())
    target.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(cross, "measure", forbidden)
        refused = run(*options)
        assert refused.exit_code == 1 and "was looked at once" in refused.stderr
        assert refused.stdout == "" and not target.exists()
    assert run(*options, "--again", "for the table").exit_code == 0
    assert [e["reason"] for e in ledger.read(record).entries] == [None, "for the table"]


def test_no_look_is_spent_on_figures_that_cannot_be_written(
    corpus: Path,
    adapter: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unwritable: Path,
) -> None:
    monkeypatch.setattr(cross, "measure", forbidden)
    record = tmp_path / "ledger.jsonl"
    options = ["--split", "test", "--ledger", record, "--json", unwritable]
    refused = run(*given(corpus, adapter), *options)
    assert refused.exit_code == 1 and str(unwritable) in refused.stderr
    assert not record.exists()


@pytest.fixture
def only_ncbi(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The adapters of this machine."""
    monkeypatch.setattr(adapters, "available", lambda: ["ncbi"])
    monkeypatch.setattr(adapters, "find", lambda dataset: adapter)


def all_pairs(corpus: Path, results: Path, *arguments: object) -> Result:
    return run("--all", "--corpus", corpus, "--results", results, *arguments)


@pytest.mark.usefixtures("only_ncbi")
def test_all_pairs_with_an_adapter(
    corpus: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = all_pairs(corpus, tmp_path)
    assert shown.exit_code == 0, shown.output
    path = tmp_path / "ncbi-on-bc5cdr-disease-dev.json"
    assert list(tmp_path.iterdir()) == [path]
    assert json.loads(path.read_text()) == cross.measure(ONE, adapter, "dev", corpus, "word")
    assert shown.output.count("left out, no adapter for") == 6
    # Again: what is there already stays.
    with monkeypatch.context() as patch:
        patch.setattr(cross, "measure", forbidden)
        again = all_pairs(corpus, tmp_path)
        assert again.exit_code == 0 and again.output == shown.output
    # Unless it is of another adapter, other data or other settings, or broken.
    whole = path.read_text()
    for key, value in (("adapter", "x"), ("data", {}), ("edges", "wordpiece"), ("labels", {})):
        path.write_text(json.dumps({**json.loads(whole), key: value}))
        assert all_pairs(corpus, tmp_path).exit_code == 0
        assert path.read_text() == whole
    for content in ("{", "[]"):
        path.write_text(content)
        assert all_pairs(corpus, tmp_path).exit_code == 0
        assert path.read_text() == whole


@pytest.mark.usefixtures("only_ncbi")
def test_all_pairs_on_test(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = tmp_path / "ledger.jsonl"
    options = ["--split", "test", "--ledger", record]
    assert all_pairs(corpus, tmp_path / "a", *options).exit_code == 0
    # What is there is no further look; in another folder it would be one.
    assert all_pairs(corpus, tmp_path / "a", *options).exit_code == 0
    assert len(ledger.read(record).entries) == 1
    monkeypatch.setattr(cross, "measure", forbidden)
    refused = all_pairs(corpus, tmp_path / "b", *options)
    assert refused.exit_code == 1 and "was looked at once" in refused.stderr


@pytest.mark.usefixtures("only_ncbi")
def test_no_look_at_all_pairs_is_spent_on_figures_that_cannot_be_written(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(cross, "measure", forbidden)
    record = tmp_path / "ledger.jsonl"
    refused = all_pairs(corpus, tmp_path / "file", "--split", "test", "--ledger", record)
    assert refused.exit_code == 1 and "cannot be written" in refused.stderr
    assert not record.exists()


@pytest.mark.usefixtures("only_ncbi")
def test_all_pairs_without_the_corpora(tmp_path: Path) -> None:
    refused = all_pairs(tmp_path, tmp_path / "results")
    assert refused.exit_code == 1 and "There is no pair to measure" in refused.stderr
    assert f"no ncbi and no bc5cdr-disease in {tmp_path}" in refused.stdout


def test_adapters_of_a_selection(
    corpus: Path,
    adapter: Path,
    tiny_backbone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(adapters, "available", forbidden)
    train = tmp_path / "train"
    folder = write_adapter(train / "ncbi" / "tiny" / "adapter", tiny_backbone, seed=5)
    selection = tmp_path / "selection.json"
    assert run_select(train, "--output", selection).exit_code == 0
    shown = all_pairs(corpus, tmp_path / "out", "--selection", selection)
    assert shown.exit_code == 0, shown.output
    result = json.loads((tmp_path / "out" / "ncbi-on-bc5cdr-disease-dev.json").read_text())
    assert result["adapter"] == adapters.content_hash(adapters.read(folder))
    write_adapter(folder, tiny_backbone, seed=6)
    refused = all_pairs(corpus, tmp_path / "out", "--selection", selection)
    assert refused.exit_code == 1 and "is not the one that was chosen" in refused.stderr
