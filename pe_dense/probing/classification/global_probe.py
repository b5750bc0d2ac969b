"""Linear classifiers on global features: many layers, settings and seeds on one frozen pass.

Shape legend: B pictures, F width of a feature, S sources, P heads of a source, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from torch import Tensor

from pe_dense.probing.classification.global_model import GlobalFeatureModel
from pe_dense.probing.classification.ranked_classes import ranked
from pe_dense.probing.half_length import half_length_heads
from pe_dense.probing.head_bank import HeadBank, Source, head_settings
from pe_dense.probing.probe_model import summed_losses


@MODELS.register_module()
class GlobalProbe(GlobalFeatureModel):
    """The bank of `LayerProbe` on whole pictures: a head is batch norm and one linear layer.

    Pictures have one fixed view and no augmentation, so that the encoder sees each of them once and
    training reads its features from disk. Heads never meet: each learns what it would learn alone.

    Args:
        num_classes: K.
        lrs, weight_decays, seeds: The heads of every source are all combinations.
        batch_norm: See `HeadBank`.
        half_length: As in `LayerProbe`.
        label_smoothing: Share of the target that is spread over all classes.
        others: See `GlobalFeatureModel`.

    Raises:
        ValueError: As `GlobalFeatureModel`, or if there are fewer than two classes.

    Source: many heads on one pass is what DINOv2's linear classification does
    (facebookresearch/dinov2 eval/linear.py), which trains with crops and flips, without batch norm
    and by SGD; written from the description.
    """

    def __init__(
        self,
        num_classes: int,
        lrs: Sequence[float] = (1e-3,),
        weight_decays: Sequence[float] = (1e-2,),
        seeds: Sequence[int] = (0,),
        batch_norm: bool = True,
        half_length: bool = False,
        label_smoothing: float = 0.0,
        *,
        sources: Sequence[Source] | str = "all",
        **others: Any,
    ) -> None:
        super().__init__(sources=sources, **others)
        if num_classes < 2:
            raise ValueError(f"{num_classes} classes cannot be told apart; give two or more")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing} is not in 0..1; use 0 for none")
        settings = head_settings(lrs, weight_decays, seeds)
        settings += half_length_heads(settings) if half_length else ()
        self.bank = HeadBank(self.sources, self.width, num_classes, settings, batch_norm)
        self.label_smoothing = label_smoothing

    def init_weights(self) -> None:
        """Heads are drawn by their own seeds; the encoder keeps what it loaded."""
        self._is_init = True

    def forward(
        self,
        inputs: Any,
        data_samples: Sequence[BaseDataElement] | None = None,
        mode: str = "predict",
    ) -> Any:
        """As MMEngine asks: 'loss' -> dict, 'predict' -> samples; `inputs` is not used."""
        if mode not in ("loss", "predict") or data_samples is None:
            raise ValueError(f"mode {mode!r} is not known; use 'loss' or 'predict', with samples")
        infos = [sample.metainfo for sample in data_samples]
        if mode == "loss":
            return summed_losses(self.bank, self.head_losses(infos))
        for sample, rows_SPQ in zip(data_samples, self.ranked(infos), strict=True):
            sample.set_field(rows_SPQ, "probe_counts")
        return data_samples

    def head_losses(self, infos: Sequence[Mapping[str, Any]]) -> Tensor:
        """(S, P) cross-entropy of all heads."""
        maps = self._maps(infos)
        target_B = torch.tensor([info["target"] for info in infos], device=_device(maps))
        losses = []
        for logits_BPK11 in self.bank.each(maps):
            logits_BPK = logits_BPK11.flatten(2)
            per_BP = F.cross_entropy(
                logits_BPK.flatten(0, 1),
                target_B.repeat_interleave(logits_BPK.shape[1]),
                reduction="none",
                label_smoothing=self.label_smoothing,
            ).view(logits_BPK.shape[:2])
            losses.append(per_BP.mean(dim=0))
        return torch.stack(losses)

    @torch.no_grad()
    def ranked(self, infos: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
        """(S, P, 1 + 2 J) of each picture, see `ranked_classes`; scores are probabilities.

        Of pictures that only choose, the rank alone: (S, P, 1).
        """
        maps = self._maps(infos)
        target_B = torch.tensor([info["target"] for info in infos], device=_device(maps))
        parts = [
            ranked(logits.flatten(2).double().softmax(dim=-1), target_B)
            for logits in self.bank.each(maps)
        ]
        rows_BSPQ = np.stack(parts, axis=1)
        held = [info.get("probe_split") == "holdout" for info in infos]
        return [row[..., :1].copy() if h else row for row, h in zip(rows_BSPQ, held, strict=True)]

    def _maps(self, infos: Sequence[Mapping[str, Any]]) -> dict[int, Tensor]:
        """Layer -> (B, F, 1, 1), maps of one token."""
        device = self.bank.weights[0].device
        return {
            layer: values_BF.to(device)[:, :, None, None]
            for layer, values_BF in self.features(infos).items()
        }


def _device(maps: Mapping[int, Tensor]) -> torch.device:
    return next(iter(maps.values())).device
