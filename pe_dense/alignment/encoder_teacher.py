"""A layer of any encoder of the zoo as the semantic teacher.

Source: Perception Encoder (arXiv:2504.13181), section on spatial alignment: the 41st of the 50
blocks of PE core G, at 448 pixels, fixed.

Shape legend: B images, C width, H W pixels, h w token grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor

from pe_dense.alignment.frozen_teacher import FrozenTeacher, check_grid, normalised
from pe_dense.encoders.contract import check_choice
from pe_dense.openmmlab.backbone import AMP_DTYPES, DenseBackbone


@MODELS.register_module()
class EncoderTeacher(FrozenTeacher):
    """Tokens of one block of a frozen encoder.

    Args:
        encoder: Name in the zoo, or 'timm:<model name>'.
        weights: As `DenseBackbone` takes them.
        layer: 0-based block, negatives allowed. The paper's layer 41 is index 40.
        norm: Apply the encoder's final norm.
        image_size: What the teacher looks at. 'grid': images resized so that each of its patches
            is one token of the student, and nothing is resampled (a student of patch 16 at 512
            and a teacher of patch 14 then meet at the teacher's 448). (H, W): resized to that.
            None: the student's images as they are. Resizing is bilinear, antialiased.
        resampling: See `FrozenTeacher`.
        amp_dtype: See `FrozenTeacher`.
        network_dtype: 'bfloat16' or 'float16' keeps weights and residual sums in that type instead,
            which halves the teacher's memory, spares the conversion of all weights in every step,
            and rounds after every block. None leaves the weights as they are.
        encoder_options: Further arguments of the encoder.
        weights_options: Further arguments of `load_weights`.

    Raises:
        ValueError: For an unknown encoder, block, option, weights file or image size.
    """

    def __init__(
        self,
        encoder: str = "pe_core_g14_448",
        weights: str = "released",
        layer: int = 40,
        norm: bool = False,
        image_size: str | Sequence[int] | None = "grid",
        resampling: str = "bilinear",
        amp_dtype: str | None = None,
        encoder_options: Mapping[str, Any] | None = None,
        weights_options: Mapping[str, Any] | None = None,
        network_dtype: str | None = None,
    ) -> None:
        if network_dtype is not None:
            check_choice("network_dtype", network_dtype, tuple(AMP_DTYPES))
            if amp_dtype is not None:
                raise ValueError(
                    f"network_dtype={network_dtype!r} and amp_dtype={amp_dtype!r} exclude each "
                    "other: autocast would sum in float32; give one of them"
                )
        is_pair = not isinstance(image_size, str) and image_size is not None
        if (is_pair and len(image_size) != 2) or (
            isinstance(image_size, str) and image_size != "grid"
        ):
            raise ValueError(f"image_size={image_size!r} is not 'grid', None or a pair (H, W)")
        backbone = DenseBackbone(
            encoder,
            weights,
            (layer,),
            frozen=True,
            norm=norm,
            encoder_options=encoder_options,
            weights_options=weights_options,
        )
        info = backbone.weights_info
        super().__init__(
            backbone,
            backbone.embed_dim,
            settings={
                "encoder": encoder,
                "layer": backbone.out_indices[0],
                "norm": norm,
                "image_size": list(image_size) if is_pair else image_size,
                "encoder_options": _as_json(encoder_options),
                "weights_options": _as_json(weights_options),
                # Absent without it: caches that were filled before know no such setting.
                **({} if network_dtype is None else {"network_dtype": network_dtype}),
            },
            resampling=resampling,
            amp_dtype=amp_dtype,
            sha256=info.sha256 if len(info.sha256) == 64 else None,
        )
        self.image_size = tuple(image_size) if is_pair else image_size
        self.network_dtype = AMP_DTYPES.get(network_dtype or "")
        if self.network_dtype is not None:
            backbone.to(self.network_dtype)

    def maps(
        self, images_B3HW: Tensor, grid_hw: tuple[int, int], data_samples: Sequence[Any] | None
    ) -> Tensor:
        """Map (B, C, h', w') of the block.

        Raises:
            ValueError: If the encoder's grid does not cover the images evenly.
        """
        size: Any = self.image_size
        if size == "grid":
            size = tuple(cells * self.network.patch_size for cells in grid_hw)
        if size is not None and size != tuple(images_B3HW.shape[2:]):
            images_B3HW = F.interpolate(images_B3HW, size, mode="bilinear", antialias=True)
        encoder = self.network.encoder
        images_B3HW = normalised(images_B3HW, encoder.mean, encoder.std)
        map_BChw = self.network(images_B3HW.to(self.network_dtype or images_B3HW.dtype))[0]
        check_grid(tuple(map_BChw.shape[2:]), tuple(images_B3HW.shape[2:]), "teacher")
        return map_BChw


def _as_json(options: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: list(v) if isinstance(v, tuple) else v for key, v in (options or {}).items()}
