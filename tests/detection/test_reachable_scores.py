"""The largest scores within limits, against pycocotools on perfect detections and all choices."""

from __future__ import annotations

import contextlib
import io
import itertools
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pycocotools")

from coco_folders import write_split
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pe_dense.data.checks.coco_split import CocoSplit, coco_facts
from pe_dense.detection.reachable_scores import (
    Limits,
    limit_findings,
    limits_of,
    reachable_ap,
    reachable_recall,
)


def scores_of_perfect_detections(counts_IK: np.ndarray) -> tuple[float, float]:
    """AP and AR100 of pycocotools if every object is detected exactly, 100 of each class count."""
    annotations = [
        dict(
            id=0, image_id=image + 1, category_id=label + 1, area=16, iscrowd=0,
            bbox=[5 * n % 4000, 5 * (5 * n // 4000), 4, 4],
        )
        for image, row in enumerate(counts_IK.tolist())
        for label, count in enumerate(row)
        for n in range(count)
    ]  # fmt: skip
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = dict(
            info={},
            images=[dict(id=i + 1, width=4000, height=4000) for i in range(len(counts_IK))],
            categories=[dict(id=k + 1, name=str(k)) for k in range(counts_IK.shape[1])],
            annotations=annotations,
        )
        coco.createIndex()
        found = [dict(a, score=0.5, bbox=list(a["bbox"])) for a in annotations]
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[8])


def objects(counts_IK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    image_P, class_P = np.nonzero(counts_IK)
    counts_P = counts_IK[image_P, class_P]
    return np.repeat(image_P, counts_P), np.repeat(class_P, counts_P)


@pytest.mark.parametrize("counts", [[[250, 3], [90, 0]], [[101, 100]], [[99, 100], [3, 1]]])
def test_cocos_limit(counts: list) -> None:
    counts_IK = np.array(counts)
    ap, ar = scores_of_perfect_detections(counts_IK)
    recall = reachable_recall(*objects(counts_IK), Limits())
    assert recall == pytest.approx(ar, abs=1e-9)
    assert ap <= reachable_ap(recall) + 1e-9 and ap >= reachable_ap(recall) - 0.01


@pytest.mark.parametrize("seed", range(5))
def test_an_images_detections_go_where_they_count_most(seed: int) -> None:
    """Against every way to give 3 detections to each of 3 images."""
    counts_IK = np.random.default_rng(seed).integers(0, 4, (3, 3))
    counts_IK[0] = np.maximum(counts_IK[0], 1)
    ways = [
        [w for w in itertools.product(*(range(min(c, 2) + 1) for c in row)) if sum(w) <= 3]
        for row in counts_IK.tolist()
    ]
    best = max(np.mean(np.sum(way, axis=0) / counts_IK.sum(0)) for way in itertools.product(*ways))
    found = reachable_recall(*objects(counts_IK), Limits(of_class=2, of_image=3))
    assert found == pytest.approx(best, abs=1e-12)


def test_within_the_limits_everything_can_be_found() -> None:
    image_A, class_A = np.array([7, 7, 2**60]), np.array([3, 3, 0])
    assert reachable_recall(image_A, class_A, Limits(2, 2)) == reachable_ap(1.0) == 1.0
    assert reachable_recall(np.zeros(0), np.zeros(0), Limits(1, 1)) == 1.0
    assert reachable_recall(image_A, class_A, Limits(None, None)) == 1.0


def test_the_note_on_a_split(tmp_path: Path) -> None:
    write_split(tmp_path, "val.json", "images", ["a.jpg", "b.jpg"])  # two classes an image
    split = CocoSplit(tmp_path, tmp_path / "val.json", tmp_path / "images")
    facts = coco_facts(split.root, split.json_file)
    assert (facts.most_objects, facts.most_of_class) == (2, 1)
    assert limit_findings(split, facts, Limits(1, 2)) == []
    (found,) = limit_findings(split, facts, Limits(100, 1))
    assert not found.is_problem and "val.json" in found.sentence()
    assert "AR is at most 0.500, AP at most 0.505" in found.sentence()


def test_limits_of_configs() -> None:
    deta = dict(num_queries=60, test_cfg=dict(max_per_img=80))
    assert limits_of(dict(model=deta, test_evaluator=dict(type="CocoAP"))) == Limits(60, 80)
    vitdet = dict(test_cfg=dict(rpn=dict(max_per_img=1000), rcnn=dict(max_per_img=300)))
    assert limits_of(dict(model=vitdet, test_evaluator=dict(type="CocoAP"))) == Limits(100, 300)
    assert limits_of(dict(model=vitdet, test_evaluator=dict(type="LvisAP"))) == Limits(None, 300)
    assert limits_of({}) == Limits(100, None)
