"""J, F and their statistics against golden values of davis2017-evaluation and plain versions."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from pe_dense.tracking import region_and_boundary as measures
from pe_dense.tracking.object_statistics import evidence_of_objects

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


def j_and_f(
    annotation: np.ndarray,
    prediction: np.ndarray,
    threshold: float = measures.BOUNDARY_THRESHOLD,
) -> np.ndarray:
    """(2, ...) J and F of masks (..., H, W), each as the one object of a frame."""
    shape = annotation.shape
    radius = measures.boundary_radius(shape[-2:], threshold)
    pairs = zip(*(np.reshape(masks, (-1, *shape[-2:])) != 0 for masks in (annotation, prediction)))
    found = [measures.frame_scores(first, second, 1, radius) for first, second in pairs]
    return np.moveaxis(np.array(found), 0, -1).reshape(2, *shape[:-2])


@pytest.mark.parametrize("part, num", [("synthetic", 4), ("realistic", 3)])
def test_golden_masks(golden, part, num):
    names = cases(golden, part)
    assert len(names) == num
    for name in names:
        found = j_and_f(golden[f"{name}/annotation"], golden[f"{name}/prediction"])
        expected = golden[f"{name}/J"], golden[f"{name}/F"]
        np.testing.assert_allclose(found, expected, err_msg=name, **TIGHT)


def test_golden_thresholds_and_boundaries(golden):
    for name in cases(golden, "synthetic"):
        annotation, prediction = golden[f"{name}/annotation"], golden[f"{name}/prediction"]
        assert measures.boundary_radius(annotation.shape[1:]) == golden[f"{name}/tolerance_pixels"]
        for mask, edge in zip(annotation, golden[f"{name}/boundary_annotation"]):
            np.testing.assert_array_equal(measures.boundary_map(mask), edge)
        for threshold in (0.02, 3):
            actual = j_and_f(annotation, prediction, threshold)[1]
            np.testing.assert_allclose(actual, golden[f"{name}/F_bound_{threshold}"], **TIGHT)


def test_golden_void(golden):
    """Void pixels are background in both masks, and their edge is a boundary."""
    masks = [golden[f"void/{name}"] != 0 for name in ("annotation", "prediction", "void")]
    found = j_and_f(*(mask & ~masks[2] for mask in masks[:2]))
    np.testing.assert_allclose(found, (golden["void/J"], golden["void/F"]), **TIGHT)
    assert not np.allclose(j_and_f(*masks[:2])[0], golden["void/J"])


def test_golden_video_and_statistics(golden):
    found = j_and_f(golden["video/annotation"], golden["video/prediction"])
    for letter, values_KT in zip("JF", found, strict=True):
        np.testing.assert_allclose(values_KT, golden[f"video/{letter}"], **TIGHT)
        for values, suffix in (
            (values_KT, ""),
            (values_KT[:, 1:-1], "_without_first_and_last_frame"),
        ):
            actual = measures.sequence_statistics(values)
            expected = golden[f"video/{letter}_statistics{suffix}"]
            np.testing.assert_allclose(actual, expected, **TIGHT)


def test_golden_statistics(golden):
    names = [name for name in golden if re.fullmatch(r"statistics/\d+/values", name)]
    assert len(names) == 8
    for name in names:
        expected = golden[name.replace("values", "mean_recall_decay")]
        actual = measures.sequence_statistics(golden[name])
        np.testing.assert_allclose(actual, expected, **TIGHT)


def test_decay_is_right_above_256_frames(golden):
    part = "statistics_over_256_frames"
    actual = measures.sequence_statistics(golden[f"{part}/values"])
    np.testing.assert_allclose(actual[:2], golden[f"{part}/mean_recall"], **TIGHT)
    np.testing.assert_allclose(actual[2], golden[f"{part}/decay_without_uint8_wrap"], **TIGHT)
    falling = np.repeat([1.0, 0.75, 0.5, 0.25], 200)
    assert measures.sequence_statistics(falling)[2] == pytest.approx(0.75, abs=5e-3)


def test_real_masks():
    if not REAL.is_file():
        pytest.skip("masks of other projects are kept outside the repository")
    with np.load(REAL) as arrays:
        names = [n.removesuffix("/annotation") for n in arrays if n.endswith("/annotation")]
        assert len(names) == 10
        for name in names:
            found = j_and_f(arrays[f"{name}/annotation"], arrays[f"{name}/prediction"])
            expected = arrays[f"{name}/J"], arrays[f"{name}/F"]
            np.testing.assert_allclose(found, expected, **TIGHT)


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
        actual = j_and_f(*masks, radius)[1]
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
    assert j_and_f(line, line)[1] == 1
    assert j_and_f(line, ~line)[0] == 0


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
        np.testing.assert_array_equal((scores.j_KT[k], scores.f_KT[k]), j_and_f(*masks))
    assert measures.video_scores(annotations, predictions, skip_ends=False).j_KT.shape == (3, 12)


def test_evidence_is_a_mean_over_objects():
    first_2KT = np.array([[[0.2, 0.6], [1, 1]], [[0.4, 0.4], [1, 1]]])  # J, then F
    second_2KT = np.array([[[0.0] * 5], [[0.6] * 5]])
    statistics = [
        np.concatenate(measures.sequence_statistics(scores), axis=1)
        for scores in (first_2KT, second_2KT)
    ]
    evidence = evidence_of_objects(("a", "b"), (("1", "2"), ("1",)), statistics)
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
    for threshold in (-0.1, 2.5, float("nan")):
        with pytest.raises(ValueError, match="threshold"):
            measures.boundary_radius((4, 5), threshold)
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
    found = measures.sequence_statistics(values)
    for at in np.ndindex(3, 2):
        assert np.array_equal(found[at], measures.sequence_statistics(values[at]))
