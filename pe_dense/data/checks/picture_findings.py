"""What the heads of a set's images say that people should know: turned, deep, with a palette."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pe_dense.data.checks.rules import Finding, FindingCollector, Rule, broken
from pe_dense.data.image_files import spread
from pe_dense.data.picture import read_picture
from pe_dense.data.picture_header import PictureHeader, picture_header

MAX_DEEP_DECODED = 16  # the loader looks at all of them

TURNED_MAPS = Rule(
    "turned-images",
    "images with an Exif orientation, read as they are stored, like their maps",
    is_problem=False,
)
TURNED_BOXES = Rule(
    "turned-images",
    "images that Exif turns to the same size, read turned: nobody can tell from the files whether "
    "boxes were drawn so",
    is_problem=False,
)
DEEP = Rule(
    "deep-images", "images of more than 8 bits per sample, scaled to 0..255", is_problem=False
)
PALETTE = Rule("palette-images", "images with a palette, read as its colours", is_problem=False)
ALPHA = Rule(
    "transparent-images", "images with transparency, read as if they had none", is_problem=False
)
NO_WHITE = Rule("images-without-white", "images whose depth of colour cannot be told")
MISSING = Rule("image-missing", "images without a file", "check data_root and the list of images")
UNREADABLE = Rule(
    "image-unreadable", "images that cannot be decoded", "replace the file, or take it out"
)
IMAGE_RULES = (NO_WHITE, MISSING, UNREADABLE)


def image_header(file: Path) -> PictureHeader:
    """Header of an image that must be there.

    Raises:
        UnsoundError: If it is missing, or no picture.
    """
    try:
        return picture_header(file)
    except ValueError as error:
        if not file.exists():
            raise broken(MISSING, file, "does not exist") from error
        raise broken(UNREADABLE, file, "is no picture, or its head is broken") from error


def picture_findings(
    files: Sequence[Path],
    headers: Sequence[PictureHeader | ValueError],
    as_stored: bool,
    bits: int | None = None,
) -> list[Finding]:
    """Notes on orientation and depth of colour; a problem where the latter cannot be told.

    Args:
        files: Images.
        headers: Of these, as `picture_headers` gives them; errors are passed over.
        as_stored: Whether the labels are maps of stored pixels.
        bits: `image_bits` of the config.
    """
    found, deep = FindingCollector(), []
    for file, header in zip(files, headers, strict=True):
        if isinstance(header, ValueError):
            continue
        if header.orientation != 1:
            value = f"has orientation {header.orientation}"
            if as_stored:
                found.add(TURNED_MAPS, "", value, file)
            elif header.turned_size == header.size:
                found.add(TURNED_BOXES, "", value, file)
        if header.is_deep:
            deep.append(file)
            found.add(
                DEEP, "", f"has {header.bits}-bit samples, white is {_white(header, bits)}", file
            )
        if header.mode == "P":
            found.add(PALETTE, "", f"has {header.bits}-bit indices", file)
        elif header.mode in ("LA", "RGBA"):
            found.add(ALPHA, "", f"has mode {header.mode}", file)
    for index in spread(len(deep), MAX_DEEP_DECODED) if deep else ():
        try:
            read_picture(deep[index], as_stored, bits=bits)
        except ValueError as error:
            found.add(NO_WHITE, "", str(error).removeprefix(f"image {deep[index]} "), deep[index])
    return found.findings()


def _white(header: PictureHeader, bits: int | None) -> int:
    """What becomes 255, in numbers of the file."""
    if header.kind == "float":
        return 1
    used = bits if header.bits == 16 and bits is not None else header.bits
    return 2**used - 1 if header.largest in (None, 2**16 - 1) else header.largest
