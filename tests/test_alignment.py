import gc
import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.lang.lex_attrs import LEX_ATTRS
from spacy.tokens import Doc, Span, SpanGroup, Token
from spacy.vocab import Vocab

from spacy_openmed.alignment import ALIGNMENTS, align, split_tokens
from spacy_openmed.entities import Entity
from spacy_openmed.errors import OpenMedError

VOCAB = Vocab(lex_attr_getters=LEX_ATTRS)
ANNOTATIONS = ("TAG", "POS", "MORPH", "LEMMA", "DEP", "HEAD", "SENT_START", "ENT_IOB", "ENT_TYPE")


@pytest.fixture(autouse=True)
def extensions():
    Token.set_extension("note", default=None, force=True)
    Span.set_extension("note", default=None, force=True)
    Doc.set_extension("note", default=None, force=True)
    yield
    for kind in (Token, Span, Doc):
        kind.remove_extension("note")


def make_doc(*words, **annotations):
    """A doc of words; a word that ends in "_" is followed by a space."""
    spaces = [word.endswith("_") for word in words]
    return Doc(VOCAB, words=[word.rstrip("_") for word in words], spaces=spaces, **annotations)


def offsets(spans):
    return [(span.start_char, span.end_char, span.label_, span.kb_id_, span.id_) for span in spans]


def texts(aligned):
    return [span.text for span, _ in aligned]


def words(doc):
    return [token.text for token in doc]


# Entities on tokens


def test_unknown_mode_names_the_choices():
    with pytest.raises(OpenMedError, match=r"'loose'.*split, expand, contract, strict"):
        align(make_doc("a"), [], "loose")


@pytest.mark.parametrize("mode", ALIGNMENTS)
def test_nothing_to_align(mode):
    assert align(Doc(VOCAB), [], mode) == []
    assert align(make_doc("a"), [], mode) == []


@pytest.mark.parametrize("mode", ALIGNMENTS)
def test_entity_on_token_edges_is_the_same_in_every_mode(mode):
    doc = make_doc("Germline_", "BRCA1_", "mutations")
    [(span, score)] = align(doc, [Entity(9, 14, "GENE", 0.75)], mode)
    assert (span.start, span.end, span.label_, score) == (1, 2, "GENE", 0.75)
    assert span.doc is doc
    assert len(doc) == 3


@pytest.mark.parametrize("mode", ALIGNMENTS)
@pytest.mark.parametrize("entity", [(-1, 2), (1, 1), (2, 1), (0, 7), (6, 7)])
def test_entity_outside_of_the_text_is_an_error(mode, entity):
    doc = make_doc("abc_", "de")
    with pytest.raises(OpenMedError, match="6 characters"):
        align(doc, [Entity(1, 2, "A"), Entity(*entity, "X")], mode)
    assert words(doc) == ["abc", "de"]


@pytest.mark.parametrize(
    "mode, expected",
    [("split", ["CYP"]), ("expand", ["CYP)-induced"]), ("contract", []), ("strict", [])],
)
def test_entity_that_ends_inside_a_token(mode, expected):
    doc = make_doc("(", "CYP)-induced_", "toxicity")
    assert texts(align(doc, [Entity(1, 4, "GENE")], mode)) == expected


@pytest.mark.parametrize(
    "mode, expected",
    [
        ("split", ["b cd e"]),
        ("expand", ["ab cd ef"]),
        ("contract", ["cd"]),
        ("strict", []),
    ],
)
def test_entity_over_tokens_with_both_edges_inside(mode, expected):
    doc = make_doc("x_", "ab_", "cd_", "ef_", "y")
    assert texts(align(doc, [Entity(3, 9, "A")], mode)) == expected


def test_entity_in_the_middle_of_a_token_makes_three_parts():
    doc = make_doc("x_", "anti-TNF-alpha_", "y")
    [(span, _)] = align(doc, [Entity(7, 10, "GENE")], "split")
    assert words(doc) == ["x", "anti-", "TNF", "-alpha", "y"]
    assert (span.start, span.end) == (2, 3)
    assert [token.whitespace_ for token in doc] == [" ", "", "", " ", ""]
    assert [token.idx for token in doc] == [0, 2, 7, 10, 17]


def test_adjacent_entities_in_one_token():
    doc = make_doc("CYP3A4")
    aligned = align(doc, [Entity(3, 6, "B"), Entity(0, 3, "A")], "split")
    assert [(span.text, span.label_) for span, _ in aligned] == [("CYP", "A"), ("3A4", "B")]


def test_result_is_in_text_order_with_its_own_scores():
    doc = make_doc("a_", "b_", "c")
    entities = [Entity(4, 5, "C", 0.3), Entity(0, 1, "A", 0.1), Entity(2, 3, "B", 0.2)]
    for mode in ALIGNMENTS:
        aligned = align(doc, entities, mode)
        assert [(span.text, score) for span, score in aligned] == [
            ("a", 0.1),
            ("b", 0.2),
            ("c", 0.3),
        ]


@pytest.mark.parametrize(
    "entities, expected",
    [
        ([Entity(0, 3, "LOW", 0.4), Entity(4, 6, "HIGH", 0.9)], "HIGH"),
        ([Entity(0, 2, "SHORT", 0.5), Entity(3, 6, "LONG", 0.5)], "LONG"),
        ([Entity(3, 6, "LATE", 0.5), Entity(0, 3, "EARLY", 0.5)], "EARLY"),
    ],
)
def test_expanded_entities_do_not_overlap(entities, expected):
    [(span, _)] = align(make_doc("CYP3A4"), entities, "expand")
    assert (span.text, span.label_) == ("CYP3A4", expected)


def test_expand_keeps_neighbours_of_a_dropped_entity():
    doc = make_doc("ab", "cd", "ef")
    entities = [Entity(0, 1, "A", 0.9), Entity(1, 3, "B", 0.5), Entity(2, 4, "C", 0.6)]
    aligned = align(doc, entities, "expand")
    assert [(span.text, span.label_) for span, _ in aligned] == [("ab", "A"), ("cd", "C")]


@pytest.mark.parametrize("mode", ALIGNMENTS)
def test_white_space_at_the_ends_is_left_out(mode):
    doc = make_doc("a_", "\n\n", "b_", " ", "c")
    assert texts(align(doc, [Entity(1, 7, "A")], mode)) == ["b"]
    assert align(doc, [Entity(2, 4, "A")], mode) == []
    assert len(doc) == 5


def test_contracted_entity_does_not_end_in_white_space():
    doc = make_doc("ab", "\n", "c_", "\n", "de")
    assert texts(align(doc, [Entity(1, 7, "A")], "contract")) == ["c"]


@pytest.mark.parametrize("word", ["A👩‍🔬B", "e\u0301B", "𝒜B", "αβγ", "日本語"])
def test_offsets_are_characters(word):
    doc = make_doc("x_", word + "_", "y")
    [(span, _)] = align(doc, [Entity(2, 1 + len(word), "A")], "split")
    assert span.text == word[:-1]
    assert words(doc) == ["x", word[:-1], word[-1], "y"]


@pytest.mark.parametrize("mode", ["expand", "contract", "strict"])
def test_only_split_changes_the_doc(mode):
    doc = make_doc("abc_", "def")
    align(doc, [Entity(1, 2, "A"), Entity(2, 5, "B")], mode)
    assert words(doc) == ["abc", "def"]


# Split tokens


def test_cuts_that_split_nothing_leave_the_doc_alone():
    doc = make_doc("ab_", "cd_")
    memory = doc.mem
    split_tokens(doc, [0, 2, 3, 5, 6, -1, 99])
    split_tokens(doc, [])
    assert doc.mem is memory
    empty = Doc(VOCAB)
    split_tokens(empty, [0, 1])
    assert len(empty) == 0


def test_several_cuts_in_any_order_and_twice():
    doc = make_doc("abcdef_", "gh")
    split_tokens(doc, iter([4, 1, 8, 4, 2]))
    assert words(doc) == ["a", "b", "cd", "ef", "g", "h"]
    assert doc.text == "abcdef gh"


def test_span_groups_keep_their_characters_order_and_attributes():
    doc = make_doc("ab_", "cd_", "ef")
    spans = [
        Span(doc, 1, 3, label="LATE", kb_id="Q1", span_id="id1"),
        Span(doc, 0, 2, label="EARLY"),
        Span(doc, 2, 2),
        Span(doc, 3, 3),
    ]
    group = SpanGroup(doc, name="other", attrs={"scores": [0.1, 0.2, 0.3, 0.4]}, spans=spans)
    doc.spans["b"] = group
    doc.spans["a"] = [doc[0:1], doc[2:3]]
    doc.spans["also b"] = group
    groups, before = doc.spans, offsets(group)
    split_tokens(doc, [1, 4, 7])
    assert list(doc.spans) == ["b", "a", "also b"]
    assert doc.spans["b"] is group and doc.spans["also b"] is group
    assert offsets(group) == before
    assert [span.text for span in group] == ["cd ef", "ab cd", "", ""]
    assert [(span.start, span.end) for span in group] == [(2, 6), (0, 4), (4, 4), (6, 6)]
    assert (group.name, group.attrs) == ("other", {"scores": [0.1, 0.2, 0.3, 0.4]})
    assert group.has_overlap and not doc.spans["a"].has_overlap
    groups["new"] = [doc[0:1]]
    assert "new" in doc.spans


def test_entities_missing_outside_and_blocked_stay():
    doc = make_doc("aa", "bb", "cc", "dd", "ee", "ff")
    entities = [Span(doc, 0, 2, label="A", kb_id="Q1", span_id="i1"), Span(doc, 2, 3, label="A")]
    doc.set_ents(entities, missing=[doc[3:4]], blocked=[doc[5:6]])
    before = offsets(doc.ents)
    split_tokens(doc, range(1, 12, 2))
    assert offsets(doc.ents) == before
    assert [token.ent_iob_ for token in doc] == [*list("BIIIBI"), "", "", *list("OOBB")]
    assert [token.ent_type_ for token in doc] == ["A"] * 6 + [""] * 6


def test_parse_tags_and_lemmas_of_parts():
    doc = make_doc(
        "He_",
        "anti-acts_",
        "now",
        ".",
        tags=["PRP", "VBZ", "RB", "."],
        pos=["PRON", "VERB", "ADV", "PUNCT"],
        morphs=["Case=Nom", "Number=Sing", "", ""],
        lemmas=["he", "anti-act", "now", "."],
        heads=[1, 1, 1, 1],
        deps=["nsubj", "ROOT", "advmod", "punct"],
    )
    split_tokens(doc, [7, 8, 14])
    assert words(doc) == ["He", "anti", "-", "acts", "n", "ow", "."]
    assert [token.head.text for token in doc] == ["anti"] * 5 + ["n", "anti"]
    assert [token.dep_ for token in doc] == [
        "nsubj",
        "ROOT",
        "dep",
        "dep",
        "advmod",
        "dep",
        "punct",
    ]
    assert [token.tag_ for token in doc] == ["PRP"] + ["VBZ"] * 3 + ["RB"] * 2 + ["."]
    assert [token.pos_ for token in doc] == ["PRON"] + ["VERB"] * 3 + ["ADV"] * 2 + ["PUNCT"]
    assert [str(token.morph) for token in doc] == ["Case=Nom"] + ["Number=Sing"] * 3 + [""] * 3
    assert [token.lemma_ for token in doc] == ["he", "anti", "-", "acts", "n", "ow", "."]
    assert [child.text for child in doc[1].children] == ["He", "-", "acts", "n", "."]
    assert [sent.text for sent in doc.sents] == [doc.text]


@pytest.mark.parametrize(
    "starts", [[1, -1, 1], [1, 0, 1], [1, 0, 0], [1, -1, 0], [0, 0, 1], [0, 1, 1]]
)
def test_sentence_starts_without_a_parse(starts):
    doc = make_doc("ab_", "cd_", "ef", sent_starts=starts)
    known = doc.has_annotation("SENT_START")
    complete = doc.has_annotation("SENT_START", require_complete=True)
    before = offsets(doc.sents) if known else None
    split_tokens(doc, [1, 4, 7])
    assert doc.has_annotation("SENT_START") == known
    assert complete == doc.has_annotation("SENT_START", require_complete=True)
    if known:
        assert offsets(doc.sents) == before


def test_sentence_starts_that_differ_from_the_parse():
    doc = make_doc("ab_", "cd", heads=[0, 1], deps=["ROOT", "ROOT"])
    doc.from_array(["SENT_START"], np.array([1, -1], dtype=np.int64).astype(np.uint64))
    assert len(list(doc.sents)) == 1
    split_tokens(doc, [1])
    assert len(list(doc.sents)) == 1


def test_a_doc_of_one_token_stays_one_sentence():
    doc = make_doc("abc")
    split_tokens(doc, [1, 2])
    assert [sent.text for sent in doc.sents] == ["abc"]


def test_no_annotation_is_invented():
    doc = make_doc("ab_", "cd")
    split_tokens(doc, [1, 4])
    assert [name for name in ANNOTATIONS if doc.has_annotation(name)] == []
    assert [token.head.i for token in doc] == [0, 1, 2, 3]
    assert [token.lemma_ for token in doc] == [""] * 4


def test_norms_stay_except_of_split_tokens():
    doc = make_doc("Gonna_", "AB")
    doc[0].norm_ = doc[1].norm_ = "norm"
    split_tokens(doc, [7])
    assert [token.norm_ for token in doc] == ["norm", "a", "b"]


def test_tensor_rows_are_repeated():
    doc = make_doc("abc_", "de_", "f")
    doc.tensor = np.arange(6, dtype="float32").reshape(3, 2)
    split_tokens(doc, [1, 2, 5])
    assert doc.tensor.dtype == np.float32
    assert doc.tensor.tolist() == [[0, 1]] * 3 + [[2, 3]] * 2 + [[4, 5]]


def test_tensor_that_is_not_by_token_is_left_alone():
    doc = make_doc("abc")
    split_tokens(doc, [1])
    assert doc.tensor.shape == (0,)
    doc.tensor = tensor = np.ones((7, 2))
    split_tokens(doc, [2])
    assert doc.tensor is tensor


def test_extension_values_stay_where_they_were():
    doc = make_doc("ab_", "cd_", "ef")
    doc._.note, doc[1]._.note, doc[1:3]._.note, doc[2]._.note = "doc", "cd", "cd ef", "ef"
    split_tokens(doc, [1, 4, 7])
    assert doc._.note == "doc"
    assert [token._.note for token in doc] == [None, None, "cd", None, "ef", None]
    assert doc[2:6]._.note == "cd ef"


def test_what_hangs_on_the_doc_stays():
    doc = make_doc("ab_", "cd", user_data={"key": 1})
    doc.cats = {"POSITIVE": 0.5}
    doc.sentiment = 0.5
    doc.vector = np.ones(3)
    doc.noun_chunks_iterator = lambda doclike: []
    doc.user_hooks["similarity"] = doc.user_token_hooks["vector"] = lambda *args: 1
    doc.user_span_hooks["vector"] = lambda *args: 1
    names = "cats sentiment vector noun_chunks_iterator user_hooks user_token_hooks user_span_hooks"
    before = {name: getattr(doc, name) for name in [*names.split(), "user_data", "vocab"]}
    split_tokens(doc, [1])
    assert len(doc) == 3
    for name, value in before.items():
        assert getattr(doc, name) is value or getattr(doc, name) == value, name


def test_unknown_spaces_stay_unknown():
    doc = Doc(VOCAB, words=["ab", "cd"])
    split_tokens(doc, [1])
    assert doc.has_unknown_spaces and doc.text == "ab cd "
    doc = make_doc("ab_", "cd")
    split_tokens(doc, [1])
    assert not doc.has_unknown_spaces


def test_tokens_held_by_the_caller_stay_readable():
    doc = make_doc("ab_", "cd")
    token, memory = doc[1], doc.mem
    split_tokens(doc, [1, 4])
    gc.collect()
    assert any(kept is memory for kept in doc.mem.refs)
    assert token.text == "cd"


def test_vocab_with_vectors_gains_none():
    vocab = Vocab()
    vocab.set_vector("abcd", np.ones(4, dtype="float32"))
    doc = Doc(vocab, words=["abcd", "abcd"])
    split_tokens(doc, [2])
    assert [token.has_vector for token in doc] == [False, False, True]
    assert vocab.vectors.n_keys == 1


def test_a_split_doc_survives_serialisation():
    doc = make_doc("Tamoxifen_", "(", "CYP)-induced_", "toxicity")
    doc.spans["sc"] = [span for span, _ in align(doc, [Entity(11, 14, "GENE")], "split")]
    again = Doc(VOCAB).from_bytes(doc.to_bytes())
    assert words(again) == words(doc)
    assert offsets(again.spans["sc"]) == offsets(doc.spans["sc"]) == [(11, 14, "GENE", "", "")]


def test_time_is_linear():
    n_tokens = 20_000
    doc = Doc(VOCAB, words=["abcd"] * n_tokens)
    doc.tensor = np.ones((n_tokens, 8), dtype="float32")
    entities = [Entity(start + 1, start + 3, "A") for start in range(0, 5 * n_tokens, 20)]
    begin = time.process_time()
    aligned = align(doc, entities, "split")
    # Some 0.05 s; token by token, as doc.retokenize does it, some 30 s.
    assert time.process_time() - begin < 3
    assert len(aligned) == len(entities) and len(doc) == n_tokens + 2 * len(entities)


# Whatever the doc

CHARACTERS = "abZ9-)(αé日\u0301\u200d👩🔬🇨𝒜\n\t \u00a0"


@st.composite
def docs(draw):
    """A doc with every kind of annotation, or without."""
    word = st.text(CHARACTERS, min_size=1, max_size=6)
    tokens = draw(st.lists(st.tuples(word, st.booleans()), min_size=1, max_size=12))
    n = len(tokens)
    annotations = {}
    if draw(st.booleans()):
        values = st.lists(st.sampled_from(["A", "B"]), min_size=n, max_size=n)
        annotations |= {"tags": draw(values), "lemmas": draw(values)}
    if draw(st.booleans()):
        starts = draw(st.lists(st.sampled_from([1, 0, -1]), min_size=n, max_size=n))
        annotations["sent_starts"] = starts
    if draw(st.booleans()):
        heads = [draw(st.integers(max(0, i - 3), min(n - 1, i + 3))) for i in range(n)]
        annotations |= {
            "heads": heads,
            "deps": ["ROOT" if h == i else "x" for i, h in enumerate(heads)],
        }
    if draw(st.booleans()):
        tags = st.sampled_from(["", "O", "B-X", "I-X", "B-Y", "I-Y"])
        annotations["ents"] = draw(st.lists(tags, min_size=n, max_size=n))
        annotations["ents"][0] = "O"
    doc = Doc(VOCAB, *map(list, zip(*tokens, strict=True)), **annotations)
    doc.tensor = np.arange(n, dtype="float32").reshape(n, 1)
    for key in draw(st.lists(st.sampled_from("xyz"), unique=True)):
        doc.spans[key] = draw(st.lists(spans(doc), max_size=4))
    for token in draw(st.lists(st.sampled_from(list(doc)), max_size=3)):
        token._.note = token.idx
    for span in draw(st.lists(spans(doc), max_size=3)):
        span._.note = span.text
    return doc


def spans(doc):
    edges = st.tuples(st.integers(0, len(doc)), st.integers(0, len(doc))).map(sorted)
    return st.builds(
        lambda edges, label, kb_id: Span(doc, *edges, label=label, kb_id=kb_id, span_id="i"),
        edges,
        st.sampled_from(["", "P", "Q"]),
        st.sampled_from(["", "K"]),
    )


@st.composite
def docs_and_entities(draw):
    doc = draw(docs())
    text = doc.text
    edge = st.integers(0, len(text))
    ranges = draw(st.lists(st.tuples(edge, edge).map(sorted), max_size=6))
    kept = [(start, end) for start, end in ranges if text[start:end].strip()]
    scores = st.floats(0, 1)
    return doc, [Entity(*pair, draw(st.sampled_from("AB")), draw(scores)) for pair in kept]


def trimmed(entity, text):
    start, end = entity.start, entity.end
    while text[start].isspace():
        start += 1
    while text[end - 1].isspace():
        end -= 1
    return start, end


def by_character(doc, value):
    """A token's value, for each character that is in a token."""
    return {
        offset: value(token) for token in doc for offset in range(token.idx, token.idx + len(token))
    }


def meaning(doc):
    """All that must not change when tokens are split."""
    return {
        "text": doc.text,
        "spaces": [token.idx + len(token) for token in doc if token.whitespace_],
        "groups": {key: offsets(group) for key, group in doc.spans.items()},
        "overlap": {key: group.has_overlap for key, group in doc.spans.items()},
        "ents": offsets(doc.ents),
        "ent_types": by_character(doc, lambda token: token.ent_type_),
        "inside": by_character(doc, lambda token: token.ent_iob_.replace("B", "I")),
        "tags": by_character(doc, lambda token: token.tag_),
        "tensor": by_character(doc, lambda token: doc.tensor[token.i].tolist()),
        "sents": offsets(doc.sents) if doc.has_annotation("SENT_START") else None,
        "annotated": {
            (name, complete): doc.has_annotation(name, require_complete=complete)
            for name in ANNOTATIONS
            for complete in (False, True)
            # The value 0 of these three has a meaning of its own.
            if not complete or name not in ("HEAD", "ENT_IOB", "ENT_TYPE")
        },
        "user_data": dict(doc.user_data),
    }


@settings(max_examples=80, deadline=None)
@given(docs_and_entities())
def test_split_puts_every_entity_on_tokens_and_changes_no_meaning(case):
    doc, entities = case
    before = meaning(doc)
    old_edges = {token.idx for token in doc}
    heads = {token.idx: token.head.idx for token in doc}
    aligned = align(doc, entities, "split")
    found = [(span.start_char, span.end_char, span.label_, score) for span, score in aligned]
    expected = [(*trimmed(entity, doc.text), entity.label, entity.score) for entity in entities]
    assert sorted(found) == sorted(expected)
    assert [pair[:2] for pair in found] == sorted(pair[:2] for pair in found)
    assert meaning(doc) == before
    edges = {edge for start, end, *_ in found for edge in (start, end)}
    assert {token.idx for token in doc} <= old_edges | edges
    assert len(doc.tensor) == len(doc)
    assert {token.idx: token.head.idx for token in doc if token.idx in heads} == heads


@settings(max_examples=60, deadline=None)
@given(docs_and_entities())
def test_the_other_modes_agree_with_a_search_over_all_spans(case):
    doc, entities = case
    entities = entities[:1]
    tokens = [(token.idx, token.idx + len(token), token.text.isspace()) for token in doc]
    for entity in entities:
        start, end = trimmed(entity, doc.text)
        cover = [token for token in tokens if token[1] > start and token[0] < end]
        inside = [token for token in cover if token[0] >= start and token[1] <= end]
        while inside and inside[0][2]:
            inside.pop(0)
        while inside and inside[-1][2]:
            inside.pop()
        exact = [(start, end)] if (cover[0][0], cover[-1][1]) == (start, end) else []
        expected = {
            "expand": [(cover[0][0], cover[-1][1])],
            "contract": [(inside[0][0], inside[-1][1])] if inside else [],
            "strict": exact,
        }
        for mode, ranges in expected.items():
            aligned = align(doc, entities, mode)
            assert [(span.start_char, span.end_char) for span, _ in aligned] == ranges


@settings(max_examples=60, deadline=None)
@given(docs_and_entities())
def test_expanded_entities_never_share_a_token(case):
    doc, entities = case
    aligned = align(doc, entities, "expand")
    assert all(a.end <= b.start for (a, _), (b, _) in itertools.pairwise(aligned))
    if entities:
        assert max(score for _, score in aligned) == max(entity.score for entity in entities)
