"""Data: how fast pictures are rendered and loaded, which must not hold back a GPU.

Time is that of one picture. 'One process' is a loop; 'N workers' is a loader of N processes with
one thread each, started and warm, whose batches of one are taken as fast as they come. The rate to
compare with is that of a training step of the same recipe, in the section 'detection'.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from gpu_bench import Bench, Measured, Row
from mmengine.registry import DATASETS, init_default_scope
from torch.utils.data import DataLoader, Dataset

import pe_dense.detection  # noqa: F401 (registers the transforms of DETA)
from pe_dense.mini_world.world import make_image

COCO_HW = 480, 640
SIZES = {"COCO's 640 x 480": 1, "12 megapixels": 6.25}  # times 640 x 480 along each side


def parts(bench: Bench) -> Iterator[tuple[str, Callable[[], Row | list[Row]]]]:
    """The parts to measure."""
    side = 128 if bench.tiny else 256
    yield f"rendering the mini world, {side} px", lambda: rendering_rows(bench, side)
    for name, scale in SIZES.items():
        yield (
            f"loading for DETA at 1024 px, {name}",
            lambda name=name, scale=scale: loading_rows(bench, name, scale),
        )


class Scenes(Dataset):
    """Rendered scenes by number."""

    def __init__(self, image_size: int) -> None:
        self.image_size = image_size

    def __len__(self) -> int:
        return 10**6

    def __getitem__(self, index: int) -> np.ndarray:
        return make_image(0, "train", index, self.image_size).image


def rendering_rows(bench: Bench, side: int) -> list[Row]:
    """Scenes of the mini world, with labels, depth and boxes."""
    return rate_rows(bench, Scenes(side), f"rendering the mini world, {side} px")


def loading_rows(bench: Bench, name: str, scale: float) -> list[Row]:
    """Read, decode, flip, jitter the scale, crop and pack, as DETA trains on COCO."""
    scale = min(scale, 1.0) if bench.tiny else scale
    with tempfile.TemporaryDirectory() as folder:
        dataset = coco_like(Path(folder), scale, 4 if bench.tiny else 12)
        return rate_rows(bench, dataset, f"loading for DETA at 1024 px, {name}")


def coco_like(folder: Path, scale: float, count: int) -> Dataset:
    """A COCO data set of noise under blobs, compressed like photographs, seven boxes an image."""
    rng = np.random.default_rng(0)
    height, width = (round(scale * side) for side in COCO_HW)
    images, annotations = [], []
    (folder / "images").mkdir()
    for i in range(count):
        small = rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
        picture = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        picture = cv2.add(picture, rng.integers(0, 24, picture.shape, dtype=np.uint8))
        cv2.imwrite(str(folder / f"images/{i}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
        images.append(dict(id=i, file_name=f"{i}.jpg", height=height, width=width))
        for _ in range(7):
            x, y = rng.random(2) * (0.6 * width, 0.6 * height)
            w, h = (0.05 + 0.3 * rng.random(2)) * (width, height)
            annotations.append(
                dict(id=len(annotations) + 1, image_id=i, category_id=1, iscrowd=0, area=w * h,
                     bbox=[x, y, w, h])
            )  # fmt: skip
    content = dict(images=images, annotations=annotations, categories=[dict(id=1, name="blob")])
    (folder / "train.json").write_text(json.dumps(content))
    init_default_scope("mmdet")
    return DATASETS.build(
        dict(
            type="CocoDataset",
            data_root=str(folder),
            ann_file="train.json",
            data_prefix=dict(img="images/"),
            metainfo=dict(classes=("blob",)),
            filter_cfg=dict(filter_empty_gt=False),
            pipeline=[
                dict(type="LoadImage", imdecode_backend="pillow"),
                dict(type="LoadAnnotations", with_bbox=True),
                dict(type="RandomFlip", prob=0.5),
                dict(type="DETAScaleJitter", canvas=1024),
                dict(type="PackDetInputs"),
            ],
        )
    )


class Repeated(Dataset):
    """A data set that goes round and round."""

    def __init__(self, dataset: Dataset, length: int) -> None:
        self.dataset, self.length = dataset, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> object:
        return self.dataset[index % len(self.dataset)]


def first_of(batch: list) -> object:
    """The only sample of a batch."""
    return batch[0]


def rate_rows(bench: Bench, dataset: Dataset, part: str) -> list[Row]:
    """Milliseconds per picture in one process and with 8 workers."""
    count, workers = (4, 2) if bench.tiny else (32, 8)
    threads, cv2_threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    try:
        dataset[0]
        begin = time.perf_counter()
        for index in range(max(4, count // 4)):
            dataset[index % len(dataset)]
        alone = 1e3 * (time.perf_counter() - begin) / max(4, count // 4)
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(cv2_threads)
    warm = 3 * workers
    loader = DataLoader(
        Repeated(dataset, warm + count * workers // 2),
        batch_size=1,
        num_workers=workers,
        collate_fn=first_of,
    )
    taken = iter(loader)
    for _ in range(warm):
        next(taken)
    begin = time.perf_counter()
    left = sum(1 for _ in taken)
    together = 1e3 * (time.perf_counter() - begin) / left
    return [
        bench.row(Measured(ms, None), note=f"{1e3 / ms:.1f} images/s", part=f"{part}, {how}")
        for ms, how in ((alone, "one process"), (together, f"{workers} workers"))
    ]
