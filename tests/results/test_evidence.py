"""Evidence: scores by hand, against mmseg, and weights against items really repeated."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import evidence_case
import numpy as np
import pytest
from evidence_case import depth, repeat_items, segmentation, tracking, video_object

from pe_dense.results.evidence import (
    DepthEvidence,
    SegmentationEvidence,
    TrackingEvidence,
    VideoObjectEvidence,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "ade_like_miou.npz"


def golden_evidence(arrays, case: str) -> SegmentationEvidence:
    count = sum(key.startswith(f"{case}/") and key.endswith("/annotation") for key in arrays)
    images = [f"img{b}" for b in range(count)]
    names = ("intersect", "prediction_area", "annotation_area")
    areas = [np.stack([arrays[f"{case}/{image}/{name}"] for image in images]) for name in names]
    return SegmentationEvidence(
        image_ids=images,
        classes=[str(k) for k in range(areas[0].shape[1])],
        intersection_NK=areas[0],
        prediction_NK=areas[1],
        target_NK=areas[2],
    )


def test_segmentation_equals_golden_mmseg_values():
    arrays = dict(np.load(GOLDEN, allow_pickle=False))
    cases = sorted({key.split("/")[0] for key in arrays})
    assert len(cases) == 2
    for case in cases:
        evidence = golden_evidence(arrays, case)
        scores = evidence.metrics()
        mean = {"mIoU": "IoU", "mAcc": "Acc", "aAcc": "aAcc"}
        for name, key in mean.items():
            # The reference divides in float32.
            assert scores[name] == pytest.approx(float(arrays[f"{case}/mean/{key}"]), abs=1e-6)
        iou = np.array([scores[f"IoU/{name}"] for name in evidence.classes])
        defined = arrays[f"{case}/per_class/IoU_defined"]
        np.testing.assert_array_equal(~np.isnan(iou), defined)
        stored = arrays[f"{case}/per_class/IoU"]
        np.testing.assert_allclose(iou[defined], stored[defined], atol=1e-6)
        # Unrounded, from the stored integers.
        total = {n: arrays[f"{case}/total/{n}"] for n in ("intersect", "union", "annotation_area")}
        exact = total["intersect"][defined] / total["union"][defined]
        np.testing.assert_allclose(iou[defined], exact, atol=1e-15)
        assert scores["mIoU"] == pytest.approx(exact.mean(), abs=1e-12)


def test_segmentation_equals_mmseg_from_label_maps():
    torch = pytest.importorskip("torch")
    iou_metric = pytest.importorskip("mmseg.evaluation.metrics.iou_metric")
    rng = np.random.default_rng(0)
    metric = iou_metric.IoUMetric(ignore_index=255, iou_metrics=["mIoU"])
    metric.dataset_meta = {"classes": [str(k) for k in range(9)]}
    areas = []
    for _ in range(5):
        label = rng.choice([*range(7), 255], (20, 30))
        predicted = np.where(rng.random((20, 30)) < 0.6, label % 255, rng.integers(0, 8, (20, 30)))
        maps = torch.from_numpy(predicted), torch.from_numpy(label)
        metric.results.append(metric.intersect_and_union(*maps, 9, 255))
        valid = label != 255
        p, t = predicted[valid], label[valid]
        areas.append([np.bincount(v, minlength=9) for v in (p[p == t], p, t)])
    intersection, prediction, target = np.stack(areas, axis=1)
    scores = SegmentationEvidence(
        image_ids=list("abcde"),
        classes=metric.dataset_meta["classes"],
        intersection_NK=intersection,
        prediction_NK=prediction,
        target_NK=target,
    ).metrics()
    for name, value in metric.compute_metrics(metric.results).items():
        assert 100 * scores[name] == pytest.approx(value, abs=0.0051), name  # two decimals
    assert scores["IoU/7"] == 0.0 and np.isnan(scores["IoU/8"])  # predicted only; nowhere


def test_segmentation_areas_beyond_float32_are_exact():
    big = 2**40
    evidence = SegmentationEvidence(
        image_ids=("a", "b"),
        classes=("x",),
        intersection_NK=[[big], [1]],
        prediction_NK=[[big], [1]],
        target_NK=[[big], [2]],
    )
    assert evidence.metrics()["mIoU"] == (big + 1) / (big + 2)


def test_depth_is_the_mean_over_scored_images():
    values = np.array([[1.0, np.nan], [2.0, 0.5], [6.0, np.nan]])
    evidence = DepthEvidence(
        image_ids=("a", "b", "c"), metric_names=("rmse", "delta1"), values_NM=values
    )
    assert evidence.metrics() == {"rmse": 3.0, "delta1": 0.5}
    drawn = evidence.metrics(np.array([[2, 0, 1], [0, 3, 0]]))
    np.testing.assert_allclose(drawn["rmse"], [8 / 3, 2.0])
    np.testing.assert_allclose(drawn["delta1"], [np.nan, 0.5])


def test_units_of_depth():
    assert depth().unit == "image" and set(depth().units) == {"image"}
    assert depth(num=6, per_sequence=1).unit == "image"
    evidence = depth(num=6, per_sequence=3)
    assert evidence.unit == "sequence"
    assert evidence.units["sequence"].tolist() == [0, 0, 0, 1, 1, 1]


def test_video_objects_by_hand():
    evidence = VideoObjectEvidence(
        video_ids=("cat", "dog", "dog"),
        object_ids=("1", "1", "2"),
        j_N=[0.9, 0.3, 0.6],
        f_N=[0.7, 0.1, 0.4],
        j_recall_N=[1, 0, 0.5],
    )
    scores = evidence.metrics()
    assert scores == pytest.approx({"J&F": 0.5, "J": 0.6, "F": 0.4, "J_recall": 0.5})
    assert evidence.unit == "video" and evidence.item_ids == ("cat/1", "dog/1", "dog/2")
    assert evidence.units["video"].tolist() == [0, 1, 1]
    assert evidence.units["object"].tolist() == [0, 1, 2]
    assert evidence.metrics(np.array([[0, 1, 1]]))["J&F"] == pytest.approx(0.35)


def test_tracking_by_hand():
    ones = np.ones((2, 19))
    evidence = TrackingEvidence(
        sequence_ids=("a", "b"),
        clear_tp_N=[8, 1], clear_fp_N=[1, 9], clear_fn_N=[2, 9], clear_idsw_N=[1, 0],
        id_tp_N=[6, 1], id_fp_N=[2, 1], id_fn_N=[2, 1],
        hota_tp_NA=(np.array([[8], [2]]) * ones).astype(int),
        hota_fp_NA=(np.array([[1], [9]]) * ones).astype(int),
        hota_fn_NA=(np.array([[1], [0]]) * ones).astype(int),
        ass_a_sum_NA=np.array([[4.0], [2.0]]) * ones,
        ass_re_sum_NA=np.array([[6.0], [2.0]]) * ones,
        ass_pr_sum_NA=np.array([[4.0], [1.0]]) * ones,
    )  # fmt: skip
    expected = {
        "HOTA": np.sqrt(10 / 21 * 0.6), "DetA": 10 / 21, "AssA": 0.6, "AssRe": 0.8, "AssPr": 0.5,
        "MOTA": (9 - 10 - 1) / 20, "IDF1": 7 / 10, "IDSW": 1.0,
    }  # fmt: skip
    assert evidence.metrics() == pytest.approx(expected)
    one = evidence.metrics(np.array([[1, 0]]))
    assert one["HOTA"][0] == pytest.approx(np.sqrt(0.8 * 0.5)) and one["MOTA"][0] == 0.6


def test_tracking_threshold_without_match_counts_as_zero():
    evidence = tracking()
    tp, ass = evidence.hota_tp_NA.sum(axis=0), evidence.ass_a_sum_NA.sum(axis=0)
    assert tp[-1] == 0
    assert evidence.metrics()["AssA"] == pytest.approx((ass[:-1] / tp[:-1]).sum() / 19)
    drawn = evidence.metrics(np.zeros((1, 7), int))
    assert all(np.isnan(drawn[name][0]) for name in ("HOTA", "DetA", "AssA", "MOTA", "IDF1"))


KINDS = [name for name in evidence_case.ALL if name != "detection"]  # see its own test


@pytest.mark.parametrize("kind", KINDS)
def test_weights_equal_repeated_items(kind):
    evidence = evidence_case.ALL[kind]()
    weights_RN = np.random.default_rng(1).poisson(1.0, (6, evidence.num_items))
    drawn = evidence.metrics(weights_RN)
    assert set(drawn) == set(evidence.metric_names)
    for r, weights_N in enumerate(weights_RN):
        for name, value in repeat_items(evidence, weights_N).metrics().items():
            assert drawn[name][r] == pytest.approx(value, abs=1e-12, nan_ok=True), name


@pytest.mark.parametrize("kind", evidence_case.ALL)
def test_interface(kind):
    evidence = evidence_case.ALL[kind]()
    assert evidence.num_items == len(evidence.item_ids) == len(set(evidence.item_ids))
    assert evidence.unit in evidence.units
    assert all(index.shape == (evidence.num_items,) for index in evidence.units.values())
    scores = evidence.metrics()
    assert tuple(scores) == evidence.metric_names
    assert all(type(value) is float for value in scores.values())
    first = evidence.metric_names[0]
    assert evidence.metrics(None, [first]) == {first: scores[first]}
    assert evidence.metrics(None, first) == {first: scores[first]}
    ones = np.ones((2, evidence.num_items), np.int8)
    assert evidence.metrics(ones, [first])[first].tolist() == [scores[first]] * 2
    assert evidence.metrics(ones[:0], [first])[first].shape == (0,)


@pytest.mark.parametrize("kind", evidence_case.ALL)
def test_wrong_names_and_weights(kind):
    evidence = evidence_case.ALL[kind]()
    with pytest.raises(ValueError, match=f"'PQ' is unknown.*{evidence.metric_names[0]}"):
        evidence.metrics(None, ["PQ"])
    num = evidence.num_items
    for bad in (np.ones((2, num + 1), int), np.ones(num, int)):
        with pytest.raises(ValueError, match="shape"):
            evidence.metrics(bad)
    for bad in (np.ones((1, num)), -np.ones((1, num), int)):
        with pytest.raises(ValueError, match="integers of 0 or more"):
            evidence.metrics(bad)


def test_long_lists_of_names_are_cut():
    with pytest.raises(ValueError, match=r"IoU/class8 and 141 more$"):
        segmentation(classes=150).metrics(None, ["PQ"])


SEGMENTATION = {
    "image_ids": ("a",), "classes": ("x", "y"),
    "intersection_NK": [[1, 0]], "prediction_NK": [[1, 2]], "target_NK": [[3, 0]],
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"image_ids": ()}, "'image_ids' is empty"),
        ({"classes": ("x", "x")}, "'x' twice"),
        ({"classes": "xy"}, "texts"),
        ({"classes": ("x", "")}, "texts"),
        ({"image_ids": (1,)}, "texts"),
        ({"image_ids": ("a", "b")}, "shape"),
        ({"target_NK": [[3.0, 0.0]]}, "integer"),
        ({"target_NK": [[-1, 0]]}, "0 or more"),
        ({"target_NK": [[2**53, 0]]}, "2\\^53"),
        ({"target_NK": [[0, 0]]}, "larger than 'target_NK'"),
        ({"prediction_NK": [[0, 0]]}, "larger than 'prediction_NK'"),
    ],
)
def test_invalid_fields_are_refused(changes, text):
    with pytest.raises(ValueError, match=text) as error:
        SegmentationEvidence(**{**SEGMENTATION, **changes})
    assert "\n" not in str(error.value)


def test_invalid_values_of_other_kinds_are_refused():
    with pytest.raises(ValueError, match="finite"):
        DepthEvidence(image_ids=("a",), metric_names=("rmse",), values_NM=[[np.inf]])
    with pytest.raises(ValueError, match="'sequence_ids' has 2 entries, not 12"):
        dataclasses.replace(depth(), sequence_ids=("a", "b"))
    objects = video_object()
    with pytest.raises(ValueError, match="'j_N' leaves its range"):
        dataclasses.replace(objects, j_N=objects.j_N + 1)
    with pytest.raises(ValueError, match="'f_N' leaves its range"):
        dataclasses.replace(objects, f_N=objects.f_N * np.nan)
    with pytest.raises(ValueError, match="'v/1' twice"):
        VideoObjectEvidence(video_ids=("v", "v"), object_ids=("1", "1"), j_N=[1, 1], f_N=[1, 1])
    with pytest.raises(ValueError, match="'ass_a_sum_NA' is larger"):
        dataclasses.replace(tracking(), ass_a_sum_NA=np.full((7, 19), 1e6))


def test_evidence_is_its_own_copy_and_read_only():
    areas = np.array([[1, 0]])
    evidence = SegmentationEvidence(**{**SEGMENTATION, "intersection_NK": areas})
    areas[0, 0] = 0
    assert evidence.intersection_NK[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        evidence.intersection_NK[0, 0] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        evidence.classes = ()


def test_nothing_here_imports_torch():
    modules = ("evidence_file", "detection_evidence", "statistics", "rank_groups")
    code = ";".join(f"import pe_dense.results.{name}" for name in modules)
    code += ";import sys; assert 'torch' not in sys.modules and 'scipy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
