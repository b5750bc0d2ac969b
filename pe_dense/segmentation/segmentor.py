"""mmseg's encoder-decoder with inference that is batched over windows and gives labels only."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import SampleList, add_prefix
from torch import Tensor, nn

from pe_dense.pixelwise.banded_inference import BandedLogits
from pe_dense.pixelwise.batch_sizes import AnyImageSize
from pe_dense.pixelwise.windows import mirrored, unpadded_size, window_outputs, windows_of
from pe_dense.segmentation.fused_loss import head_losses


@MODELS.register_module()
class DenseSegmentor(AnyImageSize, EncoderDecoder):
    """The same labels and losses as `EncoderDecoder`, without its full-resolution logits.

    Heads with mmseg's plain cross-entropy are trained by the fused one, see `head_losses`.
    Windows of one size run through the encoder together, across the images of a batch;
    `test_cfg.window_batch` (default 8) of them at a time. Results carry `pred_sem_seg` alone.

    `test_cfg`: mode 'whole', or 'slide' with crop_size and stride, as in mmseg; a stride may also
    be a share of crop_size, see `pe_dense.pixelwise.windows.strides`.
    """

    def _decode_head_forward_train(
        self, inputs: Sequence[Tensor], data_samples: SampleList
    ) -> dict[str, Tensor]:
        losses = head_losses(self.decode_head, inputs, data_samples, self.train_cfg)
        return add_prefix(losses, "decode")

    def _auxiliary_head_forward_train(
        self, inputs: Sequence[Tensor], data_samples: SampleList
    ) -> dict[str, Tensor]:
        several = isinstance(self.auxiliary_head, nn.ModuleList)
        found = {}
        for i, head in enumerate(self.auxiliary_head if several else [self.auxiliary_head]):
            losses = head_losses(head, inputs, data_samples, self.train_cfg)
            found |= add_prefix(losses, f"aux_{i}" if several else "aux")
        return found

    def predict(self, inputs: Tensor, data_samples: SampleList | None = None) -> SampleList:
        """Images (B, 3, H, W) -> samples with `pred_sem_seg` (1, P, Q) in the original size."""
        if data_samples is None:
            size = tuple(inputs.shape[2:])
            meta = dict(ori_shape=size, img_shape=size)
            data_samples = [SegDataSample(metainfo=meta) for _ in inputs]
        views = self.banded_logits(inputs, data_samples)
        for sample, view in zip(data_samples, views, strict=True):
            sample.set_data({"pred_sem_seg": PixelData(data=view.labels()[None])})
        return data_samples

    def banded_logits(self, inputs: Tensor, data_samples: SampleList) -> list[BandedLogits]:
        """Images (B, 3, H, W) -> the logits of each in its original size, made on demand.

        Raises:
            ValueError: If an image is padded at the left or top, or for a wrong `test_cfg`.
        """
        size = tuple(inputs.shape[2:])
        windows = windows_of(self.test_cfg, size)
        logits_NBKhw = window_outputs(
            lambda part: self.decode_head(self.extract_feat(part)),
            inputs,
            windows,
            self.test_cfg.get("window_batch", 8),
        )
        return [
            BandedLogits(
                logits_NKhw,
                windows,
                unpadded_size(sample, size, "DenseSegmentor expects"),
                tuple(sample.ori_shape[:2]),
                mirrored(sample),
            )
            for sample, logits_NKhw in zip(data_samples, logits_NBKhw.unbind(1), strict=True)
        ]
