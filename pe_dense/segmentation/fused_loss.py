"""Cross-entropy of mmseg's decode heads without their logits at the resolution of the labels."""

from __future__ import annotations

from collections.abc import Sequence

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import CrossEntropyLoss
from mmseg.utils import SampleList
from torch import Tensor

from pe_dense.pixelwise.upsampled_loss import upsampled_cross_entropy


def head_losses(
    head: BaseDecodeHead, maps: Sequence[Tensor], samples: SampleList, train_cfg: object
) -> dict[str, Tensor]:
    """What `head.loss` gives, fused where it is one plain cross-entropy of bilinear logits.

    Then there is no `acc_seg` among it, the accuracy on the training batch that mmseg logs: it
    would need the large logits. Every other head computes its loss itself.

    Raises:
        ValueError: If a label is out of range; names the files of the batch.
    """
    if not is_plain(head):
        return head.loss(maps, samples, train_cfg)
    loss = head.loss_decode
    value = cross_entropy_of(head, head(maps), samples, loss.avg_non_ignore)
    return {loss.loss_name: loss.loss_weight * value}


def is_plain(head: BaseDecodeHead) -> bool:
    """Whether a head has mmseg's own `loss` with one softmax cross-entropy and no weights."""
    kind, loss = type(head), head.loss_decode
    return (
        kind.loss is BaseDecodeHead.loss
        and kind.loss_by_feat is BaseDecodeHead.loss_by_feat
        and type(loss) is CrossEntropyLoss
        and not (loss.use_sigmoid or loss.use_mask)
        and loss.class_weight is None
        and loss.reduction == "mean"
        and head.sampler is None
        and not head.align_corners
    )


def cross_entropy_of(
    head: BaseDecodeHead, logits_BKhw: Tensor, samples: SampleList, average_counted: bool
) -> Tensor:
    """`upsampled_cross_entropy` against the label maps of a batch.

    Raises:
        ValueError: If a label is out of range; names the files of the batch.
    """
    labels_BHW = head._stack_batch_gt(samples)[:, 0]
    try:
        return upsampled_cross_entropy(logits_BKhw, labels_BHW, head.ignore_index, average_counted)
    except ValueError as error:
        files = [sample.metainfo.get("seg_map_path", "?") for sample in samples]
        raise ValueError(f"{error} (label maps {', '.join(map(str, files))})") from error
