"""Texts to entities without spaCy: what evaluation and training machines use."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import adapters
from .adapters import Adapter, AdapterInfo
from .checkpoints import Checkpoint, SharedCheckpoint
from .decoding import decode
from .entities import Entity
from .inference import Floats, Forward, SharedBackbone, shared_backbone, tag
from .precision import default_device
from .windows import Encoding, encode_batch, special_tokens


class NetworkPredictor:
    """Any network that scores the wordpieces of a backbone's tokenizer.

    info (AdapterInfo): Labels, window and overlap.
    backbone (SharedBackbone): Tokenizer and special tokens are taken from it.
    forward (Forward): The network.
    batch_wordpieces (int): Of what runs at a time, padding included.
    threads (bool): The network can be run from several threads at once.
    """

    def __init__(
        self,
        info: AdapterInfo,
        backbone: SharedBackbone,
        forward: Forward,
        batch_wordpieces: int = 4096,
        threads: bool = False,
    ) -> None:
        self.info = info
        self.backbone = backbone
        self.forward = forward
        self.batch_wordpieces = batch_wordpieces
        self.threads = threads

    def __call__(self, texts: Sequence[str], edges: str = "word") -> list[list[Entity]]:
        """Find the entities of some texts.

        texts (Sequence[str]): Of any length.
        edges (str): "word" or "wordpiece".
        RETURNS (list[list[Entity]]): In text order, disjoint.
        """
        encodings, logits = self.tag(texts)
        info = self.info
        return decode(
            texts,
            encodings,
            logits,
            info.types,
            edges,
            info.temperature,
            consistency=info.consistency,
        )

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """The wordpieces of some texts."""
        return encode_batch(texts, self.backbone.tokenizer)

    def tag(self, texts: Sequence[str]) -> tuple[list[Encoding], list[Floats]]:
        """Score the wordpieces of some texts.

        RETURNS (tuple): Encodings, and stitched float32[n, labels] logits, one a text each.
        """
        encodings = self.encode(texts)
        logits = tag(
            encodings,
            self.forward,
            self.backbone.special,
            len(self.info.labels),
            self.info.windowing,
            self.batch_wordpieces,
            self.threads,
        )
        return encodings, logits


class Predictor(NetworkPredictor):
    """An adapter on its backbone."""

    def __init__(
        self, adapter: Adapter, backbone: SharedBackbone, batch_wordpieces: int = 4096
    ) -> None:
        self.adapter = adapter

        def forward(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Floats:
            return backbone.logits(adapter, ids, mask)

        threads = backbone.side_by_side
        super().__init__(adapter.info, backbone, forward, batch_wordpieces, threads)

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """As before, but once for all adapters on a backbone that are given the same texts."""
        return self.backbone.recent.encode(texts, self.backbone.tokenizer)

    @classmethod
    def load(cls, folder: Path, precision: str = "fp32") -> "Predictor":
        """Read an adapter folder, find and verify its backbone.

        precision (str): As ``SharedBackbone`` takes it.
        """
        adapter = adapters.read(folder)
        backbone = shared_backbone(adapter.find_backbone(), default_device(), precision)
        backbone.check(adapter, str(folder))
        return cls(adapter, backbone)


class CheckpointPredictor:
    """A token-classification checkpoint, run as it is.

    checkpoint (Checkpoint): Labels and tokenizer are taken from it.
    network (SharedCheckpoint): Its network.
    batch_wordpieces (int): Of what runs at a time, padding included.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        network: SharedCheckpoint,
        batch_wordpieces: int = 4096,
    ) -> None:
        self.checkpoint = checkpoint
        self.network = network
        self.batch_wordpieces = batch_wordpieces

    def __call__(self, texts: Sequence[str], edges: str = "word") -> list[list[Entity]]:
        """Find the entities of some texts; see ``NetworkPredictor``."""
        network, scheme = self.network, self.checkpoint.scheme
        tokenizer = self.checkpoint.tokenizer
        encodings = network.recent.encode(texts, tokenizer)
        logits = tag(
            encodings,
            network.logits,
            special_tokens(tokenizer, network.pad),
            scheme.count,
            network.windowing(),
            self.batch_wordpieces,
            network.side_by_side,
        )
        in_bio = [
            self.checkpoint.to_bio(text, encoding, rows, edges)
            for text, encoding, rows in zip(texts, encodings, logits, strict=True)
        ]
        return decode(texts, encodings, in_bio, scheme.types, edges)
