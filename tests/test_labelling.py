"""Annotations to wordpiece labels."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from spacy_openmed.backbones import load_tokenizer
from spacy_openmed.entities import Entity
from spacy_openmed.labelling import label_wordpieces, outermost
from spacy_openmed.windows import encode

IDS = {"O": 0, "B-X": 1, "I-X": 2, "B-Y": 3, "I-Y": 4}

spans = st.tuples(st.integers(0, 30), st.integers(1, 12), st.sampled_from("XY")).map(
    lambda s: Entity(s[0], s[0] + s[1], s[2])
)


def overlap(a: Entity, b: Entity) -> bool:
    return a.start < b.end and b.start < a.end


@given(st.lists(spans, max_size=12))
def test_outermost_keeps_the_longest_of_what_overlaps(entities: list[Entity]) -> None:
    kept = outermost(entities)
    assert set(kept) <= set(entities)
    assert kept == sorted(kept)
    assert not any(overlap(a, b) for i, a in enumerate(kept) for b in kept[:i])
    for dropped in set(entities) - set(kept):
        rivals = [k for k in kept if overlap(k, dropped)]
        assert any(k.end - k.start >= dropped.end - dropped.start for k in rivals)


@given(st.lists(spans, max_size=8), st.randoms())
def test_outermost_does_not_depend_on_the_order(entities: list[Entity], random) -> None:
    shuffled = list(entities)
    random.shuffle(shuffled)
    assert outermost(shuffled) == outermost(entities)


def test_of_equally_long_entities_the_earlier_stays() -> None:
    first, second = Entity(0, 4, "Y"), Entity(3, 7, "X")
    assert outermost([second, first]) == [first]


def labels(folder: Path, text: str, entities: list[Entity]) -> list[int]:
    return label_wordpieces(encode(text, load_tokenizer(folder)), entities, IDS).tolist()


def test_every_wordpiece_of_an_entity_is_labelled(tiny_backbone: Path) -> None:
    text = "anti hepatotoxic drug, drug"
    #       anti hepat ##otoxic drug , drug
    assert labels(tiny_backbone, text, [Entity(5, 21, "Y")]) == [0, 3, 4, 4, 0, 0]
    adjacent = [Entity(0, 4, "X"), Entity(5, 16, "X"), Entity(23, 27, "Y")]
    assert labels(tiny_backbone, text, adjacent) == [1, 1, 2, 0, 0, 3]


def test_wordpiece_that_an_entity_only_touches_belongs_to_it(tiny_backbone: Path) -> None:
    assert labels(tiny_backbone, "cancer cell", [Entity(2, 9, "X")]) == [1, 2]


def test_wordpiece_of_two_entities_goes_to_the_earlier(tiny_backbone: Path) -> None:
    two = [Entity(0, 3, "X"), Entity(3, 11, "Y")]
    assert labels(tiny_backbone, "cancer cell", two) == [1, 3]


def test_nothing_to_label(tiny_backbone: Path) -> None:
    assert labels(tiny_backbone, "cancer cell", []) == [0, 0]
    assert labels(tiny_backbone, "", []) == []
