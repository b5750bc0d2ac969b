"""mmseg's depth estimator with inference that crops its padding, flips, and batches windows.

Shape legend: B images, N windows, H W pixels, P Q pixels of the original image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models.segmentors import DepthEstimator
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import SampleList
from torch import Tensor

from pe_dense.encoders.whole_patches import Margins, Place, pad_to_multiple
from pe_dense.pixelwise.batch_sizes import AnyImageSize
from pe_dense.pixelwise.depth_bins import resized
from pe_dense.pixelwise.depth_errors import flip_average
from pe_dense.pixelwise.windows import (
    mean_of_windows,
    mirrored,
    padding_of,
    window_outputs,
    windows_of,
)


@MODELS.register_module()
class DenseDepthEstimator(AnyImageSize, DepthEstimator):
    """Metric depth in the original size of every image, `pred_depth_map` (1, P, Q) in m.

    Images are padded to whole patches, and the padding is cut from the prediction before it is
    resized, or stays in it, see `padding`. Padding that the data preprocessor added at test time
    is cut first, so that the mirrored image is padded as the straight one. Depths are resized
    bilinearly, align_corners False. Where the head has `depth_limits`, its output is limited to
    them before it is resized, in inference only.

    `test_cfg`, all optional:
        mode: 'whole' (default), or 'slide' with crop_size and stride, (height, width) each; where
            windows overlap, depths are averaged.
        flip: Average with the mirrored prediction of the mirrored image. Default False.
        window_batch: Windows, or whole images, that run together. Default 8.
        size_divisor: Padding goes to multiples of it. Default: the patch size of the backbone.
        pad: 'bottom_right' (default) or 'centre' (DINOv2).
        padding: What becomes of it. 'cut' (default): in training the annotation is padded, too, and
            predictions keep their place. 'stretched': the prediction of the padded image is resized
            to the image, in training and inference, as DINOv2 and DINOv3 do: at 480 x 640 pixels
            and patch 14, where 490 x 644 are seen, what lies at the border is read up to 5 pixels
            off. For mode 'whole' only.

    Args:
        **settings: Of mmseg's `DepthEstimator`.

    Raises:
        ValueError: If `test_cfg` is not as above, or the data preprocessor pads annotations with
            anything but 0, which would be depths of the padding.

    Source: DepthEstimator of onedl-mmsegmentation 1.4.2. Deviations: it runs windows one by one
    and has no flip of whole images, and its 'slide' mode runs whole images. 'stretched': losses and
    encode_decode of dinov2/eval/depth/models in facebookresearch/dinov2 @ b8931f7, train.py and
    eval.py of dinov3/eval/depth in facebookresearch/dinov3 @ 6876159.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        pad_value = getattr(self.data_preprocessor, "seg_pad_val", 0)
        if pad_value != 0:  # mmseg pads label maps and depth maps alike, with 255 by default
            raise ValueError(
                f"data_preprocessor.seg_pad_val is {pad_value}, so padding would be annotated as "
                f"{pad_value} m away; set model.data_preprocessor.seg_pad_val=0, which means "
                "not annotated"
            )
        self.test_cfg = self.test_cfg or {}
        mode = self.test_cfg.get("mode", "whole")
        if mode not in ("whole", "slide"):
            raise ValueError(f"model.test_cfg.mode={mode!r} is neither 'whole' nor 'slide'")
        absent = {"crop_size", "stride"} - set(self.test_cfg)
        if mode == "slide" and absent:
            raise ValueError(f"model.test_cfg lacks {', '.join(sorted(absent))} of mode 'slide'")
        self.size_divisor = self.test_cfg.get(
            "size_divisor", getattr(self.backbone, "patch_size", None)
        )
        if self.size_divisor is None:
            raise ValueError("the backbone has no patch_size; set model.test_cfg.size_divisor")
        self.pad_place: Place = self.test_cfg.get("pad", "bottom_right")
        pad_to_multiple(torch.empty(1, 1, 1, 1), self.size_divisor, self.pad_place)  # checks both
        padding = self.test_cfg.get("padding", "cut")
        if padding not in ("cut", "stretched"):
            raise ValueError(f"model.test_cfg.padding={padding!r} is neither 'cut' nor 'stretched'")
        self.stretched = padding == "stretched"
        if self.stretched and mode != "whole":
            raise ValueError(
                "model.test_cfg.padding='stretched' does not go with mode 'slide'; use 'whole'"
            )

    def loss(self, inputs: Tensor, data_samples: SampleList) -> dict[str, Tensor]:
        """Losses of images (B, 3, H, W), padded as in `predict`.

        The annotation is padded alike, with 0, which is not annotated, or, where padding is
        stretched, not at all: the head resizes its output to the annotation.
        """
        padded, margins = pad_to_multiple(inputs, self.size_divisor, self.pad_place)
        if any(margins) and not self.stretched:
            data_samples = [_padded_annotation(sample, margins) for sample in data_samples]
        return super().loss(padded, data_samples)

    def predict(self, inputs: Tensor, data_samples: SampleList | None = None) -> SampleList:
        """Images (B, 3, H, W) -> samples with `pred_depth_map` (1, P, Q), float32."""
        size = tuple(inputs.shape[2:])
        if data_samples is None:
            meta = dict(ori_shape=size, img_shape=size)
            data_samples = [SegDataSample(metainfo=meta) for _ in inputs]
        images_B3HW = _margins_of(data_samples).cut(inputs)
        if self.test_cfg.get("flip", False):
            depth_B1HW = flip_average(self.depth_of, images_B3HW)
        else:
            depth_B1HW = self.depth_of(images_B3HW)
        for sample, depth_1HW in zip(data_samples, depth_B1HW, strict=True):
            if flip := mirrored(sample):
                depth_1HW = depth_1HW.flip(-1 if flip == "horizontal" else -2)
            depth_1PQ = resized(depth_1HW[None], tuple(sample.ori_shape[:2]))[0]
            sample.set_data({"pred_depth_map": PixelData(data=depth_1PQ)})
        return data_samples

    def depth_of(self, images_B3HW: Tensor) -> Tensor:
        """Unpadded images of any size -> depth (B, 1, H, W) in m.

        Where padding is stretched, the depth has the size of the head's output, to be resized.
        """
        if self.stretched:
            at_once = self.test_cfg.get("window_batch", 8)
            return torch.cat([self._padded(some)[0] for some in images_B3HW.split(at_once)])
        windows = windows_of(self.test_cfg, tuple(images_B3HW.shape[2:]))
        at_once = self.test_cfg.get("window_batch", 8)
        depths_NB1HW = window_outputs(self._whole, images_B3HW, windows, at_once)
        return mean_of_windows(depths_NB1HW, windows)

    def _whole(self, images_B3HW: Tensor) -> Tensor:
        """Depth (B, 1, H, W) of images that run as they are, padding cut."""
        depth_B1hw, margins = self._padded(images_B3HW)
        left, right, top, bottom = margins
        height, width = images_B3HW.shape[2:]
        return margins.cut(resized(depth_B1hw, (height + top + bottom, width + left + right)))

    def _padded(self, images_B3HW: Tensor) -> tuple[Tensor, Margins]:
        """Depth (B, 1, h, w) of padded images as the head gives it, within its limits."""
        padded, margins = pad_to_multiple(images_B3HW, self.size_divisor, self.pad_place)
        depth_B1hw = self.decode_head(self.extract_feat(padded))
        limits = getattr(self.decode_head, "depth_limits", None)
        return depth_B1hw if limits is None else depth_B1hw.clamp(*limits), margins


def _padded_annotation(sample: SegDataSample, margins: Margins) -> SegDataSample:
    """A sample with `gt_depth_map` padded with 0; the given one stays as it is."""
    found = sample.new()
    if "gt_depth_map" in sample:
        found.gt_depth_map = PixelData(data=F.pad(sample.gt_depth_map.data, margins))
    return found


def _margins_of(samples: Sequence[SegDataSample]) -> Margins:
    """What the data preprocessor has padded."""
    found = set(map(padding_of, samples))
    if len(found) > 1:
        raise ValueError(
            f"images of one batch have different padding, {sorted(found)}; use batch_size=1 to test"
        )
    return Margins(*found.pop())
