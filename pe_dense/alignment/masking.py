"""Which tokens of a student are hidden, and what stands in their place.

Source: Perception Encoder (arXiv:2504.13181), table of settings of spatial alignment: masking as
MaskFeat's (arXiv:2112.09133), ratio 0.75, masks of 2 x 2 tokens, in the student alone. The paper
does not say what a masked token is: that is a choice here. Written from the description.

Shape legend: B images, C width, h w token grid, N = h w tokens, K blocks of the grid.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pe_dense.alignment.image_random import Generators, uniform_rows

TOKENS = ("zero", "mean", "learned")


def block_masks(
    count: int,
    grid_hw: tuple[int, int],
    ratio: float,
    block_size: int,
    generator: Generators = None,
) -> Tensor:
    """Random masks of whole blocks, (B, h, w) bool on the CPU; True is masked.

    Every mask has exactly round(ratio N) tokens (halves to the even number). Blocks are taken in
    random order; of the last one, random tokens are left out where it would be too many, so that
    the tokens of a grid of whole blocks are all masked equally often. Blocks at the right and lower
    border of a grid that they do not divide are smaller.

    Args:
        count: B.
        grid_hw: Rows and columns of tokens.
        ratio: Share of masked tokens, 0 to below 1.
        block_size: Side of a block in tokens.
        generator: Of the CPU, one for all or one for each mask; the global one by default.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> masks = block_masks(5, (4, 4), 0.75, 2)
        >>> masks.sum((1, 2)).tolist()
        [12, 12, 12, 12, 12]
    """
    (h, w), size = grid_hw, block_size
    if count < 0 or min(grid_hw) < 1:
        raise ValueError(f"{count} masks on a grid of {h} x {w} tokens are none to draw")
    _check(ratio, size)
    num_tokens, columns = h * w, math.ceil(w / size)
    block_N = torch.arange(h)[:, None] // size * columns + torch.arange(w) // size
    block_N = block_N.flatten()  # (N,) block of each token
    num_blocks = math.ceil(h / size) * columns
    turn_BK = uniform_rows(count, num_blocks, generator).argsort(1).argsort(1)
    turn_BN = uniform_rows(count, num_tokens, generator)  # within a block; below 1
    key_BN = turn_BK[:, block_N].double() + turn_BN
    chosen = key_BN.argsort(1)[:, : round(ratio * num_tokens)]
    masks_BN = torch.zeros(count, num_tokens, dtype=torch.bool).scatter_(1, chosen, True)
    return masks_BN.view(count, h, w)


class TokenMasking(nn.Module):
    """Draws masks and puts something in place of the masked patches.

    Patches are replaced where they leave the patch embedding, before positions are added, so that
    the student knows where a masked token is and nothing of what it shows.

    Args:
        embed_dim: C of the student.
        ratio: Share of masked tokens; 0 masks nothing.
        block_size: Side of a masked block in tokens.
        token: What stands there. 'zero': nothing but its position. 'mean': the mean of the image's
            visible patches. 'learned': a vector that is trained along and dropped at export. The
            paper adds no parameters but LayerScale, which speaks against 'learned'.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self, embed_dim: int, ratio: float = 0.75, block_size: int = 2, token: str = "zero"
    ) -> None:
        super().__init__()
        _check(ratio, block_size)
        if token not in TOKENS:
            raise ValueError(f"masking token={token!r} is not one of {', '.join(TOKENS)}")
        self.ratio, self.block_size, self.token = ratio, block_size, token
        if token == "learned" and ratio > 0:  # without masks it would be an unused parameter
            self.mask_token = nn.Parameter(torch.empty(embed_dim))
            nn.init.trunc_normal_(self.mask_token, std=0.02)

    def settings(self) -> dict[str, Any]:
        """What a checkpoint keeps of the masking."""
        return {"ratio": self.ratio, "block_size": self.block_size, "token": self.token}

    def replace(self, patches: Tensor, masks_Bhw: Tensor) -> Tensor:
        """Patches with the masked ones replaced.

        Args:
            patches: (B, C, h, w), (B, h, w, C) or (B, N, C), as patch embeddings give them.
            masks_Bhw: True is masked.

        Raises:
            ValueError: If patches and masks do not lie on the same grid.
        """
        masks_Bhw = masks_Bhw.to(patches.device)
        shape, grid = tuple(patches.shape), tuple(masks_Bhw.shape)
        if patches.ndim == 4 and (shape[0], *shape[2:]) == grid:
            hidden, axes, channel = masks_Bhw[:, None], (2, 3), 1
        elif patches.ndim == 4 and shape[:3] == grid:
            hidden, axes, channel = masks_Bhw[..., None], (1, 2), 3
        elif patches.ndim == 3 and shape[:2] == (grid[0], grid[1] * grid[2]):
            hidden, axes, channel = masks_Bhw.flatten(1)[..., None], (1,), 2
        else:
            raise ValueError(
                f"patches {shape} do not lie on the grid of the masks {grid}; the patch embedding "
                "of this encoder cannot be masked"
            )
        if self.token == "zero":
            return patches.masked_fill(hidden, 0.0)
        if self.token == "mean":
            visible = (~hidden).to(patches.dtype)
            total = (patches * visible).sum(axes, keepdim=True)
            stand_in = total / visible.sum(axes, keepdim=True).clamp(min=1)
        else:
            along = [1] * patches.ndim
            along[channel] = -1
            stand_in = self.mask_token.to(patches.dtype).view(along)
        return torch.where(hidden, stand_in, patches)


@contextlib.contextmanager
def masked_patches(encoder: nn.Module, masking: TokenMasking, masks_Bhw: Tensor) -> Iterator[None]:
    """Inside, the encoder's next passes see masked patches.

    Raises:
        ValueError: If the encoder has no patch embedding.
    """
    handle = patch_embedding(encoder).register_forward_hook(
        lambda module, inputs, patches: masking.replace(patches, masks_Bhw)
    )
    try:
        yield
    finally:
        handle.remove()


def patch_embedding(encoder: nn.Module) -> nn.Module:
    """The module whose patches are masked, or one sentence where an encoder names none."""
    try:
        return encoder.patch_embedding
    except AttributeError as error:
        raise ValueError(
            f"{type(encoder).__name__} has no patch_embedding, so its patches cannot be masked; "
            "set model.masking=None"
        ) from error


def _check(ratio: float, block_size: int) -> None:
    if not 0 <= ratio < 1:
        raise ValueError(f"masking ratio={ratio} is not in [0, 1); the paper takes 0.75")
    if block_size < 1:
        raise ValueError(f"masking block_size={block_size} is not positive; the paper takes 2")
