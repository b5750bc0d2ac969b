"""A video of textured objects that move over a textured ground, written as DAVIS lays one out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from pe_dense.tracking.frames import write_label_map

OBJECTS = 3
QUALITY = 90  # frames of 480 x 854 then have 70 to 80 kB, as those of DAVIS


def write_video(folder: Path, num_frames: int, image_hw: tuple[int, int]) -> dict[str, Any]:
    """JPEG frames and indexed masks of all frames; returns an item as `DavisVideos` has them."""
    height, width = image_hw
    generator = np.random.default_rng(0)
    margin = 2 * num_frames  # the camera moves 2 px a frame
    ground_HW3 = _texture(generator, (height, width + margin), 120)
    textures = [_texture(generator, image_hw, 60 + 60 * k) for k in range(OBJECTS)]
    frame_paths, mask_paths = [], []
    for t in range(num_frames):
        frame_HW3 = ground_HW3[:, 2 * t : 2 * t + width].copy()
        mask_HW = np.zeros(image_hw, np.uint8)
        for k, texture_HW3 in enumerate(textures):
            centre = (
                int(width * (0.25 + 0.25 * k + 0.1 * np.sin(t / 15 + k))),
                int(height * (0.4 + 0.1 * k + 0.15 * np.cos(t / 12 + k))),
            )
            axes = max(width // 10, 1), max(height // 7, 1)
            cv2.ellipse(mask_HW, centre, axes, 3.0 * t, 0, 360, k + 1, -1)
            frame_HW3[mask_HW == k + 1] = texture_HW3[mask_HW == k + 1]
        frame_paths.append(str(folder / f"{t:05d}.jpg"))
        mask_paths.append(str(folder / f"{t:05d}.png"))
        Image.fromarray(frame_HW3).save(frame_paths[-1], quality=QUALITY)
        write_label_map(Path(mask_paths[-1]), mask_HW)
    return dict(
        video="synthetic",
        frame_paths=tuple(frame_paths),
        mask_paths=tuple(mask_paths),
        style="davis",
        purpose="report",
        scored=True,
        bits=None,
    )


def _texture(generator: np.random.Generator, image_hw: tuple[int, int], level: float) -> np.ndarray:
    """uint8 (H, W, 3) of coarse and fine blobs around a grey level."""
    rough_HW3 = generator.normal(size=(*image_hw, 3)).astype(np.float32)
    coarse_HW3 = cv2.GaussianBlur(rough_HW3, (0, 0), 6) * 500
    fine_HW3 = cv2.GaussianBlur(rough_HW3, (0, 0), 1) * 18
    return (coarse_HW3 + fine_HW3 + level).clip(0, 255).astype(np.uint8)
