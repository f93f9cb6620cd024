"""Attention within windows (Vaswani et al., arXiv 1706.03762, equation 1)."""

from collections.abc import Sequence

import torch
from torch.nn.functional import scaled_dot_product_attention

# Wordpieces whose attention is computed at a time on a CPU in bf16.
_PART = 512
# A sum of exponentials. Below it those that are small beside the largest would be rounded to zero.
_SMALLEST = 1e-30


def attend(qkv: torch.Tensor, groups: Sequence[tuple[int, int]], heads: int) -> torch.Tensor:
    """Let every wordpiece look at those of its window.

    qkv (float[total, 3 · hidden]): Queries (scaled already), keys and values, window after
        window.
    groups (Sequence[tuple[int, int]]): Length and number of windows, in order; rows after them
        belong to none.
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
        target = context[rows].view(number, length, heads, -1).transpose(1, 2)
        if plain:
            # Few windows at a time, so that their scores stay in the processor's cache.
            step = max(1, _PART // length)
            for first in range(0, number, step):
                some = slice(first, first + step)
                target[some] = _products(query[some], key[some], value[some])
        else:
            target.copy_(scaled_dot_product_attention(query, key, value, scale=1.0))
    context[start:] = 0
    return context


def _products(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention by two matrix products, the softmax's division last.

    A column of ones beside the values gives the sums that the softmax divides by, and the
    maximum is not subtracted first: both save a pass over all pairs of wordpieces. Scores too
    large for that leave something that is not finite, scores too small sums near zero, and both
    are seen.
    """
    exponentials = torch.matmul(query, key.transpose(-1, -2)).exp_()
    ones = value.new_ones(*value.shape[:-1], 1)
    weighed = torch.matmul(exponentials, torch.cat([value, ones], dim=-1))
    sums = weighed[..., -1:]
    low, high = weighed.aminmax()
    if bool(torch.isfinite(high - low) & (sums.amin() > _SMALLEST)):
        return weighed[..., :-1] / sums
    scores = torch.matmul(query, key.transpose(-1, -2))
    return torch.matmul(torch.softmax(scores, dim=-1), value)
