"""Results hold, draw and save what a model said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2")

from PIL import Image

from pe_dense.predict.results import DepthMap, Detections, LabelMap

IMAGE = np.full((40, 60, 3), 90, np.uint8)


def detections(masks: bool = False) -> Detections:
    boxes_Q4 = np.array([[3.25, 4.0, 20.0, 30.5], [10.0, 10.0, 50.0, 39.0]])
    masks_QHW = np.zeros((2, 40, 60), bool)
    masks_QHW[0, 4:30, 3:20] = True
    return Detections(
        IMAGE, ("cat", "dog"), Path("in/a.jpg"), boxes_Q4, np.array([0.9, 1 / 3]),
        np.array([1, 0]), masks_QHW if masks else None,
    )  # fmt: skip


def label_map(ids: tuple[int, ...] = (1, 7)) -> LabelMap:
    labels_HW = np.zeros((40, 60), np.int64)
    labels_HW[10:] = 1
    palette_K3 = np.array([[255, 0, 0], [0, 0, 255]], np.uint8)
    return LabelMap(IMAGE, ("sky", "sea"), None, labels_HW, ids, palette_K3)


def depth_map(depth_m: float = 2.0, steps: float = 1000.0) -> DepthMap:
    return DepthMap(IMAGE, (), None, np.full((40, 60), depth_m, np.float32), steps)


def test_detections_as_coco_lose_nothing() -> None:
    first, second = detections(masks=True).coco()
    assert first["bbox"] == [3.25, 4.0, 16.75, 26.5] and first["category_id"] == 2
    assert second["score"] == 1 / 3, "floats are whole"
    from pycocotools import mask

    assert mask.area(first["segmentation"]) == 26 * 17
    assert detections().coco()[0].keys() == {"bbox", "category_id", "score"}
    assert detections().names == ["dog", "cat"]
    assert len(detections().above(0.5)) == 1 and len(detections()) == 2


def test_nothing_found() -> None:
    none = detections(masks=True).above(0.99)
    assert none.coco() == [] and none.draw().shape == IMAGE.shape
    assert none.masks_QHW is not None and none.masks_QHW.shape == (0, 40, 60)


def test_each_result_saves_what_it_holds(tmp_path: Path) -> None:
    found = detections(masks=True)
    found.save(tmp_path / "a.json")
    data = json.loads((tmp_path / "a.json").read_text())
    assert data["images"] == [dict(id=1, file_name="a.jpg", width=60, height=40)]
    assert [row["score"] for row in data["annotations"]] == [0.9, 1 / 3]
    found.save(tmp_path / "a.png")
    found.save(tmp_path / "A.JPG")
    labels = label_map()
    labels.save(tmp_path / "l.png")
    with Image.open(tmp_path / "l.png") as picture:
        assert picture.mode == "P" and set(np.unique(np.asarray(picture))) == {1, 7}
        assert picture.convert("RGB").getpixel((0, 0)) == (255, 0, 0)
        assert picture.convert("RGB").getpixel((0, 39)) == (0, 0, 255)
    labels.save(tmp_path / "l.npy")
    assert (np.load(tmp_path / "l.npy") == labels.labels_HW).all()
    depth_map(2.3456).save(tmp_path / "d.npy")
    assert np.load(tmp_path / "d.npy")[0, 0] == np.float32(2.3456)
    depth_map(2.3456).save(tmp_path / "d.png")
    with Image.open(tmp_path / "d.png") as picture:
        assert np.asarray(picture).max() == 2346
    for result in (found, labels, depth_map()):
        result.save(tmp_path / "drawn.jpg")
        assert result.draw().shape == IMAGE.shape and result.draw().dtype == np.uint8
        with pytest.raises(ValueError, match=r"x\.xyz cannot be written; its name must end in \."):
            result.save(tmp_path / "x.xyz")


def test_numbers_of_labels_above_255(tmp_path: Path) -> None:
    label_map((3, 700)).save(tmp_path / "l.png")
    with Image.open(tmp_path / "l.png") as picture:
        assert set(np.unique(np.asarray(picture))) == {3, 700}


def test_depth_that_16_bits_do_not_hold(tmp_path: Path) -> None:
    far = depth_map(70.0)
    steps_HW, clipped = far.steps()
    assert steps_HW.max() == 65535 and clipped == 2400
    with pytest.raises(ValueError, match="2400 pixels of the picture do not fit into 16 bits"):
        far.save(tmp_path / "d.png")
    assert far.with_steps(256.0).steps()[1] == 0
    near_HW, clipped = depth_map(1e-5).steps()
    assert near_HW.min() == 1 and clipped == 2400, "0 would say that nothing is known"
    depth_HW = np.full((40, 60), 2.0, np.float32)
    depth_HW[:5] = np.nan
    unknown = DepthMap(IMAGE, (), None, depth_HW, 1000.0)
    steps_HW, clipped = unknown.steps()
    assert clipped == 0 and (steps_HW[:5] == 0).all() and (steps_HW[5:] == 2000).all()
    assert unknown.draw().shape == IMAGE.shape and unknown.figure().ndim == 3


def test_drawings_of_tiny_pictures() -> None:
    dot = np.zeros((1, 1, 3), np.uint8)
    found = Detections(
        dot, ("cat",), None, np.array([[0.0, 0, 1, 1]]), np.array([0.8]), np.array([0]), None
    )
    labels = LabelMap(dot, ("sky",), None, np.zeros((1, 1), int), (0,), np.zeros((1, 3), np.uint8))
    depth = DepthMap(dot, (), None, np.ones((1, 1), np.float32), 1000.0)
    for result in (found, labels, depth):
        assert result.draw().shape == (1, 1, 3) and result.figure().shape[2] == 3
