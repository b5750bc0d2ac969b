"""Counting kernels, through Triton's interpreter, against the scores that a CPU makes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from interpreted_kernels import interpreted  # noqa: F401 (a fixture)

from pe_dense.tracking.label_maps import device_label_maps, label_map_from_soft
from pe_dense.tracking.region_and_boundary import frame_scores


@pytest.fixture
def on_gpu(interpreted, monkeypatch):  # noqa: F811
    """Blocks so small that a picture has several."""
    from pe_dense.tracking import scores_on_gpu

    monkeypatch.setattr(scores_on_gpu, "BLOCK", 64)
    return scores_on_gpu


def check(on_gpu, annotation: np.ndarray, labels: np.ndarray, objects: int, radius: int) -> None:
    maps = [torch.from_numpy(np.ascontiguousarray(m, np.uint8)) for m in (annotation, labels)]
    found = on_gpu.scores_from_counts(
        on_gpu.pixel_counts(maps[0][None], maps[1][None], objects, radius).numpy()
    )[0]
    expected = np.stack(frame_scores(annotation, labels, objects, radius), axis=1)
    assert np.array_equal(found, expected)  # to the last digit


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_counts_of_blobs_and_of_noise(on_gpu, radius):
    random = np.random.default_rng(radius)
    annotation = np.zeros((11, 17), np.uint8)
    annotation[2:7, 3:9], annotation[6:11, 10:17] = 1, 2
    check(on_gpu, annotation, np.roll(annotation, (1, 2), (0, 1)), 3, radius)
    noise = random.integers(0, 4, (9, 13)).astype(np.uint8)
    check(on_gpu, noise, random.integers(0, 4, (9, 13)).astype(np.uint8), 3, radius)


def test_empty_and_full_masks(on_gpu):
    empty, full = np.zeros((6, 8), np.uint8), np.ones((6, 8), np.uint8)
    part = empty.copy()
    part[1:3, 2:5] = 1
    void = np.where(part == 1, part, np.uint8(255))
    for annotation, labels in (
        (empty, empty), (full, full), (empty, full), (full, part), (part, empty), (void, part),
    ):  # fmt: skip
        check(on_gpu, annotation, labels, 2, 1)


def test_more_than_128_objects(on_gpu):
    annotation = np.full((2, 3), 200, np.uint8)
    check(on_gpu, annotation, annotation[:, ::-1].copy(), 200, 1)


@pytest.mark.parametrize("patch_size", [None, 4, 7, "nearest"])
@pytest.mark.parametrize("stretch", [True, False])
@pytest.mark.parametrize("image_hw", [(20, 28), (23, 31), (9, 40)])
def test_label_maps_that_stay_on_the_device_are_the_same(patch_size, stretch, image_hw):
    soft = torch.rand(2, 4, 5, 7, generator=torch.Generator().manual_seed(0))
    rule = (None, stretch, True) if patch_size == "nearest" else (patch_size, stretch, False)
    found = device_label_maps(soft, image_hw, *rule)
    assert found.dtype == torch.uint8
    for labels_HW, soft_Chw in zip(found.numpy(), soft, strict=True):
        expected = label_map_from_soft(soft_Chw, image_hw, *rule)
        assert np.array_equal(labels_HW, expected)


def test_maps_belong_to_the_annotation_of_their_frame(on_gpu):
    random = np.random.default_rng(5)
    annotations = random.integers(0, 3, (2, 5, 6)).astype(np.uint8)
    labels = random.integers(0, 3, (3, 5, 6)).astype(np.uint8)
    tensors = torch.from_numpy(annotations), torch.from_numpy(labels)
    found = on_gpu.scores_from_counts(on_gpu.pixel_counts(*tensors, 2, 1, 1, 2).numpy())
    for b, frame in enumerate((0, 1, 1)):  # maps 1 to 3, two for each frame
        expected = np.stack(frame_scores(annotations[frame], labels[b], 2, 1), axis=1)
        assert np.array_equal(found[b], expected)


def test_masks_of_a_group_are_copied_without_torchs_threads(on_gpu):
    """What a decoder gives cannot be written; frames without a mask are empty."""
    masks = [np.random.default_rng(i).integers(0, 256, (480, 854)).astype(np.uint8) for i in (0, 1)]
    for mask in masks:
        mask.flags.writeable = False
    given = [masks[0], None, masks[1]]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        found = on_gpu.masks_together(given, (480, 854), pin_memory=False)
    used = {event.key for event in seen.key_averages()}
    assert "aten::empty" in used
    assert not used & {"aten::copy_", "aten::fill_", "aten::zero_", "aten::zeros"}
    assert found.dtype == torch.uint8 and not found[1].any()
    assert np.array_equal(found[0], masks[0]) and np.array_equal(found[2], masks[1])


@pytest.mark.parametrize(("limit", "nearest"), [(1, False), (2**25, False), (1, True)])
def test_layers_and_settings_of_a_video_together(on_gpu, tmp_path, monkeypatch, limit, nearest):
    """Against the threads of a CPU: frames without a mask, objects that begin later."""
    pytest.importorskip("mmengine")
    from video_folders import moving_squares, save_video

    from pe_dense.tracking.annotated_video import read_annotated_video
    from pe_dense.tracking.davis_dataset import DavisVideos
    from pe_dense.tracking.frame_scorer import FrameScorer, QueuedScores

    monkeypatch.setattr(on_gpu, "GROUP", 3)
    monkeypatch.setattr(on_gpu, "MAX_VALUES", limit)
    save_video(tmp_path, "a", moving_squares(7, {1: 0, 2: 2}, size=32), "", every=2)
    video = DavisVideos(str(tmp_path), resolution=None, style="youtube")[0]
    annotated = read_annotated_video(video["data_samples"].metainfo)
    scorer = FrameScorer(annotated, None, nearest, None, nearest)
    soft_TLSChw = torch.rand(6, 2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    with ThreadPoolExecutor(2) as pool:
        queues = QueuedScores(scorer, pool, 1), on_gpu.GpuScores(scorer, pool, 2)
        for t, soft_LSChw in enumerate(soft_TLSChw, start=1):
            for queue in queues:
                queue.add(t, [list(soft_SChw) for soft_SChw in soft_LSChw])
        expected, found = (queue.finish() for queue in queues)
    assert [scores is None for scores in found] == [True, False] * 3
    for ours, theirs in zip(found[1::2], expected[1::2], strict=True):
        assert ours.shape == (2, 2, 2, 2)
        assert np.array_equal(ours, theirs, equal_nan=True)
    assert np.isnan(found[1][..., 1, :]).all() and np.isfinite(found[3]).all()
