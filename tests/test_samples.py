"""Annotated documents to training windows, and windows to batches."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from spacy_openmed.backbones import load_tokenizer
from spacy_openmed.corpora.documents import Document
from spacy_openmed.decoding import bio_labels
from spacy_openmed.entities import Entity
from spacy_openmed.labelling import label_wordpieces
from spacy_openmed.network import tagging_loss
from spacy_openmed.training.samples import (
    IGNORED,
    BatchSampler,
    Sample,
    Share,
    collate,
    samples,
    split_sentences,
)
from spacy_openmed.windows import cut, encode, special_tokens

LABELS = {label: i for i, label in enumerate(bio_labels(["DISEASE", "GENE"]))}
WORDS = ["breast", "cancer", "brca1", "hepatitis", "p53,", "the", "patients.", "β-catenin"]


@pytest.fixture(scope="module")
def tokenizer(tiny_backbone: Path) -> Tokenizer:
    return load_tokenizer(tiny_backbone)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """Words between blanks and line ends, some of them annotated; entities are disjoint."""
    words = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=60))
    text, spans = "", []
    for word in words:
        text += draw(st.sampled_from(["", " ", " ", "\n", ". "])) if text else ""
        spans.append((len(text), len(text) + len(word)))
        text += word
    edges = sorted(draw(st.sets(st.integers(0, len(words)), max_size=8)))
    entities = []
    for first, last in zip(edges[::2], edges[1::2], strict=False):
        label = draw(st.sampled_from(["DISEASE", "GENE"]))
        entities.append(Entity(spans[first][0], spans[last - 1][1], label))
    return Document("", text, entities)


sizes = st.integers(4, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 3)))


@given(documents(), sizes)
def test_every_wordpiece_is_labelled_in_exactly_one_window(
    tokenizer: Tokenizer, document: Document, size: tuple[int, int]
):
    special = special_tokens(tokenizer, 0)
    encoding = encode(document.text, tokenizer)
    found = samples([document], tokenizer, special, LABELS, *size, sentences=False)
    targets = np.concatenate([s["labels"][s["labels"] != IGNORED] for s in found])
    assert targets.tolist() == label_wordpieces(encoding, document.entities, LABELS).tolist()
    assert sum(int((s["labels"] != IGNORED).sum()) for s in found) == len(encoding)


@given(documents(), sizes)
def test_windows_are_those_of_inference(
    tokenizer: Tokenizer, document: Document, size: tuple[int, int]
):
    special = special_tokens(tokenizer, 0)
    encoding = encode(document.text, tokenizer)
    window, overlap = size
    found = samples([document], tokenizer, special, LABELS, window, overlap, sentences=False)
    expected = [
        [*special.prefix, *encoding.ids[start:end].tolist(), *special.suffix]
        for start, end in cut(len(encoding), window - special.count, overlap)
    ]
    assert [s["input_ids"].tolist() for s in found] == expected
    for sample in found:
        assert len(sample["labels"]) == len(sample["input_ids"]) <= window
        assert sample["labels"][0] == sample["labels"][-1] == IGNORED


def test_sentences_are_samples_beside_the_document(tokenizer: Tokenizer):
    text = "Breast cancer is a disease. BRCA1 is a gene.\nHepatitis was induced"
    document = Document("", text, [Entity(0, 13, "DISEASE"), Entity(28, 33, "GENE")])
    special = special_tokens(tokenizer, 0)
    alone = samples([document], tokenizer, special, LABELS, 64, 10, sentences=False)
    both = samples([document], tokenizer, special, LABELS, 64, 10, sentences=True)
    assert (len(alone), len(both)) == (1, 4)
    assert both[0]["labels"].tolist() == alone[0]["labels"].tolist()
    second = both[2]["labels"]
    assert second[1] == LABELS["B-GENE"]
    assert set(second.tolist()) == {IGNORED, LABELS["B-GENE"], LABELS["I-GENE"], LABELS["O"]}


def test_a_document_of_one_sentence_is_not_trained_on_twice(tokenizer: Tokenizer):
    document = Document("", "Hepatitis was induced.", [])
    special = special_tokens(tokenizer, 0)
    assert len(samples([document], tokenizer, special, LABELS, 64, 10, sentences=True)) == 1


def test_of_nested_entities_the_outermost_is_learned(tokenizer: Tokenizer):
    text = "breast cancer gene"
    document = Document("", text, [Entity(0, 13, "DISEASE"), Entity(0, 18, "GENE")])
    found = samples([document], tokenizer, special_tokens(tokenizer, 0), LABELS, 64, 10, False)
    assert found[0]["labels"][1] == LABELS["B-GENE"]
    assert LABELS["B-DISEASE"] not in found[0]["labels"]


def test_an_empty_document_gives_nothing(tokenizer: Tokenizer):
    special = special_tokens(tokenizer, 0)
    assert samples([Document("", "", [])], tokenizer, special, LABELS, 64, 10, True) == []
    assert samples([Document("", " \n", [])], tokenizer, special, LABELS, 64, 10, True) == []


@given(documents())
def test_sentences_never_cut_an_entity_and_rejoin_to_the_text(document: Document):
    parts = list(split_sentences(document.text, document.entities))
    position = 0
    seen = []
    for part, inside in parts:
        start = document.text.index(part, position)
        assert not document.text[position:start].strip()
        seen += [e._replace(start=e.start + start, end=e.end + start) for e in inside]
        position = start + len(part)
    assert not document.text[position:].strip()
    assert seen == document.entities


def test_an_end_of_sentence_inside_an_entity_is_none():
    text = "Type 1. Hepatitis was found. It healed."
    whole = [Entity(0, 17, "DISEASE")]
    assert [part for part, _ in split_sentences(text, whole)] == [
        "Type 1. Hepatitis was found. ",
        "It healed.",
    ]
    assert len(list(split_sentences(text, []))) == 3
    # One that ends where the blank begins, or begins where it ends, is not cut by it.
    assert len(list(split_sentences(text, [Entity(0, 7, "X"), Entity(8, 17, "X")]))) == 3


lengths = st.lists(st.integers(1, 300), min_size=1, max_size=80)
budgets = st.integers(1, 3000)


@given(lengths, budgets, st.integers(0, 5), st.integers(0, 5))
def test_every_window_comes_once_an_epoch(lengths: list[int], budget: int, seed: int, epoch: int):
    sampler = BatchSampler(lengths, budget, seed)
    sampler.current_pass = epoch
    batches = list(sampler)
    assert len(batches) == len(sampler) >= 1
    assert all(batches)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))


@given(lengths, budgets, st.integers(0, 5))
def test_all_epochs_have_as_many_batches(lengths: list[int], budget: int, seed: int):
    sampler = BatchSampler(lengths, budget, seed)
    counts = set()
    for epoch in range(4):
        sampler.current_pass = epoch
        counts.add(len(list(sampler)))
    assert counts == {len(sampler)}


@pytest.mark.parametrize(
    ("lengths", "budget", "count"),
    [
        ([7], 1000, 1),
        ([5000], 1000, 1),
        ([5000, 10, 10], 1000, 3),
        ([100] * 40, 1000, 4),
        ([1] * 9, 1, 9),
        ([10, 20, 30], 10_000, 1),
    ],
    ids=["one", "one huge", "one huge among small", "all equal", "all tiny", "all in one"],
)
def test_degenerate_batches(lengths: list[int], budget: int, count: int):
    sampler = BatchSampler(lengths, budget, 1)
    batches = list(sampler)
    assert len(batches) == len(sampler) == count
    assert Counter(i for batch in batches for i in batch) == Counter(range(len(lengths)))


def test_batches_hold_about_as_many_wordpieces_and_little_padding():
    drawn = np.random.default_rng(3).integers(10, 257, 600)
    sampler = BatchSampler(drawn.tolist(), 2048, 1)
    filled = [int(drawn[batch].sum()) for batch in sampler]
    assert max(filled) <= 2048 + 2 * 256
    assert min(filled) >= 2048 - 2 * 256
    padded = sum(len(batch) * int(drawn[batch].max()) for batch in sampler)
    assert drawn.sum() / padded > 0.75


def test_epochs_differ_and_repeat_themselves():
    drawn = np.random.default_rng(3).integers(10, 257, 100).tolist()

    def epoch(seed: int, number: int) -> list[list[int]]:
        sampler = BatchSampler(drawn, 1024, seed)
        sampler.current_pass = number
        return list(sampler)

    assert epoch(1, 0) == epoch(1, 0)
    orders = [epoch(seed, number) for seed in (1, 2) for number in (0, 1, 2)]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])
    # Not the same batches in another order: windows meet other windows.
    groups = [{frozenset(batch) for batch in order} for order in orders]
    assert all(a != b for i, a in enumerate(groups) for b in groups[:i])


def test_collate_pads_what_the_loss_ignores():
    batch = [
        {"input_ids": np.array([2, 9, 8, 3]), "labels": np.array([IGNORED, 1, 0, IGNORED])},
        {"input_ids": np.array([2, 7, 3]), "labels": np.array([IGNORED, 2, IGNORED])},
    ]
    found = collate(batch, pad=6)
    assert found["input_ids"].tolist() == [[2, 9, 8, 3], [2, 7, 3, 6]]
    assert found["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert found["labels"].tolist() == [[IGNORED, 1, 0, IGNORED], [IGNORED, 2, IGNORED, IGNORED]]
    assert {t.dtype for t in found.values()} == {torch.int64}


windows = st.lists(st.lists(st.integers(-1, 4), min_size=1, max_size=9), min_size=1, max_size=7)


def batch_of(targets: list[list[int]]) -> list[Sample]:
    """Windows whose wordpieces are numbered through, with labels; -1 for none."""
    batch, first = [], 1
    for one in targets:
        labels = np.where(np.array(one) < 0, IGNORED, one)
        batch.append({"input_ids": np.arange(first, first + len(one)), "labels": labels})
        first += len(one)
    return batch


@given(windows, st.integers(1, 9))
def test_shares_of_a_batch_make_up_the_batch(targets: list[list[int]], processes: int):
    batch = batch_of(targets)
    shares = [Share(0, rank, processes)(batch) for rank in range(processes)]
    read = [(s["input_ids"][s["labels"] != IGNORED]).tolist() for s in shares]
    expected = [i for s in batch for i in s["input_ids"][s["labels"] != IGNORED].tolist()]
    assert sorted(i for part in read for i in part) == expected
    assert all(s["input_ids"].shape[0] >= 1 and s["attention_mask"].any() for s in shares)


@given(windows, st.integers(1, 9), st.sampled_from([0.0, 0.1]))
def test_the_mean_over_processes_is_that_over_the_batch(
    targets: list[list[int]], processes: int, smoothing: float
):
    def loss(share: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = (share["input_ids"].unsqueeze(-1) * torch.arange(1.0, 6.0)).sin()
        return tagging_loss(logits, share["labels"], smoothing) * share["weight"]

    batch = batch_of(targets)
    whole = Share(0)(batch)
    assert whole["weight"] == float((whole["labels"] != IGNORED).any())
    losses = [loss(Share(0, rank, processes)(batch)) for rank in range(processes)]
    assert torch.allclose(torch.stack(losses).mean(), loss(whole), atol=1e-5)


def test_a_process_without_a_window_computes_on_one_that_does_not_count():
    batch = batch_of([[2, 1], [3]])
    idle = Share(0, 2, 3)(batch)
    assert idle["input_ids"].tolist() == [[1, 2]]
    assert idle["labels"].tolist() == [[IGNORED, IGNORED]]
    assert idle["weight"] == 0
    # The window itself keeps its labels for the process it belongs to.
    assert Share(0, 0, 3)(batch)["labels"].tolist() == [[2, 1]]
