"""Intervals and tests over documents, against scipy's and against what must hold."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from spacy_openmed.errors import OpenMedError
from spacy_openmed.evaluation import significance
from spacy_openmed.evaluation.scores import score, score_documents
from spacy_openmed.evaluation.significance import (
    PairedBootstrap,
    approximate_randomization,
    bootstrap_interval,
    f1,
    paired_bootstrap,
    summary,
)

Counts = NDArray[np.int64]


def counts_of(annotated: Counts, right: Counts, spurious: Counts) -> Counts:
    return np.stack([right, spurious, annotated - right], axis=1)


def systems(documents: int, recalls: tuple[float, float], seed: int) -> tuple[Counts, Counts]:
    """Two systems on the same documents, each of which is harder or easier for both."""
    rng = np.random.default_rng(seed)
    annotated = rng.integers(0, 12, documents)
    ease = rng.uniform(0.6, 1.2, documents)
    a, b = (
        counts_of(
            annotated,
            rng.binomial(annotated, np.clip(recall * ease, 0, 1)),
            rng.binomial(annotated, 0.15),
        )
        for recall in recalls
    )
    return a, b


@st.composite
def two_systems(draw: st.DrawFn, least: int = 1) -> tuple[Counts, Counts]:
    small = st.integers(0, 5)
    rows = st.lists(st.tuples(small, small, small, small, small), min_size=least, max_size=8)
    annotated, right, right_too, spurious, spurious_too = np.array(draw(rows)).T
    return (
        counts_of(annotated, np.minimum(right, annotated), spurious),
        counts_of(annotated, np.minimum(right_too, annotated), spurious_too),
    )


def micro_f1(rows: Counts) -> Any:
    """In percent, of the last two axes: documents, counts."""
    tp, fp, fn = np.moveaxis(rows.sum(axis=-2), -1, 0)
    return 100 * np.where(tp > 0, 2 * tp / np.maximum(2 * tp + fp + fn, 1), 0.0)


def scipys_p(a: Counts, b: Counts, **options: Any) -> float:
    """What is swapped within pairs are the numbers of rows."""
    rows = np.concatenate([a, b])
    numbers = np.arange(len(rows))

    def distance(x: Any, y: Any, axis: int) -> Any:
        assert axis == -1
        # Rounded, because scipy's own tolerance is relative to the distance.
        return np.round(abs(micro_f1(rows[x]) - micro_f1(rows[y])), 9)

    test = stats.permutation_test(
        (numbers[: len(a)], numbers[len(a) :]),
        distance,
        permutation_type="samples",
        alternative="greater",
        vectorized=True,
        axis=-1,
        **options,
    )
    return float(test.pvalue)


def allowance(p: float, shuffles: int) -> float:
    """Five standard deviations of a share, and what one shuffle is worth."""
    return 5 * float(np.sqrt(p * (1 - p) / shuffles)) + 1 / shuffles


# Approximate randomization


# scipy wants two pairs at least.
@given(two_systems(least=2))
def test_p_is_that_of_scipys_enumeration(case: tuple[Counts, Counts]) -> None:
    exact = scipys_p(*case, n_resamples=np.inf)
    p = approximate_randomization(*case, shuffles=4000)
    assert p == pytest.approx(exact, abs=allowance(exact, 4000))


@pytest.mark.parametrize("recalls", [(0.7, 0.7), (0.7, 0.66), (0.7, 0.62), (0.7, 0.5)])
def test_p_is_that_of_scipys_shuffles(recalls: tuple[float, float]) -> None:
    a, b = systems(100, recalls, seed=2)
    theirs = scipys_p(a, b, n_resamples=4000, rng=np.random.default_rng(1))
    p = approximate_randomization(a, b)
    assert p == pytest.approx(theirs, abs=allowance(theirs, 4000))


@given(two_systems(), st.integers(2, 9), st.randoms(use_true_random=False))
def test_p_does_not_depend_on_order_or_scale(
    case: tuple[Counts, Counts], scale: int, random: Any
) -> None:
    a, b = case
    p = approximate_randomization(a, b, shuffles=200)
    assert 0 < p <= 1
    assert approximate_randomization(b, a, shuffles=200) == p
    order = random.sample(range(len(a)), len(a))
    assert approximate_randomization(a[order], b[order], shuffles=200) == p
    assert approximate_randomization(scale * a, scale * b, shuffles=200) == p


@given(two_systems())
def test_one_differing_document_proves_nothing(case: tuple[Counts, Counts]) -> None:
    a, b = case
    assert approximate_randomization(a, a, shuffles=100) == 1.0
    but_one = np.concatenate([b[:1], a[1:]])
    assert approximate_randomization(a, but_one, shuffles=100) == 1.0


def test_least_p() -> None:
    annotated = np.full(50, 3)
    right, wrong = counts_of(annotated, annotated, 0 * annotated), np.tile([0, 3, 3], (50, 1))
    assert approximate_randomization(right, wrong, shuffles=999) == 1 / 1000


def test_equal_differences_count_however_they_are_rounded() -> None:
    # Of the 8 assignments 4 give 6/35, the least; in floating point some of them a little less.
    a = np.array([[1, 0, 0], [0, 0, 3], [2, 0, 1]])
    b = np.array([[0, 1, 1], [2, 1, 1], [1, 2, 2]])
    exact = scipys_p(a, b, n_resamples=np.inf)
    assert approximate_randomization(a, b) == pytest.approx(exact, abs=allowance(exact, 10_000))


def test_alike_systems_are_told_apart_no_more_often_than_promised() -> None:
    found = [
        approximate_randomization(*systems(40, (0.7, 0.7), seed), shuffles=400)
        for seed in range(300)
    ]
    share = np.mean(np.array(found) <= 0.05)
    assert 0.01 < share < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 300)


# Intervals


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_interval_is_scipys(seed: int) -> None:
    counts, _ = systems(100, (0.7, 0.7), seed)
    theirs = stats.bootstrap(
        (np.arange(len(counts)),),
        lambda numbers, axis: micro_f1(counts[numbers]),
        method="percentile",
        n_resamples=10_000,
        vectorized=True,
        axis=-1,
        rng=np.random.default_rng(seed),
    )
    low, high = bootstrap_interval(counts)
    expected = theirs.confidence_interval
    # A quantile of 10,000 is off by 0.027 standard deviations, and there are two of them.
    allowed = 5 * 2**0.5 * 0.027 * float(theirs.standard_error)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=allowed)
    assert low < f1(counts) < high


def test_interval_of_the_difference_is_scipys() -> None:
    a, b = systems(100, (0.7, 0.66), seed=4)
    theirs = stats.bootstrap(
        (np.arange(len(a)),),
        lambda numbers, axis: micro_f1(a[numbers]) - micro_f1(b[numbers]),
        method="percentile",
        n_resamples=10_000,
        vectorized=True,
        axis=-1,
        rng=np.random.default_rng(0),
    )
    ours = paired_bootstrap(a, b)
    expected = theirs.confidence_interval
    allowed = 5 * 2**0.5 * 0.027 * float(theirs.standard_error)
    assert (ours.low, ours.high) == pytest.approx((expected.low, expected.high), abs=allowed)
    share = np.mean(theirs.bootstrap_distribution <= 1e-9)
    assert ours.not_ahead == pytest.approx(share, abs=2 * allowance(share, 10_000))


@given(two_systems(), st.randoms(use_true_random=False))
def test_intervals_are_of_what_the_documents_have(case: tuple[Counts, Counts], random: Any) -> None:
    counts, _ = case
    low, high = bootstrap_interval(counts, resamples=200)
    each = [f1([row]) for row in counts]
    assert min(each) - 1e-9 <= low <= high <= max(each) + 1e-9
    order = random.sample(range(len(counts)), len(counts))
    assert bootstrap_interval(counts[order], resamples=200) == (low, high)
    narrow = bootstrap_interval(counts, resamples=200, level=0.5)
    assert low <= narrow[0] <= narrow[1] <= high


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    population, _ = systems(20_000, (0.7, 0.7), seed=0)
    rng = np.random.default_rng(5)
    intervals = [bootstrap_interval(rng.choice(population, 60), resamples=1000) for _ in range(300)]
    covered = np.mean([low <= f1(population) <= high for low, high in intervals])
    # Percentile intervals of small samples are a little short.
    assert 0.9 < covered < 0.985


@given(two_systems())
def test_a_system_is_not_ahead_of_itself(case: tuple[Counts, Counts]) -> None:
    assert paired_bootstrap(case[0], case[0], resamples=100) == PairedBootstrap(0.0, 0.0, 1.0)


def test_ahead_on_every_document_is_ahead_on_every_resample() -> None:
    a, b = np.tile([2, 0, 0], (9, 1)), np.tile([1, 1, 1], (9, 1))
    assert paired_bootstrap(a, b) == PairedBootstrap(50.0, 50.0, 0.0)
    assert paired_bootstrap(b, a) == PairedBootstrap(-50.0, -50.0, 1.0)


# Edges


def test_one_document() -> None:
    assert bootstrap_interval([[2, 1, 1]]) == pytest.approx((200 / 3, 200 / 3))
    assert approximate_randomization([[2, 1, 1]], [[0, 0, 3]]) == 1.0


@pytest.mark.parametrize("documents", [1, 7])
def test_documents_without_entities(documents: int) -> None:
    nothing = np.zeros((documents, 3), dtype=int)
    assert f1(nothing) == 0.0
    assert bootstrap_interval(nothing) == (0.0, 0.0)
    assert paired_bootstrap(nothing, nothing) == PairedBootstrap(0.0, 0.0, 1.0)
    assert approximate_randomization(nothing, nothing) == 1.0


def test_memory_is_bounded_and_has_no_influence(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = systems(60, (0.7, 0.65), seed=6)

    def everything() -> Any:
        return (
            bootstrap_interval(a, 500),
            paired_bootstrap(a, b, 500),
            approximate_randomization(a, b, 500),
        )

    whole = everything()
    for drawn in (1, 977):
        monkeypatch.setattr(significance, "_DRAWN", drawn)
        assert everything() == whole


def test_seeds() -> None:
    a, b = systems(60, (0.7, 0.65), seed=7)
    assert bootstrap_interval(a, seed=1) == bootstrap_interval(a, seed=1)
    assert bootstrap_interval(a, seed=1) != bootstrap_interval(a, seed=2)
    assert paired_bootstrap(a, b, seed=1) != paired_bootstrap(a, b, seed=2)
    assert approximate_randomization(a, b, seed=1) != approximate_randomization(a, b, seed=2)


def test_counts_of_other_documents_are_refused() -> None:
    with pytest.raises(ValueError, match="1 and of 2 documents"):
        approximate_randomization([[1, 0, 0]], [[1, 0, 0], [1, 0, 0]])
    with pytest.raises(ValueError, match="as many annotations"):
        paired_bootstrap([[1, 0, 0], [0, 0, 2]], [[1, 0, 1], [0, 0, 1]])
    with pytest.raises(OpenMedError, match="no document"):
        bootstrap_interval([])


# What a result file gets


def test_summary() -> None:
    gold = [[(0, 1, "A"), (2, 3, "B")], [], [(0, 4, "A")]]
    predicted = [[(0, 1, "A"), (4, 5, "A")], [(7, 8, "B")], [(0, 4, "A")]]
    found = summary(list(score_documents(gold, predicted)))
    plain = score(gold, predicted).to_dict()
    assert found["documents"] == [[1, 1, 1], [0, 1, 0], [1, 0, 0]]
    assert found["f1_ci"] == list(bootstrap_interval(found["documents"]))
    assert {key: found[key] for key in plain} == plain
    assert set(found) - set(plain) == {"documents", "f1_ci"}
    assert json.loads(json.dumps(found)) == found
