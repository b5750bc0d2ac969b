"""What is exported: a module from pictures to numbers, and all that a runtime must know of it.

Shape legend: B images, H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

INPUT_RANGE = 255.0
MAX_SIDE = 16384  # of a picture whose size is left open


class Normalised(nn.Module):
    """Pixels in 0..255 as the model's data preprocessor passes them on."""

    def __init__(self, mean_255: Sequence[float], std_255: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean_311", torch.tensor(list(mean_255)).view(3, 1, 1), False)
        self.register_buffer("std_311", torch.tensor(list(std_255)).view(3, 1, 1), False)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in 0..255 -> the same shape."""
        return (images_B3HW - self.mean_311) / self.std_311


@dataclass(frozen=True)
class Sizes:
    """Which pictures the exported file takes.

    Attributes:
        height, width: In pixels; of the example where the size is open.
        batch: Number of pictures; of the example where it is open.
        open_size: Any height and width that are multiples of `multiple`.
        open_batch: Any number of pictures.
        multiple: In pixels.
    """

    height: int
    width: int
    batch: int = 1
    open_size: bool = False
    open_batch: bool = False
    multiple: int = 1

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.batch) < 1:
            raise ValueError(
                f"size {self.height}x{self.width} and batch {self.batch}: use 1 or more"
            )
        if self.open_size and (self.height % self.multiple or self.width % self.multiple):
            raise ValueError(
                f"size {self.height}x{self.width} is not a multiple of {self.multiple}; an export "
                "for any size begins from one"
            )

    def examples(self) -> list[tuple[int, int, int]]:
        """(batch, height, width) of two inputs that the file is tried with; the first is traced.

        An exporter takes a batch of one for a constant, so that an open one is traced with two.
        """
        if not (self.open_size or self.open_batch):
            return [(self.batch, self.height, self.width)] * 2
        first, second = (max(self.batch, 2), 1) if self.open_batch else (self.batch, self.batch)
        step = self.multiple if self.open_size else 0
        return [
            (first, self.height, self.width),
            (second, self.height + step, self.width + 2 * step),
        ]


@dataclass(frozen=True)
class Program:
    """A module to be exported.

    Attributes:
        module: Takes the arrays of `inputs`, gives a tuple of tensors.
        encoder: The part of it that runs in float16 where that is asked for.
        task: 'features', 'segmentation', 'depth' or 'detection'.
        outputs: Names of what it gives.
        sizes: Which pictures it takes.
        facts: For the runtime and the reader: see `metadata`.
        takes_picture_size: Whether it has a second input, `picture_size` (B, 2): rows and columns
            of the picture in the padded image, float32.
    """

    module: nn.Module
    encoder: nn.Module
    task: Literal["features", "segmentation", "depth", "detection"]
    outputs: tuple[str, ...]
    sizes: Sizes
    facts: Mapping[str, Any]
    takes_picture_size: bool = False

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return ("image", "picture_size") if self.takes_picture_size else ("image",)

    def described(self) -> dict[str, Any]:
        """What is written into the file."""
        return dict(
            self.facts, task=self.task, inputs=list(self.inputs), outputs=list(self.outputs)
        )

    def example(self, shape: tuple[int, int, int], seed: int) -> tuple[Tensor, ...]:
        """Inputs with made-up pictures."""
        batch, height, width = shape
        image = torch.from_numpy(made_up_pictures(batch, height, width, seed))
        if not self.takes_picture_size:
            return (image,)
        # The second example has padding at the right and bottom, as pictures of other shapes have.
        rows, columns = (height, width) if seed == 0 else (height - height // 4, width)
        sizes = torch.tensor([[rows, columns]] * batch, dtype=torch.float32)
        return image, sizes

    def dynamic_shapes(self) -> tuple[dict[int, Any], ...] | None:
        """For torch.export: which axes of the inputs are open."""
        from torch.export import Dim

        axes: dict[int, Any] = {}
        if self.sizes.open_batch:
            axes[0] = Dim("batch", min=1, max=1024)
        if self.sizes.open_size:
            most = MAX_SIDE // self.sizes.multiple
            for axis, name in ((2, "rows"), (3, "columns")):
                axes[axis] = self.sizes.multiple * Dim(name, min=2, max=most)
        if not axes:
            return None
        extra = {0: axes[0]} if 0 in axes else {}
        return (axes, extra) if self.takes_picture_size else (axes,)


def in_half_precision(encoder: nn.Module) -> None:
    """The encoder's weights and arithmetic in float16, in place; pixels and maps stay float32."""
    plain = encoder.half().forward_intermediates

    def halved(images_B3HW: Tensor, *args: Any, **options: Any) -> list:
        return [_as_float(found) for found in plain(images_B3HW.half(), *args, **options)]

    encoder.forward_intermediates = halved


def _as_float(found: Any) -> Any:
    return tuple(part.float() for part in found) if isinstance(found, tuple) else found.float()


def made_up_pictures(batch: int, height: int, width: int, seed: int) -> np.ndarray:
    """(B, 3, H, W) float32 in 0..255: coloured rectangles on a gradient, with a little noise.

    Flat noise alone is no picture: a detector finds nothing in it.
    """
    generator = np.random.default_rng(seed)
    pictures = np.empty((batch, 3, height, width), np.float32)
    for picture in pictures:
        across = np.linspace(0, 1, width, dtype=np.float32)
        down = np.linspace(0, 1, height, dtype=np.float32)[:, None]
        ends = generator.uniform(40, 215, (3, 2)).astype(np.float32)
        picture[:] = [first + (last - first) * (across + down) / 2 for first, last in ends]
        for _ in range(8):
            top, left = (int(generator.integers(0, max(1, side - 2))) for side in (height, width))
            rows = int(generator.integers(2, max(3, height // 2)))
            columns = int(generator.integers(2, max(3, width // 2)))
            colour = generator.uniform(0, 255, (3, 1, 1))
            picture[:, top : top + rows, left : left + columns] = colour
        picture += generator.normal(0, 4, picture.shape)
    return np.clip(np.round(pictures), 0, INPUT_RANGE).astype(np.float32)
