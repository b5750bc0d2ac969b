"""Segmentations: polygons and run lengths that are none, and masks that lie elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pe_dense.data.checks.coco_file import read_coco_file
from pe_dense.data.checks.coco_masks import mask_findings
from pe_dense.data.checks.coco_segmentations import bounds_of_runs, uncompressed

WIDTH, HEIGHT = 64, 48
BOX = [10, 8, 20, 16]
SQUARE = [10, 8, 30, 8, 30, 24, 10, 24]


def encoded(mask_HW: np.ndarray) -> dict:
    coding = pytest.importorskip("pycocotools.mask")
    found = coding.encode(np.asfortranarray(mask_HW, dtype=np.uint8))
    return dict(size=found["size"], counts=found["counts"].decode())


def box_mask() -> np.ndarray:
    mask_HW = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask_HW[8:24, 10:30] = 1
    return mask_HW


def counts_of(mask_HW: np.ndarray) -> list[int]:
    """Run lengths, the slow way."""
    counts, last = [0], 0
    for value in mask_HW.ravel(order="F").tolist():
        if value != last:
            counts.append(0)
            last = value
        counts[-1] += 1
    return counts


def problems(tmp_path: Path, *segmentations: Any) -> list[str]:
    """Names of the rules that masks of one box break."""
    annotations = [
        dict(id=i, image_id=1, category_id=1, bbox=BOX, area=320, segmentation=segmentation)
        for i, segmentation in enumerate(segmentations)
    ]
    content = dict(
        images=[dict(id=1, file_name="a.png", width=WIDTH, height=HEIGHT)],
        annotations=annotations,
        categories=[dict(id=1, name="square")],
    )
    (tmp_path / "x.json").write_text(json.dumps(content))
    coco = read_coco_file(tmp_path / "x.json")
    assert coco.findings == []
    return [finding.rule.name for finding in mask_findings(coco)]


SOUND = {
    "polygon": [SQUARE],
    "two polygons": [SQUARE, [12, 9, 14, 9, 14, 11.5]],
    "rounded": [[9.2, 8, 31, 8, 31, 24.9, 9.2, 24.9]],
    "on the border of nothing": [[10, 8, 30, 8, 10, 24]],
    "runs": dict(size=[HEIGHT, WIDTH], counts=counts_of(box_mask())),
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_masks(tmp_path: Path, name: str) -> None:
    assert problems(tmp_path, SOUND[name], SOUND["polygon"]) == []


def test_compressed_runs(tmp_path: Path) -> None:
    assert problems(tmp_path, encoded(box_mask())) == []


TURNED = [[8, 10, 8, 30, 24, 30, 24, 10]]
FAULTS = {
    "absent": (None, "missing-masks"),
    "empty": ([], "missing-masks"),
    "flat": (SQUARE, "unreadable-masks"),
    "pairs": ([[[10, 8]] * 8], "unreadable-masks"),
    "one polygon of pairs": ([[10, 8], [30, 8], [30, 24]], "unreadable-masks"),
    "points by name": ([[{"x": 10, "y": 8}] * 3], "unreadable-masks"),
    "file name": ("mask.png", "unreadable-masks"),
    "no counts": (dict(size=[HEIGHT, WIDTH]), "unreadable-masks"),
    "counts of shares": (dict(size=[HEIGHT, WIDTH], counts=[0.5, 0.5]), "unreadable-masks"),
    "no points": ([[]], "short-polygons"),
    "a box": ([[10, 8, 30, 24]], "short-polygons"),
    "odd": ([[*SQUARE, 12]], "short-polygons"),
    "a sound and a short one": ([SQUARE, [10, 8]], "short-polygons"),
    "nan": ([[float("nan"), *SQUARE[1:]]], "masks-of-no-number"),
    "infinite": ([[float("inf"), *SQUARE[1:]]], "masks-of-no-number"),
    "text": ([["10", *SQUARE[1:]]], "masks-of-no-number"),
    "null": ([[None, *SQUARE[1:]]], "masks-of-no-number"),
    "outside": ([[10, 8, 30, 8, 30, 60]], "masks-outside"),
    "below zero": ([[-9, 8, 30, 8, 30, 24]], "masks-outside"),
    "shares": ([[0.1, 0.1, 0.4, 0.1, 0.4, 0.4]], "empty-masks"),
    "x and y exchanged": (TURNED, "masks-beside-boxes"),
    "a line": ([[10, 8, 20, 8, 30, 8]], "empty-masks"),
    "three points in a row": ([[10, 8, 20, 16, 30, 24]], "empty-masks"),
    "upright sliver": ([[10.1, 8, 10.3, 8, 10.3, 24, 10.1, 24]], "empty-masks"),
    "flat sliver": ([[10, 8.1, 30, 8.1, 30, 8.3, 10, 8.3]], "empty-masks"),
    "slanted sliver": ([[10, 8.1, 26, 24.1, 26, 24.3, 10, 8.3]], "empty-masks"),
    "slivers side by side": (
        [[x, 8, x + 0.2, 8, x + 0.2, 24] for x in (10.6, 29.6)],
        "empty-masks",
    ),
    "beyond the last pixel": ([[63.6, 8, 64.9, 8, 64.9, 24]], "empty-masks"),
    "before the first pixel": ([[10, -0.9, 30, -0.9, 30, 0.3]], "empty-masks"),
    "corner of its box": ([[10, 8, 13, 8, 13, 11]], "masks-beside-boxes"),
    "half of its box": ([[10, 8, 20, 8, 20, 24, 10, 24]], "masks-beside-boxes"),
    "too few runs": (dict(size=[HEIGHT, WIDTH], counts=[100, 200]), "run-lengths"),
    "negative runs": (dict(size=[HEIGHT, WIDTH], counts=[-2, HEIGHT * WIDTH + 2]), "run-lengths"),
    "size turned": (
        dict(size=[WIDTH, HEIGHT], counts=counts_of(box_mask().T)),
        "masks-of-other-size",
    ),
    "nothing in it": (dict(size=[HEIGHT, WIDTH], counts=[HEIGHT * WIDTH]), "empty-masks"),
    "no run code": (dict(size=[HEIGHT, WIDTH], counts="\x01\x02"), "run-lengths"),
    "cut off": (dict(size=[HEIGHT, WIDTH], counts="eW"), "run-lengths"),
    "endless": (dict(size=[HEIGHT, WIDTH], counts="o" * 40 + "0"), "run-lengths"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_found_among_sound_masks(tmp_path: Path, name: str) -> None:
    segmentation, rule = FAULTS[name]
    assert problems(tmp_path, [SQUARE], segmentation, SOUND["runs"], [SQUARE]) == [rule]


def test_run_lengths_against_pycocotools() -> None:
    coding = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for share in (0.0, 0.05, 0.5, 0.95, 1.0) * 20:
        height, width = rng.integers(1, 40, 2)
        mask_HW = rng.random((height, width)) < share
        if rng.random() < 0.5:  # one block, so that rows do not wrap
            mask_HW[:] = False
            mask_HW[height // 3 : height // 2 + 1, width // 4 : width // 2 + 1] = share > 0
        code = encoded(mask_HW)
        runs = uncompressed(code["counts"])
        assert runs.tolist() == counts_of(mask_HW)
        x0, y0, x1, y1 = bounds_of_runs(runs.astype(np.int64), int(height))
        if mask_HW.any():
            assert [x0, y0, x1 - x0, y1 - y0] == coding.toBbox(code).tolist()
        else:
            assert np.isnan(x0)


def test_many_masks_keep_their_bounds(tmp_path: Path) -> None:
    """More points than are held at once: each mask is compared with its own box."""
    rng = np.random.default_rng(1)
    annotations = []
    for i in range(600):
        corner, size = rng.uniform(0, 20, 2), rng.uniform(6, 20, 2)
        points = corner + size * np.concatenate([[[0, 0], [1, 1]], rng.random((100, 2))])
        annotations.append(
            dict(id=i, image_id=1, category_id=1, area=9, bbox=[*corner, *size],
                 segmentation=[points.ravel().tolist()])
        )  # fmt: skip
    annotations[433]["bbox"] = [40, 30, 5, 5]
    content = dict(
        images=[dict(id=1, file_name="a.png", width=WIDTH, height=HEIGHT)],
        annotations=annotations,
        categories=[dict(id=1, name="square")],
    )
    (tmp_path / "x.json").write_text(json.dumps(content))
    (finding,) = mask_findings(read_coco_file(tmp_path / "x.json"))
    assert finding.count == 1 and finding.examples[0].item == "annotation 433"


def test_masks_without_a_pixel_are_those_of_pycocotools(tmp_path: Path) -> None:
    """Outlines of every size and thickness, as drawn by the library that scores use."""
    coding = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(2)
    annotations, expected = [], []
    for i in range(2000):
        ends_22 = rng.uniform((0, 0), (WIDTH - 16, HEIGHT - 16), (2, 2))
        if i % 3 == 0:
            ends_22[1] = ends_22[0] + rng.uniform(0, 3, 2)
        if i % 3 == 1:  # along an axis or a diagonal, where all or no pixel lies inside
            ends_22[1] = ends_22[0] + 7.0 * np.array([(1, 0), (0, 1), (1, 1)][i % 9 // 3])
        off_2 = rng.uniform(0, 1, 2) * 10 ** rng.uniform(-2, 0.8)
        points = [*ends_22[0], *ends_22[1], *(ends_22[1] + off_2), *(ends_22[0] + off_2)]
        xs, ys = points[::2], points[1::2]
        box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
        annotations.append(
            dict(id=i, image_id=1, category_id=1, area=9, bbox=box, segmentation=[points])
        )
        if not coding.area(coding.frPyObjects([points], HEIGHT, WIDTH)).any():
            expected.append(i)
    content = dict(
        images=[dict(id=1, file_name="a.png", width=WIDTH, height=HEIGHT)],
        annotations=annotations,
        categories=[dict(id=1, name="square")],
    )
    (tmp_path / "x.json").write_text(json.dumps(content))
    (finding,) = mask_findings(read_coco_file(tmp_path / "x.json"))
    assert finding.rule.name == "empty-masks" and finding.count == len(expected) > 100
    first = [int(place.item.removeprefix("annotation ")) for place in finding.examples]
    assert first == expected[: len(first)]
