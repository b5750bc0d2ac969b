"""What is wrong with boxes and lists of a COCO file is found, with the right weight and count."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2")

from coco_folders import HEIGHT, WIDTH, changed, content_of

from pe_dense.data.checks.coco_boxes import box_findings, content_findings
from pe_dense.data.checks.coco_file import CocoFile, read_coco_file
from pe_dense.data.checks.rules import Finding

NAMES = ["a.jpg", "b.jpg", "c.jpg"]


def read(folder: Path, change: Callable[[dict], object] = lambda c: None) -> CocoFile:
    path = folder / "x.json"
    path.write_text(json.dumps(changed(content_of(NAMES), change)))
    return read_coco_file(path)


def found(findings: list[Finding]) -> dict[str, tuple[int, bool]]:
    return {f.rule.name: (f.count, f.is_problem) for f in findings}


def with_box(*box: float) -> Callable[[dict], object]:
    return lambda content: content["annotations"][0].update(bbox=list(box))


def test_good_boxes(tmp_path: Path) -> None:
    assert box_findings(read(tmp_path)) == []


@pytest.mark.parametrize(
    ("box", "name", "is_problem"),
    [
        ((5, 5, -2, 9), "negative-boxes", True),
        ((5, 5, 0, 9), "thin-boxes", True),
        ((5, 5, 0.9, 9), "thin-boxes", True),
        ((70, 5, 9, 9), "outside-boxes", True),
        ((-20, 5, 10, 9), "outside-boxes", True),
        ((50, 5, 20, 9), "boxes-over-the-border", True),
        ((-1.5, 5, 20, 9), "boxes-over-the-border", True),
        ((5, 40, 20, 9), "boxes-at-the-border", False),
        ((-0.5, 0, 20, 9), "boxes-at-the-border", False),
    ],
    ids=str,
)
def test_one_bad_box(tmp_path: Path, box: tuple, name: str, is_problem: bool) -> None:
    findings = box_findings(read(tmp_path, with_box(*box)))
    assert found(findings) == {name: (1, is_problem)}
    assert bool(findings[0].rule.accepted) is is_problem


def test_boxes_on_the_border_are_good(tmp_path: Path) -> None:
    assert box_findings(read(tmp_path, with_box(0, 0, WIDTH, HEIGHT))) == []


def test_examples_name_the_annotation(tmp_path: Path) -> None:
    (finding,) = box_findings(read(tmp_path, with_box(50, 5, 20, 9)))
    assert str(finding.examples[0]) == (
        f"{tmp_path / 'x.json'}: annotation 10 has bbox [50.0, 5.0, 20.0, 9.0], which reaches 6 px "
        "out of an image of 64 x 48"
    )


def test_areas_of_zero_leave_nothing(tmp_path: Path) -> None:
    coco = read(tmp_path, lambda c: [a.update(area=0) for a in c["annotations"]])
    assert found(box_findings(coco)) == {
        "boxes-without-area": (6, True),
        "no-usable-box": (1, True),  # cannot be accepted
    }


def test_normalised_boxes(tmp_path: Path) -> None:
    coco = read(tmp_path, lambda c: [a.update(bbox=[0.1, 0.2, 0.5, 0.4]) for a in c["annotations"]])
    assert found(box_findings(coco)) == {"boxes-in-shares": (6, True)}


def test_copies_crowds_and_ignored_objects(tmp_path: Path) -> None:
    def change(content: dict) -> None:
        content["annotations"].append({**content["annotations"][0], "id": 999})
        content["annotations"][1]["iscrowd"] = 1
        content["annotations"][2]["ignore"] = 1

    assert found(box_findings(read(tmp_path, change))) == {
        "repeated-boxes": (1, True),
        "crowds": (1, False),
        "ignored-objects": (1, False),
    }


@pytest.mark.parametrize("flag", ["iscrowd", "ignore"])
def test_nothing_but_crowds(tmp_path: Path, flag: str) -> None:
    coco = read(tmp_path, lambda c: [a.update({flag: 1}) for a in c["annotations"]])
    finding = box_findings(coco)[-1]
    assert finding.rule.name == "only-crowds" and finding.is_problem and not finding.rule.accepted


def test_copies_against_a_slow_count(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def change(content: dict) -> None:
        rows = rng.integers(0, 3, (300, 4))
        content["annotations"] = [
            dict(id=i, image_id=1 + int(r[0]), category_id=(9, 2)[r[1] % 2], area=9,
                 bbox=[int(r[2]), 2, 10 + int(r[3]), 7])
            for i, r in enumerate(rows)
        ]  # fmt: skip

    coco = read(tmp_path, change)
    rows = list(zip(coco.image_ids_A, coco.category_ids_A, map(tuple, coco.boxes_A4)))
    (finding,) = box_findings(coco)
    assert finding.count == len(rows) - len(set(rows)) > 100


@pytest.mark.parametrize("part", ["images", "annotations"])
def test_nothing_at_all(tmp_path: Path, part: str) -> None:
    def clear(content: dict) -> None:
        content["annotations"].clear()
        content[part].clear()

    assert found(box_findings(read(tmp_path, clear))) == {f"no-{part}": (1, True)}


def test_contents(tmp_path: Path) -> None:
    def change(content: dict) -> None:
        content["annotations"] = content["annotations"][:1]
        content["images"][2]["file_name"] = "a.jpg"

    findings = content_findings(read(tmp_path, change))
    assert found(findings) == {
        "empty-images": (2, False),
        "repeated-images": (1, True),
        "unused-classes": (1, False),
    }
    assert findings[1].examples[0].item == "image a.jpg"
    assert findings[2].examples[0].value == "has no object of box"


def test_objects_of_one_box_with_masks_of_their_own_are_no_copies(tmp_path: Path) -> None:
    def change(content: dict) -> None:
        first, *_ = content["annotations"]
        halves = [[2, 3, 22, 3, 2, 13]], [[22, 3, 22, 13, 2, 13]], [[2, 3, 22, 3, 2, 13]]
        content["annotations"] = [
            {**first, "id": i, "segmentation": half} for i, half in enumerate(halves)
        ]

    (finding,) = box_findings(read(tmp_path, change))
    assert finding.rule.name == "repeated-boxes" and finding.count == 1
    assert finding.examples[0].item == "annotation 2"
