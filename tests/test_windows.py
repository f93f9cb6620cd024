"""Text to wordpieces, windows and batches, and back to one row a wordpiece."""

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from spacy_openmed import windows
from spacy_openmed.backbones import load_tokenizer
from spacy_openmed.errors import OpenMedError
from spacy_openmed.windows import (
    SpecialTokens,
    cut,
    encode,
    encode_batch,
    owned,
    pack,
    pad,
    special_tokens,
    stitch,
)

SENTENCE = "Germline BRCA1 mutations (c.68_69del) raise the risk of breast cancer 5-fold; p<0.01.\n"
ORDINARY = [
    SENTENCE,
    "IL-2-induced T-cell leukaemia, in 3 of 17 patients [95% CI: 1.2~4.5].",
    "β-catenin and TNF-α “signalling” – 10 µg/kg",
    "first line\r\nsecond\tline\n\n  third",
]


@pytest.fixture(scope="module")
def tokenizer(tiny_backbone: Path) -> Tokenizer:
    return load_tokenizer(tiny_backbone)


def pieces(text: str, tokenizer: Tokenizer) -> list[tuple[int, int, int]]:
    e = encode(text, tokenizer)
    return list(zip(e.ids.tolist(), e.starts.tolist(), e.ends.tolist(), strict=True))


def alone(text: str, tokenizer: Tokenizer) -> list[tuple[int, int, int]]:
    """What the tokenizer itself says of a text."""
    e = tokenizer.encode(text, add_special_tokens=False)
    return [(i, start, end) for i, (start, end) in zip(e.ids, e.offsets, strict=True)]


lengths = st.integers(0, 700)
sizes = st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1)))


# cut


@given(lengths, sizes)
def test_cut_covers_everything_with_equal_overlapping_windows(
    length: int, size_overlap: tuple[int, int]
) -> None:
    size, overlap = size_overlap
    spans = cut(length, size, overlap)
    if length == 0:
        assert spans == []
        return
    assert spans[0][0] == 0
    assert spans[-1][1] == length
    assert len({end - start for start, end in spans}) == 1
    assert 0 < spans[0][1] - spans[0][0] <= size
    for (start, end), (next_start, _) in itertools.pairwise(spans):
        assert start < next_start
        assert end - next_start >= overlap
    covered = {i for start, end in spans for i in range(start, end)}
    assert covered == set(range(length))


@given(sizes)
def test_text_that_fits_is_one_window(size_overlap: tuple[int, int]) -> None:
    size, overlap = size_overlap
    assert cut(size, size, overlap) == [(0, size)]
    assert len(cut(size + 1, size, overlap)) == 2


def test_number_of_windows_is_the_least_possible_and_linear() -> None:
    assert [len(cut(204 * k + 50, 254, 50)) for k in (1, 10, 100, 1000)] == [1, 10, 100, 1000]
    assert [len(cut(204 * k + 51, 254, 50)) for k in (1, 10, 100, 1000)] == [2, 11, 101, 1001]


@pytest.mark.parametrize(("size", "overlap"), [(10, 10), (10, 11), (10, -1), (0, 0), (-2, 0)])
def test_overlap_that_leaves_nothing_is_refused(size: int, overlap: int) -> None:
    with pytest.raises(OpenMedError, match=rf"{size} wordpieces.*by {overlap}"):
        cut(100, size, overlap)


# owned, stitch


@given(st.integers(1, 300), sizes)
def test_most_central_window_owns_each_wordpiece(
    length: int, size_overlap: tuple[int, int]
) -> None:
    spans = cut(length, *size_overlap)
    ranges = owned(spans)
    assert [i for begin, stop in ranges for i in range(begin, stop)] == list(range(length))
    for (start, end), (begin, stop) in zip(spans, ranges, strict=True):
        for i in range(begin, stop):
            best = max(min(i - s, e - 1 - i) for s, e in spans if s <= i < e)
            assert start <= i < end
            assert min(i - start, end - 1 - i) == best


@given(st.integers(1, 300), sizes)
def test_stitch_takes_every_row_from_the_window_that_owns_it(
    length: int, size_overlap: tuple[int, int]
) -> None:
    spans = cut(length, *size_overlap)
    logits = [
        np.array([[window, i] for i in range(start, end)], dtype=np.float32)
        for window, (start, end) in enumerate(spans)
    ]
    rows = stitch(spans, logits)
    assert rows[:, 1].tolist() == list(range(length))
    for i, window in enumerate(rows[:, 0].astype(int)):
        centrality = [min(i - s, e - 1 - i) for s, e in spans]
        assert centrality[window] == max(centrality)


def test_nothing_is_owned_in_an_empty_text() -> None:
    assert owned([]) == []


# pack, pad


@given(st.lists(st.integers(0, 300), max_size=60), st.integers(1, 1000))
def test_pack_uses_each_window_once_within_the_budget(sizes: list[int], budget: int) -> None:
    batches = pack(sizes, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(sizes)))
    for batch in batches:
        padded = len(batch) * max(sizes[i] for i in batch)
        assert len(batch) == 1 or padded <= budget
    flat = [sizes[i] for batch in batches for i in batch]
    assert flat == sorted(flat, reverse=True)


def test_pack_fills_batches() -> None:
    assert [len(batch) for batch in pack([256] * 40, 4096)] == [16, 16, 8]


def test_pad_adds_special_tokens_and_masks_the_rest() -> None:
    rows = [np.array([5, 6, 7], dtype=np.int32), np.array([8], dtype=np.int32)]
    ids, mask = pad(rows, SpecialTokens((1, 2), (3,), 9))
    assert ids.tolist() == [[1, 2, 5, 6, 7, 3], [1, 2, 8, 3, 9, 9]]
    assert mask.tolist() == [[1] * 6, [1] * 4 + [0] * 2]
    assert ids.dtype == mask.dtype == np.int64


def test_special_tokens_are_the_tokenizers_own(tokenizer: Tokenizer) -> None:
    special = special_tokens(tokenizer, 0)
    assert special == SpecialTokens(
        (tokenizer.token_to_id("[CLS]"),), (tokenizer.token_to_id("[SEP]"),), 0
    )
    assert special.count == 2
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.post_processor = None
    assert special_tokens(tokenizer, 0).count == 0


# encode


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_is_tokenised_as_the_tokenizer_does(text: str, tokenizer: Tokenizer) -> None:
    assert pieces(text, tokenizer) == alone(text, tokenizer)


@pytest.mark.parametrize("text", ORDINARY)
def test_every_character_of_ordinary_text_is_covered(text: str, tokenizer: Tokenizer) -> None:
    covered = {i for _, start, end in pieces(text, tokenizer) for i in range(start, end)}
    assert covered == {i for i, c in enumerate(text) if not c.isspace()}


def check_offsets(text: str, tokenizer: Tokenizer) -> None:
    e = encode(text, tokenizer)
    assert len(e.ids) == len(e.starts) == len(e.ends) == len(e)
    assert (np.diff(e.starts) >= 0).all()
    assert (e.starts >= 0).all()
    assert (e.ends <= len(text)).all()
    for start, end in zip(e.starts, e.ends, strict=True):
        assert text[start:end] == text[start:end].strip()


# What real text seldom and broken text often has; lone surrogates come from half-read UTF-16.
ODD = (
    "aZ5-.,_ \n\r\t\x00\x0b\x0c\x1c\x1f\x85\xa0\xad\u0301\u0323\u200b\u200d\u2028\ufe0f\ufeff\ufffd"
)
ODD += "\ud800\udfffβİßﬁ½→±東한ก็👩👧🏽🇫🇷"
odd_text = st.text(st.sampled_from(ODD), max_size=60)


@given(odd_text)
def test_offsets_are_sorted_trimmed_and_inside_any_text(tiny_backbone: Path, text: str) -> None:
    check_offsets(text, cached_tokenizer(tiny_backbone))


@given(st.text(st.characters(), max_size=40))
def test_any_unicode_is_encoded(tiny_backbone: Path, text: str) -> None:
    check_offsets(text, cached_tokenizer(tiny_backbone))


_tokenizers: dict[Path, Tokenizer] = {}


def cached_tokenizer(folder: Path) -> Tokenizer:
    if folder not in _tokenizers:
        _tokenizers[folder] = load_tokenizer(folder)
    return _tokenizers[folder]


@pytest.mark.parametrize("text", ["", " ", " \t\r\n\u3000\u2028 ", "\x0c", "\x00", "\u200d\u0301"])
def test_text_without_visible_characters_has_no_wordpieces(text: str, tokenizer: Tokenizer) -> None:
    assert len(encode(text, tokenizer)) == 0


@pytest.mark.parametrize("odd", ["\ud800", "\udc00", "\ud83d", "\x00", "\ufffd", "\x0c", "\x1f"])
def test_words_beside_unreadable_characters_are_found(odd: str, tokenizer: Tokenizer) -> None:
    for text in (f"breast {odd} cancer", f"{odd}breast cancer", f"breast cancer{odd}"):
        found = [text[start:end].strip(odd) for _, start, end in pieces(text, tokenizer)]
        assert "".join(found) == "breastcancer"


@pytest.mark.parametrize(
    "blank", ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\u2028"]
)
def test_white_space_parts_words_even_where_bert_deletes_it(
    blank: str, tokenizer: Tokenizer
) -> None:
    assert pieces(f"breast{blank}cancer", tokenizer) == alone("breast cancer", tokenizer)


def test_combining_marks_and_cjk_keep_the_offsets_of_what_follows(tokenizer: Tokenizer) -> None:
    for before in ("e\u0301\u0323", "東京", "👩\u200d👧", "İ", "\u200b", "x\u0301" * 70):
        text = f"{before} breast cancer"
        found = [(start, end) for _, start, end in pieces(text, tokenizer)]
        assert found[-len(alone("breast cancer", tokenizer)) :] == [
            (len(before) + 1 + start, len(before) + 1 + end)
            for _, start, end in alone("breast cancer", tokenizer)
        ]


LONG = {
    "letters": "a" * 150,
    "20,000 letters": "acgt" * 5000,
    "digits": "1234567890" * 15,
    "accents": "e\u0301" * 150,
    "symbols that WordPiece does not split at": "abc→" * 40,
    "lone surrogates inside": ("a" * 60 + "\ud800") * 3,
}


@pytest.mark.parametrize("name", LONG)
def test_entity_beside_a_long_run_is_tokenised_as_alone(
    name: str, minilm: Path, tiny_backbone: Path
) -> None:
    for folder in (minilm, tiny_backbone):
        tokenizer = cached_tokenizer(folder)
        for text in (f"{LONG[name]} breast cancer", f"breast cancer {LONG[name]}"):
            at = text.index("breast cancer")
            expected = [(i, at + s, at + e) for i, s, e in alone("breast cancer", tokenizer)]
            found = pieces(text, tokenizer)
            assert (found[-len(expected) :] if at else found[: len(expected)]) == expected


@pytest.mark.parametrize("name", LONG)
def test_long_run_is_never_one_unknown_wordpiece(name: str, minilm: Path) -> None:
    tokenizer = cached_tokenizer(minilm)
    found = pieces(LONG[name], tokenizer)
    assert tokenizer.token_to_id("[UNK]") not in {i for i, _, _ in found}
    covered = {i for _, start, end in found for i in range(start, end)}
    letters = {i for i, c in enumerate(LONG[name]) if c.isalnum()}
    assert letters <= covered


def test_runs_up_to_the_tokenizers_limit_are_left_whole(minilm: Path) -> None:
    tokenizer = cached_tokenizer(minilm)
    text = "acgt" * 25
    assert pieces(text, tokenizer) == alone(text, tokenizer)


def test_a_million_characters_are_the_same_wordpieces_as_their_parts(tokenizer: Tokenizer) -> None:
    copies = -(-1_000_000 // len(SENTENCE))
    one = encode(SENTENCE, tokenizer)
    whole = encode(SENTENCE * copies, tokenizer)
    assert len(SENTENCE * copies) >= 1_000_000 > windows.SEGMENT
    np.testing.assert_array_equal(whole.ids, np.tile(one.ids, copies))
    shift = np.repeat(np.arange(copies) * len(SENTENCE), len(one))
    np.testing.assert_array_equal(whole.starts, np.tile(one.starts, copies) + shift)
    np.testing.assert_array_equal(whole.ends, np.tile(one.ends, copies) + shift)


@given(odd_text.filter(str.strip))
@settings(max_examples=30)
def test_where_long_text_is_cut_does_not_matter(tiny_backbone: Path, text: str) -> None:
    tokenizer = cached_tokenizer(tiny_backbone)
    text = f"{text} breast cancer " * 20
    expected = pieces(text, tokenizer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "SEGMENT", 30)
        assert pieces(text, tokenizer) == expected


def test_time_is_linear_in_the_length_of_text_without_white_space(tokenizer: Tokenizer) -> None:
    def seconds(length: int) -> float:
        text = "ab-" * (length // 3)
        start = time.process_time()
        encode(text, tokenizer)
        return time.process_time() - start

    seconds(1000)
    # Ten times the text: quadratic time would be a hundred times as long.
    assert seconds(300_000) < 40 * max(seconds(30_000), 0.005)


def test_batch_equals_one_by_one(tokenizer: Tokenizer) -> None:
    texts = [*ORDINARY, "", "a" * 150, "  ", *ORDINARY]
    for text, together in zip(texts, encode_batch(texts, tokenizer), strict=True):
        single = encode(text, tokenizer)
        for name in ("ids", "starts", "ends"):
            np.testing.assert_array_equal(getattr(together, name), getattr(single, name))
            assert getattr(together, name).dtype == np.int32
    assert encode_batch([], tokenizer) == []


def test_blanks_that_a_wordpiece_counts_in_are_trimmed() -> None:
    """SentencePiece: "▁b" stands for the blank before b, too."""
    from tokenizers import models, pre_tokenizers

    vocabulary = [("<unk>", 0.0), ("▁", -1.0), ("▁a", -1.0), ("▁b", -1.0)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    assert [(s, e) for _, s, e in pieces("a b   a", tokenizer) if s < e] == [(0, 1), (2, 3), (6, 7)]
