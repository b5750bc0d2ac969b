"""What the heads of a bank predict: how they are trained, and what each leaves behind of an image.

Shape legend: B images, N windows, P heads, K outputs of a head, h w token grid of a window, H W
pixels of an image, Q sums of a depth error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from pe_dense.pixelwise.banded_inference import BandedLogits
from pe_dense.pixelwise.depth_bins import (
    BinNorm,
    BinStrategy,
    depth_bins,
    expected_depth,
    resized,
)
from pe_dense.pixelwise.depth_errors import DepthErrorSums, depth_error_sums
from pe_dense.pixelwise.depth_losses import (
    log_difference,
    log_gradient_loss,
    scale_invariant_log_loss,
)
from pe_dense.pixelwise.known_gradient import with_gradient
from pe_dense.pixelwise.upsampled_loss import LabelMaps, band_numel, upsampled_cross_entropy
from pe_dense.pixelwise.windows import PixelBox, mean_of_windows, mirrored


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
        logits_NPKhw: Tensor,
        windows: Sequence[PixelBox],
        image_hw: tuple[int, int],
        sample: BaseDataElement,
    ) -> Tensor:
        """What is kept of one image, a row for each head, from the logits of its N windows."""
        ...


class SegmentationTask(nn.Module):
    """Classes of pixels.

    Args:
        num_classes: K.
        ignore_index: Label of pixels that do not count.
        average_counted: See `upsampled_cross_entropy`.
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
        return upsampled_cross_entropy(logits_BPKhw, targets, average_counted=self.average_counted)

    def counts(
        self,
        logits_NPKhw: Tensor,
        windows: Sequence[PixelBox],
        image_hw: tuple[int, int],
        sample: BaseDataElement,
    ) -> Tensor:
        """(P, 3, K) int64 pixels: right, predicted, annotated; see `mean_iou.image_counts`.

        Raises:
            ValueError: If a label is out of range.
        """
        target_HW = sample.gt_sem_seg.data[0].to(logits_NPKhw.device)
        counted_HW = target_HW != self.ignore_index
        place_T = counted_HW.flatten().nonzero()[:, 0]
        used_T = target_HW.flatten()[place_T].long()
        classes, h = logits_NPKhw.shape[2:4]
        low, high = torch.stack(used_T.aminmax()).tolist() if len(used_T) else (0, 0)
        if low < 0 or high >= classes:
            raise ValueError(
                f"{sample.get('seg_map_path', sample.get('img_path', 'a label map'))} holds class "
                f"{high}, but there are {classes} (and {self.ignore_index} to "
                "ignore); check reduce_zero_label and the class list"
            )
        target_T = used_T * classes
        tables = []
        wide = len(windows) * classes * h * target_HW.shape[1]  # of a head, columns upsampled
        at_once = max(1, band_numel(target_HW.device) // wide)
        for part in logits_NPKhw.split(at_once, dim=1):
            view = BandedLogits(part, windows, image_hw, target_HW.shape, mirrored(sample))
            first_p1 = torch.arange(part.shape[1], device=part.device)[:, None] * classes**2
            pairs_pT = view.labels().flatten(1)[:, place_T] + target_T + first_p1
            counted = torch.bincount(pairs_pT.flatten(), minlength=len(first_p1) * classes**2)
            tables.append(counted.view(-1, classes, classes))
        table_PKK = torch.cat(tables)
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
        depth_B1hw = expected_depth(logits_BKhw, self.bins_K, self.norm, self.upsample)
        return resized(depth_B1hw, size)[:, 0]

    def losses(self, logits_BPKhw: Tensor, targets_BHW: Tensor) -> Tensor:
        """Scale-invariant and gradient loss of every head, (P,)."""
        size = tuple(targets_BHW.shape[1:])
        # The step was counted in `prepare`.
        scale_only = self.warm_up_steps > 0 and self.num_steps <= self.warm_up_steps

        def loss(logits_BKhw: Tensor) -> Tensor:
            difference, counts = log_difference(
                self.depth(logits_BKhw, size), targets_BHW, max_depth=self.max_depth
            )
            value = scale_invariant_log_loss(difference, counts, 0.15, scale_only)
            if self.gradient_weight:
                edges = log_gradient_loss(difference, counts, (-2, -1))
                value = value + self.gradient_weight * edges
            return value

        return losses_head_by_head(logits_BPKhw, loss)

    def counts(
        self,
        logits_NPKhw: Tensor,
        windows: Sequence[PixelBox],
        image_hw: tuple[int, int],
        sample: BaseDataElement,
    ) -> Tensor:
        """(P, Q) float64 sums of every head, as `DepthErrorSums.row`.

        Windows overlap by their mean depth. All nan for a head that diverged.

        Raises:
            ValueError: If the image is flipped, or as `depth_error_sums`.
        """
        if sample.get("flip"):
            raise ValueError("depth probes are scored without flips; remove it from the pipeline")
        target_HW = sample.gt_depth_map.data.squeeze(0).to(logits_NPKhw.device)
        rows = []
        for logits_NKhw in logits_NPKhw.unbind(1):
            depth_NHW = self.depth(logits_NKhw, windows[0].size)
            depth_HW = mean_of_windows(depth_NHW, windows)[: image_hw[0], : image_hw[1]]
            depth_HW = resized(depth_HW[None, None], target_HW.shape)[0, 0]
            if bool(torch.isfinite(depth_HW).all()):
                rows.append(
                    depth_error_sums(
                        depth_HW,
                        target_HW,
                        min_depth=self.min_depth,
                        max_depth=self.max_depth,
                        crop=self.crop,
                    ).row
                )
            else:  # a head that diverged in training
                rows.append((math.nan,) * len(DepthErrorSums().row))
        return torch.tensor(rows, dtype=torch.float64)


def losses_head_by_head(logits_BPKhw: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """(P,) values of `loss`, a function from (B, K, h, w) to a scalar, with their gradients.

    What the function keeps for its backward pass exists for one head at a time. The gradients
    cannot be differentiated again.
    """
    wants_grad = logits_BPKhw.requires_grad and torch.is_grad_enabled()
    grad = torch.empty_like(logits_BPKhw) if wants_grad else None
    losses = []
    for p in range(logits_BPKhw.shape[1]):
        logits_BKhw = logits_BPKhw[:, p].detach().requires_grad_(wants_grad)
        value = loss(logits_BKhw)
        if grad is not None:
            (grad[:, p],) = torch.autograd.grad(value, logits_BKhw)
        losses.append(value.detach())
    return with_gradient(logits_BPKhw, torch.stack(losses), grad)


TASKS = {"segmentation": SegmentationTask, "depth": DepthTask}
