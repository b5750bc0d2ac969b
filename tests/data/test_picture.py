"""What becomes of a picture file: colours against the arrays that the files were made of."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from pe_dense.data.picture import decode_picture, read_picture, require_bits, turned

RNG = np.random.default_rng(0)
SMOOTH_HW3 = cv2.resize(
    RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8), (60, 40), interpolation=cv2.INTER_CUBIC
)
PICTURE = Image.fromarray(SMOOTH_HW3)
GREY_HW = SMOOTH_HW3[..., 0]
both_backends = pytest.mark.parametrize("backend", ["cv2", "pillow"])


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return content.getvalue()


def encoded(samples: np.ndarray, suffix: str = ".png") -> bytes:
    """RGB or grey samples of any depth, through OpenCV."""
    return cv2.imencode(suffix, samples[..., ::-1] if samples.ndim == 3 else samples)[1].tobytes()


def rgb(content: bytes, **options: object) -> np.ndarray:
    return decode_picture(content, "image x", **options)[..., ::-1]


# Files of 8 bits and fewer


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
def test_plain_files_are_what_the_decoders_give(kind: str) -> None:
    content = saved(PICTURE, kind)
    by_cv2 = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    with Image.open(io.BytesIO(content)) as picture:
        by_pillow = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(decode_picture(content, "x"), by_cv2)
    np.testing.assert_array_equal(rgb(content, backend="pillow"), by_pillow)


@both_backends
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_files_are_what_the_decoders_give(kind: str, orientation: int, backend: str) -> None:
    exif = PICTURE.getexif()
    exif[0x0112] = orientation
    content = saved(PICTURE, kind, exif=exif)
    if backend == "cv2":
        expected = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    else:
        with Image.open(io.BytesIO(content)) as picture:
            expected = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(rgb(content, backend=backend), expected)


@both_backends
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_as_stored_and_as_shown(kind: str, orientation: int, backend: str) -> None:
    exif = PICTURE.getexif()
    exif[0x0112] = orientation
    options = dict(lossless=True) if kind == "WEBP" else {}
    content = saved(PICTURE, kind, exif=exif, **options)
    stored = rgb(content, as_stored=True, backend=backend)
    np.testing.assert_array_equal(stored, SMOOTH_HW3)
    shown = Image.fromarray(SMOOTH_HW3)
    shown.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(shown))
    np.testing.assert_array_equal(rgb(content, backend=backend), expected)
    np.testing.assert_array_equal(turned(SMOOTH_HW3, orientation), expected)


@both_backends
def test_colours_of_palette_grey_and_alpha(backend: str) -> None:
    palette = PICTURE.quantize(16)
    expected = np.asarray(palette.convert("RGB"))
    for kind in ("PNG", "TIFF", "BMP", "GIF"):
        np.testing.assert_array_equal(rgb(saved(palette, kind), backend=backend), expected)
    np.testing.assert_array_equal(
        rgb(saved(palette, "PNG", bits=4, transparency=3), backend=backend), expected
    )
    grey_HW3 = np.repeat(GREY_HW[..., None], 3, axis=2)
    grey = Image.fromarray(GREY_HW)
    bits = grey.convert("1", dither=Image.Dither.NONE)
    for kind in ("PNG", "TIFF"):
        np.testing.assert_array_equal(rgb(saved(grey, kind), backend=backend), grey_HW3)
        white_HW = rgb(saved(bits, kind), backend=backend)[..., 0] == 255
        np.testing.assert_array_equal(white_HW, np.asarray(bits))
    alpha_HW = RNG.integers(0, 256, GREY_HW.shape, dtype=np.uint8)
    clear = Image.fromarray(np.dstack([SMOOTH_HW3, alpha_HW]))
    clear_grey = Image.merge("LA", (grey, Image.fromarray(alpha_HW)))
    for kind, options in (("PNG", {}), ("TIFF", {}), ("WEBP", dict(lossless=True, exact=True))):
        np.testing.assert_array_equal(
            rgb(saved(clear, kind, **options), backend=backend), SMOOTH_HW3
        )
        if kind != "WEBP":
            np.testing.assert_array_equal(rgb(saved(clear_grey, kind), backend=backend), grey_HW3)


@both_backends
def test_cmyk_has_the_colours_of_its_picture(backend: str) -> None:
    for kind, options in (("JPEG", dict(quality=98, subsampling=0)), ("TIFF", {})):
        content = saved(PICTURE.convert("CMYK"), kind, **options)
        assert np.abs(rgb(content, backend=backend).astype(int) - SMOOTH_HW3).max() <= 3


def test_white_of_netpbm_is_what_the_file_says() -> None:
    grey_HW = (np.arange(16, dtype=np.uint8) * 17).reshape(2, 8)
    for white in (15, 255, 4095, 65535):
        samples = np.round(grey_HW / 255 * white).astype(">u2" if white > 255 else np.uint8)
        content = b"P5\n8 2\n%d\n" % white + samples.tobytes()
        np.testing.assert_array_equal(rgb(content)[..., 0], grey_HW)


# More than 8 bits


@both_backends
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_are_scaled_by_the_type(suffix: str, channels: int, backend: str) -> None:
    samples = RNG.integers(0, 65536, (9, 7, channels)).astype(np.uint16)
    content = cv2.imencode(suffix, samples[..., [2, 1, 0, 3][:channels] if channels > 1 else [0]])
    found = rgb(content[1].tobytes(), backend=backend)
    expected = np.rint(samples[..., : min(channels, 3)] / 257).astype(np.uint8)
    np.testing.assert_array_equal(found, np.broadcast_to(expected, (9, 7, 3)))


def test_a_picture_widened_to_16_bits_is_the_picture() -> None:
    np.testing.assert_array_equal(rgb(encoded(SMOOTH_HW3.astype(np.uint16) * 257)), SMOOTH_HW3)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_fewer_bits_in_16_are_never_dark(bits: int) -> None:
    samples = np.rint(SMOOTH_HW3 / 255 * (2**bits - 1)).astype(np.uint16)
    content = encoded(samples)
    assert np.abs(rgb(content, bits=bits).astype(int) - SMOOTH_HW3).max() <= 1
    with pytest.raises(ValueError, match=rf"no value above {samples.max()}.*image_bits=12"):
        rgb(content)
    assert rgb(content, bits=16).max() == round(samples.max() / 257)
    with pytest.raises(ValueError, match="more than the 511 of white; correct image_bits=9"):
        rgb(content, bits=9)


def test_black_is_black_at_any_depth() -> None:
    black = encoded(np.zeros((4, 4), np.uint16))
    assert not rgb(black).any() and not rgb(black, bits=12).any()


def test_jpeg_2000_of_8_and_16_bits() -> None:
    deep_HW = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    found = rgb(saved(Image.fromarray(deep_HW), "JPEG2000"))
    np.testing.assert_array_equal(found[..., 0], np.rint(deep_HW / 257))
    np.testing.assert_array_equal(rgb(saved(PICTURE, "JPEG2000")), SMOOTH_HW3)


def test_bits_do_not_touch_8_bit_files() -> None:
    np.testing.assert_array_equal(rgb(saved(PICTURE, "PNG"), bits=12), SMOOTH_HW3)


def tiff(bits: int, photometric: int, samples: int, data: bytes) -> bytes:
    """A strip of 2 x 4 pixels as libtiff's tools would write it."""
    tags = {
        256: 4, 257: 2, 258: bits, 259: 1, 262: photometric, 273: 8 + 2 + 12 * 9 + 4,
        277: samples, 278: 2, 279: len(data),
    }  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


def test_packed_tiff_of_12_bits() -> None:
    values = [0, 16, 2048, 4095, 100, 1000, 4000, 8]
    data = b"".join(struct.pack(">I", (a << 12 | b) << 8)[:3] for a, b in zip(*[iter(values)] * 2))
    found = rgb(tiff(12, 1, 1, data))[..., 0].ravel()
    assert np.abs(found - np.array(values) / 4095 * 255).max() <= 1


def test_samples_that_are_no_colours_are_refused() -> None:
    with pytest.raises(ValueError, match=r"image x has 4 samples .* beside its colour \(L\)"):
        rgb(tiff(8, 1, 5, bytes(40)))
    with pytest.raises(ValueError, match="no known white"):
        rgb(tiff(16, 0, 1, struct.pack("<8H", *range(0, 64000, 8000))))
    with pytest.raises(ValueError, match=r"signed.* no known white"):
        rgb(saved(Image.fromarray(GREY_HW.astype(np.int32)), "TIFF"))


def test_floating_point_is_0_to_1() -> None:
    values = SMOOTH_HW3.astype(np.float32) / 255
    exact = cv2.imencode(".tiff", values[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 1])[1]
    np.testing.assert_array_equal(rgb(exact.tobytes()), SMOOTH_HW3)
    logarithmic = rgb(encoded(0.1 + 0.8 * values, ".tiff")).astype(int)  # OpenCV's own choice
    assert np.abs(logarithmic - 255 * (0.1 + 0.8 * values)).mean() < 1.5
    grey = saved(Image.fromarray(values[..., 0]), "TIFF")
    np.testing.assert_array_equal(rgb(grey)[..., 1], GREY_HW)
    for wrong in (1.5, 255, np.nan, np.inf):
        bad = values.copy()
        bad[3, 4, 1] = wrong
        with pytest.raises(
            ValueError, match=r"^image x holds float32 .*0 \(black\) to 1 \(white\)"
        ):
            rgb(cv2.imencode(".tiff", bad, [cv2.IMWRITE_TIFF_COMPRESSION, 1])[1].tobytes())


# Broken files and options


@both_backends
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "JPEG2000"])
def test_half_a_file_is_refused(kind: str, backend: str) -> None:
    noise = Image.fromarray(RNG.integers(0, 256, (200, 300, 3), dtype=np.uint8))
    content = saved(noise, kind)
    for length in (0, 10, len(content) // 2):
        with pytest.raises(ValueError, match="^image x cannot be decoded .*replace the file"):
            rgb(content[:length], backend=backend)


@both_backends
@pytest.mark.filterwarnings("ignore:Image size")  # a damaged size may be a large one
@pytest.mark.parametrize(
    "kind", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "JPEG2000", "deep", "deep TIFF"]
)
def test_damaged_files_are_pictures_or_one_sentence(kind: str, backend: str) -> None:
    rng = np.random.default_rng(7)
    if kind.startswith("deep"):
        whole = encoded(SMOOTH_HW3.astype(np.uint16) * 257, ".tiff" if "TIFF" in kind else ".png")
    else:
        whole = saved(PICTURE, kind)
    for number in range(40):
        damaged = bytearray(whole)
        for at in rng.integers(0, min(len(damaged), (60, len(damaged))[number % 2]), 3):
            damaged[at] = rng.integers(0, 256)
        try:
            found = rgb(bytes(damaged), backend=backend)
        except ValueError as error:
            assert str(error).startswith("image x ") and "\n" not in str(error)
        else:
            assert found.dtype == np.uint8 and found.shape[2] == 3


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"image .*a\.jpg is missing"):
        read_picture(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"frame .* is missing"):
        read_picture(tmp_path, noun="frame")
    PICTURE.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), SMOOTH_HW3)


@pytest.mark.parametrize("bits", [8, 17, 12.0, "12", True])
def test_bits_that_cannot_be(bits: object) -> None:
    with pytest.raises(ValueError, match="image_bits is"):
        require_bits(bits)
    assert require_bits(12) == 12 and require_bits(None) is None
