"""Texts to entities without spaCy: what evaluation and training machines use."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from . import adapters
from .adapters import Adapter, AdapterInfo
from .checkpoints import Checkpoint, SharedCheckpoint
from .entities import Entity
from .heads import Head, of_adapter, of_checkpoint, of_network
from .inference import Floats, Forward, SharedBackbone, shared_backbone
from .precision import default_device
from .windows import Encoding, SpecialTokens, encode_batch, special_tokens

Encode = Callable[[Sequence[str]], list[Encoding]]


class HeadPredictor:
    """A head, and how its network reads text.

    head (Head): Labels, windows and network.
    special (SpecialTokens): What the network expects around a window.
    encode (Encode): Makes wordpieces of texts.
    batch_wordpieces (int): Of what runs at a time, padding included.
    """

    def __init__(
        self, head: Head, special: SpecialTokens, encode: Encode, batch_wordpieces: int = 4096
    ) -> None:
        self.head = head
        self.special = special
        self.encode = encode
        self.batch_wordpieces = batch_wordpieces

    def __call__(self, texts: Sequence[str], edges: str = "word") -> list[list[Entity]]:
        """Find the entities of some texts.

        texts (Sequence[str]): Of any length.
        edges (str): "word" or "wordpiece".
        RETURNS (list[list[Entity]]): In text order, disjoint.
        """
        return self.head.decode(texts, *self.tag(texts), edges)

    def tag(self, texts: Sequence[str]) -> tuple[list[Encoding], list[Floats]]:
        """Score the wordpieces of some texts.

        RETURNS (tuple): Encodings, and stitched float32[n, labels] logits, one a text each.
        """
        encodings = self.encode(texts)
        return encodings, self.head.tag(encodings, self.special, self.batch_wordpieces)


class NetworkPredictor(HeadPredictor):
    """Any network that scores the wordpieces of a backbone's tokenizer.

    info (AdapterInfo): Labels, window and overlap.
    backbone (SharedBackbone): Tokenizer and special tokens are taken from it.
    forward (Forward): The network.
    """

    def __init__(self, info: AdapterInfo, backbone: SharedBackbone, forward: Forward) -> None:
        encode = partial(encode_batch, tokenizer=backbone.tokenizer)
        super().__init__(of_network(info, forward), backbone.special, encode)


class Predictor(HeadPredictor):
    """An adapter on its backbone."""

    def __init__(
        self, adapter: Adapter, backbone: SharedBackbone, batch_wordpieces: int = 4096
    ) -> None:
        super().__init__(
            of_adapter(adapter, backbone),
            backbone.special,
            # Once for all adapters on a backbone that are given the same texts.
            lambda texts: backbone.recent.encode(texts, backbone.tokenizer),
            batch_wordpieces,
        )
        self.adapter = adapter
        self.info = adapter.info
        self.backbone = backbone

    @classmethod
    def load(cls, folder: Path, precision: str = "fp32") -> "Predictor":
        """Read an adapter folder, find and verify its backbone.

        precision (str): As ``SharedBackbone`` takes it.
        """
        adapter = adapters.read(folder)
        backbone = shared_backbone(adapter.find_backbone(), default_device(), precision)
        backbone.check(adapter, str(folder))
        return cls(adapter, backbone)


class CheckpointPredictor(HeadPredictor):
    """A token-classification checkpoint, run as it is.

    checkpoint (Checkpoint): Labels and tokenizer are taken from it.
    network (SharedCheckpoint): Its network.
    """

    def __init__(self, checkpoint: Checkpoint, network: SharedCheckpoint) -> None:
        tokenizer = checkpoint.tokenizer
        super().__init__(
            of_checkpoint(checkpoint, network),
            special_tokens(tokenizer, network.pad),
            lambda texts: network.recent.encode(texts, tokenizer),
        )
