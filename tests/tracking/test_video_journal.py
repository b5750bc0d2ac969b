"""What a journal knows a video by: the bytes of its files, whatever their times say."""

from __future__ import annotations

import os

import pytest

from pe_dense.tracking.video_journal import VideoJournal, video_key


@pytest.fixture
def video(tmp_path):
    for name in ("0.jpg", "1.jpg", "0.png"):
        (tmp_path / name).write_bytes(name.encode())
    frames = (str(tmp_path / "0.jpg"), str(tmp_path / "1.jpg"))
    about = dict(video="bear", style="davis", purpose="report", scored=True, bits=None)
    return {**about, "frame_paths": frames, "mask_paths": (str(tmp_path / "0.png"), None)}


def test_other_bytes_of_the_same_size_and_time_are_another_video(video, tmp_path):
    before, frame = video_key(video), tmp_path / "1.jpg"
    times = (frame.stat().st_atime_ns, frame.stat().st_mtime_ns)
    frame.write_bytes(b"2.jpg")
    os.utime(frame, ns=times)
    after = video_key(video)
    assert after != before
    journal = VideoJournal(tmp_path / "journal", "key")
    journal.write("bear", before, {"scores": [1]})
    assert journal.read("bear", before) == {"scores": [1]}
    with pytest.raises(ValueError, match="was written for other frames or masks of 'bear'"):
        journal.read("bear", after)


def test_a_copy_is_the_same_video(video, tmp_path):
    before = video_key(video)
    for path in video["frame_paths"]:
        os.utime(path, (1, 1))
    assert video_key(video) == before


def test_a_journal_of_other_code_or_weights_is_refused(tmp_path):
    VideoJournal(tmp_path / "journal", "key")
    with pytest.raises(ValueError, match="with another encoder, protocol, setting or code"):
        VideoJournal(tmp_path / "journal", "other")
