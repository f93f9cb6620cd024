"""The mix: what is left out, what is taken, and that it is the same every time."""

import gzip
import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from passage_files import citation, notes_csv, page, paper, pubmed_xml, study, write
from typer.testing import CliRunner

from spacy_openmed.cli import passages as command
from spacy_openmed.corpora.problems import Skipped
from spacy_openmed.errors import OpenMedError
from spacy_openmed.passages.buckets import Buckets
from spacy_openmed.passages.held_out import HeldOut
from spacy_openmed.passages.mix import STAGES, mix
from spacy_openmed.passages.near_duplicates import NearDuplicates, bands_and_rows
from spacy_openmed.passages.settings import PassageSettings, Quotas
from spacy_openmed.training.settings import load

SHORT = PassageSettings(min_tokens=5, max_tokens=400)


def words(rng: random.Random, count: int) -> list[str]:
    """Words that come together by chance only."""
    return [f"w{rng.randrange(10**6)}" for _ in range(count)]


def text(seed: int, count: int = 60) -> str:
    return " ".join(words(random.Random(seed), count)) + "."


def lines(folder: Path, name: str = "passages.txt.gz") -> list[str]:
    with gzip.open(folder / name, "rt", encoding="utf8", newline="\n") as file:
        return file.read().split("\n")[:-1]


def mixed(
    tmp_path: Path, texts: Sequence[str], options: PassageSettings = SHORT, **more: Any
) -> tuple[list[str], dict[str, int]]:
    """The passages, and the counts, of a mix of plain text."""
    number = len(list(tmp_path.iterdir()))
    path = write(tmp_path / f"{number}.txt", "".join(f"{t}\n" for t in texts))
    manifest = mix({"text": [path]}, tmp_path / f"{number}.out", options, **more)
    counts: dict[str, int] = manifest["counts"]["text"]
    assert counts["texts"] == len(texts)
    assert counts["passages"] == sum(counts[stage] for stage in STAGES[2:])
    return lines(tmp_path / f"{number}.out"), counts


# Sorting


@given(st.lists(st.tuples(st.binary(min_size=4, max_size=4), st.text("ab β", max_size=3))))
@settings(max_examples=50)
def test_buckets_sort(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    with Buckets(tmp_path_factory.mktemp("buckets") / "new") as buckets:
        for key, field in rows:
            buckets.add(key, field, "x")
        assert len(buckets) == len(rows)
        expected = sorted((key.hex(), field.encode()) for key, field in rows)
        assert [(k, f.encode()) for k, f, _ in buckets.in_order()] == expected


# Repetitions


def test_exact_duplicates_are_removed_whatever_their_case_and_punctuation(tmp_path: Path) -> None:
    texts = [text(i) for i in range(20)]
    again = [texts[3], texts[3], texts[5].upper(), texts[7].replace(" ", ", "), f" {texts[9]}"]
    found, counts = mixed(tmp_path, [*texts, *again])
    assert counts["exact_duplicates"] == 5
    assert {t.lower().replace(",", "") for t in found} == set(texts)
    assert len(found) == 20


@given(st.integers(0, 10**6), st.integers(0, 10), st.integers(0, 10), st.integers(0, 10))
@settings(max_examples=15)
def test_exactly_the_planted_duplicates_are_removed(
    tmp_path_factory: pytest.TempPathFactory, seed: int, single: int, exact: int, near: int
) -> None:
    rng = random.Random(seed)
    unique = [words(rng, rng.randint(60, 120)) for _ in range(single + exact + near + 1)]
    texts = [" ".join(t) for t in unique]
    planted = [texts[i] for i in range(exact)]
    for i in range(exact, exact + near):
        changed = list(unique[i])
        changed[rng.randrange(len(changed))] = "other"  # 5 runs of 56 or more
        planted.append(" ".join(changed))
    shuffled = texts + planted
    rng.shuffle(shuffled)
    found, counts = mixed(tmp_path_factory.mktemp("mix"), shuffled)
    assert (counts["exact_duplicates"], counts["near_duplicates"]) == (exact, near)
    assert len(found) == len(unique)
    # One of every pair is there.
    kept = set(found)
    assert all(texts[i] in kept or planted[i] in kept for i in range(exact + near))
    assert kept >= set(texts[exact + near :])


@pytest.mark.parametrize(("common", "taken"), [(95, False), (90, False), (88, True), (44, True)])
def test_threshold_of_near_duplicates(common: int, taken: bool, tmp_path: Path) -> None:
    """Of two texts of a hundred runs: 90 in common of 110 are more than 0.8."""
    assert (common / (200 - common) < 0.8) == taken
    first = words(random.Random(1), 104)
    second = [*first[: common + 4], *words(random.Random(2), 100 - common)]
    index = NearDuplicates(tmp_path / "index", 5, 0.8)
    assert index.take(" ".join(first))
    assert index.take(" ".join(second)) == taken
    index.close()


@pytest.mark.parametrize("threshold", [0.01, 0.1, 0.5, 0.8, 0.95, 1.0])
def test_bands_find_what_is_as_similar_as_the_threshold(threshold: float) -> None:
    bands, rows = bands_and_rows(threshold)
    assert 0 < bands * rows <= 128
    assert threshold < 0.1 or (1 - threshold**rows) ** bands < 1e-3


def test_texts_that_are_alike_without_being_duplicates_are_all_taken(tmp_path: Path) -> None:
    """Forms: more candidates than are compared, and a duplicate is still found among them."""
    form = words(random.Random(1), 60)
    index = NearDuplicates(tmp_path / "index", 5, 0.8)
    filled = [" ".join([*form, *words(random.Random(i), 20)]) for i in range(2, 120)]
    assert all(index.take(one) for one in filled)
    assert not any(index.take(f"{one} end") for one in filled)
    index.close()


def test_text_without_a_run_is_no_duplicate(tmp_path: Path) -> None:
    index = NearDuplicates(tmp_path / "index", 5, 0.8)
    assert index.take("one two") and index.take("one two")
    index.close()


# Held-out text


def split_file(folder: Path, texts: Sequence[str], name: str = "dev.jsonl") -> Path:
    rows = (json.dumps({"id": str(i), "text": t, "entities": []}) for i, t in enumerate(texts))
    return write(folder / "ner" / "ncbi" / name, "".join(f"{row}\n" for row in rows))


@given(st.integers(0, 10**6), st.integers(0, 30), st.sampled_from(["dev.jsonl", "test.jsonl"]))
@settings(max_examples=20)
def test_passages_that_share_runs_with_a_split_are_removed(
    tmp_path_factory: pytest.TempPathFactory, seed: int, common: int, name: str
) -> None:
    """14 words in a row are two runs of 13."""
    tmp_path = tmp_path_factory.mktemp("mix")
    rng = random.Random(seed)
    held, own = words(rng, 100), words(rng, 100)
    at, start = rng.randrange(70), rng.randrange(70)
    passage = " ".join([*own[:at], *held[start : start + common], *own[at:]])
    split_file(tmp_path / "corpora", [text(1), " ".join(held).upper()], name)
    found, counts = mixed(tmp_path, [text(2), passage], corpora=tmp_path / "corpora")
    assert counts["held_out"] == (common >= 14)
    assert (passage in found) == (common < 14)
    assert text(2) in found


def test_two_runs_apart_count_too(tmp_path: Path) -> None:
    held, own = words(random.Random(1), 100), words(random.Random(2), 40)
    split_file(tmp_path / "corpora", [" ".join(held)])
    once = " ".join([*own[:20], *held[:13], *own[20:]])
    twice = " ".join([*held[:13], *own, *held[50:63]])
    found, _ = mixed(tmp_path, [once, twice], corpora=tmp_path / "corpora")
    assert found == [once]


def test_train_splits_are_not_held_out(tmp_path: Path) -> None:
    split_file(tmp_path / "corpora", [text(1)], "train.jsonl")
    with pytest.raises(OpenMedError, match=r"no dev.jsonl or test.jsonl"):
        mixed(tmp_path, [text(1)], corpora=tmp_path / "corpora")
    split_file(tmp_path / "corpora", [text(2)])
    assert mixed(tmp_path, [text(1)], corpora=tmp_path / "corpora")[0] == [text(1)]


def test_further_text_is_held_out(tmp_path: Path) -> None:
    write(tmp_path / "held" / "a.txt.gz", f"{text(3)}\n")
    found, counts = mixed(tmp_path, [text(1), text(3)], held_out=[tmp_path / "held"])
    assert (found, counts["held_out"]) == ([text(1)], 1)


def test_held_out_text_that_cannot_be_read_is_an_error_even_when_going_on(tmp_path: Path) -> None:
    path = split_file(tmp_path / "corpora", [text(1)])
    path.write_text('{"text": 1}\n', encoding="utf8")
    with pytest.raises(OpenMedError, match="line 1"):
        mixed(tmp_path, [text(1)], corpora=tmp_path / "corpora", on_error=Skipped())


def test_splits_of_the_shared_corpora_are_found(corpora_dir: Path, tmp_path: Path) -> None:
    with (corpora_dir / "ner" / "ncbi" / "test.jsonl").open(encoding="utf8") as file:
        planted = json.loads(file.readline())["text"].replace("\n", " ")
    texts = [text(1), f"{text(2, 30)} {planted}"]
    found, counts = mixed(tmp_path, texts, corpora=corpora_dir / "ner" / "ncbi")
    assert (found, counts["held_out"]) == ([text(1)], 1)


def test_nothing_is_shared_with_nothing() -> None:
    assert HeldOut([]).shared(text(1)) == 0


# Length and sampling


def test_short_texts_are_left_out_and_long_ones_cut(tmp_path: Path) -> None:
    sentences = [text(i, 40).replace("w", "W", 1) for i in range(10)]
    long = " ".join(sentences)
    texts = [text(11, 49), text(12, 50), text(13, 256), long]
    found, counts = mixed(tmp_path, texts, PassageSettings())
    assert counts["too_short"] == 1
    parts = [" ".join(sentences[:5]), " ".join(sentences[5:])]
    assert set(found) == {text(12, 50), text(13, 256), *parts}
    names = [name for name in lines(next(tmp_path.glob("*.out")), "sources.txt.gz") if "#" in name]
    assert sorted(names) == ["text\t0.txt:4#1", "text\t0.txt:4#2"]


def test_backbone_counts_wordpieces_and_special_tokens(tmp_path: Path, tiny_backbone: Path) -> None:
    texts = ["cell " * n for n in (1, 2, 3, 8, 9)]  # [CLS] and [SEP] are two more
    found, counts = mixed(
        tmp_path,
        texts,
        PassageSettings(min_tokens=4, max_tokens=10, near_duplicate_words=50),
        backbone=str(tiny_backbone),
    )
    # Nine are cut into five and four.
    assert sorted(len(t.split()) for t in found) == [2, 3, 4, 5, 8]
    assert counts["too_short"] == 1
    manifest = json.loads((next(tmp_path.glob("*.out")) / "manifest.json").read_text())
    assert manifest["tokens"] == "wordpieces, special tokens included"


@given(st.permutations(range(30)), st.integers(0, 3), st.integers(1, 30))
@settings(max_examples=15)
def test_sample_does_not_depend_on_the_order(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], seed: int, wanted: int
) -> None:
    options = replace(SHORT, seed=seed, quotas=Quotas(text=wanted))
    tmp_path = tmp_path_factory.mktemp("mix")
    # Neighbours are near duplicates: which of them stays does not depend on the order either.
    texts = [f"{text(i // 2)} {text(i, 2)}" for i in range(30)]
    first, counts = mixed(tmp_path, texts, options)
    second, _ = mixed(tmp_path, [texts[i] for i in order], options)
    assert first == second
    assert counts["taken"] == min(wanted, 15)
    assert counts["not_needed"] + counts["taken"] + counts["near_duplicates"] == 30


def test_another_seed_takes_others_in_another_order(tmp_path: Path) -> None:
    texts = [text(i) for i in range(200)]

    def sample(seed: int, wanted: int) -> list[str]:
        return mixed(tmp_path, texts, replace(SHORT, seed=seed, quotas=Quotas(text=wanted)))[0]

    first, second = sample(1, 100), sample(2, 100)
    assert 25 < len({*first} & {*second}) < 75  # 50 is what chance gives
    whole, again = sample(1, -1), sample(2, -1)
    assert set(whole) == set(again) == set(texts)
    assert whole != again
    # Those that were sampled first do not come first.
    assert 25 < len({*whole[:100]} & {*first}) < 75


def test_nothing_is_wanted(tmp_path: Path) -> None:
    found, counts = mixed(tmp_path, [text(1)], replace(SHORT, quotas=Quotas(text=0)))
    assert (found, counts["not_needed"]) == ([], 1)


# All of it


def four_sources(folder: Path) -> dict[str, Sequence[Path]]:
    """25 passages in each format; the first five of each are those of PubMed."""

    def passages(source: int) -> list[str]:
        return [text(i if i < 5 else 100 * source + i) for i in range(25)]

    pubmed, arxiv, mimic, trials = map(passages, range(4))
    return {
        "clinicaltrials": [
            write(folder / "1.json", page([study(f"NCT{i}", t) for i, t in enumerate(trials)]))
        ],
        "mimic": [
            write(
                folder / "NOTEEVENTS.csv.gz",
                notes_csv((str(i), "", t.replace(" ", "\n")) for i, t in enumerate(mimic)),
            )
        ],
        "arxiv": [
            write(folder / "arxiv.json", "\n".join(paper(f"1.{i}", t) for i, t in enumerate(arxiv)))
        ],
        "pubmed": [
            write(
                folder / f"pubmed25n{n:04d}.xml.gz",
                pubmed_xml(citation(i + 1, pubmed[i]) for i in range(n, 25, 2)),
            )
            for n in range(2)
        ],
    }


OPTIONS = replace(SHORT, titles=False, quotas=Quotas(pubmed=20, arxiv=30, mimic=10))


def test_mix_of_four_sources(tmp_path: Path) -> None:
    manifest = mix(four_sources(tmp_path), tmp_path / "out", OPTIONS)
    counts = manifest["counts"]
    assert list(counts) == ["pubmed", "arxiv", "mimic", "clinicaltrials"]
    assert {name: c["taken"] for name, c in counts.items()} == {
        "pubmed": 20,
        "arxiv": 20,
        "mimic": 10,
        "clinicaltrials": 20,
    }
    # Of what all have, that of the first source stays.
    duplicates = {name: c["exact_duplicates"] for name, c in counts.items()}
    assert duplicates == {"pubmed": 0, "arxiv": 5, "mimic": 5, "clinicaltrials": 5}
    assert manifest["missing"] == {"arxiv": 10, "clinicaltrials": 49_980}
    for count in counts.values():
        assert count["passages"] == sum(count[stage] for stage in STAGES[2:])
    passages, origins = lines(tmp_path / "out"), lines(tmp_path / "out", "sources.txt.gz")
    assert len(passages) == len(origins) == 70
    assert len(set(passages)) == len(set(origins)) == 70
    by_origin = dict(zip(origins, passages, strict=True))
    assert all(
        t == text(int(name.removeprefix("pubmed\t")) - 1)
        for name, t in by_origin.items()
        if name.startswith("pubmed\t")
    )
    assert {"arxiv\t1.7", "clinicaltrials\tNCT7/briefSummary"} <= set(by_origin)


def test_manifest_says_what_is_in_the_folder(tmp_path: Path) -> None:
    inputs = four_sources(tmp_path / "in")
    folder = {"pubmed": [tmp_path / "in"], "mimic": inputs["mimic"]}
    manifest = mix(folder, tmp_path / "out", OPTIONS)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text("utf8")) == manifest
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "manifest.json",
        "passages.txt.gz",
        "sources.txt.gz",
    ]
    for name, facts in manifest["outputs"].items():
        data = (tmp_path / "out" / name).read_bytes()
        content = gzip.decompress(data)
        assert facts == {
            "lines": content.count(b"\n"),
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "text_sha256": hashlib.sha256(content).hexdigest(),
        }
        assert data[3:8] == bytes(5)  # no flag for a name, no time
    (notes,) = inputs["mimic"]
    digest = hashlib.sha256(notes.read_bytes()).hexdigest()
    size = notes.stat().st_size
    assert manifest["inputs"]["mimic"] == [{"name": notes.name, "bytes": size, "sha256": digest}]
    (described,) = manifest["inputs"]["pubmed"]
    listing = "".join(
        f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in inputs["pubmed"]
    )
    assert described["files"] == 2
    assert described["sha256"] == hashlib.sha256(listing.encode()).hexdigest()
    assert manifest["settings"]["quotas"]["pubmed"] == 20
    assert manifest["tokens"] == "words"


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    inputs = four_sources(tmp_path)
    mix(inputs, tmp_path / "a", OPTIONS)
    backwards: Mapping[str, Sequence[Path]] = {
        name: list(reversed(inputs[name])) for name in reversed(inputs)
    }
    mix(backwards, tmp_path / "elsewhere" / "b", OPTIONS)
    mix(inputs, tmp_path / "c", replace(OPTIONS, seed=2))
    for name in ("passages.txt.gz", "sources.txt.gz"):
        first = (tmp_path / "a" / name).read_bytes()
        assert first == (tmp_path / "elsewhere" / "b" / name).read_bytes()
        assert first != (tmp_path / "c" / name).read_bytes()


def test_dapt_reads_the_passages(tmp_path: Path) -> None:
    from spacy_openmed.training.dapt import read_passages

    odd = [f"{text(i)} {c}x" for i, c in enumerate("\x0b\x0c\x1c\x85\u2028\t")]
    found, _ = mixed(tmp_path, odd)
    written = next(tmp_path.glob("*.out")) / "passages.txt.gz"
    assert list(read_passages([written])) == found
    assert sorted(found) == sorted(f"{text(i)} x" for i in range(6))


def test_bad_record_stops_everything_or_is_counted(tmp_path: Path) -> None:
    inputs = four_sources(tmp_path / "in")
    (path,) = inputs["arxiv"]
    path.write_text(path.read_text("utf8") + "\nnot JSON\n", encoding="utf8")
    with pytest.raises(OpenMedError, match=f"{path}, line 26"):
        mix(inputs, tmp_path / "out" / "mix", OPTIONS)
    assert list((tmp_path / "out").iterdir()) == []
    manifest = mix(inputs, tmp_path / "out" / "mix", OPTIONS, on_error=Skipped())
    assert manifest["skipped"]["count"] == 1
    assert "line 26" in manifest["skipped"]["messages"][0]
    assert manifest["counts"]["arxiv"]["texts"] == 25


def test_backbone_needs_room(tmp_path: Path, tiny_backbone: Path) -> None:
    with pytest.raises(OpenMedError, match=r"max_tokens \(2\)"):
        mixed(
            tmp_path,
            [text(1)],
            PassageSettings(min_tokens=1, max_tokens=2),
            backbone=str(tiny_backbone),
        )


def test_no_source_and_no_overwriting(tmp_path: Path) -> None:
    with pytest.raises(OpenMedError, match=r"No source.*pubmed"):
        mix({"pubmed": []}, tmp_path / "out", SHORT)
    with pytest.raises(OpenMedError, match="Unknown source 'pubmad'"):
        mix({"pubmad": [tmp_path]}, tmp_path / "out", SHORT)
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    with pytest.raises(OpenMedError, match=r"out exists"):
        mix(four_sources(tmp_path / "in"), tmp_path / "out", SHORT)


# Settings and command


def test_settings_file_says_the_defaults() -> None:
    assert load(PassageSettings, "passages") == PassageSettings()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("min_tokens = 300", "min_tokens"),
        ("min_tokens = 0", "min_tokens"),
        ("near_duplicate_threshold = 1.1", "near_duplicate_threshold"),
        ("near_duplicate_words = 0", "near_duplicate_words"),
        ('mimic_placeholders = "blank"', "mimic_placeholders 'blank'.*mask, strip, keep"),
        ('arxiv_categories = "q-bio"', "arxiv_categories"),
        ("arxiv_categories = [1]", "arxiv_categories"),
        ("quotas.pubmed = -2", "pubmed"),
        ("quotas.pubmet = 2", "pubmet"),
    ],
)
def test_settings_are_checked(line: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "own.toml", line)
    with pytest.raises(OpenMedError, match=message):
        load(PassageSettings, path)


@pytest.fixture
def app() -> typer.Typer:
    found = typer.Typer()
    found.command()(command.mix)
    return found


def test_command(app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENMED_CORPORA", raising=False)
    inputs = four_sources(tmp_path / "in")
    config = write(tmp_path / "own.toml", "min_tokens = 5\ntitles = false\nquotas.pubmed = 20\n")
    (path,) = inputs["arxiv"]
    path.write_text(path.read_text("utf8") + "\nnot JSON\n", encoding="utf8")
    arguments = [f"--config={config}", f"--arxiv={path}", "--seed=3"]
    for one in inputs["pubmed"]:
        arguments.append(f"--pubmed={one}")
    failed = CliRunner().invoke(app, [*arguments, f"--output={tmp_path / 'a'}"])
    assert isinstance(failed.exception, OpenMedError)
    assert not (tmp_path / "a").exists()
    done = CliRunner().invoke(app, [*arguments, "--keep-going", f"--output={tmp_path / 'b'}"])
    assert done.exit_code == 0, done.output
    assert "40 passages in" in done.stdout
    assert "arxiv: 99,980 passages fewer than wanted" in done.stderr
    assert "1 skipped" in done.stderr and "line 26" in done.stderr
    assert "No --corpora" in done.stderr
    assert "it/s" not in done.stderr  # no bar where nobody looks
    assert json.loads((tmp_path / "b" / "manifest.json").read_text())["settings"]["seed"] == 3


def test_command_takes_the_corpora_from_the_environment(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split_file(tmp_path / "corpora", [text(6)])
    monkeypatch.setenv("OPENMED_CORPORA", str(tmp_path / "corpora"))
    path = write(tmp_path / "a.txt", f"{text(5)}\n{text(6)}\n")
    done = CliRunner().invoke(app, [f"--text={path}", f"--output={tmp_path / 'out'}"])
    assert done.exit_code == 0, done.output
    assert lines(tmp_path / "out") == [text(5)]
    assert "No --corpora" not in done.stderr
