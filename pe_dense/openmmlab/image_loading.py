"""Loading images in pipelines of mmdet and mmseg, by the rule of `pe_dense.data.picture`.

Needs no mmcv: probes and alignments load images where it is not installed.
"""

from __future__ import annotations

from mmengine import fileio
from mmengine.registry import TRANSFORMS

from pe_dense.data.picture import decode_picture, require_backend, require_bits
from pe_dense.data.picture_header import unreadable

# What samples carry whose labels are maps of stored pixels: those of mmseg's and our depth data
# sets, and of mmdet's with a panoptic or semantic map.
_KEYS_OF_MAPS = ("seg_fields", "seg_map_path", "depth_map_path")


@TRANSFORMS.register_module()
class LoadImage:
    """Add 'img' (H, W, 3) BGR uint8 and its shape.

    Where the labels are maps of stored pixels, the image is read as it is stored; otherwise it is
    turned as its Exif entry says, which is what annotation tools show.

    Args:
        imdecode_backend: 'cv2' or 'pillow', decoder of 8-bit files.
        bits: How many of 16 bits the images of the set use; see `decode_picture`. Set by
            `image_bits` of a config.
        backend_args: Of mmengine's file backends.

    Raises:
        ValueError: If the file is missing, cannot be decoded to its end, has no known white, or
            has another size than its annotations say.
    """

    def __init__(
        self,
        imdecode_backend: str = "cv2",
        bits: int | None = None,
        backend_args: dict | None = None,
    ) -> None:
        self.backend = require_backend(imdecode_backend)
        self.bits, self.backend_args = require_bits(bits), backend_args

    def __call__(self, results: dict) -> dict:
        """As a step of a pipeline."""
        return self.transform(results)

    def transform(self, results: dict) -> dict:
        """See the class."""
        path = results["img_path"]
        try:
            content = fileio.get(path, backend_args=self.backend_args)
        except OSError as error:
            raise unreadable(f"image {path}", error) from error
        as_stored = any(results.get(key) is not None for key in _KEYS_OF_MAPS)
        image_HW3 = decode_picture(content, f"image {path}", as_stored, self.backend, self.bits)
        require_size(results, image_HW3.shape[:2])
        results["img"] = image_HW3
        results["img_shape"] = results["ori_shape"] = image_HW3.shape[:2]
        return results


def require_size(results: dict, found_hw: tuple[int, int]) -> None:
    """Refuse an image whose annotations were made for another size.

    Label maps and depth maps are compared where they are decoded.

    Raises:
        ValueError: If they differ.
    """
    said_hw = results.get("height"), results.get("width")
    if None in said_hw or said_hw == found_hw:
        return
    is_turned = said_hw == found_hw[::-1]
    hint = ", turned by its Exif entry?" if is_turned else ""
    raise ValueError(
        f"image {results['img_path']} has {found_hw[1]} x {found_hw[0]} px, but its annotations "
        f"say {said_hw[1]} x {said_hw[0]}{hint}; boxes would be misplaced, so put the sizes (and "
        "boxes) right, or save the image as it is shown, without the entry"
    )
