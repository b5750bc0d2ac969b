"""COCO AP: equal to pycocotools on random data, and to hand-made cases."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("mmengine")
pytest.importorskip("faster_coco_eval")
pytest.importorskip("pycocotools")

from pycocotools import coco as reference
from pycocotools.cocoeval import COCOeval

from pe_dense.detection.coco_metric import CocoAP, average_precision, match_detections
from pe_dense.detection.ground_truth import GroundTruth, ground_truth

CATEGORIES = {3: "disc", 7: "box", 1: "star", 9: "never"}
REFERENCE_STATS = {"AP": 0, "AP50": 1, "AP75": 2, "APs": 3, "APm": 4, "APl": 5, "AR100": 8}


def random_world(
    seed: int, num_images: int = 14, crowds: bool = True, sides: tuple = (8, 200)
) -> tuple[dict, np.ndarray]:
    """Ground truth and detections: jittered boxes, wrong classes, false alarms, tied scores."""
    rng = np.random.default_rng(seed)
    images, annotations, rows = [], [], []
    for number in range(num_images):
        image_id = 1000 - 7 * number
        images.append(dict(id=image_id, file_name=f"{image_id}.jpg", width=400, height=300))
        num_boxes = 0 if number % 5 == 0 else int(rng.integers(1, 9))
        for _ in range(num_boxes):
            w, h = np.exp(rng.uniform(*np.log(sides), size=2))
            x, y = rng.uniform(0, 400 - w), rng.uniform(0, 300 - h)
            category = int(rng.choice([3, 7, 1]))
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=category,
                    bbox=[x, y, w, h],
                    area=w * h,
                    iscrowd=int(crowds and rng.random() < 0.15),
                )
            )
            for _ in range(int(rng.integers(0, 4))):
                noise = rng.normal(0, 0.08, 4) * [w, h, w, h]
                found = category if rng.random() < 0.85 else int(rng.choice([3, 7, 1, 9]))
                score = round(float(rng.random()), 1)  # ten levels: many ties
                rows.append([image_id, *(np.array([x, y, w, h]) + noise), score, found])
        if number % 4 == 0:
            continue
        for _ in range(int(rng.integers(0, 5))):
            x, y, w, h = rng.uniform(2, 100, 4)
            rows.append([image_id, x, y, w, h, round(float(rng.random()), 1), 3])
    without = [image["id"] for image in images[-2:]]  # annotated images without any detection
    rows = [row for row in rows if row[0] not in without]
    categories = [dict(id=key, name=name) for key, name in CATEGORIES.items()]
    world = dict(images=images, annotations=annotations, categories=categories)
    return world, np.array(rows, dtype=np.float64).reshape(-1, 7)


def truth_of(world: dict) -> GroundTruth:
    return ground_truth(world, list(CATEGORIES.values()))


def numbered(truth: GroundTruth, detections_Q7: np.ndarray) -> np.ndarray:
    """Detections with numbers instead of the ids of `random_world`."""
    detections_Q7 = detections_Q7.copy()
    for row in detections_Q7:
        row[0] = truth.image_ids.index(int(row[0])) + 1
        row[6] = list(CATEGORIES).index(int(row[6])) + 1
    return detections_Q7


def scored(world: dict, detections_Q7: np.ndarray, image_ids: list[int]) -> dict[str, float]:
    truth = truth_of(world)
    return average_precision(truth, numbered(truth, detections_Q7), truth.numbers(image_ids))


def by_pycocotools(world: dict, detections_Q7: np.ndarray, image_ids: list[int]) -> dict:
    """All numbers of pycocotools, -1 where it has none."""
    results = [
        dict(image_id=int(row[0]), bbox=row[1:5].tolist(), score=row[5], category_id=int(row[6]))
        for row in detections_Q7
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = reference.COCO()
        truth.dataset = copy.deepcopy({"info": {}, **world})
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.params.imgIds = image_ids
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    scores = {name: evaluation.stats[place] for name, place in REFERENCE_STATS.items()}
    for k, category in enumerate(evaluation.params.catIds):
        precision = evaluation.eval["precision"][:, :, k, 0, -1]
        known = precision[precision > -1]
        scores[f"AP/{CATEGORIES[category]}"] = known.mean() if known.size else -1.0
    return scores


def assert_equals_pycocotools(
    world: dict, detections_Q7: np.ndarray, image_ids: list[int] | None = None
) -> dict[str, float]:
    image_ids = image_ids or [image["id"] for image in world["images"]]
    expected = by_pycocotools(world, detections_Q7, image_ids)
    found = scored(world, detections_Q7, image_ids)
    known = {name for name, value in expected.items() if value >= 0}
    assert set(found) == known
    for name in known:
        assert found[name] == pytest.approx(expected[name], abs=1e-9), name
    return found


@pytest.mark.parametrize("seed", range(6))
def test_equals_pycocotools_on_random_data(seed: int) -> None:
    world, detections = random_world(seed)
    assert any(item["iscrowd"] for item in world["annotations"])
    found = assert_equals_pycocotools(world, detections)
    assert {"APs", "APm", "APl", "AP/disc", "AP/box", "AP/star"} <= set(found)
    assert "AP/never" not in found  # detected, but never annotated
    assert 0.05 < found["AP"] < 0.95


def test_equals_pycocotools_without_large_objects() -> None:
    world, detections = random_world(10, crowds=False, sides=(6, 60))
    assert "APl" not in assert_equals_pycocotools(world, detections)


def test_equals_pycocotools_with_more_than_100_detections_an_image() -> None:
    world, detections = random_world(11, num_images=4)
    rng = np.random.default_rng(0)
    image_id = world["images"][1]["id"]
    many = np.column_stack(
        [np.full(150, image_id), rng.uniform(2, 150, (150, 4)), rng.random(150), np.full(150, 3)]
    )
    assert_equals_pycocotools(world, np.concatenate([detections, many]))


def test_only_the_given_images_count() -> None:
    world, detections = random_world(12)
    half = [image["id"] for image in world["images"][1::2]]
    found = assert_equals_pycocotools(world, detections, half)
    assert found != scored(world, detections, [image["id"] for image in world["images"]])


def test_tied_scores_in_any_order_within_an_image() -> None:
    world, detections = random_world(13)
    detections[:, 5] = 0.5
    assert_equals_pycocotools(world, detections)
    assert_equals_pycocotools(world, detections[::-1].copy())


def test_perfect_detections_have_ap_one() -> None:
    world, _ = random_world(14, crowds=False)
    rows = [[a["image_id"], *a["bbox"], 0.9, a["category_id"]] for a in world["annotations"]]
    found = scored(world, np.array(rows), [i["id"] for i in world["images"]])
    assert found == pytest.approx(dict.fromkeys(found, 1.0))


def test_no_detections_have_ap_zero() -> None:
    world, _ = random_world(15)
    found = scored(world, np.zeros((0, 7)), [image["id"] for image in world["images"]])
    assert {"AP", "AP50", "AP75", "AR100", "AP/disc", "AP/box", "AP/star"} <= set(found)
    assert set(found.values()) == {0.0}


# The metric class: labels 0, 1, 2 are the categories of the file in its order: 3, 7, 1

BOXES_XYWH = {3: [10, 10, 40, 30], 7: [60, 50, 20, 80], 1: [100, 20, 50, 50]}


@pytest.fixture
def metric(tmp_path: Path) -> CocoAP:
    """A metric on two images, of which the second has no object; the JSON has no 'info'."""
    content = dict(
        images=[
            dict(id=5, file_name="a.jpg", width=200, height=200),
            dict(id=2, file_name="b.jpg", width=200, height=200),
        ],
        annotations=[
            dict(id=n, image_id=5, category_id=key, bbox=box, area=box[2] * box[3], iscrowd=0)
            for n, (key, box) in enumerate(BOXES_XYWH.items(), start=1)
        ],
        categories=[dict(id=3, name="disc"), dict(id=7, name="box"), dict(id=1, name="star")],
    )
    path = tmp_path / "val.json"
    path.write_text(json.dumps(content))
    metric = CocoAP(str(path))
    metric.dataset_meta = dict(classes=["disc", "box", "star"])
    return metric


def sample(image_id: int, boxes_xyxy: list, labels: list[int]) -> dict:
    boxes = torch.tensor(boxes_xyxy, dtype=torch.float32).reshape(-1, 4)
    found = dict(bboxes=boxes, scores=torch.linspace(0.9, 0.5, len(boxes)))
    return dict(img_id=image_id, pred_instances={**found, "labels": torch.tensor(labels).long()})


def xyxy(box: list[float]) -> list[float]:
    x, y, w, h = box
    return [x, y, x + w, y + h]


def test_labels_become_the_category_ids_of_the_file(metric: CocoAP) -> None:
    boxes = [xyxy(BOXES_XYWH[key]) for key in (3, 7, 1)]
    metric.process({}, [sample(5, boxes, [0, 1, 2]), sample(2, [], [])])
    scores = metric.evaluate(size=2)
    assert scores["coco/AP"] == pytest.approx(1.0)
    assert [scores[f"coco/AP/{name}"] for name in ("disc", "box", "star")] == [
        pytest.approx(1.0)
    ] * 3


def test_exchanged_labels_score_zero_for_those_classes(metric: CocoAP) -> None:
    boxes = [xyxy(BOXES_XYWH[key]) for key in (3, 7, 1)]
    metric.process({}, [sample(5, boxes, [0, 2, 1])])
    metric.process({}, [sample(2, [], [])])
    scores = metric.evaluate(size=2)
    assert scores["coco/AP/disc"] == pytest.approx(1.0)
    assert scores["coco/AP/box"] == scores["coco/AP/star"] == 0.0
    assert scores["coco/AP"] == pytest.approx(1 / 3)


def test_a_false_alarm_on_an_empty_image_counts(metric: CocoAP) -> None:
    boxes = [xyxy(BOXES_XYWH[key]) for key in (3, 7, 1)]
    alarm = sample(2, [[0, 0, 50, 50]], [0])
    alarm["pred_instances"]["scores"] += 0.05  # 0.95, above the true disc's 0.9
    metric.process({}, [sample(5, boxes, [0, 1, 2]), alarm])
    # One hit in second place: precision 1/2 at every recall.
    assert metric.evaluate(size=2)["coco/AP/disc"] == pytest.approx(0.5)


def test_nothing_detected_at_all(metric: CocoAP) -> None:
    metric.process({}, [sample(5, [], []), sample(2, [], [])])
    scores = metric.evaluate(size=2)
    assert scores["coco/AP"] == 0.0 and scores["coco/AP/disc"] == 0.0


@pytest.mark.parametrize("seed", range(3))
def test_evidence_gives_the_same_scores(seed: int) -> None:
    """Matched by pycocotools, summed up by us; the score is from faster-coco-eval."""
    world, detections = random_world(seed)
    truth = truth_of(world)
    images = truth.numbers(image["id"] for image in world["images"])
    evidence = match_detections(truth, numbered(truth, detections), images)
    assert evidence.image_ids == tuple(str(image["id"]) for image in world["images"])[::-1]
    found = evidence.metrics()
    expected = average_precision(truth, numbered(truth, detections), images)
    assert {name for name, value in found.items() if value == value} == set(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


def test_the_metric_keeps_evidence(metric: CocoAP) -> None:
    boxes = [xyxy(BOXES_XYWH[key]) for key in (3, 7, 1)]
    metric.process({}, [sample(5, boxes, [0, 2, 1]), sample(2, [], [])])
    scores = metric.evaluate(size=2)
    evidence = metric.evidence()
    assert evidence.image_ids == ("2", "5") and set(evidence.classes) == {"disc", "box", "star"}
    assert evidence.metrics()["AP"] == pytest.approx(scores["coco/AP"], abs=1e-9)


def test_evidence_of_nothing_detected(metric: CocoAP) -> None:
    metric.process({}, [sample(5, [], []), sample(2, [], [])])
    metric.evaluate(size=2)
    assert metric.evidence().metrics()["AP"] == 0.0


def test_metric_is_built_by_name_from_mmdet(metric: CocoAP) -> None:
    registry = pytest.importorskip("mmdet.registry").METRICS
    built = registry.build(dict(type="CocoAP", ann_file=metric.ann_file))
    assert type(built) is CocoAP
