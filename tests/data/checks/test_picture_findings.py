"""Notes on turned, deep and palette images, and the problem of images without a known white."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pe_dense.data.checks.picture_findings import picture_findings
from pe_dense.data.checks.rules import Finding, require_sound
from pe_dense.data.picture_header import picture_headers


def photo(file: Path, orientation: int, size: tuple[int, int] = (8, 8)) -> Path:
    picture = Image.new("RGB", size)
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(file, exif=exif)
    return file


def found_in(files: list[Path], as_stored: bool, bits: int | None = None) -> dict[str, Finding]:
    found = picture_findings(files, picture_headers(files), as_stored, bits)
    return {finding.rule.name: finding for finding in found}


def test_turned_images(tmp_path: Path) -> None:
    files = [
        photo(tmp_path / "plain.jpg", 1),
        photo(tmp_path / "square.jpg", 6),
        photo(tmp_path / "upside_down.jpg", 3, (8, 4)),
        photo(tmp_path / "wide.jpg", 6, (8, 4)),
        tmp_path / "absent.jpg",
    ]
    stored = found_in(files, as_stored=True)["turned-images"]
    assert (stored.count, stored.is_problem) == (3, False)
    assert "as they are stored" in stored.lines()[0]
    # The size tells of the last one, whichever way its boxes were drawn.
    shown = found_in(files, as_stored=False)["turned-images"]
    assert (shown.count, shown.is_problem) == (2, False)
    assert shown.examples[0].file.endswith("square.jpg")
    assert found_in(files[:1], as_stored=True) == found_in([], as_stored=False) == {}


def test_depth_and_kind_of_colour(tmp_path: Path) -> None:
    ramp_HW = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    cv2.imwrite(str(tmp_path / "deep.png"), ramp_HW)
    Image.new("P", (8, 8)).save(tmp_path / "palette.png")
    Image.new("LA", (8, 8)).save(tmp_path / "clear.png")
    found = found_in(sorted(tmp_path.glob("*")), as_stored=True)
    counts = {name: finding.count for name, finding in found.items()}
    assert counts == {"transparent-images": 1, "deep-images": 1, "palette-images": 1}
    assert not any(finding.is_problem for finding in found.values())


def test_a_set_of_12_bits_in_16(tmp_path: Path) -> None:
    files = []
    for number in range(30):
        files.append(tmp_path / f"{number}.png")
        cv2.imwrite(str(files[-1]), np.full((4, 4), 4000 + number, np.uint16))
    found = found_in(files, as_stored=False)
    assert found["deep-images"].count == 30
    with pytest.raises(ValueError, match=r"0\.png: has 16 bits per sample .*image_bits=12"):
        require_sound(found.values())
    told = found_in(files, as_stored=False, bits=12)
    assert set(told) == {"deep-images"}
    assert told["deep-images"].examples[0].value == "has 16-bit samples, white is 4095"
