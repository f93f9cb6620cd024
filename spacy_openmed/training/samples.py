"""Annotated documents to training windows, and windows to batches."""

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler

from ..corpora.documents import Document
from ..entities import Entity
from ..labelling import IGNORED, Flatten, label_wordpieces, outermost
from ..windows import SpecialTokens, cut, encode_batch, owned

Sample = dict[str, NDArray[np.int64]]

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9(\[])|\n+")


def samples(
    documents: Iterable[Document],
    tokenizer: Any,
    special: SpecialTokens,
    label_ids: Mapping[str, int],
    window: int,
    overlap: int,
    sentences: bool,
    flatten: Flatten = outermost,
) -> list[Sample]:
    """Make training windows with the encode and cut of inference.

    sentences (bool): Add the sentences of each document as samples of their own.
    flatten (Flatten): What is done about nested entities.
    RETURNS (list[dict]): "input_ids" and "labels", int64[length] each, special tokens
        included and labelled -100.
    """
    pieces: list[tuple[str, list[Entity]]] = []
    for document in documents:
        flat = flatten(document.entities)
        pieces.append((document.text, flat))
        if sentences:
            parts = list(split_sentences(document.text, flat))
            if len(parts) > 1:
                pieces.extend(parts)
    found = []
    encodings = encode_batch([text for text, _ in pieces], tokenizer)
    for (_, entities), encoding in zip(pieces, encodings, strict=True):
        labels = label_wordpieces(encoding, entities, label_ids)
        windows = cut(len(encoding), window - special.count, overlap)
        for (start, end), (begin, stop) in zip(windows, owned(windows), strict=True):
            # The neighbour answers for the rest of the overlap, here as at run time.
            targets = np.full(end - start, IGNORED, dtype=np.int64)
            targets[begin - start : stop - start] = labels[begin:stop]
            found.append(
                {
                    "input_ids": np.array(
                        [*special.prefix, *encoding.ids[start:end], *special.suffix]
                    ),
                    "labels": np.array(
                        [
                            *[IGNORED] * len(special.prefix),
                            *targets,
                            *[IGNORED] * len(special.suffix),
                        ]
                    ),
                }
            )
    return found


def split_sentences(text: str, entities: Sequence[Entity]) -> Iterator[tuple[str, list[Entity]]]:
    """Cut a text at likely ends of sentences, never inside an entity.

    A rule good enough for variety in training; nothing at run time depends on it.
    """
    cuts = [0]
    for match in _SENTENCE_END.finditer(text):
        if not any(e.start < match.end() and match.start() < e.end for e in entities):
            cuts.append(match.end())
    for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True):
        inside = [
            e._replace(start=e.start - start, end=e.end - start)
            for e in entities
            if start <= e.start and e.end <= end
        ]
        if text[start:end].strip():
            yield text[start:end], inside


def collate(batch: Sequence[Sample], pad: int) -> dict[str, torch.Tensor]:
    """Pad a batch to its longest window.

    RETURNS (dict): "input_ids", "attention_mask", "labels": int64[batch, length].
    """
    longest = max(len(sample["input_ids"]) for sample in batch)
    ids = np.full((len(batch), longest), pad, dtype=np.int64)
    mask = np.zeros_like(ids)
    labels = np.full_like(ids, IGNORED)
    for row, sample in enumerate(batch):
        length = len(sample["input_ids"])
        ids[row, :length] = sample["input_ids"]
        mask[row, :length] = 1
        labels[row, :length] = sample["labels"]
    return {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy(mask),
        "labels": torch.from_numpy(labels),
    }


@dataclass(frozen=True)
class Share:
    """What one of several processes has of every batch, padded.

    All processes are given the same batch. The mean of their gradients is that of the batch,
    over its labelled wordpieces, once each has multiplied its loss by "weight".

    pad (int): Wordpiece to pad with.
    process, processes (int): Which one, of how many.
    """

    pad: int
    process: int = 0
    processes: int = 1

    def __call__(self, batch: Sequence[Sample]) -> dict[str, torch.Tensor]:
        """Pad the share.

        RETURNS (dict): As ``collate``'s; and "weight", float32[]: the share's labelled
            wordpieces by the batch's, times the processes.
        """
        # The windows of a batch come by length: every process has short and long ones.
        mine = batch[self.process :: self.processes]
        weight = self.processes * _labelled(mine) / max(1, _labelled(batch))
        # All take every step together: who has no window computes on one that does not count.
        mine = mine or [{**batch[0], "labels": np.full_like(batch[0]["labels"], IGNORED)}]
        return {**collate(mine, self.pad), "weight": torch.tensor(weight, dtype=torch.float32)}


def _labelled(batch: Sequence[Sample]) -> int:
    return sum(int((sample["labels"] != IGNORED).sum()) for sample in batch)


class BatchSampler(Sampler[list[int]]):
    """Batches of windows of similar length that hold about equally many wordpieces.

    A batch of a fixed number of windows would be mostly padding where documents and
    sentences meet, or a tenth of the usual size where only sentences do. The number of
    batches is the same in every epoch, which learning-rate schedules rely on.

    lengths (Sequence[int]): Wordpieces of each window.
    budget (int): Wordpieces a batch, about.
    seed (int): Of the order, together with the epoch.
    current_pass (int): The epoch, from 0.
    """

    def __init__(self, lengths: Sequence[int], budget: int, seed: int) -> None:
        self.lengths = np.asarray(lengths)
        batches = max(1, round(float(self.lengths.sum()) / budget))
        self.count = min(batches, len(self.lengths))
        self.seed = seed
        self.current_pass = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng((self.seed, self.current_pass))
        # A little noise in the lengths mixes the batches from epoch to epoch.
        order = np.argsort(self.lengths * rng.uniform(0.8, 1.25, len(self.lengths)))
        total = np.cumsum(self.lengths[order])
        group = np.minimum((total - 1) * self.count // total[-1], self.count - 1)
        # A window longer than a batch's share leaves groups empty: they take from the next.
        index = np.arange(self.count)
        starts = np.maximum.accumulate(np.searchsorted(group, index) - index) + index
        starts = np.minimum(starts, len(order) - self.count + index)
        batches = np.split(order, starts[1:])
        random.Random(f"{self.seed} {self.current_pass}").shuffle(batches)
        yield from (batch.tolist() for batch in batches)
