"""Depth metrics against mmseg's golden numbers, hand-solved cases and one loop for every rule."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pe_dense.pixelwise.depth_errors import (
    METRICS,
    DepthErrorSums,
    depth_error_sums,
    depth_evidence,
    flip_average,
    garg_box,
    kb_box,
    kitti_eigen_box,
    mean_over_images,
    nyu_eigen_box,
    pooled_over_pixels,
)

GOLDEN = Path(__file__).resolve().parents[1] / "golden/depth_metrics.npz"
GOLDEN_NAMES = {  # mmseg's name: ours
    "d1": "delta1", "d2": "delta2", "d3": "delta3", "abs_rel": "abs_rel", "sq_rel": "sq_rel",
    "rmse": "rmse", "rmse_log": "rmse_log", "log10": "log10", "silog": "silog",
}  # fmt: skip
MMSEG_SILOG = {"silog_focus": 0.5, "silog_scale": 1.0}


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def golden_sums(golden, setting, b):
    config = {name: golden[f"{setting}/config/{name}"].item() for name in ("min_depth", "crop")}
    has_max = golden[f"{setting}/config/has_max_depth"].item()
    return depth_error_sums(
        golden[f"img{b}/prediction"],
        golden[f"img{b}/depth"],
        min_depth=config["min_depth"],
        max_depth=golden[f"{setting}/config/max_depth"].item() if has_max else None,
        crop={"none": None, "nyu_crop": "nyu_eigen"}[config["crop"]],
        clamp=False,
    )


@pytest.mark.parametrize("setting", ["default", "nyu", "nyu_no_crop"])
def test_equals_mmseg(golden, setting):
    sums = [golden_sums(golden, setting, b) for b in range(5)]
    images = [one.metrics(**MMSEG_SILOG) for one in sums]
    for b, (one, metrics) in enumerate(zip(sums, images)):
        assert one.num_pixels == golden[f"{setting}/img{b}/valid_pixels"]
        for theirs, ours in GOLDEN_NAMES.items():
            exact = golden[f"{setting}/img{b}_float64/{theirs}"].item()
            if ours.startswith("delta"):  # shares are float32 there, so compare the pixels
                count = round(exact * one.num_pixels)
                assert metrics[ours] == count / one.num_pixels, (b, ours)
            else:
                assert metrics[ours] == pytest.approx(exact, rel=1e-10), (b, ours)
            single = golden[f"{setting}/img{b}/{theirs}"].item()
            assert metrics[ours] == pytest.approx(single, rel=1e-5), (b, ours)
    means = mean_over_images(images)
    for theirs, ours in GOLDEN_NAMES.items():
        assert means[ours] == pytest.approx(golden[f"{setting}/mean/{theirs}"].item(), rel=1e-5)


def test_the_golden_silog_needs_its_own_focus_and_scale(golden):
    metrics = golden_sums(golden, "nyu", 0).metrics()
    assert metrics["silog"] != pytest.approx(golden["nyu/img0/silog"].item(), rel=1e-2)
    error = np.log(golden["img0/prediction"].astype(float)) - np.log(
        golden["img0/depth"].astype(float).clip(1e-6)
    )
    scored = np.zeros(error.shape, bool)
    scored[45:471, 41:601] = True
    scored &= (golden["img0/depth"] > 1e-3) & (golden["img0/depth"] < 10)
    assert metrics["silog"] == pytest.approx(100 * error[scored].std(), rel=1e-9)


def test_solved_by_hand():
    prediction = np.array([[2.0, 2.0, 9.0]])
    depth = np.array([[1.0, 4.0, 0.0]])  # the last pixel is not annotated
    metrics = depth_error_sums(prediction, depth, max_depth=10.0).metrics()
    assert metrics["rmse"] == pytest.approx(math.sqrt((1 + 4) / 2))
    assert metrics["mae"] == pytest.approx(1.5)
    assert metrics["abs_rel"] == pytest.approx((1 + 0.5) / 2)
    assert metrics["sq_rel"] == pytest.approx((1 + 1) / 2)
    assert metrics["rmse_log"] == pytest.approx(math.log(2))
    assert metrics["log10"] == pytest.approx(math.log10(2))
    assert metrics["silog"] == pytest.approx(100 * math.log(2))  # errors +ln 2 and -ln 2
    assert (metrics["delta1"], metrics["delta2"], metrics["delta3"]) == (0, 0, 0)


def test_silog_is_blind_to_scale_and_deltas_are_strict():
    depth = torch.linspace(1, 4, 20, dtype=torch.float64).reshape(4, 5)
    metrics = depth_error_sums(1.3 * depth, depth).metrics()
    assert metrics["silog"] == pytest.approx(0.0, abs=1e-4)
    assert (metrics["delta1"], metrics["delta2"]) == (0.0, 1.0)
    on_the_limit = depth_error_sums(torch.tensor([[1.25]]), torch.tensor([[1.0]])).metrics()
    assert (on_the_limit["delta1"], on_the_limit["delta2"]) == (0.0, 1.0)


def test_limits_are_strict_and_predictions_are_clamped():
    depth = torch.tensor([[10.0, 1e-3, 5.0, 8.0, math.nan, math.inf, -1.0]], dtype=torch.float64)
    prediction = torch.tensor([[1.0, 1.0, 50.0, -3.0, 1.0, 1.0, math.nan]], dtype=torch.float64)
    sums = depth_error_sums(prediction, depth, max_depth=10.0)
    assert sums.num_pixels == 2
    assert sums.squared == pytest.approx((10 - 5) ** 2 + (8 - 1e-3) ** 2)
    no_upper = depth_error_sums(prediction.abs().nan_to_num(1.0), depth)
    assert no_upper.num_pixels == 3  # inf is no annotation


def test_mask_takes_pixels_away():
    depth, prediction = torch.full((2, 2), 2.0), torch.tensor([[2.0, 3.0], [4.0, 5.0]])
    valid = torch.tensor([[False, True], [True, False]])
    sums = depth_error_sums(prediction, depth, valid)
    assert (sums.num_pixels, sums.absolute) == (2, 3.0)


def test_boxes():
    # [153, 371, 44, 1197] are Garg's own numbers for a frame of 375 x 1242.
    assert tuple(garg_box(375, 1242)) == (153, 371, 44, 1197)
    assert tuple(garg_box(352, 1216)) == (143, 349, 43, 1172)
    assert tuple(kitti_eigen_box(375, 1242)) == (124, 342, 44, 1197)
    assert tuple(nyu_eigen_box(480, 640)) == (45, 471, 41, 601)
    assert tuple(kb_box(375, 1242)) == (23, 375, 13, 1229)
    assert np.zeros((376, 1241))[kb_box(376, 1241).slices].shape == (352, 1216)
    with pytest.raises(ValueError, match="KB crop of 352 x 1216 does not fit in 351 x 1242"):
        kb_box(351, 1242)


def test_garg_crop_scores_its_rows_and_columns():
    depth = torch.ones(352, 1216)
    assert depth_error_sums(depth, depth, crop="garg").num_pixels == (349 - 143) * (1172 - 43)


def test_means_and_pooling_differ_as_they_should():
    small = depth_error_sums(torch.full((1, 1), 3.0), torch.full((1, 1), 1.0))
    large = depth_error_sums(torch.full((1, 3), 1.0), torch.full((1, 3), 2.0))
    empty = depth_error_sums(torch.ones(2, 2), torch.zeros(2, 2))
    assert all(math.isnan(value) for value in empty.metrics().values())
    means = mean_over_images(one.metrics() for one in (small, large, empty))
    assert means["rmse"] == pytest.approx((2 + 1) / 2)
    pooled = pooled_over_pixels([small, large, empty])
    assert pooled["rmse"] == pytest.approx(math.sqrt((4 + 3 * 1) / 4))
    assert pooled["abs_rel"] == pytest.approx((2 + 3 * 0.5) / 4)
    together = depth_error_sums(
        torch.tensor([[3.0, 1.0, 1.0, 1.0]]), torch.tensor([[1.0, 2.0, 2.0, 2.0]])
    )
    assert pooled == pytest.approx(together.metrics())


def test_nothing_to_average():
    with pytest.raises(ValueError, match="no image"):
        mean_over_images([])
    assert math.isnan(mean_over_images([DepthErrorSums().metrics()])["rmse"])
    assert math.isnan(pooled_over_pixels([])["rmse"])
    with pytest.raises(ValueError, match="different depth metrics"):
        mean_over_images([{"rmse": 1.0}, {"abs_rel": 1.0}])


def test_evidence_has_the_means(golden):
    sums = [golden_sums(golden, "nyu", b) for b in range(5)] + [DepthErrorSums()]
    names = [f"frame{b}" for b in range(6)]
    evidence = depth_evidence(names, sums, sequence_ids=list("aabbbb"), **MMSEG_SILOG)
    scores = evidence.metrics()
    assert list(scores) == list(METRICS) and evidence.unit == "sequence"
    for theirs, ours in GOLDEN_NAMES.items():
        assert scores[ours] == pytest.approx(golden[f"nyu/mean/{theirs}"].item(), rel=1e-5)
    two = depth_evidence(names, sums, metric_names=["abs_rel", "rmse"])
    assert two.values_NM.shape == (6, 2) and np.isnan(two.values_NM[5]).all()
    with pytest.raises(ValueError, match="'image_ids' is empty"):
        depth_evidence([], [])
    with pytest.raises(ValueError, match="'values_NM'"):
        depth_evidence(names, sums[:5])
    with pytest.raises(ValueError, match=r"\['a1'\] are not known"):
        depth_evidence(names, sums, metric_names=["a1"])


MAP = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("prediction", "depth", "more", "message"),
    [
        (torch.ones(1, 2, 3), MAP, {}, r"shape \(1, 2, 3\)"),
        (torch.ones(2, 4), MAP, {}, r"shape \(2, 4\)"),
        (MAP, MAP.int(), {}, "depth is torch.int32; pass metres"),
        (MAP, MAP, {"crop": "nyu"}, "crop 'nyu' is not known"),
        (MAP, MAP, {"min_depth": 2.0, "max_depth": 1.0}, "no range"),
        (MAP, MAP, {"min_depth": -1.0}, "no range"),
        (MAP, MAP, {"valid_HW": MAP}, "valid is torch.float32"),
        (MAP, MAP, {"valid_HW": torch.ones(3, 2, dtype=torch.bool)}, r"valid .*\(3, 2\)"),
        (MAP * math.nan, MAP, {}, "nan, infinite or not positive"),
        (MAP * 0, MAP, {"clamp": False}, "nan, infinite or not positive"),
        (MAP * math.inf, MAP, {}, "nan, infinite or not positive"),
    ],
)
def test_bad_input_is_refused(prediction, depth, more, message):
    with pytest.raises(ValueError, match=message):
        depth_error_sums(prediction, depth, **more)


def test_flip_average():
    images = torch.arange(12.0).reshape(1, 1, 3, 4)
    # A model without left and right gives the same twice; one that adds the column averages it.
    assert torch.equal(flip_average(lambda x: x * 2, images), images * 2)
    columns = torch.arange(4.0)
    assert torch.equal(flip_average(lambda x: x + columns, images), images + 1.5)


# ---- against the toolbox and BTS -----------------------------------------------------------------

TOOLBOX = np.load(Path(__file__).resolve().parents[1] / "golden/depth_toolbox_scores.npz")
IN_ITS_ORDER = (
    "delta1", "delta2", "delta3", "abs_rel", "rmse", "log10", "rmse_log", "silog", "sq_rel",
)  # fmt: skip
SCORED_AS = {
    "nyu": dict(max_depth=10.0, crop="nyu_eigen"),
    "kitti": dict(max_depth=80.0, crop="garg"),
    "sun_kv1": dict(max_depth=10.0, crop="nyu_eigen", ceiling=8.0),
    "sun_kv2": dict(max_depth=10.0, crop="nyu_eigen", ceiling=8.0),
    "bts": dict(max_depth=80.0, crop="garg"),
}


@pytest.mark.parametrize("name", SCORED_AS)
def test_scores_are_those_of_the_toolbox_and_of_bts(name):
    """Box, limits, ceiling and nine metrics; SUN RGB-D in two sizes, KITTI on its crop.

    BTS puts the prediction of the crop back into the frame and takes Garg's box of the frame.
    """
    stored = "kitti" if name == "bts" else name
    depth = TOOLBOX[f"{stored}.steps"].astype(np.float32) / (256 if stored == "kitti" else 1000)
    prediction = TOOLBOX[f"{stored}.prediction"].astype(np.float32)
    if name == "kitti":
        depth = depth[kb_box(*depth.shape).slices]
    elif name == "bts":
        whole = np.zeros_like(depth)
        whole[kb_box(*depth.shape).slices] = prediction
        prediction = whole
    found = depth_error_sums(prediction, depth, **SCORED_AS[name]).metrics()
    known = TOOLBOX[f"{name}.scores"]
    np.testing.assert_allclose([found[metric] for metric in IN_ITS_ORDER], known, rtol=2e-6)


def test_a_ceiling_counts_what_lies_beyond_as_that_far_away():
    depth, predicted = np.full((2, 3), 12.0), np.array([[7.0, 9.5, 8.0], [9.0, 8.5, 20.0]])
    sums = depth_error_sums(predicted, depth, max_depth=10.0, ceiling=8.0)
    assert sums.num_pixels == 6 and sums.absolute == pytest.approx(1.0)
    assert depth_error_sums(predicted, depth, max_depth=10.0).num_pixels == 0
    for ceiling in (0.0, math.inf, 1e-3):
        with pytest.raises(ValueError, match="ceiling"):
            depth_error_sums(predicted, depth, max_depth=10.0, ceiling=ceiling)
