"""Masks passed on frame by frame equal those of the test of a whole video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mmengine")

from video_folders import SIZE, ColourEncoder, moving_squares, save_video

from pe_dense.tracking.davis_dataset import DavisVideos
from pe_dense.tracking.frames import read_frame, read_label_map
from pe_dense.tracking.mask_stream import stream_masks
from pe_dense.tracking.video_propagator import VideoPropagator, middle_block

SETTING = dict(last_frames=2, radius=3, topk=3, temperature=0.1)
RULES = [
    dict(size_rule="dinov3", short_side=SIZE // 4 - 1, upsample="image", stretch=False),
    dict(size_rule="pixels", short_side=SIZE, upsample="nearest", stretch=True),
    dict(size_rule="dino", short_side=64, upsample="patch", stretch=True),
]


def propagator(**options) -> VideoPropagator:
    return VideoPropagator(ColourEncoder(), 2, **{"settings": [SETTING], "layers": [0], **options})


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["size_rule"])
def test_the_stream_gives_what_a_test_of_the_video_writes(tmp_path: Path, rule: dict) -> None:
    maps = moving_squares(9, {1: 0, 3: 0}, 64)
    maps[0][40:42, 40:42] = 255  # void
    save_video(tmp_path, "clip", maps)
    [item] = list(DavisVideos(str(tmp_path), resolution="480p"))
    model = propagator(**rule, results_dir=str(tmp_path / "out"))
    model.propagate(item["data_samples"].metainfo)
    paths = sorted((tmp_path / "JPEGImages/480p/clip").iterdir())

    found = list(stream_masks(propagator(**rule), map(read_frame, paths), maps[0]))

    written = [read_label_map(p) for p in sorted((tmp_path / "out/clip").iterdir())]
    assert len(found) == len(written) == 9
    assert (found[5] == 3).any()
    for one, other in zip(found, written, strict=True):
        np.testing.assert_array_equal(one, other)


def test_frames_are_taken_as_they_are_needed() -> None:
    taken = []

    def images():
        for t, labels_HW in enumerate(moving_squares(40, {1: 0}, SIZE)):
            taken.append(t)
            yield np.stack([labels_HW * 200] * 3, axis=2)

    first_HW = moving_squares(1, {1: 0})[0]
    stream = stream_masks(propagator(batch_size=3, **RULES[1]), images(), first_HW)
    for _ in range(5):
        next(stream)
    assert len(taken) <= 6


def test_what_cannot_be_passed_on_is_refused() -> None:
    frame = np.zeros((SIZE, SIZE, 3), np.uint8)
    empty, void = np.zeros((SIZE, SIZE), np.uint8), np.full((SIZE, SIZE), 255, np.uint8)
    for mask in (empty, void):
        with pytest.raises(ValueError, match="no object"):
            next(stream_masks(propagator(), [frame], mask))
    small = np.ones((8, 8), np.uint8)
    with pytest.raises(ValueError, match="has 8 x 8 px, the frames 48 x 48"):
        list(stream_masks(propagator(), [frame, frame], small))
    with pytest.raises(ValueError, match="not 2 x 1"):
        next(stream_masks(propagator(layers="all"), [frame], small))


def test_the_middle_block_is_one() -> None:
    assert propagator(layers="middle").layers == (middle_block(2),) == (0,)
    with pytest.raises(ValueError, match="'middle'"):
        propagator(layers="last")
