"""Depth errors over a data set, streamed: an image leaves its error sums behind and no pixel."""

from __future__ import annotations

import posixpath
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from pe_dense.pixelwise.depth_errors import (
    depth_error_sums,
    depth_evidence,
    mean_over_images,
    pooled_over_pixels,
)
from pe_dense.results.evidence import DepthEvidence

NUM_NAMED = 5  # images that a warning names


@METRICS.register_module()
class DepthErrors(BaseMetric):
    """rmse, abs_rel, delta1..3, sq_rel, rmse_log, log10, silog and mae of `pred_depth_map`.

    The metric of every image, then the mean over images (AdaBins, DINOv2). An image without an
    annotated pixel in the range has no metric: it is left out, and a warning names it. Evidence
    names an image by the `image_id` of its sample, or else as `image_names` does, and keeps
    `sequence` where samples have it.

    Args:
        min_depth, max_depth, crop, clamp, ceiling: See `depth_error_sums`. NYUv2: 1e-3, 10,
            'nyu_eigen'; KITTI: 1e-3, 80, 'garg'; SUN RGB-D: as NYUv2, and ceiling 8.
        silog_focus, silog_scale: See `DepthErrorSums.metrics`.
        pooled: Score all pixels together instead, as older papers do. Such numbers have no value
            per image: they are named pooled_rmse and so on, and come beside the others.
        collect_device: Where results of several processes meet, 'cpu' or 'gpu'.
        prefix: Name in front of every metric.

    Source: see `pe_dense.pixelwise.depth_errors`.
    """

    default_prefix = "depth"

    def __init__(
        self,
        min_depth: float = 1e-3,
        max_depth: float | None = None,
        crop: str | None = None,
        clamp: bool = True,
        ceiling: float | None = None,
        silog_focus: float = 1.0,
        silog_scale: float = 100.0,
        pooled: bool = False,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.scoring = dict(
            min_depth=min_depth, max_depth=max_depth, crop=crop, clamp=clamp, ceiling=ceiling
        )
        self.silog = dict(silog_focus=silog_focus, silog_scale=silog_scale)
        self.pooled = pooled
        empty = np.zeros((0, 0), np.float32)
        depth_error_sums(empty, empty, **self.scoring)  # a wrong setting stops before inference
        self._evidence: DepthEvidence | None = None

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Sum the errors of a batch; maps are not kept."""
        for sample in data_samples:
            path = sample["img_path"]
            if "gt_depth_map" not in sample:
                raise ValueError(
                    f"{path} has no gt_depth_map; load depth annotations in the test pipeline"
                )
            prediction_HW, depth_HW = (
                sample[name]["data"].squeeze(0) for name in ("pred_depth_map", "gt_depth_map")
            )
            try:
                sums = depth_error_sums(prediction_HW, depth_HW, **self.scoring)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
            self.results.append((path, sample.get("image_id"), sample.get("sequence"), sums))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Score all images at once.

        Raises:
            ValueError: If no image has a pixel that counts, or only some know their sequence.
        """
        scored = [row for row in results if row[-1].num_pixels]
        unscored = [path for path, *_, sums in results if not sums.num_pixels]
        if not scored:
            raise ValueError(
                f"none of {len(results)} images has annotated depth that counts under "
                f"{self.scoring}; check the scale of the depth files and the limits"
            )
        if unscored:
            rest = f" and {len(unscored) - NUM_NAMED} more" if len(unscored) > NUM_NAMED else ""
            warnings.warn(
                f"{len(unscored)} of {len(results)} images have no annotated depth that counts "
                f"and are left out: {', '.join(unscored[:NUM_NAMED])}{rest}",
                stacklevel=2,
            )
        paths, ids, sequences, sums = zip(*scored, strict=True)
        without = [path for path, _, sequence, _ in scored if sequence is None]
        if 0 < len(without) < len(scored):
            raise ValueError(
                f"{without[0]} has no sequence, but other images do ({len(without)} of "
                f"{len(scored)} lack it); give all samples a sequence, or none"
            )
        self._evidence = depth_evidence(
            image_names(paths) if None in ids else [str(image_id) for image_id in ids],
            sums,
            sequence_ids=None if without else [str(sequence) for sequence in sequences],
            **self.silog,
        )
        scores = mean_over_images([one.metrics(**self.silog) for one in sums])
        if self.pooled:
            pooled = pooled_over_pixels(sums, **self.silog)
            scores |= {f"pooled_{name}": value for name, value in pooled.items()}
        return scores

    def evidence(self) -> DepthEvidence:
        """Metrics of every scored image of the last evaluation.

        Raises:
            RuntimeError: If nothing was evaluated in this process.
        """
        if self._evidence is None:
            raise RuntimeError("DepthErrors has evaluated nothing yet")
        return self._evidence


def image_names(paths: Sequence[str]) -> list[str]:
    """File names without folders; where those repeat, paths below the folder that all share.

    Example:
        >>> image_names(["a/office/1.jpg", "a/office/2.jpg"])
        ['1.jpg', '2.jpg']
        >>> image_names(["a/office/1.jpg", "a/study/1.jpg"])
        ['office/1.jpg', 'study/1.jpg']
    """
    plain = [path.replace("\\", "/") for path in paths]
    short = [posixpath.basename(path) for path in plain]
    if len(set(short)) == len(short):
        return short
    shared = posixpath.commonpath([posixpath.dirname(path) for path in plain])
    return [posixpath.relpath(path, shared or ".") for path in plain]
