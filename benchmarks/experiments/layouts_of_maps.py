"""The same photos and maps written in the layouts that docs/own_data.md promises.

Maps of classes are 0..K-1 and 255 where nothing is said; maps of depth are whole millimetres, 0
where nothing is known. Writers are made from the descriptions of the formats, none from the readers
of pe_dense. Those of depth and of label maps alone are here; boxes and masks of objects, which the
converter reads, are in layouts_of_objects.py.

Shape legend: H, W pixels.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

VOID, VOID_16 = 255, 65_535
MOST_CLASSES = 12
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24)  # of train ids 0 to 11


@dataclass(frozen=True)
class Photo:
    """A picture with its map.

    Attributes:
        name: Its stem in every layout.
        part: 'train' or 'val'.
        image: The file, a JPEG.
        map_HW: Labels, uint8, or millimetres, uint16.
    """

    name: str
    part: str
    image: Path
    map_HW: NDArray[Any]


def labelled_photos(data: Path, num: dict[str, int]) -> tuple[list[Photo], list[str]]:
    """Photos of real_photos with the classes that both parts have most of, in ABC order."""
    import yaml

    words = yaml.safe_load((data / "semantic/classes.yaml").read_text())["classes"]
    found, pixels = [], {"train": Counter(), "val": Counter()}
    for part in ("train", "val"):
        for file in sorted((data / "semantic" / part).glob("*.png"))[: num[part]]:
            numbers_HW = np.asarray(Image.open(file))
            found.append((part, file.stem, numbers_HW))
            numbers = np.unique(numbers_HW, return_counts=True)
            pixels[part].update(dict(zip(*map(np.ndarray.tolist, numbers), strict=True)))
    both = pixels["train"] & pixels["val"]
    usual = [number for number, _ in both.most_common() if number != 0][:MOST_CLASSES]
    numbers = sorted(usual, key=lambda number: words[number])
    table = np.full(1 + max(words), VOID, np.uint8)
    table[numbers] = np.arange(len(numbers))
    photos = [
        Photo(f"town_000000_{int(stem):06d}", part, data / f"images/{stem}.jpg", table[numbers_HW])
        for part, stem, numbers_HW in found
    ]
    return photos, [words[number].replace(" ", "-") for number in numbers]


def depth_photos(data: Path, num: dict[str, int]) -> list[Photo]:
    """Frames of real_depth, evenly spread, the last of them for val; 65535 is made 0."""
    files = sorted(data.glob("*.depth.png"))
    total = sum(num.values())
    spread = [files[k * len(files) // total] for k in range(total)]
    return [
        Photo(
            file.name.removesuffix(".depth.png"), "train" if k < num["train"] else "val",
            file.with_name(file.name.replace(".depth.png", ".color.jpg")),
            np.where((mm_HW := np.asarray(Image.open(file))) < VOID_16, mm_HW, 0).astype(np.uint16),
        )
        for k, file in enumerate(spread)
    ]  # fmt: skip


def link(source: Path, target: Path) -> None:
    """A copy that costs nothing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source)


def save(values: NDArray[Any], target: Path, palette: bool = False) -> None:
    """A picture of whole numbers as the suffix says; with VOC's kind of palette if asked."""
    target.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(values)
    if palette:
        colours = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
        picture.putpalette(colours.tobytes())
    picture.save(target)


def text(target: Path, lines: Sequence[str]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def in_parts(image: str, map_: str, change: Callable[[NDArray[Any]], Any], writer: Any = save):
    """A writer of pictures and maps by two patterns of PART and NAME.

    Args:
        image: As 'images/PART/NAME.jpg'; a PNG is decoded from the JPEG by Pillow.
        map_: As 'masks/PART/NAME.png'.
        change: Numbers of the layout from those of `Photo`.
        writer: Writes numbers into a file.
    """

    def write(photos: Sequence[Photo], out: Path) -> None:
        for photo in photos:
            places = [
                out / pattern.replace("PART", photo.part).replace("NAME", photo.name)
                for pattern in (image, map_)
            ]
            if places[0].suffix == ".png":
                save(np.asarray(Image.open(photo.image).convert("RGB")), places[0])
            else:
                link(photo.image, places[0])
            writer(change(photo.map_HW), places[1])

    return write


def parts_in_lists(out: Path, photos: Sequence[Photo], folder: str, line: str = "NAME") -> None:
    """train.txt and val.txt with a line for each picture."""
    for part in ("train", "val"):
        names = [line.replace("NAME", photo.name) for photo in photos if photo.part == part]
        text(out / folder / f"{part}.txt", names)


# ---- label maps ----------------------------------------------------------------------------------


def plain(map_HW: NDArray[Any]) -> NDArray[Any]:
    return map_HW


def with_background(map_HW: NDArray[Any]) -> NDArray[Any]:
    """0 where nothing is said, classes from 1."""
    return np.where(map_HW == VOID, 0, map_HW + 1).astype(np.uint8)


def sixteen_bits(map_HW: NDArray[Any]) -> NDArray[Any]:
    return np.where(map_HW == VOID, VOID_16, map_HW).astype(np.uint16)


def with_gaps(map_HW: NDArray[Any]) -> NDArray[Any]:
    """Numbers of 16 bits that are far from each other."""
    return np.where(map_HW == VOID, VOID_16, 300 + 1000 * map_HW.astype(np.int64)).astype(np.uint16)


def cityscapes_ids(map_HW: NDArray[Any]) -> NDArray[Any]:
    table = np.zeros(256, np.uint8)
    table[: len(CITYSCAPES_IDS)] = CITYSCAPES_IDS
    return table[map_HW]


def colours_of(num_classes: int) -> NDArray[np.uint8]:
    """One colour for a class, and black for none at its end, (K + 1, 3)."""
    own = [[40 + 17 * k, 255 - 19 * k, (90 * k) % 256] for k in range(num_classes)]
    return np.array([*own, [0, 0, 0]], np.uint8)


def coloured(map_HW: NDArray[Any]) -> NDArray[Any]:
    colours = colours_of(MOST_CLASSES)
    return colours[np.where(map_HW == VOID, MOST_CLASSES, map_HW)]


def as_palette(values: NDArray[Any], target: Path) -> None:
    save(values, target, palette=True)


# ---- depth ---------------------------------------------------------------------------------------


def with_last(map_HW: NDArray[Any]) -> NDArray[Any]:
    """65535 where nothing is known, as some sensors write it."""
    return np.where(map_HW == 0, VOID_16, map_HW).astype(np.uint16)


def metres(map_HW: NDArray[Any]) -> NDArray[np.float32]:
    return (map_HW / 1000).astype(np.float32)


def as_npy(values: NDArray[Any], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    np.save(target, values)


def as_npz(values: NDArray[Any], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(target, depth=values)


def as_pfm(values: NDArray[Any], target: Path) -> None:
    """Portable float map: rows from the bottom, little-endian."""
    target.parent.mkdir(parents=True, exist_ok=True)
    height, width = values.shape
    head = f"Pf\n{width} {height}\n-1.0\n".encode()
    target.write_bytes(head + np.flipud(values).astype("<f4").tobytes())


def as_exr(values: NDArray[Any], target: Path) -> None:
    """EXR of one channel in float, zlib-compressed, by OpenCV."""
    os.environ["OPENCV_IO_ENABLE_OPENEXR"] = "1"  # read when the first EXR is
    import cv2

    target.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(target), values):
        raise ValueError(f"OpenCV cannot write {target}; install one with OpenEXR")
