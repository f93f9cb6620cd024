"""Mentions carried to the same words elsewhere in a text."""

from hypothesis import given
from hypothesis import strategies as st

from spacy_openmed.repeats import MIN_CHARACTERS, Mention, carried

DISEASE, CHEMICAL = 0, 1


def words(text: str) -> list[str]:
    return text.split()


@st.composite
def tagged(draw: st.DrawFn) -> tuple[list[str], list[Mention]]:
    """Words of a small vocabulary, so that they repeat, and disjoint mentions among them."""
    text = draw(st.lists(st.sampled_from(["asthma", "gene", "of", "x", "y", "ab"]), max_size=30))
    mentions, at = [], 0
    while at < len(text):
        length = draw(st.integers(0, 3))
        stop = min(at + max(length, 1), len(text))
        if length:
            score = draw(st.floats(0, 1))
            mentions.append(Mention(at, stop, draw(st.integers(0, 2)), score))
        at = stop
    return text, mentions


@given(tagged(), st.floats(0, 1))
def test_carried_mentions_repeat_one_and_touch_none(
    text: tuple[list[str], list[Mention]], least: float
) -> None:
    words, mentions = text
    new = carried(words, mentions, least)
    taken = [i for m in [*mentions, *new] for i in range(m.first, m.stop)]
    assert len(taken) == len(set(taken))
    assert new == sorted(new)
    for mention in new:
        same = [
            m
            for m in mentions
            if words[m.first : m.stop] == words[mention.first : mention.stop] and m.score >= least
        ]
        assert mention.score == max(m.score for m in same if m.kind == mention.kind)
        assert sum(map(len, words[mention.first : mention.stop])) >= MIN_CHARACTERS


@given(tagged(), st.floats(0, 1))
def test_nothing_is_left_that_fits(text: tuple[list[str], list[Mention]], least: float) -> None:
    words, mentions = text
    all_of_them = sorted([*mentions, *carried(words, mentions, least)])
    taken = {i for m in all_of_them for i in range(m.first, m.stop)}
    for m in mentions:
        phrase = words[m.first : m.stop]
        if m.score < least or sum(map(len, phrase)) < MIN_CHARACTERS:
            continue
        for at in range(len(words) - len(phrase) + 1):
            same = words[at : at + len(phrase)] == phrase
            assert not same or taken & set(range(at, at + len(phrase)))


def test_longest_first_and_most_frequent_type() -> None:
    text = words("renal failure here then failure and failure but renal failure twice failure")
    found = [
        Mention(0, 2, DISEASE, 0.9),
        Mention(4, 5, CHEMICAL, 0.99),
        Mention(6, 7, DISEASE, 0.8),
    ]
    # "failure" has been seen once as each: the first type counts.
    assert carried(text, found, 0.5) == [
        Mention(8, 10, DISEASE, 0.9),
        Mention(11, 12, DISEASE, 0.8),
    ]
    found[2] = found[2]._replace(kind=CHEMICAL)
    assert carried(text, found, 0.5)[1] == Mention(11, 12, CHEMICAL, 0.99)


def test_sources_need_the_score_and_the_length() -> None:
    text = words("asthma and MS then asthma and MS")
    found = [Mention(0, 1, DISEASE, 0.7), Mention(2, 3, DISEASE, 0.99)]
    assert carried(text, found, 0.7) == [Mention(4, 5, DISEASE, 0.7)]
    assert carried(text, found, 0.71) == []


def test_case_counts() -> None:
    text = words("Iron is not iron")
    assert carried(text, [Mention(0, 1, CHEMICAL, 1.0)], 0.0) == []
