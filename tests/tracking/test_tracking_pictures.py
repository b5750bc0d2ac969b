"""Pictures of tracked videos: files that can be read, stable colours, both sides, short videos."""

import cv2
import numpy as np
import pytest
from PIL import Image

from pe_dense.pictures.boxes import Boxes
from pe_dense.pictures.colours import id_colour
from pe_dense.tracking.pictures import FrameView, VideoView, frame_picture, write_pictures

GREY = np.full((64, 96, 3), 128, np.uint8)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "frame.png"
    Image.fromarray(GREY).save(path)
    return path


def square(identity, top, left, side=24):
    labels = np.zeros((64, 96), np.uint8)
    labels[top : top + side, left : left + side] = identity
    return labels


def video(image, length):
    frames = [FrameView(image, square(1, 10, 2 * t), square(1, 12, 2 * t)) for t in range(length)]
    return VideoView("clip", "J&F 0.500", frames)


@pytest.mark.parametrize("length", [1, 2, 9])
def test_files_are_readable_and_as_long_as_the_video(tmp_path, image, length):
    lines = write_pictures(tmp_path / "out", [video(image, length)])
    assert lines[0].startswith("J&F 0.500  clip")
    assert (tmp_path / "out" / "index.txt").read_text() == lines[0] + "\n"
    with Image.open(tmp_path / "out" / "001_clip.gif") as gif:
        assert getattr(gif, "n_frames", 1) == length
        size = gif.size
    with Image.open(tmp_path / "out" / "001_clip.png") as sheet:
        sheet.load()
    mp4 = tmp_path / "out" / "001_clip.mp4"
    if mp4.is_file():
        found = cv2.VideoCapture(str(mp4))
        assert int(found.get(cv2.CAP_PROP_FRAME_COUNT)) == length
        assert abs(found.get(cv2.CAP_PROP_FRAME_WIDTH) - size[0]) <= 1


def test_truth_is_left_and_prediction_right(image):
    box = Boxes(np.array([[20.0, 20.0, 60.0, 50.0]]), np.array([2]))
    nothing = Boxes(np.zeros((0, 4)), np.zeros(0, int))
    left = frame_picture(FrameView(image, box, nothing), "", 96)
    right = frame_picture(FrameView(image, nothing, box), "", 96)

    def where(picture):
        hits = np.argwhere((picture == id_colour(2)).all(axis=2))
        return hits[:, 1].mean() / picture.shape[1]

    assert where(left) < 0.5 < where(right)


def test_missing_truth_is_said(image):
    nothing = frame_picture(FrameView(image, None, square(1, 5, 5)), "")
    both = frame_picture(FrameView(image, square(1, 5, 5), square(1, 5, 5)), "")
    assert nothing.shape == both.shape and not np.array_equal(nothing, both)


def test_bad_input_is_refused(tmp_path, image):
    with pytest.raises(ValueError, match="no video"):
        write_pictures(tmp_path / "a", [])
    with pytest.raises(ValueError, match="no frame"):
        write_pictures(tmp_path / "b", [VideoView("clip", "", [])])
    with pytest.raises(ValueError, match="not an empty folder"):
        write_pictures(tmp_path, [video(image, 1)])
    missing = FrameView(tmp_path / "none.png", None, None)
    with pytest.raises(ValueError, match=r"none\.png is missing"):
        frame_picture(missing, "")
