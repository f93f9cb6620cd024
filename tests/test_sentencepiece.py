"""A SentencePiece tokenizer of DeBERTa's kind, from text to entities."""

import functools
import itertools
import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spm import SENTENCES, train_sentencepiece
from tokenizers import Tokenizer

from spacy_openmed import backbones
from spacy_openmed.adapters import Adapter, AdapterInfo
from spacy_openmed.atoms import atom_spans
from spacy_openmed.decoding import bio_labels, decode, units
from spacy_openmed.entities import Entity
from spacy_openmed.inference import SharedBackbone, tag
from spacy_openmed.labelling import label_wordpieces
from spacy_openmed.network import TokenTagger, to_adapter
from spacy_openmed.predictor import Predictor
from spacy_openmed.training.lora import wrap
from spacy_openmed.training.settings import LoraSettings
from spacy_openmed.windows import (
    SpecialTokens,
    Windowing,
    cut,
    encode,
    encode_batch,
    special_tokens,
)

TYPES = ("DISEASE", "GENE")
LABELS = {name: i for i, name in enumerate(bio_labels(TYPES))}
TEXT = " ".join(SENTENCES)

pytestmark = [
    pytest.mark.usefixtures("one_torch_thread"),
    # DeBERTa's own spm.model has bytes as pieces, too.
    pytest.mark.filterwarnings("ignore:The sentencepiece tokenizer that you are converting"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny DeBERTa with the files that the hub has of the large one: no tokenizer.json."""
    from transformers import DebertaV2Config, DebertaV2Model

    config = {
        **backbones.registry()["deberta-v3-large"]["config"],
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "vocab_size": 700,
        # As in conftest: neighbours must matter.
        "initializer_range": 0.3,
    }
    path = tmp_path_factory.mktemp("tiny-deberta")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        DebertaV2Model(DebertaV2Config.from_dict(config)).save_pretrained(path)
    train_sentencepiece(path / "spm.model")
    settings_ = {"do_lower_case": False, "vocab_type": "spm"}
    (path / "tokenizer_config.json").write_text(json.dumps(settings_), encoding="utf8")
    return path


@functools.cache
def tokenizer_of(folder: Path) -> Tokenizer:
    return backbones.load_tokenizer(folder)


# For tests that Hypothesis does not repeat: it would print all of a tokenizer that failed.
@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return tokenizer_of(folder)


def words_of(text: str, tokenizer: Tokenizer) -> list[tuple[str, str]]:
    """Each wordpiece, and what it stands for in the text."""
    e = encode(text, tokenizer)
    return [
        (tokenizer.id_to_token(i), text[a:b])
        for i, a, b in zip(e.ids.tolist(), e.starts, e.ends, strict=True)
    ]


def visible(text: str) -> set[int]:
    """Characters that a reader sees as part of a word."""
    return {i for i, c in enumerate(text) if c.isalnum()}


# Offsets


def test_it_is_a_sentencepiece_tokenizer(tokenizer: Tokenizer) -> None:
    pieces = [piece for piece, _ in words_of(TEXT, tokenizer)]
    assert sum(piece.startswith("▁") for piece in pieces) > 100
    assert not any(piece.startswith("##") for piece in pieces)
    assert special_tokens(tokenizer, 0) == SpecialTokens((1,), (2,), 0)


def test_no_wordpiece_has_the_blank_before_it(tokenizer: Tokenizer) -> None:
    text = "Loss  of TP53,\n\tthe receptor\u00a0and\u3000cancer "
    for piece, part in words_of(text, tokenizer):
        assert part == part.strip()
        # What is left of a known piece is what it is called.
        if piece != "[UNK]":
            assert piece.removeprefix("▁") in (part, "")


def test_every_character_of_a_sentence_is_covered_exactly_once(tokenizer: Tokenizer) -> None:
    for text in SENTENCES:
        e = encode(text, tokenizer)
        own = e.starts < e.ends
        # The blank before the text is no character of it: that piece has the first one's place.
        if tokenizer.id_to_token(int(e.ids[0])) == "▁":
            own[0] = False
        covered = [i for a, b in zip(e.starts[own], e.ends[own], strict=True) for i in range(a, b)]
        assert covered == [i for i, c in enumerate(text) if not c.isspace()]


def test_a_long_text_is_the_same_as_its_parts(tokenizer: Tokenizer) -> None:
    # Past windows.SEGMENT, where the text is tokenised in pieces.
    text = "\n".join([TEXT] * 20)
    assert len(text) > 20_000
    e = encode(text, tokenizer)
    parts = [encode(TEXT, tokenizer)] * 20
    assert len(e) == sum(map(len, parts))
    shifts = [i * (len(TEXT) + 1) for i in range(20)]
    starts = np.concatenate([p.starts + s for p, s in zip(parts, shifts, strict=True)])
    ends = np.concatenate([p.ends + s for p, s in zip(parts, shifts, strict=True)])
    # A blank that the tokenizer puts before a text has the first character's place.
    solid = e.ids != tokenizer.token_to_id("▁")
    assert e.starts[solid].tolist() == starts[solid].tolist()
    assert e.ends[solid].tolist() == ends[solid].tolist()


ODD = "aZ59é-.,_()/ \n\r\t\x00\x0c\xa0\xad\u0301\u200b\u2028\ufeff\ud800βİß½ﬁ①™→±東한👩🏽▁"
odd_texts = st.text(st.sampled_from(ODD) | st.characters(), max_size=40)
ordinary = st.lists(st.sampled_from([*TEXT.split(), "\n", "  ", "\t", "CYP3A4)-"]), max_size=25)
texts = (
    odd_texts
    | ordinary.map(" ".join)
    | st.tuples(odd_texts, st.integers(90, 400), odd_texts).map(
        lambda t: t[0] + "ab1" * t[1] + t[2]
    )
)


@given(texts)
@settings(max_examples=200)
def test_offsets_of_any_text(folder: Path, text: str) -> None:
    e = encode(text, tokenizer_of(folder))
    assert (e.starts >= 0).all()
    assert (e.ends <= len(text)).all()
    assert (np.diff(e.starts) >= 0).all()
    for a, b in zip(e.starts, e.ends, strict=True):
        if a < b:
            assert not text[a].isspace()
            assert not text[b - 1].isspace()
    covered = {i for a, b in zip(e.starts, e.ends, strict=True) for i in range(a, b)}
    assert visible(text) <= covered


@pytest.mark.parametrize("control", [*map(chr, range(1, 32)), "\x7f", "\x85", "\x8f", "\x9f"])
def test_a_control_character_moves_no_offset(tokenizer: Tokenizer, control: str) -> None:
    # SentencePiece's normalizer deletes some, and loses count when one comes first.
    for text in (f"{control}BRCA1 and cancer", f"{control * 3} BRCA1{control} cancer"):
        e = encode(text, tokenizer)
        covered = {i for a, b in zip(e.starts, e.ends, strict=True) for i in range(a, b)}
        assert visible(text) <= covered
        parts = [text[a:b] for a, b in zip(e.starts, e.ends, strict=True) if a < b]
        assert "".join(parts).endswith("cancer")


@given(texts)
@settings(max_examples=100)
def test_every_word_is_in_one_unit(folder: Path, text: str) -> None:
    u = units(text, encode(text, tokenizer_of(folder)))
    assert (u.starts < u.ends).all()
    assert (u.ends[:-1] <= u.starts[1:]).all()
    inside = {i for a, b in zip(u.starts, u.ends, strict=True) for i in range(a, b)}
    assert visible(text) <= inside


# Entities in, entities out


def one_hot(labels: np.ndarray) -> np.ndarray:
    return 8 * np.eye(len(LABELS), dtype=np.float32)[labels]


def through_windows(text: str, entities: list[Entity], tokenizer: Tokenizer) -> list[Entity]:
    """Label the wordpieces, let them pass through windows as logits, and decode."""
    encoding = encode_batch([text], tokenizer)[0]
    labels = label_wordpieces(encoding, entities, LABELS)
    # A network that was right: it knows each window by where it is.
    spans = cut(len(encoding), 14, 5)
    where = iter(spans)

    def forward(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        start, end = next(where)
        assert ids[0, 1 : 1 + end - start].tolist() == encoding.ids[start:end].tolist()
        padded = np.zeros(ids.shape[1], dtype=np.int64)
        padded[1 : 1 + end - start] = labels[start:end]
        return one_hot(padded)[None]

    special = special_tokens(tokenizer, 0)
    rows = tag([encoding], forward, special, len(LABELS), Windowing(16, 5), 1)
    return decode([text], [encoding], rows, TYPES)[0]


def places(text: str, *names: tuple[str, str]) -> list[Entity]:
    return sorted(
        Entity(text.index(name), text.index(name) + len(name), label) for name, label in names
    )


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (
            TEXT,
            [("breast cancer", "DISEASE"), ("BRCA1", "GENE"), ("muscular dystrophy", "DISEASE")],
        ),
        ("BRCA1", [("BRCA1", "GENE")]),
        (" \n BRCA1 causes cancer\n", [("BRCA1", "GENE"), ("cancer", "DISEASE")]),
        ("leukaemia leukaemias", [("leukaemia", "DISEASE"), ("leukaemias", "DISEASE")]),
        ("(TP53)-induced   tumour\r\n\r\nof the lung", [("TP53", "GENE"), ("tumour", "DISEASE")]),
        ("naïve β-catenin; ﬁbrosis 東京 cancer", [("β-catenin", "GENE"), ("ﬁbrosis", "DISEASE")]),
        ("x" * 173 + " cancer", [("x" * 173, "GENE"), ("cancer", "DISEASE")]),
    ],
)
def test_entities_come_out_where_they_were_put_in(
    tokenizer: Tokenizer, text: str, names: list[tuple[str, str]]
) -> None:
    entities = places(text, *names)
    found = through_windows(text, entities, tokenizer)
    assert [e[:3] for e in found] == [e[:3] for e in entities]


@given(texts, st.randoms(use_true_random=False))
@settings(max_examples=150)
def test_entities_on_any_text_come_out_where_they_were_put_in(
    folder: Path, text: str, random: Random
) -> None:
    tokenizer = tokenizer_of(folder)
    u = units(text, encode(text, tokenizer))
    edges = sorted(random.sample(range(len(u)), random.randint(0, min(6, len(u) // 2)) * 2))
    entities = [
        Entity(int(u.starts[first]), int(u.ends[last]), random.choice(TYPES))
        for first, last in zip(edges[::2], edges[1::2], strict=True)
    ]
    found = through_windows(text, entities, tokenizer)
    assert [e[:3] for e in found] == [e[:3] for e in entities]


def test_words_are_not_joined_in_sentences(tokenizer: Tokenizer) -> None:
    # Pieces that span two words would make their inner edges unreachable.
    for text in SENTENCES:
        u = units(text, encode(text, tokenizer))
        starts, ends = atom_spans(text, "word")
        assert u.starts.tolist() == starts.tolist()
        assert u.ends.tolist() == ends.tolist()


# The network


def make_adapter(folder: Path) -> Adapter:
    """An adapter whose LoRA changes what the backbone says."""
    targets = backbones.registry()["deberta-v3-large"]["lora_target_modules"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = wrap(backbones.load_encoder(folder), LoraSettings(4, 8, 0.0, targets))
        network = TokenTagger(encoder, len(LABELS))
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if "lora_B" in name or name.startswith("head"):
                    parameter.normal_(std=0.2)
    info = AdapterInfo("", TYPES, backbones.reference(str(folder)), window=40, overlap=10)
    return to_adapter(network, info)


def test_long_text_through_a_deberta_and_back(folder: Path) -> None:
    shared = SharedBackbone(folder)
    adapter = make_adapter(folder)
    predictor = Predictor(adapter, shared)
    (encoding,), (rows,) = predictor.tag([TEXT])
    assert len(encoding) > 500
    assert rows.shape == (len(encoding), len(LABELS))
    found = predictor([TEXT, "", TEXT])
    assert found[0] == found[2]
    assert found[1] == []
    assert len(found[0]) > 10
    edges = {0, *itertools.chain(*(a.tolist() for a in atom_spans(TEXT, "word")))}
    for entity in found[0]:
        assert {entity.start, entity.end} <= edges
    # A window alone gives the rows that it speaks for.
    start, end = cut(len(encoding), 38, 10)[3]
    ids = np.array([[1, *encoding.ids[start:end], 2]])
    alone = shared.logits(adapter, ids, np.ones_like(ids))[0, 1:-1]
    middle = (end - start) // 2
    np.testing.assert_allclose(alone[middle], rows[start + middle], atol=1e-4)
    forward = functools.partial(shared.logits, adapter)
    again = tag([encoding], forward, shared.special, len(LABELS), Windowing(40, 10), 1)
    np.testing.assert_allclose(again[0], rows, atol=1e-4)
