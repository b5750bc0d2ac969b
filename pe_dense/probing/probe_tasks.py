"""What the heads of a bank predict: how they are trained, and what each leaves behind of an image.

Shape legend: B images, P heads, K outputs of a head, h w token grid of a window, H W pixels of an
image, Q sums of a depth error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from pe_dense.pixelwise.banded_inference import Window, labels_of_windows
from pe_dense.pixelwise.depth_bins import BinNorm, BinStrategy, depth_bins, expected_depth
from pe_dense.pixelwise.depth_errors import DepthErrorSums, depth_error_sums
from pe_dense.pixelwise.depth_losses import (
    log_difference,
    log_gradient_loss,
    scale_invariant_log_loss,
)
from pe_dense.probing.head_labels import label_bands
from pe_dense.probing.head_losses import LabelMaps, head_cross_entropy, losses_head_by_head

DEPTH_SUMS = tuple(field.name for field in dataclasses.fields(DepthErrorSums))


class ProbeTask(Protocol):
    """What `LayerProbe` needs to know of a task."""

    num_outputs: int

    def prepare(self, samples: Sequence[BaseDataElement], device: torch.device) -> Any:
        """Annotation of a batch, in the form that `losses` takes."""
        ...

    def losses(self, logits_BPKhw: Tensor, targets: Any) -> Tensor:
        """Losses of the heads of one source, (P,)."""
        ...

    def counts(
        self,
        logits: Sequence[Tensor],
        windows: Sequence[Window],
        image_hw: tuple[int, int],
        sample: BaseDataElement,
    ) -> Tensor:
        """What is kept of one image, a row for each head, from (P, K, h, w) of every window."""
        ...


class SegmentationTask(nn.Module):
    """Classes of pixels.

    Args:
        num_classes: K.
        ignore_index: Label of pixels that do not count.
        average_counted: See `head_cross_entropy`.
    """

    def __init__(
        self, num_classes: int, ignore_index: int = 255, average_counted: bool = False
    ) -> None:
        super().__init__()
        self.num_outputs, self.ignore_index = num_classes, ignore_index
        self.average_counted = average_counted

    def prepare(self, samples: Sequence[BaseDataElement], device: torch.device) -> LabelMaps:
        """Label maps of a batch, checked."""
        labels_BHW = torch.stack([s.gt_sem_seg.data[0] for s in samples]).to(device)
        return LabelMaps(labels_BHW, self.num_outputs, self.ignore_index)

    def losses(self, logits_BPKhw: Tensor, targets: LabelMaps) -> Tensor:
        """Cross-entropy of every head, (P,)."""
        return head_cross_entropy(logits_BPKhw, targets, average_counted=self.average_counted)

    def counts(
        self,
        logits: Sequence[Tensor],
        windows: Sequence[Window],
        image_hw: tuple[int, int],
        sample: BaseDataElement,
    ) -> Tensor:
        """(P, 3, K) int64 pixels: right, predicted, annotated; see `mean_iou.image_counts`.

        Raises:
            ValueError: If a label is out of range.
        """
        target_HW = sample.gt_sem_seg.data[0].to(logits[0].device)
        flip = sample.get("flip_direction") if sample.get("flip") else None
        counted_HW = target_HW != self.ignore_index
        used = target_HW[counted_HW]
        classes, heads = self.num_outputs, len(logits[0])
        if used.numel() and not 0 <= int(used.min()) <= int(used.max()) < classes:
            raise ValueError(
                f"{sample.get('seg_map_path', sample.get('img_path', 'a label map'))} holds class "
                f"{int(used.max())}, but there are {classes} (and {self.ignore_index} to "
                "ignore); check reduce_zero_label and the class list"
            )
        if len(windows) == 1:
            padded_hw = windows[0].bottom, windows[0].right
            bands = label_bands(logits[0], padded_hw, image_hw, tuple(target_HW.shape), flip)
        else:
            maps = [
                labels_of_windows(
                    [of[p] for of in logits], windows, image_hw, target_HW.shape, flip
                )
                for p in range(heads)
            ]
            bands = iter([(slice(None), torch.stack(maps))])
        table = torch.zeros(heads * classes**2, dtype=torch.int64, device=target_HW.device)
        first_P1 = torch.arange(heads, device=target_HW.device)[:, None] * classes**2
        for rows, found_PRW in bands:
            counted_RW = counted_HW[rows]
            target = target_HW[rows][counted_RW].long() * classes
            pairs = found_PRW[:, counted_RW] + target + first_P1
            table += torch.bincount(pairs.flatten(), minlength=len(table))
        table_PKK = table.view(heads, classes, classes)
        return torch.stack(
            [table_PKK.diagonal(dim1=1, dim2=2), table_PKK.sum(1), table_PKK.sum(2)], 1
        )


class DepthTask(nn.Module):
    """Metric depth as an expectation over bins.

    Args:
        min_depth, max_depth: Range of the bins, and of what is scored, in m.
        num_bins: K.
        strategy, norm: See `depth_bins` and `expected_depth`.
        upsample: Factor by which logits are upsampled before the expectation, which is not linear;
            the rest of the way depths are. DINOv2: 4.
        gradient_weight: Of the multi-scale gradient loss beside the scale-invariant one; 0 leaves
            it out. DINOv2 states 0.5.
        warm_up_steps: Training steps whose loss is that of the scale alone; see
            `ScaleInvariantLogLoss`.
        crop: Of what is scored; see `depth_error_sums`.

    Source: the linear depth evaluation of DINOv2 (arXiv:2304.07193).
    """

    num_steps: Tensor
    bins_K: Tensor

    def __init__(
        self,
        min_depth: float,
        max_depth: float,
        num_bins: int = 256,
        strategy: BinStrategy = "UD",
        norm: BinNorm = "linear",
        upsample: int = 4,
        gradient_weight: float = 0.5,
        warm_up_steps: int = 0,
        crop: str | None = None,
    ) -> None:
        super().__init__()
        if upsample < 1:
            raise ValueError(f"upsample {upsample} is too small; use 1 for none, 4 as DINOv2")
        self.num_outputs, self.norm, self.upsample = num_bins, norm, upsample
        self.min_depth, self.max_depth, self.crop = min_depth, max_depth, crop
        self.gradient_weight, self.warm_up_steps = gradient_weight, warm_up_steps
        bins_K = depth_bins(num_bins, min_depth, max_depth, strategy)
        self.register_buffer("bins_K", bins_K, persistent=False)
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.long))

    def prepare(self, samples: Sequence[BaseDataElement], device: torch.device) -> Tensor:
        """Depth maps (B, H, W) in m, 0 where not annotated; counts a training step."""
        if self.training:
            self.num_steps += 1
        return torch.stack([s.gt_depth_map.data.squeeze(0) for s in samples]).to(device)

    def depth(self, logits_BKhw: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, H, W) in m."""
        if self.upsample > 1:
            logits_BKhw = F.interpolate(
                logits_BKhw, scale_factor=self.upsample, mode="bilinear", align_corners=False
            )
        depth_B1hw = expected_depth(logits_BKhw, self.bins_K, self.norm)
        return F.interpolate(depth_B1hw, size, mode="bilinear", align_corners=False)[:, 0]

    def losses(self, logits_BPKhw: Tensor, targets_BHW: Tensor) -> Tensor:
        """Scale-invariant and gradient loss of every head, (P,)."""
        size = tuple(targets_BHW.shape[1:])
        warm_up = self.num_steps <= self.warm_up_steps  # the step was counted in `prepare`

        def loss(logits_BKhw: Tensor) -> Tensor:
            difference, counts = log_difference(
                self.depth(logits_BKhw, size), targets_BHW, max_depth=self.max_depth
            )
            value = scale_invariant_log_loss(difference, counts, mean_weight=0.15)
            if self.warm_up_steps:
                mean = difference.sum() / counts.sum().clamp(min=1)
                value = torch.where(warm_up, 0.15**0.5 * mean.abs(), value)
            if self.gradient_weight:
                edges = log_gradient_loss(difference, counts, (-2, -1))
                value = value + self.gradient_weight * edges
            return value

        return losses_head_by_head(logits_BPKhw, loss)

    def counts(
        self,
        logits: Sequence[Tensor],
        windows: Sequence[Window],
        image_hw: tuple[int, int],
        sample: BaseDataElement,
    ) -> Tensor:
        """(P, Q) float64 sums in the order of `DEPTH_SUMS`.

        Windows overlap by their mean depth. All nan for a head that diverged.

        Raises:
            ValueError: If the image is flipped, or as `depth_error_sums`.
        """
        if sample.get("flip"):
            raise ValueError("depth probes are scored without flips; remove it from the pipeline")
        target_HW = sample.gt_depth_map.data.squeeze(0).to(logits[0].device)
        rows = [
            self._error_sums([of[p] for of in logits], windows, image_hw, target_HW)
            for p in range(len(logits[0]))
        ]
        return torch.tensor(rows, dtype=torch.float64)

    def _error_sums(
        self,
        logits: Sequence[Tensor],
        windows: Sequence[Window],
        image_hw: tuple[int, int],
        target_HW: Tensor,
    ) -> list[float]:
        bottom, right = (max(getattr(w, side) for w in windows) for side in ("bottom", "right"))
        sums_HW = logits[0].new_zeros(bottom, right, dtype=torch.float32)
        times_HW = torch.zeros_like(sums_HW)
        for tokens_Khw, w in zip(logits, windows, strict=True):
            place = slice(w.top, w.bottom), slice(w.left, w.right)
            sums_HW[place] += self.depth(tokens_Khw[None], (w.bottom - w.top, w.right - w.left))[0]
            times_HW[place] += 1
        depth_HW = (sums_HW / times_HW)[: image_hw[0], : image_hw[1]]
        if depth_HW.shape != target_HW.shape:
            depth_HW = F.interpolate(
                depth_HW[None, None], tuple(target_HW.shape), mode="bilinear", align_corners=False
            )[0, 0]
        if not bool(torch.isfinite(depth_HW).all()):  # a head that diverged in training
            return [float("nan")] * len(DEPTH_SUMS)
        found = depth_error_sums(
            depth_HW, target_HW, min_depth=self.min_depth, max_depth=self.max_depth, crop=self.crop
        )
        return [float(getattr(found, name)) for name in DEPTH_SUMS]


TASKS = {"segmentation": SegmentationTask, "depth": DepthTask}
