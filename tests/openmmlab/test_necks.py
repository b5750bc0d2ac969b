"""SimplePyramid against the stored maps of detectron2's, and its errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("mmengine")

from pe_dense.openmmlab.necks import SimplePyramid

GOLDEN = Path(__file__).parents[1] / "golden" / "pe_windowed.npz"
CASE = "vitdet_spatial"
WIDTH = 48
# Position in our levels -> detectron2's name of the layer.
REFERENCE_NAMES = {
    "levels.0.0": "simfp_2.0",
    "levels.0.1": "simfp_2.1",
    "levels.0.3": "simfp_2.3",
    "levels.0.4": "simfp_2.4",
    "levels.0.5": "simfp_2.4.norm",
    "levels.0.6": "simfp_2.5",
    "levels.0.7": "simfp_2.5.norm",
    "levels.1.0": "simfp_3.0",
    "levels.1.1": "simfp_3.1",
    "levels.1.2": "simfp_3.1.norm",
    "levels.1.3": "simfp_3.2",
    "levels.1.4": "simfp_3.2.norm",
    "levels.2.0": "simfp_4.0",
    "levels.2.1": "simfp_4.0.norm",
    "levels.2.2": "simfp_4.1",
    "levels.2.3": "simfp_4.1.norm",
    "levels.3.1": "simfp_5.1",
    "levels.3.2": "simfp_5.1.norm",
    "levels.3.3": "simfp_5.2",
    "levels.3.4": "simfp_5.2.norm",
}


def test_equals_the_reference_pyramid() -> None:
    golden = np.load(GOLDEN, allow_pickle=False)
    prefix = f"{CASE}/pyramid/weights/"
    stored = {
        key.removeprefix(prefix): torch.from_numpy(golden[key])
        for key in golden.files
        if key.startswith(prefix)
    }
    neck = SimplePyramid(WIDTH, out_channels=stored["simfp_4.0.weight"].shape[0])
    state = {}
    for key in neck.state_dict():
        layer, kind = key.rsplit(".", 1)
        state[key] = stored.pop(f"{REFERENCE_NAMES[layer]}.{kind}")
    assert not stored, "weights of the reference that we have no place for"
    neck.load_state_dict(state, strict=True)
    last_map = torch.from_numpy(golden[f"{CASE}/last_feat"])[:1]
    with torch.no_grad():
        levels = neck([last_map])
    assert len(levels) == 5
    for number, level in enumerate(levels, start=2):
        expected = torch.from_numpy(golden[f"{CASE}/pyramid/p{number}"])
        assert level.shape == expected.shape
        assert (level - expected).abs().max() <= 1e-5 * expected.abs().max(), f"p{number}"


def test_strides_of_the_levels() -> None:
    neck = SimplePyramid(8, 4, num_extra_levels=2)
    with torch.no_grad():
        levels = neck([torch.randn(2, 8, 8, 12)])
    # A patch of 16: strides 4, 8, 16, 32, 64, 128 of an image of 128 x 192.
    sizes = [(128 // stride, 192 // stride) for stride in (4, 8, 16, 32)] + [(2, 3), (1, 2)]
    assert [tuple(level.shape) for level in levels] == [(2, 4, *size) for size in sizes]


def test_scales_choose_the_levels_and_only_the_last_map_counts() -> None:
    neck = SimplePyramid(8, 4, scales=(1, 2), num_extra_levels=0)
    last = torch.randn(1, 8, 4, 4)
    with torch.no_grad():
        coarse, fine = neck([last])
        again = neck([torch.randn(1, 8, 4, 4), last])
    assert coarse.shape[-2:] == (4, 4) and fine.shape[-2:] == (8, 8)
    assert torch.equal(coarse, again[0]) and torch.equal(fine, again[1])


def test_extra_levels_subsample() -> None:
    neck = SimplePyramid(8, 4, scales=(1,), num_extra_levels=1)
    with torch.no_grad():
        full, half = neck([torch.randn(1, 8, 6, 6)])
    assert torch.equal(half, full[:, :, ::2, ::2])


def test_wrong_number_of_channels() -> None:
    with pytest.raises(ValueError, match="built for 8 channels but the backbone gives 12"):
        SimplePyramid(8, 4)([torch.randn(1, 12, 4, 4)])


@pytest.mark.parametrize("scale", [3, 0.25, 0])
def test_unknown_scale(scale: float) -> None:
    with pytest.raises(ValueError, match=f"no scale {scale}"):
        SimplePyramid(8, 4, scales=(scale,))


def test_channels_that_cannot_be_halved_twice() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        SimplePyramid(10, 4)


def test_gradients_reach_every_parameter_and_the_input() -> None:
    neck = SimplePyramid(8, 4, num_extra_levels=0)
    last = torch.randn(1, 8, 4, 4, requires_grad=True)
    weights = [torch.randn_like(level) for level in neck([last])]
    sum((level * weight).sum() for level, weight in zip(neck([last]), weights)).backward()
    assert last.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in neck.parameters())


@pytest.mark.parametrize(
    ("size", "coarsest"), [((1, 7), (1, 3)), ((5, 1), (2, 1)), ((1, 1), (1, 1))]
)
def test_one_row_of_patches_is_not_halved(size: tuple[int, int], coarsest: tuple[int, int]) -> None:
    levels = SimplePyramid(WIDTH, out_channels=8)([torch.randn(1, WIDTH, *size)])
    assert levels[3].shape[2:] == coarsest
    assert all(bool(level.isfinite().all()) for level in levels)
