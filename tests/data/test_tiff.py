"""What OpenCV would read wrongly of TIFF, without a word, against arrays packed here."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pe_dense.data.depth_map import read_depth_steps
from pe_dense.data.label_map import read_labels
from pe_dense.data.picture import decode_picture

RNG = np.random.default_rng(0)
both_backends = pytest.mark.parametrize("backend", ["cv2", "pillow"])


def rgb(content: bytes, **options: object) -> np.ndarray:
    return decode_picture(content, "image x", **options)[..., ::-1]


def tiff(
    samples: np.ndarray, bits: int, planar: bool = False, big: bool = False, turn: int = 1
) -> bytes:
    """Uncompressed samples (H, W) or (H, W, C), by TIFF 6.0 or BigTIFF, big-endian."""
    height, width, *rest = samples.shape
    channels = rest[0] if rest else 1
    planes = np.moveaxis(samples.reshape(height, width, channels), -1, 0)
    rows = planes.reshape(-1, width) if planar else samples.reshape(height, -1)
    ones = rows[..., None].astype(np.uint32) >> np.arange(bits - 1, -1, -1) & 1
    packed = [np.packbits(row.astype(np.uint8).ravel()).tobytes() for row in ones]
    strip = len(packed) // (channels if planar else 1)
    strips = [b"".join(packed[at : at + strip]) for at in range(0, len(packed), strip)]
    word, kind = ("Q", 16) if big else ("I", 4)
    tags = {
        256: [width], 257: [height], 258: [bits] * channels, 259: [1],
        262: [2 if channels == 3 else 1], 273: [0] * len(strips), 274: [turn], 277: [channels],
        278: [height], 279: [len(strip) for strip in strips], 284: [2 if planar else 1],
    }  # fmt: skip
    wide, head = struct.calcsize(word), 16 if big else 8
    size = struct.calcsize(">HH" + 2 * word) if big else 12
    end = head + (8 if big else 2) + len(tags) * size + wide
    lists = {tag: end + wide * 20 * n for n, tag in enumerate((258, 273, 279))}
    body = bytearray(end + wide * 60)
    body[:head] = struct.pack(">2sHHHQ", b"MM", 43, 8, 0, 16) if big else b"MM\0*\0\0\0\x08"
    tags[273] = [len(body) + sum(map(len, strips[:n])) for n in range(len(strips))]
    struct.pack_into(">Q" if big else ">H", body, head, len(tags))
    for n, (tag, values) in enumerate(tags.items()):
        at = head + (8 if big else 2) + n * size
        struct.pack_into(f">HH{word}", body, at, tag, kind, len(values))
        many = len(values) > 1
        struct.pack_into(f">{word}", body, at + size - wide, lists[tag] if many else values[0])
        if many:
            struct.pack_into(f">{len(values)}{word}", body, lists[tag], *values)
    return bytes(body) + b"".join(strips)


@both_backends
@pytest.mark.parametrize("big", [False, True])
def test_tiffs_of_any_layout_are_their_samples_or_refused(big: bool, backend: str) -> None:
    samples = RNG.integers(0, 65536, (9, 7, 3))
    expected = np.rint(samples / 257)
    content = tiff(samples, 16, big=big)
    np.testing.assert_array_equal(rgb(content, backend=backend), expected)
    with pytest.raises(ValueError, match=r"image x has 16-bit samples in separate planes .*GDAL"):
        rgb(tiff(samples, 16, planar=True, big=big), backend=backend)
    np.testing.assert_array_equal(
        rgb(tiff(samples >> 8, 8, planar=True, big=False), backend=backend), samples >> 8
    )
    with pytest.raises(ValueError, match="no value above 4.*image_bits=12"):  # a big one is, too
        rgb(tiff(samples >> 4, 16, big=big), backend=backend)
    with pytest.raises(ValueError, match="16-bit samples of grey with alpha"):
        rgb(tiff(samples[..., :2], 16), backend=backend)


def test_bits_without_gaps_have_their_own_white() -> None:
    for bits in (2, 4, 10, 12, 14):
        for shape in ((9, 14), (9, 13), (9, 13, 3)):
            if bits < 8 and len(shape) == 3:
                continue
            samples = RNG.integers(0, 2**bits, shape)
            samples.flat[0] = 2**bits - 1
            expected_HWC = np.rint(samples / (2**bits - 1) * 255).reshape(9, shape[1], -1)
            found = rgb(tiff(samples, bits))
            np.testing.assert_array_equal(found, np.broadcast_to(expected_HWC, found.shape))
    with pytest.raises(ValueError, match="24-bit samples without gaps"):
        rgb(tiff(samples, 24))
    with pytest.raises(ValueError, match="image x cannot be decoded .*kind that Pillow") as caught:
        rgb(tiff(samples, 4))
    assert "<" not in str(caught.value)


def test_labels_and_depth_of_a_turned_tiff_are_as_stored(tmp_path: Path) -> None:
    labels = RNG.integers(0, 5, (9, 14))
    depth = RNG.integers(1, 65536, (9, 14))
    for turn in range(1, 9):
        (tmp_path / "labels.tif").write_bytes(tiff(labels, 8, turn=turn))
        (tmp_path / "depth.tif").write_bytes(tiff(depth, 16, turn=turn))
        np.testing.assert_array_equal(read_labels(tmp_path / "labels.tif"), labels)
        np.testing.assert_array_equal(read_depth_steps(tmp_path / "depth.tif"), depth)
    (tmp_path / "depth.tif").write_bytes(tiff(depth >> 4, 12))
    with pytest.raises(ValueError, match="has unsigned numbers of 12 bits"):
        read_depth_steps(tmp_path / "depth.tif")
    Image.fromarray(labels.astype(np.uint8)).save(tmp_path / "a.tif", compression="jpeg")
    with pytest.raises(ValueError, match=r"a\.tif: is a JPEG"):
        read_labels(tmp_path / "a.tif")
    Image.fromarray(labels.astype(np.uint8)).save(tmp_path / "a.tif", tiffinfo={262: 0})
    with pytest.raises(ValueError, match="whose 0 is white"):
        read_labels(tmp_path / "a.tif")
