"""Labels of other people's checkpoints, read as BIO."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from spacy_openmed.decoding import Units, bio_labels, decode, units
from spacy_openmed.errors import OpenMedError
from spacy_openmed.label_schemes import LabelScheme, read_labels
from spacy_openmed.windows import Encoding

Floats = NDArray[np.float32]


def scheme_of(*labels: str) -> LabelScheme:
    return read_labels(dict(enumerate(labels)), "Checkpoint 'x'")


def written(words: list[int]) -> tuple[str, Encoding, Units]:
    """Words of so many wordpieces, each of one letter."""
    text = " ".join("a" * pieces for pieces in words)
    starts = np.array([i for i, c in enumerate(text) if c != " "], dtype=np.int32)
    encoding = Encoding(np.zeros(len(starts), dtype=np.int32), starts, starts + 1)
    return text, encoding, units(text, encoding)


def logs(*rows: list[float]) -> Floats:
    return np.log(np.array(rows, dtype=np.float32))


def softmax(scores: Floats) -> NDArray[np.float64]:
    powers = np.exp(scores.astype(np.float64))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("labels", "types"),
    [
        (("O", "B-DISEASE", "I-DISEASE"), ("DISEASE",)),
        (("B-Disease", "I-Disease", "O"), ("DISEASE",)),
        (("I-GENE", "B-DNA", "O", "I-DNA", "B-GENE"), ("GENE", "DNA")),
        (("o", "b_cell line", "i_cell line"), ("CELL LINE",)),
        (("O", "B-X-Y", "I-X-Y"), ("X-Y",)),
    ],
)
def test_bio_is_put_in_order_and_nothing_else(
    labels: tuple[str, ...], types: tuple[str, ...]
) -> None:
    scheme = scheme_of(*labels)
    assert scheme.types == types and scheme.is_bio and scheme.count == len(labels)
    _, _, u = written([1, 3])
    logits = np.arange(4 * len(labels), dtype=np.float32).reshape(4, -1)
    found = scheme.to_bio(logits, u)
    names = [label.upper().replace("_", "-", 1) for label in labels]
    assert np.array_equal(found, logits[:, [names.index(label) for label in bio_labels(types)]])


@pytest.mark.parametrize("letters", ["BIES", "BILU", "BMES"])
def test_ends_and_single_words_add_up(letters: str) -> None:
    b, i, e, s = letters
    scheme = scheme_of("O", *(f"{letter}-X" for letter in (b, i, e, s)), "B-Y", "I-Y")
    assert scheme.types == ("X", "Y") and not scheme.is_bio
    assert scheme.begins[0] == (1, 4) and scheme.insides[0] == (2, 3)
    _, _, u = written([1, 2])
    row = [0.1, 0.05, 0.2, 0.15, 0.25, 0.15, 0.1]
    bio = softmax(scheme.to_bio(logs(row, row, row), u))
    assert bio[0] == pytest.approx([0.1, 0.3, 0.35, 0.15, 0.1], abs=1e-6)
    assert bio[1] == pytest.approx([0.1, 0.3, 0.35, 0.15, 0.1], abs=1e-6)
    # The second wordpiece of a word begins nothing.
    assert bio[2] == pytest.approx([0.1, 0, 0.65, 0, 0.25], abs=1e-6)


def test_a_word_of_several_single_labels_is_one_entity() -> None:
    text, encoding, u = written([3, 1])
    scheme = scheme_of("O", "B-X", "I-X", "E-X", "S-X")
    single, outside = [0.04, 0.02, 0.02, 0.02, 0.9], [0.96, 0.01, 0.01, 0.01, 0.01]
    bio = scheme.to_bio(logs(single, single, single, outside), u)
    ((entity,),) = decode([text], [encoding], [bio], scheme.types)
    assert (entity.start, entity.end, entity.label) == (0, 3, "X")
    assert entity.score > 0.5


@pytest.mark.parametrize("form", ["I-{}", "{}", "B-{}"])
def test_runs_of_one_label_are_entities(form: str) -> None:
    scheme = scheme_of(form.format("GENE"), "O", form.format("Cell_Line"))
    assert scheme.types == ("GENE", "CELL_LINE")
    text, encoding, u = written([1, 2, 1, 1, 1])
    gene, cell, outside = [0.6, 0.3, 0.1], [0.2, 0.1, 0.7], [0.05, 0.9, 0.05]
    bio = scheme.to_bio(logs(gene, gene, gene, cell, outside, gene), u)
    (found,) = decode([text], [encoding], [bio], scheme.types)
    assert [(e.start, e.end, e.label) for e in found] == [
        (0, 4, "GENE"),
        (5, 6, "CELL_LINE"),
        (9, 10, "GENE"),
    ]
    # The words' probabilities, and that of the word after not to go on.
    expected = [0.6 * 0.6 * (1 - 0.2), 0.7 * (1 - 0.05), 0.6]
    assert [e.score for e in found] == pytest.approx(expected, abs=1e-4)


@given(
    st.lists(st.integers(1, 4), max_size=12),
    st.integers(1, 3),
    st.integers(0, 2**32 - 1),
)
def test_runs_of_any_logits(words: list[int], types: int, seed: int) -> None:
    """Against the definition: a word is what its wordpieces say on average."""
    names = [f"T{i}" for i in range(types)]
    scheme = scheme_of("O", *names)
    text, encoding, u = written(words)
    logits = np.random.default_rng(seed).normal(0, 3, (sum(words), types + 1)).astype(np.float32)
    (found,) = decode([text], [encoding], [scheme.to_bio(logits, u)], scheme.types)

    means, piece = [], 0
    for pieces in words:
        rows = np.log(softmax(logits[piece : piece + pieces])).mean(axis=0)
        means.append(softmax(rows[None])[0])
        piece += pieces
    best = [int(np.argmax(m)) for m in means]
    expected = []
    for index, label in enumerate(best):
        if label and (index == 0 or best[index - 1] != label):
            end = index
            while end < len(best) and best[end] == label:
                end += 1
            score = math.prod(means[i][label] for i in range(index, end))
            score *= 1 - means[end][label] if end < len(best) else 1
            expected.append((index, end, names[label - 1], score))
    firsts = [sum(words[:i]) for i in range(len(words) + 1)]
    place = {int(encoding.starts[first]): i for i, first in enumerate(firsts[:-1])}
    assert [(place[e.start], e.label) for e in found] == [(i, label) for i, _, label, _ in expected]
    assert [e.end for e in found] == [
        int(encoding.ends[firsts[end] - 1]) for _, end, _, _ in expected
    ]
    assert [e.score for e in found] == pytest.approx([s for *_, s in expected], abs=2e-3)


@given(st.permutations(["O", "B-A", "I-A", "S-A", "E-A", "I-B", "S-C", "B-D", "L-D"]))
def test_no_probability_is_lost_or_counted_twice(labels: list[str]) -> None:
    scheme = scheme_of(*labels)
    _, _, u = written([1, 3, 2, 1])
    logits = np.random.default_rng(0).normal(0, 2, (7, len(labels))).astype(np.float32)
    bio = scheme.to_bio(logits, u)
    before, after = softmax(logits), softmax(bio)
    assert np.exp(bio.astype(np.float64)).sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert after[:, 0] == pytest.approx(before[:, labels.index("O")], abs=1e-5)
    for i, kind in enumerate(scheme.types):
        own = [n for n, label in enumerate(labels) if label.endswith(f"-{kind}")]
        both = after[:, 2 * i + 1] + after[:, 2 * i + 2]
        assert both == pytest.approx(before[:, own].sum(axis=1), abs=1e-5)


def test_texts_without_wordpieces() -> None:
    _, _, u = written([])
    for labels in (("O", "B-X", "I-X"), ("O", "X"), ("O", "S-X", "B-X", "I-X", "E-X")):
        empty = np.zeros((0, len(labels)), dtype=np.float32)
        assert scheme_of(*labels).to_bio(empty, u).shape == (0, 3)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (("LABEL_0", "LABEL_1"), "not exactly one of them is 'O'"),
        (("O", "o", "B-X", "I-X"), "not exactly one of them is 'O'"),
        (("O",), "no entity type"),
        (("B", "I", "O"), "the type must follow the letter"),
        (("O", "X-B", "X-I"), "the type must follow the letter"),
        (("O", "B-X", "I-X", "PAD"), "others do not"),
        (("O", "B-X", "I-X", "B-x", "I-x"), "upper and lower case only"),
    ],
)
def test_what_cannot_be_read_is_listed(labels: tuple[str, ...], reason: str) -> None:
    with pytest.raises(OpenMedError) as error:
        scheme_of(*labels)
    assert reason in str(error.value) and ", ".join(labels) in str(error.value)
    assert "Checkpoint 'x'" in str(error.value) and "id2label" in str(error.value)


def test_labels_are_numbered_without_gaps() -> None:
    with pytest.raises(OpenMedError, match="not numbered from 0"):
        read_labels({0: "O", 2: "B-X", 3: "I-X"}, "Checkpoint 'x'")


def test_a_type_may_be_called_by_a_letter_at_its_end() -> None:
    assert scheme_of("O", "VITAMIN_B", "MINERAL").types == ("VITAMIN_B", "MINERAL")
