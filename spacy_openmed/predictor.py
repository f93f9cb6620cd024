"""Texts to entities without spaCy: what evaluation and training machines use."""

from collections.abc import Sequence
from pathlib import Path

from . import adapters, backbones
from .adapters import Adapter
from .decoding import decode
from .entities import Entity
from .inference import Floats, Forward, SharedBackbone, shared_backbone, tag
from .windows import Encoding, encode_batch


class Predictor:
    """An adapter on its backbone.

    adapter (Adapter): The adapter.
    backbone (SharedBackbone): Its backbone.
    forward (Forward | None): Another network to run in its place; fine-tuning scores its
        live one this way.
    """

    def __init__(
        self,
        adapter: Adapter,
        backbone: SharedBackbone,
        forward: Forward | None = None,
        batch_wordpieces: int = 4096,
    ) -> None:
        self.adapter = adapter
        self.backbone = backbone
        self.forward: Forward = forward or (lambda ids, mask: backbone.logits(adapter, ids, mask))
        self.batch_wordpieces = batch_wordpieces

    @classmethod
    def load(cls, folder: Path) -> "Predictor":
        """Read an adapter folder, find and verify its backbone."""
        adapter = adapters.read(folder)
        backbone = shared_backbone(backbones.find(adapter.info.backbone))
        backbone.check(adapter, str(folder))
        return cls(adapter, backbone)

    def __call__(self, texts: Sequence[str], edges: str = "word") -> list[list[Entity]]:
        """Find the entities of some texts.

        texts (Sequence[str]): Of any length.
        edges (str): "word" or "wordpiece".
        RETURNS (list[list[Entity]]): In text order, disjoint.
        """
        info = self.adapter.info
        encodings, logits = self.tag(texts)
        return decode(texts, encodings, logits, info.types, edges, info.temperature)

    def tag(self, texts: Sequence[str]) -> tuple[list[Encoding], list[Floats]]:
        """Score the wordpieces of some texts.

        RETURNS (tuple): Encodings, and stitched float32[n, labels] logits, one a text each.
        """
        info = self.adapter.info
        encodings = encode_batch(texts, self.backbone.tokenizer)
        logits = tag(
            encodings,
            self.forward,
            self.backbone.special,
            len(info.labels),
            info.window,
            info.overlap,
            self.batch_wordpieces,
        )
        return encodings, logits
