"""Reading images in a way that explains what is wrong with a file."""

from __future__ import annotations

from mmcv.transforms import LoadImageFromFile
from mmengine.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """mmcv's image loader, with one sentence instead of an assertion for a broken file.

    Raises:
        ValueError: If the file is missing, empty or cannot be decoded.
    """

    def transform(self, results: dict) -> dict:
        """Add 'img' (H, W, 3) BGR uint8 and its shape to `results`."""
        path = results["img_path"]
        try:
            return super().transform(results)
        except (FileNotFoundError, IsADirectoryError) as error:
            raise ValueError(f"image {path} is missing; check data_root and the JSON") from error
        except Exception as error:  # OpenCV and Pillow raise many kinds for a broken file
            raise ValueError(
                f"image {path} cannot be decoded ({type(error).__name__}); replace the file or "
                "take it out of the annotation JSON"
            ) from error
