"""Small data sets in the layouts of DAVIS and YouTube-VOS, and an encoder whose result is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

SIZE = 48
COLOURS = np.array([[40, 40, 40], [250, 30, 30], [30, 250, 30], [30, 30, 250]], np.uint8)


def moving_squares(frames: int, starts: dict[int, int], size: int = SIZE) -> list[np.ndarray]:
    """Label maps in which object k appears in frame starts[k] and moves 4 px per frame."""
    maps = []
    for t in range(frames):
        labels_HW = np.zeros((size, size), np.uint8)
        for k, start in starts.items():
            if t >= start:
                labels_HW[16 * (k - 1) : 16 * (k - 1) + 12, 4 * t : 4 * t + 12] = k
        maps.append(labels_HW)
    return maps


def save_indexed(path: Path, labels_HW: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(labels_HW)
    picture.putpalette(bytes(range(256)) * 3)  # 256 colours, else Pillow clips the ids
    picture.save(path)


def save_video(
    root: Path, name: str, maps: list[np.ndarray], resolution: str = "480p", every: int = 1
) -> None:
    """Frames show objects in plain colours, without loss, and every n-th has a mask."""
    for t, labels_HW in enumerate(maps):
        frame = root / "JPEGImages" / resolution / name / f"{t:05d}.png"
        frame.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(COLOURS[np.minimum(labels_HW, 3)]).save(frame)
        if t % every == 0:
            save_indexed(root / "Annotations" / resolution / name / f"{t:05d}.png", labels_HW)


def save_split(root: Path, split: str, names: list[str]) -> None:
    path = root / "ImageSets" / "2017" / f"{split}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


class ColourEncoder(nn.Module):
    """Tokens are mean colours of 4 x 4 patches; block 1 is blind: all tokens are the same."""

    patch_size, embed_dim, depth, num_prefix_tokens = 4, 3, 2, 0
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))
        self.frames = 0

    def forward_intermediates(self, images_B3HW: Tensor, out_indices: list[int]) -> list[Tensor]:
        self.frames += len(images_B3HW)
        colour = nn.functional.avg_pool2d(images_B3HW, self.patch_size) * self.one
        return [colour if i == 0 else torch.ones_like(colour) for i in out_indices]
