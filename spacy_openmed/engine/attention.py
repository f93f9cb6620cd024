"""Attention within windows (Vaswani et al., arXiv 1706.03762, equation 1)."""

from collections.abc import Sequence

import torch
from torch.nn.functional import scaled_dot_product_attention


def attend(qkv: torch.Tensor, groups: Sequence[tuple[int, int]], heads: int) -> torch.Tensor:
    """Let every wordpiece look at those of its window.

    qkv (float[total, 3 · hidden]): Queries (scaled already), keys and values, window after
        window.
    groups (Sequence[tuple[int, int]]): Length and number of windows, in order.
    heads (int): Into which each of the three is divided.
    RETURNS (float[total, hidden])
    """
    hidden = qkv.shape[1] // 3
    context = qkv.new_empty(len(qkv), hidden)
    # PyTorch's fused kernel is faster on GPUs and in fp32; on CPUs in bf16 it takes three
    # times as long as the products alone.
    plain = qkv.device.type == "cpu" and qkv.dtype == torch.bfloat16
    start = 0
    for length, number in groups:
        rows = slice(start, start + length * number)
        start = rows.stop
        # [3, number, heads, length, hidden / heads]
        query, key, value = (
            qkv[rows].view(number, length, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        )
        if plain:
            found = _products(query, key, value)
        else:
            found = scaled_dot_product_attention(query, key, value, scale=1.0)
        context[rows].view(number, length, heads, -1).copy_(found.transpose(1, 2))
    return context


def _products(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention by two matrix products, the softmax's division last.

    A column of ones beside the values gives the sums that the softmax divides by, and the
    maximum is not subtracted first: both save a pass over all pairs of wordpieces. Scores too
    large or too small for that leave sums that are not finite or are zero, and are seen by it.
    """
    scores = torch.matmul(query, key.transpose(-1, -2))
    ones = value.new_ones(*value.shape[:-1], 1)
    weighed = torch.matmul(scores.exp(), torch.cat([value, ones], dim=-1))
    sums = weighed[..., -1:]
    if bool((torch.isfinite(sums) & (sums > 0)).all()):
        return weighed[..., :-1] / sums
    return torch.matmul(torch.softmax(scores, dim=-1), value)
