"""The image files that a COCO JSON names."""

from __future__ import annotations

from pathlib import Path

# Images that Objects365 v2 lists but does not ship. Source: mmdet 3.5.1, Objects365V2Dataset,
# which leaves them out.
OBJECTS365_ABSENT = frozenset(
    {
        "patch16/objects365_v2_00908726.jpg",
        "patch6/objects365_v1_00320532.jpg",
        "patch6/objects365_v1_00320534.jpg",
    }
)


def known_to_be_absent(name: str, naming: str) -> bool:
    """Whether no copy of the data set has this image, and loaders leave it out."""
    return naming == "objects365" and name in OBJECTS365_ABSENT


def decoded_size(file: Path) -> tuple[int, int]:
    """Width and height in pixels, after decoding all of it as the loader does.

    A rotation that the file asks for (EXIF) is applied, as in loading.

    Raises:
        ValueError: If the file is empty or cannot be decoded.
    """
    import cv2
    import numpy as np

    # As the loader reads it: imread would accept half a JPEG and fill the rest with grey.
    content = np.fromfile(file, dtype=np.uint8)
    image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    if image is None:
        raise ValueError(f"image {file} cannot be decoded")
    return image.shape[1], image.shape[0]
