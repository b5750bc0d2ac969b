"""A model of images and texts as MMEngine's configs build it.

Shape legend: B pictures or texts, H W pixels, D width of the embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from pe_dense.encoders.build import build_image_text
from pe_dense.encoders.contract import check_choice

AMP_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@MODELS.register_module()
class ImageTextBackbone(BaseModule):
    """Both towers of an encoder, frozen.

    Args:
        encoder: An encoder with a text tower; see `build_image_text`.
        weights: 'random', 'released', a path, or 'hf://repo[@revision][:file]'.
        amp_dtype: 'bfloat16' or 'float16' runs both towers under autocast; vectors come out as
            float32.
        init_cfg: Must stay None.

    Raises:
        ValueError: If the encoder has no text tower, or its weights cannot be used.
    """

    def __init__(
        self, encoder: str, weights: str = "released", amp_dtype: str | None = None,
        init_cfg: None = None,
    ) -> None:  # fmt: skip
        if init_cfg is not None:
            raise ValueError("ImageTextBackbone takes no init_cfg; name the file in weights=...")
        if amp_dtype is not None:
            check_choice("amp_dtype", amp_dtype, tuple(AMP_DTYPES))
        super().__init__()
        self.amp_dtype = amp_dtype
        self.towers, self.weights_info = build_image_text(encoder, weights)
        self.requires_grad_(False)
        self.eval()

    @property
    def encoder(self) -> nn.Module:
        """The vision tower."""
        return self.towers.visual

    def init_weights(self) -> None:
        """There is nothing to draw; the towers keep what they loaded."""
        self._is_init = True

    def train(self, mode: bool = True) -> ImageTextBackbone:
        """Both towers stay in eval."""
        return super().train(False)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Image embeddings (B, D), of any length, float32."""
        with self.precision(images_B3HW.device):
            return self.towers.encode_image(images_B3HW).float()

    def encode_texts(self, texts: Sequence[str]) -> tuple[Tensor, int]:
        """Text embeddings (B, D), of any length, float32; and how many texts were cut."""
        ids_BL, num_cut = self.towers.tokenize(texts)
        device = next(self.towers.parameters()).device
        with self.precision(device):
            return self.towers.encode_text(ids_BL.to(device)).float(), num_cut

    def precision(self, device: torch.device) -> torch.autocast:
        """The context that both towers run in, for whoever calls their parts."""
        dtype = None if self.amp_dtype is None else AMP_DTYPES[self.amp_dtype]
        return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)
