"""What the head of a picture file says, read without decoding: size, orientation, depth of colour.

JPEG and PNG are read here, since a check opens a hundred thousand of them; Pillow reads the rest.

Sources: ITU-T T.81 (markers and frame header of JPEG); CIPA DC-008 (Exif: tag 0x0112, eight
values); W3C PNG, third edition (IHDR, eXIf); TIFF 6.0 (BitsPerSample, PlanarConfiguration); BigTIFF
of libtiff 4 (offsets and counts of 8 bytes).
"""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image

SWAPS_SIDES = (5, 6, 7, 8)  # orientations that turn by 90 degrees
_FIRST_READ = 4096
_JPEG_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_PNG_MODES = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}
# Start of frame, all kinds but the numbers that mean something else (DHT, JPG, DAC).
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
# Tags of TIFF; Exif blocks are built alike.
_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES = 256, 257, 258, 262, 274, 277
_PLANES, _SAMPLE_FORMAT = 284, 339
_TAGS_READ = {
    _WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _PLANES, _SAMPLE_FORMAT
}  # fmt: skip
_TIFF_LETTERS = {3: "H", 4: "I", 16: "Q"}  # kinds of whole numbers
_MOST_SAMPLES = 16
_TIFF_MODES = {
    0: "L",
    1: "L",
    2: "RGB",
    3: "P",
    5: "CMYK",
    6: "RGB",
    8: "RGB",
    32844: "L",
    32845: "RGB",
}
_TIFF_KINDS = {1: "unsigned", 2: "signed", 3: "float", 4: "unsigned"}
_PNM = re.compile(rb"P([1-6])" + 2 * rb"(?:\s+|#[^\n]*\n)+(\d+)" + rb"(?:(?:\s+|#[^\n]*\n)+(\d+))?")
_PILLOW_MODES = {
    "1": ("L", 1, "unsigned"), "I": ("L", 32, "signed"), "F": ("L", 32, "float"),
    "I;16": ("L", 16, "unsigned"), "I;16B": ("L", 16, "unsigned"), "PA": ("P", 8, "unsigned"),
}  # fmt: skip
# What the readers below and Pillow raise for heads that are broken, cut off or absurd.
_BROKEN = (
    struct.error, ValueError, KeyError, OSError, SyntaxError, EOFError, IndexError, TypeError,
    Image.DecompressionBombError,
)  # fmt: skip
_FILES_PER_TASK = 256


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """Facts of a picture file.

    Attributes:
        size: Width and height of the stored pixels.
        orientation: Exif entry, 1 to 8; 1 where there is none or one without meaning.
        bits: Per sample, as the file's type has it: 1, 2, 4, 8, 10, 12, 14, 16, 32 or 64.
        mode: 'L', 'LA', 'RGB', 'RGBA', 'P' or 'CMYK' (else as Pillow calls it), whatever `bits`;
            'L+2' has two samples beside grey that are no colours, and in 'L;I' 0 is white.
        kind: 'unsigned', 'signed' or 'float'.
        format: 'JPEG', 'PNG', or another name of Pillow's.
        largest: The value that means white, where the file states one (PNM).
        is_planar: Whether each channel of several stands by itself (TIFF).
    """

    size: tuple[int, int]
    orientation: int
    bits: int
    mode: str
    kind: str
    format: str
    largest: int | None = None
    is_planar: bool = False

    @property
    def turned_size(self) -> tuple[int, int]:
        """Width and height once the orientation is applied."""
        return self.size[::-1] if self.orientation in SWAPS_SIDES else self.size

    @property
    def is_deep(self) -> bool:
        """Whether a sample has more than 8 bits, so that decoding scales it."""
        return self.bits > 8


def picture_header(file: str | Path) -> PictureHeader:
    """Header of a file; about 20 microseconds for a JPEG.

    Raises:
        ValueError: If it is missing, empty, or no picture.
    """
    try:
        with open(file, "rb", buffering=0) as stream:  # noqa: PTH123 (a Path costs as much again)
            return _header(stream, f"image {file}")
    except OSError as error:
        raise unreadable(f"image {file}", error) from error


def header_of(content: bytes, called: str) -> PictureHeader:
    """Header of a picture in memory; `called` is what messages call it: 'image a.jpg'.

    Raises:
        ValueError: If it is empty or no picture.
    """
    return _header(io.BytesIO(content), called)


def unreadable(called: str, error: OSError) -> ValueError:
    """What to say of a file that cannot be opened."""
    if isinstance(error, FileNotFoundError | IsADirectoryError):
        return ValueError(f"{called} is missing; check data_root and the list of images")
    return ValueError(f"{called} cannot be read ({error.strerror or error}); check its rights")


def picture_headers(files: Sequence[str | Path]) -> list[PictureHeader | ValueError]:
    """Headers of many files, in their order; the error where a file has none.

    Threads wait for the disk; what Python does in between takes one processor.
    """
    groups = [files[at : at + _FILES_PER_TASK] for at in range(0, len(files), _FILES_PER_TASK)]
    if len(groups) < 2:
        return _header_or_error(files)
    with ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
        return [header for found in pool.map(_header_or_error, groups) for header in found]


def _header_or_error(files: Sequence[str | Path]) -> list[PictureHeader | ValueError]:
    found: list[PictureHeader | ValueError] = []
    for file in files:
        try:
            found.append(picture_header(file))
        except ValueError as error:
            found.append(error)
    return found


def _header(stream: BinaryIO, called: str) -> PictureHeader:
    head = stream.read(_FIRST_READ)
    try:
        if head.startswith(b"\xff\xd8\xff"):
            return _jpeg(_Bytes(stream, head))
        if head.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(_Bytes(stream, head))
        if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return _tiff(_Bytes(stream, head))
        if head[:1] == b"P" and head[1:2] in b"123456":
            return _pnm(head)
        return _other(stream)
    except _BROKEN as error:
        reason = "no picture, or its head is broken" if head else "the file is empty"
        raise ValueError(
            f"{called} cannot be decoded ({reason}); replace the file or take it out of the list "
            "of images"
        ) from error


class _Bytes:
    """Parts of a file by offset; the first ones are in memory."""

    def __init__(self, stream: BinaryIO, head: bytes) -> None:
        self._stream, self._head = stream, head

    def __call__(self, offset: int, count: int) -> bytes:
        if offset + count <= len(self._head):
            return self._head[offset : offset + count]
        self._stream.seek(offset)
        return self._stream.read(count)


def _jpeg(part: _Bytes) -> PictureHeader:
    at, orientation = 2, None
    while True:
        prefix, marker = struct.unpack(">BB", part(at, 2))
        if prefix != 0xFF:
            raise ValueError("no marker")
        if marker == 0xFF or marker in _ALONE:  # a filling byte, or a marker of its own
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack(">H", part(at + 2, 2))
        if marker in _FRAMES:
            bits, height, width, channels = struct.unpack(">BHHB", part(at + 4, 6))
            if not width * height:
                raise ValueError("no pixels")
            size, mode = (width, height), _JPEG_MODES[channels]
            return PictureHeader(size, orientation or 1, bits, mode, "unsigned", "JPEG")
        if marker in (0xD9, 0xDA):
            raise ValueError("no frame")
        if marker == 0xE1 and orientation is None and part(at + 4, 6) == b"Exif\0\0":
            orientation = _exif_orientation(part(at + 10, length - 8))
        at += 2 + length


def _png(part: _Bytes) -> PictureHeader:
    width, height, bits, colour = struct.unpack(">IIBB", part(16, 10))
    if not width * height:
        raise ValueError("no pixels")
    at, orientation = 8, 1
    while len(head := part(at, 8)) == 8:  # to the end: an eXIf may stand behind the pixels
        length, name = struct.unpack(">I4s", head)
        if name == b"eXIf":
            orientation = _exif_orientation(part(at + 8, length))
        if name in (b"eXIf", b"IEND"):
            break
        at += 12 + length
    mode = _PNG_MODES[colour]
    return PictureHeader((width, height), orientation, bits, mode, "unsigned", "PNG")


def _exif_orientation(block: bytes) -> int:
    """The entry of the first directory; 1 where it is absent or has no meaning."""
    try:
        value = _directory(_Bytes(io.BytesIO(block), block)).get(_ORIENTATION, [1])[0]
    except (struct.error, KeyError):  # decoders go on without a broken block, too
        return 1
    return value if 1 <= value <= 8 else 1


def _tiff(part: _Bytes) -> PictureHeader:
    tags = _directory(part)
    (width,), (height,) = tags[_WIDTH], tags[_HEIGHT]
    bits, samples = set(tags.get(_BITS, [1])), tags.get(_SAMPLES, [1])[0]
    kinds = set(tags.get(_SAMPLE_FORMAT, [1]))
    if not width * height or len(bits) > 1 or len(kinds) > 1:
        raise ValueError("no pixels, or samples of several kinds")
    photometric = tags.get(_PHOTOMETRIC, [1])[0]
    mode = _TIFF_MODES[photometric]
    extra = samples - len(mode)  # a letter of 'L', 'P', 'RGB' and 'CMYK' is one sample
    if extra > 0:
        mode += "A" if extra == 1 else f"+{extra}"
    if photometric == 0 and min(bits) > 1:  # 0 is white; decoders see to it up to 8 bits
        mode = "L;I"
    orientation = tags.get(_ORIENTATION, [1])[0]
    return PictureHeader(
        (width, height),
        orientation if 1 <= orientation <= 8 else 1,
        bits.pop(),
        mode,
        _TIFF_KINDS[kinds.pop()],
        "TIFF",
        is_planar=samples > 1 and tags.get(_PLANES, [1])[0] == 2,
    )


def _directory(part: _Bytes) -> dict[int, tuple[int, ...]]:
    """Whole numbers of the first directory of a TIFF file or Exif block, by tag."""
    start = part(0, 4)
    order = {b"II": "<", b"MM": ">"}[start[:2]]
    is_big = {b"*": False, b"+": True}[start[2:].strip(b"\0")]
    word, at, head = ("Q", 8, 12) if is_big else ("I", 4, 8)  # head of an entry: tag, kind, count
    wide = struct.calcsize(word)
    (at,) = struct.unpack(order + word, part(at, wide))
    tags = order + ("Q" if is_big else "H")
    (num_tags,) = struct.unpack(tags, part(at, struct.calcsize(tags)))
    at += struct.calcsize(tags)
    found = {}
    for entry in range(at, at + num_tags * (head + wide), head + wide):
        tag, kind, count = struct.unpack(order + "HH" + word, part(entry, head))
        if kind in _TIFF_LETTERS and tag in _TAGS_READ and count <= _MOST_SAMPLES:
            layout = f"{order}{count}{_TIFF_LETTERS[kind]}"
            length, place = struct.calcsize(layout), entry + head
            if length > wide:
                (place,) = struct.unpack(order + word, part(place, wide))
            found[tag] = struct.unpack(layout, part(place, length))
    return found


def _pnm(head: bytes) -> PictureHeader:
    """Netpbm: the number behind the sides is white."""
    match = _PNM.match(head)
    if match is None:
        raise ValueError("no size")
    number, width, height, largest = (int(text or 1) for text in match.groups())
    if number in (1, 4):
        largest = 1
    mode = "RGB" if number in (3, 6) else "L"
    bits = 1 if largest == 1 else 8 if largest < 256 else 16
    white = largest if bits > 1 else None
    return PictureHeader((width, height), 1, bits, mode, "unsigned", "PPM", white)


def _other(stream: BinaryIO) -> PictureHeader:
    stream.seek(0)
    with Image.open(stream) as picture:
        exif = picture.info.get("exif", b"").removeprefix(b"Exif\0\0")
        mode, bits, kind = _PILLOW_MODES.get(picture.mode, (picture.mode, 8, "unsigned"))
        return PictureHeader(
            picture.size, _exif_orientation(exif), bits, mode, kind, str(picture.format)
        )
