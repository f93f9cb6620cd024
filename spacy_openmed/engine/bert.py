"""BERT's encoder without padding (Devlin et al., arXiv 1810.04805).

All wordpieces of a batch go through the linear layers as one matrix; attention alone sees
windows, those of one length at a time. Query, key and value are one matrix product.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from torch.nn.functional import layer_norm

from .attention import attend
from .linear import Linear, dtype_of, linear

_TYPES = ("bert", "electra")
_QKV = tuple(f"attention.self.{name}" for name in ("query", "key", "value"))
_OTHERS = ("attention.output.dense", "intermediate.dense", "output.dense")


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
    """

    def __init__(self, encoder: Any, precision: str) -> None:
        self.encoder = encoder
        self.precision = precision
        self.device = next(encoder.parameters()).device
        self.dtype = dtype_of(precision, self.device)
        self.heads = encoder.config.num_attention_heads
        self.blocks = [
            Block(module, self.heads, encoder.config.layer_norm_eps, self.dtype)
            for module in encoder.encoder.layer
        ]
        # Of embeddings only: what is not here is the encoder's own.
        self._embeddings: dict[str, torch.Tensor] = {}
        self.rebuild(
            [f"{prefix}.{name}" for prefix in self._prefixes() for name in (*_QKV, *_OTHERS)],
            lambda path: encoder.get_submodule(path).weight,
        )

    def _prefixes(self) -> Iterator[str]:
        return (f"encoder.layer.{index}" for index in range(len(self.blocks)))

    def rebuild(self, paths: Collection[str], weight: Callable[[str], torch.Tensor]) -> None:
        changed = set(paths)
        for prefix, block in zip(self._prefixes(), self.blocks, strict=True):
            if changed & {f"{prefix}.{name}" for name in _QKV}:
                block.qkv = self._qkv(prefix, weight)
            for name in _OTHERS:
                path = f"{prefix}.{name}"
                if path in changed:
                    bias = self.encoder.get_submodule(path).bias
                    block.set(name, linear(weight(path), bias, self.precision))
        for path in changed:
            if not path.startswith("encoder."):
                self._embeddings[path] = weight(path)

    def _qkv(self, prefix: str, weight: Callable[[str], torch.Tensor]) -> Linear:
        """One layer for three; the scale of attention is in the query's weights."""
        paths = [f"{prefix}.{name}" for name in _QKV]
        biases = [self.encoder.get_submodule(path).bias for path in paths]
        scale = (biases[0].numel() // self.heads) ** -0.5
        scales = (scale, 1.0, 1.0)
        return linear(
            torch.cat([weight(path) * s for path, s in zip(paths, scales, strict=True)]),
            torch.cat([bias * s for bias, s in zip(biases, scales, strict=True)]),
            self.precision,
        )

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        lengths = mask.sum(dim=1).tolist()
        keep = mask.bool()
        places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)[keep]
        hidden = self._embed(ids[keep], places).to(self.dtype)
        # Windows of equal length that follow each other: (length, how many).
        groups = [(length, len(list(same))) for length, same in groupby(lengths)]
        for block in self.blocks:
            hidden = block(hidden, groups)
        return hidden

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
        if path in self._embeddings:
            return self._embeddings[path]
        table: torch.Tensor = self.encoder.get_submodule(path).weight
        return table


class Block:
    """One layer of the encoder: attention and feed-forward, each with its residual."""

    qkv: Linear

    def __init__(self, module: Any, heads: int, eps: float, dtype: torch.dtype) -> None:
        self.heads = heads
        self.eps = eps
        self.activation = module.intermediate.intermediate_act_fn
        self.norms = [
            (norm.weight.detach().to(dtype), norm.bias.detach().to(dtype))
            for norm in (module.attention.output.LayerNorm, module.output.LayerNorm)
        ]
        self._linear: dict[str, Linear] = {}

    def set(self, name: str, layer: Linear) -> None:
        """Replace the linear layer of that name."""
        self._linear[name] = layer

    def __call__(self, hidden: torch.Tensor, groups: Sequence[tuple[int, int]]) -> torch.Tensor:
        """Run the layer.

        hidden (float[total, hidden]): Window after window.
        groups (Sequence[tuple[int, int]]): Length and number of windows, in order.
        """
        attended, up, down = _OTHERS
        context = attend(self.qkv(hidden), groups, self.heads)
        hidden = self._norm(0, self._linear[attended](context) + hidden)
        inner = self.activation(self._linear[up](hidden))
        return self._norm(1, self._linear[down](inner) + hidden)

    def _norm(self, which: int, hidden: torch.Tensor) -> torch.Tensor:
        weight, bias = self.norms[which]
        return layer_norm(hidden, hidden.shape[-1:], weight, bias, self.eps)
