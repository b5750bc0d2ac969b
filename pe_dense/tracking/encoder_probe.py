"""Label propagation as one function of an encoder, for watching a training.

No record comes out of it: scores to publish are those of `tools/test.py` with configs/tracking.

Shape legend: T frames, H W pixels, h w token grid, C labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pe_dense.tracking.frames import network_size, read_frame, read_label_map, resize_frame
from pe_dense.tracking.label_maps import label_map_from_soft, labels_on_grid
from pe_dense.tracking.label_propagation import propagate_labels
from pe_dense.tracking.reference import PropagationSetting
from pe_dense.tracking.region_and_boundary import VideoScores, video_scores

RULE = "dinov3"  # a number of patches on the short side, whatever the patch


def propagation_scores(
    encoder: Any,
    data_root: str,
    split: str = "val",
    resolution: str = "480p",
    short_side: int = 30,
    layer: int = -1,
    limit: int | None = None,
    setting: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """Mean J, F and J&F over the objects of a folder in the layout of DAVIS 2017.

    Args:
        encoder: Fulfils `contract.MapEncoder`; in eval mode.
        data_root: Folder of ImageSets, JPEGImages and Annotations.
        split: File of ImageSets/2017, without ending.
        resolution: Folder between.
        short_side: Patches on the shorter side of a frame.
        layer: Block whose map is compared.
        limit: At most so many videos; None takes all.
        setting: Arguments of `PropagationSetting`; None: DINO's.

    Returns:
        'J', 'F' and 'J&F' in 0..1.

    Raises:
        ValueError: If the split is missing or empty, or a frame or annotation is.
    """
    root, options = Path(data_root), PropagationSetting(**(setting or {}))
    listed = root / "ImageSets" / "2017" / f"{split}.txt"
    if not listed.is_file():
        raise ValueError(f"{listed} does not exist; check the probe's data_root and split")
    names = listed.read_text(encoding="utf-8").split()[:limit]
    if not names:
        raise ValueError(f"{listed} names no video; check the probe's split and limit")
    found = [
        _video_scores(encoder, root, resolution, name, short_side, layer, options) for name in names
    ]
    region = float(np.mean([j for scores in found for j in scores.j_KT.mean(1)]))
    boundary = float(np.mean([f for scores in found for f in scores.f_KT.mean(1)]))
    return {"J": region, "F": boundary, "J&F": (region + boundary) / 2}


def _video_scores(
    encoder: Any,
    root: Path,
    resolution: str,
    name: str,
    short_side: int,
    layer: int,
    setting: PropagationSetting,
) -> VideoScores:
    images = sorted((root / "JPEGImages" / resolution / name).glob("*.jpg"))
    masks = [root / "Annotations" / resolution / name / f"{p.stem}.png" for p in images]
    if len(images) < 3:
        raise ValueError(f"video {name} of {root} has {len(images)} frames, and 3 are the fewest")
    first_HW = read_label_map(masks[0])
    size_hw = network_size(first_HW.shape, encoder.patch_size, RULE, short_side)
    grid_hw = tuple(side // encoder.patch_size for side in size_hw)
    frames = (frame_features(encoder, read_frame(p), size_hw, layer) for p in images)
    first_Chw = labels_on_grid(first_HW, grid_hw, int(first_HW[first_HW < 255].max(initial=0)) + 1)
    device = next(encoder.parameters()).device

    def predictions() -> Iterator[np.ndarray]:
        yield first_HW
        for (soft_Chw,) in propagate_labels(frames, first_Chw.to(device), [setting]):
            yield label_map_from_soft(soft_Chw, first_HW.shape, stretch=False)

    return video_scores(map(read_label_map, masks), predictions())


def frame_features(
    encoder: Any, frame_HW3: np.ndarray, size_hw: tuple[int, int], layer: int = -1
) -> Tensor:
    """Tokens (h, w, D) float32 of an RGB frame, resized to what the encoder sees."""
    like = next(encoder.parameters())
    resized = np.array(resize_frame(frame_HW3, size_hw, RULE))  # a copy that may be written
    image_3HW = torch.from_numpy(resized).permute(2, 0, 1).to(like) / 255
    mean, std = (like.new_tensor(v).view(3, 1, 1) for v in (encoder.mean, encoder.std))
    map_Chw = encoder.forward_intermediates(((image_3HW - mean) / std)[None], (layer,))[0][0]
    return map_Chw.permute(1, 2, 0).float()
