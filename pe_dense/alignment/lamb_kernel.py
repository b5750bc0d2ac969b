"""LAMB's step for all tensors of a model in three kernel launches (Triton).

The per-tensor formula of `lamb.LAMB` is some 20 passes over memory and, for the 700 tensors of
PE G, 14,000 launches. Here the first kernel reads parameter, gradient and moments once, writes the
moments and the two sums of squares that the trust ratio needs; the second adds up these sums; the
third makes the update again from the moments and applies it. For float32 that is 40 bytes a
parameter: 74 GB for PE G, of which 52 GB are the floor of any LAMB (one read of parameter,
gradient and moments, one write of parameter and moments).

Tensors come to the kernels as a table of addresses, so that their number and sizes are free.

Shape legend: T tensors, K chunks of all tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

CHUNK = 65536  # numbers of one program; each tensor starts a chunk of its own
BLOCK = 2048  # numbers at a time
WARPS = 8
_TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


class Numbers(NamedTuple):
    """What the step of one tensor needs beside its memory, in the order of the kernels' table."""

    lr: float
    weight_decay: float
    eps: float
    beta1: float
    beta2: float
    rest1: float  # 1 - beta1, rounded once
    rest2: float
    scale1: float  # 1 / (1 - beta1^t)
    scale2: float
    adapts: float  # 1 where the trust ratio applies, else 0


class Chunks(NamedTuple):
    """Which tensor a chunk belongs to, and which chunks a tensor has."""

    tensor_K: Tensor  # int32
    first_T: Tensor  # int32, T + 1 of them
    most: int  # of one tensor

    @staticmethod
    def of(sizes: Sequence[int], device: torch.device) -> Chunks:
        """Chunks of tensors with so many numbers each; an empty one has none."""
        counts_T = torch.tensor([-(-size // CHUNK) for size in sizes])
        tensor_K = torch.repeat_interleave(torch.arange(len(sizes)), counts_T)
        first_T = torch.cat([counts_T.new_zeros(1), counts_T.cumsum(0)])
        most = int(counts_T.max())
        return Chunks(tensor_K.int().to(device), first_T.int().to(device), most)


def moments_and_squares(
    addresses_5T: Tensor, numbers_10T: Tensor, chunks: Chunks, types: tuple[torch.dtype, ...]
) -> Tensor:
    """Update the moments of all tensors; the sums of squares of parameters and updates, (2, T).

    Args:
        addresses_5T: int64, by row: address of parameter, gradient, first and second moment, and
            how many numbers they have. All contiguous.
        numbers_10T: float32, the fields of `Numbers` by row.
        chunks: Of the same tensors.
        types: Of parameters and gradients.
    """
    num_tensors, num_chunks = addresses_5T.shape[1], len(chunks.tensor_K)
    parts_2K = numbers_10T.new_empty(2, num_chunks)
    squares_2T = numbers_10T.new_empty(2, num_tensors)
    if num_chunks:
        _moments[(num_chunks,)](
            addresses_5T, numbers_10T, num_tensors, chunks.tensor_K, chunks.first_T, parts_2K,
            num_chunks, _TYPES[types[0]], _TYPES[types[1]], CHUNK, BLOCK, num_warps=WARPS,
        )  # fmt: skip
    _add_up[(num_tensors, 2)](
        parts_2K, chunks.first_T, squares_2T, num_chunks, num_tensors, chunks.most, 256,
        num_warps=4,
    )  # fmt: skip
    return squares_2T


def apply_updates(
    addresses_5T: Tensor,
    numbers_10T: Tensor,
    squares_2T: Tensor,
    chunks: Chunks,
    types: tuple[torch.dtype, ...],
) -> None:
    """Take the step of all tensors, given the squares of the whole tensors; see above."""
    if len(chunks.tensor_K):
        _apply[(len(chunks.tensor_K),)](
            addresses_5T, numbers_10T, addresses_5T.shape[1], chunks.tensor_K, chunks.first_T,
            squares_2T, _TYPES[types[0]], CHUNK, BLOCK, num_warps=WARPS,
        )  # fmt: skip


@triton.jit
def _row(address, dtype: tl.constexpr):
    """Pointer of an address; tensors that Triton should read 16 bytes at a time are aligned so."""
    return tl.multiple_of(address.to(tl.pointer_type(dtype)), 16)


@triton.jit
def _update_of(p, m, v, numbers, t, count):
    """The formula's u in `lamb.LAMB`."""
    decay = tl.load(numbers + count + t)
    eps = tl.load(numbers + 2 * count + t)
    scale1 = tl.load(numbers + 7 * count + t)
    scale2 = tl.load(numbers + 8 * count + t)
    return m * scale1 / (tl.sqrt_rn(v * scale2) + eps) + decay * p


@triton.jit
def _moments_of(p, g, m, v, offsets, size, numbers, t, count, MASKED: tl.constexpr):
    mask = offsets < size if MASKED else None
    other = 0.0 if MASKED else None
    beta1, beta2 = tl.load(numbers + 3 * count + t), tl.load(numbers + 4 * count + t)
    rest1, rest2 = tl.load(numbers + 5 * count + t), tl.load(numbers + 6 * count + t)
    value = tl.load(p + offsets, mask, other).to(tl.float32)
    gradient = tl.load(g + offsets, mask, other).to(tl.float32)
    first = tl.load(m + offsets, mask, other) * beta1 + gradient * rest1
    second = tl.load(v + offsets, mask, other) * beta2 + gradient * gradient * rest2
    tl.store(m + offsets, first, mask)
    tl.store(v + offsets, second, mask)
    update = _update_of(value, first, second, numbers, t, count)
    if MASKED:
        update = tl.where(mask, update, 0.0)  # 0 / (0 + eps) is nan where eps is 0
    return value * value, update * update


@triton.jit
def _moments(
    addresses, numbers, count, tensors, firsts, parts, num_chunks,
    P_TYPE: tl.constexpr, G_TYPE: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    chunk = tl.program_id(0)
    t = tl.load(tensors + chunk)
    start = (chunk - tl.load(firsts + t)).to(tl.int64) * CHUNK
    p = _row(tl.load(addresses + t), P_TYPE)
    g = _row(tl.load(addresses + count + t), G_TYPE)
    m = _row(tl.load(addresses + 2 * count + t), tl.float32)
    v = _row(tl.load(addresses + 3 * count + t), tl.float32)
    size = tl.load(addresses + 4 * count + t)
    lanes = tl.arange(0, BLOCK)
    values, updates = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    if start + CHUNK <= size:  # without masks, which would cut the loads into single numbers
        for i in range(0, CHUNK, BLOCK):
            value2, update2 = _moments_of(
                p, g, m, v, start + i + lanes, size, numbers, t, count, False
            )
            values += value2
            updates += update2
    else:
        for i in range(0, CHUNK, BLOCK):
            if start + i < size:
                value2, update2 = _moments_of(
                    p, g, m, v, start + i + lanes, size, numbers, t, count, True
                )
                values += value2
                updates += update2
    tl.store(parts + chunk, tl.sum(values, 0))
    tl.store(parts + num_chunks + chunk, tl.sum(updates, 0))


@triton.jit
def _add_up(parts, firsts, squares, num_chunks, count, MOST: tl.constexpr, BLOCK: tl.constexpr):
    """Always in the same order, so that a run can be repeated bit for bit."""
    t, row = tl.program_id(0), tl.program_id(1)
    first, last = tl.load(firsts + t), tl.load(firsts + t + 1)
    total = tl.zeros((BLOCK,), tl.float32)
    for i in range(0, MOST, BLOCK):
        at = first + i + tl.arange(0, BLOCK)
        total += tl.load(parts + row * num_chunks + at, mask=at < last, other=0.0)
    tl.store(squares + row * count + t, tl.sum(total, 0))


@triton.jit
def _apply_to(p, m, v, offsets, size, numbers, t, count, length, MASKED: tl.constexpr):
    mask = offsets < size if MASKED else None
    other = 0.0 if MASKED else None
    value = tl.load(p + offsets, mask, other).to(tl.float32)
    first, second = tl.load(m + offsets, mask, other), tl.load(v + offsets, mask, other)
    value -= length * _update_of(value, first, second, numbers, t, count)
    tl.store(p + offsets, value.to(p.dtype.element_ty), mask)


@triton.jit
def _apply(
    addresses, numbers, count, tensors, firsts, squares,
    P_TYPE: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    chunk = tl.program_id(0)
    t = tl.load(tensors + chunk)
    start = (chunk - tl.load(firsts + t)).to(tl.int64) * CHUNK
    p = _row(tl.load(addresses + t), P_TYPE)
    m = _row(tl.load(addresses + 2 * count + t), tl.float32)
    v = _row(tl.load(addresses + 3 * count + t), tl.float32)
    size = tl.load(addresses + 4 * count + t)
    value2, update2 = tl.load(squares + t), tl.load(squares + count + t)
    length = tl.load(numbers + t)
    # Written so that nan reaches the parameters, as it does without kernels.
    if (tl.load(numbers + 9 * count + t) > 0) & ((value2 > 0) & (update2 > 0)):
        length *= tl.sqrt_rn(value2) / tl.sqrt_rn(update2)
    lanes = tl.arange(0, BLOCK)
    if start + CHUNK <= size:
        for i in range(0, CHUNK, BLOCK):
            _apply_to(p, m, v, start + i + lanes, size, numbers, t, count, length, False)
    else:
        for i in range(0, CHUNK, BLOCK):
            if start + i < size:
                _apply_to(p, m, v, start + i + lanes, size, numbers, t, count, length, True)
