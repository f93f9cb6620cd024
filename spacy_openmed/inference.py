"""Running adapters: encodings in, stitched logits out.

Adapters on the same backbone share one copy of its weights. The active adapter's LoRA is
merged into them, W = W0 + s·B·A (Hu et al., arXiv 2106.09685, section 4.1), so inference
costs what the plain backbone costs, and switching costs a few matrix products, or nothing where
merged weights are kept.
Nothing here imports spaCy.
"""

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, WeakSet

import numpy as np
import torch
from numpy.typing import NDArray

from . import backbones, engine, low_rank
from .adapters import Adapter
from .engine.threads import divide, side_by_side, taking_turns
from .errors import OpenMedError
from .precision import resolve_inference
from .recent import RecentEncodings
from .windows import (
    Encoding,
    SpecialTokens,
    Windowing,
    cut,
    pack,
    pad,
    special_tokens,
    stitch,
)

Floats = NDArray[np.float32]
# int64[batch, length] ids and attention mask to float32[batch, length, labels]
Forward = Callable[[NDArray[np.int64], NDArray[np.int64]], Floats]


class Merged(NamedTuple):
    """What is in an engine's weights besides W0.

    task (frozenset[str]): Modules in whose weights a task's LoRA is.
    pretrained (frozenset[str]): Those in whose a pre-training's is.
    pretraining (str | None): Its sha256; "" for none, None while it is not sure.
    """

    task: frozenset[str]
    pretrained: frozenset[str]
    pretraining: str | None


class SharedBackbone:
    """A backbone that any number of adapters take turns on.

    Threads may score batches side by side, but with one adapter at a time: another is merged
    when nobody computes with the one before.

    folder (Path): Verified backbone folder.
    device (str): Torch device.
    precision (str): "fp32", "bf16", "fp16", "int8", or "auto" for what the device does well.
    compiled (bool): By torch.compile.
    """

    def __init__(
        self,
        folder: Path,
        device: str = "cpu",
        precision: str = "fp32",
        compiled: bool = False,
    ) -> None:
        self.folder = folder
        self.device = device
        self.precision = resolve_inference(precision, torch.device(device).type)
        self.tokenizer = backbones.load_tokenizer(folder)
        # W0, which never changes.
        encoder: Any = backbones.load_encoder(folder).to(device)
        self.encoder = encoder
        self.special = special_tokens(self.tokenizer, int(encoder.config.pad_token_id or 0))
        self.positions = positions(encoder)
        self._engine = engine.build(encoder, self.precision, compiled)
        self._active: Adapter | None = None
        self._merged = Merged(frozenset(), frozenset(), "")
        self._to_keep: WeakSet[Adapter] = WeakSet()
        self._kept: WeakKeyDictionary[Adapter, tuple[Merged, Any]] = WeakKeyDictionary()
        self.recent = RecentEncodings()
        # torch.compile has one compiler for all threads, a GPU threads of its own.
        self.side_by_side = torch.device(device).type == "cpu" and not compiled
        self._compiled = compiled
        self._begin_turns()

    def logits(self, adapter: Adapter, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Floats:
        """Score a batch with an adapter.

        ids, mask (int64[batch, length]): Special tokens included, padding at the end.
        RETURNS (float32[batch, length, labels]): 0 for padding.
        """
        with torch.inference_mode(), self._turn(adapter):
            hidden = self._engine(
                torch.from_numpy(ids).to(self.device), torch.from_numpy(mask).to(self.device)
            )
            scores = torch.nn.functional.linear(
                hidden.float(), adapter.weight.to(self.device), adapter.bias.to(self.device)
            )
        return engine.with_padding(scores, mask)

    def keep(self, adapter: Adapter, wanted: bool = True) -> None:
        """Have an adapter's merged weights stay in memory, as long as somebody holds it, or not."""
        with self._turns:
            if wanted:
                self._to_keep.add(adapter)
            else:
                self._to_keep.discard(adapter)
                self._kept.pop(adapter, None)

    @contextmanager
    def _turn(self, adapter: Adapter) -> Iterator[None]:
        """While it lasts the adapter stays merged."""
        with self._turns:
            # Whoever needs another adapter than the one in use goes before newcomers to that one.
            other = self._active is not adapter
            self._waiting += other
            try:
                self._turns.wait_for(
                    lambda: (
                        not self._running
                        or (self._active is adapter and (other or not self._waiting))
                    )
                )
            finally:
                self._waiting -= other
            if self._active is not adapter:
                self._activate(adapter)
            self._running += 1
        try:
            with self._alone:
                yield
        finally:
            with self._turns:
                self._running -= 1
                self._turns.notify_all()

    def after_fork(self) -> None:
        """Let go of what threads of the parent held, none of which are in the child."""
        self.recent = RecentEncodings()
        self._begin_turns()

    def _begin_turns(self) -> None:
        self._turns = threading.Condition()
        # Batches that are being computed, and threads that wait to merge another adapter.
        self._running = self._waiting = 0
        self._alone = taking_turns(self._compiled)

    def _activate(self, adapter: Adapter) -> None:
        """Put an adapter's weights in place: those that were kept, or merged anew."""
        self._active = None
        if adapter in self._kept:
            self._put_back(*self._kept[adapter])
        else:
            self._merge(adapter)
            if adapter in self._to_keep:
                self._kept[adapter] = self._merged, self._engine.weights()
        self._active = adapter

    def _put_back(self, merged: Merged, weights: Any) -> None:
        """Use weights that were kept."""
        # Noted before: what is stopped half-way is made anew by the next adapter.
        self._merged = Merged(
            self._merged.task | merged.task, self._merged.pretrained | merged.pretrained, None
        )
        self._engine.use(weights)
        self._merged = merged

    def _merge(self, adapter: Adapter) -> None:
        """Merge an adapter, and the pre-training that it builds on, into W0."""
        base = {d.path: d for d in adapter.pretraining.deltas()} if adapter.pretraining else {}
        own = {d.path: d for d in adapter.deltas()}
        sha256 = adapter.pretraining.sha256 if adapter.pretraining else ""
        if sha256 != self._merged.pretraining:
            for merged, weights in list(self._kept.values()):
                if merged.pretraining == sha256:
                    # Whose embeddings then serve both.
                    self._put_back(merged, weights)
                    break
        before = self._merged

        def weight(path: str) -> torch.Tensor:
            w0 = self.encoder.get_submodule(path).weight
            return low_rank.merged(w0, [deltas[path] for deltas in (base, own) if path in deltas])

        # Adapters share their pre-training as a rule: then it stays where no LoRA is added to it.
        changed = before.task.union(own)
        if sha256 != before.pretraining:
            changed = changed.union(before.pretrained, base)
        # Noted before, as above.
        self._merged = Merged(changed, before.pretrained.union(base), None)
        self._engine.rebuild(changed, weight)
        self._merged = Merged(frozenset(own), frozenset(base), sha256)

    def check(self, adapter: Adapter, source: str) -> None:
        """Refuse an adapter whose matrices do not fit this encoder.

        RAISES (OpenMedError): Names the first matrix that does not fit.
        """
        base = adapter.pretraining.deltas() if adapter.pretraining else ()
        for path, a, b, _ in (*base, *adapter.deltas()):
            try:
                weight = self.encoder.get_submodule(path).weight
            except AttributeError:
                weight = None
            if weight is None or tuple(weight.shape) != (b.shape[0], a.shape[1]):
                raise OpenMedError(
                    f"The adapter in {source} does not fit backbone {self.folder}: its LoRA for "
                    f"'{path}' is {b.shape[0]} × {a.shape[1]}, the backbone has "
                    f"{tuple(weight.shape) if weight is not None else 'no such layer'}."
                )
        hidden = self.encoder.config.hidden_size
        if adapter.weight.shape[1] != hidden:
            raise OpenMedError(
                f"The adapter in {source} does not fit backbone {self.folder}: its head takes "
                f"{adapter.weight.shape[1]} features, the backbone has {hidden}."
            )


def positions(encoder: torch.nn.Module) -> int | None:
    """The longest window an encoder can read; None if it has no table of positions."""
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            # RoBERTa counts from the row after that of padding.
            return module.num_embeddings - (
                module.padding_idx + 1 if module.padding_idx is not None else 0
            )
    return None


_shared: "weakref.WeakValueDictionary[tuple[str, str, str, bool], SharedBackbone]" = (
    weakref.WeakValueDictionary()
)
_shared_lock = threading.Lock()


def shared_backbone(
    folder: Path, device: str = "cpu", precision: str = "fp32", compiled: bool = False
) -> SharedBackbone:
    """The process's one copy of a backbone; it lives as long as somebody holds it.

    folder (Path): Verified backbone folder; the same weights in two folders are one.
    device (str): Torch device.
    precision (str), compiled (bool): As ``SharedBackbone`` takes them.
    """
    resolved = resolve_inference(precision, torch.device(device).type)
    key = (backbones.file_sha256(folder / backbones.WEIGHTS), device, resolved, compiled)
    with _shared_lock:
        backbone = _shared.get(key)
        if backbone is None:
            backbone = SharedBackbone(folder, device, resolved, compiled)
            _shared[key] = backbone
    return backbone


def _after_fork() -> None:
    # Torch's thread pool does not survive a fork: the child would wait for it for ever.
    # A lock held by another thread of the parent would stay locked, too.
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    global _shared_lock
    _shared_lock = threading.Lock()
    for backbone in list(_shared.values()):
        backbone.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def tag(
    encodings: Sequence[Encoding],
    forward: Forward,
    special: SpecialTokens,
    labels: int,
    windowing: Windowing,
    batch_wordpieces: int = 4096,
    threads: bool = False,
) -> list[Floats]:
    """Score the wordpieces of some texts: cut, pack, run, stitch.

    encodings (Sequence[Encoding]): Texts of any length.
    forward (Forward): The network.
    special (SpecialTokens): What it expects around a window.
    labels (int): Number of BIO labels.
    windowing (Windowing): How texts are cut.
    batch_wordpieces (int): Of what runs at a time, padding included.
    threads (bool): Run batches side by side on a CPU; ``forward`` can be called from several
        threads at once.
    RETURNS (list[float32[n, labels]]): One array a text, one row a wordpiece.
    """
    size = windowing.window - special.count
    cuts = [cut(len(e), size, windowing.overlap) for e in encodings]
    windows = [
        encoding.ids[start:end]
        for encoding, spans in zip(encodings, cuts, strict=True)
        for start, end in spans
    ]
    scores: list[Floats] = [np.zeros((0, labels), dtype=np.float32)] * len(windows)
    first = len(special.prefix)

    def run(batch: Sequence[int]) -> None:
        ids, mask = pad([windows[i] for i in batch], special)
        for index, rows in zip(batch, forward(ids, mask), strict=True):
            # Copied: a view would keep the whole batch alive until the text is decoded.
            scores[index] = rows[first : first + len(windows[index])].copy()

    lengths = [len(w) + special.count for w in windows]
    if threads:
        workers, batches = divide(lengths, batch_wordpieces)
    else:
        workers, batches = 1, pack(lengths, batch_wordpieces)
    side_by_side(run, batches, workers)
    results = []
    position = 0
    for spans in cuts:
        mine = scores[position : position + len(spans)]
        results.append(stitch(spans, mine) if mine else np.zeros((0, labels), dtype=np.float32))
        position += len(spans)
    return results
