"""How far a micro F1 could be off, and whether two differ by more than chance.

Everything is computed from the counts of each document, and documents are what is drawn and
swapped: the entities of one document are not independent of each other.

Documents with the same counts are drawn and swapped together, by how many there are of them. That
is the same distribution at a small part of the work, since there are few such kinds.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import OpenMedError
from .scores import Scores, total

RESAMPLES = 10_000
SHUFFLES = 10_000
LEVEL = 0.95

Result = dict[str, Any]
_Integers = NDArray[np.int64]
_Floats = NDArray[np.float64]
_Draw = Callable[[int], _Integers]

# Numbers drawn at once, of 8 bytes each.
_DRAWN = 1 << 22
# Two F1 that are equal come out of other sums a rounding apart; as in
# scipy.stats.permutation_test, rounding must not decide between "as large" and "smaller".
_ROUNDING = 1e-12


@dataclass(frozen=True)
class PairedBootstrap:
    """What the same resamples of documents give for two systems.

    low, high (float): Interval of F1(A) - F1(B), in points.
    not_ahead (float): Share of resamples in which F1(A) is not above F1(B).
    """

    low: float
    high: float
    not_ahead: float


def summary(documents: Sequence[Scores]) -> dict[str, Any]:
    """Scores of a whole split, with what significance is computed from.

    documents (Sequence[Scores]): Of each document, in the corpus's order.
    RETURNS (dict): As ``Scores.to_dict``, and "f1_ci": see ``bootstrap_interval``; "documents":
        [tp, fp, fn] of each.
    RAISES (OpenMedError): There is no document.
    """
    counts = [[one.micro.tp, one.micro.fp, one.micro.fn] for one in documents]
    return {
        **total(documents).to_dict(),
        "f1_ci": list(bootstrap_interval(counts)),
        "documents": counts,
    }


def f1(counts: ArrayLike) -> float:
    """Micro F1 in percent.

    counts (int[documents, 3]): Right, spurious and missed entities of each document.
    """
    return 100 * float(_f1(_parts(counts).sum(axis=0)))


def bootstrap_interval(
    counts: ArrayLike, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of micro F1 over documents (Efron & Tibshirani 1993, chapter 13).

    counts (int[documents, 3]): Right, spurious and missed entities of each document. Their
        order has no influence.
    resamples (int): How often as many documents are drawn, with replacement. One without any
        entity counts as F1 0, as everywhere.
    level (float): Share of the resamples inside.
    seed (int): The same gives the same.
    RETURNS (tuple[float, float]): Low and high, in percent.
    RAISES (OpenMedError): There is no document.
    """
    drawn = 100 * np.concatenate(
        [_f1(sums) for sums in _resampled(_parts(counts), resamples, seed)]
    )
    return _central(drawn, level)


def paired_bootstrap(
    a: ArrayLike,
    b: ArrayLike,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> PairedBootstrap:
    """The difference of two systems on the same resamples of documents (Koehn 2004).

    It says how large the difference may be; whether there is one at all is for
    ``approximate_randomization``, for ``not_ahead`` is not the probability of such a
    difference between equals.

    a, b (int[documents, 3]): Counts of the same documents, see ``bootstrap_interval``.
    RAISES (OpenMedError): There is no document.
    RAISES (ValueError): The counts are not of the same documents.
    """
    both = np.hstack(_paired(a, b))
    difference = np.concatenate(
        [_f1(sums[:, :2]) - _f1(sums[:, 2:]) for sums in _resampled(both, resamples, seed)]
    )
    low, high = _central(100 * difference, level)
    return PairedBootstrap(low, high, float(np.mean(difference <= _ROUNDING)))


def approximate_randomization(
    a: ArrayLike, b: ArrayLike, shuffles: int = SHUFFLES, seed: int = 0
) -> float:
    """Probability of so large a difference if the two systems were alike, two-sided.

    If they are, it is chance which of the two a document's entities came from. So each
    document's are swapped with probability 1/2, and it is counted how often |F1(A) - F1(B)| is at
    least what was measured (Noreen 1989; for F1, Yeh 2000).

    a, b (int[documents, 3]): Counts of the same documents, see ``bootstrap_interval``. Neither
        the order of the documents nor that of the systems has an influence.
    shuffles (int): How often.
    seed (int): The same gives the same.
    RETURNS (float): (n + 1) / (shuffles + 1), where n shuffles gave at least as much: the
        measured assignment is one of those that chance may give.
    RAISES (OpenMedError): There is no document.
    RAISES (ValueError): The counts are not of the same documents.
    """
    first, second = _paired(a, b)
    # With T the sum of both systems and D that of the documents' differences, each with a sign
    # of its own, the systems have (T + D) / 2 and (T - D) / 2; F1 is the same for T ± D. Which
    # sign a difference has to begin with says nothing, then: the first number is made positive.
    together = (first + second).sum(axis=0)
    differences = first - second
    leading = np.where(differences[:, 0] != 0, differences[:, 0], differences[:, 1])
    times: _Integers
    kinds, times = np.unique(
        differences * np.where(leading < 0, -1, 1)[:, None], axis=0, return_counts=True
    )
    rng = np.random.default_rng(seed)

    def signed(rows: int) -> _Integers:
        positive: _Integers = rng.binomial(times, 0.5, size=(rows, len(times)))
        return 2 * positive - times

    measured = _distance(together, differences.sum(axis=0))
    hits = sum(
        np.count_nonzero(_distance(together, sums) >= measured - _ROUNDING)
        for sums in _sums(signed, kinds, shuffles)
    )
    return (int(hits) + 1) / (shuffles + 1)


def compare(
    first: Result,
    second: Result,
    on: str = "raw",
    names: tuple[str, str] = ("A", "B"),
    seed: int = 0,
) -> Result:
    """Compare two systems by their results on the same documents.

    first, second (dict): As ``spacy openmed evaluate`` writes them.
    on (str): "raw" or "conll".
    names (tuple[str, str]): What messages call them.
    seed (int): Of the resamples and the shuffles.
    RETURNS (dict): "documents" and how many of them have other counts ("differing"); "systems":
        name, adapter, "f1" and its "f1_ci" of each; "difference" of the first to the second,
        in points, with "difference_ci"; "not_ahead": see ``PairedBootstrap``; "p": see
        ``approximate_randomization``; and what it was computed with.
    RAISES (OpenMedError): Not of the same data; without such scores, or written by an earlier
        version; or the counts contradict each other.
    """
    _check_same(first, second, names)
    a, b = (_counts(r, on, name) for r, name in zip((first, second), names, strict=True))
    try:
        difference = paired_bootstrap(a, b, seed=seed)
    except ValueError as error:
        raise OpenMedError(
            f"{names[0]} and {names[1]} name the same data, but their counts are not of the same "
            f"annotations ({error}). Evaluate both again, with one version of this package."
        ) from error
    return {
        **{key: first[key] for key in ("dataset", "split", "file", "data") if key in first},
        "on": on,
        "documents": len(a),
        "differing": int(np.count_nonzero((a != b).any(axis=1))),
        "systems": [
            {
                "name": name,
                "adapter": result.get("adapter"),
                "f1": f1(rows),
                "f1_ci": list(bootstrap_interval(rows, seed=seed)),
            }
            for name, result, rows in zip(names, (first, second), (a, b), strict=True)
        ],
        "difference": f1(a) - f1(b),
        "difference_ci": [difference.low, difference.high],
        "not_ahead": difference.not_ahead,
        "p": approximate_randomization(a, b, seed=seed),
        "shuffles": SHUFFLES,
        "resamples": RESAMPLES,
        "level": LEVEL,
        "seed": seed,
    }


def _check_same(first: Result, second: Result, names: tuple[str, str]) -> None:
    for result, name in zip((first, second), names, strict=True):
        if not isinstance(result.get("data"), dict) or not isinstance(result.get("raw"), dict):
            raise OpenMedError(
                f"{name} is not what 'spacy openmed evaluate --json' writes: it has no raw scores "
                f"with the hashes of the data."
            )
    subjects = [(r.get("dataset"), r.get("split")) for r in (first, second)]
    if subjects[0] != subjects[1]:
        what = [f"{split} of '{dataset}'" if dataset else "a file" for dataset, split in subjects]
        raise OpenMedError(
            f"{names[0]} is a result on {what[0]}, {names[1]} on {what[1]}. Only results on the "
            f"same documents can be compared."
        )
    differing = sorted(
        key
        for key in first["data"].keys() | second["data"].keys()
        if first["data"].get(key) != second["data"].get(key)
    )
    if differing:
        raise OpenMedError(
            f"{names[0]} and {names[1]} are of different data: {', '.join(differing)}. Evaluate "
            f"both on the same files."
        )


def _counts(result: Result, on: str, name: str) -> _Integers:
    """The counts that a result file has. RETURNS (int64[documents, 3])"""
    scores = result.get(on)
    if not isinstance(scores, dict):
        raise OpenMedError(
            f"{name} has no {on} scores: the corpus has no tokens of its own. Compare with --on "
            f"raw."
        )
    rows = scores.get("documents")
    if rows is None:
        raise OpenMedError(
            f"{name} has no counts of each document: an earlier version wrote it. Run 'spacy "
            f"openmed evaluate' again."
        )
    try:
        counts = np.array(rows, dtype=np.int64)
        whole = [scores[key] for key in ("tp", "fp", "fn")]
        sound = counts.shape == (len(rows), 3) and counts.sum(axis=0).tolist() == whole
    except (KeyError, TypeError, ValueError, OverflowError):
        sound = False
    if not sound or (counts < 0).any():
        raise OpenMedError(
            f"{name}: the counts of its documents do not add up to its {on} scores, so it was "
            f"changed by hand or cut short. Run 'spacy openmed evaluate' again."
        )
    return counts


def _paired(a: ArrayLike, b: ArrayLike) -> tuple[_Integers, _Integers]:
    first, second = np.asarray(a), np.asarray(b)
    if first.shape != second.shape:
        raise ValueError(f"Counts of {len(first)} and of {len(second)} documents.")
    parts = _parts(first), _parts(second)
    if not np.array_equal(first[:, 0] + first[:, 2], second[:, 0] + second[:, 2]):
        raise ValueError("The documents do not have as many annotations for both.")
    return parts


def _parts(counts: ArrayLike) -> _Integers:
    """What F1 is a quotient of: 2·tp and 2·tp + fp + fn of each document."""
    array = np.asarray(counts, dtype=np.int64)
    if not array.size:
        raise OpenMedError("There is no document, so there is nothing to measure.")
    tp, fp, fn = array.T
    return np.stack([2 * tp, 2 * tp + fp + fn], axis=1)


def _f1(parts: _Integers) -> _Floats:
    """F1 of each row of sums, 0 where there is no entity. RETURNS (float64[rows]): 0 to 1."""
    above, below = parts[..., 0], parts[..., 1]
    return above / np.maximum(below, 1)


def _distance(together: _Integers, difference: _Integers) -> _Floats:
    return np.abs(_f1(together + difference) - _f1(together - difference))


def _resampled(parts: _Integers, resamples: int, seed: int) -> Iterator[_Integers]:
    """Sums over resamples of the rows. YIELDS (int64[some, columns])"""
    kinds, times = np.unique(parts, axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    shares = times / len(parts)

    def drawn(rows: int) -> _Integers:
        return rng.multinomial(len(parts), shares, size=rows)

    yield from _sums(drawn, kinds, resamples)


def _sums(draw: _Draw, kinds: _Integers, rows: int) -> Iterator[_Integers]:
    """Weighted sums of the kinds, as many at a time as memory should hold.

    draw (Callable): Takes a number of rows, gives int64[rows, kinds] weights.
    YIELDS (int64[some, columns])
    """
    step = max(1, _DRAWN // len(kinds))
    for start in range(0, rows, step):
        yield draw(min(step, rows - start)) @ kinds


def _central(values: _Floats, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
