"""mmdet's mask head with the initial values of detectron2's."""

from __future__ import annotations

from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.registry import MODELS
from torch import nn


@MODELS.register_module()
class FaintMaskHead(FCNMaskHead):
    """FCNMaskHead whose masks begin at 0.5 everywhere: last weights of 0.001, not of 0.16.

    mmdet draws them for a ReLU behind them, by the number of classes: logits of several units on
    normed features, and a loss of the first steps that is not ln 2 but above 1.

    Source: MaskRCNNConvUpsampleHead of detectron2 @ 02b5c4e, modeling/roi_heads/mask_head.py:267;
    all else of the two begins alike.
    """

    def init_weights(self) -> None:
        """Draw all weights anew."""
        super().init_weights()
        nn.init.normal_(self.conv_logits.weight, std=0.001)
