"""The registry of datasets: complete, consistent with itself, and what README says of it."""

import re
from pathlib import Path

import pytest
import srsly

from spacy_openmed.corpora import formats, registry
from spacy_openmed.corpora.folder import SPLITS
from spacy_openmed.corpora.table3 import table
from spacy_openmed.errors import OpenMedError


def test_registry_has_the_twelve_datasets() -> None:
    known = "bc4chemd bc5cdr-chem bc5cdr-disease ncbi jnlpba linnaeus s800 bc2gm anatem "
    known += "bionlp13cg cll fsu"
    assert set(registry.datasets()) == set(known.split())
    assert len(registry.dataset("bionlp13cg").types) == 16
    labels = {label for d in registry.datasets().values() for label in d.types.values()}
    assert all(label == label.upper() and "-" not in label for label in labels)
    with pytest.raises(OpenMedError, match=r"'ncbl'.*ncbi"):
        registry.dataset("ncbl")


@pytest.mark.parametrize("name", list(registry.datasets()))
def test_every_dataset_says_where_it_is_from(name: str) -> None:
    dataset = registry.dataset(name)
    assert dataset.name and dataset.licence and dataset.split and dataset.citation
    assert re.search(r"\(\d{4}\)", dataset.citation)
    assert dataset.sources and dataset.editions
    for source in dataset.sources:
        assert bool(source.url) != bool(source.git)
        assert (source.url or source.git).startswith("https://")
        if source.git:
            assert re.fullmatch(r"[0-9a-f]{12,40}", source.commit) and source.path
    assert (dataset.table3 is None) == (dataset.table3_meaning == "")


@pytest.mark.parametrize("name", list(registry.datasets()))
def test_counts_agree_with_each_other(name: str) -> None:
    dataset = registry.dataset(name)
    for edition in dataset.editions.values():
        assert set(edition.splits) in (set(), set(SPLITS))
        for split in edition.splits.values():
            for digest in (split.raw_sha256, split.conll_sha256):
                assert digest is None or re.fullmatch(r"[0-9a-f]{64}", digest)
            if split.labels:
                assert sum(split.labels.values()) == split.mentions
                assert set(split.labels) <= set(dataset.types.values())
            if split.sentences and split.documents and split.tokens:
                assert split.documents <= split.sentences <= split.tokens


def test_meaning_of_table3_adds_up() -> None:
    sums = re.compile(r"\(([\d +]+)= (\d+)")
    found = [
        (parts, total)
        for dataset in registry.datasets().values()
        for parts, total in sums.findall(dataset.table3_meaning)
    ]
    assert len(found) >= 7
    for parts, total in found:
        assert sum(int(part) for part in parts.split("+")) == int(total)


def test_only_the_small_copy_of_bc4chemd_is_partial() -> None:
    partial = [
        (d.id, e.id) for d in registry.datasets().values() for e in d.editions.values() if e.partial
    ]
    assert partial == [("bc4chemd", "tenth")]


def test_overlaps_name_known_datasets() -> None:
    assert registry.overlaps()
    for overlap in registry.overlaps():
        assert {overlap.dataset, overlap.train_of} <= set(registry.datasets())
        assert overlap.split in ("dev", "test")
        assert registry.OVERLAP_PERCENT <= overlap.percent <= 100


def test_table_has_a_row_for_each_edition() -> None:
    lines = table().splitlines()
    editions = sum(len(d.editions) for d in registry.datasets().values())
    assert len(lines) == 2 + editions
    assert len({line.count(" | ") for line in lines[2:]}) == 1
    assert any("46,750 / 4,551 / 8,662" in line and "`jnlpba`" in line for line in lines)


def test_project_downloads_what_the_registry_names() -> None:
    """The same repositories at the same commits, and nothing else."""
    project = srsly.read_yaml(Path(__file__).parents[1] / "project.yml")
    found: dict[str, set[str]] = {}
    for asset in project["assets"]:
        folder, name = asset["dest"].removeprefix("assets/originals/").split("/", 1)
        found.setdefault(folder, set()).add(asset.get("url", name))
    # Concept ids of linnaeus are in a repository that no converter reads.
    unread = "ncbi/AIONER"
    for dataset in registry.datasets().values():
        urls = found.pop(dataset.id)
        for source in dataset.sources:
            repository = source.git.removeprefix("https://github.com/")
            if source.url:
                assert any(source.url.endswith(url) for url in urls)
            elif repository != unread:
                here = {url for url in urls if f"/{repository}/" in url and source.commit in url}
                assert here, (dataset.id, repository)
                urls -= here
        assert len(urls) == sum(bool(source.url) for source in dataset.sources), dataset.id
    assert not found


def test_tables_in_the_readme_are_what_the_commands_print() -> None:
    readme = (Path(registry.__file__).parent / "README.md").read_text(encoding="utf8")
    assert table() in readme
    assert formats.table() in readme


def test_only_the_tokens_of_one_copy_annotate_other_mentions() -> None:
    found = [
        (name, edition.id, split)
        for name, dataset in registry.datasets().items()
        for edition in dataset.editions.values()
        for split in edition.splits
        if not edition.same_mentions(split)
    ]
    assert found == [("cll", "cut", split) for split in ("train", "dev", "test")]
    assert not registry.same_mentions("cll", "cut", "test")
    for other in (("cll", "release", "test"), ("cll", None, "test"), ("mine", "cut", "test")):
        assert registry.same_mentions(*other)


def test_tokens_tell_editions_of_the_same_raw_form_apart() -> None:
    cut = registry.dataset("cll").editions["cut"].splits["test"]
    assert cut.raw_sha256 and cut.conll_sha256

    def found(conll_sha256: str | None) -> str | None:
        edition = registry.edition_with("cll", "test", str(cut.raw_sha256), conll_sha256)
        return edition and edition.id

    assert found(cut.conll_sha256) == found(None) == "cut"
    # The release's tokens, which are not recorded.
    assert found("0" * 64) == "release"
    assert registry.edition_with("cll", "test", "0" * 64) is None
