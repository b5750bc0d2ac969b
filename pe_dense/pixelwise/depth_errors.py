"""Errors of predicted depth maps: sums over the pixels of an image, and the metrics from them.

An image leaves behind a dozen numbers and no pixel, so a data set of any size is scored while it
streams. The same numbers give both conventions in use: the metric of every image and then their
mean (BTS, AdaBins, DINOv2, this project), or one metric over all pixels together (older papers).

All depths are in metres. Shape legend: B batch, H, W pixels, N images, M metrics.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pe_dense.pixelwise.windows import PixelBox
from pe_dense.results.evidence import DepthEvidence

METRICS = (
    "rmse", "abs_rel", "delta1", "delta2", "delta3", "sq_rel", "rmse_log", "log10", "silog", "mae",
)  # fmt: skip
KB_HEIGHT, KB_WIDTH = 352, 1216


def nyu_eigen_box(height: int, width: int) -> PixelBox:
    """The part of a 480 x 640 NYUv2 frame that is scored: rows 45..470, columns 41..600.

    Absolute indices, whatever the size of the image: a smaller one loses its first rows and
    columns only, as in mmseg's 'nyu_crop' and in the toolbox's scoring of SUN RGB-D, whose images
    have 427 x 561 to 531 x 730 pixels.

    Source: Eigen et al., arXiv:1406.2283, as in the BTS and AdaBins evaluations;
    depth/datasets/nyu.py and sunrgbd.py of zhyever/Monocular-Depth-Estimation-Toolbox @ d8aff50.
    """
    del height, width
    return PixelBox(45, 471, 41, 601)


def garg_box(height: int, width: int) -> PixelBox:
    """The part of a KITTI frame that is scored, by Garg et al. (arXiv:1603.04992).

    A share of the image, rounded down: rows 153..370, columns 44..1196 of 375 x 1242. The toolbox
    and with it DINOv2 apply it to the KB crop (rows 143..348, columns 43..1171 of 352 x 1216), BTS
    to the frame into which the prediction of the KB crop is put back: rmse differs by 0.02 % on
    made-up maps, the rest by about 2 %.
    """
    return _share(height, width, (0.40810811, 0.99189189, 0.03594771, 0.96405229))


def kitti_eigen_box(height: int, width: int) -> PixelBox:
    """The part of a KITTI frame that is scored, by Eigen et al. (arXiv:1406.2283)."""
    return _share(height, width, (0.3324324, 0.91351351, 0.03594771, 0.96405229))


def kb_box(height: int, width: int) -> PixelBox:
    """The lowest 352 rows and the middle 1216 columns of a KITTI frame: KITTI's benchmark crop.

    It cuts image and depth before the network sees them, unlike the boxes above, which say what
    is scored.

    Raises:
        ValueError: If the image is smaller.

    Source: arXiv:1907.10326 (BTS); zhyever/Monocular-Depth-Estimation-Toolbox @ b3df83f.
    """
    if height < KB_HEIGHT or width < KB_WIDTH:
        raise ValueError(
            f"the KB crop of {KB_HEIGHT} x {KB_WIDTH} does not fit in {height} x {width} pixels; "
            "pass KITTI frames at their own size"
        )
    top, left = height - KB_HEIGHT, (width - KB_WIDTH) // 2
    return PixelBox(top, top + KB_HEIGHT, left, left + KB_WIDTH)


def _share(height: int, width: int, share: tuple[float, float, float, float]) -> PixelBox:
    top, bottom, left, right = share
    return PixelBox(int(top * height), int(bottom * height), int(left * width), int(right * width))


EVALUATION_BOXES: dict[str, Callable[[int, int], PixelBox]] = {
    "nyu_eigen": nyu_eigen_box,
    "garg": garg_box,
    "kitti_eigen": kitti_eigen_box,
}


def scored_pixels(
    depth_HW: Tensor,
    valid_HW: Tensor | None = None,
    *,
    min_depth: float = 1e-3,
    max_depth: float | None = None,
    crop: str | None = None,
) -> Tensor:
    """Which pixels count: finite annotated depth strictly between the limits, inside the crop.

    Args:
        depth_HW: Annotated depth; 0, negative and nan mean no annotation.
        valid_HW: bool, pixels that may count; None: all.
        min_depth: Lower limit, exclusive.
        max_depth: Upper limit, exclusive; None: none.
        crop: A name in `EVALUATION_BOXES`, or None for the whole image.

    Returns:
        (H, W) bool.

    Raises:
        ValueError: If a limit, the crop or the mask cannot be.
    """
    if not 0 <= min_depth < math.inf or (max_depth is not None and max_depth <= min_depth):
        raise ValueError(
            f"depth limits {min_depth} and {max_depth} are no range; pass 0 <= min < max"
        )
    if crop is not None and crop not in EVALUATION_BOXES:
        raise ValueError(f"crop {crop!r} is not known; use one of {sorted(EVALUATION_BOXES)}")
    counts_HW = torch.isfinite(depth_HW) & (depth_HW > min_depth)
    if max_depth is not None:
        counts_HW &= depth_HW < max_depth
    if valid_HW is not None:
        if valid_HW.dtype != torch.bool or valid_HW.shape != depth_HW.shape:
            raise ValueError(
                f"valid is {valid_HW.dtype} of shape {tuple(valid_HW.shape)}; pass bool of the "
                f"shape of depth, {tuple(depth_HW.shape)}"
            )
        counts_HW &= valid_HW
    if crop is not None:
        inside_HW = torch.zeros_like(counts_HW)
        inside_HW[EVALUATION_BOXES[crop](*depth_HW.shape).slices] = True
        counts_HW &= inside_HW
    return counts_HW


@dataclass(frozen=True, kw_only=True)
class DepthErrorSums:
    """Sums over the scored pixels of one image, or with `+` of several; p predicted, d annotated.

    Attributes:
        num_pixels: Pixels that count.
        within1, within2, within3: Pixels with max(p / d, d / p) below 1.25, 1.25^2, 1.25^3.
        absolute: |p - d|, in m.
        squared: (p - d)^2, in m^2.
        absolute_relative: |p - d| / d.
        squared_relative: (p - d)^2 / d, in m.
        log: ln p - ln d.
        log_squared: (ln p - ln d)^2.
        log10_absolute: |log10 p - log10 d|.
    """

    num_pixels: int = 0
    within1: int = 0
    within2: int = 0
    within3: int = 0
    absolute: float = 0.0
    squared: float = 0.0
    absolute_relative: float = 0.0
    squared_relative: float = 0.0
    log: float = 0.0
    log_squared: float = 0.0
    log10_absolute: float = 0.0

    def __add__(self, other: DepthErrorSums) -> DepthErrorSums:
        return DepthErrorSums.from_row([a + b for a, b in zip(self.row, other.row, strict=True)])

    @classmethod
    def from_row(cls, row: Sequence[float]) -> DepthErrorSums:
        """The sums of a row of numbers, in the order above."""
        fields = dataclasses.fields(cls)
        kinds = [type(field.default) for field in fields]
        return cls(**{f.name: kind(v) for f, kind, v in zip(fields, kinds, row, strict=True)})

    @property
    def row(self) -> tuple[float, ...]:
        """All sums in the order above."""
        return dataclasses.astuple(self)

    def metrics(self, *, silog_focus: float = 1.0, silog_scale: float = 100.0) -> dict[str, float]:
        """The metrics of `METRICS`; all nan if no pixel counts.

        rmse, mae and sq_rel are in m, the rest has no unit; delta1..3 are shares 0..1.
        silog = `silog_scale` * sqrt(mean(e^2) - `silog_focus` * mean(e)^2), e = ln p - ln d.

        Args:
            silog_focus: 1 leaves the standard deviation of e, blind to a wrong scale (KITTI
                benchmark, DINOv2); 0.5 is the first definition of Eigen et al. and mmseg's.
            silog_scale: 100 as KITTI and DINOv2; 1 as mmseg.

        Source: arXiv:1406.2283 section 3; zhyever/Monocular-Depth-Estimation-Toolbox @ b3df83f;
        onedl-mmsegmentation 1.4.2 DepthMetric with focus 0.5 and scale 1. sq_rel divides by d,
        not by its square.
        """
        n = self.num_pixels
        if n == 0:
            return dict.fromkeys(METRICS, math.nan)
        # Rounding can leave a negative difference where e is constant.
        spread = max(self.log_squared / n - silog_focus * (self.log / n) ** 2, 0.0)
        return {
            "rmse": math.sqrt(self.squared / n),
            "abs_rel": self.absolute_relative / n,
            "delta1": self.within1 / n,
            "delta2": self.within2 / n,
            "delta3": self.within3 / n,
            "sq_rel": self.squared_relative / n,
            "rmse_log": math.sqrt(self.log_squared / n),
            "log10": self.log10_absolute / n,
            "silog": silog_scale * math.sqrt(spread),
            "mae": self.absolute / n,
        }


def depth_error_sums(
    prediction_HW: Tensor | np.ndarray,
    depth_HW: Tensor | np.ndarray,
    valid_HW: Tensor | np.ndarray | None = None,
    *,
    min_depth: float = 1e-3,
    max_depth: float | None = None,
    crop: str | None = None,
    clamp: bool = True,
    ceiling: float | None = None,
) -> DepthErrorSums:
    """Error sums of one image, in float64 on the device of the prediction.

    Args:
        prediction_HW: Predicted depth at the size of the annotation, floating.
        depth_HW: Annotated depth, floating; 0, negative and nan mean no annotation.
        valid_HW: bool, pixels that may count; None: all.
        min_depth: Lower limit, exclusive. NYUv2 and KITTI: 1e-3.
        max_depth: Upper limit, exclusive; None: none. NYUv2: 10, KITTI: 80.
        crop: See `scored_pixels`. NYUv2: 'nyu_eigen'; KITTI: 'garg', after `kb_box`.
        clamp: Whether predictions are limited to the depth limits first, as in AdaBins and
            DINOv2; mmseg's DepthMetric does not.
        ceiling: Larger depths are set to this one, in the annotation before the limits are applied
            and in the prediction: what lies beyond counts as this far away, and no pixel is lost.
            SUN RGB-D: 8; None: none.

    Raises:
        ValueError: If shapes or types do not fit, or a prediction is nan at a pixel that counts,
            or not positive or infinite there after clamping.
    """
    prediction_HW = torch.as_tensor(prediction_HW)
    depth_HW = torch.as_tensor(depth_HW, device=prediction_HW.device)
    if valid_HW is not None:
        valid_HW = torch.as_tensor(valid_HW, device=prediction_HW.device)
    if prediction_HW.shape != depth_HW.shape or depth_HW.ndim != 2:
        raise ValueError(
            f"prediction of shape {tuple(prediction_HW.shape)} and depth of "
            f"{tuple(depth_HW.shape)}; pass two (H, W) maps of one size"
        )
    for name, values in (("prediction", prediction_HW), ("depth", depth_HW)):
        if not values.is_floating_point():
            raise ValueError(
                f"{name} is {values.dtype}; pass metres as floats (a PNG is divided by its scale)"
            )
    if ceiling is not None:
        if not min_depth < ceiling < math.inf:
            raise ValueError(
                f"ceiling {ceiling} is not above min_depth {min_depth}; use 8, or None"
            )
        depth_HW = depth_HW.clamp(max=ceiling)
    counts_HW = scored_pixels(
        depth_HW, valid_HW, min_depth=min_depth, max_depth=max_depth, crop=crop
    )
    p, d = prediction_HW[counts_HW].double(), depth_HW[counts_HW].double()  # (pixels that count,)
    if p.numel() == 0:
        return DepthErrorSums()
    if clamp:
        p = p.clamp(min_depth, max_depth)  # nan stays
    if ceiling is not None:
        p = p.clamp(max=ceiling)
    if not bool((torch.isfinite(p) & (p > 0)).all()):
        raise ValueError(
            "the prediction is nan, infinite or not positive at a pixel that counts; "
            "repair the model, or clamp with min_depth > 0 where values are only out of range"
        )
    ratio = torch.maximum(p / d, d / p)
    difference, log_difference = p - d, p.log() - d.log()
    absolute, squared = difference.abs(), difference.square()
    sums = torch.stack([  # one transfer from the device
        *((ratio < 1.25**k).sum().double() for k in (1, 2, 3)),
        absolute.sum(), squared.sum(), (absolute / d).sum(), (squared / d).sum(),
        log_difference.sum(), log_difference.square().sum(),
        log_difference.abs().sum() / math.log(10),
    ]).tolist()  # fmt: skip
    return DepthErrorSums(
        num_pixels=p.numel(),
        within1=int(sums[0]),
        within2=int(sums[1]),
        within3=int(sums[2]),
        absolute=sums[3],
        squared=sums[4],
        absolute_relative=sums[5],
        squared_relative=sums[6],
        log=sums[7],
        log_squared=sums[8],
        log10_absolute=sums[9],
    )


def mean_over_images(metrics: Iterable[dict[str, float]]) -> dict[str, float]:
    """Unweighted mean of each metric over the images that have it; nan if none has.

    Raises:
        ValueError: If there is no image, or images have different metrics.
    """
    rows = list(metrics)
    if not rows:
        raise ValueError("there is no image to average depth metrics over; evaluate at least one")
    means = {}
    for name in rows[0]:
        if any(row.keys() != rows[0].keys() for row in rows):
            raise ValueError("images have different depth metrics; use the same for all")
        defined = [row[name] for row in rows if not math.isnan(row[name])]
        means[name] = math.fsum(defined) / len(defined) if defined else math.nan
    return means


def pooled_over_pixels(
    sums: Iterable[DepthErrorSums], *, silog_focus: float = 1.0, silog_scale: float = 100.0
) -> dict[str, float]:
    """Metrics of all pixels of all images together, for comparison with older numbers.

    Images with many annotated pixels weigh more; where all have equally many, rmse is never below
    that of `mean_over_images`.
    """
    total = sum(sums, DepthErrorSums())
    return total.metrics(silog_focus=silog_focus, silog_scale=silog_scale)


def depth_evidence(
    image_ids: Sequence[str],
    sums: Sequence[DepthErrorSums],
    *,
    sequence_ids: Sequence[str] | None = None,
    metric_names: Sequence[str] = METRICS,
    silog_focus: float = 1.0,
    silog_scale: float = 100.0,
) -> DepthEvidence:
    """Evidence of a data set from the sums of its images; nan where no pixel counts.

    Its scores are those of `mean_over_images`.

    Args:
        image_ids: N unique names.
        sums: One of every image.
        sequence_ids: Scene (NYUv2) or drive (KITTI) of every image, or None.
        metric_names: M of `METRICS`, the main one first.
        silog_focus: See `DepthErrorSums.metrics`.
        silog_scale: See `DepthErrorSums.metrics`.

    Raises:
        ValueError: If a metric is unknown, there is no image, or names and sums do not fit.
    """
    unknown = sorted(set(metric_names) - set(METRICS))
    if unknown:
        raise ValueError(f"depth metrics {unknown} are not known; use some of {list(METRICS)}")
    rows = [one.metrics(silog_focus=silog_focus, silog_scale=silog_scale) for one in sums]
    values_NM = np.array([[row[name] for name in metric_names] for row in rows], np.float64)
    return DepthEvidence(
        image_ids=tuple(image_ids),
        metric_names=tuple(metric_names),
        values_NM=values_NM.reshape(len(rows), len(metric_names)),
        sequence_ids=None if sequence_ids is None else tuple(sequence_ids),
    )


def flip_average(predict: Callable[[Tensor], Tensor], images_BCHW: Tensor) -> Tensor:
    """Mean of the prediction of the images and of the mirrored one of the mirrored images.

    Args:
        predict: (B, C, H, W) -> depth whose last axis is the width, such as (B, 1, H, W). The
            recipe of DINOv2 clamps to the depth limits in here, before the mean.
        images_BCHW: Images, padded evenly left and right if at all.

    Returns:
        What `predict` returns, averaged.

    Source: flip augmentation at test time in the BTS, AdaBins and DINOv2 evaluations.
    """
    straight = predict(images_BCHW)
    mirrored = predict(images_BCHW.flip(-1)).flip(-1)
    return (straight + mirrored) / 2
