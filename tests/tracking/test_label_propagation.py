"""Label propagation against golden runs of DINO's script and its plain form."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pe_dense.tracking import label_propagation, token_tiles
from pe_dense.tracking.label_maps import label_map_from_soft, labels_on_grid, stretch_channels
from pe_dense.tracking.label_propagation import propagate_labels
from pe_dense.tracking.reference import PropagationSetting, neighbourhood, propagate_plainly

GOLDEN = Path(__file__).parents[1] / "golden" / "label_propagation.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def golden_video(golden, video: str) -> tuple[Tensor, Tensor, dict[str, PropagationSetting]]:
    """Features (frames, h, w, D), first labels and the settings of all runs."""
    h, w = (int(golden[f"{video}/config/grid_{side}"]) for side in "hw")
    features = torch.from_numpy(golden[f"{video}/features"]).unflatten(1, (h, w))
    runs = {}
    for name in golden:
        if name.startswith(f"{video}/") and name.endswith("/soft_labels"):
            run = name.removesuffix("/soft_labels")
            runs[run] = PropagationSetting(
                last_frames=int(golden[f"{run}/n_last_frames"]),
                radius=int(golden[f"{run}/radius"]),
                topk=int(golden[f"{run}/topk"]),
            )
    return features, torch.from_numpy(golden[f"{video}/first_labels"][0]), runs


def videos(golden) -> list[str]:
    return sorted({name.split("/")[0] for name in golden if name.endswith("/features")})


def check(
    frames, first_Chw, settings, tile_hw=label_propagation.TILE_HW, tolerance=1e-5, given=None
):
    actual = list(propagate_labels(iter(frames), first_Chw, settings, tile_hw, given))
    assert len(actual) == len(frames) - 1
    for i, setting in enumerate(settings):
        expected = propagate_plainly(frames, first_Chw, setting, given)
        for ours, theirs in zip(actual, expected):
            torch.testing.assert_close(ours[i], theirs, rtol=0, atol=tolerance)


def random_video(seed: int, frames: int = 6, h: int = 7, w: int = 9, width: int = 8, labels=3):
    """Features that change slowly, and a one-hot map."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(h, w, width, generator=generator)
    noise = torch.randn(frames, h, w, width, generator=generator)
    label_map = torch.randint(0, labels, (h, w), generator=generator)
    one_hot = torch.nn.functional.one_hot(label_map, labels).permute(2, 0, 1).float()
    return (first + noise.cumsum(0) / 2).double(), one_hot.double()


def test_golden_runs_of_the_plain_form(golden):
    for video in videos(golden):
        features, first, runs = golden_video(golden, video)
        for run, setting in runs.items():
            found = propagate_plainly(features, first, setting)
            np.testing.assert_allclose(found, golden[f"{run}/soft_labels"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("together", [True, False])
def test_golden_runs(golden, together):
    assert len(videos(golden)) == 3
    num_runs = 0
    for video in videos(golden):
        features, first, runs = golden_video(golden, video)
        native = tuple(golden[f"{video}/config/original_size"])
        patch = int(golden[f"{video}/config/patch_size"])
        groups = [list(runs)] if together else [[run] for run in runs]
        for group in groups:
            found = propagate_labels(iter(features), first, [runs[run] for run in group])
            for t, soft in enumerate(found, start=1):
                for run, soft_Chw in zip(group, soft):
                    expected = golden[f"{run}/soft_labels"][t - 1]
                    np.testing.assert_allclose(soft_Chw, expected, rtol=0, atol=1e-5)
                    label_map = label_map_from_soft(soft_Chw, native, patch)
                    np.testing.assert_array_equal(label_map, golden[f"{run}/label_maps"][t])
            num_runs += len(group)
            assert t == len(features) - 1
    assert num_runs == 13


def test_golden_first_labels(golden):
    for video in videos(golden):
        expected = golden[f"{video}/first_labels"][0]
        actual = labels_on_grid(golden[f"{video}/first_segmentation"], expected.shape[1:])
        np.testing.assert_array_equal(actual, expected)


def test_golden_neighbourhoods(golden):
    names = [name for name in golden if name.startswith("neighborhood/")]
    assert len(names) == 3
    for name in names:
        size, radius = name.removeprefix("neighborhood/").split("_r")
        h, w = map(int, size.split("x"))
        grid = range(h), range(w)
        bias = token_tiles.neighbourhood_bias(*grid, *grid, int(radius), "square")
        np.testing.assert_array_equal(bias == 0, golden[name])
        setting = PropagationSetting(radius=int(radius))
        np.testing.assert_array_equal(neighbourhood((h, w), setting), golden[name])


def test_golden_stretch(golden):
    given = torch.from_numpy(golden["norm_mask/input"])
    actual = stretch_channels(given)
    finite = golden["norm_mask/output_finite"]
    np.testing.assert_array_equal(actual[finite], golden["norm_mask/output"][finite])
    # The original gives nan for a constant channel.
    constant = ~torch.from_numpy(finite)
    assert constant.any()
    assert torch.equal(actual[constant], given[constant])


@pytest.mark.parametrize("tile_hw", [(1, 1), (3, 4), (5, 2), (50, 50)])
def test_tiles_make_no_difference(tile_hw):
    frames, first = random_video(0)
    settings = [
        PropagationSetting(n, radius, shape, k, temperature)
        for n, radius, shape, k, temperature in (
            (3, 2, "square", 5, 0.1), (3, 2, "circle", 5, 0.2), (1, 0, "square", 3, 0.7),
            (0, 3, "circle", 4, 0.05), (9, 20, "square", 15, 0.1), (2, 2, "square", 2, 0.01),
        )
    ]  # fmt: skip
    check(frames, first, settings, tile_hw, tolerance=1e-12)
    check(frames, first, settings[:1], tile_hw, tolerance=1e-12)


def test_many_settings_in_one_pass():
    frames, first = random_video(1, frames=5)
    grid = itertools.product((1, 3), (0, 2), ("square", "circle"), (1, 5), (0.1, 0.7))
    check(frames, first, [PropagationSetting(*values) for values in grid], tolerance=1e-12)


def test_labels_given_later_replace_what_was_propagated():
    frames, first = random_video(10)
    given = {t: torch.zeros_like(first) for t in (2, 4)}
    given[2][1, :3, :2], given[4][2, 5, 3:] = 1, 0.5
    settings = [PropagationSetting(2, 2, topk=3), PropagationSetting(0, 0)]
    check(frames, first, settings, tolerance=1e-12, given=given)
    (second,) = list(propagate_labels(frames, first, settings[:1], given=given))[1]
    assert torch.equal(second[:, :3, :2], given[2][:, :3, :2])


@pytest.mark.parametrize("limit", [1, 500, 10**4])
def test_tiles_shrink_to_the_memory_allowed(monkeypatch, limit):
    monkeypatch.setattr(token_tiles, "MAX_SIMILARITIES", limit)
    taken = []
    take = label_propagation._Scratch.take

    def watched(self, name, most, *shape):
        assert np.prod(shape) <= most
        taken.append(most if name != "strip" else 0)
        return take(self, name, most, *shape)

    monkeypatch.setattr(label_propagation._Scratch, "take", watched)
    frames, first = random_video(2, frames=4)
    check(frames, first, [PropagationSetting(2, 0), PropagationSetting(2, 2)], tolerance=1e-12)
    # One query, all tokens of three frames, is the least there can be.
    assert max(taken) <= max(limit, 3 * 7 * 9)


@pytest.mark.parametrize("radius", [0, 2])
def test_all_ties_count(radius):
    """Tokens of few kinds, whose cosines are exactly 0, 0.5 or 1."""
    generator = torch.Generator().manual_seed(3)
    kinds = torch.tensor([[1, 1, 1, 1], [1, 1, 1, -1], [1, 1, -1, -1], [2, 2, 2, 2]]).float()
    frames = kinds[torch.randint(0, 4, (5, 6, 8), generator=generator)]
    _, first = random_video(3, h=6, w=8)
    settings = [PropagationSetting(3, radius, topk=k) for k in (1, 5, 40)]
    check(frames, first.float(), settings)
    # It does matter: without ties the first frame to look alike would win.
    one = next(propagate_labels(iter(frames), first.float(), settings[:1]))[0]
    assert ((one > 0) & (one < 1)).any()


def test_fewer_tokens_than_neighbours():
    frames, first = random_video(4, frames=3, h=1, w=2)
    check(frames, first, [PropagationSetting(1, 1, topk=50)], tolerance=1e-12)
    frames, first = random_video(4, frames=3, h=1, w=1)
    check(frames, first, [PropagationSetting(0, 0, topk=5)], tolerance=1e-12)


def test_frames_are_taken_one_at_a_time_and_forgotten():
    frames, first = random_video(5, frames=6)
    taken = []

    def feed():
        for t, frame in enumerate(frames):
            taken.append(t)
            yield frame

    found = propagate_labels(feed(), first, [PropagationSetting(2)])
    assert taken == []
    for t in range(1, 6):
        next(found)
        assert taken == list(range(t + 1))
    assert next(found, None) is None


def test_no_or_one_frame():
    _, first = random_video(6)
    assert list(propagate_labels([], first, [PropagationSetting()])) == []
    assert list(propagate_labels([torch.ones(7, 9, 2)], first, [PropagationSetting()])) == []


def test_half_precision_is_computed_in_float32():
    frames, first = random_video(7)
    half = frames.half()
    (soft,), *_ = propagate_labels(iter(half), first, [PropagationSetting(topk=3)])
    assert soft.dtype == torch.float32
    expected = propagate_plainly(half.float(), first.float(), PropagationSetting(topk=3))[0]
    torch.testing.assert_close(soft, expected, rtol=0, atol=1e-5)


def test_a_low_temperature_does_not_overflow():
    frames, first = random_video(8)
    setting = PropagationSetting(temperature=1e-3)
    for (soft,) in propagate_labels(iter(frames.float()), first, [setting]):
        torch.testing.assert_close(soft.sum(0), torch.ones(7, 9))


def test_it_needs_neither_mmcv_nor_mmdet():
    """A machine without them imports and registers it; multi-object tracking alone needs them."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('mmcv', 'mmdet', 'mmseg')))\n"
        "import pe_dense.tracking\n"
        "from mmengine.registry import DATASETS, METRICS, MODELS\n"
        "print(MODELS.get('VideoPropagator'), DATASETS.get('DavisVideos'),"
        " METRICS.get('VideoObjectMetric'), MODELS.get('DenseBackbone'))\n"
        "try:\n    import pe_dense.tracking.mot\n"
        "except ImportError as error:\n    print('refused', error.name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    registered, refused = done.stdout.splitlines()
    assert registered.count("<class 'pe_dense.") == 4
    assert refused.startswith("refused mm")  # so the block works


def test_label_map_at_image_size():
    soft = torch.zeros(2, 2, 2)
    soft[1, :, 1], soft[0, :, 0] = 0.4, 1.0
    # Straight upsampling over 4 columns: 1, .75, .25, 0 against 0, .1, .3, .4.
    straight = label_map_from_soft(soft, (2, 4), stretch=False)
    assert straight.tolist() == [[0, 0, 1, 1]] * 2
    assert label_map_from_soft(soft * torch.tensor([1, 0.5])[:, None, None], (2, 4), stretch=False)[
        0
    ].tolist() == [0, 0, 0, 1]
    assert label_map_from_soft(soft, (4, 8), patch_size=2).shape == (4, 8)
    # Background everywhere: nothing to stretch, and background wins.
    alone = torch.stack([torch.ones(2, 2), torch.zeros(2, 2)])
    assert not label_map_from_soft(alone, (4, 4), patch_size=2).any()


def test_labels_on_grid():
    label_map = np.zeros((4, 6), np.uint8)
    label_map[:2, :2], label_map[2:, 4:] = 2, 255
    labels = labels_on_grid(label_map, (2, 3), num_labels=4)
    assert labels.shape == (4, 2, 3)
    assert labels.argmax(0).tolist() == [[2, 0, 0], [0, 0, 0]]
    assert (labels.sum(0) == 1).all()


def test_bad_input():
    frames, first = random_video(9)
    for values, word in (
        (dict(last_frames=-1), "last_frames"),
        (dict(radius=-1), "radius"),
        (dict(topk=0), "topk"),
        (dict(temperature=0.0), "temperature"),
        (dict(temperature=float("nan")), "temperature"),
        (dict(neighbourhood="disk"), "neighbourhood"),
    ):
        with pytest.raises(ValueError, match=word):
            PropagationSetting(**values)
    with pytest.raises(ValueError, match="settings is empty"):
        propagate_labels(frames, first, [])
    with pytest.raises(ValueError, match="tile_hw"):
        propagate_labels(frames, first, [PropagationSetting()], (0, 3))
    with pytest.raises(ValueError, match="its labels"):
        next(propagate_labels(frames, first[:, :2], [PropagationSetting()]))
    with pytest.raises(ValueError, match="frame 1 has shape"):
        next(propagate_labels([frames[0], frames[1][:3]], first, [PropagationSetting()]))
    frames[2, 1, 1] = torch.nan
    with pytest.raises(ValueError, match="frame 2 hold nan"):
        list(propagate_labels(frames, first, [PropagationSetting()]))
    with pytest.raises(ValueError, match="uint8"):
        labels_on_grid(np.zeros((2, 2), np.int64), (1, 1))
    with pytest.raises(ValueError, match="at least 4"):
        labels_on_grid(np.full((2, 2), 3, np.uint8), (1, 1), num_labels=3)
    with pytest.raises(ValueError, match="soft labels"):
        label_map_from_soft(torch.zeros(0, 2, 2), (2, 2))
