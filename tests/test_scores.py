"""Exact-match scores, against seqeval's."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_openmed.corpora.bio import encode
from spacy_openmed.corpora.documents import Document
from spacy_openmed.corpora.registry import datasets
from spacy_openmed.entities import Entity
from spacy_openmed.errors import OpenMedError
from spacy_openmed.evaluation.evaluate import Split, evaluate, figures, find, raw_scores
from spacy_openmed.evaluation.scores import Span, on_tokens, score, score_documents, total

LABELS = ["GENE", "DISEASE", "CELL_LINE"]


@st.composite
def token_spans(draw: st.DrawFn, length: int) -> list[Span]:
    spans = []
    at = 0
    while True:
        first = at + draw(st.integers(0, 3))
        stop = first + draw(st.integers(1, 3))
        if stop > length:
            return spans
        spans.append((first, stop, draw(st.sampled_from(LABELS))))
        at = stop


@st.composite
def gold_and_predicted(draw: st.DrawFn) -> tuple[list[int], list[list[Span]], list[list[Span]]]:
    lengths = draw(st.lists(st.integers(0, 14), min_size=1, max_size=6))
    gold = [draw(token_spans(n)) for n in lengths]
    # Much of it right, as real predictions are, or every score would be zero.
    predicted = [
        g if draw(st.booleans()) else draw(token_spans(n))
        for g, n in zip(gold, lengths, strict=True)
    ]
    return lengths, gold, predicted


@given(gold_and_predicted())
def test_scores_equal_seqevals_strict_ones(
    case: tuple[list[int], list[list[Span]], list[list[Span]]],
) -> None:
    from seqeval.metrics import classification_report, f1_score, precision_score, recall_score
    from seqeval.scheme import IOB2

    lengths, gold, predicted = case
    tags = [[encode(s, n) for s, n in zip(x, lengths, strict=True)] for x in (gold, predicted)]
    ours = score(gold, predicted)
    if not any(gold) and not any(predicted):
        assert ours.micro.f1 == 0.0
        return
    options = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
    assert ours.micro.f1 == pytest.approx(f1_score(*tags, **options), abs=1e-15)
    assert ours.micro.precision == precision_score(*tags, **options)
    assert ours.micro.recall == recall_score(*tags, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = classification_report(*tags, output_dict=True, **options)
    assert set(ours.per_label) == set(report) & set(LABELS)
    for label, one in ours.per_label.items():
        assert one.f1 == pytest.approx(report[label]["f1-score"], abs=1e-15)
        assert one.precision == report[label]["precision"]
        assert one.recall == report[label]["recall"]
        assert one.tp + one.fn == report[label]["support"]


@given(gold_and_predicted())
def test_swapping_gold_and_predicted_swaps_precision_and_recall(
    case: tuple[list[int], list[list[Span]], list[list[Span]]],
) -> None:
    _, gold, predicted = case
    there, back = score(gold, predicted).micro, score(predicted, gold).micro
    assert (there.precision, there.recall, there.f1) == (back.recall, back.precision, back.f1)


@given(gold_and_predicted(), st.integers(1, 3))
def test_documents_add_up(
    case: tuple[list[int], list[list[Span]], list[list[Span]]], shares: int
) -> None:
    _, gold, predicted = case
    each = list(score_documents(gold, predicted))
    assert each == [score([g], [p]) for g, p in zip(gold, predicted, strict=True)]
    assert total(total(each[i::shares]) for i in range(shares)) == score(gold, predicted)


def test_start_end_and_label_must_all_be_right() -> None:
    wrong = [[(0, 2, "A"), (1, 3, "A"), (0, 3, "B")]]
    micro = score([[(0, 3, "A")]], wrong).micro
    assert (micro.tp, micro.fp, micro.fn) == (0, 3, 1)
    assert score([[(0, 3, "A")], []], [[], [(0, 3, "A")]]).micro.tp == 0


def test_what_stands_twice_must_be_found_twice() -> None:
    twice = [[(0, 1, "A"), (0, 1, "A")]]
    once = [[(0, 1, "A")]]
    assert (score(twice, once).micro.tp, score(twice, once).micro.fn) == (1, 1)
    assert (score(once, twice).micro.tp, score(once, twice).micro.fp) == (1, 1)
    assert score(twice, twice).micro.f1 == 1.0


def test_scores_in_percent() -> None:
    result = score([[(0, 1, "A"), (2, 3, "B")]], [[(0, 1, "A"), (4, 5, "A"), (5, 6, "A")]])
    assert result.to_dict() == {
        "precision": pytest.approx(100 / 3),
        "recall": 50.0,
        "f1": pytest.approx(40.0),
        "tp": 1,
        "fp": 2,
        "fn": 1,
        "per_label": {
            "A": {
                "precision": pytest.approx(100 / 3),
                "recall": 100.0,
                "f1": pytest.approx(50.0),
                "tp": 1,
                "fp": 2,
                "fn": 0,
            },
            "B": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "tp": 0, "fp": 0, "fn": 1},
        },
    }


@pytest.mark.parametrize("documents", [[], [[]], [[], []]])
def test_nothing_to_score_is_zero(documents: list[list[Span]]) -> None:
    result = score(documents, documents)
    assert result.to_dict()["f1"] == 0.0
    assert result.per_label == {}


def test_as_many_predictions_as_documents() -> None:
    with pytest.raises(ValueError):
        score([[]], [])


# Tokens: "the renal cell cancer (RCC)-induced"
TOKENS = [(0, 3), (4, 9), (10, 14), (15, 21), (22, 35)]


@pytest.mark.parametrize(
    ("entities", "expected"),
    [
        ([(4, 21)], [(1, 4)]),
        ([(5, 12)], [(1, 3)]),  # edges inside tokens
        ([(23, 26)], [(4, 5)]),  # inside one token
        ([(3, 4)], []),  # the blank between two
        ([(21, 23)], [(4, 5)]),
        ([(4, 12), (12, 21)], [(1, 3), (3, 4)]),  # two share a token: the earlier's
        ([(23, 25), (25, 26)], [(4, 5)]),
        ([(0, 35)], [(0, 5)]),
        ([(0, 3), (36, 40)], [(0, 1)]),
        ([], []),
    ],
)
def test_entities_on_tokens(
    entities: Sequence[tuple[int, int]], expected: list[tuple[int, int]]
) -> None:
    found = on_tokens([Entity(*e, "X") for e in entities], TOKENS)
    assert found == [(*span, "X") for span in expected]


@given(st.integers(0, 12).flatmap(lambda n: st.tuples(st.just(n), token_spans(n))))
def test_spans_to_tokens_and_back(case: tuple[int, list[Span]]) -> None:
    length, spans = case
    tokens = [(4 * i, 4 * i + 3) for i in range(length)]
    entities = [Entity(tokens[a][0], tokens[b - 1][1], label) for a, b, label in spans]
    assert on_tokens(entities, tokens) == spans


# Scoring a predictor


def shout(texts: Sequence[str]) -> list[list[Entity]]:
    """A predictor: every word in capitals is an X."""
    found = []
    for text in texts:
        entities = []
        at = 0
        for word in text.split(" "):
            if word.isupper():
                entities.append(Entity(at, at + len(word), "X", 0.5))
            at += len(word) + 1
        found.append(entities)
    return found


def test_raw_scores_count_the_outermost_of_nested_annotations() -> None:
    text = "a BRCA gene"
    nested = [Entity(0, 6, "X"), Entity(2, 6, "X")]
    micro = raw_scores(shout, [Document("", text, nested)]).micro
    assert (micro.tp, micro.fp, micro.fn) == (0, 1, 1)
    micro = raw_scores(shout, [Document("", text, [nested[1]])] * 200).micro
    assert (micro.tp, micro.fp, micro.fn) == (200, 0, 0)


def test_conll_scores_forgive_what_tokens_cannot_say() -> None:
    document = Document("", "x CYP ) y", [Entity(2, 7, "X")], [(0, 1), (2, 7), (8, 9)])
    at = Split("ncbi", "dev", [document], [document], {})
    found = figures(at, *find(shout, at))
    assert found["conll"]["f1"] == 100.0
    assert found["raw"]["f1"] == 0.0


def test_evaluate_reads_both_files(tmp_path: Path) -> None:
    folder = tmp_path / "ner" / "ncbi"
    folder.mkdir(parents=True)
    (folder / "dev.jsonl").write_text(
        '{"text": "GOUT hurts, FLU too", "entities": [[0, 4, "Disease"], [12, 15, "Disease"]]}\n'
    )
    (folder / "dev.conll").write_text("GOUT\tB-Disease\nhurts\tO\n,\tO\nFLU\tB-Disease\n")

    def predict(texts: Sequence[str]) -> list[list[Entity]]:
        return [[e._replace(label="DISEASE") for e in found[:1]] for found in shout(texts)]

    result = evaluate(predict, "ncbi", "dev", tmp_path)
    assert result["dataset"] == "ncbi"
    assert result["split"] == "dev"
    for form in ("raw", "conll"):
        assert (result[form]["tp"], result[form]["fp"], result[form]["fn"]) == (1, 0, 1)
        assert result[form]["documents"] == [[1, 0, 1]]
        assert result[form]["f1_ci"] == pytest.approx([200 / 3, 200 / 3])
        assert set(result[form]["per_label"]) == set(datasets()["ncbi"].types.values())
    assert set(result["data"]) == {"dev.jsonl", "dev.conll"}
    assert all(len(sha256) == 64 for sha256 in result["data"].values())
    with pytest.raises(OpenMedError, match=r"test\.jsonl"):
        evaluate(predict, "ncbi", "test", tmp_path)
    with pytest.raises(OpenMedError, match="'nothing'"):
        evaluate(predict, "nothing", "dev", tmp_path)
