"""From a picture file to (H, W, 3) uint8: the one rule that all readers share.

Colour. Samples of 8 bits are taken as they are; 1, 2 and 4 bits and palettes become the colours
they stand for; grey becomes three equal channels; CMYK becomes RGB. Alpha is dropped: a pixel has
the colour that is stored for it, however transparent it is.

Depth. More than 8 bits are scaled so that white becomes 255, and rounded. White is, in this order,
the number that the file states (PNM), 2^bits - 1 where the reader is told how many `bits` the set
has, and the largest number of the type, which may be of 10, 12 or 14 packed bits in TIFF. What
PNG's sBIT and TIFF's MaxSampleValue say is not used: by their standards they describe samples, and
do not change what is white. Files of 16 bits that
hold 10, 12 or 14 would come out 4 to 64 times too dark, so a picture of 16 bits without a value
above 2^14 is refused unless `bits` is given; that depends on the file alone, so it is the same in
training and in scoring. Floating-point samples are in 0..1; others, and signed ones, are refused.

Orientation. As Exif has it, or the file as it is stored (`as_stored`), which is right wherever the
labels are maps of stored pixels: segmentation, depth, masks of videos.
"""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from pe_dense.data.picture_header import PictureHeader, header_of, unreadable

BACKENDS = ("cv2", "pillow")
_INVERSE = {6: 8, 8: 6}  # all other orientations undo themselves
# Formats that OpenCV does not read, or that end the process where a file is broken (JPEG 2000).
_PILLOW_FORMATS = ("AVIF", "GIF", "JPEG2000")
_TYPE_WHITE = 2**16 - 1
_STEP = 1 / 255  # less than this outside 0..1 is rounding
_DARK = 2**14  # what a set of 14 bits stays below


def read_picture(
    file: str | Path,
    as_stored: bool = False,
    backend: str = "cv2",
    bits: int | None = None,
    noun: str = "image",
) -> np.ndarray:
    """(H, W, 3) RGB uint8.

    Args:
        file: The file.
        as_stored: See `decode_picture`, as for the next two.
        backend: Decoder of 8-bit files.
        bits: Of the set of images.
        noun: What messages call it.

    Raises:
        ValueError: If it is missing, or as `decode_picture`.
    """
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise unreadable(f"{noun} {file}", error) from error
    pixels_HW3, is_rgb = _decoded(content, f"{noun} {file}", as_stored, backend, bits)
    return pixels_HW3.copy() if is_rgb else _swapped(pixels_HW3)


def decode_picture(
    content: bytes,
    called: str,
    as_stored: bool = False,
    backend: str = "cv2",
    bits: int | None = None,
) -> np.ndarray:
    """(H, W, 3) BGR uint8 of a file in memory; see the module for what becomes what.

    Args:
        content: The whole file.
        called: How messages call it: 'image a.jpg'.
        as_stored: Leave the pixels as they are stored; otherwise they are turned as Exif says.
        backend: 'cv2' or 'pillow', which decode JPEG by slightly different numbers.
        bits: How many of 16 bits the images of this set use, 9 to 16; None: all, unless that
            makes the picture dark, which is refused.

    Raises:
        ValueError: If it cannot be decoded to its end, holds numbers that are no colours, is dark
            for want of `bits`, or has values above them.
    """
    pixels_HW3, is_rgb = _decoded(content, called, as_stored, backend, bits)
    return _swapped(pixels_HW3) if is_rgb else pixels_HW3


def require_backend(backend: str) -> str:
    """`backend` as it is, if it is one.

    Raises:
        ValueError: If not.
    """
    if backend not in BACKENDS:
        raise ValueError(f"imdecode_backend is {backend!r}; choose one of {', '.join(BACKENDS)}")
    return backend


def require_bits(bits: int | None) -> int | None:
    """`bits` as it is, if it can be a number of bits of 16.

    Raises:
        ValueError: If not.
    """
    if bits is not None and (not isinstance(bits, int) or not 9 <= bits <= 16):
        raise ValueError(f"image_bits is {bits!r}; give how many of 16 bits are used, 9 to 16")
    return bits


def turned(picture_HWC: np.ndarray, orientation: int) -> np.ndarray:
    """A view of stored pixels as an Exif orientation, 1 to 8, wants them shown.

    Example:
        >>> turned(np.array([[1, 2], [3, 4]]), 6).tolist()  # a quarter to the right
        [[3, 1], [4, 2]]
    """
    if orientation >= 5:
        picture_HWC = picture_HWC.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        picture_HWC = picture_HWC[::-1]
    if orientation in (2, 3, 6, 7):
        picture_HWC = picture_HWC[:, ::-1]
    return picture_HWC


def stored(decoded_HWC: np.ndarray, header: PictureHeader) -> np.ndarray:
    """A view of decoded pixels as they are stored: OpenCV and Pillow turn those of a TIFF."""
    back = _INVERSE.get(header.orientation, header.orientation)
    return turned(decoded_HWC, back if header.format == "TIFF" else 1)


def _tiff_obstacle(header: PictureHeader) -> str:
    """Why OpenCV would give other pixels than those of a deep TIFF, without a word, or ''."""
    if not header.is_deep or header.format != "TIFF":
        return ""
    if header.is_planar:
        return "in separate planes (PlanarConfiguration 2)"
    if header.mode == "LA":
        return "of grey with alpha"
    return "" if header.bits in (10, 12, 14, 16, 32, 64) else "without gaps"


def _decoded(
    content: bytes, called: str, as_stored: bool, backend: str, bits: int | None
) -> tuple[np.ndarray, bool]:
    """(H, W, 3) uint8, perhaps read-only, and whether it is RGB rather than BGR."""
    header = header_of(content, called)
    if "+" in header.mode:
        raise ValueError(
            f"{called} has {header.mode.partition('+')[2]} samples per pixel beside its colour "
            f"({header.mode.partition('+')[0]}); save it as RGB"
        )
    if obstacle := _tiff_obstacle(header):
        raise ValueError(
            f"{called} has {header.bits}-bit samples {obstacle}, which is not read; save it as RGB "
            "with interleaved samples (INTERLEAVE=PIXEL of GDAL) of 16 bits, or with 8 bits"
        )
    try:
        is_rgb = _needs_pillow(header) or (backend == "pillow" and _is_plain(header))
        if is_rgb:
            with Image.open(io.BytesIO(content)) as picture:
                is_plain = picture.mode == "RGB" or picture.mode.startswith("I;16")
                pixels_HWC = np.asarray(picture if is_plain else picture.convert("RGB"))
        else:
            flag = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
            flag = flag if _is_plain(header) else cv2.IMREAD_UNCHANGED
            # In memory: imread would accept half a JPEG and fill the rest with grey.
            pixels_HWC = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
            if pixels_HWC is None:
                raise ValueError("broken, cut off, or of a kind that OpenCV does not read")
    except UnidentifiedImageError as error:  # its own words name an object in memory
        raise _undecodable(
            called, "broken, cut off, or of a kind that Pillow does not read"
        ) from error
    except Exception as error:  # OpenCV and Pillow raise many kinds for a broken file
        reason = error.err if isinstance(error, cv2.error) else " ".join(str(error).split())
        raise _undecodable(called, reason or type(error).__name__) from error
    pixels_HWC = _three_channels(pixels_HWC)
    if not _is_plain(header):
        pixels_HWC = _scaled(pixels_HWC, header, called, bits)
    pixels_HWC = stored(pixels_HWC, header)
    pixels_HWC = turned(pixels_HWC, 1 if as_stored else header.orientation)
    return np.ascontiguousarray(pixels_HWC), is_rgb


def _swapped(pixels_HW3: np.ndarray) -> np.ndarray:
    """RGB for BGR and back, as a copy; NumPy takes ten times as long to turn an axis round."""
    return cv2.cvtColor(pixels_HW3, cv2.COLOR_RGB2BGR)


def _undecodable(called: str, reason: str) -> ValueError:
    return ValueError(
        f"{called} cannot be decoded ({reason}); replace the file or take it out of the list of "
        "images"
    )


def _is_plain(header: PictureHeader) -> bool:
    """Whether decoders give colours in 0..255 of themselves."""
    return not header.is_deep and header.largest in (None, 255)


def _needs_pillow(header: PictureHeader) -> bool:
    """Where OpenCV reads nothing, or other colours than those of the file."""
    # It rounds CMYK twice, and multiplies colours of a TIFF by their alpha.
    is_alpha = header.mode in ("LA", "RGBA") and not header.is_deep
    is_odd_tiff = header.format == "TIFF" and (is_alpha or header.bits in (2, 4))
    return header.format in _PILLOW_FORMATS or header.mode == "CMYK" or is_odd_tiff


def _three_channels(pixels_HWC: np.ndarray) -> np.ndarray:
    if pixels_HWC.ndim == 2:
        pixels_HWC = pixels_HWC[..., None]
    if pixels_HWC.shape[2] < 3:  # grey, perhaps with alpha
        return np.repeat(pixels_HWC[..., :1], 3, axis=2)
    return pixels_HWC[..., :3]


def _scaled(
    samples_HW3: np.ndarray, header: PictureHeader, called: str, bits: int | None
) -> np.ndarray:
    """Samples of another depth as 0..255 uint8."""
    kind = samples_HW3.dtype
    if kind.kind == "f":
        low, high = samples_HW3.min(), samples_HW3.max()
        if not (low > -_STEP and high < 1 + _STEP):  # also where one is nan
            raise ValueError(
                f"{called} holds {kind} from {low:g} to {high:g}, but floating-point images are "
                "read as 0 (black) to 1 (white); scale it, or save it with 8 bits"
            )
        return np.rint(samples_HW3.clip(0, 1) * 255).astype(np.uint8)
    if kind not in (np.uint8, np.uint16) or header.kind != "unsigned" or header.mode == "L;I":
        raise ValueError(
            f"{called} holds {header.bits}-bit samples ({header.kind}, mode {header.mode}) that "
            "have no known white; save it with 8 or 16 bits, unsigned, black as 0"
        )
    if header.bits in (10, 12, 14) and header.format == "TIFF":
        samples_HW3 = samples_HW3 >> 16 - header.bits  # where OpenCV puts them
    white, brightest = header.largest or 2**header.bits - 1, int(samples_HW3.max(initial=0))
    if header.bits == 16 and white == _TYPE_WHITE:
        if bits is not None:
            white = 2**bits - 1
        elif 0 < brightest < _DARK:
            raise ValueError(
                f"{called} has 16 bits per sample but no value above {brightest}, as if only "
                f"{max(9, brightest.bit_length())} or a few more bits were used; say how many the "
                "images of this set use, with --cfg-options image_bits=12 for example (16 if it is "
                "as dark as that), or save them with 8 bits, which is all that a command without "
                "a config reads"
            )
    if brightest > white:
        raise ValueError(
            f"{called} has the value {brightest}, more than the {white} of white; correct "
            f"image_bits={bits}, or the file"
        )
    return ((samples_HW3.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)
