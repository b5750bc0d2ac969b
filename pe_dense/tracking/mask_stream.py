"""The masks of a first frame passed on through frames that come one by one, in constant memory.

The same label maps as `VideoPropagator` writes for the files of a video, which a test holds it to:
sizes, batches and the making of label maps are its own.

Shape legend: B frames of a batch, H W pixels, L layers, h w token grid, D width.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from pe_dense.tracking.frames import network_size, resize_frame
from pe_dense.tracking.label_maps import label_map_from_soft, labels_on_grid
from pe_dense.tracking.label_propagation import propagate_labels
from pe_dense.tracking.region_and_boundary import VOID
from pe_dense.tracking.video_propagator import VideoPropagator, frames_together


@torch.no_grad()
def stream_masks(
    model: VideoPropagator,
    images: Iterable[np.ndarray],
    first_HW: np.ndarray,
    batch_size: int | None = None,
) -> Iterator[np.ndarray]:
    """One label map for each frame, the first mask first.

    Args:
        model: With one layer and setting.
        images: Frames, RGB uint8 (H, W, 3) of one size; the first one is that of the mask.
        first_HW: Object ids uint8 of the first frame; 0 is background, 255 void.
        batch_size: Frames that the encoder sees at once, and that are taken ahead; None: as many
            as the model takes, which makes every digit the same.

    Yields:
        uint8 (H, W), void as background.

    Raises:
        ValueError: If the mask has no object or another size than the frames, or the model more
            than one layer and setting.
    """
    if len(model.layers) * len(model.settings) > 1:
        raise ValueError(
            f"masks are passed on with one layer and setting, not {len(model.layers)} x "
            f"{len(model.settings)}; name one: --cfg-options 'layers=[N]'"
        )
    known_HW = np.where(first_HW == VOID, 0, first_HW).astype(np.uint8)
    if not known_HW.any():
        raise ValueError("the first mask has no object to pass on; annotate it with ids from 1")
    encoder = getattr(model.backbone, "encoder", model.backbone)
    patch, device = encoder.patch_size, next(model.backbone.parameters()).device
    native_hw = (known_HW.shape[0], known_HW.shape[1])
    size_hw = network_size(native_hw, patch, model.size_rule, model.short_side)
    grid_hw = size_hw[0] // patch, size_hw[1] // patch
    together = batch_size or model.batch_size or frames_together(device, grid_hw[0] * grid_hw[1])
    shift_311, scale_311 = (
        torch.tensor(values, dtype=torch.float32).mul(255)[:, None, None].to(device)
        for values in (encoder.mean, encoder.std)
    )

    def maps() -> Iterator[Tensor]:
        """(h, w, D) of each frame."""
        frames = iter(images)
        while batch := list(itertools.islice(frames, together)):
            for image_HW3 in batch:
                if image_HW3.shape[:2] != native_hw:
                    raise ValueError(
                        f"the first mask has {native_hw[0]} x {native_hw[1]} px, the frames "
                        f"{image_HW3.shape[0]} x {image_HW3.shape[1]}; save the mask at the size "
                        "of the frames as they are shown"
                    )
            resized = [resize_frame(image, size_hw, model.size_rule) for image in batch]
            bytes_B3HW = torch.from_numpy(np.stack(resized)).to(device).permute(0, 3, 1, 2)
            batch_B3HW = bytes_B3HW.to(torch.float32, memory_format=torch.contiguous_format)
            [map_BDhw] = _features(model, batch_B3HW.sub_(shift_311).div_(scale_311))
            yield from (map_Dhw.permute(1, 2, 0) for map_Dhw in map_BDhw)

    sampling = "pillow" if model.upsample == "patch" else "torch"
    first_Chw = labels_on_grid(known_HW, grid_hw, None, sampling).to(device)
    yield known_HW
    for (soft_Chw,) in propagate_labels(maps(), first_Chw, list(model.settings)):
        yield label_map_from_soft(
            soft_Chw,
            native_hw,
            patch if model.upsample == "patch" else None,
            model.stretch,
            model.upsample == "nearest",
        )


def _features(model: VideoPropagator, batch_B3HW: Tensor) -> list[Tensor]:
    if hasattr(model.backbone, "encoder"):
        return list(model.backbone(batch_B3HW))
    return list(model.backbone.forward_intermediates(batch_B3HW, list(model.layers)))
