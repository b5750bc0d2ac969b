"""Small COCO-format folders for tests."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT = 64, 48


def content_of(names: Sequence[str], first_id: int = 1) -> dict:
    """A sound COCO object: two classes with a gap in their ids, two boxes an image."""
    images = [
        dict(id=first_id + i, file_name=name, width=WIDTH, height=HEIGHT)
        for i, name in enumerate(names)
    ]
    annotations = [
        dict(
            id=10 * image["id"] + k,
            image_id=image["id"],
            category_id=category,
            bbox=[2.0 + k, 3.0, 20.5, 10.0 + k],
            area=20.5 * (10 + k),
            iscrowd=0,
        )
        for image in images
        for k, category in enumerate((9, 2))
    ]
    categories = [dict(id=9, name="disc"), dict(id=2, name="box")]
    return dict(info={}, images=images, annotations=annotations, categories=categories)


def write_image(path: Path, width: int = WIDTH, height: int = HEIGHT) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list("/".join(path.parts[-2:]).encode()))  # all differ
    picture = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), picture)


def write_split(
    root: Path, json_name: str, image_dir: str, names: Sequence[str], first_id: int = 1
) -> None:
    """A JSON and its images, anywhere below a folder."""
    for name in names:
        write_image(root / image_dir / name)
    (root / json_name).parent.mkdir(parents=True, exist_ok=True)
    (root / json_name).write_text(json.dumps(content_of(names, first_id)))


def write_folder(root: Path, num_train: int = 6, num_val: int = 3) -> Path:
    """annotations/{train,val}.json and images/."""
    train = [f"t{i}.jpg" for i in range(num_train)]
    val = [f"v{i}.jpg" for i in range(num_val)]
    write_split(root, "annotations/train.json", "images", train)
    write_split(root, "annotations/val.json", "images", val, first_id=100)
    return root


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """Change a JSON file in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def changed(content: dict, change: Callable[[dict], object]) -> dict:
    content = copy.deepcopy(content)
    change(content)
    return content
