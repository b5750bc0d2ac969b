"""DropPath that is drawn image by image, so that the number of processes changes nothing.

Shape legend: P paths, B images of this process.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pe_dense.alignment.image_random import Generators, uniform_rows


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
    generator: Generators,
    device: torch.device | str = "cpu",
) -> None:
    """Choose for all paths.

    Args:
        paths: Of one encoder, in its order.
        batch: B.
        generator: Of the CPU, one for all or one for each image; None draws from the global one.
        device: Where the encoder runs.
    """
    drawn_BP = uniform_rows(batch, len(paths), generator).to(device)  # one copy to the device
    for path, drawn_B in zip(paths, drawn_BP.unbind(1), strict=True):
        path.kept_B = drawn_B >= path.drop_prob
