"""The small towers that `ContrastivePair` trained, as whoever scores by texts wants them.

Shape legend: B pictures or texts, D width of the embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor

from pe_dense.alignment.contrastive import CaptionTower
from pe_dense.encoders.build import build_encoder
from pe_dense.encoders.contract import WeightsInfo
from pe_dense.encoders.weights import (
    differences,
    read_state_dict,
    require_finite,
    resolve_weights,
)
from pe_dense.files import file_sha256
from pe_dense.mini_world.captions import caption_tokens

_IMAGES, _TEXTS = "backbone.encoder.", "text."


@MODELS.register_module()
class ContrastiveBackbone(BaseModule):
    """Both towers of configs/alignment/contrastive_t16_mini.py, frozen.

    The members are those of `ImageTextBackbone`; texts are made of the words of the mini world.

    Args:
        weights: A checkpoint of that config, or 'random'.
        encoder: As it was trained with.
        encoder_options: As it was trained with.
        text: Arguments of `CaptionTower`, as it was trained with.
        amp_dtype: Must stay None.
        init_cfg: Must stay None.

    Raises:
        ValueError: If the file cannot be read or does not fit.
    """

    def __init__(
        self,
        weights: str,
        encoder: str,
        encoder_options: Mapping[str, Any] | None = None,
        text: Mapping[str, Any] | None = None,
        amp_dtype: None = None,
        init_cfg: None = None,
    ) -> None:
        if amp_dtype is not None:
            raise ValueError(
                f"amp_dtype={amp_dtype!r}: these small towers run in float32; leave --amp out"
            )
        if init_cfg is not None:
            raise ValueError("ContrastiveBackbone takes no init_cfg; name the file in weights=...")
        super().__init__()
        self.encoder = build_encoder(encoder, **dict(encoder_options or {}))
        if self.encoder.output_dim is None:
            raise ValueError(f"{encoder} has no image embedding; use a pe_core_* encoder")
        self.text = CaptionTower(self.encoder.output_dim, **dict(text or {}))
        self.weights_info = self._load(weights)
        self.requires_grad_(False)
        self.eval()

    def _load(self, weights: str) -> WeightsInfo:
        if weights == "random":
            return WeightsInfo("random", "random")
        path = resolve_weights(weights)
        state = read_state_dict(path)
        named = {"log_scale": torch.zeros(())}  # a temperature, which no argmax depends on
        named |= {_IMAGES + key: value for key, value in self.encoder.state_dict().items()}
        named |= {_TEXTS + key: value for key, value in self.text.state_dict().items()}
        if problem := differences(state, named):
            raise ValueError(f"{path} is no checkpoint of these two towers: {problem}")
        require_finite(state, path)
        for part, prefix in ((self.encoder, _IMAGES), (self.text, _TEXTS)):
            part.load_state_dict(
                {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            )
        return WeightsInfo(path.name, file_sha256(path))

    def init_weights(self) -> None:
        """There is nothing to draw; the towers keep what they loaded."""
        self._is_init = True

    def train(self, mode: bool = True) -> ContrastiveBackbone:
        """Both towers stay in eval."""
        return super().train(False)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Normalised images to embeddings (B, D), of any length."""
        return self.encoder.encode_image(images_B3HW)

    def encode_texts(self, texts: Sequence[str]) -> tuple[Tensor, int]:
        """Text embeddings (B, D) of unit length, and that none was cut.

        Raises:
            ValueError: For a word that the mini world does not know, or a text that is too long.
        """
        lengths = [len(text.split()) for text in texts]
        longest = len(self.text.positions)
        if lengths and max(lengths) > longest:
            text = texts[lengths.index(max(lengths))]
            raise ValueError(f"{text[:40]!r}... has more words than the {longest} of the tower")
        tokens_BL = torch.stack([torch.from_numpy(caption_tokens(text, longest)) for text in texts])
        device = self.text.positions.device
        return F.normalize(self.text(tokens_BL.to(device)), dim=-1), 0
