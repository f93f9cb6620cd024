"""Tag schemes: decoding, encoding, detection, and agreement with seqeval."""

import itertools

import pytest
import seqeval.scheme
from hypothesis import given
from hypothesis import strategies as st

from spacy_openmed.corpora.bio import SCHEMES, Span, decode, detect, encode, find_scheme
from spacy_openmed.errors import OpenMedError

SEQEVAL = {
    "BIO2": seqeval.scheme.IOB2,
    "IOB1": seqeval.scheme.IOB1,
    "BIOES": seqeval.scheme.IOBES,
    "BILUO": seqeval.scheme.BILOU,
}
# The same entities in each: "a b" is one, directly followed by one of the same type, then by
# one of another.
EXAMPLES = {
    "BIO2": ["B-X", "I-X", "B-X", "B-Y", "O", "B-X"],
    "IOB1": ["I-X", "I-X", "B-X", "I-Y", "O", "I-X"],
    "BIOES": ["B-X", "E-X", "S-X", "S-Y", "O", "S-X"],
    "BILUO": ["B-X", "L-X", "U-X", "U-Y", "O", "U-X"],
}
SPANS = [(0, 2, "X"), (2, 3, "X"), (3, 4, "Y"), (5, 6, "X")]

schemes = st.sampled_from(SCHEMES)


@st.composite
def sentences(draw: st.DrawFn) -> tuple[list[Span], int]:
    """Disjoint spans, often adjacent, and the number of tokens."""
    spans = []
    position = 0
    for gap, length in draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), max_size=5)):
        first = position + gap
        position = first + length
        spans.append((first, position, draw(st.sampled_from(["X", "Y", "X-Y", "I"]))))
    return spans, position + draw(st.integers(0, 2))


def by_seqeval(tags: list[str], scheme: str) -> list[Span]:
    found = seqeval.scheme.Entities([tags], SEQEVAL[scheme]).entities[0]
    return [(e.start, e.end, e.tag) for e in found]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_example(scheme: str) -> None:
    assert encode(SPANS, 6, scheme) == EXAMPLES[scheme]
    assert decode(EXAMPLES[scheme], scheme) == SPANS


@given(sentences(), schemes)
def test_encoded_spans_are_decoded(sentence: tuple[list[Span], int], scheme: str) -> None:
    spans, length = sentence
    tags = encode(spans, length, scheme)
    assert len(tags) == length
    assert decode(tags, scheme) == spans


@given(sentences(), schemes)
def test_seqeval_reads_the_same(sentence: tuple[list[Span], int], scheme: str) -> None:
    spans, length = sentence
    assert by_seqeval(encode(spans, length, scheme), scheme) == spans


@given(sentences(), schemes, schemes)
def test_conversion_and_back(sentence: tuple[list[Span], int], one: str, other: str) -> None:
    tags = encode(*sentence, one)
    there = encode(decode(tags, one), len(tags), other)
    assert encode(decode(there, other), len(tags), one) == tags


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_short_sequence_is_refused_or_read_as_seqeval_reads_it(scheme: str) -> None:
    """What is decoded is encoded as it was: no two valid sequences mean the same."""
    letters = sorted({tag[0] for tag in EXAMPLES[scheme]} - {"O"} | {"I"})
    tags = ["O", *(f"{letter}-{label}" for letter in letters for label in "XY")]
    read = 0
    for sequence in itertools.product(tags, repeat=3):
        try:
            spans = decode(sequence, scheme)
        except OpenMedError:
            continue
        read += 1
        assert by_seqeval(list(sequence), scheme) == spans
        assert encode(spans, 3, scheme) == list(sequence)
    assert 0 < read < len(tags) ** 3


def test_all_schemes_can_say_the_same() -> None:
    """As many sequences are valid in one scheme as in any other."""

    def valid(scheme: str) -> int:
        tags = ["O", *(f"{a}-{b}" for a in "BIESLU" for b in "XY")]
        count = 0
        for sequence in itertools.product(tags, repeat=3):
            try:
                decode(sequence, scheme)
            except OpenMedError:
                continue
            count += 1
        return count

    assert len({valid(scheme) for scheme in SCHEMES}) == 1


FAULTS = {
    "nothing begun": ("BIO2", ["O", "I-X"], 2, "I-X follows neither B-X nor I-X"),
    "another type": ("BIO2", ["B-X", "I-Y"], 2, "I-Y follows neither"),
    "a longer type": ("BIO2", ["B-X", "I-XY"], 2, "I-XY follows neither"),
    "at the start": ("BIO2", ["I-X"], 1, "I-X follows neither"),
    "letter of another scheme": ("BIO2", ["B-X", "E-X"], 2, "'E-X' is no tag of BIO2.*B-X or I-X"),
    "no type": ("BIO2", ["B-"], 1, "'B-' is no tag"),
    "no hyphen": ("BIO2", ["BX"], 1, "'BX' is no tag"),
    "empty": ("BIO2", ["O", ""], 2, "'' is no tag"),
    "lower case": ("BIO2", ["o"], 1, "'o' is no tag"),
    "B without need": ("IOB1", ["O", "B-X"], 2, "B-X does not follow an entity of its type"),
    "B after another type": ("IOB1", ["I-Y", "B-X"], 2, "B-X does not follow"),
    "no end": ("BIOES", ["B-X", "I-X", "O"], 2, "I-X is followed by O, not by I-X or E-X"),
    "no end in the sentence": ("BIOES", ["O", "B-X"], 2, "B-X is followed by O"),
    "single inside": ("BIOES", ["B-X", "S-X", "E-X"], 1, "B-X is followed by S-X"),
    "end of another type": ("BILUO", ["B-X", "L-Y"], 1, "not by I-X or L-X"),
    "end of nothing": ("BILUO", ["U-X", "L-X"], 2, "L-X follows neither"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_fault_names_the_place(case: str) -> None:
    scheme, tags, number, reason = FAULTS[case]
    with pytest.raises(OpenMedError, match=f"^tag {number}: .*{reason}"):
        decode(tags, scheme)
    places = [f"a.conll, line {n}" for n in range(1, len(tags) + 1)]
    with pytest.raises(OpenMedError, match=f"^a.conll, line {number}: .*{reason}"):
        decode(tags, scheme, places)


@pytest.mark.parametrize(
    "spans",
    [[(0, 0, "X")], [(2, 1, "X")], [(1, 4, "X")], [(-1, 1, "X")], [(0, 2, "X"), (1, 3, "Y")]],
)
def test_what_tags_cannot_say_is_refused(spans: list[Span]) -> None:
    with pytest.raises(OpenMedError, match="empty, outside the 3 tokens or overlaps"):
        encode(spans, 3)


@given(st.lists(sentences(), max_size=4), schemes)
def test_detection(parts: list[tuple[list[Span], int]], scheme: str) -> None:
    found = detect(encode(*part, scheme) for part in parts)
    assert found == (scheme if any(spans for spans, _ in parts) else "BIO2")


@pytest.mark.parametrize(
    ("scheme", "wrong"),
    [
        (scheme, wrong)
        for scheme in SCHEMES
        for wrong in ("I-X", "B-X", "E-X", "S-X", "L-X", "B-", "-X-", "")
        # No IOB1 has such a B, see the next test.
        if (scheme, wrong) != ("IOB1", "B-X")
    ],
)
def test_one_wrong_line_does_not_change_the_scheme(scheme: str, wrong: str) -> None:
    assert detect([EXAMPLES[scheme], ["O", wrong, "O"], EXAMPLES[scheme]]) == scheme


@pytest.mark.parametrize("begun", [["B-X"], ["O", "B-X"], ["I-Y", "B-X"]])
def test_wrong_inside_tags_do_not_make_iob1_of_bio2(begun: list[str]) -> None:
    stray = [["O", "I-X", "O", "I-Y"]] * 3
    assert detect(stray) == "IOB1"
    assert detect([*stray, begun]) == "BIO2"
    assert detect([*stray, ["I-X", "B-X"]]) == "IOB1"


@pytest.mark.parametrize("sentences", [[], [[]], [["O", "O"]], [["X", ""]]])
def test_nothing_to_detect_is_bio2(sentences: list[list[str]]) -> None:
    assert detect(sentences) == "BIO2"


def test_names_of_schemes() -> None:
    others = {"IOB2": "BIO2", "bio": "BIO2", "IOBES": "BIOES", "bilou": "BILUO", "iob1": "IOB1"}
    for name, scheme in {**others, **{s: s for s in SCHEMES}}.items():
        assert find_scheme(name) == scheme
        assert decode(EXAMPLES[scheme], name) == SPANS
        assert encode(SPANS, 6, name) == EXAMPLES[scheme]
    with pytest.raises(OpenMedError, match=r"'IOE2'.*BIO2, IOB1, BIOES, BILUO"):
        find_scheme("IOE2")
