"""Perplexity of masked wordpieces, of the plain and the adapted backbone side by side.

Both predict the very same wordpieces. A backbone whose checkpoint has no masked-LM head gets
the one that ``spacy openmed dapt`` trained on it while it was frozen: with a random head every
encoder is equally bad, and any training would look like adaptation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import OpenMedError
from ..labelling import IGNORED
from ..training.samples import collate
from ..windows import pack

Progress = Callable[[int], None]
BOOTSTRAP = 1000


@dataclass(frozen=True)
class MaskedWindow:
    """A window with some wordpieces hidden.

    passage (int): Index of the passage it is from.
    ids (int64[length]): With masks put in.
    labels (int64[length]): The hidden wordpieces, -100 elsewhere.
    """

    passage: int
    ids: NDArray[np.int64]
    labels: NDArray[np.int64]


def mask(
    ids: NDArray[np.int64],
    special: Sequence[int],
    mask_id: int,
    vocabulary: int,
    probability: float,
    seed: Sequence[int],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hide wordpieces as in training (Devlin et al. 2019, section 3.1).

    Of the chosen ones 80 percent become the mask, 10 percent a random wordpiece, 10 percent
    stay. At least one is chosen where there is any.

    ids (int64[n]): A window.
    special (Sequence[int]): Ids that are never chosen.
    probability (float): Share to choose.
    seed (Sequence[int]): The same seed chooses the same, whatever came before.
    RETURNS (tuple[int64[n], int64[n]]): New ids; labels, -100 where nothing is hidden.
    """
    rng = np.random.default_rng(list(seed))
    places = np.flatnonzero(~np.isin(ids, special))
    count = min(len(places), max(1, round(probability * len(places))))
    chosen = rng.choice(places, count, replace=False)
    labels = np.full_like(ids, IGNORED)
    labels[chosen] = ids[chosen]
    new = ids.copy()
    fate = rng.random(count)
    new[chosen[fate < 0.8]] = mask_id
    swapped = chosen[(fate >= 0.8) & (fate < 0.9)]
    new[swapped] = rng.integers(0, vocabulary, len(swapped))
    return new, labels


def window_losses(
    model: Any,
    masked: Sequence[MaskedWindow],
    pad: int,
    batch_wordpieces: int = 8192,
    progress: Progress = lambda _: None,
) -> NDArray[np.float64]:
    """Sum of the losses of each window's hidden wordpieces.

    model (MaskedLM): In evaluation mode.
    progress (Progress): Called with the number of windows done since the last call.
    RETURNS (float64[windows]): Nats.
    """
    device = next(model.parameters()).device
    sums = np.zeros(len(masked))
    for batch in pack([len(w.ids) for w in masked], batch_wordpieces):
        inputs = collate(
            [{"input_ids": masked[i].ids, "labels": masked[i].labels} for i in batch], pad
        )
        with torch.inference_mode():
            losses = model.losses(
                *(inputs[name].to(device) for name in ("input_ids", "attention_mask", "labels"))
            )
        rows = np.nonzero(inputs["labels"].numpy() != IGNORED)[0]
        found = np.bincount(rows, weights=losses.double().cpu().numpy(), minlength=len(batch))
        sums[list(batch)] = found
        progress(len(batch))
    return sums


def compare(
    sums: dict[str, NDArray[np.float64]],
    masked: Sequence[MaskedWindow],
    seed: int,
    samples: int = BOOTSTRAP,
) -> dict[str, Any]:
    """Perplexities with bootstrap intervals over passages.

    sums (dict): "base", and "adapted" if there is an adapter: float64[windows], nats.
    samples (int): Bootstrap samples; each draws the same passages for both.
    RETURNS (dict): For each its perplexity and "ci", the central 95 percent; "fall" in
        percent, with "ci", if there are two; "passages" and "masked" wordpieces.
    RAISES (OpenMedError): Nothing was masked.
    """
    passage = np.array([w.passage for w in masked], dtype=np.int64)
    count = np.array([np.count_nonzero(w.labels != IGNORED) for w in masked])
    _, index = np.unique(passage, return_inverse=True)
    if not len(index) or not count.sum():
        raise OpenMedError("No passage is long enough to hide a wordpiece in.")
    passages = int(index.max()) + 1
    counts = np.bincount(index, weights=count)
    losses = {name: np.bincount(index, weights=values) for name, values in sums.items()}
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in sums}
    for _ in range(samples):
        times = np.bincount(rng.integers(0, passages, passages), minlength=passages)
        for name, values in losses.items():
            drawn[name].append(float(np.exp((times @ values) / (times @ counts))))
    result: dict[str, Any] = {
        name: {
            "perplexity": float(np.exp(values.sum() / counts.sum())),
            "ci": [float(q) for q in np.percentile(drawn[name], [2.5, 97.5])],
        }
        for name, values in losses.items()
    }
    if "adapted" in result:
        falls = 100 * (1 - np.array(drawn["adapted"]) / np.array(drawn["base"]))
        result["fall"] = {
            "percent": 100 * (1 - result["adapted"]["perplexity"] / result["base"]["perplexity"]),
            "ci": [float(q) for q in np.percentile(falls, [2.5, 97.5])],
        }
    return {**result, "passages": passages, "masked": int(counts.sum())}


def perplexity(
    backbone: str,
    texts: Sequence[Path],
    adapter: Path | None = None,
    limit: int | None = None,
    window: int = 256,
    probability: float = 0.15,
    seed: int = 0,
    progress: Callable[[str, int], Progress] = lambda _, __: lambda ___: None,
) -> dict[str, Any]:
    """Measure a backbone with and without its pre-training adapter.

    backbone (str): Id or folder.
    texts (Sequence[Path]): One passage a line, .gz allowed; none of it may have been trained on.
    adapter (Path | None): Folder that ``spacy openmed dapt`` wrote; None takes the shipped one.
    limit (int | None): Only so many passages.
    window (int): Wordpieces, special tokens included.
    probability (float): Share of wordpieces to hide.
    seed (int): Of the masks and the bootstrap.
    progress (Callable): Called with a name and a number of windows, gives what to call with
        the number of windows done.
    RETURNS (dict): See ``compare``.
    RAISES (OpenMedError): Unknown backbone, an adapter for another one, no head, no text.
    """
    from itertools import islice

    from transformers import AutoTokenizer

    from .. import backbones, pretraining
    from ..training.masked_lm import BASE_HEAD, HEAD, MaskedLM, read_passages, windows
    from ..windows import special_tokens

    ref = backbones.reference(backbone)
    folder = backbones.find(ref)
    adapter = adapter or pretraining.find(ref)
    model = MaskedLM(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    fast = backbones.load_tokenizer(folder)
    special = special_tokens(fast, int(model.config.pad_token_id or 0))
    masked = []
    for number, passage in enumerate(islice(read_passages(texts), limit)):
        for part, ids in enumerate(windows([passage], fast, special, window)):
            hidden = mask(
                ids,
                tokenizer.all_special_ids,
                tokenizer.mask_token_id,
                len(tokenizer),
                probability,
                (seed, number, part),
            )
            masked.append(MaskedWindow(number, *hidden))
    sums = {}
    if adapter is not None and not model.has_own_head:
        model.load_head(adapter / BASE_HEAD)
    elif not model.has_own_head:
        raise OpenMedError(
            f"The checkpoint of '{ref.id}' has no masked-LM head, and there is no pre-training "
            f"adapter with one: run 'spacy openmed dapt' first, or give --adapter."
        )
    sums["base"] = window_losses(model, masked, special.pad, progress=progress("base", len(masked)))
    if adapter is not None:
        found = pretraining.read(adapter)
        pretraining.verify_backbone(found, ref, str(adapter))
        pretraining.merge(model.encoder, found)
        model.load_head(adapter / HEAD)
        sums["adapted"] = window_losses(
            model.eval(), masked, special.pad, progress=progress("adapted", len(masked))
        )
    return {
        **compare(sums, masked, seed),
        "backbone": ref.to_dict(),
        "adapter": pretraining.read(adapter).sha256 if adapter is not None else None,
        "texts": {path.name: backbones.file_sha256(path) for path in texts},
        "window": window,
        "mask_probability": probability,
        "seed": seed,
    }
