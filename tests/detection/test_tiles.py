"""Detection in tiles: where they lie, how detections are merged, and the whole path."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("mmdet")

import torch
from coco_folders import write_folder, write_image
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS
from mmengine.structures import InstanceData
from runs import evaluate, train

from pe_dense.detection.tile_merging import merged, merged_one_by_one, tile_boxes
from pe_dense.detection.tiles import TiledDetector, Tiles
from pe_dense.run.checkpoint import load_checkpoint_safely
from pe_dense.run.config import load_config
from pe_dense.run.protocol import protocol_sha256
from pe_dense.run.stored_rules import of_project

CONFIG = str(Path(__file__).resolve().parents[2] / "configs" / "detection" / "vitdet_custom.py")


def test_tiles_cover_the_picture_and_end_at_its_border() -> None:
    boxes = tile_boxes((300, 500), (200, 200), 0.2)
    # Values of sahi 0.12.8, get_slice_bboxes(300, 500, 200, 200, overlap 0.2).
    assert boxes[:3] == [(0, 0, 200, 200), (160, 0, 360, 200), (300, 0, 500, 200)]
    assert boxes[3:] == [(0, 100, 200, 300), (160, 100, 360, 300), (300, 100, 500, 300)]
    assert tile_boxes((50, 60), (200, 200), 0.2) == [(0, 0, 60, 50)]
    with pytest.raises(ValueError, match="a share from 0 to below 1"):
        tile_boxes((300, 500), (200, 200), 1.0)


@pytest.mark.parametrize("rule", ["nmm", "nms"])
def test_merging_equals_its_reference(rule: str) -> None:
    rng = np.random.default_rng(0)
    for count in (0, 1, 2, 40, 80):
        corner, side = rng.uniform(0, 200, (count, 2)), rng.uniform(5, 80, (count, 2))
        boxes = np.concatenate([corner, corner + side], 1)
        scores, labels = rng.random(count).round(1), rng.integers(0, 3, count)
        fast, slow = (f(boxes, scores, labels, rule) for f in (merged, merged_one_by_one))
        assert sorted(fast[1]) == sorted(slow[1])
        order = {tuple(places): box for box, places in zip(*slow, strict=True)}
        for box, places in zip(*fast, strict=True):
            np.testing.assert_allclose(box, order[tuple(places)])
        assert (np.diff([scores[places[0]] for places in fast[1]]) <= 0).all()


def test_parts_of_a_cut_object_become_one() -> None:
    whole, left, other = [0, 0, 100, 40], [0, 0, 60, 40], [50, 0, 110, 40]
    boxes = np.array([left, whole, other, [0, 0, 100, 40]], dtype=float)
    scores, labels = np.array([0.9, 0.8, 0.7, 0.6]), np.array([0, 0, 0, 1])
    found, groups = merged(boxes, scores, labels, "nmm")
    # The left part takes the whole; the other part matches neither it nor, by itself, the left one.
    assert groups == [[0, 1], [2], [3]]
    assert found.tolist() == [whole, other, whole]
    found, groups = merged(boxes, scores, labels, "nms")
    assert groups == [[0], [2], [3]] and found[0].tolist() == left


class Spots(torch.nn.Module):
    """Finds bright pixels, each a box of 2 x 2 and a mask; blind to pictures over 40 px."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def test_step(self, batch: dict) -> list[DetDataSample]:
        self.sizes.append(len(batch["inputs"]))
        for image, sample in zip(batch["inputs"], batch["data_samples"], strict=True):
            rows, columns = torch.nonzero(image[0] == 255, as_tuple=True)
            if max(image.shape) > 40:
                rows, columns = rows[:0], columns[:0]
            boxes = torch.stack([columns, rows, columns + 2, rows + 2], 1).float()
            masks = torch.zeros(len(rows), *image.shape[1:], dtype=torch.bool)
            for k, (row, column) in enumerate(zip(rows, columns, strict=True)):
                masks[k, row, column] = True
            sample.pred_instances = InstanceData(
                bboxes=boxes,
                scores=torch.full((len(rows),), 0.5),
                labels=torch.zeros(len(rows), dtype=torch.long),
                masks=masks,
            )
        return batch["data_samples"]


def test_detections_of_tiles_lie_where_they_are_in_the_picture() -> None:
    image = np.zeros((60, 100, 3), dtype=np.uint8)
    spots = [(5, 7), (30, 30), (58, 98), (20, 55)]
    for row, column in spots:
        image[row, column] = 255
    views = Tiles((40, 40), 0.25, [dict(type="mmdet.PackDetInputs")])(
        dict(img=image, img_shape=(60, 100), ori_shape=(60, 100), img_id=4, img_path="a.png")
    )
    assert len(views["inputs"]) == 1 + 2 * 3
    batch = {key: [[view] for view in value] for key, value in views.items()}
    detector = Spots()
    tiled = TiledDetector(merge="nmm", module=detector, views_at_once=4)
    (sample,) = tiled.test_step(batch)
    assert detector.sizes == [1, 4, 2], "views of one size run together"
    found = sample.pred_instances
    corners = {(int(y), int(x)) for x, y in found.bboxes[:, :2].tolist()}
    assert corners == set(spots) and len(found) == len(spots), "in the overlap each is found once"
    assert {tuple(map(int, torch.nonzero(m)[0])) for m in found.masks} == set(spots)
    assert sample.ori_shape == (60, 100) and sample.img_id == 4


def test_a_picture_within_one_tile_is_not_cut() -> None:
    results = dict(
        img=np.zeros((30, 40, 3), dtype=np.uint8), img_shape=(30, 40), ori_shape=(30, 40)
    )
    views = Tiles((40, 40), 0.2, [dict(type="mmdet.PackDetInputs", meta_keys=("img_shape",))])
    assert len(views(results)["inputs"]) == 1


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    place = tmp_path_factory.mktemp("tiles")
    root = write_folder(place / "set", 2, 2)
    given = dict(data_root=str(root), masks=False, max_iters=3, val_interval=3, batch_size=1,
                 image_scale=(64, 64), width=32, holdout_share=0)  # fmt: skip
    train(CONFIG, options=given, work_dir=place / "work")
    return SimpleNamespace(root=root, options=given, work=place / "work", place=place)


@pytest.mark.slow
def test_the_option_scores_in_tiles(work: SimpleNamespace) -> None:
    given = {**work.options, "tile": (32, 48)}
    records = work.place / "records"
    scores = evaluate(
        CONFIG, work.work, records, options=given, work_dir=work.place / "tiled", argv=["t"]
    )
    (file,) = records.rglob("*.json")
    record = json.loads(file.read_text())
    assert record["scores"]["AP"] == scores["AP"]
    plain = protocol_sha256(load_config(CONFIG, options=work.options)[1])
    assert protocol_sha256(load_config(CONFIG, options=given)[1]) != plain
    assert ".mod-" in record["protocol"]["id"]


@pytest.mark.slow
def test_views_together_are_views_one_by_one(work: SimpleNamespace) -> None:
    cfg, _ = load_config(CONFIG, options={**work.options, "tile": (32, 40), "tile_merge": "nms"})
    assert cfg.test_dataloader.batch_size == 1
    torch.manual_seed(0)
    register_all_modules(init_default_scope=True)
    data = DATASETS.build(cfg.test_dataloader.dataset)
    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(load_checkpoint_safely(str(work.work / "iter_3.pth"))["state_dict"])
    found = []
    for at_once in (1, 4):
        tiled = TiledDetector(merge=cfg.tta_model["merge"], views_at_once=at_once, module=model)
        with torch.no_grad():
            (sample,) = tiled.test_step(pseudo_collate([copy.deepcopy(data[0])]))
        found.append(sample.pred_instances)
    assert len(found[0]) == len(found[1]) > 0
    torch.testing.assert_close(found[0].scores, found[1].scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tile": 512}, "no height and width of at least 32 pixels"),
        ({"tile": (8, 8)}, "no height and width of at least 32 pixels"),
        ({"tile_merge": "nms"}, "does nothing without tile"),
    ],
)
def test_tiles_that_cannot_be(options: dict, words: str, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", 1, 1)
    write_image(root / "images" / "t0.jpg")
    with pytest.raises(ValueError, match=words):
        load_config(CONFIG, options={"data_root": str(root), **options})


def test_the_option_is_for_detectors() -> None:
    config = Path(CONFIG).parents[1] / "segmentation" / "linear_pe_t16_mini.py"
    with pytest.raises(ValueError, match="is no detector of pictures; leave it out"):
        load_config(config, options={"tile": (64, 64)})


def test_a_checkpoint_alone_may_be_used_in_tiles() -> None:
    """Its stored config names no tiles; the option brings parts that are the project's own."""
    assert {"Tiles", "TiledDetector"} <= of_project().types
