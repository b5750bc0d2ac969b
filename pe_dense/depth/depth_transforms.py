"""Loading, cropping, turning and brightening of images with depth maps.

The depth map is `gt_depth_map` in `seg_fields`, so that mmseg's RandomFlip and Resize (nearest)
move it with the image; mmcv's do not. Random numbers come from numpy's global state, as in mmcv.
Shape legend: H, W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS
from mmseg.datasets.transforms import PackSegInputs

from pe_dense.data.depth_map import metres, read_depth_steps, require_size
from pe_dense.pixelwise.depth_errors import PixelBox, kb_box

NYU_TRAIN_BOX = PixelBox(45, 472, 43, 608)  # the frame without its white or invalid margin


@TRANSFORMS.register_module()
class LoadDepth(BaseTransform):
    """Add `gt_depth_map` (H, W) float32 in metres, 0 where nothing is annotated.

    Reads depth_map_path with the depth_scale and bit_rotation of the data set; comes after
    LoadImage.

    Raises:
        ValueError: If the file is missing, cannot be decoded, is not 16-bit with one channel, is
            0 everywhere, or has another size than the image.
    """

    def transform(self, results: dict) -> dict:
        """See the class."""
        path = results["depth_map_path"]
        steps_HW = read_depth_steps(path)
        if "ori_shape" in results:
            require_size(path, steps_HW, tuple(results["ori_shape"][:2]))
        results["gt_depth_map"] = metres(
            steps_HW, results["depth_scale"], results.get("bit_rotation", 0)
        )
        results["seg_fields"].append("gt_depth_map")
        return results


@TRANSFORMS.register_module()
class NYUTrainCrop(BaseTransform):
    """Rows 45..471 and columns 43..607 of a 480 x 640 NYUv2 frame: 427 x 565 pixels.

    Source: arXiv:1907.10326 (BTS), crop (43, 45, 608, 472) of left, top, right, bottom.
    """

    def transform(self, results: dict) -> dict:
        """Cut image and depth map.

        Raises:
            ValueError: If the image is smaller than that.
        """
        height, width = results["img"].shape[:2]
        if height < NYU_TRAIN_BOX.bottom or width < NYU_TRAIN_BOX.right:
            raise ValueError(
                f"the NYU crop reaches to 472x608 px, but image {results.get('img_path', '?')} is "
                f"{_size((height, width))}; pass NYUv2 frames at their own 480x640"
            )
        return _cut(results, NYU_TRAIN_BOX)


@TRANSFORMS.register_module()
class KBCrop(BaseTransform):
    """KITTI's benchmark crop of 352 x 1216 pixels, in training and in scoring; see `kb_box`.

    The crop counts as the original from then on: predictions have its size.
    """

    def transform(self, results: dict) -> dict:
        """Cut image and depth map.

        Raises:
            ValueError: If the image is smaller than that.
        """
        results = _cut(results, kb_box(*results["img"].shape[:2]))
        results["ori_shape"] = results["img_shape"]
        return results


@TRANSFORMS.register_module()
class RotateDepth(BaseTransform):
    """Turn image and depth map about their centre by a random angle.

    The image is interpolated bilinearly and filled with 0; the depth map takes the nearest
    pixel, since a mean over an edge is a depth where nothing is, and is filled with 0: not
    annotated.

    Args:
        prob: Chance of turning.
        degree: The angle is even in -degree to degree.

    Raises:
        ValueError: If `prob` is not 0 to 1 or `degree` is negative.

    Source: BTS (arXiv:1907.10326); zhyever/Monocular-Depth-Estimation-Toolbox @ d8aff50,
    RandomRotate with prob 0.5 and degree 2.5.
    """

    def __init__(self, prob: float = 0.5, degree: float = 2.5) -> None:
        _require_chance("prob", prob)
        if degree < 0:
            raise ValueError(f"degree is {degree}; pass the largest angle, 0 or more")
        self.prob, self.degree = prob, degree

    def transform(self, results: dict) -> dict:
        """See the class."""
        turns = _uniform(0, 1) < self.prob
        angle = _uniform(-self.degree, self.degree)
        if turns:
            results["img"] = mmcv.imrotate(results["img"], angle, border_value=0)
            if "gt_depth_map" in results:
                results["gt_depth_map"] = mmcv.imrotate(
                    results["gt_depth_map"], angle, border_value=0, interpolation="nearest"
                )
        return results


@TRANSFORMS.register_module()
class DepthRandomCrop(BaseTransform):
    """Cut a box of fixed size at a random place.

    Args:
        crop_size: Height and width. NYUv2: (416, 544); KITTI: (352, 704).

    Raises:
        ValueError: If a side is not positive; when used, if the image is smaller.
    """

    def __init__(self, crop_size: Sequence[int]) -> None:
        if len(crop_size) != 2 or min(crop_size) <= 0:
            raise ValueError(f"crop_size is {crop_size}; pass a positive height and width")
        self.crop_size = tuple(crop_size)

    def transform(self, results: dict) -> dict:
        """See the class."""
        height, width = results["img"].shape[:2]
        rows, columns = self.crop_size
        if rows > height or columns > width:
            raise ValueError(
                f"crop_size {_size(self.crop_size)} is larger than image "
                f"{results.get('img_path', '?')} with {_size((height, width))} px; make it smaller"
            )
        top, left = _offset(height - rows), _offset(width - columns)
        return _cut(results, PixelBox(top, top + rows, left, left + columns))


@TRANSFORMS.register_module()
class BrightnessJitter(BaseTransform):
    """Random gamma, brightness and factor of each colour; the image becomes float32 in 0 to 255.

    Args:
        prob: Chance of changing anything.
        gamma: Range of the exponent.
        brightness: Range of the factor. NYUv2: 0.75 to 1.25; KITTI: 0.9 to 1.1.
        colour: Range of the three factors.
        peak: The image is `peak` * (image / peak) ** gamma. 1 is what the toolbox and the DINOv2
            recipe do: 0.9 leaves 146 of 255. 255 keeps black and white, as BTS.

    Raises:
        ValueError: If `prob` is not 0 to 1, a range is empty or not positive, or `peak` not.

    Source: zhyever/Monocular-Depth-Estimation-Toolbox @ d8aff50, ColorAug; BTS
    (arXiv:1907.10326).
    """

    def __init__(
        self,
        prob: float = 0.5,
        gamma: tuple[float, float] = (0.9, 1.1),
        brightness: tuple[float, float] = (0.75, 1.25),
        colour: tuple[float, float] = (0.9, 1.1),
        peak: float = 1.0,
    ) -> None:
        _require_chance("prob", prob)
        for name, (low, high) in dict(gamma=gamma, brightness=brightness, colour=colour).items():
            if not 0 < low <= high:
                raise ValueError(f"{name} is {(low, high)}; pass 0 < low <= high")
        if not peak > 0:
            raise ValueError(f"peak is {peak}; pass 1 or 255")
        self.prob, self.peak = prob, peak
        self.gamma, self.brightness, self.colour = gamma, brightness, colour

    def transform(self, results: dict) -> dict:
        """See the class."""
        if _uniform(0, 1) >= self.prob:
            return results
        gamma, brightness = _uniform(*self.gamma), _uniform(*self.brightness)
        colours_C = np.array([_uniform(*self.colour) for _ in range(3)])
        image_HWC = results["img"].astype(np.float32) / np.float32(self.peak)
        factors_C = (self.peak * brightness * colours_C).astype(np.float32)
        results["img"] = np.clip(image_HWC ** np.float32(gamma) * factors_C, 0, 255)
        return results


@TRANSFORMS.register_module()
class PackDepthInputs(PackSegInputs):
    """mmseg's packing: `gt_depth_map` becomes PixelData of (1, H, W) float32 in metres.

    Args:
        meta_keys: What the sample tells; `sequence` goes into the evidence.
    """

    def __init__(
        self,
        meta_keys: Sequence[str] = (
            "img_path", "depth_map_path", "image_id", "sequence", "focal", "ori_shape",
            "img_shape", "pad_shape", "scale_factor", "flip", "flip_direction",
        ),
    ) -> None:  # fmt: skip
        super().__init__(meta_keys=tuple(meta_keys))

    def transform(self, results: dict) -> dict[str, Any]:
        """Image and sample.

        Raises:
            ValueError: If the depth map is not (H, W) float32.
        """
        depth_HW = results.get("gt_depth_map")
        if depth_HW is not None and (depth_HW.ndim != 2 or depth_HW.dtype != np.float32):
            raise ValueError(
                f"depth map {results.get('depth_map_path', '?')} is {depth_HW.dtype} of shape "
                f"{depth_HW.shape} when packed; load it with LoadDepth, (H, W) float32 in metres"
            )
        return super().transform(results)


def _cut(results: dict, box: PixelBox) -> dict:
    # Copies: a view would keep the whole image in memory and cannot always become a tensor.
    results["img"] = results["img"][box.slices].copy()
    if "gt_depth_map" in results:
        results["gt_depth_map"] = results["gt_depth_map"][box.slices].copy()
    results["img_shape"] = results["img"].shape[:2]
    return results


def _uniform(low: float, high: float) -> float:
    return np.random.uniform(low, high)  # noqa: NPY002 (seeded by the data loader)


def _offset(largest: int) -> int:
    return np.random.randint(0, largest + 1)  # noqa: NPY002 (seeded by the data loader)


def _require_chance(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value}; pass a chance of 0 to 1")


def _size(shape: Sequence[int]) -> str:
    return f"{shape[0]}x{shape[1]}"
