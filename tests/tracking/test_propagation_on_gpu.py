"""Kernels of label propagation, through Triton's interpreter, against the plain form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from interpreted_kernels import interpreted  # noqa: F401 (a fixture)
from torch import Tensor

from pe_dense.tracking.label_propagation import propagate_labels, propagate_layers
from pe_dense.tracking.reference import PropagationSetting, propagate_plainly

pytestmark = pytest.mark.usefixtures("interpreted")


@pytest.fixture
def on_gpu(interpreted, monkeypatch):  # noqa: F811
    """Tiles and blocks so small that grids of a few tokens have several."""
    from pe_dense.tracking import propagation_on_gpu

    monkeypatch.setattr(propagation_on_gpu, "TILE_HW", (2, 2))
    monkeypatch.setattr(propagation_on_gpu, "BLOCK_KEYS", 4)
    return propagation_on_gpu


def video(seed: int, frames: int, h: int, w: int, width: int = 20, labels: int = 3):
    """Features that change slowly, and a one-hot map."""
    generator = torch.Generator().manual_seed(seed)
    scene = torch.randn(h, w, width, generator=generator)
    noise = torch.randn(frames, h, w, width, generator=generator)
    label_map = torch.randint(0, labels, (h, w), generator=generator)
    return scene + noise.cumsum(0) / 2, torch.eye(labels)[label_map].permute(2, 0, 1)


def check(frames: Tensor, first_Chw: Tensor, settings, given=None) -> None:
    found = list(propagate_labels(iter(frames), first_Chw, settings, given=given))
    assert len(found) == len(frames) - 1
    for z, setting in enumerate(settings):
        ours = torch.stack([soft_Z[z] for soft_Z in found])
        theirs = propagate_plainly(frames.double(), first_Chw.double(), setting, given)
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=2e-6)


def test_settings_together_equal_each_alone(on_gpu):
    frames, first = video(0, 4, 3, 5)
    settings = [
        PropagationSetting(1, 1, "square", 3, 0.1),
        PropagationSetting(2, 2, "circle", 2, 0.5),
    ]
    check(frames, first, settings)


def test_the_whole_grid_and_the_first_frame_alone(on_gpu):
    frames, first = video(1, 3, 3, 3)
    check(frames, first, [PropagationSetting(1, 0, topk=4), PropagationSetting(0, 1, topk=2)])


def test_one_tile_a_launch_where_memory_allows_no_more(on_gpu, monkeypatch):
    monkeypatch.setattr(on_gpu, "MAX_SIMILARITIES", 1)
    frames, first = video(10, 3, 3, 3)
    check(frames, first, [PropagationSetting(1, 1, "square", 3)])


def test_the_tiles_that_are_used(interpreted):  # noqa: F811
    frames, first = video(2, 2, 2, 9)
    check(frames, first, [PropagationSetting(1, 2, topk=3)])


@pytest.mark.parametrize("topk", [1, 5, 20])
def test_all_ties_count(on_gpu, topk):
    """Tokens of few kinds, whose cosines are exactly 0, 0.5 or 1; a zero token ties with all."""
    kinds = torch.tensor([[1, 1, 1, 1], [1, 1, 1, -1], [1, 1, -1, -1], [0, 0, 0, 0]]).float()
    picked = torch.randint(0, 4, (3, 2, 4), generator=torch.Generator().manual_seed(3))
    _, first = video(3, 1, 2, 4)
    check(kinds[picked], first, [PropagationSetting(1, 2, topk=topk)])


def test_fewer_tokens_than_neighbours(on_gpu):
    frames, first = video(4, 3, 1, 2)
    check(frames, first, [PropagationSetting(1, 1, topk=50)])


def test_labels_given_later_replace_what_was_propagated(on_gpu):
    frames, first = video(5, 4, 2, 3)
    given = {2: torch.zeros_like(first)}
    given[2][1, :1, :2] = 0.5
    check(frames, first, [PropagationSetting(1, 1, topk=2)], given)
    second = list(propagate_labels(frames, first, [PropagationSetting(1, 1)], given=given))[1][0]
    assert torch.equal(second[:, :1, :2], given[2][:, :1, :2])


def test_half_precision_and_maps_with_columns_last(on_gpu):
    frames, first = video(6, 2, 2, 3)
    frames = frames.bfloat16().permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert frames[0].stride(2) != 1
    check(frames.float(), first, [PropagationSetting(1, 1, topk=2)])
    one = next(propagate_labels(iter(frames), first, [PropagationSetting(1, 1, topk=2)]))[0]
    same = next(propagate_labels(iter(frames.float()), first, [PropagationSetting(1, 1, topk=2)]))
    assert torch.equal(one, same[0])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_is_refused_late_and_never_labelled(on_gpu, bad):
    frames, first = video(7, 4, 1, 3)
    frames[2, 0, 1, 5] = bad
    settings = [PropagationSetting(1, 1)]
    found = propagate_labels(frames, first, settings)
    assert next(found)[0].isfinite().all()
    assert next(found)[0].isnan().all()
    with pytest.raises(ValueError, match="frame 2 hold nan or infinity"):
        next(found)
    # The last frame: there is no next one.
    found = propagate_labels(frames[:3], first, settings)
    assert [soft.isnan().any().item() for soft in (next(found)[0], next(found)[0])] == [False, True]
    with pytest.raises(ValueError, match="frame 2 hold nan or infinity"):
        next(found)
    with pytest.raises(ValueError, match="frame 2 hold nan or infinity"):
        list(propagate_layers([[f] for f in frames[:3]], first, settings, {}, None))


def test_unit_vectors_keep_22_bits(on_gpu):
    frames, first = video(8, 1, 2, 3, width=70)
    frames[0, 0, 0, :40] *= 1e-4  # small components of a long vector
    frames[0, 1, 1] = 0
    frames[0, 1, 2] *= 1e-15
    propagation = on_gpu.GpuPropagation(frames[0], first, [PropagationSetting(1, 1)])
    high_ND, low_ND = propagation.halves_FN2P[0].double().unbind(1)
    found_ND = (high_ND + low_ND / on_gpu.LOW_SCALE) / on_gpu.SCALE
    assert not found_ND[:, 70:].any()
    exact_ND = torch.nn.functional.normalize(frames[0].double(), dim=-1).flatten(0, 1)
    error_ND = (found_ND[:, :70] - exact_ND).abs()
    assert (error_ND <= 2.0**-21 * exact_ND.abs() + 2.0**-36).all()


def test_a_whole_video_has_the_same_scores_and_label_maps(on_gpu, tmp_path, monkeypatch):
    pytest.importorskip("mmengine")
    from video_folders import ColourEncoder, moving_squares, save_video

    from pe_dense.tracking.davis_dataset import DavisVideos
    from pe_dense.tracking.frames import read_label_map
    from pe_dense.tracking.video_propagator import VideoPropagator

    maps = moving_squares(4, {1: 0}, size=16)
    save_video(tmp_path, "a", maps, resolution="", every=2)
    data = DavisVideos(str(tmp_path), resolution=None, style="youtube")
    video = data[0]["data_samples"].metainfo
    options = dict(size_rule="dinov3", short_side=4, upsample="image", stretch=False, layers=[0])
    monkeypatch.setattr("pe_dense.tracking.scores_on_gpu.GROUP", 2)
    found, written = [], []
    for choice in ("on", "off"):
        monkeypatch.setenv("PE_DENSE_KERNELS", choice)
        model = VideoPropagator(
            ColourEncoder(),
            2,
            [dict(last_frames=1, radius=2, topk=1)],
            batch_size=3,
            threads=1,  # the interpreter bears no second one
            results_dir=str(tmp_path / choice),
            **options,
        )
        found.append(model.propagate(video)["statistics"])
        written.append([read_label_map(p) for p in sorted((tmp_path / choice / "a").iterdir())])
    assert found[0].shape == (1, 1, 1, 6)
    assert np.array_equal(found[0], found[1])
    assert found[0][0, 0, 0, 0] > 0.5
    assert np.array_equal(written[0], written[1]) and len(written[0]) == 4


def test_double_precision_takes_the_other_way(on_gpu, monkeypatch):
    frames, first = video(9, 2, 2, 2)
    monkeypatch.setattr(on_gpu, "GpuPropagation", None)
    (soft,) = next(propagate_labels(frames.double(), first, [PropagationSetting(1, 1)]))
    assert soft.dtype == torch.float64
