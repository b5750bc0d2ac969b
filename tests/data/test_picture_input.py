"""What the towers see: squash and crop against torchvision's rule, frames of a video by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pe_dense.data.picture_input import fitted, tower_input
from pe_dense.zero_shot.video_frames import chosen_frames, read_frames


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_squash_keeps_all_and_crop_keeps_the_middle():
    picture = noise(40, 100)
    squashed = np.asarray(Image.fromarray(picture).resize((20, 20), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(fitted(picture, 20, "squash"), squashed)
    # 40 -> 20 rows, 100 -> 50 columns, of which 15 on either side go
    whole = np.asarray(Image.fromarray(picture).resize((50, 20), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(fitted(picture, 20, "crop"), whole[:, 15:35])
    standing = fitted(picture.swapaxes(0, 1), 20, "crop")
    np.testing.assert_array_equal(standing, whole[:, 15:35].swapaxes(0, 1))


def test_crop_has_the_sizes_of_torchvisions_rule():
    """The long side is cut to whole pixels; half a pixel of offset goes to the even one."""
    picture = noise(30, 47)  # 20 x 31.33
    whole = np.asarray(Image.fromarray(picture).resize((31, 20), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(fitted(picture, 20, "crop"), whole[:, 6:26])  # 5.5 -> 6


def test_numbers_of_the_tower():
    black_white = [np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)]
    found = tower_input(black_white, (0.5, 0.5, 0.5), (0.5, 0.5, 0.25))
    assert found.shape == (2, 3, 2, 2) and found.dtype == torch.float32
    assert found[0, :, 0, 0].tolist() == [-1, -1, -2] and found[1, :, 1, 1].tolist() == [1, 1, 2]


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="fit='pad' is unknown"):
        fitted(noise(4, 4), 2, "pad")
    with pytest.raises(ValueError, match="shows nothing"):
        fitted(np.zeros((0, 4, 3), np.uint8), 2, "squash")
    with pytest.raises(ValueError, match="no frame"):
        chosen_frames(0)
    with pytest.raises(ValueError, match="0 frames"):
        chosen_frames(5, 0)


@pytest.mark.parametrize("total", [1, 2, 7, 8, 9, 250, 301])
def test_frames_go_from_the_first_to_the_last(total):
    found = chosen_frames(total)
    assert len(found) == 8 and found[0] == 0 and found[-1] == total - 1
    assert found == sorted(found)
    assert found == [int(i * (total - 1) / 7) for i in range(8)]


@pytest.fixture
def video(tmp_path):
    """21 frames, each of one grey: its number times 10."""
    av = pytest.importorskip("av")
    path = tmp_path / "grey.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width = stream.height = 16
        stream.pix_fmt = "bgr0"
        for number in range(21):
            grey = np.full((16, 16, 3), number * 10, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def test_frames_of_a_file_are_those_that_were_chosen(video):
    """A Matroska file does not say how many frames it has: they are counted first."""
    frames = read_frames(video)
    assert [int(frame[0, 0, 0]) // 10 for frame in frames] == [0, 2, 5, 8, 11, 14, 17, 20]
    (middle,) = read_frames(video, 1)
    assert int(middle[0, 0, 0]) == 100


def test_a_video_that_cannot_be_read_is_an_error(video, tmp_path):
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(video.read_bytes()[:-300])
    with pytest.raises(ValueError, match=r"cut\.mkv"):
        read_frames(cut)
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty\.mp4"):
        read_frames(tmp_path / "empty.mp4")
    with pytest.raises(ValueError, match=r"missing\.mp4 does not exist"):
        read_frames(tmp_path / "missing.mp4")
    with pytest.raises(ValueError, match="does not end as video files do"):
        read_frames(tmp_path / "a.txt")
