"""Steps of DINOv2's linear segmentation beside what its own code gave (tests/golden/README.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import pe_dense.segmentation  # noqa: F401
from pe_dense.encoders.whole_patches import pad_to_multiple

FILE = Path(__file__).resolve().parents[1] / "golden/dinov2_linear_head.npz"
HEAD = {key: torch.from_numpy(value) for key, value in np.load(FILE).items()}


def test_logits_loss_and_gradients_are_the_references() -> None:
    init_default_scope("mmseg")
    head = MODELS.build(dict(type="LinearSegHead", in_channels=4, num_layers=2, num_classes=5))
    head.conv_seg.load_state_dict(dict(weight=HEAD["conv_weight"], bias=HEAD["conv_bias"]))
    with torch.no_grad():
        head.bn.weight.copy_(HEAD["bn_weight"])
        head.bn.bias.copy_(HEAD["bn_bias"])
    maps = [HEAD["map_0"], HEAD["map_1"]]
    logits = head.train()(maps)
    torch.testing.assert_close(logits, HEAD["logits"])
    samples = [
        SegDataSample(gt_sem_seg=PixelData(data=labels_HW[None])) for labels_HW in HEAD["labels"]
    ]
    loss = head.loss_by_feat(logits, samples)["loss_ce"]
    assert loss.item() == pytest.approx(HEAD["loss"].item(), rel=1e-5)
    loss.backward()
    for name, parameter in dict(
        conv_weight=head.conv_seg.weight, conv_bias=head.conv_seg.bias,
        bn_weight=head.bn.weight, bn_bias=head.bn.bias,
    ).items():  # fmt: skip
        torch.testing.assert_close(parameter.grad, HEAD[f"grad_{name}"], rtol=1e-4, atol=1e-6)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(head.bn, name), HEAD[name])
    with torch.no_grad():
        torch.testing.assert_close(head.eval()(maps), HEAD["logits_eval"])


def test_images_are_padded_around_as_there() -> None:
    """512 px become 518: three on either side; an odd pixel goes to the right and bottom."""
    for (height, width), expected in zip(
        HEAD["pad_sizes"].tolist(), HEAD["padded"].tolist(), strict=True
    ):
        padded, _ = pad_to_multiple(torch.ones(1, 1, height, width), 14, "centre")
        rows, columns = padded[0, 0].any(1), padded[0, 0].any(0)
        corner = (int(rows.float().argmax()), int(columns.float().argmax()))
        assert [*padded.shape[2:], *corner] == expected
        assert padded.sum() == height * width


@pytest.mark.parametrize(
    "bad", [dict(warmup=-1), dict(line_from=2.0), dict(power=0.0)], ids=lambda bad: next(iter(bad))
)
def test_a_schedule_out_of_range_is_refused(bad: dict) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    config = dict(type="WarmupPolyLR", by_epoch=False, end=10, warmup=2, line_from=0.1)
    build = lambda **more: PARAM_SCHEDULERS.build(  # noqa: E731
        {**config, **more}, default_args=dict(optimizer=optimizer)
    )
    assert build().get_last_value() == pytest.approx([0.1])
    with pytest.raises(ValueError, match="WarmupPolyLR has warmup=.* give"):
        build(**bad)
