"""The labels of any token-classification checkpoint, read as BIO.

| labels | read as |
|---|---|
| O, B-X, I-X | BIO, in any order |
| O, B-X, I-X, E-X, S-X (also L, U, M) | BIO: what begins an entity, and what goes on with it |
| O, I-X, or O, X | one label a type: neighbouring words of a type are one entity |

IOB1 that has a B-X as well cannot be told from BIO by its labels, and is read as BIO. Types are
upper-cased. Nothing here imports spaCy or torch.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .decoding import Units
from .errors import OpenMedError

Floats = NDArray[np.float32]

_TAG = re.compile(r"([BIESLUM])[-_](.+)")
_BEGIN = "BSU"
_LETTER = re.compile(r"[BIESLUM]")
_LETTER_LAST = re.compile(r".+[-_][BIESLUM]")
# Log-probability of what a wordpiece cannot be: no mass is left to it, also as the mean over the
# wordpieces of a long word, and float32 still keeps four digits beside it. Not minus infinity,
# of which the decoder would make NaN.
_NEVER = np.float32(-1e3)


@dataclass(frozen=True)
class LabelScheme:
    """Which of a checkpoint's labels mean what.

    types (tuple[str, ...]): The t entity types, upper case, as they first appear.
    count (int): Labels of the checkpoint.
    outside (int): Index of "O".
    begins, insides (tuple[tuple[int, ...], ...]): For each type the labels that begin an entity
        and those that go on with it; where one of the two is empty, the type has one label only.
    """

    types: tuple[str, ...]
    count: int
    outside: int
    begins: tuple[tuple[int, ...], ...]
    insides: tuple[tuple[int, ...], ...]

    @property
    def is_bio(self) -> bool:
        """Whether the labels are those of BIO, in whatever order."""
        return all(len(ids) == 1 for ids in (*self.begins, *self.insides))

    def to_bio(self, logits: Floats, text_units: Units) -> Floats:
        """Scores of the labels that the decoder knows.

        BIO is put in order and nothing else. Of other schemes probabilities are added: what
        begins an entity is B-X, what goes on with it I-X. The first wordpiece of a word alone
        can begin an entity, so in the others every label of X says I-X.

        Where X has one label, whether a word begins an entity is not for the label to say: it
        goes on with the entity if the word before is most probably X as well, and otherwise
        begins one. That form gets all of the probability and the other none, so that it is
        counted once, and entities are the runs of words that are most probably X.

        logits (float32[n, count]): One row a wordpiece.
        text_units (Units): The words that the decoder makes of the wordpieces.
        RETURNS (float32[n, 2t + 1]): Labels as ``bio_labels`` orders them.
        """
        if self.is_bio:
            pairs = zip(self.begins, self.insides, strict=True)
            return logits[:, [self.outside, *(i for pair in pairs for (i,) in pair)]]
        log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        # O and each type, whatever the label says of its position.
        whole = np.stack(
            [log_probs[:, self.outside]]
            + [_sum(log_probs, b + i) for b, i in zip(self.begins, self.insides, strict=True)],
            axis=1,
        )
        opens = text_units.kept[text_units.pieces[:-1]]
        first = np.zeros(len(logits), dtype=bool)
        first[opens] = True
        before = np.zeros(len(logits), dtype=np.int64)
        before[opens[1:]] = _best(whole, text_units)[:-1]
        bio = np.full((len(logits), 2 * len(self.types) + 1), _NEVER, dtype=np.float32)
        bio[:, 0] = whole[:, 0]
        for index, (begins, insides) in enumerate(zip(self.begins, self.insides, strict=True)):
            all_of_type = whole[:, index + 1]
            if begins and insides:
                begin, inside = _sum(log_probs, begins), _sum(log_probs, insides)
            else:
                goes_on = before == index + 1
                begin = np.where(goes_on, _NEVER, all_of_type)
                inside = np.where(goes_on, all_of_type, _NEVER)
            bio[first, 2 * index + 1] = begin[first]
            bio[:, 2 * index + 2] = np.where(first, inside, all_of_type)
        return bio


def _sum(log_probs: Floats, ids: tuple[int, ...]) -> Floats:
    total: Floats = np.logaddexp.reduce(log_probs[:, ids], axis=1)
    return total


def _best(whole: Floats, text_units: Units) -> NDArray[np.int64]:
    """For each unit the most probable column, by the mean over its wordpieces."""
    if not len(text_units):
        return np.zeros(0, dtype=np.int64)
    scores = np.add.reduceat(whole[text_units.kept], text_units.pieces[:-1], axis=0)
    best: NDArray[np.int64] = scores.argmax(axis=1)
    return best


def read_labels(id2label: Mapping[int, str], source: str) -> LabelScheme:
    """Find out what labels mean.

    id2label (Mapping[int, str]): Of config.json.
    source (str): Where they come from, for messages.
    RAISES (OpenMedError): They cannot be read as BIO; lists them and says why.
    """
    names = [id2label[index].upper() for index in sorted(id2label)]
    others = [name for name in names if name != "O"]
    tags = [_TAG.fullmatch(name) for name in others]
    reason = _fault(id2label, others, [tag is not None for tag in tags])
    if reason:
        raise OpenMedError(
            f"{source} has the labels {', '.join(id2label[i] for i in sorted(id2label))}: {reason} "
            f"Labels must be 'O' and B-X, I-X for each type X (BIOES, I-X alone and X alone are "
            f"read as well). If you know what they mean, correct id2label in config.json."
        )
    begins: dict[str, list[int]] = {}
    insides: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        if name == "O":
            continue
        letter, kind = name.split(name[1], 1) if any(tags) else ("I", name)
        begins.setdefault(kind, [])
        insides.setdefault(kind, [])
        (begins if letter in _BEGIN else insides)[kind].append(index)
    return LabelScheme(
        tuple(begins),
        len(names),
        names.index("O"),
        tuple(map(tuple, begins.values())),
        tuple(map(tuple, insides.values())),
    )


def _fault(id2label: Mapping[int, str], others: list[str], tagged: list[bool]) -> str:
    """Why labels cannot be read, "" if they can. Labels are in upper case, without O."""
    if sorted(id2label) != list(range(len(id2label))):
        return "they are not numbered from 0 on."
    if len(id2label) - len(others) != 1:
        return "not exactly one of them is 'O'."
    if not others:
        return "there is no entity type."
    if len(set(others)) < len(others):
        return "two of them differ in upper and lower case only."
    if all(tagged):
        return ""
    if any(tagged):
        return "some begin with B-, I- and the like, others do not."
    letters = any(_LETTER.fullmatch(name) for name in others)
    if letters or all(_LETTER_LAST.fullmatch(name) for name in others):
        return "the type must follow the letter, as in B-X."
    return ""
