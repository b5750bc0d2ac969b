"""LVIS AP against lvis-api, hand-solved cases of its rules, and its evidence."""

import json

import numpy as np
import pytest
from lvis_case import LVIS_API_SCORES, build, write

from pe_dense.detection.ground_truth import ground_truth
from pe_dense.detection.lvis_metric import (
    LvisAP,
    best_of_each_image,
    counted_detections,
    lvis_average_precision,
    match_lvis_detections,
    require_lvis,
)
from pe_dense.results.evidence_file import load_evidence, save_evidence


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    truth, detections = build(0)
    return write(tmp_path_factory.mktemp("lvis"), truth), truth, detections


def truth_of(truth):
    """Its ids count from 1 already."""
    return ground_truth(truth, [category["name"] for category in truth["categories"]])


def image_ids(truth):
    return [image["id"] for image in truth["images"]]


def test_equals_lvis_api(case):
    _, truth, detections = case
    scores = lvis_average_precision(truth_of(truth), detections, image_ids(truth))
    assert scores == pytest.approx(LVIS_API_SCORES, abs=1e-12)


def test_evidence_gives_the_same_numbers(case):
    _, truth, detections = case
    evidence = match_lvis_detections(truth_of(truth), detections, image_ids(truth))
    weights = np.ones((1, len(truth["images"])), dtype=np.int64)
    found = evidence.metrics(weights)
    assert evidence.max_dets == 300
    for name in ("AP", "AP50", "AP75", "APs", "APm", "APl"):
        assert float(np.squeeze(found[name])) == pytest.approx(LVIS_API_SCORES[name], abs=1e-9)


def one_image(detections, negative=(), partly=()):
    """Class 1 has one object at (10, 10, 50, 50); classes 2 and 3 have none."""
    truth = dict(
        images=[
            dict(id=1, width=100, height=100, file_name="", neg_category_ids=list(negative),
                 not_exhaustive_category_ids=list(partly))
        ],
        annotations=[dict(id=1, image_id=1, category_id=1, bbox=[10, 10, 50, 50], area=2500)],
        categories=[dict(id=k, name=f"c{k}", frequency="rcf"[k - 1]) for k in (1, 2, 3)],
    )  # fmt: skip
    return truth, np.array(detections, dtype=float).reshape(-1, 7)


def score(*case_parts, **lists):
    truth, detections = one_image(*case_parts, **lists)
    return lvis_average_precision(truth_of(truth), detections, [1])


RIGHT = [1, 10, 10, 50, 50, 0.5, 1]
WRONG = [1, 70, 70, 20, 20, 0.9, 1]
ELSEWHERE = [1, 70, 70, 20, 20, 0.9, 2]


def test_a_mistake_before_the_right_box_halves_precision():
    scores = score([RIGHT, WRONG])
    assert scores["AP"] == pytest.approx(0.5)
    assert scores["APr"] == pytest.approx(0.5)
    assert "APc" not in scores  # no ground truth


def test_mistakes_in_partly_searched_classes_do_not_count():
    assert score([RIGHT, WRONG], partly=[1])["AP"] == pytest.approx(1.0)


def test_detections_of_classes_not_searched_are_left_out():
    assert score([RIGHT, ELSEWHERE])["AP"] == pytest.approx(1.0)


def test_nothing_found_and_only_the_best_300_count():
    assert score([])["AP"] == 0.0
    crowd = [[1, 70, 70, 20, 20, 0.6, 3]] * 300
    assert score([RIGHT, *crowd])["AP"] == 0.0
    assert score([RIGHT, *crowd[:-1]])["AP"] == pytest.approx(1.0)


def test_best_of_each_image_keeps_the_order():
    detections = np.zeros((6, 7))
    detections[:, 0] = [2, 1, 1, 2, 1, 2]
    detections[:, 5] = [0.1, 0.5, 0.9, 0.3, 0.7, 0.2]
    assert best_of_each_image(detections, 2).tolist() == [2, 3, 4, 5]
    assert best_of_each_image(np.zeros((0, 7))).tolist() == []


def test_boxes_as_masks_score_as_masks(case):
    _, truth, detections = case
    keep = detections[:200].copy()
    keep[:, 1:5] = keep[:, 1:5].clip(0, 199).round()
    from pycocotools import mask as coding

    masks = []
    for _, x, y, w, h, _, _ in keep:
        polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        rle = coding.merge(coding.frPyObjects(polygon, 200, 200))
        masks.append({"size": rle["size"], "counts": rle["counts"].decode()})
    boxes = lvis_average_precision(truth_of(truth), keep, image_ids(truth))
    found = lvis_average_precision(truth_of(truth), keep, image_ids(truth), masks)
    assert found["AP"] == pytest.approx(boxes["AP"], abs=0.03)  # rasterised, not exact


def test_the_metric_reads_what_detectors_give(case):
    import torch

    path, truth, detections = case
    metric = LvisAP(path)
    metric.dataset_meta = {"classes": [c["name"] for c in truth["categories"]]}
    for image in image_ids(truth):
        mine = detections[detections[:, 0] == image]
        boxes = torch.from_numpy(mine[:, 1:5].copy())
        boxes[:, 2:] += boxes[:, :2]
        found = dict(
            bboxes=boxes,
            scores=torch.from_numpy(mine[:, 5]),
            labels=torch.from_numpy(mine[:, 6]).long() - 1,
        )
        metric.process({}, [dict(img_id=image, pred_instances=found)])
    scores = metric.evaluate(len(truth["images"]))
    assert scores["lvis/AP"] == pytest.approx(LVIS_API_SCORES["AP"], abs=1e-4)
    assert metric.evidence().num_items == len(truth["images"])


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("images", "neg_category_ids"),
        ("images", "not_exhaustive_category_ids"),
        ("categories", "frequency"),
    ],
)
def test_files_that_are_only_coco_are_refused(case, part, key):
    truth = json.loads(json.dumps(case[1]))
    del truth[part][0][key]
    with pytest.raises(ValueError, match=f"x.json is not LVIS: {part} have no '{key}'"):
        require_lvis(truth, "x.json")


def test_evidence_before_evaluation():
    with pytest.raises(RuntimeError, match="nothing yet"):
        LvisAP("x.json").evidence()


def test_what_counts_equals_a_slow_version(case):
    _, truth, detections = case
    searched = {image["id"]: set(image["neg_category_ids"]) for image in truth["images"]}
    for annotation in truth["annotations"]:
        searched[annotation["image_id"]].add(annotation["category_id"])
    slow = [
        i
        for i in best_of_each_image(detections, limit=300)
        if int(detections[i, 6]) in searched[int(detections[i, 0])]
    ]
    assert counted_detections(truth, detections).tolist() == slow
    assert 0 < len(slow) < len(detections)


def test_nothing_found_is_kept_as_evidence(case, tmp_path):
    _, truth, _ = case
    nothing = np.zeros((0, 7))
    assert lvis_average_precision(truth_of(truth), nothing, image_ids(truth))["AP"] == 0.0
    evidence = match_lvis_detections(truth_of(truth), nothing, image_ids(truth))
    save_evidence(evidence, tmp_path / "evidence.npz")
    again = load_evidence(tmp_path / "evidence.npz")
    weights = np.ones((1, len(truth["images"])), dtype=np.int64)
    assert float(np.squeeze(again.metrics(weights)["AP"])) == 0.0
