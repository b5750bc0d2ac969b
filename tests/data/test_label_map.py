"""Label maps as tools write them: what is read, and what is refused by name."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pe_dense.data.checks.rules import UnsoundError
from pe_dense.data.label_map import ranges, read_labels, require_labels, require_map_size

LABELS_HW = np.array([[0, 1, 2, 1], [3, 3, 0, 2]], np.uint8)


def grey_png(labels_HW: np.ndarray, bits: int) -> bytes:
    """A PNG of 1, 2, 4, 8 or 16 bits per pixel, packed here and not by a library."""
    rows = b""
    for row in labels_HW:
        text = "".join(f"{value:0{bits}b}" for value in row.tolist())
        text += "0" * (-len(text) % 8)
        rows += b"\0" + bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))

    def chunk(name: bytes, data: bytes) -> bytes:
        check = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", *labels_HW.shape[::-1], bits, 0, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_grey_maps_of_any_depth(tmp_path: Path, bits: int) -> None:
    """Few labels are packed into few bits, many are written as 16.

    Source: labelme issue 68 (label.png of 16 bits).
    """
    file = tmp_path / "a.png"
    file.write_bytes(grey_png(LABELS_HW, bits))
    found = read_labels(file)
    assert found.dtype == np.uint8 and np.array_equal(found, LABELS_HW)


def test_every_label_of_four_bits(tmp_path: Path) -> None:
    every = np.arange(16, dtype=np.uint8)[None]
    (tmp_path / "a.png").write_bytes(grey_png(every, 4))
    assert np.array_equal(read_labels(tmp_path / "a.png"), every)


def test_maps_of_one_bit(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(grey_png(LABELS_HW % 2, 1))
    assert np.array_equal(read_labels(tmp_path / "a.png"), LABELS_HW % 2)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_a_palette_shows_labels_and_does_not_change_them(tmp_path: Path, suffix: str) -> None:
    """Decoders that give colours made other classes of them.

    Source: image-segmentation-keras issue 117; tensorflow-deeplab-resnet issue 98.
    """
    picture = Image.fromarray(LABELS_HW)
    picture.putpalette([128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128])
    picture.save(tmp_path / f"a{suffix}")
    assert np.array_equal(read_labels(tmp_path / f"a{suffix}"), LABELS_HW)


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_whole_numbers_of_other_types(tmp_path: Path, kind: type) -> None:
    Image.fromarray(LABELS_HW.astype(kind)).save(tmp_path / "a.tif")
    assert np.array_equal(read_labels(tmp_path / "a.tif"), LABELS_HW)


def refused(tmp_path: Path, picture: Image.Image | bytes, name: str = "a.png") -> str:
    file = tmp_path / name
    if isinstance(picture, bytes):
        file.write_bytes(picture)
    else:
        picture.save(file)
    with pytest.raises(UnsoundError) as caught:
        read_labels(file)
    text = str(caught.value)
    assert text.startswith(f"{file}: ") and text.count("\n") == 0
    return text


def test_labels_above_255(tmp_path: Path) -> None:
    """Cast to 8 bits, 256 becomes 0 and 257 becomes 1.

    Source: detectron2 pull request 5386; mapillary_vistas issue 8 (label * 256 + instance).
    """
    deep = LABELS_HW.astype(np.uint16) * 256
    assert "holds 256 (uint16)" in refused(tmp_path, Image.fromarray(deep))


def test_numbers_that_are_no_labels(tmp_path: Path) -> None:
    for value, words in ((0.5, "holds 0.5"), (np.nan, "holds nan"), (-1, "holds -1")):
        picture = Image.fromarray(np.full((2, 3), value, np.float32))
        assert words in refused(tmp_path, picture, "a.tif")


def test_a_map_saved_as_jpeg(tmp_path: Path) -> None:
    """Compression mixes neighbouring labels.

    Source: Semantic-Segmentation-Suite issue 202; plant-3d-vision issue 140; glasses-detector
    issue 23.
    """
    assert "is a JPEG; JPEG changes numbers" in refused(
        tmp_path, Image.fromarray(LABELS_HW), "a.jpg"
    )


def test_a_map_in_colours(tmp_path: Path) -> None:
    """Also one whose three channels are equal.

    Source: labelme issue 384; LIP_SSL issue 26.
    """
    colours = np.repeat(LABELS_HW[..., None], 3, axis=2)
    assert "has 3 channels of colour" in refused(tmp_path, Image.fromarray(colours))
    assert "has 2 channels" in refused(tmp_path, Image.fromarray(colours[..., :2]))


@pytest.mark.parametrize("content", [b"", b"no picture", grey_png(LABELS_HW, 8)[:50]])
def test_files_that_are_no_pictures(tmp_path: Path, content: bytes) -> None:
    assert "is no picture, or is cut off" in refused(tmp_path, content)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for name, words in (("absent.png", "is missing"), (".", "Is a directory")):
        with pytest.raises(UnsoundError, match=words):
            read_labels(tmp_path / name)


def test_sizes(tmp_path: Path) -> None:
    require_map_size("a.png", LABELS_HW, (2, 4))
    with pytest.raises(UnsoundError, match="is 4x2 px but its image is 2x4, turned by"):
        require_map_size("a.png", LABELS_HW, (4, 2))
    with pytest.raises(UnsoundError, match="is 4x2 px but its image is 5x2;"):
        require_map_size("a.png", LABELS_HW, (2, 5))


def test_labels_that_are_no_class() -> None:
    require_labels("a.png", np.array([[0, 3, 255]], np.uint8), range(4))
    with pytest.raises(UnsoundError, match="label 3, but its labels may be 0 to 2 and 255"):
        require_labels("a.png", LABELS_HW, range(3))


def test_ranges_in_words() -> None:
    assert ranges([5]) == "5" and ranges([1, 2, 4]) == "1 to 2 and 4"
    assert ranges([0, 2, 3, 255]) == "0, 2 to 3 and 255"
