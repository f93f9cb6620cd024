"""Edits move annotations exactly; each disturbance does what it says, and nothing else."""

import re
import textwrap
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_openmed.corpora.documents import Document
from spacy_openmed.corpora.folder import installed, read_split
from spacy_openmed.corpora.registry import with_demos
from spacy_openmed.entities import Entity
from spacy_openmed.evaluation.disturb import DISTURBANCES, Edit, apply

BY_NAME = {one.name: one for one in DISTURBANCES}
# What upper and lower case make longer, what they leave, and all that separates words.
LETTERS = "abzABZßİŉﬁµσςΣé5-.!?(\"' \n\t\u00a0"
TEXT = (
    "Straßen-Fieber was seen in 3 mice. A second (rare) case of Straßen-Fieber came later, and "
    "nobody in the laboratory had an explanation for it!\nOvarian cancer type 2 was not seen. Was "
    "anything else? No."
)


def document(text: str = TEXT, *mentions: str, label: str = "DISEASE") -> Document:
    """A document in which every occurrence of some mentions is annotated."""
    found = [m.span() for one in mentions for m in re.finditer(re.escape(one), text)]
    return Document("1", text, [Entity(start, end, label) for start, end in found])


ANNOTATED = document(TEXT, "Straßen-Fieber", "Ovarian cancer type 2", "cancer", "mice", "2")


@st.composite
def documents(draw: st.DrawFn, letters: str = LETTERS) -> Document:
    """Any text, with mentions that may be nested, overlap, touch, or be twice the same."""
    text = draw(st.text(letters, min_size=1, max_size=60))
    spans = st.tuples(st.integers(0, len(text) - 1), st.integers(1, len(text))).filter(
        lambda span: span[0] < span[1]
    )
    labels = st.sampled_from(["DISEASE", "GENE"])
    drawn = draw(st.lists(st.tuples(spans, labels), max_size=5))
    return Document("7", text, [Entity(*span, label) for span, label in drawn])


@st.composite
def edits(draw: st.DrawFn, of: Document) -> list[Edit]:
    """Disjoint edits in any order, which go over no edge of a mention and leave none empty."""
    places = draw(st.lists(st.integers(0, len(of.text)), max_size=12, unique=True).map(sorted))
    found: list[Edit] = []
    for start, end in zip(places[::2], places[1::2], strict=False):
        text = draw(st.text("xyz ", max_size=3))
        if not any(start < edge < end for e in of.entities for edge in (e.start, e.end)):
            found.append(Edit(start, end, text or "x"))
        if draw(st.booleans()):
            found.append(Edit(start, start, draw(st.text("uvw", max_size=3))))
    return draw(st.permutations(found))


def edited(text: str, changes: list[Edit]) -> str:
    """From the last to the first, so that offsets stay what they are."""
    for start, end, new in sorted(changes, reverse=True):
        text = text[:start] + new + text[end:]
    return text


@given(st.data())
def test_mentions_after_are_mentions_before_with_the_edits_within(data: st.DataObject) -> None:
    before = data.draw(documents())
    changes = data.draw(edits(before))
    after = apply(before, changes)
    assert after.text == edited(before.text, changes)
    assert after.id == before.id
    assert [e.label for e in after.entities] == [e.label for e in before.entities]
    for old, new in zip(before.entities, after.entities, strict=True):
        within = [
            Edit(start - old.start, end - old.start, text)
            for start, end, text in changes
            if old.start <= start and end <= old.end and not start == end in (old.start, old.end)
        ]
        assert 0 <= new.start < new.end <= len(after.text)
        expected = edited(before.text[old.start : old.end], within)
        assert after.text[new.start : new.end] == expected
        # The text alone could be the same in another place.
        outside = [c for c in changes if c.end <= old.start]
        assert new.start == len(edited(before.text[: old.start], outside))


@given(documents(), st.data())
def test_what_changes_nothing(before: Document, data: st.DataObject) -> None:
    assert apply(before, []) == before
    places = data.draw(st.lists(st.integers(0, len(before.text) - 1), unique=True))
    assert apply(before, [Edit(i, i + 1, before.text[i]) for i in places]) == before
    assert apply(before, [Edit(i, i, "") for i in places]) == before


def test_insertions_beside_mentions_are_outside_of_them() -> None:
    before = Document("", "abcd", [Entity(0, 2, "A"), Entity(2, 4, "B"), Entity(0, 4, "C")])
    after = apply(before, [Edit(2, 2, "--"), Edit(4, 4, "!"), Edit(0, 0, "_"), Edit(2, 3, "XY")])
    assert after.text == "_ab--XYd!"
    assert [after.text[e.start : e.end] for e in after.entities] == ["ab", "XYd", "ab--XYd"]


def test_what_was_said_of_the_text_before_is_left_out() -> None:
    before = Document(
        "1", "a b", [Entity(0, 1, "A")], [(0, 1), (2, 3)], [(0, 2)], {(0, 1, "A"): "D1"},
        [(0, 3, "title")],
    )  # fmt: skip
    after = apply(before, [Edit(0, 0, "x")])
    assert after == Document("1", "xa b", [Entity(1, 2, "A")])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([(0, 2, "x"), (1, 3, "y")], "overlap"),
        ([(1, 2, "x"), (1, 2, "y")], "overlap"),
        ([(1, 1, "x"), (1, 1, "y")], "overlap"),
        ([(0, 2, "x"), (1, 1, "y")], "overlap"),
        ([(3, 7, "x")], "outside"),
        ([(-1, 0, "x")], "outside"),
        ([(2, 1, "x")], "outside"),
        ([(1, 3, "x")], "over an edge of 2 to 4"),
        ([(3, 5, "x")], "over an edge of 2 to 4"),
        ([(1, 5, "x")], "over an edge of 2 to 4"),
        ([(2, 4, "")], "nothing is left of 2 to 4"),
        ([(2, 3, ""), (3, 4, "")], "nothing is left of 2 to 4"),
    ],
)
def test_impossible_edits_are_refused(changes: list[tuple[int, int, str]], said: str) -> None:
    before = Document("", "abcdef", [Entity(2, 4, "A")])
    with pytest.raises(ValueError, match=said):
        apply(before, [Edit(*change) for change in changes])


# --- the disturbances -------------------------------------------------------------------------

DISTURBED = pytest.mark.parametrize("name", BY_NAME)


@DISTURBED
@given(documents(), st.integers(0, 50))
def test_any_text_can_be_disturbed(name: str, before: Document, seed: int) -> None:
    disturb = BY_NAME[name]
    after = disturb(before, Random(seed))
    assert after == disturb(before, Random(seed))
    assert [e.label for e in after.entities] == [e.label for e in before.entities]
    for old, new in zip(before.entities, after.entities, strict=True):
        was, now = before.text[old.start : old.end], after.text[new.start : new.end]
        if name in ("headings", "lists", "placeholders"):
            assert now == was
        elif name in ("line_wrap", "line_breaks_in_mentions"):
            assert all(x == y or x + y == " \n" for x, y in zip(was, now, strict=True))
        elif name == "capitals":
            assert now == "".join(map(str.upper, was))


@DISTURBED
def test_nothing_to_disturb(name: str) -> None:
    after = BY_NAME[name](Document("", "", []), Random(0))
    assert (after.text == "") is (name not in ("headings", "lists"))


def test_names_are_of_one_disturbance_each() -> None:
    assert len(BY_NAME) == len(DISTURBANCES) >= 7
    for one in DISTURBANCES:
        assert re.fullmatch("[a-z_]+", one.name) and one.about.endswith(".") and one.version >= 1


def mentions(of: Document) -> list[str]:
    return [of.text[e.start : e.end] for e in of.entities]


def test_letter_case() -> None:
    after = BY_NAME["capitals"](ANNOTATED, Random(0))
    assert after.text == TEXT.upper() and len(after.text) == len(TEXT) + 2
    assert mentions(after)[:2] == ["STRASSEN-FIEBER"] * 2
    after = BY_NAME["lower_case"](ANNOTATED, Random(0))
    assert after.text == TEXT.lower()
    assert mentions(after)[2] == "ovarian cancer type 2"


@pytest.mark.parametrize("seed", range(5))
def test_headings(seed: int) -> None:
    after = BY_NAME["headings"](ANNOTATED, Random(seed))
    assert re.match(r"[A-Z -]+:\nStraßen", after.text)
    lines = after.text.split("\n")
    headings = [line for line in lines if re.fullmatch("[A-Z -]+:", line)]
    assert len(headings) == 1 + after.text.count("\n\n")
    rest = " ".join(line for line in lines if line and line not in headings)
    assert rest == TEXT.replace("\n", " ")


def test_a_third_of_the_sentences_has_a_heading() -> None:
    text = "It was seen. " * 3000
    after = BY_NAME["headings"](document(text), Random(1))
    assert 900 < after.text.count(":\n") < 1100


def test_lists() -> None:
    seen = set()
    for seed in range(10):
        lines = BY_NAME["lists"](ANNOTATED, Random(seed)).text.split("\n")
        marks = [line[: line.index(" ")] for line in lines]
        seen.add(tuple(marks))
        assert [line[line.index(" ") + 1 :] for line in lines] == [
            "Straßen-Fieber was seen in 3 mice.",
            "A second (rare) case of Straßen-Fieber came later, and nobody in the laboratory had "
            "an explanation for it!",
            "Ovarian cancer type 2 was not seen.",
            "Was anything else?",
            "No.",
        ]
    assert seen == {("1.", "2.", "3.", "4.", "5."), ("-",) * 5}


def test_sentences_do_not_end_within_mentions() -> None:
    inside = document("Seen in E. Coli strains. Twice.", "E. Coli")
    after = BY_NAME["lists"](inside, Random(0))
    assert after.text.count("\n") == 1 and mentions(after) == ["E. Coli"]
    assert BY_NAME["lists"](document(inside.text), Random(0)).text.count("\n") == 2


PLACEHOLDER = re.compile(r"\[\*\*[^\[\]*]+\*\*\] ")


def test_placeholders() -> None:
    before = document(TEXT * 60, "Straßen-Fieber", "Ovarian cancer type 2", "cancer")
    after = BY_NAME["placeholders"](before, Random(3))
    assert PLACEHOLDER.sub("", after.text) == before.text
    assert mentions(after) == mentions(before)
    found = PLACEHOLDER.findall(after.text)
    outside = len(re.findall(r"\s", before.text)) - 3 * 60
    assert 0.03 < len(found) / outside < 0.07
    assert any("Name" in one for one in found)
    assert any(re.match(r"\[\*\*2\d{3}-\d{1,2}-\d{1,2}\*\*\]", one) for one in found)


@given(st.text("ab \n", max_size=400), st.integers(0, 100))
def test_wrapped_lines_are_as_long_as_they_can_be(text: str, seed: int) -> None:
    after = BY_NAME["line_wrap"](document(text), Random(seed)).text
    assert len(after) == len(text)
    assert after.replace("\n", " ") == text.replace("\n", " ")
    width = Random(seed).randint(60, 80)
    for line in after.split("\n"):
        assert len(line) <= width or " " not in line[: width + 1].rstrip(" ")


def test_lines_break_where_textwrap_breaks_them() -> None:
    text = " ".join(["Ovarian cancer type 2 was not seen in any of these cases."] * 9)
    before = document(text, "Ovarian cancer type 2")
    broken = set()
    for seed in range(20):
        after = BY_NAME["line_wrap"](before, Random(seed))
        width = Random(seed).randint(60, 80)
        assert after.text == textwrap.fill(text, width)
        broken |= {one for one in mentions(after) if "\n" in one}
    assert "Ovarian\ncancer type 2" in broken


def test_line_breaks_in_mentions() -> None:
    before = document(
        "no break, ovarian cancer type 2, mice", "ovarian cancer type 2", "cancer type", "mice"
    )
    after = BY_NAME["line_breaks_in_mentions"](before, Random(0))
    outer, _, single = mentions(after)
    assert outer.count("\n") == 1 and single == "mice"
    assert after.text.count("\n") == 1


def test_typos_are_in_three_words_of_a_hundred() -> None:
    before = document("These seven words have many letters, not 12 or 5a. " * 1000, "words", "12")
    after = BY_NAME["typos"](before, Random(5))
    wrong = [old != new for old, new in pairwise_words(before.text, after.text)]
    long = 6 * 1000
    assert 0.02 < sum(wrong) / long < 0.04
    assert 0.01 < sum(one != "words" for one in mentions(after)[:1000]) / 1000 < 0.05
    assert set(mentions(after)[1000:]) == {"12"}


def pairwise_words(old: str, new: str) -> list[tuple[str, str]]:
    return list(zip(old.split(" "), new.split(" "), strict=True))


NEIGHBOURS = {a + b for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm") for a, b in pairwise(row)}


def kind_of_typo(old: str, new: str) -> str:
    if len(new) < len(old):
        assert new in {old[:i] + old[i + 1 :] for i in range(len(old))}
        return "dropped"
    if len(new) > len(old):
        assert new in {old[: i + 1] + old[i:] for i in range(len(old))}
        return "doubled"
    places = [i for i in range(len(old)) if old[i] != new[i]]
    if len(places) == 2:
        i, j = places
        assert j == i + 1 and (new[i], new[j]) == (old[j], old[i])
        return "swapped"
    (i,) = places
    assert old[i].isupper() == new[i].isupper()
    assert {(old[i] + new[i]).lower(), (new[i] + old[i]).lower()} & NEIGHBOURS
    return "beside"


def test_typos_in_mentions() -> None:
    text = "Many CANCERS, ovarian Cancer type 22 and a flu. " * 200
    before = document(text, "CANCERS", "ovarian Cancer type 22", "flu")
    after = BY_NAME["typos_in_mentions"](before, Random(2))
    found = mentions(after)
    kinds = {kind_of_typo("CANCERS", one) for one in found[:200]}
    for one in found[200:400]:
        changed = [
            (old, new) for old, new in pairwise_words("ovarian Cancer type 22", one) if old != new
        ]
        assert len(changed) == 1
        kinds.add(kind_of_typo(*changed[0]))
    assert kinds == {"dropped", "doubled", "swapped", "beside"}
    assert set(found[400:]) == {"flu"}
    # And none elsewhere.
    assert after.text.count("Many ") == after.text.count(" and a flu. ") == 200


def test_nested_mentions_have_one_typo() -> None:
    before = document("an ovarian cancer here", "ovarian cancer", "cancer", "ovarian")
    for seed in range(30):
        outer, *inner = mentions(BY_NAME["typos_in_mentions"](before, Random(seed)))
        assert outer != "ovarian cancer"
        assert sum(old != new for old, new in zip(["cancer", "ovarian"], inner, strict=True)) >= 1


def test_words_that_a_mention_ends_within_have_none() -> None:
    before = Document("", "glucosamines", [Entity(0, 7, "CHEMICAL")])
    for name in ("typos", "typos_in_mentions"):
        assert all(BY_NAME[name](before, Random(seed)) == before for seed in range(100))


@DISTURBED
def test_real_annotations_move_along(corpora_dir: Path, name: str) -> None:
    disturb = BY_NAME[name]
    for dataset in [one for one in with_demos() if installed(corpora_dir, one)]:
        for number, before in enumerate(read_split(corpora_dir, dataset, "dev")[:40]):
            after = disturb(before, Random(number))
            if name in ("capitals", "lower_case"):
                assert after.text.casefold() == before.text.casefold()
            if name in ("headings", "lists", "placeholders"):
                assert mentions(after) == mentions(before)
            if name.startswith("line_"):
                assert [e[:2] for e in after.entities] == [e[:2] for e in before.entities]
