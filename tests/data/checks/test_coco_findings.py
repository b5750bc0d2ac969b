"""What is wrong with boxes and images is found, with the right weight and count."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2")

from coco_folders import HEIGHT, WIDTH, changed, content_of, write_image

from pe_dense.data.checks.coco_file import CocoFile, read_coco_file
from pe_dense.data.checks.coco_findings import (
    box_findings,
    content_findings,
    image_findings,
    leak_findings,
)
from pe_dense.data.checks.findings import Finding
from pe_dense.data.image_files import existing_files, spread

NAMES = ["a.jpg", "b.jpg", "c.jpg"]


def read(folder: Path, change: Callable[[dict], object] = lambda c: None) -> CocoFile:
    path = folder / "x.json"
    path.write_text(json.dumps(changed(content_of(NAMES), change)))
    return read_coco_file(path)


def found(findings: list[Finding]) -> dict[str, tuple[int, bool]]:
    return {f.kind: (f.count, f.is_problem) for f in findings}


def with_box(*box: float) -> Callable[[dict], object]:
    return lambda content: content["annotations"][0].update(bbox=list(box))


def test_good_boxes(tmp_path: Path) -> None:
    assert box_findings(read(tmp_path)) == []


@pytest.mark.parametrize(
    ("box", "words", "is_problem"),
    [
        ((5, 5, -2, 9), "negative", True),
        ((5, 5, 0, 9), "thinner than 1 px", False),
        ((5, 5, 0.9, 9), "thinner than 1 px", False),
        ((70, 5, 9, 9), "wholly outside", True),
        ((-20, 5, 10, 9), "wholly outside", True),
        ((50, 5, 20, 9), "outside by more than 1 px", True),
        ((-1.5, 5, 20, 9), "outside by more than 1 px", True),
        ((5, 40, 20, 9), "outside by up to 1 px", False),
        ((-0.5, 0, 20, 9), "outside by up to 1 px", False),
    ],
    ids=str,
)
def test_one_bad_box(tmp_path: Path, box: tuple, words: str, is_problem: bool) -> None:
    ((kind, value),) = found(box_findings(read(tmp_path, with_box(*box)))).items()
    assert words in kind and value == (1, is_problem)


def test_boxes_on_the_border_are_good(tmp_path: Path) -> None:
    assert box_findings(read(tmp_path, with_box(0, 0, WIDTH, HEIGHT))) == []


def test_boxes_outside_may_be_a_note(tmp_path: Path) -> None:
    coco = read(tmp_path, with_box(50, 5, 20, 9))
    assert not box_findings(coco, outside_is_problem=False)[0].is_problem


def test_examples_name_the_annotation(tmp_path: Path) -> None:
    (finding,) = box_findings(read(tmp_path, with_box(50, 5, 20, 9)))
    assert "annotation 10 has bbox [50.0, 5.0, 20.0, 9.0]" in finding.examples[0]
    assert "reaches 6 px out of an image of 64 x 48" in finding.examples[0]


def test_areas_of_zero(tmp_path: Path) -> None:
    coco = read(tmp_path, lambda c: [a.update(area=0) for a in c["annotations"]])
    ((kind, value),) = found(box_findings(coco)).items()
    assert "area of 0" in kind and value == (6, True)


def test_normalised_boxes(tmp_path: Path) -> None:
    coco = read(tmp_path, lambda c: [a.update(bbox=[0.1, 0.2, 0.5, 0.4]) for a in c["annotations"]])
    ((kind, value),) = found(box_findings(coco)).items()
    assert "not in pixels" in kind and value == (6, True)


def test_copies_and_crowds_are_notes(tmp_path: Path) -> None:
    def change(content: dict) -> None:
        content["annotations"].append({**content["annotations"][0], "id": 999})
        content["annotations"][1]["iscrowd"] = 1

    kinds = found(box_findings(read(tmp_path, change)))
    assert set(kinds.values()) == {(1, False)} and len(kinds) == 2


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


def test_no_annotations_at_all(tmp_path: Path) -> None:
    (finding,) = box_findings(read(tmp_path, lambda c: c["annotations"].clear()))
    assert finding.is_problem and "none" in finding.examples[0]


def test_contents_are_notes(tmp_path: Path) -> None:
    def change(content: dict) -> None:
        content["annotations"] = content["annotations"][:1]
        content["images"][2]["file_name"] = "a.jpg"

    findings = content_findings(read(tmp_path, change))
    assert [(f.count, f.is_problem) for f in findings] == [(2, False), (1, False), (1, False)]
    assert findings[1].examples == ("a.jpg",) and findings[2].examples == ("box",)


# Images


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in NAMES:
        write_image(tmp_path / "images" / name)
    return tmp_path / "images"


def test_good_images(tmp_path: Path, images: Path) -> None:
    steps = []
    assert image_findings(read(tmp_path), images, on_progress=lambda *s: steps.append(s)) == []
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_missing_broken_and_wrong_images(tmp_path: Path, images: Path) -> None:
    (images / "a.jpg").unlink()
    (images / "b.jpg").write_bytes((images / "b.jpg").read_bytes()[:300])
    write_image(images / "c.jpg", HEIGHT, WIDTH)
    missing, broken, wrong = image_findings(read(tmp_path), images)
    assert missing.kind == "images without a file" and str(images / "a.jpg") in missing.examples[0]
    assert "cannot be decoded" in broken.examples[0] and "b.jpg" in broken.examples[0]
    assert "48 x 64 px, not 64 x 48, turned by its EXIF entry?" in wrong.examples[0]
    assert all(f.is_problem and f.count == 1 for f in (missing, broken, wrong))


def test_an_image_that_is_turned_by_exif(tmp_path: Path, images: Path) -> None:
    """The size that counts is the one that training sees."""
    pil = pytest.importorskip("PIL.Image")
    image = pil.open(images / "a.jpg")
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(images / "a.jpg", exif=exif)
    (finding,) = image_findings(read(tmp_path), images)
    assert "turned by its EXIF entry" in finding.examples[0]


def test_only_a_sample_is_decoded_but_all_are_looked_for(tmp_path: Path, images: Path) -> None:
    (images / "b.jpg").write_bytes(b"")
    assert image_findings(read(tmp_path), images, num_decoded=2) == []
    (images / "b.jpg").unlink()
    assert image_findings(read(tmp_path), images, num_decoded=2)[0].count == 1


def test_known_absent_images_of_objects365(tmp_path: Path) -> None:
    def change(content: dict) -> None:
        content["images"] = [{**content["images"][0],
                              "file_name": "v2/patch16/objects365_v2_00908726.jpg"}]  # fmt: skip
        content["annotations"] = content["annotations"][:2]

    path = tmp_path / "x.json"
    path.write_text(json.dumps(changed(content_of(NAMES), change)))
    coco = read_coco_file(path, "objects365")
    (finding,) = image_findings(coco, tmp_path, "objects365")
    assert not finding.is_problem


def test_existing_files(tmp_path: Path) -> None:
    (tmp_path / "a" / "folder").mkdir(parents=True)
    (tmp_path / "a" / "x.jpg").write_bytes(b"")
    (tmp_path / "y.jpg").symlink_to(tmp_path / "a" / "x.jpg")
    names = ["a/x.jpg", "y.jpg", "a/folder", "b/x.jpg", "z.jpg"]
    assert existing_files(tmp_path, names) == [(tmp_path / name).is_file() for name in names]


def test_spread() -> None:
    assert spread(5, 5) == spread(5, 99) == [0, 1, 2, 3, 4]
    assert spread(100, 2) == [0, 99] and spread(3, 1) == [0]


def test_images_in_both_splits(tmp_path: Path) -> None:
    coco = read(tmp_path)
    assert leak_findings(coco, tmp_path / "train", coco, tmp_path / "val") == []
    (finding,) = leak_findings(coco, tmp_path / "x", coco, tmp_path / "y" / ".." / "x")
    assert finding.count == 3 and finding.is_problem
