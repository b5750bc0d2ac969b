"""Mask AP: equal to pycocotools on blobs with holes, crowds and ties, also through the metric."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from pycocotools import coco as reference
from pycocotools.cocoeval import COCOeval

from pe_dense.detection.coco_metric import CocoAP, encode_masks, mask_average_precision
from pe_dense.detection.ground_truth import ground_truth

STATS = {"AP": 0, "AP50": 1, "AP75": 2, "APs": 3, "APm": 4, "APl": 5, "AR100": 8}
SIDE = 96


def blob(rng):
    """A random ellipse with a hole, (H, W) bool."""
    y, x = np.mgrid[:SIDE, :SIDE]
    (cy, cx), (ry, rx) = rng.uniform(15, SIDE - 15, 2), rng.uniform(4, 40, 2)
    distance = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2
    return (distance < 1) & (distance > rng.uniform(0, 0.3))


def box_of(mask):
    rows, columns = np.nonzero(mask)
    x, y = columns.min(), rows.min()
    return [float(v) for v in (x, y, columns.max() - x + 1, rows.max() - y + 1)]


def world(seed, num_images=12):
    rng = np.random.default_rng(seed)
    images, annotations, rows, masks = [], [], [], []
    for image in range(1, num_images + 1):
        images.append(dict(id=image, width=SIDE, height=SIDE, file_name=""))
        for _ in range(rng.integers(0, 5)):
            mask = blob(rng)
            (rle,) = encode_masks(mask[None])
            annotations.append(
                dict(
                    id=len(annotations) + 1, image_id=image, category_id=int(rng.integers(1, 4)),
                    segmentation=rle, area=float(mask.sum()), bbox=box_of(mask),
                    iscrowd=int(rng.random() < 0.1),
                )
            )  # fmt: skip
            for _ in range(rng.integers(0, 3)):
                shifted = np.roll(mask, tuple(rng.integers(-6, 7, 2)), axis=(0, 1))
                score = round(float(rng.random()), 1)  # ties
                rows.append([image, *box_of(shifted), score, annotations[-1]["category_id"]])
                masks.append(shifted)
    truth = dict(
        images=images,
        annotations=annotations,
        categories=[dict(id=k, name=f"c{k}") for k in (1, 2, 3)],
    )
    return truth, np.array(rows, dtype=float), masks


def truth_of(truth):
    return ground_truth(truth, ["c1", "c2", "c3"])


def by_pycocotools(path, detections, masks):
    results = [
        dict(image_id=int(r[0]), category_id=int(r[6]), score=r[5], segmentation=rle)
        for r, rle in zip(detections, encode_masks(np.array(masks)), strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = reference.COCO(path)
        coco.dataset.setdefault("info", {})
        evaluation = COCOeval(coco, coco.loadRes(results), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {f"mask_{k}": evaluation.stats[i] for k, i in STATS.items() if evaluation.stats[i] >= 0}


@pytest.mark.parametrize("seed", range(3))
def test_equals_pycocotools(tmp_path, seed):
    truth, detections, masks = world(seed)
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    ids = [image["id"] for image in truth["images"]]
    found = mask_average_precision(truth_of(truth), detections, encode_masks(np.array(masks)), ids)
    assert found == pytest.approx(by_pycocotools(str(path), detections, masks), abs=1e-12)
    assert found["mask_AP"] > 0.05


def test_the_metric_gives_both_kinds(tmp_path):
    truth, detections, masks = world(5)
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    metric = CocoAP(str(path), with_masks=True)
    metric.dataset_meta = {"classes": ["c1", "c2", "c3"]}
    for image in truth["images"]:
        mine = np.flatnonzero(detections[:, 0] == image["id"])
        boxes = torch.from_numpy(detections[mine, 1:5])
        boxes[:, 2:] += boxes[:, :2]
        found = dict(
            bboxes=boxes,
            scores=torch.from_numpy(detections[mine, 5]),
            labels=torch.from_numpy(detections[mine, 6]).long() - 1,
            masks=torch.from_numpy(np.array([masks[i] for i in mine]).reshape(-1, SIDE, SIDE)),
        )
        metric.process({}, [dict(img_id=image["id"], pred_instances=found)])
    scores = metric.evaluate(len(truth["images"]))
    expected = by_pycocotools(str(path), detections, masks)
    assert {f"coco/{k}": v for k, v in expected.items()}.items() <= {
        k: pytest.approx(v) for k, v in scores.items()
    }.items()
    assert "coco/AP" in scores


def test_nothing_found():
    truth, *_ = world(1)
    found = mask_average_precision(truth_of(truth), np.zeros((0, 7)), [], [1, 2, 3])
    assert found["mask_AP"] == 0.0
