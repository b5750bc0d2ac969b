"""Frames and masks: sizes by the rules of the papers, files that are not what they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mmengine")

from pe_dense.tracking.frames import (
    frame_batches,
    network_size,
    read_frame,
    read_label_map,
    resize_frame,
    write_label_map,
)


@pytest.mark.parametrize(
    ("native", "patch", "rule", "short", "expected"),
    [
        ((480, 854), 16, "dino", 480, (480, 832)),  # the size that DINO's script gives
        ((480, 854), 8, "dino", 480, (480, 832)),
        ((854, 480), 16, "dino", 480, (832, 480)),
        ((1080, 1920), 16, "dino", 480, (480, 832)),
        ((480, 480), 16, "dino", 480, (480, 448)),  # the script makes squares narrower
        ((480, 854), 14, "dino", 480, (476, 826)),
        ((480, 854), 16, "dinov3", 60, (960, 60 * 16 * 107 // 60)),  # 60 x 107 tokens, the paper's
        ((480, 854), 14, "dinov3", 69, (966, 1722)),
        ((480, 854), 16, "pixels", 960, (960, 1712)),
        ((854, 480), 14, "pixels", 960, (1722, 966)),  # both sides are rounded up
        ((480, 854), 16, "pixels", 448, (448, 800)),
        ((480, 854), 14, "pixels", 448, (448, 798)),
        ((256, 256), 16, "dinov3", 16, (256, 256)),
        ((854, 480), 16, "dinov3", 30, (864, 480)),
    ],
)
def test_sizes(native: tuple, patch: int, rule: str, short: int, expected: tuple) -> None:
    found = network_size(native, patch, rule, short)
    assert found == expected
    assert found[0] % patch == found[1] % patch == 0


def test_sizes_that_are_none() -> None:
    with pytest.raises(ValueError, match="size rule 'other' is unknown"):
        network_size((480, 854), 16, "other", 480)
    with pytest.raises(ValueError, match="less than a patch of 16"):
        network_size((480, 854), 16, "dino", 8)


def test_dino_does_not_antialias_and_dinov3_does() -> None:
    stripes = np.zeros((8, 64, 3), np.uint8)
    stripes[:, ::8] = 255
    assert set(np.unique(resize_frame(stripes, (8, 8), "dino"))) == {0}
    assert 16 < resize_frame(stripes, (8, 8), "dinov3").mean() < 48  # an eighth of 255


def test_label_maps_come_back_as_written(tmp_path: Path) -> None:
    labels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    path = tmp_path / "new" / "00000.png"
    write_label_map(path, labels)
    assert np.array_equal(read_label_map(path), labels)
    with Image.open(path) as image:
        assert image.mode == "P"
        # The colours that the DAVIS tools know: red, green, yellow for objects 1, 2, 3.
        assert image.getpalette()[3:12] == [128, 0, 0, 0, 128, 0, 128, 128, 0]
    assert [p.name for p in path.parent.iterdir()] == ["00000.png"]


def test_grey_masks_are_read_only_if_they_hold_ids(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    ids = np.array([[0, 1, 2], [14, 255, 0]], np.uint8)
    Image.fromarray(ids).save(path)
    assert np.array_equal(read_label_map(path), ids)
    Image.fromarray(np.array([[0, 38, 75]], np.uint8)).save(path)  # palette turned into grey
    with pytest.raises(ValueError, match=r"m\.png has no palette and the value 75"):
        read_label_map(path)
    Image.fromarray(np.array([[0, 255]], np.uint8)).save(path)
    with pytest.raises(ValueError, match="only the values 0 and 255"):
        read_label_map(path)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "1", "I;16"])
def test_masks_of_colours_are_refused(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "m.png"
    Image.new(mode, (4, 4)).save(path)
    with pytest.raises(ValueError, match="not object ids; save it as an indexed PNG"):
        read_label_map(path)


def test_broken_files(tmp_path: Path) -> None:
    good = tmp_path / "good.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(good)
    half = tmp_path / "half.jpg"
    half.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    empty = tmp_path / "empty.png"
    empty.write_bytes(b"")
    assert read_frame(good).shape == (64, 64, 3)
    for path in (half, empty):
        with pytest.raises(ValueError, match=f"{path.name} cannot be decoded"):
            read_frame(path)
    with pytest.raises(ValueError, match=r"mask .*empty\.png cannot be decoded"):
        read_label_map(empty)
    with pytest.raises(ValueError, match=r"frame .*absent\.jpg is missing"):
        read_frame(tmp_path / "absent.jpg")
    with pytest.raises(ValueError, match=r"mask .*absent\.png is missing"):
        read_label_map(tmp_path / "absent.png")


def test_frames_arrive_in_order_and_normalised(tmp_path: Path) -> None:
    paths = []
    for t in range(5):
        paths.append(tmp_path / f"{t}.png")
        Image.new("RGB", (6, 4), (t, 10, 255)).save(paths[-1])
    options = dict(native_hw=(4, 6), size_hw=(4, 6), rule="dino", mean=(0, 0, 1), std=(1, 0.5, 1))
    batches = list(frame_batches(paths, **options, batch_size=2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    values = [frame[:, 0, 0].tolist() for batch in batches for frame in batch]
    assert values == [pytest.approx([t / 255, 20 / 255, 0.0], abs=1e-7) for t in range(5)]
    options["native_hw"] = (4, 4)
    with pytest.raises(
        ValueError, match=r"0\.png has 4 x 6 px, the first frame of the video 4 x 4"
    ):
        list(frame_batches(paths, **options, batch_size=2))
