"""Steps of DINOv3's linear segmentation beside what its own code gave (tests/golden/README.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS, TRANSFORMS
from mmseg.structures import SegDataSample

import pe_dense.segmentation  # noqa: F401
from pe_dense.pixelwise.banded_inference import BandedLogits
from pe_dense.pixelwise.windows import window_outputs, windows_of
from pe_dense.segmentation.blended_colours import blended_with_grey, turned_hue

FOLDER = Path(__file__).resolve().parents[1] / "golden"
DATA = np.load(FOLDER / "dinov3_augmentation.npz")
HEAD = {
    key: torch.from_numpy(value)
    for key, value in np.load(FOLDER / "dinov3_linear_head.npz").items()
}


def transform(**config: object):
    init_default_scope("mmseg")
    return TRANSFORMS.build(config)


def bgr(rgb: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rgb[..., ::-1])


# ---- augmentation --------------------------------------------------------------------------------


def test_saturation_is_the_references() -> None:
    for share, expected in zip(DATA["shares"], DATA["blended"], strict=True):
        found = blended_with_grey(bgr(DATA["image_rgb"]), float(share))
        np.testing.assert_array_equal(found, bgr(expected))


def test_hue_is_the_references() -> None:
    """OpenCV's arithmetic in float32 is not torchvision's: one level in one value of a hundred."""
    for turn, expected in zip(DATA["turns"], DATA["turned"], strict=True):
        gap = turned_hue(bgr(DATA["image_rgb"]), float(turn)).astype(int) - bgr(expected)
        assert abs(gap).max() <= 1 and (gap != 0).mean() <= 0.01


def test_the_same_draws_give_the_same_distortion() -> None:
    distort = transform(type="BlendedDistortion")
    changed = 0
    for seed, expected in zip(DATA["seeds"], DATA["distorted"], strict=True):
        np.random.seed(seed)  # noqa: NPY002 (as mmseg draws)
        found = distort(dict(img=bgr(DATA["image_rgb"])))["img"]
        # A contrast after the hue stretches a level to one and a half, and cuts it off to two.
        gap = found.astype(int) - bgr(expected)
        assert abs(gap).max() <= 2 and (gap != 0).mean() <= 0.01
        changed += not np.array_equal(expected, DATA["image_rgb"])
    assert changed >= 9


def test_the_same_draws_give_the_same_crop() -> None:
    crop = transform(type="RandomCrop", crop_size=(16, 20), cat_max_ratio=0.75)
    rows, columns = np.meshgrid(np.arange(40), np.arange(52), indexing="ij")
    found = []
    for seed in range(len(DATA["crop_corners"])):
        np.random.seed(seed)  # noqa: NPY002
        sample = crop(
            dict(
                img=np.stack([rows, columns], axis=-1),
                gt_seg_map=DATA["crop_labels"],
                seg_fields=["gt_seg_map"],
            )
        )
        found.append(sample["img"][0, 0].tolist())
    assert found == DATA["crop_corners"].tolist()
    assert len(set(map(tuple, found))) > 10


@pytest.mark.parametrize(
    "bad", [dict(hue_range=(0.2, 0.1)), dict(hue_range=(-1, 1)), dict(contrast_range=(-1, 1))]
)
def test_ranges_that_mean_nothing_are_refused(bad: dict) -> None:
    with pytest.raises(ValueError, match="BlendedDistortion has"):
        transform(type="BlendedDistortion", **bad)


# ---- head and loss -------------------------------------------------------------------------------


def linear_head() -> torch.nn.Module:
    init_default_scope("mmseg")
    head = MODELS.build(
        dict(
            type="LinearSegHead", in_channels=6, num_classes=5, dropout_ratio=0.5,
            dropout_first=True,
        )
    )  # fmt: skip
    head.conv_seg.load_state_dict(dict(weight=HEAD["conv_weight"], bias=HEAD["conv_bias"]))
    with torch.no_grad():
        head.bn.weight.copy_(HEAD["bn_weight"])
        head.bn.bias.copy_(HEAD["bn_bias"])
    return head


def test_logits_loss_and_gradients_are_the_references() -> None:
    head = linear_head().train()
    torch.manual_seed(7)
    logits = head([HEAD["features"]])
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
        torch.testing.assert_close(head.eval()([HEAD["features"]]), HEAD["logits_eval"])


def test_dropout_after_the_norm_gives_other_statistics() -> None:
    first, after = linear_head().train(), linear_head().train()
    after.dropout_first = False
    for head in (first, after):
        torch.manual_seed(7)
        head([HEAD["features"]])
    assert not torch.allclose(first.bn.running_mean, after.bn.running_mean)


def test_a_head_without_dropout_ignores_the_order() -> None:
    init_default_scope("mmseg")
    head = MODELS.build(
        dict(type="LinearSegHead", in_channels=6, num_classes=5, dropout_first=True)
    ).eval()
    with torch.no_grad():
        found = head([HEAD["features"]])
        head.dropout_first = False
        torch.testing.assert_close(head([HEAD["features"]]), found)


# ---- windows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [0, 1])
def test_labels_of_sliding_windows_are_the_references(case: int) -> None:
    images, expected = HEAD[f"slide_image_{case}"], HEAD[f"slide_labels_{case}"]
    size = tuple(images.shape[2:])
    windows = windows_of(dict(mode="slide", crop_size=(16, 16), stride=(10, 10)), size)
    logits_NBKhw = window_outputs(
        lambda part: F.conv2d(F.avg_pool2d(part, 4), HEAD["slide_weight"]), images, windows
    )
    view = BandedLogits(logits_NBKhw[:, 0], windows, size, tuple(expected.shape), None)
    assert len(windows) > 1
    assert torch.equal(view.labels().to(expected.dtype), expected)
