"""Image files of a COCO set: there, decodable, of the size that the JSON says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2")

from coco_folders import HEIGHT, WIDTH, write_image

from pe_dense.data.checks.coco_images import image_findings
from pe_dense.data.checks.rules import Finding
from pe_dense.data.image_files import existing_files, spread

NAMES = ["a.jpg", "b.jpg", "c.jpg"]
JSON = Path("x.json")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in NAMES:
        write_image(tmp_path / "images" / name)
    return tmp_path / "images"


def check(images: Path, **options: object) -> list[Finding]:
    return image_findings(JSON, NAMES, np.array([[WIDTH, HEIGHT]] * 3), images, **options)


def test_good_images(images: Path) -> None:
    steps: list[tuple[int, int]] = []
    assert check(images, on_progress=lambda *step: steps.append(step)) == []
    assert steps == [(3, 6), (4, 6), (5, 6), (6, 6)]


def test_missing_broken_and_wrong_images(images: Path) -> None:
    (images / "a.jpg").unlink()
    (images / "b.jpg").write_bytes((images / "b.jpg").read_bytes()[:-300])
    write_image(images / "c.jpg", HEIGHT, WIDTH)
    missing, wrong, broken = check(images)
    assert str(missing.examples[0]) == f"x.json: image {images / 'a.jpg'} does not exist"
    assert f"image {images / 'b.jpg'} cannot be decoded" in str(broken.examples[0])
    assert "48 x 64 px, not 64 x 48, turned by its Exif entry?" in str(wrong.examples[0])
    assert all(f.is_problem and f.count == 1 for f in (missing, broken, wrong))


@pytest.mark.parametrize("orientation", [3, 6])
def test_an_image_that_is_turned_by_exif(images: Path, orientation: int) -> None:
    """The size that counts is the one that training sees; where both agree nobody can tell."""
    pil = pytest.importorskip("PIL.Image")
    image = pil.open(images / "a.jpg")
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(images / "a.jpg", exif=exif)
    (finding,) = check(images)
    assert finding.is_problem == (orientation == 6)
    assert finding.rule.name == ("image-size" if orientation == 6 else "turned-images")


def test_of_all_images_the_head_is_read_and_some_are_decoded(images: Path) -> None:
    (images / "b.jpg").write_bytes((images / "b.jpg").read_bytes()[:-300])
    assert check(images, num_decoded=2) == []  # the loader will see it
    assert check(images)[0].rule.name == "broken-images"
    (images / "b.jpg").write_bytes(b"")
    assert check(images, num_decoded=2)[0].rule.name == "broken-images"


def test_known_absent_images_of_objects365(tmp_path: Path) -> None:
    names = ["patch16/objects365_v2_00908726.jpg"]
    (finding,) = image_findings(JSON, names, np.array([[9, 9]]), tmp_path, "objects365")
    assert not finding.is_problem
    assert image_findings(JSON, names, np.array([[9, 9]]), tmp_path)[0].is_problem


def test_existing_files(tmp_path: Path) -> None:
    (tmp_path / "a" / "folder").mkdir(parents=True)
    (tmp_path / "a" / "x.jpg").write_bytes(b"")
    (tmp_path / "y.jpg").symlink_to(tmp_path / "a" / "x.jpg")
    names = ["a/x.jpg", "y.jpg", "a/folder", "b/x.jpg", "z.jpg"]
    assert existing_files(tmp_path, names) == [(tmp_path / name).is_file() for name in names]


def test_spread() -> None:
    assert spread(5, 5) == spread(5, 99) == [0, 1, 2, 3, 4]
    assert spread(100, 2) == [0, 99] and spread(3, 1) == [0]
