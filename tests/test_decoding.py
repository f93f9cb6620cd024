"""Logits to entities: atoms, Viterbi, scores."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import regex
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from spacy_openmed import atoms
from spacy_openmed.atoms import atom_spans
from spacy_openmed.backbones import load_tokenizer
from spacy_openmed.decoding import best_paths, bio_labels, decode, unit_log_probs, units
from spacy_openmed.entities import Entity
from spacy_openmed.errors import OpenMedError
from spacy_openmed.labelling import label_wordpieces
from spacy_openmed.windows import encode

TYPES = ["DISEASE", "GENE", "CHEMICAL"]
WORD_CHARACTER = regex.compile(r"[\p{L}\p{Nd}]")
_tokenizers: dict[Path, Tokenizer] = {}

ODD = "aZ59é-.,_ \n\r\t\x00\x0c\x1c\xa0\xad\u0301\u0323\u0903\u200b\u200d\u2028\ufe0f\ufeff"
ODD += "\ud800βİßﬁ½→±東한ก็👩👧🏽🇫🇷"
odd_text = st.text(st.sampled_from(ODD) | st.sampled_from("abcde "), max_size=40)
seeds = st.integers(0, 2**32 - 1)


def tokenizer_of(folder: Path) -> Tokenizer:
    if folder not in _tokenizers:
        _tokenizers[folder] = load_tokenizer(folder)
    return _tokenizers[folder]


def random_logits(seed: int, rows: int, types: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(scale=3, size=(rows, 2 * types + 1)).astype(np.float32)


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(np.asarray(scores, dtype=np.float64))
    return powers / powers.sum(axis=-1, keepdims=True)


def is_valid(path: tuple[int, ...]) -> bool:
    """BIO: I-X (2i + 2) follows B-X (2i + 1) or I-X only."""
    return all(
        label == 0 or label % 2 == 1 or (i > 0 and path[i - 1] in (label, label - 1))
        for i, label in enumerate(path)
    )


# atoms


@given(st.text(st.characters(max_codepoint=127), max_size=40))
def test_fast_path_equals_the_general_words_on_ascii(text: str) -> None:
    general = [match.span() for match in atoms._WORD.finditer(text)]
    assert list(zip(*(a.tolist() for a in atom_spans(text, "word")), strict=True)) == general


@given(odd_text | st.text(max_size=40), st.sampled_from(["word", "wordpiece"]))
def test_atoms_are_disjoint_and_cover_every_visible_character(text: str, edges: str) -> None:
    starts, ends = atom_spans(text, edges)
    assert (starts < ends).all()
    assert (ends[:-1] <= starts[1:]).all()
    covered = {i for start, end in zip(starts, ends, strict=True) for i in range(start, end)}
    assert {i for i, c in enumerate(text) if not c.isspace()} <= covered
    assert not any(text[i].isspace() for i in starts)


def test_words_are_runs_of_letters_and_digits() -> None:
    text = "TNF-α_2 naïve\u0301s  (CYP3A4)"
    found = [text[s:e] for s, e in zip(*atom_spans(text, "word"), strict=True)]
    assert found == ["TNF", "-", "α", "_", "2", "naïve\u0301s", "(", "CYP3A4", ")"]


def test_graphemes_hold_together() -> None:
    text = "e\u0301x 👩\u200d👧🇫🇷"
    found = [text[s:e] for s, e in zip(*atom_spans(text, "wordpiece"), strict=True)]
    assert found == ["e\u0301", "x", "👩\u200d👧", "🇫🇷"]


def test_unknown_edges_are_refused() -> None:
    with pytest.raises(OpenMedError, match=r"'token'.*'word' or 'wordpiece'"):
        atom_spans("a", "token")


# units


@given(odd_text | st.text(st.characters(), max_size=30), st.sampled_from(["word", "wordpiece"]))
def test_units_are_disjoint_and_share_out_the_wordpieces(
    tiny_backbone: Path, text: str, edges: str
) -> None:
    encoding = encode(text, tokenizer_of(tiny_backbone))
    found = units(text, encoding, edges)
    assert (found.starts < found.ends).all()
    assert (found.ends[:-1] <= found.starts[1:]).all()
    assert (np.diff(found.pieces) > 0).all()
    assert found.pieces[0] == 0
    assert found.pieces[-1] == len(found.kept)
    for i in range(len(found)):
        for piece in found.kept[found.pieces[i] : found.pieces[i + 1]]:
            assert found.starts[i] < encoding.ends[piece]
            assert encoding.starts[piece] < found.ends[i]


def test_word_is_scored_by_the_mean_over_its_wordpieces(tiny_backbone: Path) -> None:
    text = "cardiomyopathy"
    encoding = encode(text, tokenizer_of(tiny_backbone))
    n = len(encoding)
    logits = random_logits(1, n, 2)
    log = np.log(softmax(logits))
    spelled = {
        0: [0] * n,
        1: [1] + [2] * (n - 1),
        2: [2] * n,
        3: [3] + [4] * (n - 1),
        4: [4] * n,
    }
    means = [np.mean([log[i, label] for i, label in enumerate(s)]) for s in spelled.values()]
    assert n > 2
    found = unit_log_probs(logits, units(text, encoding))
    np.testing.assert_allclose(np.exp(found), [softmax(np.array(means))], atol=1e-6)


# Viterbi


@st.composite
def several_texts(draw: st.DrawFn) -> list[np.ndarray]:
    types = draw(st.integers(1, 3))
    longest = {1: 6, 2: 4, 3: 3}[types]
    lengths = draw(st.lists(st.integers(0, longest), max_size=5))
    return [np.log(softmax(random_logits(draw(seeds), n, types))).astype("f4") for n in lengths]


@given(several_texts())
def test_viterbi_finds_the_best_of_all_valid_sequences(texts: list[np.ndarray]) -> None:
    for scores, path in zip(texts, best_paths(texts), strict=True):
        assert len(path) == len(scores)
        assert is_valid(tuple(path))
        sums = [
            sum(scores[i, label] for i, label in enumerate(labels))
            for labels in itertools.product(range(scores.shape[1]), repeat=len(scores))
            if is_valid(labels)
        ]
        found = sum(scores[i, label] for i, label in enumerate(path))
        assert found == pytest.approx(max(sums), abs=1e-4)


@given(st.lists(st.integers(0, 200), max_size=6), st.integers(1, 3), seeds)
def test_paths_are_valid_and_keep_a_valid_argmax(lengths: list[int], types: int, seed: int) -> None:
    texts = [random_logits(seed + i, n, types) for i, n in enumerate(lengths)]
    valid = []
    for scores, path in zip(texts, best_paths(texts), strict=True):
        assert is_valid(tuple(path))
        # Make this path the argmax: then nothing else may come out.
        scores = scores.copy()
        scores[np.arange(len(scores)), path] = scores.max(axis=1, initial=0) + 0.5
        valid.append((scores, path))
    for (_, path), again in zip(valid, best_paths([s for s, _ in valid]), strict=True):
        np.testing.assert_array_equal(again, path)


def test_long_text_keeps_its_precision() -> None:
    """Sums of log-probabilities over a book would swallow differences of 0.001."""
    block = np.full((1, 3), -2.0, dtype=np.float32)
    block[0, 1] = -1.999
    path = best_paths([np.tile(block, (50_000, 1))])[0]
    assert (path == 1).all()


# decode


def one_hot(labels: np.ndarray, count: int) -> np.ndarray:
    return np.eye(count, dtype=np.float32)[labels] * 100


@st.composite
def annotated(draw: st.DrawFn) -> tuple[str, list[Entity]]:
    """A text and disjoint entities whose edges are edges of words."""
    words = st.sampled_from(
        [
            "breast",
            "cancer",
            "BRCA1",
            "cardiomyopathy",
            "-",
            ")",
            "(",
            "_",
            ",",
            "IL",
            "2",
            "β",
            "xyzzy",
            "naïve",
            "été",
        ]
    )
    gaps = st.sampled_from(["", " ", " ", "\n", "\r\n", "  \n "])
    parts = draw(st.lists(st.tuples(words, gaps), min_size=1, max_size=12))
    text = "".join(word + gap for word, gap in parts)
    # The same words as a reader would mark them, found without the code under test.
    found = [m.span() for m in regex.finditer(r"(?:[^\W_]\p{M}*)+|[^\w\s]|_", text)]
    entities = []
    at = 0
    while at < len(found):
        at += draw(st.integers(0, 2))
        stop = at + draw(st.integers(1, 3))
        if stop > len(found):
            break
        label = draw(st.sampled_from(TYPES))
        entities.append(Entity(found[at][0], found[stop - 1][1], label))
        at = stop
    return text, entities


@given(st.lists(annotated(), min_size=1, max_size=3), st.sampled_from(["word", "wordpiece"]))
def test_labels_decode_to_the_entities_they_were_made_from(
    tiny_backbone: Path, documents: list[tuple[str, list[Entity]]], edges: str
) -> None:
    names = bio_labels(TYPES)
    ids = {name: i for i, name in enumerate(names)}
    texts = [text for text, _ in documents]
    encodings = [encode(text, tokenizer_of(tiny_backbone)) for text in texts]
    logits = [
        one_hot(label_wordpieces(encoding, entities, ids), len(names))
        for encoding, (_, entities) in zip(encodings, documents, strict=True)
    ]
    found = decode(texts, encodings, logits, TYPES, edges)
    assert [[e[:3] for e in one] for one in found] == [[e[:3] for e in one] for _, one in documents]
    # Of a long word only the first wordpiece tells "B" from "I": the mean makes little of it.
    assert all(e.score > 0.5 for one in found for e in one)


@pytest.mark.parametrize("gap", ["", " ", "\n", "\r\n\r\n"])
def test_adjacent_entities_stay_apart_and_long_ones_cross_lines(
    gap: str, tiny_backbone: Path
) -> None:
    text = f"(cancer){gap}(tumor)"
    middle = text.index(")") + 1
    ids = {name: i for i, name in enumerate(bio_labels(["X"]))}
    encoding = encode(text, tokenizer_of(tiny_backbone))
    two = [Entity(0, middle, "X"), Entity(middle + len(gap), len(text), "X")]
    for entities in (two, [Entity(0, len(text), "X")]):
        logits = one_hot(label_wordpieces(encoding, entities, ids), 3)
        found = decode([text], [encoding], [logits], ["X"])[0]
        assert [e[:3] for e in found] == [e[:3] for e in entities]


def inner_positions(text: str, edges: str) -> set[int]:
    """Where no entity may begin or end: inside what a reader sees as one character or word."""
    inner = set()
    clusters = []
    for match in regex.finditer(r"\X", text):
        # A blank with a mark on it is one cluster; entities are trimmed all the same.
        start = match.start() + (len(match[0]) - len(match[0].lstrip()))
        inner |= set(range(start + 1, match.end()))
        if start < match.end():
            clusters.append((start, match.end()))
    if edges == "word":
        for (a, b), (c, _) in itertools.pairwise(clusters):
            if b == c and WORD_CHARACTER.match(text, a) and WORD_CHARACTER.match(text, c):
                inner.add(c)
    return inner


@given(odd_text, st.sampled_from(["word", "wordpiece"]), seeds)
@settings(max_examples=300)
def test_entities_never_begin_or_end_inside_a_word_or_character(
    tiny_backbone: Path, text: str, edges: str, seed: int
) -> None:
    encoding = encode(text, tokenizer_of(tiny_backbone))
    logits = random_logits(seed, len(encoding), 2)
    found = decode([text], [encoding], [logits], TYPES[:2], edges)[0]
    forbidden = inner_positions(text, edges)
    for entity in found:
        assert 0 <= entity.start < entity.end <= len(text)
        assert not {entity.start, entity.end} & forbidden
        assert not text[entity.start].isspace()
        assert not text[entity.end - 1].isspace()
        assert entity.label in TYPES[:2]
        assert 0.0 <= entity.score <= 1.0
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))


def test_word_edges_put_a_fragment_on_its_whole_word(tiny_backbone: Path) -> None:
    text = "hepatitis"
    encoding = encode(text, tokenizer_of(tiny_backbone))
    assert len(encoding) == 2
    logits = np.array([[0, 6, 0], [1, 0, 0]], dtype=np.float32)
    assert [e[:2] for e in decode([text], [encoding], [logits], ["X"])[0]] == [(0, 9)]
    fragment = decode([text], [encoding], [logits], ["X"], "wordpiece")[0]
    assert [e[:2] for e in fragment] == [(0, 5)]


@given(st.integers(1, 4), st.integers(1, 2), seeds)
def test_score_is_the_probability_of_exactly_this_span(
    tiny_backbone: Path, words: int, types: int, seed: int
) -> None:
    """Against enumeration of all labellings of words that are one wordpiece each."""
    text = " ".join(["cancer", "gene", "drug", "mice"][:words])
    encoding = encode(text, tokenizer_of(tiny_backbone))
    assert len(encoding) == words
    logits = random_logits(seed, words, types)
    probabilities = softmax(logits)
    found = decode([text], [encoding], [logits], TYPES[:types])[0]
    assume(found)
    begin = {int(s): i for i, s in enumerate(encoding.starts)}
    end = {int(e): i + 1 for i, e in enumerate(encoding.ends)}
    for entity in found:
        first, stop = begin[entity.start], end[entity.end]
        b = 2 * TYPES.index(entity.label) + 1
        wanted = (b, *[b + 1] * (stop - first - 1))
        exact = sum(
            np.prod([probabilities[i, label] for i, label in enumerate(labels)])
            for labels in itertools.product(range(2 * types + 1), repeat=words)
            if labels[first:stop] == wanted and (stop == words or labels[stop] != b + 1)
        )
        assert entity.score == pytest.approx(exact, abs=1e-5)


def three_entities(folder: Path, **options: object) -> list[Entity]:
    text = "cancer of mice and drug"
    encoding = encode(text, tokenizer_of(folder))
    logits = np.zeros((5, 5), dtype=np.float32)
    logits[0, 1] = 4  # cancer: DISEASE
    logits[2, 1] = 2  # mice: DISEASE
    logits[4, 3] = 3  # drug: GENE
    logits[[1, 3], 0] = 9
    return decode([text], [encoding], [logits], TYPES[:2], **options)[0]  # type: ignore[arg-type]


def test_threshold_for_all_and_for_each_label(tiny_backbone: Path) -> None:
    strong, weak, other = three_entities(tiny_backbone)
    assert strong.score > other.score > weak.score
    assert three_entities(tiny_backbone, threshold=other.score) == [strong, other]
    between = (strong.score + other.score) / 2
    assert three_entities(tiny_backbone, threshold=between) == [strong]
    assert three_entities(tiny_backbone, threshold={"DISEASE": between}) == [strong, other]
    assert three_entities(tiny_backbone, threshold={"GENE": between}) == [strong, weak]
    assert three_entities(tiny_backbone, threshold={}) == [strong, weak, other]


def test_mentions_are_carried_over_line_breaks(tiny_backbone: Path) -> None:
    text = "breast cancer and breast\ncancer"
    encoding = encode(text, tokenizer_of(tiny_backbone))
    assert len(encoding) == 5
    logits = np.zeros((5, 3), dtype=np.float32)
    logits[0, 1] = logits[1, 2] = 4
    logits[2:, 0] = 9

    def found(**options: object) -> list[Entity]:
        return decode([text], [encoding], [logits], TYPES[:1], **options)[0]  # type: ignore[arg-type]

    (first,) = found()
    assert text[first.start : first.end] == "breast cancer"
    second = Entity(18, 31, first.label, first.score)
    assert found(consistency=0.5) == [first, second]
    # The temperature comes before the score that is asked for, the threshold after it.
    assert found(consistency=first.score) == [first, second]
    assert len(found(consistency=first.score, temperature=2.0)) == 1
    assert found(consistency=0.5, threshold=first.score + 0.001) == []


def test_temperature_divides_the_logits(tiny_backbone: Path) -> None:
    entities = three_entities(tiny_backbone, temperature=2.0)
    goes_on = [1 / (np.exp(9 / 2) + 4)] * 2 + [0]  # P(I-X) of the word after it
    for entity, height, after in zip(entities, (4, 2, 3), goes_on, strict=True):
        power = np.exp(height / 2)
        assert entity.score == pytest.approx(power / (power + 4) * (1 - after), abs=1e-5)


def test_nothing_in_nothing_out(tiny_backbone: Path) -> None:
    assert decode([], [], [], TYPES) == []
    texts = ["", " \n", "\u200d"]
    encodings = [encode(t, tokenizer_of(tiny_backbone)) for t in texts]
    logits = [np.zeros((0, 7), dtype=np.float32)] * 3
    assert decode(texts, encodings, logits, TYPES) == [[], [], []]


def test_labels_of_the_head() -> None:
    assert bio_labels(["X", "Y"]) == ["O", "B-X", "I-X", "B-Y", "I-Y"]
