"""Small folders of pictures for tests of label formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 64, 48


def picture(
    file: Path, size: tuple[int, int] = (WIDTH, HEIGHT), orientation: int | None = None
) -> None:
    """A picture unlike all others; `size` is that of the stored pixels, before Exif turns them."""
    file.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(str(file.name).encode()))
    image = Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))
    if orientation is None:
        image.save(file)
    else:
        exif = Image.Exif()
        exif[274] = orientation
        image.save(file, exif=exif)


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def yolo_folder(root: Path) -> Path:
    """Two pictures of train (one without a label file) and one of val, two classes."""
    for split, names in (("train", ["a", "b"]), ("val", ["c"])):
        for name in names:
            picture(root / "images" / split / f"{name}.png")
    write(root / "labels" / "train" / "a.txt", "0 0.5 0.5 0.25 0.5\n1 0.25 0.25 0.125 0.25\n")
    write(root / "labels" / "val" / "c.txt", "1 0.25 0.25 0.5 0.5\n0 .5 .5 .75 .5 .75 .75\n")
    write(root / "data.yaml", "train: images/train\nval: images/val\nnames: [cat, big dog]\n")
    return root


def voc_xml(file: Path, name: str, boxes: list[tuple], size: tuple[int, int] = (64, 48)) -> None:
    objects = "".join(
        f"<object><name>{label}</name><difficult>{difficult}</difficult><bndbox><xmin>{x1}</xmin>"
        f"<ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for label, x1, y1, x2, y2, difficult in boxes
    )
    write(
        file,
        f"<annotation><filename>{name}</filename><size><width>{size[0]}</width>"
        f"<height>{size[1]}</height></size>{objects}</annotation>",
    )


def voc_folder(root: Path) -> Path:
    """As VOC lays it out: two pictures of train, one of val."""
    for name in "abc":
        picture(root / "JPEGImages" / f"{name}.jpg")
        box = ("größe 1", 11, 5, 30, 24, 0), ("cat", 1, 1, 64, 48, int(name == "a"))
        voc_xml(root / "Annotations" / f"{name}.xml", f"{name}.jpg", list(box))
    write(root / "ImageSets/Main/train.txt", "a\nb\n")
    write(root / "ImageSets/Main/val.txt", "c\n")
    return root
