"""Segmentation at several scales and mirrored, averaged without keeping the large probabilities."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import SampleList

from pe_dense.pixelwise.banded_inference import BandedLogits, labels_of_views
from pe_dense.pixelwise.batch_sizes import by_image_size


@MODELS.register_module()
class DenseSegTTA(BaseTTAModel):
    """The labels of mmseg's `SegTTAModel`, from token logits.

    Needs a `DenseSegmentor` inside, and mmcv's `TestTimeAug` in the pipeline of the test loader.
    Between views only token logits are kept, not K x H x W probabilities of each.

    Args:
        module: The segmentor, or its config.

    Raises:
        ValueError: If the model inside has no `banded_logits`.

    Source: mmseg's SegTTAModel (onedl-mmsegmentation 1.4.2): mean of softmax, best class.
    """

    def __init__(self, module: dict | torch.nn.Module, **kwargs: Any) -> None:
        super().__init__(module=module, **kwargs)
        if not hasattr(self.module, "banded_logits"):
            raise ValueError(
                f"DenseSegTTA cannot average {type(self.module).__name__}; use model.type="
                "'DenseSegmentor', or mmseg's SegTTAModel"
            )

    @torch.no_grad()
    def test_step(self, data: dict[str, list]) -> SampleList:
        """Views of a batch -> samples with `pred_sem_seg` (1, P, Q) in the original size.

        `data` has lists over views: inputs, images of the batch; data_samples, theirs.
        """
        views, samples = [], []
        for inputs, of_view in zip(data["inputs"], data["data_samples"], strict=True):
            one = dict(inputs=inputs, data_samples=of_view)
            logits, ready = zip(*by_image_size(self._view, one), strict=True)
            views.append(logits)
            samples.append(ready)
        for sample, of_image in zip(samples[0], zip(*views, strict=True), strict=True):
            labels_PQ = labels_of_views(of_image)
            sample.set_data({"pred_sem_seg": PixelData(data=labels_PQ[None])})
        return list(samples[0])

    def _view(self, data: dict[str, list]) -> list[tuple[BandedLogits, SegDataSample]]:
        """Images of one size -> the logits and sample of each."""
        ready = self.module.data_preprocessor(data, False)
        return list(zip(self.module.banded_logits(**ready), ready["data_samples"], strict=True))

    def merge_preds(self, data_samples_list: list) -> SampleList:
        """Never called: `test_step` merges before predictions are made."""
        raise NotImplementedError("DenseSegTTA merges views in test_step")
