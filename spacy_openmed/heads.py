"""A head: one set of labels that a network scores, from wordpieces to entities.

Adapters on a backbone have one each, a checkpoint has one. Nothing here imports spaCy.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from .adapters import Adapter, AdapterInfo
from .checkpoints import Checkpoint, SharedCheckpoint
from .decoding import decode
from .entities import Entity
from .inference import Floats, Forward, SharedBackbone, tag
from .windows import Encoding, SpecialTokens, Windowing

# A text, its encoding, its logits and the config's "edges" to logits in BIO.
ToBio = Callable[[str, Encoding, Floats, str], Floats]


def _as_it_is(text: str, encoding: Encoding, logits: Floats, edges: str) -> Floats:
    return logits


@dataclass(frozen=True)
class Head:
    """One set of labels, and what scores them.

    types (tuple[str, ...]): Entity types.
    count (int): Labels that the network scores.
    forward (Forward): The network.
    windowing (Windowing): How texts are cut.
    temperature (float): The logits are divided by it.
    consistency (float | None): Mentions with at least this score are carried to the same words
        elsewhere in the text.
    to_bio (ToBio): Makes of its logits those of the labels that the decoder knows.
    threads (bool): The network may score batches side by side.
    dataset (str): Id of the corpus that it was trained on, "" if there is none.
    """

    types: tuple[str, ...]
    count: int
    forward: Forward
    windowing: Windowing
    temperature: float = 1.0
    consistency: float | None = None
    to_bio: ToBio = _as_it_is
    threads: bool = False
    dataset: str = ""

    def tag(
        self, encodings: Sequence[Encoding], special: SpecialTokens, batch_wordpieces: int
    ) -> list[Floats]:
        """Score the wordpieces of some texts; see ``inference.tag``.

        RETURNS (list[float32[n, count]]): One array a text.
        """
        return tag(
            encodings,
            self.forward,
            special,
            self.count,
            self.windowing,
            batch_wordpieces,
            self.threads,
        )

    def decode(
        self,
        texts: Sequence[str],
        encodings: Sequence[Encoding],
        logits: Sequence[Floats],
        edges: str = "word",
        threshold: float | Mapping[str, float] = 0.0,
    ) -> list[list[Entity]]:
        """Find the entities in what ``tag`` gave; see ``decoding.decode``."""
        in_bio = [
            self.to_bio(text, encoding, rows, edges)
            for text, encoding, rows in zip(texts, encodings, logits, strict=True)
        ]
        return decode(
            texts,
            encodings,
            in_bio,
            self.types,
            edges,
            self.temperature,
            threshold,
            self.consistency,
        )


def of_network(info: AdapterInfo, forward: Forward, threads: bool = False) -> Head:
    """The head of whatever network scores the labels of an adapter.

    threads (bool): It can be run from several threads at once.
    """
    return Head(
        info.types,
        len(info.labels),
        forward,
        info.windowing,
        info.temperature,
        info.consistency,
        threads=threads,
        dataset=info.dataset,
    )


def of_adapter(adapter: Adapter, backbone: SharedBackbone) -> Head:
    """The head of an adapter on its backbone."""
    return of_network(adapter.info, partial(backbone.logits, adapter), backbone.side_by_side)


def of_checkpoint(checkpoint: Checkpoint, network: SharedCheckpoint) -> Head:
    """The head of a checkpoint, run as it is."""
    return Head(
        checkpoint.scheme.types,
        checkpoint.scheme.count,
        network.logits,
        network.windowing(),
        to_bio=checkpoint.to_bio,
        threads=network.side_by_side,
    )
