"""Small folders of images and depth maps for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

HEIGHT, WIDTH = 24, 32


def write_png(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), values)


def write_pair(
    image: Path, depth: Path, size: tuple[int, int] = (HEIGHT, WIDTH), steps: int = 2000
) -> None:
    """An image of noise, and a depth map of median `steps` whose first row is not annotated.

    The noise is that of the image's name and folders below the set's.
    """
    rng = np.random.default_rng(list("/".join(image.parts[-5:]).encode()))
    write_png(image, rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    values = np.zeros(size, np.uint16)
    even = np.linspace(steps // 2, steps * 3 // 2, values[1:].size).round()
    values[1:] = rng.permutation(even).reshape(values[1:].shape)
    write_png(depth, values)


def write_nyu(root: Path, scenes: Sequence[str] = ("kitchen_0001", "study_0002")) -> Path:
    """A folder as BTS lays NYUv2 out: two frames a scene; test frames below official_splits."""
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for split, base, names in (
        ("train", root / "sync", scenes),
        ("test", root / "official_splits" / "test", [s.rsplit("_", 1)[0] for s in scenes]),
    ):
        for scene in names:
            for i in range(2):
                image, depth = f"{scene}/rgb_{i:05d}.jpg", f"{scene}/sync_depth_{i:05d}.png"
                write_pair(base / image, base / depth)
                slash = "/" if split == "train" else ""
                lines[split].append(f"{slash}{image} {slash}{depth} 518.8579\n")
    for split, text in lines.items():
        (root / f"nyu_{split}.txt").write_text("".join(text))
    return root


def kitti_names(drive: str, number: int) -> tuple[str, str]:
    """Image and depth path of a frame of a drive such as 2011_09_26_drive_0002_sync."""
    name = f"{number:010d}.png"
    return (
        f"{drive[:10]}/{drive}/image_02/data/{name}",
        f"{drive}/proj_depth/groundtruth/image_02/{name}",
    )


def write_kitti(root: Path, size: tuple[int, int] = (HEIGHT, WIDTH), scale: int = 256) -> Path:
    """A folder as KITTI's archives lay it out: two drives, the second test image without depth."""
    drives = {
        "train": ("2011_09_26_drive_0001_sync", "train"),
        "test": ("2011_09_26_drive_0002_sync", "val"),
    }
    for split, (drive, folder) in drives.items():
        lines = []
        for number in range(3):
            image, depth = kitti_names(drive, number)
            write_pair(
                root / "raw" / image, root / "data_depth_annotated" / folder / depth, size,
                steps=10 * scale,
            )  # fmt: skip
            if split == "test" and number == 1:
                depth = "None"
            lines.append(f"{image} {depth} 721.5377\n")
        (root / f"kitti_eigen_{split}.txt").write_text("".join(lines))
    return root
