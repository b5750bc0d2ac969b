"""Mask logits of SAM 2.1 as the locality teacher.

Source: Perception Encoder (arXiv:2504.13181), section on spatial alignment and its table of
settings: SAM 2.1-L at 1024 pixels, one point prompt for each cell of a 32 x 32 grid, all
thresholds 0, the logit maps concatenated to 1024 channels and brought to the token grid. The paper
does not say which of SAM's masks it takes, whether logits are clamped, and how they are resized:
those are arguments here, with SAM 2's own habits as defaults. The coordinates are those of SAM 2's
automatic mask generator (cell centres, 16 + 32 k of 1024; its prompt encoder adds half a pixel).

Shape legend: B images, P points, M masks of a point, H W pixels, h w token grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor

from pe_dense.alignment.frozen_teacher import FrozenTeacher, normalised, point_grid, resample
from pe_dense.alignment.sam_attention import use_plain_attention
from pe_dense.alignment.sam_decoder import ImageParts, image_parts, masks_of_points, point_tokens

MASKS = ("stable", "single", "best")
# Source: facebookresearch/sam2, `SAM2Transforms`; the same in transformers' Sam2ImageProcessor.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@MODELS.register_module()
class SamTeacher(FrozenTeacher):
    """One mask-logit map of SAM 2.1 for every point of a grid.

    The image encoder runs once an image; points then pass the mask decoder in batches, image by
    image (`sam_decoder`). Images are stretched to SAM's square, bilinear, as SAM 2 does.

    Args:
        model: Repository on the hub or folder, in the format of transformers.
        revision: Branch, tag or commit on the hub.
        points_per_side: The grid; its square is C.
        mask: Which mask a point gets. 'stable': SAM 2's answer when asked for one mask, that is
            'single', or 'best' where 'single' is unstable. 'single': its first mask token.
            'best': of the three others the one of the highest predicted IoU.
        clamp: Logits beyond +-clamp are cut, as SAM 2's predictor does (32); None leaves them.
        points_per_batch: Points of an image in the decoder at once, about 10 MB each in half
            precision; changes memory, not results beyond rounding.
        resampling: From SAM's map (256 x 256) to the student's grid; see `FrozenTeacher`.
        amp_dtype: See `FrozenTeacher`.

    Raises:
        ValueError: If transformers is missing or too old, the model cannot be loaded or lacks
            weights, or an option is out of range.
    """

    def __init__(
        self,
        model: str = "facebook/sam2.1-hiera-large",
        revision: str | None = None,
        points_per_side: int = 32,
        mask: str = "stable",
        clamp: float | None = 32.0,
        points_per_batch: int = 256,
        resampling: str = "area",
        amp_dtype: str | None = None,
    ) -> None:
        if mask not in MASKS:
            raise ValueError(f"mask={mask!r} is not one of {', '.join(MASKS)}")
        if clamp is not None and not clamp > 0:
            raise ValueError(f"clamp={clamp} is not positive; SAM 2 takes 32, None leaves logits")
        if points_per_batch < 1:
            raise ValueError(f"points_per_batch={points_per_batch} is not positive; 256 is usual")
        points_P2 = point_grid(points_per_side)
        network = load_sam(model, revision)
        use_plain_attention(network.vision_encoder)
        super().__init__(
            network,
            len(points_P2),
            settings={"points_per_side": points_per_side, "mask": mask, "clamp": clamp},
            resampling=resampling,
            amp_dtype=amp_dtype,
        )
        self.mask, self.clamp, self.points_per_batch = mask, clamp, points_per_batch
        self.register_buffer("points_P2", points_P2, persistent=False)

    def maps(
        self, images_B3HW: Tensor, grid_hw: tuple[int, int], data_samples: Sequence[Any] | None
    ) -> Tensor:
        """Logits (B, P, h, w), already on the student's grid: SAM's maps would fill the memory."""
        side = self.network.prompt_encoder.input_image_size
        if tuple(images_B3HW.shape[2:]) != (side, side):
            images_B3HW = F.interpolate(images_B3HW, (side, side), mode="bilinear", antialias=True)
        dtype = next(self.network.parameters()).dtype
        network = self.network
        features = network.get_image_embeddings(normalised(images_B3HW, MEAN, STD).to(dtype))
        device = images_B3HW.device.type
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):  # the decoder chooses the types of its parts
            points_PTC = point_tokens(network, self.points_P2.float() * side)
            logits = [
                self._logits(image_parts(network, features, i, dtype), points_PTC, grid_hw)
                for i in range(len(images_B3HW))
            ]
        return torch.stack(logits)

    def _logits(self, image: ImageParts, points_PTC: Tensor, grid_hw: tuple[int, int]) -> Tensor:
        """Of one image, (P, h, w)."""
        parts = []
        for some_PTC in points_PTC.split(self.points_per_batch):
            logits_Phw = masks_of_points(self.network.mask_decoder, image, some_PTC, self.mask)
            if self.clamp is not None:
                logits_Phw = logits_Phw.clamp(-self.clamp, self.clamp)
            parts.append(resample(logits_Phw.float()[None], grid_hw, self.resampling)[0])
        return torch.cat(parts)


def load_sam(model: str, revision: str | None = None) -> Any:
    """The Sam2Model of transformers, whole or not at all.

    Raises:
        ValueError: If transformers is missing or too old, or the model is, or weights are missing.
    """
    try:
        from transformers import Sam2Model
    except ImportError as error:
        raise ValueError(
            f"SamTeacher needs transformers 4.56 or newer ({error.name or 'Sam2Model'} is not "
            "there); pip install 'pe_dense[sam]'"
        ) from error
    try:
        network, report = Sam2Model.from_pretrained(
            model, revision=revision or "main", output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        raise ValueError(
            f"SAM {model} cannot be loaded ({reason}); name a folder or hub repository of SAM 2.1 "
            "in the format of transformers"
        ) from error
    absent = sorted(report["missing_keys"]) + sorted(
        str(v) for v in report.get("mismatched_keys", ())
    )
    if absent:
        where = "folder" if Path(model).is_dir() else "repository"
        raise ValueError(
            f"{where} {model} lacks {len(absent)} weights of SAM 2.1 ({absent[0]}); name a "
            "complete one, such as facebook/sam2.1-hiera-large"
        )
    return network
