"""BERT's encoder without padding (Devlin et al., arXiv 1810.04805).

All wordpieces of a batch go through the linear layers as one matrix; attention alone sees
windows, those of one length at a time. Query, key and value are one matrix product.

What goes round the layers, the sums and layer norms of the residuals, stays in fp32 on CPUs: a
short number format would round it anew in every layer.
"""

from collections.abc import Callable, Collection
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch.nn.functional import layer_norm, pad

from .attention import attend
from .linear import Linear, apply, dtype_of, linear

_TYPES = ("bert", "electra")
_QKV = tuple(f"attention.self.{name}" for name in ("query", "key", "value"))
# Path in a layer of the encoder to field of ``Layer``.
_OTHERS = {
    "attention.output.dense": "output",
    "intermediate.dense": "up",
    "output.dense": "down",
}

# Matrices of a CPU get so many rows or a multiple of it, the last of them for nothing: of ever new
# sizes the allocator would keep ever more memory, and oneDNN ever more kernels.
_ROWS = 128
# Up to that one of a few sizes: a sentence alone is not to take the time of five.
_FEW_ROWS = 32

WeightOf = Callable[[str], torch.Tensor]


class Norm(NamedTuple):
    """A layer norm, float[hidden] each."""

    weight: torch.Tensor
    bias: torch.Tensor


class Layer(NamedTuple):
    """The weights of one layer of the encoder, in the order in which they are used."""

    qkv: Linear
    output: Linear
    attended: Norm
    up: Linear
    down: Linear
    fed: Norm


def fits(encoder: Any) -> bool:
    """Whether an encoder is of the architecture that ``BertEngine`` computes."""
    config = encoder.config
    return (
        config.model_type in _TYPES
        and getattr(config, "position_embedding_type", "absolute") in (None, "absolute")
        and not getattr(config, "is_decoder", False)
    )


class BertEngine:
    """A BERT or ELECTRA encoder.

    encoder (PreTrainedModel): In fp32. Embeddings and layer norms are shared with it.
    precision (str): "fp32", "bf16", "fp16" or "int8".
    compiled (bool): Have torch.compile fuse what is between the matrix products.
    """

    def __init__(self, encoder: Any, precision: str, compiled: bool = False) -> None:
        self.encoder = encoder
        self.precision = precision
        self.device = next(encoder.parameters()).device
        self.dtype = dtype_of(precision, self.device)
        # Measured on a CPU, where it costs 3 % of the time; on GPUs as it was.
        self.residual = torch.float32 if self.device.type == "cpu" else self.dtype
        self.heads = encoder.config.num_attention_heads
        # Of embeddings only: what is not here is the encoder's own.
        self._embeddings: dict[str, torch.Tensor] = {}
        blocks = encoder.encoder.layer
        self.layers = [self._layer(f"encoder.layer.{index}") for index in range(len(blocks))]
        self._project: Callable[[Linear, torch.Tensor], torch.Tensor] = apply
        # The same activation for all layers: what is compiled for one then serves all.
        activation = blocks[0].intermediate.intermediate_act_fn
        self._finish: Callable[[Layer, torch.Tensor, torch.Tensor], torch.Tensor] = partial(
            _finish,
            None if encoder.config.hidden_act == "gelu" else activation,
            encoder.config.layer_norm_eps,
        )
        if compiled:
            # Not attention, which meets as many shapes as windows have lengths.
            self._project = torch.compile(self._project, dynamic=True)
            self._finish = torch.compile(self._finish, dynamic=True)

    def rebuild(self, paths: Collection[str], weight: WeightOf) -> None:
        changed = set(paths)
        for index, layer in enumerate(self.layers):
            prefix = f"encoder.layer.{index}"
            new: dict[str, Any] = {
                field: self._linear(f"{prefix}.{name}", weight)
                for name, field in _OTHERS.items()
                if f"{prefix}.{name}" in changed
            }
            if changed & {f"{prefix}.{name}" for name in _QKV}:
                new["qkv"] = self._qkv(prefix, weight)
            self.layers[index] = layer._replace(**new)
        for path in changed:
            if not path.startswith("encoder."):
                self._embeddings[path] = weight(path)

    def weights(self) -> tuple[list[Layer], dict[str, torch.Tensor]]:
        return list(self.layers), dict(self._embeddings)

    def use(self, weights: tuple[list[Layer], dict[str, torch.Tensor]]) -> None:
        layers, embeddings = weights
        self.layers, self._embeddings = list(layers), dict(embeddings)

    def _layer(self, prefix: str) -> Layer:
        """The encoder's own weights."""
        others = {
            field: self._linear(f"{prefix}.{name}", self._weight) for name, field in _OTHERS.items()
        }
        return Layer(
            qkv=self._qkv(prefix, self._weight),
            attended=self._norm(f"{prefix}.attention.output.LayerNorm"),
            fed=self._norm(f"{prefix}.output.LayerNorm"),
            **others,
        )

    def _weight(self, path: str) -> torch.Tensor:
        weight: torch.Tensor = self.encoder.get_submodule(path).weight
        return weight

    def _norm(self, path: str) -> Norm:
        norm = self.encoder.get_submodule(path)
        return Norm(norm.weight.detach().to(self.residual), norm.bias.detach().to(self.residual))

    def _linear(self, path: str, weight: WeightOf) -> Linear:
        return linear(weight(path), self.encoder.get_submodule(path).bias, self.precision)

    def _qkv(self, prefix: str, weight: WeightOf) -> Linear:
        """One layer for three; the scale of attention is in the query's weights."""
        paths = [f"{prefix}.{name}" for name in _QKV]
        biases = [self.encoder.get_submodule(path).bias for path in paths]
        scale = (biases[0].numel() // self.heads) ** -0.5
        weights = [weight(path) for path in paths]
        # Not in place: they may be the encoder's own.
        weights[0], biases[0] = weights[0] * scale, biases[0] * scale
        return linear(torch.cat(weights), torch.cat(biases), self.precision)

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        lengths = mask.sum(dim=1).tolist()
        keep = mask.bool()
        places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)[keep]
        total = len(places)
        more = self._more_rows(total)
        hidden = self._embed(pad(ids[keep], (0, more)), pad(places, (0, more))).to(self.residual)
        # Windows of equal length that follow each other: (length, how many).
        groups = [(length, len(list(same))) for length, same in groupby(lengths)]
        for layer in self.layers:
            context = attend(self._project(layer.qkv, hidden.to(self.dtype)), groups, self.heads)
            hidden = self._finish(layer, context, hidden)
        return hidden[:total]

    def _more_rows(self, total: int) -> int:
        """How many to add to so many: to a multiple of ``_ROWS``, few to one of ``_FEW_ROWS``."""
        if self.device.type != "cpu":
            return 0
        return -total % (_ROWS if total > _ROWS else _FEW_ROWS)

    def _embed(self, ids: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        own = self.encoder.embeddings
        total = self._table("embeddings.word_embeddings")[ids]
        total = total + self._table("embeddings.position_embeddings")[places]
        total += self._table("embeddings.token_type_embeddings")[0]
        norm = own.LayerNorm
        hidden = layer_norm(total, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        projection = "embeddings_project"
        if hasattr(self.encoder, projection):
            bias = getattr(self.encoder, projection).bias
            hidden = torch.nn.functional.linear(hidden, self._table(projection), bias)
        return hidden

    def _table(self, path: str) -> torch.Tensor:
        return self._embeddings[path] if path in self._embeddings else self._weight(path)


def _finish(
    activation: Callable[[torch.Tensor], torch.Tensor] | None,
    eps: float,
    layer: Layer,
    context: torch.Tensor,
    hidden: torch.Tensor,
) -> torch.Tensor:
    """What follows attention: its output layer and the feed-forward, each with its residual.

    activation (Callable | None): None for GELU.
    context (float[total, hidden]): What attention gave.
    hidden (float[total, hidden]): What came into the layer, in the format of the residuals.
    RETURNS (float[total, hidden]): In the same.
    """
    size = hidden.shape[-1:]
    hidden = layer_norm(hidden + apply(layer.output, context), size, *layer.attended, eps)
    inner = apply(layer.up, hidden.to(context.dtype), gelu=activation is None)
    if activation is not None:
        inner = activation(inner)
    return layer_norm(hidden + apply(layer.down, inner), size, *layer.fed, eps)
