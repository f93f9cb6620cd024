"""Logits to entities: BIO decoding on words.

Wordpiece logits become word log-probabilities, the best BIO sequence is found by the
Viterbi algorithm, and every entity gets the probability the model gives it. Where an adapter asks
for it, mentions are carried to the same words elsewhere in the text (``repeats``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .atoms import atom_spans
from .entities import Entity
from .repeats import Mention, carried
from .windows import Encoding

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


def bio_labels(types: Sequence[str]) -> list[str]:
    """The head's labels for some entity types: "O", then "B-" and "I-" of each.

    The order is fixed, since the decoder finds B-X at 2i + 1 and I-X at 2i + 2.
    """
    return ["O", *(f"{prefix}-{name}" for name in types for prefix in "BI")]


@dataclass(frozen=True)
class Units:
    """What BIO labels are decoded on: atoms (words), joined where a wordpiece spans two.

    starts, ends (int32[u]): Character offsets.
    pieces (int32[u + 1]): Unit i is made of wordpieces kept[pieces[i]:pieces[i + 1]].
    kept (int32[k]): Wordpieces that stand for some atom; the others (control characters)
        have no say.
    """

    starts: Ints
    ends: Ints
    pieces: Ints
    kept: Ints

    def __len__(self) -> int:
        return len(self.starts)

    def words(self, text: str) -> list[str]:
        """The units of the text that they were made of, as strings."""
        edges = zip(self.starts.tolist(), self.ends.tolist(), strict=True)
        return [text[start:end] for start, end in edges]


def units(text: str, encoding: Encoding, edges: str = "word") -> Units:
    """Group a text's wordpieces into units.

    text (str): The text.
    encoding (Encoding): Its wordpieces.
    edges (str): See ``atoms.atom_spans``.
    RETURNS (Units): In text order; atoms without a wordpiece are left out.
    """
    starts, ends = atom_spans(text, edges)
    first = np.searchsorted(ends, encoding.starts, side="right")
    last = np.searchsorted(starts, encoding.ends, side="left") - 1
    kept = np.flatnonzero((first <= last) & (encoding.starts < encoding.ends))
    first, last = first[kept], last[kept]
    if not len(kept):
        empty = np.zeros(0, dtype=np.int32)
        return Units(empty, empty, np.zeros(1, dtype=np.int32), empty)
    # A wordpiece opens a unit unless an earlier one already reached its first atom.
    reached = np.maximum.accumulate(last)
    opens = np.ones(len(kept), dtype=bool)
    opens[1:] = first[1:] > reached[:-1]
    begin = np.flatnonzero(opens)
    stop = np.append(begin[1:], len(kept))
    return Units(
        starts=starts[first[begin]],
        ends=ends[reached[stop - 1]],
        pieces=np.append(begin, len(kept)).astype(np.int32),
        kept=kept.astype(np.int32),
    )


def unit_log_probs(logits: Floats, text_units: Units) -> Floats:
    """Log-probabilities of BIO labels on units, from those on wordpieces.

    A unit's label spells out its wordpieces': "B-X" is B-X and then I-X, every other label
    repeats itself. Its score is the mean log-probability over the wordpieces, normalised
    over the labels; for a unit of one wordpiece this is the model's own softmax.

    logits (float32[n, 2t + 1]): One row a wordpiece, labels as ``bio_labels`` orders them.
    RETURNS (float32[u, 2t + 1])
    """
    if not len(text_units):
        return np.zeros((0, logits.shape[1]), dtype=np.float32)
    pieces = _log_softmax(logits[text_units.kept])
    begin = text_units.pieces[:-1]
    scores = np.add.reduceat(pieces, begin, axis=0)
    scores[:, 1::2] = scores[:, 2::2] + pieces[begin, 1::2] - pieces[begin, 2::2]
    counts = np.diff(text_units.pieces)[:, None]
    return _log_softmax(np.divide(scores, counts, dtype=np.float32))


def _log_softmax(scores: Floats) -> Floats:
    shifted = scores - scores.max(axis=1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def best_paths(log_probs: Sequence[Floats]) -> list[Ints]:
    """The most probable valid BIO sequence of each text (Viterbi).

    Valid means that I-X follows B-X or I-X only. All texts advance together, one unit a
    step, so that the Python loop is as long as the longest text rather than all of them.

    log_probs (Sequence[float32[u, 2t + 1]]): One array a text.
    RETURNS (list[int32[u]]): Label indices.
    """
    lengths = np.array([len(scores) for scores in log_probs], dtype=np.int64)
    paths = [np.zeros(n, dtype=np.int32) for n in lengths]
    order = np.argsort(-lengths, kind="stable")
    order = order[lengths[order] > 0]
    if not len(order):
        return paths
    lengths = lengths[order]
    offsets = np.cumsum(lengths) - lengths
    flat = np.concatenate([log_probs[i] for i in order])
    longest = int(lengths[0])
    active = np.searchsorted(-lengths, -np.arange(longest), side="left")

    # Only two things are remembered of a step: the best label before it, which O and every
    # B-X come from, and whether I-X came from I-X or from B-X.
    before = np.zeros(len(flat), dtype=np.int32)
    inside = np.zeros((len(flat), (flat.shape[1] - 1) // 2), dtype=bool)
    state = flat[offsets].copy()
    state[:, 2::2] = -np.inf
    final = np.zeros(len(order), dtype=np.int64)
    for step in range(1, longest):
        count = active[step]
        ended = slice(count, len(state))
        final[ended] = state[ended].argmax(axis=1)
        state = state[:count]
        rows = offsets[:count] + step
        before[rows] = state.argmax(axis=1)
        top = state.max(axis=1, keepdims=True)
        begun, continued = state[:, 1::2], state[:, 2::2]
        inside[rows] = continued > begun
        scores = flat[rows]
        # Scores are kept relative to the best: sums over a book would lose all precision.
        scores[:, 2::2] += np.maximum(begun, continued) - top
        state = scores
    final[: len(state)] = state.argmax(axis=1)

    labels = np.zeros(len(flat), dtype=np.int32)
    for text in range(len(order)):
        label = int(final[text])
        offset = int(offsets[text])
        for row in range(offset + int(lengths[text]) - 1, offset, -1):
            labels[row] = label
            if label > 0 and label % 2 == 0:
                if not inside[row, label // 2 - 1]:
                    label -= 1
            else:
                label = int(before[row])
        labels[offset] = label
    for text, index in enumerate(order):
        paths[index] = labels[offsets[text] : offsets[text] + lengths[text]]
    return paths


def decode(
    texts: Sequence[str],
    encodings: Sequence[Encoding],
    logits: Sequence[Floats],
    types: Sequence[str],
    edges: str = "word",
    temperature: float = 1.0,
    threshold: float | Mapping[str, float] = 0.0,
    consistency: float | None = None,
) -> list[list[Entity]]:
    """Find the entities of some texts.

    texts (Sequence[str]): The texts.
    encodings (Sequence[Encoding]): Their wordpieces.
    logits (Sequence[float32[n, 2t + 1]]): One row a wordpiece.
    types (Sequence[str]): The t entity types, in the order of the head's labels.
    edges (str): "word" or "wordpiece": where entities may begin and end.
    temperature, threshold, consistency: See ``Decoded.entities``.
    RETURNS (list[list[Entity]]): In text order, disjoint.
    """
    decoded = Decoded(texts, encodings, logits, types, edges)
    return decoded.entities(temperature, threshold, consistency)


class Decoded:
    """What was found in some texts; how sure that is depends on a temperature.

    The parameters are those of ``decode``.
    """

    def __init__(
        self,
        texts: Sequence[str],
        encodings: Sequence[Encoding],
        logits: Sequence[Floats],
        types: Sequence[str],
        edges: str = "word",
    ) -> None:
        self._texts = texts
        self._units = [units(t, e, edges) for t, e in zip(texts, encodings, strict=True)]
        self._log_probs = [
            unit_log_probs(rows, u) for rows, u in zip(logits, self._units, strict=True)
        ]
        # A temperature scales all sequences' log-probabilities alike: the best stays the best.
        self._paths = best_paths(self._log_probs)
        self._types = types

    def entities(
        self,
        temperature: float = 1.0,
        threshold: float | Mapping[str, float] = 0.0,
        consistency: float | None = None,
    ) -> list[list[Entity]]:
        """The entities with their scores.

        The score of an entity is the probability, under the model's label distributions on
        units taken as independent, of exactly this span with this label: P(B-X) of its first
        unit, times P(I-X) of each further one, times 1 - P(I-X) of the unit after it. One that
        was carried has the score of the one it repeats.

        temperature (float): Logits are divided by it (calibration, Guo et al. 2017).
        threshold (float | Mapping[str, float]): Entities with a lower score are dropped; a
            mapping gives one per label, and labels not in it have none.
        consistency (float | None): Entities with at least this score are carried to the same
            words elsewhere in the text, see ``repeats``; None carries none.
        RETURNS (list[list[Entity]]): One list a text, in text order, disjoint.
        """
        found = []
        for text, u, rows, path in zip(
            self._texts, self._units, self._log_probs, self._paths, strict=True
        ):
            mentions = _mentions(_scaled(rows, temperature), path)
            if consistency is not None and mentions:
                mentions = sorted([*mentions, *carried(u.words(text), mentions, consistency)])
            entities = [_entity(u, mention, self._types) for mention in mentions]
            found.append([e for e in entities if e.score >= _limit(threshold, e.label)])
        return found


def _scaled(log_probs: Floats, temperature: float) -> Floats:
    """The log-probabilities of logits divided by a temperature, from those of the logits."""
    if temperature == 1 or not len(log_probs):
        return log_probs
    return _log_softmax(log_probs / np.float32(temperature))


def _limit(threshold: float | Mapping[str, float], label: str) -> float:
    return threshold.get(label, 0.0) if isinstance(threshold, Mapping) else threshold


def _mentions(log_probs: Floats, path: Ints) -> list[Mention]:
    mentions = []
    for first in np.flatnonzero(path % 2 == 1):
        inside = path[first] + 1
        stop = int(first) + 1
        while stop < len(path) and path[stop] == inside:
            stop += 1
        log_prob = log_probs[first, inside - 1] + log_probs[first + 1 : stop, inside].sum()
        score = float(np.exp(log_prob))
        if stop < len(path):
            score *= 1.0 - float(np.exp(log_probs[stop, inside]))
        kind = int(inside) // 2 - 1
        mentions.append(Mention(int(first), stop, kind, min(max(score, 0.0), 1.0)))
    return mentions


def _entity(u: Units, mention: Mention, types: Sequence[str]) -> Entity:
    start, end = int(u.starts[mention.first]), int(u.ends[mention.stop - 1])
    return Entity(start, end, types[mention.kind], mention.score)
