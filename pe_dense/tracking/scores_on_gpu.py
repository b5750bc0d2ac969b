"""Scores of the frames of a video on a GPU, without waiting for it.

Label maps stay there, where kernels count; threads read the annotations. The host takes the counts
of all frames at the end.

Shape legend: G frames of a group, L layers, S settings, B label maps, K objects, C = K + 1 labels,
h w token grid, H W image.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from pe_dense.tracking.frame_scorer import FrameScorer
from pe_dense.tracking.label_maps import device_label_maps
from pe_dense.tracking.region_and_boundary import boundary_radius
from pe_dense.tracking.scores_kernel import COUNTS, count_near, count_pixels

BLOCK = 512  # pixels
GROUP = 8  # frames whose label maps are made together: few launches
MAX_VALUES = 2**25  # of soft labels at the size of the image, held at a time


class GpuScores:
    """As `frame_scorer.QueuedScores`: frames are added in their order, from 1.

    Args:
        scorer: What label maps are made and scored with.
        pool: Threads that read annotations and write label maps.
        ahead: Annotations that are read ahead.
    """

    def __init__(self, scorer: FrameScorer, pool: ThreadPoolExecutor, ahead: int) -> None:
        self.scorer, self.pool, self.ahead = scorer, pool, max(ahead, GROUP)
        self.radius = boundary_radius(scorer.video.native_hw)
        self.reading: deque[Future[np.ndarray | None]] = deque()
        self.next_read = 1
        self.group: list[tuple[int, Tensor]] = []  # frames and their soft labels (L, S, C, h, w)
        self.counts: dict[int, Tensor] = {}  # (L, S, K, 7) of each scored frame
        self.last = 0
        self.written: list[Future[None]] = []

    def add(self, t: int, soft_LS: Sequence[Sequence[Tensor]]) -> None:
        """Score the next frame under all layers and settings."""
        while self.next_read < min(t + self.ahead, len(self.scorer.video.frame_paths)):
            self.reading.append(self.pool.submit(self.scorer.video.annotation, self.next_read))
            self.next_read += 1
        self.last = t
        self.group.append((t, torch.stack([torch.stack(list(soft_S)) for soft_S in soft_LS])))
        if len(self.group) == GROUP:
            self._flush()

    def finish(self) -> list[np.ndarray | None]:
        """Scores (L, S, K, 2) of all frames; None for those that do not count."""
        self._flush()
        for job in self.written:
            job.result()
        found: list[np.ndarray | None] = [None] * self.last
        if self.counts:
            every = torch.stack(list(self.counts.values())).cpu().numpy()
            for t, counts_LSK7 in zip(self.counts, every, strict=True):
                scores_LSK2 = scores_from_counts(counts_LSK7)
                found[t - 1] = self.scorer.where_counted(t, scores_LSK2)
        return found

    def _flush(self) -> None:
        """Start the work for the frames of the group."""
        masks = [self.reading.popleft().result() for _ in self.group]
        writes = self.scorer.results is not None
        used = [i for i, mask_HW in enumerate(masks) if mask_HW is not None or writes]
        if used:
            soft_GLSChw = torch.stack([self.group[i][1] for i in used])
            counts_GLSK7 = self._counts(
                [masks[i] for i in used], [self.group[i][0] for i in used], soft_GLSChw
            )
            for i, counts_LSK7 in zip(used, counts_GLSK7, strict=True):
                if masks[i] is not None:
                    self.counts[self.group[i][0]] = counts_LSK7
        self.group.clear()

    def _counts(
        self, masks: list[np.ndarray | None], numbers: list[int], soft_GLSChw: Tensor
    ) -> Tensor:
        """(G, L, S, K, 7) of frames; numbers without meaning where there is no mask."""
        scorer, native_hw = self.scorer, self.scorer.video.native_hw
        masks_GHW = masks_together(masks, native_hw, soft_GLSChw.is_cuda)
        masks_GHW = masks_GHW.to(soft_GLSChw.device, non_blocking=True)
        num_labels, (height, width) = soft_GLSChw.shape[3], native_hw
        per_frame = soft_GLSChw.shape[1] * soft_GLSChw.shape[2]
        counts, first = [], 0
        step = max(1, MAX_VALUES // (num_labels * height * width))
        for soft_BChw in soft_GLSChw.flatten(0, 2).split(step):
            labels_BHW = device_label_maps(
                soft_BChw, native_hw, scorer.patch_size, scorer.stretch, scorer.nearest
            )
            if scorer.results is not None:  # one layer and setting: a map is a frame
                for b, labels_HW in enumerate(labels_BHW):
                    self.written.append(
                        self.pool.submit(self._write, numbers[first + b], labels_HW)
                    )
            place = first, per_frame
            counts.append(pixel_counts(masks_GHW, labels_BHW, num_labels - 1, self.radius, *place))
            first += len(soft_BChw)
        return torch.cat(counts).unflatten(0, soft_GLSChw.shape[:3])

    def _write(self, t: int, labels_HW: Tensor) -> None:
        self.scorer.write(t, labels_HW.cpu().numpy())


def masks_together(
    masks: Sequence[np.ndarray | None], native_hw: tuple[int, int], pin_memory: bool
) -> Tensor:
    """uint8 (G, H, W) in host memory, 0 where there is no mask.

    NumPy copies, in the thread that asks: torch would share each mask among all processors, and
    wait for the slowest of them while other threads read.

    Args:
        masks: uint8 (H, W) or None.
        native_hw: H and W.
        pin_memory: For CUDA, where the copy to the device would wait otherwise.
    """
    masks_GHW = torch.empty((len(masks), *native_hw), dtype=torch.uint8, pin_memory=pin_memory)
    for out_HW, mask_HW in zip(masks_GHW.numpy(), masks, strict=True):
        np.copyto(out_HW, 0 if mask_HW is None else mask_HW)
    return masks_GHW


def pixel_counts(
    annotations_GHW: Tensor,
    labels_BHW: Tensor,
    num_objects: int,
    radius: int,
    first_map: int = 0,
    maps_per_annotation: int = 1,
) -> Tensor:
    """What J and F of label maps are made of, on their device.

    Args:
        annotations_GHW: uint8.
        labels_BHW: uint8; map b belongs to the annotation (first_map + b) // maps_per_annotation.
        num_objects: K.
        radius: Tolerance of F in pixels.
        first_map: See `labels_BHW`.
        maps_per_annotation: See `labels_BHW`.

    Returns:
        int32 (B, K, 7) in the order of COUNTS.
    """
    maps, height, width = labels_BHW.shape
    assert annotations_GHW.shape[1:] == (height, width)
    assert annotations_GHW.dtype == labels_BHW.dtype == torch.uint8
    device = labels_BHW.device
    counts_shape = maps, num_objects, len(COUNTS)
    counts_BK7 = torch.zeros(counts_shape, dtype=torch.int32, device=device)
    if not num_objects:
        return counts_BK7
    edges_shape = maps, 2, num_objects, height, width
    edges_B2KHW = torch.empty(edges_shape, dtype=torch.uint8, device=device)
    grid = -(-height * width // BLOCK), num_objects
    with torch.cuda.device(device if labels_BHW.is_cuda else -1):
        count_pixels[(*grid, maps)](
            annotations_GHW.contiguous(), labels_BHW.contiguous(), edges_B2KHW, counts_BK7,
            first_map, maps_per_annotation, height, width, BLOCK=BLOCK,
        )  # fmt: skip
        count_near[(*grid, 2 * maps)](edges_B2KHW, counts_BK7, height, width, radius, BLOCK=BLOCK)
    return counts_BK7


def scores_from_counts(counts: np.ndarray) -> np.ndarray:
    """(..., 2) float64 J and F, 0..1, of counts (..., 7); rules as in `region_and_boundary`."""
    annotated, predicted, both, edge, predicted_edge, near_edge, near_predicted = np.moveaxis(
        counts.astype(np.float64), -1, 0
    )
    union = annotated + predicted - both
    j = np.where(union == 0, 1.0, both / np.maximum(union, 1))
    precision = near_predicted / np.maximum(predicted_edge, 1)
    recall = near_edge / np.maximum(edge, 1)
    total = precision + recall
    f = np.where(total == 0, 0.0, 2 * precision * recall / np.where(total == 0, 1.0, total))
    empty = (edge == 0) | (predicted_edge == 0)
    f = np.where(empty, (edge == predicted_edge).astype(np.float64), f)
    return np.stack([j, f], axis=-1)
