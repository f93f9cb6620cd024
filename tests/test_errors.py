"""Error analysis: every mention and every prediction has one outcome, and the counts add up."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_openmed.corpora.documents import Document
from spacy_openmed.corpora.folder import read_split
from spacy_openmed.entities import Entity
from spacy_openmed.evaluation import errors, evaluate, predictions
from spacy_openmed.evaluation.errors import Outcome, Pair, analyse, examples, match
from spacy_openmed.evaluation.predictions import Predictions
from spacy_openmed.evaluation.scores import score
from spacy_openmed.evaluation.seen import Seen, surface
from spacy_openmed.labelling import innermost, outermost

LABELS = ["GENE", "DISEASE", "CELL_LINE"]
TEXT = "abc de\tF gh  ijk LMN o pq rst uvw xyz abc"


def entity(start: int, end: int, label: str = "X") -> Entity:
    return Entity(start, end, label, 0.5)


@st.composite
def mentions(draw: st.DrawFn, disjoint: bool = False) -> list[Entity]:
    spans = st.tuples(st.integers(0, len(TEXT) - 1), st.integers(1, 12), st.sampled_from(LABELS))
    found = [Entity(a, min(a + n, len(TEXT)), label) for a, n, label in draw(st.lists(spans))]
    return outermost(found) if disjoint else found


@st.composite
def annotated_and_found(draw: st.DrawFn) -> tuple[list[Document], list[list[Entity]]]:
    """Predictions that may nest, overlap and repeat, and are often right."""
    documents, found = [], []
    for _ in range(draw(st.integers(1, 3))):
        gold = draw(mentions())
        own = draw(mentions())
        if gold:
            own += draw(st.lists(st.sampled_from(gold), max_size=4))
        documents.append(Document("", TEXT, gold))
        found.append(own)
    return documents, found


def keep_all(entities: Any) -> list[Entity]:
    return list(entities)


def bins(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Each breakdown's bins, and all mentions as one bin."""
    names = [name for name in report if name.startswith("by_")]
    assert len(names) == 4
    return [{"all": report["overall"]}, *(report[name] for name in names)]


# --- outcomes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        (entity(10, 20), Outcome.CORRECT),
        (entity(10, 20, "Y"), Outcome.WRONG_TYPE),
        (entity(9, 20), Outcome.TOO_LONG),
        (entity(10, 21), Outcome.TOO_LONG),
        (entity(5, 25), Outcome.TOO_LONG),
        (entity(11, 20), Outcome.TOO_SHORT),
        (entity(10, 19), Outcome.TOO_SHORT),
        (entity(12, 13), Outcome.TOO_SHORT),
        (entity(9, 19), Outcome.SHIFTED),
        (entity(19, 30), Outcome.SHIFTED),
        (entity(19, 30, "Y"), Outcome.WRONG_BOUNDARY_AND_TYPE),
        (entity(5, 25, "Y"), Outcome.WRONG_BOUNDARY_AND_TYPE),
    ],
)
def test_outcomes_of_what_overlaps(found: Entity, outcome: Outcome) -> None:
    gold = entity(10, 20)
    (pair,) = match([gold], [found])
    assert pair == Pair(gold, found) and pair.outcome is outcome


@pytest.mark.parametrize("found", [entity(0, 10), entity(20, 30), entity(25, 30)])
def test_what_shares_no_character_is_missed_and_spurious(found: Entity) -> None:
    pairs = match([entity(10, 20)], [found])
    assert {pair.outcome for pair in pairs} == {Outcome.MISSED, Outcome.SPURIOUS}
    assert pairs == sorted(pairs, key=lambda pair: pair.span)


@pytest.mark.parametrize(
    ("gold", "found", "partner"),
    [
        # The right one before another that overlaps, wherever it stands.
        ([entity(0, 10)], [entity(0, 9), entity(0, 10)], {0: 1}),
        # More shared before the same label; the same label where as much is shared.
        ([entity(0, 10)], [entity(0, 5), entity(5, 11, "Y")], {0: 0}),
        ([entity(0, 10)], [entity(0, 4), entity(4, 10, "Y")], {0: 1}),
        ([entity(0, 10)], [entity(0, 5, "Y"), entity(5, 10)], {0: 1}),
        ([entity(0, 10)], [entity(5, 10), entity(0, 5)], {0: 1}),
        # A long prediction over two mentions goes to the longer, the other is missed.
        ([entity(0, 4), entity(5, 12)], [entity(0, 12)], {1: 0}),
        # What is left is paired, too.
        ([entity(0, 10), entity(10, 20)], [entity(0, 12), entity(12, 20)], {0: 0, 1: 1}),
    ],
)
def test_who_is_paired_with_whom(
    gold: list[Entity], found: list[Entity], partner: dict[int, int]
) -> None:
    pairs = match(gold, found)
    expected = {gold[i]: found[j] for i, j in partner.items()}
    assert {p.gold: p.predicted for p in pairs if p.gold and p.predicted} == expected


def test_what_stands_twice_must_be_found_twice() -> None:
    outcomes = [pair.outcome for pair in match([entity(0, 3)] * 2, [entity(0, 3)])]
    assert sorted(outcomes) == [Outcome.CORRECT, Outcome.MISSED]


@given(annotated_and_found(), st.randoms(use_true_random=False))
def test_pairs_do_not_depend_on_the_order(
    case: tuple[list[Document], list[list[Entity]]], random: Any
) -> None:
    (document, *_), (found, *_) = case
    gold = list(document.entities)
    before = match(gold, found)
    assert sorted(p.gold for p in before if p.gold is not None) == sorted(gold)
    random.shuffle(gold)
    found = random.sample(found, len(found))
    assert match(gold, found) == before


# --- counts -----------------------------------------------------------------------------------


@given(annotated_and_found(), st.sampled_from([outermost, innermost, keep_all]))
def test_outcomes_add_up(case: tuple[list[Document], list[list[Entity]]], flatten: Any) -> None:
    documents, found = case
    report = analyse(documents, found, Seen(documents[:1]), flatten)
    scored = score([flatten(d.entities) for d in documents], found)
    wanted = scored.micro.tp + scored.micro.fn
    given = scored.micro.tp + scored.micro.fp
    for of_kind in bins(report):
        assert sum(one["gold"]["mentions"] for one in of_kind.values()) == wanted
        assert sum(one["predicted"]["mentions"] for one in of_kind.values()) == given
        for one in of_kind.values():
            gold, predicted = one["gold"]["outcomes"], one["predicted"]["outcomes"]
            assert [*gold, "spurious"] == [o.value for o in Outcome]
            assert [o for o in Outcome if o != Outcome.MISSED] == [*predicted]
            assert sum(gold.values()) == one["gold"]["mentions"]
            assert sum(predicted.values()) == one["predicted"]["mentions"]
            # A right one is in the same bin on both sides.
            assert gold["correct"] == predicted["correct"]
    everything = report["overall"]
    assert everything["gold"]["outcomes"]["correct"] == scored.micro.tp
    assert everything["f1"] == (pytest.approx(100 * scored.micro.f1) if wanted + given else None)
    for key in ("wrong_type", "too_long", "too_short", "shifted", "wrong_boundary_and_type"):
        sides = [everything[side]["outcomes"][key] for side in ("gold", "predicted")]
        assert sides[0] == sides[1]
    for label, one in scored.per_label.items():
        own = report["by_label"][label]
        assert own["gold"]["recall"] == (
            pytest.approx(100 * one.recall) if one.tp + one.fn else None
        )
        assert own["predicted"]["precision"] == (
            pytest.approx(100 * one.precision) if one.tp + one.fp else None
        )
    assert set(report["by_label"]) == set(scored.per_label)
    paired = wanted - everything["gold"]["outcomes"]["missed"]
    assert sum(n for row in report["types"].values() for n in row.values()) == paired
    assert json.loads(json.dumps(report)) == report


@st.composite
def apart(draw: st.DrawFn) -> tuple[list[Entity], list[Entity]]:
    """Each mention meets one prediction at most, and the other way round."""
    gold, found = [], []
    for start in range(0, 200, 20):
        for side in (gold, found):
            a, b = sorted(draw(st.lists(st.integers(1, 18), min_size=2, max_size=2, unique=True)))
            if draw(st.booleans()):
                side.append(entity(start + a, start + b, draw(st.sampled_from(LABELS))))
        if gold and draw(st.booleans()):
            # More of it nearly right than chance would give.
            last = gold[-1]
            found = [e for e in found if e.end <= start or e.start >= start + 20]
            if last.start >= start:
                found.append(last._replace(label=draw(st.sampled_from(LABELS))))
    return gold, found


def nervaluate(gold: Sequence[Sequence[Entity]], found: Sequence[Sequence[Entity]]) -> Any:
    from nervaluate import Evaluator

    def rows(side: Sequence[Sequence[Entity]]) -> list[list[dict[str, Any]]]:
        # Its ends are inclusive: with ours, neighbours would overlap.
        return [[{"label": e.label, "start": e.start, "end": e.end - 1} for e in d] for d in side]

    labels = sorted({e.label for side in (gold, found) for d in side for e in d})
    return Evaluator(rows(gold), rows(found), labels, loader="dict").evaluate()["overall"]


@given(st.lists(apart(), min_size=1, max_size=3))
def test_outcomes_are_those_of_nervaluate(case: list[tuple[list[Entity], list[Entity]]]) -> None:
    gold, found = [g for g, _ in case], [f for _, f in case]
    theirs = nervaluate(gold, found)
    documents = [Document("", "x" * 200, g) for g in gold]
    overall = analyse(documents, found, Seen([]))["overall"]
    ours = overall["gold"]["outcomes"] | overall["predicted"]["outcomes"]
    boundary = ours["too_long"] + ours["too_short"] + ours["shifted"]
    both = ours["wrong_boundary_and_type"]
    right, type_only = ours["correct"], ours["wrong_type"]
    for name, correct, incorrect, partial in (
        ("strict", right, type_only + boundary + both, 0),
        ("exact", right + type_only, boundary + both, 0),
        ("partial", right + type_only, 0, boundary + both),
        ("ent_type", right + boundary, type_only + both, 0),
    ):
        one = theirs[name]
        assert (one.correct, one.incorrect, one.partial) == (correct, incorrect, partial), name
        assert (one.missed, one.spurious) == (ours["missed"], ours["spurious"]), name


@given(mentions(disjoint=True), mentions(disjoint=True))
def test_totals_are_those_of_nervaluate(gold: list[Entity], found: list[Entity]) -> None:
    """Where a mention meets several predictions it pairs the first ones, we the best."""
    strict = nervaluate([gold], [found])["strict"]
    overall = analyse([Document("", TEXT, gold)], [found], Seen([]))["overall"]
    assert strict.correct == overall["gold"]["outcomes"]["correct"]
    assert strict.possible == overall["gold"]["mentions"]
    assert strict.actual == overall["predicted"]["mentions"]


# --- kinds of mentions ------------------------------------------------------------------------


def marked(text: str, label: str = "X") -> Document:
    """A document whose mentions are in brackets."""
    entities = []
    plain = ""
    for part in re.split(r"(\[[^\]]*\])", text):
        if part.startswith("["):
            entities.append(Entity(len(plain), len(plain) + len(part) - 2, label))
            part = part[1:-1]
        plain += part
    return Document("", plain, entities)


def test_seen_are_the_same_words_with_the_same_label() -> None:
    train = Seen([marked("[Gout] and [renal\n  Cancer], then [GOUT]")])
    document = marked("[gout] [Renal cancer] [renal] [goût]")
    assert [train.times(document, e) for e in document.entities] == [2, 1, 0, 0]
    assert surface(document, document.entities[1]) == "renal cancer"
    assert train.times(document, document.entities[0]._replace(label="Y")) == 0


def test_of_nested_training_mentions_those_count_that_are_taught() -> None:
    document = Document("", "a BRCA gene", [entity(0, 6), entity(2, 6)])
    assert Seen([document]).times(document, document.entities[1]) == 0
    assert Seen([document], innermost).times(document, document.entities[1]) == 1


def test_bins_of_a_small_case() -> None:
    train = Seen([marked("[flu] " * 4 + "[gout] " * 9 + "[acne] " * 10 + "[mumps]")])
    gold = marked("[flu], [gout], [acne], [mumps], [very rare hay fever], [odd ill], [flu]")
    # Of the unseen one is cut short by a word and one is missed; of the seen the last flu.
    long, odd = gold.entities[4], gold.entities[5]
    spurious = Entity(odd.end, odd.end + 1, "X")
    found = [*gold.entities[:4], long._replace(start=long.start + len("very ")), spurious]
    report = analyse([gold], [found], train)
    assert report["documents"] == 1
    assert report["unseen"] == {"mentions": 2, "correct": 0, "recall": 0.0}
    seen, unseen = report["by_seen"]["seen"], report["by_seen"]["unseen"]
    assert (seen["gold"]["mentions"], seen["gold"]["recall"]) == (5, 80.0)
    assert (seen["predicted"]["mentions"], seen["predicted"]["precision"]) == (4, 100.0)
    assert seen["f1"] == pytest.approx(800 / 9)
    assert unseen["gold"]["outcomes"]["too_short"] == unseen["gold"]["outcomes"]["missed"] == 1
    assert unseen["predicted"]["outcomes"]["spurious"] == 1
    assert {
        name: (one["gold"]["mentions"], one["gold"]["outcomes"]["correct"])
        for name, one in report["by_frequency"].items()
    } == {"0": (2, 0), "1": (1, 1), "2-4": (2, 1), "5-9": (1, 1), "10+": (1, 1)}
    assert {
        name: (one["gold"]["mentions"], one["predicted"]["mentions"])
        for name, one in report["by_length"].items()
    } == {"1": (5, 5), "2": (1, 0), "3": (0, 1), "4+": (1, 0)}
    assert report["by_length"]["3"]["gold"]["recall"] is None
    assert report["by_length"]["2"]["predicted"]["precision"] is None


def test_types_that_are_taken_for_others() -> None:
    gold = [entity(0, 3, "A"), entity(4, 7, "A"), entity(8, 11, "B"), entity(12, 15, "B")]
    found = [entity(0, 3, "A"), entity(4, 6, "B"), entity(8, 11, "A")]
    report = analyse([Document("", "x" * 15, gold)], [found], Seen([]))
    assert report["types"] == {"A": {"A": 1, "B": 1}, "B": {"A": 1}}


# --- examples ---------------------------------------------------------------------------------


@given(st.lists(st.tuples(mentions(disjoint=True), mentions(disjoint=True)), max_size=8))
def test_examples_show_both_sides_whole(case: list[tuple[list[Entity], list[Entity]]]) -> None:
    documents = [Document(f"d{i}", TEXT, gold) for i, (gold, _) in enumerate(case)]
    found = [predicted for _, predicted in case]
    chosen = examples(documents, found, each=2, around=5)
    assert chosen == examples(documents, found, each=2, around=5)
    report = analyse(documents, found, Seen([]))["overall"]
    counts = report["gold"]["outcomes"] | report["predicted"]["outcomes"]
    for outcome in Outcome:
        shown = [one for one in chosen if one.outcome is outcome]
        wanted = 0 if outcome is Outcome.CORRECT else min(2, counts[outcome])
        assert len(shown) == wanted
    for one in chosen:
        assert one.gold["text"] == one.predicted["text"] and one.gold["text"] in TEXT
        # The error is there to be seen.
        assert one.gold["ents"] != one.predicted["ents"]
        gold, predicted = (
            [entity(e["start"], e["end"], e["label"]) for e in side["ents"]]
            for side in (one.gold, one.predicted)
        )
        assert one.outcome in {pair.outcome for pair in match(gold, predicted)}
        assert all(e.end <= len(one.gold["text"]) for e in [*gold, *predicted])


def test_examples_are_spread_and_cut_at_words() -> None:
    # In the mentions' own words the text would show what an entity at the edge does.
    filler = "word " * 40
    documents = [marked(f"{filler}[ill{i}] {filler}") for i in range(9)]
    chosen = examples(documents, [[] for _ in documents], each=3, around=12)
    assert [one.gold["text"].split()[2] for one in chosen] == ["ill0", "ill3", "ill6"]
    assert chosen[0].gold["text"] == "word word ill0 word word"
    assert chosen[0].gold["ents"] == [{"start": 10, "end": 14, "label": "X"}]
    assert chosen[0].predicted["ents"] == [] and chosen[0].outcome is Outcome.MISSED
    whole = marked(f"{'w' * 60}[ill]{'w' * 60}")
    assert examples([whole], [[]], around=30)[0].gold["text"] == "ill"
    crossing = marked("[some very long name] b [ill]")
    (one,) = [e for e in examples([crossing], [crossing.entities[:1]], around=9)]
    assert one.gold["text"] == crossing.text


def test_displacy_renders_examples() -> None:
    from spacy import displacy

    document = marked("a <b> [renal\ncancer] & more")
    found = [document.entities[0]._replace(end=document.entities[0].end - 1)]
    (one,) = examples([document], [found])
    html = displacy.render([one.gold, one.predicted], style="ent", manual=True, jupyter=False)
    assert html.count("&lt;b&gt;") == html.count("<mark") == 2
    assert "renal\ncancer" in html and "renal\ncance" in html


# --- files ------------------------------------------------------------------------------------


def write_split(folder: Path, dataset: str, split: str, label: str, *texts: str) -> None:
    place = folder / "ner" / dataset
    place.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, text in enumerate(texts):
        document = marked(text, label)
        entities = [list(e[:3]) for e in document.entities]
        rows.append({"id": f"{split}{number}", "text": document.text, "entities": entities})
    content = "".join(json.dumps(row) + "\n" for row in rows)
    (place / f"{split}.jsonl").write_text(content, encoding="utf8")


def write_predictions(path: Path, corpus: Path, found: list[list[Entity]], **changes: Any) -> Path:
    at = evaluate.load("ncbi", "dev", corpus)
    raw = [evaluate.Found(d.id, own) for d, own in zip(at.raw, found, strict=True)]
    model = {"adapter": "ad" * 32, "edges": "word", "trained_on": ["ncbi"], **changes}
    predictions.write(Predictions("ncbi", "dev", at.data, **model, raw=raw), path)
    return path


def test_a_file_of_predictions_is_analysed(tmp_path: Path) -> None:
    write_split(tmp_path, "ncbi", "train", "Disease", "[Zebra pox] is old")
    write_split(tmp_path, "ncbi", "dev", "Disease", "[zebra pox] hurts", "[Yak fever] and none")
    write_split(tmp_path, "bc5cdr-disease", "train", "Disease", "a [yak  fever]")
    found = [[entity(0, 9, "DISEASE")], [entity(0, 9, "DISEASE"), entity(14, 18, "DISEASE")]]
    path = write_predictions(tmp_path / "dev.predictions.jsonl", tmp_path, found)
    report = errors.analyse_file(path, tmp_path)
    assert report["unseen"] == {"mentions": 1, "correct": 1, "recall": 100.0}
    assert report["overall"]["predicted"]["outcomes"]["spurious"] == 1
    facts = [report[key] for key in ("dataset", "split", "adapter", "edges")]
    assert facts == ["ncbi", "dev", "ad" * 32, "word"]
    assert set(report["data"]) == {"dev.jsonl"} and report["train"]["datasets"] == ["ncbi"]
    # No word of the corpus in what is handed on.
    words = re.findall(r"[a-z]+", json.dumps(report).lower())
    assert not {"zebra", "pox", "yak", "fever", "hurts"} & set(words)
    shown = errors.examples_of_file(path, tmp_path)
    assert [(one.outcome, one.document) for one in shown] == [(Outcome.SPURIOUS, "dev1")]
    with pytest.raises(TypeError):
        json.dumps(shown)

    other = write_predictions(tmp_path / "other.jsonl", tmp_path, found, trained_on=[])
    assert errors.analyse_file(other, tmp_path) == report
    other = write_predictions(other, tmp_path, found, trained_on=["bc5cdr-disease"])
    of_other = errors.analyse_file(other, tmp_path)
    assert of_other["train"]["datasets"] == ["bc5cdr-disease"]
    assert of_other["by_seen"]["unseen"]["gold"]["mentions"] == 1
    assert of_other["by_frequency"]["1"]["gold"]["mentions"] == 1
    assert of_other["by_length"] == report["by_length"]


def test_a_mention_of_a_corpus_that_training_went_on_from_is_seen(tmp_path: Path) -> None:
    write_split(tmp_path, "ncbi", "train", "Disease", "[Zebra pox] is old")
    write_split(tmp_path, "ncbi", "dev", "Disease", "[zebra pox] hurts", "[Yak fever] and none")
    write_split(tmp_path, "bc5cdr-disease", "train", "Disease", "a [yak  fever]")
    path = tmp_path / "dev.predictions.jsonl"
    found: list[list[Entity]] = [[], []]
    write_predictions(path, tmp_path, found, trained_on=["ncbi", "bc5cdr-disease"])
    report = errors.analyse_file(path, tmp_path)
    assert report["unseen"]["mentions"] == 0
    assert list(report["train"]["data"]) == ["ncbi/train.jsonl", "bc5cdr-disease/train.jsonl"]
    assert report["train"]["absent"] == []

    write_predictions(path, tmp_path, found, trained_on=["ncbi", "bc5cdr-chem", "our-notes"])
    report = errors.analyse_file(path, tmp_path)
    assert report["train"]["absent"] == ["bc5cdr-chem", "our-notes"]
    assert [report[key] for key in errors.OF_TRAINING] == [None, None, None]
    assert report["overall"]["gold"]["mentions"] == 2


@pytest.mark.parametrize("name", ["bionlp13cg", "jnlpba"])
def test_a_corpus_against_itself(corpora_dir: Path, name: str) -> None:
    """What is annotated, flattened, is all right; nested mentions are no errors."""
    from spacy_openmed.corpora import registry

    flatten = registry.flatten(name)
    documents = read_split(corpora_dir, name, "dev")
    found = [flatten(document.entities) for document in documents]
    report = analyse(documents, found, Seen(documents, flatten), flatten)
    assert report["overall"]["f1"] == 100.0 and report["unseen"]["mentions"] == 0
    assert report["unseen"]["recall"] is None
