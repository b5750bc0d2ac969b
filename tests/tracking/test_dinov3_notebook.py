"""Label propagation and label maps against golden runs of DINOv3's tracking notebook."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pe_dense.tracking.frames import network_size
from pe_dense.tracking.label_maps import (
    device_label_maps,
    label_map_from_soft,
    labels_on_grid,
    scale_channels,
)
from pe_dense.tracking.label_propagation import propagate_labels
from pe_dense.tracking.reference import PropagationSetting, propagate_plainly

GOLDEN = Path(__file__).parents[1] / "golden" / "dinov3_propagation.npz"
VIDEOS = ("circle", "large", "lost", "square")


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def video_of(golden, name: str) -> tuple[Tensor, Tensor, PropagationSetting]:
    """Features (T, h, w, D), labels (C, h, w) of the first frame and the setting."""
    last_frames, radius, topk = golden[f"{name}/setting"].tolist()
    setting = PropagationSetting(
        last_frames=last_frames,
        radius=radius,
        neighbourhood=str(golden[f"{name}/shape"]),
        topk=topk,
        temperature=float(golden[f"{name}/temperature"]),
    )
    features = torch.from_numpy(golden[f"{name}/features"]).float()
    labels = labels_on_grid(golden[f"{name}/first_mask"], features.shape[1:3], sampling="torch")
    return features, labels, setting


def test_the_golden_file_is_whole(golden):
    assert {name.split("/")[0] for name in golden} == {*VIDEOS, "sizes", "postprocess"}


@pytest.mark.parametrize("name", VIDEOS)
def test_first_labels_are_the_notebooks(golden, name):
    _, labels, _ = video_of(golden, name)
    np.testing.assert_array_equal(labels.permute(1, 2, 0), golden[f"{name}/first_probs"])


def test_token_centres_between_pixels_are_rounded_as_in_torch(golden):
    """The masks of size L of DAVIS: Pillow takes the other pixel there."""
    mask = golden["large/first_mask"]
    by_pillow = labels_on_grid(mask, (18, 5)).permute(1, 2, 0)
    assert not np.array_equal(by_pillow, golden["large/first_probs"])
    ramp = np.repeat(np.arange(240, dtype=np.uint8), 2)[:, None]  # 480 rows
    found = labels_on_grid(ramp, (90, 1), sampling="torch").argmax(0).flatten()
    expected = F.interpolate(
        torch.from_numpy(ramp)[None, None].float(), (90, 1), mode="nearest-exact"
    )
    assert torch.equal(found.float(), expected.flatten())
    assert not torch.equal(found, labels_on_grid(ramp, (90, 1)).argmax(0).flatten())


@pytest.mark.parametrize("name", VIDEOS)
@pytest.mark.parametrize("form", ["plain", "fast"])
def test_golden_propagation(golden, name, form):
    features, labels, setting = video_of(golden, name)
    if form == "plain":
        found = list(propagate_plainly(features, labels, setting))
    else:
        found = [soft for (soft,) in propagate_labels(iter(features), labels, [setting])]
    native = golden[f"{name}/first_mask"].shape
    assert len(found) == len(golden[f"{name}/soft"])
    for t, (soft, expected) in enumerate(zip(found, golden[f"{name}/soft"]), start=1):
        np.testing.assert_allclose(soft.permute(1, 2, 0), expected, rtol=0, atol=1e-5)
        label_map = label_map_from_soft(soft, native, nearest=True)
        np.testing.assert_array_equal(label_map, golden[f"{name}/label_maps"][t])


@pytest.mark.parametrize("name", VIDEOS)
def test_golden_label_maps_of_the_same_soft_labels(golden, name):
    soft = torch.from_numpy(golden[f"{name}/soft"]).permute(0, 3, 1, 2)
    expected = golden[f"{name}/label_maps"][1:]
    native = expected.shape[1:]
    np.testing.assert_array_equal(device_label_maps(soft, native, None, True, True), expected)
    others = [device_label_maps(soft, native, None, stretch, False) for stretch in (True, False)]
    assert all((other.numpy() != expected).any() for other in others)  # it is another rule


def test_golden_range_of_channels(golden):
    given = torch.from_numpy(golden["postprocess/input"])
    found = scale_channels(given)
    assert np.array_equal(found, golden["postprocess/output"])  # to the last digit
    is_constant = given.amax((2, 3)) == given.amin((2, 3))
    assert is_constant.sum() == 3 and not found[is_constant].any()
    maps = device_label_maps(given, given.shape[2:], None, True, True)
    np.testing.assert_array_equal(maps, golden["postprocess/label_maps"])


def test_golden_sizes(golden):
    for height, width, patch, short_side, *expected in golden["sizes"].tolist():
        found = network_size((height, width), patch, "pixels", short_side)
        assert found == tuple(expected), (height, width, patch, short_side)


def as_written(soft_Chw: Tensor, image_hw: tuple[int, int], stretch: bool) -> Tensor:
    """The rule on whole images, pixel by pixel."""
    whole_CHW = F.interpolate(soft_Chw[None], image_hw, mode="nearest")[0]
    if stretch:
        low_C, high_C = whole_CHW.flatten(1).aminmax(dim=1)
        span_C11 = (high_C - low_C)[:, None, None]
        whole_CHW = torch.nan_to_num((whole_CHW - low_C[:, None, None]) / span_C11, nan=0)
    return whole_CHW.argmax(0).to(torch.uint8)


@pytest.mark.parametrize("stretch", [True, False])
@pytest.mark.parametrize("image_hw", [(20, 28), (7, 5), (5, 7), (3, 40), (40, 3), (1, 1), (49, 61)])
def test_label_maps_are_those_of_whole_images(image_hw, stretch):
    """Images with fewer pixels than tokens too: the range is of what the pixels show."""
    soft = torch.rand(3, 4, 5, 7, generator=torch.Generator().manual_seed(1))
    soft[1, 2], soft[2, :2] = 0.3, 0
    for soft_Chw in soft:
        found = label_map_from_soft(soft_Chw, image_hw, None, stretch, nearest=True)
        assert np.array_equal(found, as_written(soft_Chw, image_hw, stretch))


def test_bad_input():
    soft = torch.zeros(2, 3, 3)
    with pytest.raises(ValueError, match="patch_size=4 does not apply"):
        label_map_from_soft(soft, (6, 6), 4, nearest=True)
    with pytest.raises(ValueError, match="patch_size=4 does not apply"):
        device_label_maps(soft[None], (6, 6), 4, True, True)
    with pytest.raises(ValueError, match="sampling='area' is unknown"):
        labels_on_grid(np.zeros((4, 4), np.uint8), (2, 2), sampling="area")
