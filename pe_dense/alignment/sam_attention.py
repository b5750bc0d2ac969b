"""Attention of SAM 2's image encoder, without a product that transformers makes and drops.

transformers' layer (Sam2MultiScaleAttention, 4.56 to 5.17) multiplies queries with keys and takes a
softmax before the attention proper, of heads with heads at every pixel, and never reads the result.
On a GPU these many small products take longer than the attention.

Shape legend: V windows, h w their pixels, N = h w, M heads, D head width, C channels.
"""

from __future__ import annotations

import functools
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


def use_plain_attention(encoder: nn.Module) -> int:
    """Let the attention layers of SAM 2's image encoder run `window_attention`; how many do."""
    layers = [m for m in encoder.modules() if type(m).__name__ == "Sam2MultiScaleAttention"]
    for layer in layers:
        layer.forward = functools.partial(window_attention, layer)
    return len(layers)


def window_attention(layer: Any, hidden_states: Tensor, **_: Any) -> Tensor:
    """(V, h, w, C) -> (V, h', w', C'); the queries' side is halved where a stage begins.

    Args:
        layer: A Sam2MultiScaleAttention, whose forward this replaces, argument names included.
        hidden_states: Windows, or whole maps.
    """
    windows, h, w, _ = hidden_states.shape
    heads = layer.num_attention_heads
    q, k, v = layer.qkv(hidden_states).reshape(windows, h * w, 3, heads, -1).unbind(2)
    if layer.query_stride:
        q_VChw = q.reshape(windows, h, w, -1).permute(0, 3, 1, 2)
        q_VChw = F.max_pool2d(q_VChw, layer.query_stride, layer.query_stride)
        h, w = q_VChw.shape[2:]
        q = q_VChw.permute(0, 2, 3, 1).reshape(windows, h * w, heads, -1)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (V, M, N, D)
    mixed = F.scaled_dot_product_attention(q, k, v, scale=layer.scale)
    return layer.proj(mixed.transpose(1, 2).reshape(windows, h, w, -1))
