"""Region similarity J and boundary accuracy F of segmented video objects, as DAVIS 2017 has them.

Source: davisvideochallenge/davis2017-evaluation @ ac7c43f, davis2017/metrics.py and utils.py
(measures of the DAVIS challenge, arXiv:1704.00675). Values agree to rounding of the last digit.
Rules that the paper leaves open:

* J of two empty masks is 1.
* F of two empty boundaries is 1, of one empty boundary 0. A mask that covers the whole frame has
  no boundary: the frame's own edge is none.
* Void pixels are background: the semi-supervised task leaves none out.

Deviations: the original casts frame numbers to 8 bits, so that decay is wrong or nan above 256
frames; here it is right (`sequence_statistics`). Boundaries are matched on a crop around both
masks: boundary pixels are only compared with each other, so nothing outside can count.

Shape legend: H W image, T frames, K objects, N boundary pixels.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest

import cv2
import numpy as np

VOID = 255  # label of pixels that DAVIS leaves unlabelled
BOUNDARY_THRESHOLD = 0.008  # share of the image diagonal
RECALL_THRESHOLD = 0.5


@dataclass(frozen=True, eq=False)
class VideoScores:
    """J and F of every object in every scored frame of a video.

    Attributes:
        j_KT: float64 region similarity, 0..1; row k is the object with label k + 1.
        f_KT: float64 boundary accuracy, 0..1.
    """

    j_KT: np.ndarray
    f_KT: np.ndarray


def boundary_radius(image_hw: tuple[int, int], threshold: float = BOUNDARY_THRESHOLD) -> int:
    """Tolerance in pixels: `threshold` itself if at least 1, else that share of the diagonal.

    A share is rounded up: 8 pixels for 0.008 of 480 x 854.

    Raises:
        ValueError: If the threshold is negative, or above 1 and no whole number.
    """
    if not 0 <= threshold < math.inf or (threshold >= 1 and threshold != int(threshold)):
        raise ValueError(
            f"boundary threshold {threshold} is neither a share of the diagonal (0 to 1) "
            "nor a whole number of pixels; pass one of these"
        )
    height, width = image_hw
    return int(
        threshold if threshold >= 1 else math.ceil(threshold * math.sqrt(height**2 + width**2))
    )


def boundary_map(mask_HW: np.ndarray) -> np.ndarray:
    """Pixels that differ from their right, lower or lower right neighbour.

    Neighbours outside the frame count as equal to the pixel on the edge.

    Args:
        mask_HW: Zero or False is background.

    Returns:
        bool (H, W): boundary, half a pixel to the upper left of the real one.
    """
    mask_HW = np.ascontiguousarray(mask_HW, bool)
    boundary_HW = np.zeros_like(mask_HW)
    if not mask_HW.size:
        return boundary_HW
    # Neighbours are a fixed step apart in memory; only the last column then has wrong ones.
    width, mask, boundary = mask_HW.shape[1], mask_HW.ravel(), boundary_HW.ravel()
    for step in (1, width, width + 1):
        boundary[:-step] |= mask[:-step] ^ mask[step:]
    boundary_HW[:-1, -1] = mask_HW[:-1, -1] ^ mask_HW[1:, -1]
    boundary_HW[-1, -1] = False
    return boundary_HW


def sequence_statistics(values: np.ndarray) -> np.ndarray:
    """Mean, recall and decay of J or F over the frames of one object; any number of objects.

    Recall is the share of frames above 0.5. Decay is the mean of the first quarter minus the mean
    of the last, -1..1; neighbouring quarters share one frame.

    Args:
        values: (..., T) float64 of each scored frame, 0..1 without nan, T at least 1.

    Returns:
        (..., 3): mean, recall, decay.
    """
    edges = (np.round(np.linspace(1, values.shape[-1], 5) + 1e-10) - 1).astype(np.int64)
    first, last = values[..., : edges[1] + 1], values[..., edges[3] : edges[4] + 1]
    decay = first.mean(-1) - last.mean(-1)
    return np.stack([values.mean(-1), (values > RECALL_THRESHOLD).mean(-1), decay], axis=-1)


def video_scores(
    annotations: Iterable[np.ndarray],
    predictions: Iterable[np.ndarray],
    *,
    skip_ends: bool = True,
    threshold: float = BOUNDARY_THRESHOLD,
    threads: int = 1,
) -> VideoScores:
    """J and F of all objects of a video, from label maps that are read frame by frame.

    Objects are labels 1 to the highest one in the first annotated frame; labels above it that
    appear later in the annotation are background, and so is 255. An object that is not predicted
    has an empty mask.

    Args:
        annotations: Label maps (H, W) of integers.
        predictions: As many, same sizes.
        skip_ends: Leave out the first and the last frame, as DAVIS does for this task.
        threshold: Tolerance of F, see `boundary_radius`.
        threads: Frames scored at a time; OpenCV and NumPy let other threads run.

    Raises:
        ValueError: If numbers of frames or sizes differ, a label is predicted that the first
            frame does not have, or no frame is left to score.
    """
    if threads < 1:
        raise ValueError(f"threads = {threads} must be at least 1")
    columns: list[tuple[np.ndarray, np.ndarray]] = []
    waiting: deque[Future] = deque()
    num_objects = 0
    with ThreadPoolExecutor(threads) as pool:
        for frame, annotation_HW, prediction_HW in _frames(annotations, predictions, skip_ends):
            if frame == 0:
                num_objects = int(annotation_HW[annotation_HW != VOID].max(initial=0))
                if skip_ends:
                    continue
            if (highest := int(prediction_HW.max(initial=0))) > num_objects:
                raise ValueError(
                    f"frame {frame} predicts label {highest}, the first annotated frame has "
                    f"{num_objects} objects; map labels to 0 (background) and 1..{num_objects}"
                )
            radius = boundary_radius(annotation_HW.shape, threshold)
            arguments = annotation_HW, prediction_HW, num_objects, radius
            if threads == 1:
                columns.append(frame_scores(*arguments))
                continue
            waiting.append(pool.submit(frame_scores, *arguments))
            if len(waiting) > 2 * threads:  # bounds the frames in memory
                columns.append(waiting.popleft().result())
        columns += [future.result() for future in waiting]
    if not columns:
        raise ValueError(
            "no frame is left to score; pass at least three frames, or skip_ends=False"
        )
    j_KT, f_KT = (np.stack(rows, axis=1) for rows in zip(*columns, strict=True))
    return VideoScores(j_KT, f_KT)


def _frames(
    annotations: Iterable[np.ndarray], predictions: Iterable[np.ndarray], skip_last: bool
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Number, annotation and prediction of each frame, the last one only if wanted."""
    held = None
    for frame, pair in enumerate(zip_longest(annotations, predictions)):
        if any(part is None for part in pair):
            raise ValueError(
                f"annotations and predictions differ in length after {frame} frames; "
                "pass one prediction for each annotated frame"
            )
        annotation_HW, prediction_HW = (np.asarray(part) for part in pair)
        if annotation_HW.shape != prediction_HW.shape or annotation_HW.ndim != 2:
            raise ValueError(
                f"frame {frame}: annotation has shape {annotation_HW.shape}, prediction "
                f"{prediction_HW.shape}; pass label maps (H, W) of the same size"
            )
        if held is not None:
            yield held
        held = frame, annotation_HW, prediction_HW
    if held is not None and (not skip_last or held[0] == 0):
        yield held


def frame_scores(
    annotation_HW: np.ndarray, prediction_HW: np.ndarray, num_objects: int, radius: int
) -> tuple[np.ndarray, np.ndarray]:
    """(K,) J and (K,) F of one frame, for objects with the labels 1 to K."""
    scores_K2 = np.zeros((num_objects, 2))
    for k in range(num_objects):
        scores_K2[k] = _mask_scores(annotation_HW == k + 1, prediction_HW == k + 1, radius)
    return scores_K2[:, 0], scores_K2[:, 1]


def _mask_scores(
    annotation_HW: np.ndarray, prediction_HW: np.ndarray, radius: int
) -> tuple[float, float]:
    """J and F of two bool masks, on a crop around both."""
    rows, columns = _crop(annotation_HW, prediction_HW)
    annotation = annotation_HW[rows, columns]
    prediction = prediction_HW[rows, columns]
    union = np.count_nonzero(annotation | prediction)
    j = np.count_nonzero(annotation & prediction) / union if union else 1.0
    first, second = boundary_map(annotation), boundary_map(prediction)
    in_first, in_second = np.flatnonzero(first), np.flatnonzero(second)  # (N,) each
    if not len(in_first) or not len(in_second):
        return j, float(len(in_first) == len(in_second))
    precision = _num_near(in_second, first, radius) / len(in_second)
    recall = _num_near(in_first, second, radius) / len(in_first)
    if precision + recall == 0:
        return j, 0.0
    return j, 2 * precision * recall / (precision + recall)


def _crop(first_HW: np.ndarray, second_HW: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of both masks and one pixel around: their boundaries lie inside."""
    low, high = list(first_HW.shape), [0, 0]
    for mask_HW in (first_HW, second_HW):
        x, y, width, height = cv2.boundingRect(np.ascontiguousarray(mask_HW).view(np.uint8))
        if width:
            low = [min(low[0], y), min(low[1], x)]
            high = [max(high[0], y + height), max(high[1], x + width)]
    rows, columns = (slice(max(a - 1, 0), max(b, 0) + 1) for a, b in zip(low, high, strict=True))
    return rows, columns


@lru_cache(maxsize=64)
def _disk_rectangles(radius: int) -> tuple[tuple[int, int], ...]:
    """Half heights and half widths of rectangles whose union is the disk, largest area first."""
    widest: dict[int, int] = {}
    for half_height in range(radius + 1):
        widest[math.isqrt(radius**2 - half_height**2)] = half_height  # keeps the tallest
    rectangles = [(height, width) for width, height in widest.items()]
    return tuple(sorted(rectangles, key=lambda hw: -(2 * hw[0] + 1) * (2 * hw[1] + 1)))


def _num_near(places_N: np.ndarray, boundary_HW: np.ndarray, radius: int) -> int:
    """How many pixels have a boundary pixel within `radius`.

    The same as a dilation of the boundary by a disk, looked up at the pixels: the disk is a union
    of rectangles, and whether a rectangle is empty takes four values of an integral image.
    """
    height, width = boundary_HW.shape
    sums = cv2.integral(boundary_HW.view(np.uint8)).ravel()  # (H + 1) (W + 1)
    y_N, x_N = np.divmod(places_N, width)
    for half_height, half_width in _disk_rectangles(radius):
        top = np.maximum(y_N - half_height, 0) * (width + 1)
        bottom = np.minimum(y_N + half_height + 1, height) * (width + 1)
        left = np.maximum(x_N - half_width, 0)
        right = np.minimum(x_N + half_width + 1, width)
        far = sums[bottom + right] - sums[top + right] == sums[bottom + left] - sums[top + left]
        y_N, x_N = y_N[far], x_N[far]
        if not len(y_N):
            break
    return len(places_N) - len(y_N)
