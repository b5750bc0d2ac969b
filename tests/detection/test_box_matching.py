"""Right, wrong and missed against pycocotools, and cases solved by hand."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest

pytest.importorskip("mmdet")
pytest.importorskip("pycocotools")

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pe_dense.detection.box_matching import CROWD, NO_MATCH, match_boxes, overlaps


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corners = rng.integers(0, 60, (count, 2))
    return np.concatenate([corners, corners + rng.integers(5, 40, (count, 2))], 1).astype(float)


def reference(boxes, scores, labels, objects, object_labels, crowd) -> tuple[list, list]:
    """Which detections pycocotools matches to objects and to crowds, by index."""

    def rows(items, kinds, extra):
        made = []
        for i, ((x1, y1, x2, y2), kind) in enumerate(zip(items.tolist(), kinds)):
            width, height = x2 - x1, y2 - y1
            box = dict(bbox=[x1, y1, width, height], area=width * height)
            made.append(dict(id=i + 1, image_id=1, category_id=int(kind), **box, **extra(i)))
        return made

    truth, found = COCO(), COCO()
    shared = dict(images=[dict(id=1)], categories=[dict(id=k, name=str(k)) for k in range(3)])
    gt_rows = rows(objects, object_labels, lambda i: dict(iscrowd=int(crowd[i])))
    dt_rows = rows(boxes, labels, lambda i: dict(score=float(scores[i]), iscrowd=0))
    with contextlib.redirect_stdout(io.StringIO()):
        for coco, items in ((truth, gt_rows), (found, dt_rows)):
            coco.dataset = {**shared, "annotations": items}
            coco.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
    matched = {}
    for entry in evaluation.evalImgs:
        if entry is None or entry["aRng"] != [0, 1e10]:
            continue
        rows = zip(entry["dtIds"], entry["dtMatches"][0], entry["dtIgnore"][0])
        for detection, match, is_ignored in rows:
            matched[detection - 1] = (int(match) - 1, bool(is_ignored))
    return matched


@pytest.mark.parametrize("seed", range(30))
def test_matches_are_those_of_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    objects = random_boxes(rng, 12)
    # Detections near objects, so that several compete for one.
    boxes = np.concatenate([objects + rng.integers(-4, 5, objects.shape)] * 2 + [objects[:4]])
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    scores = rng.permutation(len(boxes)) / len(boxes)
    labels = rng.integers(0, 2, len(boxes))
    object_labels, crowd = rng.integers(0, 2, 12), rng.random(12) < 0.2
    found = match_boxes(boxes, scores, labels, objects, object_labels, crowd)
    expected = reference(boxes, scores, labels, objects, object_labels, crowd)
    for q, place in enumerate(found.object_Q):
        match, is_ignored = expected[q]
        if is_ignored:
            assert place == CROWD
        else:
            assert place == (match if match >= 0 else NO_MATCH)
    right = sum(match >= 0 and not ignored for match, ignored in expected.values())
    assert found.num_right == right > 0
    assert found.num_missed == int((~crowd).sum()) - right


def test_by_hand() -> None:
    objects = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]], dtype=float)
    boxes = np.array([[0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 26], [50, 50, 60, 54]], float)
    found = match_boxes(
        boxes, np.array([0.5, 0.9, 0.3, 0.8]), np.zeros(4, int), objects, np.zeros(3, int)
    )
    # The better score takes the object, though the other box fits better; 0.4 is too little.
    assert found.object_Q.tolist() == [NO_MATCH, 0, 1, NO_MATCH]
    assert (found.num_right, found.num_wrong, found.num_missed) == (2, 2, 1)
    assert found.f1 == pytest.approx(4 / 7)


def test_another_class_is_no_match() -> None:
    box = np.array([[0.0, 0, 10, 10]])
    found = match_boxes(box, np.ones(1), np.array([1]), box, np.array([0]))
    assert (found.num_right, found.num_wrong, found.num_missed) == (0, 1, 1)


@pytest.mark.parametrize(("found", "there", "f1"), [(0, 0, 1.0), (0, 3, 0.0), (3, 0, 0.0)])
def test_nothing_found_or_nothing_there(found: int, there: int, f1: float) -> None:
    rng = np.random.default_rng(0)
    matches = match_boxes(
        random_boxes(rng, found), np.ones(found), np.zeros(found, int),
        random_boxes(rng, there), np.zeros(there, int),
    )  # fmt: skip
    assert matches.f1 == f1 and matches.num_wrong == found and matches.num_missed == there


def test_crowds_are_neither_found_nor_missed() -> None:
    box = np.array([[0.0, 0, 10, 10]])
    crowd = np.array([[0.0, 0, 100, 100]])
    found = match_boxes(
        box, np.ones(1), np.zeros(1, int), crowd, np.zeros(1, int), np.ones(1, bool)
    )
    assert found.object_Q.tolist() == [CROWD] and found.f1 == 1.0
    assert overlaps(box, crowd, np.ones(1, bool)).tolist() == [[1.0]]
    assert overlaps(box, crowd, np.zeros(1, bool)).tolist() == [[0.01]]


def test_boxes_without_area() -> None:
    point = np.zeros((1, 4))
    assert overlaps(point, point, np.zeros(1, bool)).tolist() == [[0.0]]
