"""J, F and their statistics against golden values of davis2017-evaluation and plain versions."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from pe_dense.tracking import region_and_boundary as measures

GOLDEN = Path(__file__).parents[1] / "golden" / "jf_measure.npz"
REAL = Path(__file__).resolve().parents[3] / "shared" / "golden" / "jf_measure_real.npz"
TIGHT = dict(rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def cases(arrays, part: str) -> list[str]:
    found = [name.removesuffix("/annotation") for name in arrays if name.endswith("/annotation")]
    return [name for name in found if name.startswith(part)]


def plain_f(annotation: np.ndarray, prediction: np.ndarray, radius: int) -> float:
    """Both boundaries of the whole frame dilated by the disk, pixel loops for the boundary."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = (y * y + x * x <= radius * radius).astype(np.uint8)
    edges = []
    for mask in (annotation, prediction):
        height, width = mask.shape
        edge = np.zeros((height, width), np.uint8)
        for i in range(height):
            for j in range(width):
                down, right = min(i + 1, height - 1), min(j + 1, width - 1)
                neighbours = {mask[down, j], mask[i, right], mask[down, right]}
                edge[i, j] = neighbours != {mask[i, j]}
        edges.append(edge)
    num = [int(edge.sum()) for edge in edges]
    if 0 in num:
        return float(num == [0, 0])
    recall, precision = (
        int((own * cv2.dilate(other, disk)).sum()) / int(own.sum())
        for own, other in (edges, edges[::-1])
    )
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("part, num", [("synthetic", 4), ("realistic", 3)])
def test_golden_masks(golden, part, num):
    names = cases(golden, part)
    assert len(names) == num
    for name in names:
        masks = golden[f"{name}/annotation"], golden[f"{name}/prediction"]
        np.testing.assert_allclose(
            measures.region_similarity(*masks), golden[f"{name}/J"], err_msg=name, **TIGHT
        )
        np.testing.assert_allclose(
            measures.boundary_accuracy(*masks), golden[f"{name}/F"], err_msg=name, **TIGHT
        )


def test_golden_thresholds_and_boundaries(golden):
    for name in cases(golden, "synthetic"):
        annotation, prediction = golden[f"{name}/annotation"], golden[f"{name}/prediction"]
        assert measures.boundary_radius(annotation.shape[1:]) == golden[f"{name}/tolerance_pixels"]
        for mask, edge in zip(annotation, golden[f"{name}/boundary_annotation"]):
            np.testing.assert_array_equal(measures.boundary_map(mask), edge)
        for threshold in (0.02, 3):
            actual = measures.boundary_accuracy(annotation, prediction, threshold=threshold)
            np.testing.assert_allclose(actual, golden[f"{name}/F_bound_{threshold}"], **TIGHT)


def test_golden_void(golden):
    masks = [golden[f"void/{name}"] for name in ("annotation", "prediction", "void")]
    np.testing.assert_allclose(measures.region_similarity(*masks), golden["void/J"], **TIGHT)
    np.testing.assert_allclose(measures.boundary_accuracy(*masks), golden["void/F"], **TIGHT)
    assert not np.allclose(measures.region_similarity(*masks[:2]), golden["void/J"])


def test_golden_video_and_statistics(golden):
    masks = golden["video/annotation"], golden["video/prediction"]
    for letter, measure in (
        ("J", measures.region_similarity),
        ("F", measures.boundary_accuracy),
    ):
        values_KT = measure(*masks)
        np.testing.assert_allclose(values_KT, golden[f"video/{letter}"], **TIGHT)
        for values, suffix in (
            (values_KT, ""),
            (values_KT[:, 1:-1], "_without_first_and_last_frame"),
        ):
            actual = [as_tuple(measures.sequence_statistics(row)) for row in values]
            expected = golden[f"video/{letter}_statistics{suffix}"]
            np.testing.assert_allclose(actual, expected, **TIGHT)


def as_tuple(statistics: measures.SequenceStatistics) -> tuple[float, float, float]:
    return statistics.mean, statistics.recall, statistics.decay


def test_golden_statistics(golden):
    names = [name for name in golden if re.fullmatch(r"statistics/\d+/values", name)]
    assert len(names) == 8
    for name in names:
        expected = golden[name.replace("values", "mean_recall_decay")]
        actual = as_tuple(measures.sequence_statistics(golden[name]))
        np.testing.assert_allclose(actual, expected, **TIGHT)


def test_decay_is_right_above_256_frames(golden):
    part = "statistics_over_256_frames"
    actual = as_tuple(measures.sequence_statistics(golden[f"{part}/values"]))
    np.testing.assert_allclose(actual[:2], golden[f"{part}/mean_recall"], **TIGHT)
    np.testing.assert_allclose(actual[2], golden[f"{part}/decay_without_uint8_wrap"], **TIGHT)
    falling = np.repeat([1.0, 0.75, 0.5, 0.25], 200)
    assert measures.sequence_statistics(falling).decay == pytest.approx(0.75, abs=5e-3)


def test_real_masks():
    if not REAL.is_file():
        pytest.skip("masks of other projects are kept outside the repository")
    with np.load(REAL) as arrays:
        names = [n.removesuffix("/annotation") for n in arrays if n.endswith("/annotation")]
        assert len(names) == 10
        for name in names:
            masks = arrays[f"{name}/annotation"], arrays[f"{name}/prediction"]
            np.testing.assert_allclose(
                measures.region_similarity(*masks), arrays[f"{name}/J"], **TIGHT
            )
            np.testing.assert_allclose(
                measures.boundary_accuracy(*masks), arrays[f"{name}/F"], **TIGHT
            )


@pytest.mark.parametrize("seed", range(4))
def test_crop_equals_whole_frame(seed):
    """Blobs anywhere, also at the frame's edge, and every radius up to 9."""
    rng = np.random.default_rng(seed)
    for radius in range(1, 10):
        masks = []
        for _ in range(2):
            mask = np.zeros((37, 53), np.uint8)
            for _ in range(rng.integers(0, 4)):
                centre = int(rng.integers(0, 53)), int(rng.integers(0, 37))
                axes = int(rng.integers(1, 12)), int(rng.integers(1, 12))
                cv2.ellipse(mask, centre, axes, 0, 0, 360, 1, -1)
            masks.append((mask ^ (rng.random(mask.shape) < 0.01 * (radius % 3))).astype(bool))
        actual = measures.boundary_accuracy(*masks, threshold=radius)
        assert actual == pytest.approx(plain_f(*masks, radius), abs=1e-12)


@pytest.mark.parametrize("radius", range(0, 40))
def test_rectangles_make_the_disk(radius):
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    union = np.zeros(y.shape, bool)
    for half_height, half_width in measures._disk_rectangles(radius):
        union |= (abs(y) <= half_height) & (abs(x) <= half_width)
    np.testing.assert_array_equal(union, y * y + x * x <= radius * radius)


def test_one_pixel_wide_frames():
    line = np.array([[0, 1, 1, 0, 0]], bool)
    assert measures.boundary_map(line).tolist() == [[True, False, True, False, False]]
    assert measures.boundary_map(line.T).ravel().tolist() == [True, False, True, False, False]
    assert measures.boundary_accuracy(line, line) == 1
    assert measures.region_similarity(line, ~line) == 0


def label_maps(seed: int, num_frames: int, num_objects: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    maps = np.zeros((num_frames, 40, 60), np.uint8)
    for t in range(num_frames):
        for k in range(num_objects):
            y, x = rng.integers(0, 30), rng.integers(0, 50)
            maps[t, y : y + 10, x : x + 10] = k + 1
    return maps


@pytest.mark.parametrize("threads", [1, 3])
def test_video_scores_equal_masks_one_by_one(threads):
    annotations, predictions = label_maps(0, 12, 3), label_maps(1, 12, 3)
    annotations[0, :3] = 3
    annotations[4, 5:9] = 255  # void counts as background
    annotations[5, :5] = 7  # not in the first frame
    predictions[6][predictions[6] == 2] = 0  # an object is lost
    scores = measures.video_scores(iter(annotations), iter(predictions), threads=threads)
    assert scores.j_KT.shape == scores.f_KT.shape == (3, 10)
    for k in range(3):
        masks = annotations[1:-1] == k + 1, predictions[1:-1] == k + 1
        np.testing.assert_array_equal(scores.j_KT[k], measures.region_similarity(*masks))
        np.testing.assert_array_equal(scores.f_KT[k], measures.boundary_accuracy(*masks))
    assert measures.video_scores(annotations, predictions, skip_ends=False).j_KT.shape == (3, 12)


def test_evidence_is_a_mean_over_objects():
    first = measures.VideoScores(np.array([[0.2, 0.6], [1, 1]]), np.array([[0.4, 0.4], [1, 1]]))
    second = measures.VideoScores(np.zeros((1, 5)), np.full((1, 5), 0.6))
    evidence = measures.video_object_evidence({"a": first, "b": second})
    assert evidence.item_ids == ("a/1", "a/2", "b/1")
    scores = evidence.metrics()
    assert scores["J"] == pytest.approx((0.4 + 1 + 0) / 3)
    assert scores["F"] == pytest.approx((0.4 + 1 + 0.6) / 3)
    assert scores["J_recall"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert scores["F_recall"] == pytest.approx((0 + 1 + 1) / 3)
    # Two frames: the first quarter is frame 0 and, rounded, frame 0 only; the last frame 1.
    assert scores["J_decay"] == pytest.approx(-0.4 / 3)


def test_a_video_without_objects_has_no_rows():
    empty = np.zeros((4, 6, 6), np.uint8)
    scores = measures.video_scores(empty, empty)
    assert scores.j_KT.shape == (0, 2)


def test_bad_input():
    mask = np.ones((4, 5), bool)
    with pytest.raises(ValueError, match="same"):
        measures.region_similarity(mask, mask[:3])
    with pytest.raises(ValueError, match="void"):
        measures.boundary_accuracy(mask, mask, mask[:3])
    with pytest.raises(ValueError, match="same"):
        measures.boundary_accuracy(mask[0], mask[0])
    for threshold in (-0.1, 2.5, float("nan")):
        with pytest.raises(ValueError, match="threshold"):
            measures.boundary_accuracy(mask, mask, threshold=threshold)
    for values in ([], [[0.5]]):
        with pytest.raises(ValueError, match="at least one frame"):
            measures.sequence_statistics(np.array(values))
    frames = label_maps(0, 4, 2)
    frames[0, 0, 0] = 2
    with pytest.raises(ValueError, match="length after 3 frames"):
        measures.video_scores(frames, frames[:3])
    with pytest.raises(ValueError, match="no frame is left"):
        measures.video_scores(frames[:2], frames[:2])
    with pytest.raises(ValueError, match="no frame is left"):
        measures.video_scores([], [])
    with pytest.raises(ValueError, match="frame 1 predicts label 3"):
        measures.video_scores(frames, np.full_like(frames, 3))
    with pytest.raises(ValueError, match="same size"):
        measures.video_scores(frames, frames[:, :9])
    with pytest.raises(ValueError, match="threads"):
        measures.video_scores(frames, frames, threads=0)


@pytest.mark.parametrize("frames", [1, 2, 5, 22, 300])
def test_many_sequences_as_each_alone(frames: int) -> None:
    values = np.random.default_rng(frames).random((3, 2, frames))
    found = measures.many_statistics(values)
    for at in np.ndindex(3, 2):
        alone = measures.sequence_statistics(values[at])
        assert tuple(found[at]) == (alone.mean, alone.recall, alone.decay)
