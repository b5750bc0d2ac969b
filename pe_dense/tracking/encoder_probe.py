"""Label propagation as one function of an encoder, for watching a training.

No record comes out of it: scores to publish are those of `tools/test.py` with configs/tracking.

Shape legend: T frames, H W pixels, h w token grid, C labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pe_dense.tracking.annotated_video import read_annotated_video
from pe_dense.tracking.davis_dataset import DavisVideos
from pe_dense.tracking.frames import network_size, read_frame, read_label_map, resize_frame
from pe_dense.tracking.label_maps import label_map_from_soft
from pe_dense.tracking.label_propagation import propagate_labels
from pe_dense.tracking.reference import PropagationSetting
from pe_dense.tracking.region_and_boundary import video_scores

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
    bits: int | None = None,
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
        bits: Of 16-bit frames; see `decode_picture`.

    Returns:
        'J', 'F' and 'J&F' in 0..1.

    Raises:
        ValueError: If the split is missing or empty, or a frame or annotation is.
    """
    options = PropagationSetting(**(setting or {}))
    split_file = f"ImageSets/2017/{split}.txt"
    dataset = DavisVideos(data_root, split_file=split_file, resolution=resolution, bits=bits)
    videos = [dataset.get_data_info(i) for i in range(len(dataset))][:limit]
    if not videos:
        raise ValueError(f"limit={limit} leaves no video to probe; take at least 1")
    found = [_object_scores(encoder, video, short_side, layer, options) for video in videos]
    region, boundary = np.concatenate(found).mean(axis=0).tolist()
    return {"J": region, "F": boundary, "J&F": (region + boundary) / 2}


def _object_scores(
    encoder: Any,
    video: Mapping[str, Any],
    short_side: int,
    layer: int,
    setting: PropagationSetting,
) -> np.ndarray:
    """(K, 2) mean J and F of the objects of a video."""
    annotated = read_annotated_video(video)
    native_hw = annotated.native_hw
    size_hw = network_size(native_hw, encoder.patch_size, RULE, short_side)
    grid_hw = tuple(side // encoder.patch_size for side in size_hw)
    images = (read_frame(path, video["bits"]) for path in annotated.frame_paths)
    frames = (frame_features(encoder, image_HW3, size_hw, layer) for image_HW3 in images)
    first_Chw = annotated.first_labels(grid_hw, "torch").to(next(encoder.parameters()).device)

    def predictions() -> Iterator[np.ndarray]:
        yield annotated.first_HW
        for (soft_Chw,) in propagate_labels(frames, first_Chw, [setting]):
            yield label_map_from_soft(soft_Chw, native_hw, stretch=False)

    scores = video_scores(map(read_label_map, annotated.mask_paths), predictions())
    means_K2 = np.stack([scores.j_KT.mean(1), scores.f_KT.mean(1)], axis=1)
    return means_K2[annotated.starts_K == 0]


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
