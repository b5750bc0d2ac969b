"""AP from evidence: what pycocotools says, also when images are really repeated."""

from __future__ import annotations

import dataclasses

import faster_coco_eval
import numpy as np
import pytest
from coco_case import NAMES, evaluate, evidence_of, random_case, repeated

from pe_dense.results.average_precision import (
    AREAS,
    IOU_THRESHOLDS,
    average_precision,
    needed_rows,
)
from pe_dense.results.detection_evidence import DetectionEvidence, detection_evidence_from_eval_imgs

PLACES = {"AP": 0, "AP50": 1, "AP75": 2, "APs": 3, "APm": 4, "APl": 5, "AR100": 8}


def assert_same_scores(scores: dict, evaluation) -> None:
    for name, place in PLACES.items():
        reference = evaluation.stats[place]
        reference = np.nan if reference == -1 else reference
        assert scores[name] == pytest.approx(reference, abs=1e-9, nan_ok=True), name
    for k, name in enumerate(NAMES.values()):
        values = evaluation.eval["precision"][:, :, k, 0, -1]
        reference = values[values > -1].mean() if (values > -1).any() else np.nan
        assert scores[f"AP/{name}"] == pytest.approx(reference, abs=1e-9, nan_ok=True), name


@pytest.mark.parametrize("seed", range(8))
def test_equal_to_pycocotools(seed):
    objects, found = random_case(seed)
    evaluation = evaluate(objects, found, list(range(1, 13)))
    scores = evidence_of(evaluation).metrics()
    assert_same_scores(scores, evaluation)
    assert 0.05 < scores["AP"] < 0.95 and np.isnan(scores["AP/emu"])
    has_fox = any(row["category_id"] == 12 and not row["iscrowd"] for row in objects)
    assert scores["AP/fox"] == 0 if has_fox else np.isnan(scores["AP/fox"])


def test_equal_to_pycocotools_when_detections_are_cut():
    objects, found = random_case(3, num_images=6, most=20)
    evaluation = evaluate(objects, found, list(range(1, 7)), max_dets=(1, 3, 5))
    evidence = evidence_of(evaluation)
    scores = evidence.metrics()
    assert evidence.max_dets == 5 and "AR100" not in scores
    values = evaluation.eval["precision"][..., 0, -1]
    assert scores["AP"] == pytest.approx(values[values > -1].mean(), abs=1e-9)
    assert scores["AR5"] == pytest.approx(evaluation.stats[8], abs=1e-9)
    assert np.bincount(evidence.image_D[evidence.class_D == 0]).max() == 5


@pytest.mark.parametrize("seed", range(6))
def test_weights_equal_repeated_images(seed):
    objects, found = random_case(seed, ties_within=False)
    evidence = evidence_of(evaluate(objects, found, list(range(1, 13))))
    rng = np.random.default_rng(seed)
    weights_RN = rng.poisson(1.0, (3, 12))
    drawn = evidence.metrics(weights_RN)
    for r, weights_N in enumerate(weights_RN):
        ids = list(range(1, int(weights_N.sum()) + 1))
        again = evaluate(repeated(objects, weights_N), repeated(found, weights_N), ids)
        assert_same_scores({name: values[r] for name, values in drawn.items()}, again)


def test_weights_of_one_and_of_none():
    evidence = evidence_of(evaluate(*random_case(0), list(range(1, 13))))
    scores = evidence.metrics()
    drawn = evidence.metrics(np.array([np.ones(12), np.zeros(12), np.full(12, 3)], int))
    for name, value in scores.items():
        assert drawn[name][0] == pytest.approx(value, abs=1e-12, nan_ok=True)
        assert np.isnan(drawn[name][1])


def test_ap_by_hand():
    # Right, wrong, right of four objects: precision 1 up to recall 0.25, then 2 / 3 up to 0.5.
    right = np.array([[True], [False], [True]])
    weights_RD = np.array([[1, 1, 1], [2, 0, 1]], np.uint8)
    ap, recall = average_precision(right, np.zeros_like(right), weights_RD, np.array([4, 3]))
    np.testing.assert_allclose(ap, [[(26 * 1 + 25 * 2 / 3) / 101, 1.0]], atol=1e-15)
    np.testing.assert_allclose(recall, [[0.5, 1.0]])


def test_ap_at_recalls_that_floats_miss():
    # 35 of 100 objects is recall 0.35, just below the recall point 0.35000000000000003.
    for num, reached in ((34, 35), (35, 35), (36, 37)):
        right = np.ones((num, 1), bool)
        ones = np.ones((1, num), np.int32)
        ap, _ = average_precision(right, np.zeros_like(right), ones, np.array([100]))
        assert ap.item() == pytest.approx(reached / 101, abs=1e-12)


def test_rows_that_are_not_needed_change_nothing():
    """Ignored at every IoU, or behind the last match: AP is the same with and without them."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        num = int(rng.integers(0, 30))
        matched, ignored = rng.random((num, 10)) < 0.2, rng.random((num, 10)) < 0.7
        weights_RD, objects = rng.integers(0, 4, (5, num)), rng.integers(0, 40, 5) + 90
        needed = needed_rows(matched, ignored)
        whole = average_precision(matched, ignored, weights_RD, objects)
        part = average_precision(matched[needed], ignored[needed], weights_RD[:, needed], objects)
        np.testing.assert_array_equal(whole, part)
        assert not ignored[needed].all(axis=1).any()


def test_many_weightings_in_chunks_equal_single_ones(monkeypatch):
    evidence = evidence_of(evaluate(*random_case(1), list(range(1, 13))))
    weights_RN = np.random.default_rng(0).poisson(1.0, (45, 12))
    whole = evidence.metrics(weights_RN)
    monkeypatch.setattr("pe_dense.results.detection_evidence._CHUNK_CELLS", 1)
    for name, values in evidence.metrics(weights_RN).items():
        np.testing.assert_array_equal(values, whole[name])
    one = evidence.metrics(weights_RN[7:8], ["AP", "APs"])
    assert list(one) == ["AP", "APs"] and one["AP"][0] == whole["AP"][7]


def test_without_any_detection():
    objects, _ = random_case(0)
    nothing = {"image_id": 1, "category_id": 9, "bbox": [0, 0, 1, 1], "score": 0.5}
    evaluation = evaluate(objects, [nothing], list(range(1, 13)))
    entries = [
        entry if entry is None or entry["category_id"] != 9 else None
        for entry in evaluation.evalImgs
    ]
    evidence = detection_evidence_from_eval_imgs(entries, evaluation.params, NAMES)
    assert len(evidence.image_D) == 0
    assert evidence.metrics()["AP"] == 0.0 and evidence.metrics()["AR100"] == 0.0


def test_detections_keep_their_images_and_ids():
    evaluation = evaluate(*random_case(0), list(range(1, 13)))
    evidence = evidence_of(evaluation)
    assert evidence.item_ids == tuple(str(i) for i in range(1, 13))
    assert evidence.unit == "image" and evidence.num_items == 12
    assert len(evidence.image_D) == sum(
        len(entry["dtScores"])
        for entry in evaluation.evalImgs
        if entry is not None and entry["aRng"] == evaluation.params.areaRng[0]
    )


def test_pycocotools_matches_annotations_of_faster_coco_eval():
    objects, found = random_case(2)
    ids = list(range(1, 13))
    evaluation = evaluate(objects, found, ids, coco_class=faster_coco_eval.COCO)
    assert_same_scores(evidence_of(evaluation).metrics(), evaluate(objects, found, ids))


def test_faster_coco_eval_hands_out_no_matches():
    objects, found = random_case(2)
    pure = evaluate(objects, found, list(range(1, 13)), coco_class=faster_coco_eval.COCO)
    faster = faster_coco_eval.COCOeval_faster(
        pure.cocoGt, pure.cocoDt, "bbox", print_function=lambda *_: None
    )
    faster.evaluate()
    with pytest.raises(ValueError, match="faster_coco_eval does not hand out"):
        detection_evidence_from_eval_imgs(faster.evalImgs, faster.params, NAMES)


def test_other_settings_are_refused():
    evaluation = evaluate(*random_case(0), list(range(1, 13)))
    evaluation.params.iouThrs = np.array([0.5])
    with pytest.raises(ValueError, match="IoU thresholds"):
        evidence_of(evaluation)
    evaluation.params.areaRngLbl = ["all"]
    with pytest.raises(ValueError, match="areas"):
        evidence_of(evaluation)


def tiny(**changes) -> DetectionEvidence:
    """Two images, one class: a right and a wrong detection of equal score."""
    bits = np.zeros((2, len(AREAS), len(IOU_THRESHOLDS)), bool)
    matched = bits.copy()
    matched[0, :2] = True
    fields = {
        "image_ids": ("a", "b"), "classes": ("cat",), "image_D": [0, 1], "class_D": [0, 0],
        "score_D": [0.5, 0.5], "matched_DAT": matched, "ignored_DAT": bits,
        "gt_image_G": [0], "gt_class_G": [0], "gt_count_GA": [[1, 1, 0, 0]],
    }  # fmt: skip
    return DetectionEvidence(**{**fields, **changes})


def test_tiny_case_by_hand():
    scores = tiny().metrics()
    assert scores["AP"] == scores["APs"] == scores["AP/cat"] == scores["AR100"] == 1.0
    assert np.isnan(scores["APm"]) and np.isnan(scores["APl"])
    # In the other order of images the wrong one comes first.
    bits = np.zeros_like(tiny().matched_DAT)
    swapped = bits.copy()
    swapped[1, 0] = True
    scores = tiny(matched_DAT=swapped, gt_image_G=[1], gt_count_GA=[[1, 0, 0, 0]]).metrics()
    assert scores["AP"] == 0.5


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"image_D": [0, 2]}, "image not there"),
        ({"image_D": [1, 0]}, "equal scores"),
        ({"score_D": [0.4, 0.5]}, "rises"),
        ({"score_D": [np.nan, 0.5]}, "finite"),
        ({"class_D": [0.0, 0.0]}, "integer"),
        ({"matched_DAT": np.zeros((2, 4, 9), bool)}, "matched_DAT"),
        ({"gt_count_GA": [[0, 0, 0, 0]]}, "more matches than objects"),
        ({"gt_image_G": [1]}, "more matches than objects"),
        ({"gt_count_GA": [[-1, 0, 0, 0]]}, "0 or more"),
        ({"max_dets": 0}, "max_dets"),
        ({"image_ids": ("a", "a")}, "'a' twice"),
        ({"classes": ()}, "empty"),
        ({"max_dets": 1, "image_D": [0, 0]}, "2 rows"),
    ],
)
def test_invalid_fields_are_refused(changes, text):
    with pytest.raises(ValueError, match=text) as error:
        tiny(**changes)
    assert "\n" not in str(error.value)


def test_evidence_cannot_be_changed():
    evidence = tiny()
    with pytest.raises(dataclasses.FrozenInstanceError):
        evidence.max_dets = 3
    with pytest.raises(ValueError, match="read-only"):
        evidence.matched_DAT[0] = False


def test_an_annotation_0_is_refused():
    evaluation = evaluate(*random_case(0), list(range(1, 13)))
    entry = next(e for e in evaluation.evalImgs if e is not None and len(e["gtIds"]))
    entry["gtIds"][0] = 0
    with pytest.raises(ValueError, match=f"image {entry['image_id']} has the id 0"):
        evidence_of(evaluation)
