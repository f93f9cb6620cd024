"""Masked language modelling: encoder and head, the text as windows, and their masks."""

import random
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    DataCollatorForLanguageModeling,
)
from transformers.trainer_pt_utils import LengthGroupedSampler

from ..corpora.problems import stop
from ..errors import OpenMedError
from ..labelling import IGNORED
from ..passages.inputs import text_lines
from ..windows import SpecialTokens, cut, encode_batch

# Shorter windows have next to nothing to predict a masked wordpiece from.
MIN_WORDPIECES = 20

# Batches are padded to multiples of it, which the matrix units of GPUs like.
_MULTIPLE = 8

# Files of heads in the folder of a pre-training adapter: the plain backbone's, warmed, where
# its checkpoint has none; and the one trained together with the adapter.
BASE_HEAD = "base_mlm_head.safetensors"
HEAD = "mlm_head.safetensors"


class MaskedLM(torch.nn.Module):
    """Encoder and masked-LM head, with logits for the masked positions alone.

    The stock models score the whole vocabulary at every position, which costs more than
    the encoder when the encoder is small.

    has_own_head (bool): Whether the checkpoint brought a head; else it is random.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        # Without dropout: one pass over the text cannot be overfitted, and on a CPU the
        # random masks cost as much as the arithmetic.
        config = AutoConfig.from_pretrained(
            str(folder),
            local_files_only=True,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        model, loading = AutoModelForMaskedLM.from_pretrained(
            str(folder), config=config, local_files_only=True, output_loading_info=True
        )
        model = model.float()
        prefix = model.base_model_prefix + "."
        # A decoder that is tied to the embeddings is never in a file of its own.
        self.has_own_head = all(
            name.startswith(prefix) or name.endswith("decoder.weight")
            for name in loading["missing_keys"]
        )
        self.config = model.config
        self.encoder = getattr(model, model.base_model_prefix).requires_grad_(False)
        # BERT and DeBERTa have one module after the encoder, ELECTRA two in a row.
        self.head = torch.nn.Sequential(
            *(child for name, child in model.named_children() if name != model.base_model_prefix)
        )
        for parameter in self.head.parameters():
            # The decoder is the embedding matrix and stays frozen with it.
            parameter.requires_grad_(parameter is not model.get_input_embeddings().weight)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The mean cross-entropy over masked wordpieces, in nats.

        input_ids, attention_mask, labels (int64[batch, length]): Labels are -100 where
            nothing is to be predicted.
        """
        losses = self.losses(input_ids, attention_mask, labels)
        # A short batch may have nothing masked, and the mean of nothing is NaN.
        return {"loss": losses.sum() / (labels != IGNORED).sum().clamp(min=1)}

    def losses(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Cross-entropy of each masked wordpiece, in nats.

        RETURNS (float32[masked]): In the order of the batch, row by row.
        """
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask)[0]
        masked = labels != IGNORED
        logits = self.head(hidden[masked])
        return torch.nn.functional.cross_entropy(logits.float(), labels[masked], reduction="none")

    def gradient_checkpointing_enable(self, **kwargs: Any) -> None:
        """What the Trainer asks of a model when gradient checkpointing is on."""
        self.encoder.gradient_checkpointing_enable(**kwargs)

    def save_head(self, path: Path) -> None:
        """Write the head's own weights, not the decoder that is tied to the embeddings."""
        weights = {
            name: p.detach().to("cpu", torch.float16).contiguous()
            for name, p in self.head.named_parameters()
            if p.requires_grad
        }
        save_file(weights, str(path), metadata={"format": "pt"})

    def load_head(self, path: Path) -> None:
        """Put a saved head in.

        RAISES (OpenMedError): No such file, or of another backbone.
        """
        if not path.is_file():
            raise OpenMedError(
                f"{path} is not there: a pre-training adapter has it, written by "
                f"'spacy openmed dapt'."
            )
        saved = load_file(str(path))
        wanted = {name: p for name, p in self.head.named_parameters() if p.requires_grad}
        if {n: p.shape for n, p in wanted.items()} != {n: t.shape for n, t in saved.items()}:
            raise OpenMedError(f"{path} is the head of another backbone.")
        with torch.no_grad():
            for name, tensor in saved.items():
                wanted[name].copy_(tensor)


class Windows(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Windows in one array: 4 bytes a wordpiece, however many passages there are.

    wordpieces (int): Of all windows, special tokens included.
    """

    def __init__(self, parts: Iterable[NDArray[np.int64]]) -> None:
        ids = array("i")
        ends = array("q", [0])
        for part in parts:
            ids.extend(part.tolist())
            ends.append(len(ids))
        self._ids = np.frombuffer(ids, dtype=np.int32) if ids else np.empty(0, dtype=np.int32)
        self._ends = np.frombuffer(ends, dtype=np.int64)
        self.wordpieces = len(self._ids)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = self._ids[self._ends[index] : self._ends[index + 1]]
        return {"input_ids": torch.from_numpy(ids.astype(np.int64))}

    def lengths(self) -> list[int]:
        """Wordpieces of each window."""
        lengths: list[int] = np.diff(self._ends).tolist()
        return lengths


class ByLength(LengthGroupedSampler):
    """Windows in random order, those of a batch about equally long.

    The order depends on the seed and the pass alone: a run that goes on meets the windows that
    an unbroken one meets.

    A pass has whole updates only. What is left of the windows, less than one update and others
    in every pass, is left out: the Trainer would make a smaller update of them, and a run that
    goes on in such a pass would count its updates, and the batches to skip, in another way than
    an unbroken one.

    lengths (list[int]): Wordpieces of each window.
    update (int): Windows of one update, of all processes together; about equally long.
    seed (str): Of the order, together with the pass.
    """

    def __init__(self, lengths: list[int], update: int, seed: str) -> None:
        super().__init__(update, lengths=lengths, generator=torch.Generator())
        self.seed = seed
        self.current_pass = 0

    def __len__(self) -> int:
        windows, update = len(self.lengths), int(self.batch_size)
        return windows // update * update

    def __iter__(self) -> Iterator[int]:
        self.generator.manual_seed(_number(self.seed, self.current_pass))
        return islice(super().__iter__(), len(self))

    def padding(self, batch: int, updates: int) -> float:
        """Share of all positions that hold padding, from the first pass on.

        batch (int): Windows that are padded together, of which an update has a whole number.
        updates (int): Of how many updates.
        """
        left = updates * self.batch_size
        wordpieces = positions = 0
        order = ByLength(self.lengths, self.batch_size, self.seed)
        while left > 0:
            lengths = [self.lengths[index] for index in islice(order, left)]
            for start in range(0, len(lengths), batch):
                inside = lengths[start : start + batch]
                wordpieces += sum(inside)
                positions += -max(inside) // _MULTIPLE * -_MULTIPLE * len(inside)
            left -= len(lengths)
            order.current_pass += 1
        return 1 - wordpieces / max(positions, 1)


class Masking:
    """Pads windows to a batch and hides some of their wordpieces, others in every pass.

    What is hidden depends on the seed, the pass and the batch alone. The random state at a
    checkpoint would not do: batches are made ahead of the updates that use them.

    probability (float): Share to hide.
    seed (str): Of the masks, together with pass and batch.
    wordpieces (int): Of all batches so far, without padding.
    """

    def __init__(self, tokenizer: Any, probability: float, seed: str) -> None:
        self._collate = DataCollatorForLanguageModeling(
            tokenizer, mlm_probability=probability, pad_to_multiple_of=_MULTIPLE
        )
        self.seed = seed
        self.current_pass = 0
        self.wordpieces = 0

    def __call__(self, windows: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        content = zlib.crc32(
            torch.cat([window["input_ids"] for window in windows]).numpy().tobytes()
        )
        # The generator of dropout is this one, too, and is left as it was.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(_number(self.seed, self.current_pass, content))
            batch: dict[str, torch.Tensor] = self._collate(windows)
        self.wordpieces += sum(len(window["input_ids"]) for window in windows)
        return batch


def _number(*parts: str | int) -> int:
    return random.Random(" ".join(map(str, parts))).getrandbits(63)


def read_passages(paths: Iterable[Path]) -> Iterator[str]:
    """Lines of text files, plain or gzip, blank ones left out.

    RAISES (OpenMedError): Names the file and line that is not UTF-8, or is cut short.
    """
    for path in paths:
        for _, line in text_lines(path, stop):
            if line.strip():
                yield line.strip()


def windows(
    passages: Iterable[str], tokenizer: Any, special: SpecialTokens, size: int, overlap: int = 0
) -> Iterator[NDArray[np.int64]]:
    """Passages as windows of wordpieces; those of fewer than ``MIN_WORDPIECES`` are left out.

    size, overlap (int): Wordpieces; the size counts special tokens.
    YIELDS (int64[length]): Ids, special tokens included.
    """
    chunk: list[str] = []

    def flush() -> Iterator[NDArray[np.int64]]:
        for encoding in encode_batch(chunk, tokenizer):
            for start, end in cut(len(encoding), size - special.count, overlap):
                if end - start >= MIN_WORDPIECES:
                    ids = (*special.prefix, *encoding.ids[start:end], *special.suffix)
                    yield np.asarray(ids, dtype=np.int64)
        chunk.clear()

    for passage in passages:
        chunk.append(passage)
        if len(chunk) == 1000:
            yield from flush()
    yield from flush()
