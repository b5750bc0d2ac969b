"""Detections of overlapping tiles as those of one picture, by SAHI's rules.

Two boxes of a class match where their common area is at least half of the smaller one ('nmm') or of
their union ('nms'). From the highest score down, a box takes all that match it and are not taken:
'nms' drops them; 'nmm' (greedy merging, the default of SAHI's package) puts the upright box around
it and each of them that still matches what it has grown to. That is for scores of 0.3 and more,
which are all that SAHI takes: boxes of low scores make others grow, so that AP wants 'nms'.

Shape legend: Q detections.

Source: SAHI, arXiv:2202.06934, and its package obss/sahi 0.12.8 (postprocess GREEDYNMM with IOS,
NMS with IOU, threshold 0.5), whose numbers these are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RULES = ("nmm", "nms")
THRESHOLD = 0.5


def tile_boxes(hw: tuple[int, int], tile_hw: tuple[int, int], overlap: float) -> list[tuple]:
    """Left, top, right, bottom of the tiles of a picture, row by row.

    The last tile of a row or column is moved back to end at the border, at its full size where the
    picture is large enough.

    Args:
        hw: Height and width of the picture.
        tile_hw: Height and width of a tile.
        overlap: Share of a tile that the next one covers, 0 up to less than 1.

    Raises:
        ValueError: If tiles have no size or never move on.

    Example:
        >>> tile_boxes((10, 18), (10, 10), 0.2)
        [(0, 0, 10, 10), (8, 0, 18, 10)]
    """
    if min(tile_hw) < 1 or not 0 <= overlap < 1:
        raise ValueError(
            f"tile={tuple(tile_hw)} with tile_overlap={overlap} cannot be laid; give height and "
            "width of at least 1 pixel, and a share from 0 to below 1"
        )
    rows, columns = (_starts(s, t, overlap) for s, t in zip(hw, tile_hw, strict=True))
    return [
        (left, top, min(left + tile_hw[1], hw[1]), min(top + tile_hw[0], hw[0]))
        for top in rows
        for left in columns
    ]


def _starts(side: int, tile: int, overlap: float) -> list[int]:
    step = max(tile - int(overlap * tile), 1)
    starts = [0]
    while starts[-1] + tile < side:
        starts.append(min(starts[-1] + step, side - tile))
    return starts


def merged(
    boxes_Q4: np.ndarray, scores_Q: np.ndarray, labels_Q: np.ndarray, rule: str
) -> tuple[np.ndarray, list[list[int]]]:
    """The boxes that stay, and what each was made of.

    Args:
        boxes_Q4: x1, y1, x2, y2.
        scores_Q: Scores.
        labels_Q: Classes; only boxes of one class match.
        rule: 'nmm' or 'nms'.

    Returns:
        (K, 4) float64 boxes, highest score first, and for each the places of its detections in
        what was given, the one that it is called by first.
    """
    boxes_Q4 = np.asarray(boxes_Q4, dtype=np.float64).reshape(-1, 4)
    groups: list[tuple[np.ndarray, list[int]]] = []
    for label in np.unique(labels_Q):
        of_class = np.flatnonzero(labels_Q == label)
        # Ties by the edges, as there, so that the order of what is given does not matter.
        x1, y1, x2, y2 = boxes_Q4[of_class].T
        order = of_class[np.lexsort((y2, x2, y1, x1, -scores_Q[of_class]))]
        is_match_QQ = overlap(boxes_Q4[order], boxes_Q4[order], rule) >= THRESHOLD
        is_left_Q = np.ones(len(order), dtype=bool)
        for k in range(len(order)):
            if not is_left_Q[k]:
                continue
            taken = np.flatnonzero(is_match_QQ[k] & is_left_Q)
            taken = taken[taken > k]
            is_left_Q[taken] = False
            groups.append(_joined(boxes_Q4, int(order[k]), order[taken].tolist(), rule))
    groups.sort(key=lambda group: -scores_Q[group[1][0]])
    boxes = np.array([box for box, _ in groups]).reshape(-1, 4)
    return boxes, [places for _, places in groups]


def _joined(
    boxes_Q4: np.ndarray, first: int, others: Sequence[int], rule: str
) -> tuple[np.ndarray, list[int]]:
    box, places = boxes_Q4[first].copy(), [first]
    for place in others if rule == "nmm" else ():
        other = boxes_Q4[place]
        if overlap(box[None], other[None], rule)[0, 0] >= THRESHOLD:
            box = np.concatenate([np.minimum(box[:2], other[:2]), np.maximum(box[2:], other[2:])])
            places.append(place)
    return box, places


def overlap(boxes_P4: np.ndarray, boxes_Q4: np.ndarray, rule: str) -> np.ndarray:
    """Common area over the smaller area ('nmm') or the union ('nms'), (P, Q); 0 without area."""
    low = np.maximum(boxes_P4[:, None, :2], boxes_Q4[None, :, :2])
    high = np.minimum(boxes_P4[:, None, 2:], boxes_Q4[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(2)
    area_P, area_Q = ((b[:, 2:] - b[:, :2]).prod(1) for b in (boxes_P4, boxes_Q4))
    if rule == "nmm":
        whole = np.minimum(area_P[:, None], area_Q[None])
    else:
        whole = area_P[:, None] + area_Q[None] - common
    return np.divide(common, whole, out=np.zeros_like(common), where=whole > 0)


def merged_one_by_one(
    boxes_Q4: np.ndarray, scores_Q: np.ndarray, labels_Q: np.ndarray, rule: str
) -> tuple[np.ndarray, list[list[int]]]:
    """As `merged`, pair by pair: the reference, to be read."""

    def share(a: Sequence[float], b: Sequence[float]) -> float:
        wide = min(a[2], b[2]) - max(a[0], b[0])
        high = min(a[3], b[3]) - max(a[1], b[1])
        common = max(wide, 0.0) * max(high, 0.0)
        areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
        whole = min(areas) if rule == "nmm" else sum(areas) - common
        return common / whole if whole > 0 else 0.0

    boxes = [tuple(map(float, box)) for box in boxes_Q4]
    left = sorted(range(len(boxes)), key=lambda q: (-scores_Q[q], *boxes[q]))
    found: list[tuple[Sequence[float], list[int]]] = []
    while left:
        first = left.pop(0)
        box, places = boxes[first], [first]
        taken = [
            q for q in left
            if labels_Q[q] == labels_Q[first] and share(boxes[first], boxes[q]) >= THRESHOLD
        ]  # fmt: skip
        for q in taken:
            left.remove(q)
            if rule == "nmm" and share(box, boxes[q]) >= THRESHOLD:
                other = boxes[q]
                box = (min(box[0], other[0]), min(box[1], other[1]),
                       max(box[2], other[2]), max(box[3], other[3]))  # fmt: skip
                places.append(q)
        found.append((box, places))
    return np.array([box for box, _ in found]).reshape(-1, 4), [places for _, places in found]
