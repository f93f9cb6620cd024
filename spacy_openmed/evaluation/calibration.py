"""Scores that mean what they say: a temperature fitted on dev, and how far scores are off.

An entity's score is the probability that exactly this span with this label is right. Logits are
divided by one number, the temperature, before they become scores (Guo et al. 2017, arXiv
1706.04599, section 4.2). Which entities are found does not depend on it: it scales the scores of
all label sequences of a text alike, and the best stays the best. The consistency that is fitted
beside it (``consistency``) does change what is found.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import adapters
from ..adapters import Adapter
from ..corpora import registry
from ..corpora.documents import Document
from ..corpora.statistics import content_hash
from ..decoding import Decoded
from ..entities import Entity
from ..errors import OpenMedError
from ..files import atomic_file
from .consistency import fit_consistency

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Needed where every entity is right, or every one wrong: the loss then falls without end. Wide,
# since label smoothing, short training and the averaging of runs each make a network far less
# sure than it could be: 0.1 has been seen.
BOUNDS = (0.05, 20.0)
BINS = 10
EDGES = "word"
DEV = "dev"

_GRID = 25
_TOLERANCE = 1e-4  # of the logarithm of the temperature


@dataclass(frozen=True)
class Judged:
    """Entities that were found, and whether they are annotated.

    scores (float64[n]): In [0, 1].
    right (bool[n]): Whether span and label both equal those of an annotated entity.
    """

    scores: NDArray[np.float64]
    right: NDArray[np.bool_]


def judge(found: Sequence[Sequence[Entity]], gold: Sequence[Sequence[Entity]]) -> Judged:
    """Compare entities with the annotated ones, document by document.

    found, gold (Sequence[Sequence[Entity]]): The same documents; disjoint within each.
    RETURNS (Judged): In the order of ``found``.
    """
    scores, right = [], []
    for entities, annotated in zip(found, gold, strict=True):
        spans = {(e.start, e.end, e.label) for e in annotated}
        scores += [e.score for e in entities]
        right += [(e.start, e.end, e.label) in spans for e in entities]
    return Judged(np.array(scores, dtype=np.float64), np.array(right, dtype=np.bool_))


def fit_temperature(judged: Callable[[float], Judged]) -> float:
    """The temperature at which scores predict best whether an entity is right, by log loss.

    Guo et al. fit it on the labels that a network predicts, here those of words. But the score
    of an entity is a product over words, and what is best for the factors need not be for it.

    judged (Callable[[float], Judged]): The entities of dev, scored at a temperature.
    RETURNS (float): Within ``BOUNDS``; at one of them if the loss falls towards it, as where
        every entity is right (lower bound) or wrong (upper bound).
    RAISES (OpenMedError): No entity was found, or SciPy is not installed.
    """
    try:
        from scipy.optimize import minimize_scalar
    except ImportError as error:
        raise OpenMedError("A temperature is fitted with SciPy: pip install scipy.") from error

    def loss(temperature: float) -> float:
        one = judged(temperature)
        return log_loss(one.scores, one.right)

    # The loss may have more than one valley: the deepest of a grid is where to look closer.
    grid = [float(temperature) for temperature in np.geomspace(*BOUNDS, _GRID)]
    best = min(range(_GRID), key=lambda index: loss(grid[index]))
    found = minimize_scalar(
        lambda logarithm: loss(float(np.exp(logarithm))),
        bounds=np.log([grid[max(best - 1, 0)], grid[min(best + 1, _GRID - 1)]]),
        method="bounded",
        options={"xatol": _TOLERANCE},
    )
    # It looks at no bound itself, and stops short of one.
    return min((grid[best], float(np.exp(found.x))), key=loss)


def log_loss(scores: ArrayLike, right: ArrayLike) -> float:
    """Mean negative log-likelihood of being right or wrong, in nats.

    scores (float[n]): In [0, 1]; 0 and 1 count as the nearest numbers between.
    right (bool[n]): Whether each is right.
    RAISES (OpenMedError): See ``reliability``.
    """
    probabilities, labels = _checked(scores, right)
    smallest = np.finfo(np.float64).eps
    probabilities = probabilities.clip(smallest, 1 - smallest)
    return float(-np.log(np.where(labels, probabilities, 1 - probabilities)).mean())


def reliability(scores: ArrayLike, right: ArrayLike, bins: int = BINS) -> dict[str, Any]:
    """How far scores are from how often they are right.

    scores (float[n]): In [0, 1].
    right (bool[n]): Whether each is right.
    bins (int): Number of bins.
    RETURNS (dict): "entities" (n), "mean_score" and "accuracy" of all; "ece", the expected
        calibration error: the mean over entities of how far the mean score of its bin is from
        the accuracy of its bin (Guo et al. 2017, equation 3); "brier" (Brier 1950, of two
        classes, the mean squared error of a score); "log_loss" in nats; and "bins", each
        "from", "to", "count", "mean_score" and "accuracy", the last two None if it is empty.
        All but counts and log loss lie in [0, 1]. "from" belongs to the bin before, 0 to the
        first.
    RAISES (OpenMedError): Nothing to judge, or a score outside [0, 1].
    """
    probabilities, labels = _checked(scores, right)
    # Of equal width, as in the paper: before and after are then the same bins, which equal
    # numbers of entities in each would move, and half of them would lie above 0.9.
    edges = np.linspace(0, 1, bins + 1)
    place = np.searchsorted(edges[1:-1], probabilities)
    rows = []
    gap = 0.0
    for index in range(bins):
        inside = place == index
        count = int(inside.sum())
        mean_score = float(probabilities[inside].mean()) if count else None
        accuracy = float(labels[inside].mean()) if count else None
        if mean_score is not None and accuracy is not None:
            gap += count * abs(mean_score - accuracy)
        rows.append(
            {
                "from": float(edges[index]),
                "to": float(edges[index + 1]),
                "count": count,
                "mean_score": mean_score,
                "accuracy": accuracy,
            }
        )
    return {
        "entities": len(labels),
        "mean_score": float(probabilities.mean()),
        "accuracy": float(labels.mean()),
        "ece": gap / len(labels),
        "brier": float(((probabilities - labels) ** 2).mean()),
        "log_loss": log_loss(probabilities, labels),
        "bins": rows,
    }


def _checked(scores: ArrayLike, right: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    probabilities = np.asarray(scores, dtype=np.float64)
    labels = np.asarray(right, dtype=np.bool_)
    if probabilities.shape != labels.shape or probabilities.ndim != 1:
        raise ValueError(f"scores are {probabilities.shape}, right is {labels.shape}")
    if not len(labels):
        raise OpenMedError(
            "No entity was found, so there are no scores to judge. Use an adapter that finds "
            "something in these texts."
        )
    outside = ~((probabilities >= 0) & (probabilities <= 1))  # not a number is outside, too
    if outside.any():
        raise OpenMedError(
            f"{probabilities[outside][0]} is no probability: a score lies between 0 and 1."
        )
    return probabilities, labels


def of_predictions(
    found: Sequence[Sequence[Entity]], gold: Sequence[Sequence[Entity]]
) -> dict[str, Any]:
    """How far the scores of predictions are off.

    found (Sequence[Sequence[Entity]]): As a predictions file has them, one list a document.
    gold (Sequence[Sequence[Entity]]): Annotated, flat, of the same documents.
    RETURNS (dict): See ``reliability``.
    RAISES (OpenMedError): See ``reliability``.
    """
    one = judge(found, gold)
    return reliability(one.scores, one.right)


def calibrate(folder: Path, dev: Sequence[Document]) -> dict[str, Any]:
    """Fit an adapter's temperature and consistency, and write them into its folder.

    They are fitted on unscaled logits, so that doing it again gives the same. What is written is
    "temperature" and "consistency" in openmed.json, which change the hash of the adapter, and
    "calibration" and "consistency" in training.json, which do not. These are missing if the
    process is killed between; doing it again mends that.

    folder (Path): Of the adapter.
    dev (Sequence[Document]): The very texts and mentions that were dev in its training.
    RETURNS (dict): "adapter" (its new hash), "dataset", "calibration" (what training.json
        has: "temperature", "split", "data" (``content_hash`` of dev), "edges", "entities"
        (found on dev), and "ece", "brier" and "log_loss", each "before", at temperature 1, and
        "after", on what it was fitted on), "consistency" (see ``fit_consistency``), and "before"
        and "after", see ``reliability``.
    RAISES (OpenMedError): No record of the training, other data than its dev, nothing found
        there, or the folder cannot be written.
    """
    # Reports use the rest of this module, and need no torch for it.
    from ..predictor import Predictor

    record, wanted = _record(adapters.read(folder), folder)
    data = content_hash(dev)
    if data != wanted:
        raise OpenMedError(
            f"These are not the texts and mentions that were dev when the adapter in {folder} was "
            f"trained (sha256 {data}, not {wanted}). A temperature is fitted on dev only: give "
            f"that."
        )
    predictor = Predictor.load(folder)
    adapter = predictor.adapter
    texts = [document.text for document in dev]
    flatten = registry.flatten(adapter.info.dataset)
    gold = [flatten(document.entities) for document in dev]
    decoded = Decoded(texts, *predictor.tag(texts), adapter.info.types, EDGES)

    def judged(temperature: float) -> Judged:
        return judge(decoded.entities(temperature), gold)

    # More digits would change the hash from machine to machine, and no score to speak of.
    temperature = round(fit_temperature(judged), 3)
    before, after = (reliability(one.scores, one.right) for one in map(judged, (1.0, temperature)))
    calibration = {
        "temperature": temperature,
        "split": DEV,
        "data": data,
        "edges": EDGES,
        "entities": after["entities"],
        **{
            name: {"before": before[name], "after": after[name]}
            for name in ("ece", "brier", "log_loss")
        },
    }
    consistency = fit_consistency(decoded, temperature, gold)
    record |= {"calibration": calibration, "consistency": consistency}
    text = json.dumps(record, indent=2) + "\n"
    calibrated = replace(
        adapter,
        info=replace(adapter.info, temperature=temperature, consistency=consistency["least"]),
        card={**adapter.card, adapters.TRAINING: text},
    )
    files = adapters.to_files(calibrated)
    # Not the whole folder: what else lies in it is not for us to remove.
    for name in (adapters.INFO, adapters.TRAINING):
        with atomic_file(folder / name) as part:
            part.write_bytes(files[name])
    return {
        "adapter": adapters.content_hash(calibrated),
        "dataset": adapter.info.dataset,
        "calibration": calibration,
        "consistency": consistency,
        "before": before,
        "after": after,
    }


def calibrate_new(folder: Path, dev: Sequence[Document], say: Callable[[str], None]) -> None:
    """``calibrate`` an adapter that was just trained, or say why it cannot be.

    say (Callable[[str], None]): Gets one line.
    """
    try:
        found = calibrate(folder, dev)
    except OpenMedError as error:
        say(f"{folder}: its scores are not calibrated: {error}")
    else:
        say(f"{folder}: {fitted(found)}, fitted on dev")


def fitted(found: dict[str, Any]) -> str:
    """What ``calibrate`` found, in a few words."""
    least = found["consistency"]["least"]
    carried = "mentions not carried" if least is None else f"mentions carried from {least:g} on"
    return f"temperature {found['calibration']['temperature']:.3f}, {carried}"


def _record(adapter: Adapter, folder: Path) -> tuple[dict[str, Any], str]:
    """The record of an adapter's training, and the hash of dev in it."""
    try:
        record: dict[str, Any] = json.loads(adapter.card[adapters.TRAINING])
        return record, str(record["data"]["dev"])
    except (ValueError, KeyError, TypeError) as error:
        raise OpenMedError(
            f"{folder / adapters.TRAINING} does not say what dev was ({error!r}), and a "
            f"temperature is fitted on that. 'spacy openmed train' writes it."
        ) from error


def plot(before: dict[str, Any], after: dict[str, Any], path: Path) -> None:
    """Draw accuracy against score, before and after calibration, with the count of each bin.

    before, after (dict): See ``reliability``.
    path (Path): A PNG; the same figures give the same bytes with the same matplotlib.
    RAISES (OpenMedError): matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise OpenMedError(
            "The plot needs matplotlib: pip install 'spacy-openmed[report]'."
        ) from error
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=[3, 1])
    for column, (name, found) in enumerate((("before", before), ("after", after))):
        _draw_accuracy(axes[0, column], found)
        _draw_counts(axes[1, column], found)
        axes[0, column].set_title(f"{name}: expected calibration error {100 * found['ece']:.1f} %")
        axes[1, column].set_xlabel("score")
    axes[0, 0].set_ylabel("share that is right")
    axes[1, 0].set_ylabel("entities")
    with atomic_file(path) as part:
        # Without the name and version of the program, which a PNG has by default.
        figure.savefig(part, format="png", dpi=150, metadata={"Software": None})


def _draw_accuracy(axes: "Axes", found: dict[str, Any]) -> None:
    shown = [row for row in found["bins"] if row["count"]]
    axes.bar(
        [row["from"] for row in shown],
        [row["accuracy"] for row in shown],
        [row["to"] - row["from"] for row in shown],
        align="edge",
        color="#9dc3e0",
        edgecolor="white",
    )
    axes.plot([0, 1], [0, 1], "--", color="#777777", linewidth=1)
    axes.plot(
        [row["mean_score"] for row in shown],
        [row["accuracy"] for row in shown],
        "o",
        color="#1b6ca8",
        markersize=4,
        clip_on=False,
    )
    axes.set(xlim=(0, 1), ylim=(0, 1))


def _draw_counts(axes: "Axes", found: dict[str, Any]) -> None:
    bars = axes.bar(
        [row["from"] for row in found["bins"]],
        [row["count"] for row in found["bins"]],
        [row["to"] - row["from"] for row in found["bins"]],
        align="edge",
        color="#bbbbbb",
        edgecolor="white",
    )
    axes.bar_label(bars, fontsize=7)
    axes.margins(y=0.2)
