"""Image files of a COCO set: there, decodable, of the size that the JSON says.

Shape legend: I images.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from pe_dense.data.checks.picture_findings import picture_findings
from pe_dense.data.checks.rules import Finding, FindingCollector, Rule
from pe_dense.data.image_files import existing_files, known_to_be_absent, spread
from pe_dense.data.picture import read_picture
from pe_dense.data.picture_header import PictureHeader, picture_headers

# So many are decoded, evenly spread; the loader looks at all that it reads.
NUM_DECODED = 2000
_FILES_PER_TICK = 2048

NO_FILE = Rule(
    "missing-images",
    "images without a file",
    "check data_root and the folder of images, or take them out of the JSON",
)
NOWHERE = Rule(
    "images-nowhere",
    "sets of which no image has a file",
    "name the folder with --cfg-options train_images=... val_images=..., or put the images there",
)
SEVERAL_PLACES = Rule(
    "images-in-several-places",
    "sets whose names are those of different images in several folders",
    "say which are meant: train_images=... val_images=... (--train-images, --val-images of "
    "tools/prepare_data.py)",
)
KNOWN_ABSENT = Rule("absent-images", "images that no copy of the data set has", is_problem=False)
UNDECODABLE = Rule(
    "broken-images",
    "images that cannot be decoded",
    "replace them, or take them out of the JSON",
)
OTHER_SIZE = Rule(
    "image-size",
    "images of another size than the JSON says",
    "put the sizes (and boxes) right, or save the image as it is shown, without an Exif "
    "orientation",
)
IMAGE_RULES = (NO_FILE, NOWHERE, SEVERAL_PLACES, UNDECODABLE, OTHER_SIZE)


def image_findings(
    json_file: Path,
    file_names: Sequence[str],
    sizes_I2: np.ndarray,
    image_dir: Path,
    naming: str = "coco",
    bits: int | None = None,
    num_decoded: int = NUM_DECODED,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """Images that are missing, broken or of another size, and notes on orientation and depth.

    Args:
        json_file: Where they are listed.
        file_names: I paths below the folder, or absolute ones.
        sizes_I2: (I, 2) width and height in pixels, as the JSON says.
        image_dir: The folder.
        naming: As in `read_coco_file`.
        bits: `image_bits` of the config.
        num_decoded: So many images are decoded; of all others the head is read.
        on_progress: Called with (images done, images to do).
    """
    found = FindingCollector(json_file)
    present = existing_files(image_dir, file_names)
    here = []
    for i, name in enumerate(file_names):
        if known_to_be_absent(name, naming):
            found.add_count(KNOWN_ABSENT, 1)
        elif present[i]:
            here.append(i)
        else:
            found.add(NO_FILE, f"image {image_dir / name}", "does not exist")
    files = [image_dir / file_names[i] for i in here]
    # Opening a Path costs as much again.
    paths = [os.path.join(image_dir, file_names[i]) for i in here]  # noqa: PTH118
    total = len(files) + min(num_decoded, len(files))
    headers: list[PictureHeader | ValueError] = []
    for start in range(0, len(paths), _FILES_PER_TICK):
        headers += picture_headers(paths[start : start + _FILES_PER_TICK])
        if on_progress is not None:
            on_progress(len(headers), total)
    readable = []
    for k, header in enumerate(headers):
        if isinstance(header, ValueError):
            found.add(UNDECODABLE, f"image {files[k]}", _reason(header, files[k]))
            continue
        if not header.is_deep:  # `picture_findings` sees to the others
            readable.append(k)
        expected = tuple(sizes_I2[here[k]].tolist())
        if header.turned_size != expected:
            (width, height), is_turned = header.turned_size, header.turned_size == expected[::-1]
            value = (
                f"names {files[k]}, which has {width} x {height} px, not {expected[0]} x "
                f"{expected[1]}{', turned by its Exif entry?' if is_turned else ''}"
            )
            found.add(OTHER_SIZE, f"images[{here[k]}]", value)
    chosen = [readable[place] for place in spread(len(readable), num_decoded)] if readable else []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        decoded = pool.map(_decoding_error, [files[k] for k in chosen])
        for done, (k, error) in enumerate(zip(chosen, decoded, strict=True), start=1):
            if error is not None:
                found.add(UNDECODABLE, f"image {files[k]}", _reason(error, files[k]))
            if on_progress is not None:
                on_progress(len(files) + done, total)
    return [*found.findings(), *picture_findings(files, headers, as_stored=False, bits=bits)]


def _decoding_error(file: Path) -> ValueError | None:
    try:
        read_picture(file)
    except ValueError as error:
        return error
    return None


def _reason(error: ValueError, file: Path) -> str:
    """What an error says of an image, without its name and remedy."""
    return str(error).removeprefix(f"image {file} ").partition("; ")[0]
