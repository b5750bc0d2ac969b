"""Videos with masks as people bring them: the right number, a note, or one sentence."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mmengine")

from video_folders import ColourEncoder, moving_squares, save_indexed, save_split, save_video

from pe_dense.data.checks.rules import CheckedData, problems, require_sound
from pe_dense.tracking import copied_clips, frame_files, video_check
from pe_dense.tracking.davis_dataset import DavisVideos
from pe_dense.tracking.video_propagator import VideoPropagator


def checked(root: Path, **options) -> CheckedData:
    dataset = dict(type="DavisVideos", data_root=str(root), resolution="480p", **options)
    return video_check.check_config({"test_dataloader": {"dataset": dataset}}, ("test",))


def refusal(root: Path, **options) -> str:
    with pytest.raises(ValueError) as error:
        require_sound(checked(root, **options).findings)
    assert str(root) in str(error.value)
    return str(error.value)


def notes(found: CheckedData) -> dict[str, int]:
    return {finding.rule.name: finding.count for finding in found.findings}


def cells(found: CheckedData) -> dict[str, list[str]]:
    return {
        line.split("  ")[0]: line.replace("to choose on", "").replace("to report", "").split()
        for line in found.table.splitlines()
    }


def renamed(folder: Path, new_name) -> None:
    """Give the files of a folder other names, from their place."""
    shutil.move(folder, f"{folder}-before")
    folder.mkdir()
    for t, file in enumerate(sorted(Path(f"{folder}-before").iterdir())):
        shutil.move(file, folder / new_name(t, file.suffix))
    Path(f"{folder}-before").rmdir()


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """Two objects in twelve frames, so that numbers have one and two digits."""
    maps = moving_squares(12, {1: 0, 2: 0}, size=64)
    save_video(tmp_path, "a", maps)
    return tmp_path


def places(root: Path, video: str = "a") -> tuple[Path, Path]:
    return root / "JPEGImages/480p" / video, root / "Annotations/480p" / video


def scores(root: Path, **options) -> dict:
    settings = [dict(last_frames=2, radius=4, topk=3, temperature=0.1)]
    sizes = dict(size_rule="dinov3", short_side=16, upsample="image", stretch=False)
    model = VideoPropagator(ColourEncoder(), 2, settings, layers=[0], **sizes)
    item = DavisVideos(str(root), resolution="480p", **options).get_data_info(0)
    return model.propagate(item)


# Frames are numbers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        lambda t, suffix: f"{t + 1}{suffix}",
        lambda t, suffix: f"clip2_frame{t + 1}{suffix}",
        lambda t, suffix: f"{t // 5}_{t % 5}{suffix.upper()}",
    ],
)
def test_names_without_zeros_give_the_numbers_of_names_with_zeros(one: Path, name) -> None:
    """'ffmpeg %d.jpg' (cvat-ai/cvat 3270, roboflow/trackers 558), names with more than a number
    (facebookresearch/sam2 170), minutes and seconds."""
    expected = scores(one)["statistics"]
    for folder in places(one):
        renamed(folder, name)
    assert np.array_equal(scores(one)["statistics"], expected)
    assert not checked(one).findings


def test_masks_belong_to_frames_by_number(one: Path) -> None:
    expected = scores(one)["statistics"]
    renamed(places(one)[0], lambda t, suffix: f"frame_{t}{suffix}")
    assert np.array_equal(scores(one)["statistics"], expected)
    renamed(places(one)[1], lambda t, suffix: f"{t + 1:05d}{suffix}")
    assert "00012.png has no frame of its number" in refusal(one)


@pytest.mark.parametrize("second", ["3.png", "00003.jpeg", "003.PNG"])
def test_two_files_for_a_frame(one: Path, second: str) -> None:
    """hkchengrex/XMem 133: extracted twice into one folder, frames repeat."""
    frames, _ = places(one)
    (frames / "00003.png").rename(frames / "0003.png")
    shutil.copy(frames / "0003.png", frames / second)
    assert "two files for frame 3; remove one" in refusal(one)


@pytest.mark.parametrize(
    ("name", "words"),
    [("cover.png", "not called alike"), ("b00004.png", "not called alike")],
)
def test_a_file_among_the_frames_whose_time_is_unknown(one: Path, name: str, words: str) -> None:
    shutil.copy(places(one)[0] / "00003.png", places(one)[0] / name)
    assert words in refusal(one)


def test_names_without_numbers(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "start.png")
    with pytest.raises(ValueError, match=r"start\.png has no number in its name"):
        frame_files.frame_files(tmp_path)


def test_hidden_files_and_others_do_not_count(one: Path) -> None:
    (places(one)[0] / "._00003.png").write_bytes(b"left by macOS")
    (places(one)[0] / "Thumbs.db").write_bytes(b"left by Windows")
    assert not checked(one).findings


def test_gaps_are_said(one: Path) -> None:
    for folder in places(one):
        (folder / "00004.png").unlink()
    found = checked(one)
    assert notes(found) == {"frame-gaps": 1} and not problems(found.findings)
    assert "goes from frame 3 to 5" in str(found.findings[0].examples[0])


# Objects ----------------------------------------------------------------------------------------


def test_the_table(tmp_path: Path) -> None:
    maps = moving_squares(4, {1: 0, 2: 2})
    maps[1][:24] = 255
    save_video(tmp_path, "a", maps)
    save_video(tmp_path, "b", moving_squares(5, {3: 0}))
    for split, video in (("train", "a"), ("val", "b")):
        save_split(tmp_path, split, [video])
    lists = {split: f"ImageSets/2017/{split}.txt" for split in ("train", "val")}
    found = checked(tmp_path, split_file=lists["val"], selection=dict(split_file=lists["train"]))
    assert cells(found)["to choose on"] == ["1", "4", "4", "2", "1", "12.5%"]
    assert cells(found)["to report"] == ["1", "5", "5", "1", "1", "0.0%"]
    assert notes(found) == {"late-objects": 1}


@pytest.mark.parametrize("ids", [(1, 5), (2, 200)])
def test_ids_that_no_object_has_are_no_objects(one: Path, ids: tuple[int, int]) -> None:
    """Absent ids score 1 in every frame and lift the mean; ids are names, not a range."""
    expected = scores(one)
    for file in places(one)[1].iterdir():
        labels_HW = np.asarray(Image.open(file))
        save_indexed(file, np.array([0, *ids], np.uint8)[labels_HW])
    found = scores(one)
    assert found["objects"] == tuple(map(str, ids))
    assert np.array_equal(found["statistics"], expected["statistics"])
    assert cells(checked(one))["to report"][3:5] == ["2", "2"]


def test_objects_that_appear_later_by_style(tmp_path: Path) -> None:
    save_video(tmp_path, "a", moving_squares(6, {1: 0, 2: 3, 3: 5}, size=64))
    davis, youtube = checked(tmp_path), checked(tmp_path, style="youtube")
    assert notes(davis) == {"late-objects": 2} and notes(youtube) == {"unscored-objects": 1}
    assert cells(davis)["to report"][3:5] == ["3", "1"]
    assert cells(youtube)["to report"][3:5] == ["3", "2"]
    assert scores(tmp_path, style="youtube")["objects"] == ("1", "2")


def test_a_first_frame_without_objects(tmp_path: Path) -> None:
    save_video(tmp_path, "a", moving_squares(6, {1: 2}, size=64))
    assert "00000.png: has no object" in refusal(tmp_path)
    assert cells(checked(tmp_path, style="youtube"))["to report"][3:5] == ["1", "1"]


def test_objects_saved_as_255_are_void(one: Path) -> None:
    """davisvideochallenge/davis2017-evaluation 4, hkchengrex/STCN 30: masks of DAVIS 2016."""
    for file in places(one)[1].iterdir():
        save_indexed(file, np.where(np.asarray(Image.open(file)) > 0, 255, 0).astype(np.uint8))
    text = refusal(one)
    assert "00000.png: has no object; the video's masks hold 255, which means void" in text


def test_an_object_given_in_the_last_mask_alone(tmp_path: Path) -> None:
    save_video(tmp_path, "a", moving_squares(6, {1: 5}, size=64))
    assert "1 videos to report have none; annotate objects in frames after" in refusal(
        tmp_path, style="youtube"
    )


# Masks ------------------------------------------------------------------------------------------


def test_ids_that_change_colour(one: Path) -> None:
    """NVIDIA/DIGITS 1676: tools that make a palette for each picture number colours anew."""
    file = places(one)[1] / "00007.png"
    labels_HW = np.asarray(Image.open(file))
    picture = Image.fromarray(np.array([0, 2, 1], np.uint8)[labels_HW])
    grey = bytes(range(256)) * 3
    picture.putpalette([*grey[:3], *grey[6:9], *grey[3:6], *grey[9:]])
    picture.save(file)
    text = refusal(one)
    assert "00007.png: has id 1 in colour (6, 7, 8)" in text and "--accept palette" in text
    assert require_sound(checked(one).findings, ["palette"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (Image.new("RGB", (64, 64)), "mode RGB"),
        (Image.fromarray(np.full((64, 64), 300, np.uint16)), "whose values are not object ids"),
        (Image.fromarray(np.full((64, 64), 75, np.uint8)), "no palette and the value 75"),
        (b"", "cannot be decoded"),
    ],
)
def test_masks_that_hold_no_ids(one: Path, content, words: str) -> None:
    file = places(one)[1] / "00011.png"
    content.save(file) if isinstance(content, Image.Image) else file.write_bytes(content)
    text = refusal(one)
    assert words in text and "00011.png" in text


def test_a_mask_with_loss(one: Path) -> None:
    file = places(one)[1] / "00004.png"
    Image.open(file).convert("RGB").save(file.with_suffix(".jpg"))
    file.unlink()
    assert "00004.jpg is no PNG; save it as an indexed PNG" in refusal(one)


def test_sizes(one: Path) -> None:
    frames, masks = places(one)
    save_indexed(masks / "00011.png", np.ones((64, 32), np.uint8))
    assert "00011.png: has 64 x 32 px, the first mask of the video 64 x 64" in refusal(one)
    save_indexed(masks / "00011.png", np.ones((64, 64), np.uint8))
    Image.new("RGB", (64, 32)).save(frames / "00009.png")
    assert "00009.png: has 32 x 64 px, the first mask of the video 64 x 64" in refusal(one)
    (frames / "00009.png").write_bytes(b"no picture")
    assert "00009.png cannot be decoded" in refusal(one)


def test_frames_are_read_as_stored_like_their_masks(tmp_path: Path) -> None:
    maps = [labels_HW[:32] for labels_HW in moving_squares(6, {1: 0}, size=64)]
    save_video(tmp_path, "a", maps)
    expected, exif = scores(tmp_path)["statistics"], Image.Exif()
    exif[0x0112] = 6
    for file in places(tmp_path)[0].iterdir():
        Image.open(file).save(file, exif=exif)
    assert np.array_equal(scores(tmp_path)["statistics"], expected)
    assert notes(checked(tmp_path)) == {"turned-images": 6}


# Copies -----------------------------------------------------------------------------------------


def test_a_video_in_both_splits_under_another_name(tmp_path: Path) -> None:
    save_video(tmp_path, "a", moving_squares(8, {1: 0}, size=64))
    save_video(tmp_path, "b", moving_squares(8, {1: 0}, size=64)[3:])  # a part of the first
    save_video(tmp_path, "c", moving_squares(8, {2: 0}, size=64))
    text = refusal(tmp_path)
    assert "b/00000.png: is the same picture as" in text and "a/00003.png" in text
    assert notes(checked(tmp_path)) == {"copied-frames": 1}


def test_pictures_that_repeat_are_no_copies(tmp_path: Path) -> None:
    clips = {}
    for name, t in itertools.product("ab", range(4)):
        clips.setdefault(name, []).append(tmp_path / f"{name}{t}")
        clips[name][-1].write_bytes(b"black")
    assert copied_clips.copied_clips(clips) == []


def test_what_changed_is_looked_at_again(one: Path) -> None:
    assert not checked(one).findings
    save_indexed(places(one)[1] / "00011.png", np.ones((64, 32), np.uint8))
    assert "64 x 32" in refusal(one)


def test_frames_of_12_bits_in_16_score_like_their_8_bits(one: Path) -> None:
    plain = scores(one)
    for file in (one / "JPEGImages/480p").rglob("*.png"):
        pixels = np.asarray(Image.open(file)).astype(np.uint32) * 4095 // 255
        cv2.imwrite(str(file), pixels.astype(np.uint16)[..., ::-1])
    assert "image_bits=12" in refusal(one)
    deep = scores(one, bits=12)
    np.testing.assert_array_equal(deep["statistics"], plain["statistics"])
    assert checked(one, bits=12).findings[0].examples[0].value.endswith("white is 4095")
