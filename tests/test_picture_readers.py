"""All readers of pictures keep one rule: Exif entries, deep files, sizes that differ."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

pytest.importorskip("mmseg")

from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.registry import DATASETS, TRANSFORMS
from mmseg.registry import TRANSFORMS as SEG_TRANSFORMS
from small_towers import SPATIAL, tower_of
from torch.utils.data import DataLoader

import pe_dense.segmentation  # noqa: F401
from pe_dense.alignment import patch_probe
from pe_dense.analysis.encoder_images import read_for_encoder
from pe_dense.data.image_shards import ShardedImages
from pe_dense.data.instance_id_images import CocoInstanceIds
from pe_dense.data.picture import read_picture
from pe_dense.data.unlabelled_images import UnlabelledImages
from pe_dense.openmmlab.image_loading import LoadImage
from pe_dense.pictures.boxes import Boxes
from pe_dense.run.command_line import sentence
from pe_dense.tracking.frames import read_frame
from pe_dense.tracking.pictures import FrameView, frame_picture

HEIGHT, WIDTH = 24, 48
PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
TURNED = {1: PIXELS, 3: PIXELS[::-1, ::-1], 6: np.rot90(PIXELS, -1)}


def write_photo(file: Path, orientation: int, pixels: np.ndarray = PIXELS) -> Path:
    """A lossless photo, so that what is read can be compared exactly."""
    picture = Image.fromarray(pixels)
    exif = picture.getexif()
    if orientation != 1:
        exif[0x0112] = orientation
    picture.save(file, exif=exif)
    return file


# One function per reader, from a file in a folder of its own to (H, W, 3) RGB.


def load(file: Path, **sample: object) -> np.ndarray:
    return LoadImage()({"img_path": str(file), **sample})["img"][..., ::-1]


def from_shard(file: Path) -> np.ndarray:
    with tarfile.open(file.parent / "s.tar", "w") as tar:
        tar.add(file, file.name)
    return ShardedImages(file.parent).load_sample(0)["img"][..., ::-1]


def write_coco(file: Path, width: int, height: int) -> None:
    """The JSON of one image that is said to be so large, with a triangle in its upper left."""
    image = {"id": 5, "file_name": file.name, "width": width, "height": height}
    polygon = [[2.0, 2.0, 20.0, 2.0, 20.0, 20.0]]
    box = {"bbox": [2, 2, 18, 18], "area": 162, "segmentation": polygon}
    item = {"id": 1, "image_id": 5, "category_id": 1, **box}
    classes = [{"id": 1, "name": "triangle"}]
    content = {"images": [image], "annotations": [item], "categories": classes}
    (file.parent / "a.json").write_text(json.dumps(content))


def from_instances(file: Path) -> np.ndarray:
    write_coco(file, *ImageOps.exif_transpose(Image.open(file)).size)
    return CocoInstanceIds(file.parent, "a.json").load_sample(0)["img"][..., ::-1]


def from_probe(file: Path) -> np.ndarray:
    (file.parent / "images").mkdir()
    (file.parent / "maps").mkdir()
    file.rename(file.parent / "images" / file.name)
    cv2.imwrite(str(file.parent / "maps" / file.name), np.zeros((HEIGHT, WIDTH), np.uint8))
    [(image_HW3, _)] = patch_probe._pairs(str(file.parent), ("images", "maps"), 3, False, None)
    return image_HW3[..., ::-1]


def from_analysis(as_stored: bool) -> Callable[[Path], np.ndarray]:
    return lambda file: read_for_encoder(file, tower_of(**SPATIAL), 24, as_stored).pixels_HW3


SHOWN = {
    "pipelines with boxes": load,
    "unlabelled images": lambda file: UnlabelledImages(file.parent).load_sample(0)["img"][
        ..., ::-1
    ],
    "shards": from_shard,
    "instance ids": from_instances,
    "pictures of detection": read_picture,
    "features": from_analysis(as_stored=False),
}
STORED = {
    "pipelines with label maps": lambda file: load(file, seg_map_path="none.png"),
    "pipelines for label maps": lambda file: load(file, seg_fields=[]),
    "pipelines with depth maps": lambda file: load(file, depth_map_path="none.png"),
    "frames": read_frame,
    "probe of patches": from_probe,
    "features in masks": from_analysis(as_stored=True),
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("reader", SHOWN)
def test_turned_where_labels_are_drawn_on_what_is_shown(
    tmp_path: Path, reader: str, orientation: int
) -> None:
    found = SHOWN[reader](write_photo(tmp_path / "a.png", orientation))
    np.testing.assert_array_equal(found, TURNED[orientation])


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("reader", STORED)
def test_stored_where_labels_are_maps_of_stored_pixels(
    tmp_path: Path, reader: str, orientation: int
) -> None:
    found = STORED[reader](write_photo(tmp_path / "a.png", orientation))
    np.testing.assert_array_equal(found, PIXELS)


@pytest.mark.parametrize("reader", SHOWN | STORED)
def test_every_reader_scales_16_bits_or_refuses_them(tmp_path: Path, reader: str) -> None:
    file, read = tmp_path / "a.png", (SHOWN | STORED)[reader]
    cv2.imwrite(str(file), PIXELS[..., ::-1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(read(file), PIXELS)
    dark = tmp_path / "dark" / "a.png"
    dark.parent.mkdir()
    cv2.imwrite(str(dark), PIXELS[..., ::-1].astype(np.uint16) * 16)
    with pytest.raises(ValueError, match="16 bits per sample but no value above 4080"):
        read(dark)


def test_drawn_frames_follow_what_is_drawn_on_them(tmp_path: Path) -> None:
    file = write_photo(tmp_path / "a.png", 6)
    map_HW = np.zeros((HEIGHT, WIDTH), np.uint8)
    boxes = Boxes(np.zeros((0, 4)), np.zeros(0, np.int64))
    with_map = frame_picture(FrameView(file, map_HW, map_HW), "", WIDTH)
    with_boxes = frame_picture(FrameView(file, boxes, boxes), "", WIDTH)
    assert with_map.shape[0] < with_boxes.shape[0]


def test_bits_of_a_set_reach_its_readers(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    cv2.imwrite(str(file), PIXELS[..., ::-1].astype(np.uint16) * 16)
    expected = np.rint(PIXELS * (16 * 255 / 4095)).astype(np.uint8)
    for found in (
        LoadImage(bits=12)({"img_path": str(file)})["img"],
        UnlabelledImages(tmp_path, bits=12).load_sample(0)["img"],
    ):
        np.testing.assert_array_equal(found[..., ::-1], expected)
    with pytest.raises(ValueError, match="image_bits is 8"):
        TRANSFORMS.build(dict(type="LoadImage", bits=8))
    with pytest.raises(ValueError, match="imdecode_backend is 'turbojpeg'"):
        LoadImage("turbojpeg")


# Sizes that differ


class OneImage(BaseDataset):
    def load_data_list(self) -> list[dict]:
        return [dict(img_path=f"{self.data_root}/a.png", height=HEIGHT, width=WIDTH)]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_size_that_contradicts_the_annotations(tmp_path: Path, num_workers: int) -> None:
    def batches() -> list:
        data = OneImage(data_root=str(tmp_path), pipeline=[dict(type="LoadImage")])
        return list(DataLoader(data, num_workers=num_workers, collate_fn=pseudo_collate))

    write_photo(tmp_path / "a.png", 3)
    assert batches()[0]["img"][0].shape == (HEIGHT, WIDTH, 3)
    write_photo(tmp_path / "a.png", 6)
    with pytest.raises(ValueError) as refusal:
        batches()
    assert sentence(refusal.value) == (
        f"image {tmp_path}/a.png has 24 x 48 px, but its annotations say 48 x 24, turned by its "
        "Exif entry?; boxes would be misplaced, so put the sizes (and boxes) right, or save the "
        "image as it is shown, without the entry"
    )


def test_a_size_that_contradicts_the_label_map(tmp_path: Path) -> None:
    photo, label = write_photo(tmp_path / "a.png", 6), tmp_path / "b.png"
    load_map = SEG_TRANSFORMS.build(dict(type="mmseg.LoadAnnotations"))

    def load_pair() -> dict:
        names = dict(img_path=str(photo), seg_map_path=str(label))
        return load_map(LoadImage()({**names, "reduce_zero_label": False, "seg_fields": []}))

    Image.new("L", (WIDTH, HEIGHT)).save(label)
    assert load_pair()["gt_seg_map"].shape == (HEIGHT, WIDTH)
    Image.new("L", (HEIGHT, WIDTH)).save(label)
    with pytest.raises(ValueError, match=rf"{label}: is 24x48 px but its image is 48x24, turned"):
        load_pair()


def test_instances_of_an_image_that_is_turned(tmp_path: Path) -> None:
    file = write_photo(tmp_path / "a.png", 6)
    write_coco(file, HEIGHT, WIDTH)
    sample = CocoInstanceIds(tmp_path, "a.json").load_sample(0)
    assert sample["instance_ids"].shape == (WIDTH, HEIGHT) and sample["instance_ids"][10, 18] == 1
    write_coco(file, WIDTH, HEIGHT)
    with pytest.raises(ValueError, match=r"it is \(48, 24\), turned as Exif says"):
        CocoInstanceIds(tmp_path, "a.json").load_sample(0)


# Photos with an Exif entry beside maps of their stored pixels, through a whole config


def write_set(root: Path, orientation: int, width: int) -> Path:
    rng = np.random.default_rng(0)
    for split in ("training", "validation"):
        for kind in ("images", "annotations"):
            (root / kind / split).mkdir(parents=True)
        for number in range(4):
            labels_HW = np.ones((64, width), np.uint8)
            labels_HW[: 20 + number] = 2
            pixels = rng.integers(0, 40, (64, width, 3)).astype(np.uint8)
            pixels[labels_HW == 2] += 180
            write_photo(root / f"images/{split}/{number}.png", orientation, pixels)
            Image.fromarray(labels_HW).save(root / f"annotations/{split}/{number}.png")
    return root


@pytest.mark.parametrize("width", [64, 96])
def test_photos_with_maps_load_alike_whatever_their_orientation(tmp_path: Path, width: int) -> None:
    from mmengine.registry import init_default_scope

    from pe_dense.run.config import load_config
    from pe_dense.segmentation.map_check import check_config

    samples = {}
    for orientation in (1, 3, 6):
        root = write_set(tmp_path / str(orientation), orientation, width)
        cfg, _ = load_config(
            "configs/segmentation/linear_pe_t16_mini.py", options={"data_root": str(root)}
        )
        init_default_scope("mmseg")
        found = check_config(cfg, ("train", "test")).findings
        assert {f.rule.name for f in found} - {"turned-images"} == {"class-absent"}  # eight of ten
        turned = sum(f.count for f in found if f.rule.name == "turned-images")
        assert turned == (8 if orientation != 1 else 0)
        for split in ("train", "test"):
            dataset = cfg[f"{split}_dataloader"].dataset
            dataset.img_suffix = ".png"
            np.random.seed(0)  # noqa: NPY002 (what mmcv's transforms draw from)
            found = DATASETS.build(dataset)
            assert len(found) == 4
            for number in range(4):
                sample = found[number]
                key = split, number
                pair = sample["inputs"], sample["data_samples"].gt_sem_seg.data
                first = samples.setdefault(key, pair)
                assert all((a == b).all() for a, b in zip(first, pair, strict=True))
