"""A kernel that adds one, to learn whether Triton works on a device."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def _add_one(source, target, size, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < size
    tl.store(target + offsets, tl.load(source + offsets, mask=inside) + 1, mask=inside)


def trial_is_right(device: torch.device) -> bool:
    """Runs the kernel on 40 numbers in two programs and compares."""
    source = torch.arange(40, dtype=torch.float32, device=device)
    target = torch.zeros_like(source)
    with torch.cuda.device(device if device.type == "cuda" else -1):
        _add_one[(2,)](source, target, source.numel(), BLOCK=32)
    return bool((target == source + 1).all())
