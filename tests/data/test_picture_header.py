"""Headers of picture files against Pillow, and against what the files were made with."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pe_dense.data.picture_header import header_of, picture_header, picture_headers

GREY_HW = (np.arange(12 * 20).reshape(12, 20) % 256).astype(np.uint8)
COLOUR = Image.fromarray(np.stack([GREY_HW, GREY_HW[::-1], GREY_HW[:, ::-1]], axis=2))


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return content.getvalue()


def with_orientation(kind: str, orientation: int) -> bytes:
    exif = COLOUR.getexif()
    exif[0x0112] = orientation
    return saved(COLOUR, kind, exif=exif)


def jpeg_with(*blocks: bytes) -> bytes:
    plain = saved(COLOUR, "JPEG")
    segments = [b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block for block in blocks]
    return plain[:2] + b"".join(segments) + plain[2:]


def exif_block(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    start = b"II*\0" if order == "<" else b"MM\0*"
    value = struct.pack(order + ("HH" if kind == 3 else "I"), *([orientation, 0][: 5 - kind]))
    entry = struct.pack(order + "HHHI", 1, 0x0112, kind, 1) + value
    return b"Exif\0\0" + start + struct.pack(order + "I", 8) + entry + bytes(4)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_orientation_and_stored_size(kind: str, orientation: int) -> None:
    header = header_of(with_orientation(kind, orientation), "x")
    assert (header.size, header.orientation, header.format) == ((20, 12), orientation, kind)
    assert header.turned_size == ((12, 20) if orientation >= 5 else (20, 12))


@pytest.mark.parametrize(
    ("content", "orientation"),
    [
        (jpeg_with(exif_block(6, ">")), 6),
        (jpeg_with(exif_block(6, "<", 4)), 6),
        (jpeg_with(exif_block(6, ">", 4)), 6),
        (jpeg_with(b"http://ns.adobe.com/xap/1.0/\0<x/>", exif_block(6)), 6),
        (jpeg_with(exif_block(6), exif_block(1)), 6),
        (jpeg_with(b"x" * 60000, exif_block(8)), 8),
        (jpeg_with(exif_block(9)), 1),
        (jpeg_with(exif_block(0)), 1),
        (jpeg_with(exif_block(6)[:20]), 1),
        (jpeg_with(b"Exif\0\0II"), 1),
        (jpeg_with(b"Exif\0\0nonsense"), 1),
    ],
)
def test_exif_blocks(content: bytes, orientation: int) -> None:
    assert header_of(content, "x").orientation == orientation


def test_exif_behind_the_pixels_of_a_png() -> None:
    content = with_orientation("PNG", 6)
    at = content.index(b"eXIf") - 4
    (length,) = struct.unpack(">I", content[at : at + 4])
    chunk, end = content[at : at + 12 + length], content[-12:]
    moved = content[:at] + content[at + 12 + length : -12] + chunk + end
    assert header_of(moved, "x").orientation == 6


def modes() -> dict[str, tuple[bytes, str, int]]:
    """Name -> file, mode and bits."""
    grey = COLOUR.convert("L")
    deep_HW = GREY_HW.astype(np.uint16) * 257
    return {
        "grey": (saved(grey, "JPEG"), "L", 8),
        "cmyk": (saved(COLOUR.convert("CMYK"), "JPEG"), "CMYK", 8),
        "progressive": (saved(COLOUR, "JPEG", progressive=True), "RGB", 8),
        "one bit": (saved(grey.convert("1"), "PNG"), "L", 1),
        "palette": (saved(COLOUR.quantize(16), "PNG", bits=4), "P", 4),
        "alpha": (saved(COLOUR.convert("RGBA"), "PNG"), "RGBA", 8),
        "grey alpha": (saved(grey.convert("LA"), "PNG"), "LA", 8),
        "deep": (cv2.imencode(".png", deep_HW)[1].tobytes(), "L", 16),
        "deep colour": (cv2.imencode(".png", np.stack([deep_HW] * 3, 2))[1].tobytes(), "RGB", 16),
        "deep tiff": (saved(Image.fromarray(deep_HW), "TIFF"), "L", 16),
        "tiff alpha": (saved(COLOUR.convert("RGBA"), "TIFF"), "RGBA", 8),
        "tiff cmyk": (saved(COLOUR.convert("CMYK"), "TIFF"), "CMYK", 8),
        "tiff palette": (saved(COLOUR.quantize(16), "TIFF"), "P", 8),
        "tiff one bit": (saved(grey.convert("1"), "TIFF"), "L", 1),
        "gif": (saved(COLOUR.quantize(16), "GIF"), "P", 8),
        "bmp": (saved(COLOUR, "BMP"), "RGB", 8),
        "pbm": (saved(grey.convert("1"), "PPM"), "L", 1),
    }


@pytest.mark.parametrize("name", list(modes()))
def test_mode_and_bits(name: str) -> None:
    content, mode, bits = modes()[name]
    header = header_of(content, "x")
    assert (header.mode, header.bits, header.kind) == (mode, bits, "unsigned")
    with Image.open(io.BytesIO(content)) as picture:
        assert header.size == picture.size
    assert header.is_deep == (bits > 8)


def test_float_and_signed_pictures() -> None:
    depth = header_of(saved(Image.fromarray(GREY_HW / np.float32(255)), "TIFF"), "x")
    assert (depth.kind, depth.bits, depth.mode) == ("float", 32, "L")
    signed = header_of(saved(Image.fromarray(GREY_HW.astype(np.int32)), "TIFF"), "x")
    assert (signed.kind, signed.bits) == ("signed", 32)


def test_white_that_a_file_states() -> None:
    pgm = header_of(b"P5\n# 12 bits\n20 12\n4095\n" + bytes(480), "x")
    assert (pgm.size, pgm.bits, pgm.largest) == ((20, 12), 16, 4095)
    assert header_of(b"P4\n20 12\n" + bytes(36), "x").largest is None


@pytest.mark.parametrize(
    "content",
    [
        b"", b"nothing", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\0\x10JFIF", b"\xff\xd8\xff\xd9",
        b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n" + bytes(30), b"II*\0", b"II*\0\xff\xff\xff\xff",
        b"P5\n20", b"GIF89a",
    ],
)  # fmt: skip
def test_no_picture_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.jpg"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.jpg cannot be decoded .*replace the file"):
        picture_header(file)


def test_cut_heads_never_raise_anything_else() -> None:
    for content, *_ in modes().values():
        for length in range(0, min(len(content), 300), 3):
            try:
                header_of(content[:length], "x")
            except ValueError:
                continue


def test_many_files_keep_their_order(tmp_path: Path) -> None:
    for number in range(600):
        Image.new("L", (number + 1, 2)).save(tmp_path / f"{number}.png")
    (tmp_path / "7.png").write_bytes(b"no")
    found = picture_headers([tmp_path / f"{number}.png" for number in range(601)])
    assert isinstance(found[7], ValueError) and "7.png" in str(found[7])
    assert isinstance(found[600], ValueError) and "is missing" in str(found[600])
    good = [header.size for at, header in enumerate(found) if at not in (7, 600)]
    assert good == [(number + 1, 2) for number in range(600) if number != 7]
    assert picture_headers([]) == []
