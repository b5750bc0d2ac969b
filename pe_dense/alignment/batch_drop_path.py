"""DropPath that is drawn for the batch of all processes, so that their number changes nothing.

Shape legend: P paths, B images of this process.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.dist import get_rank, get_world_size
from torch import Tensor, nn


class BatchDropPath(nn.Module):
    """Zeroes the branch of the samples that `draw_paths` chose, and rescales the others.

    The choice stays until the next one: gradient checkpointing asks for it a second time. Without
    any, as outside of a step, it draws one itself.

    Args:
        drop_prob: Probability, 0..1 without 1.
    """

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob
        self.kept_B: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> the same shape."""
        if not self.training:
            return x
        kept_B = self.kept_B
        if kept_B is None or len(kept_B) != len(x):
            kept_B = torch.rand(len(x), device=x.device) >= self.drop_prob
        scale_B = kept_B.to(x.dtype) / (1.0 - self.drop_prob)
        return x * scale_B.view(-1, *[1] * (x.ndim - 1))


def replace_drop_paths(encoder: nn.Module) -> list[BatchDropPath]:
    """Put `BatchDropPath` in the place of every DropPath of an encoder (ours and timm's)."""
    found = {
        name: BatchDropPath(module.drop_prob)
        for name, module in encoder.named_modules()
        if type(module).__name__ == "DropPath" and module.drop_prob > 0
    }
    for name, module in found.items():
        encoder.set_submodule(name, module.train(encoder.training))
    return list(found.values())


def draw_paths(
    paths: Sequence[BatchDropPath],
    batch: int,
    generator: torch.Generator | None,
    device: torch.device | str = "cpu",
) -> None:
    """Choose for all paths; this process takes its images of the batch of all.

    MMEngine's samplers give process r of P the images r, r + P, r + 2 P, ... of the batch.

    Args:
        paths: Of one encoder, in its order.
        batch: B.
        generator: Of the CPU, the same on all processes; None draws from the global one.
        device: Where the encoder runs.
    """
    rank, size = get_rank(), get_world_size()
    drawn_PB = torch.rand(len(paths), batch * size, generator=generator)[:, rank::size]
    for path, drawn_B in zip(paths, drawn_PB.to(device), strict=True):  # one copy to the device
        path.kept_B = drawn_B >= path.drop_prob
