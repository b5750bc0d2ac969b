"""A person's folder of videos: layouts, what is scored, what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mmengine")
pytest.importorskip("av")

from runs import evaluate
from video_folders import COLOURS, moving_squares, save_indexed

from pe_dense.predict.video_mp4 import Mp4File
from pe_dense.results.store import load_records
from pe_dense.tracking.frames import read_frame, read_label_map
from pe_dense.tracking.own_layout import find_clips
from pe_dense.tracking.own_video_facts import check_config, facts
from pe_dense.tracking.own_videos import OwnVideos

CONFIG = str(Path(__file__).resolve().parents[2] / "configs/tracking/vos_custom.py")
MAPS = moving_squares(5, {1: 0, 2: 0})


def save_frames(folder: Path, maps=MAPS, suffix=".png", first=0, prefix="") -> None:
    folder.mkdir(parents=True)
    for t, labels_HW in enumerate(maps, start=first):
        Image.fromarray(COLOURS[labels_HW]).save(folder / f"{prefix}{t:05d}{suffix}")


def save_masks(folder: Path, maps=MAPS, first=0) -> None:
    for t, labels_HW in enumerate(maps, start=first):
        save_indexed(folder / f"{t:05d}.png", labels_HW)


def save_mp4(path: Path, maps=MAPS) -> None:
    with Mp4File(path, 10) as video:
        for labels_HW in maps:
            video.add(COLOURS[labels_HW])


def davis(root: Path) -> None:
    save_frames(root / "JPEGImages/480p/a", suffix=".jpg")
    save_masks(root / "Annotations/480p/a")


def without_resolution(root: Path) -> None:
    save_frames(root / "images/a", suffix=".bmp")
    save_masks(root / "masks/a")


def in_the_clip(root: Path) -> None:
    save_frames(root / "a/frames", first=7, prefix="cam2_")
    save_masks(root / "a/masks", first=7)


def one_clip(root: Path) -> None:
    save_frames(root / "frames", suffix=".webp")
    save_masks(root / "Masks")


def loose_frames(root: Path) -> None:
    save_frames(root, suffix=".tif")
    save_masks(root / "masks")


def files_and_masks(root: Path) -> None:
    save_mp4(root / "videos/a.mp4")
    save_masks(root / "masks/a", first=1)  # frames of a file may count from 1


def beside_the_file(root: Path) -> None:
    save_mp4(root / "a.mp4")
    save_masks(root / "a")


def object_folders(root: Path) -> None:
    save_frames(root / "images/a")
    for k in (1, 2):
        folder = root / f"masks/a/object{k}"
        folder.mkdir(parents=True)
        for t, labels_HW in enumerate(MAPS):
            Image.fromarray(np.uint8(255) * (labels_HW == k)).save(folder / f"{t}.png")


@pytest.mark.parametrize(
    "layout",
    [davis, without_resolution, in_the_clip, one_clip, loose_frames, files_and_masks,
     beside_the_file, object_folders],
)  # fmt: skip
def test_each_layout_gives_the_same_clip(tmp_path: Path, layout) -> None:
    root = tmp_path / "a"
    layout(root)
    (root / "notes.txt").write_text("not a clip")

    for _ in range(2):  # what was unpacked once is found again
        data = OwnVideos(str(root))
        [clip] = [data.get_data_info(i) for i in range(len(data))]

    assert (clip["video"], clip["purpose"], clip["style"]) == ("a", "report", "davis")
    for t, labels_HW in enumerate(MAPS):
        np.testing.assert_array_equal(read_label_map(Path(clip["mask_paths"][t])), labels_HW)
        shown = read_frame(Path(clip["frame_paths"][t])).astype(int)
        assert np.abs(shown - COLOURS[labels_HW]).mean() < 12  # of a lossy codec
    assert len(clip["frame_paths"]) == len(clip["mask_paths"]) == 5
    assert data.num_reported == 1


def test_first_masks_alone_are_written_and_not_scored(tmp_path: Path) -> None:
    save_frames(tmp_path / "frames/whole")
    save_masks(tmp_path / "masks/whole")
    save_frames(tmp_path / "frames/first")
    Image.fromarray(np.uint8(255) * (MAPS[0] == 1)).save(tmp_path / "masks/first.png")
    save_frames(tmp_path / "frames/some")
    for t in (1, 4):
        save_indexed(tmp_path / f"masks/some/{t}.png", MAPS[t])

    data = OwnVideos(str(tmp_path))

    clips = {data.get_data_info(i)["video"]: data.get_data_info(i) for i in range(3)}
    assert {name: clip["purpose"] for name, clip in clips.items()} == {
        "first": "write", "some": "report", "whole": "report",
    }  # fmt: skip
    assert {clip["style"] for clip in clips.values()} == {"youtube"}  # not all frames have masks
    assert len(clips["some"]["frame_paths"]) == 4  # from its first mask
    assert read_label_map(Path(clips["first"]["mask_paths"][0])).max() == 1
    assert data.num_reported == 2


def test_lists_folders_and_shares_say_what_chooses_the_layer(tmp_path: Path) -> None:
    for name in "abcde":
        save_frames(tmp_path / f"one/images/{name}")
        save_masks(tmp_path / f"one/masks/{name}")

    def purposes(**options) -> str:
        data = OwnVideos(str(tmp_path / "one"), **options)
        infos = [data.get_data_info(i) for i in range(len(data))]
        return " ".join(f"{info['video']}:{info['purpose'][0]}" for info in infos)

    root = dict(data_root=str(tmp_path / "one"))
    assert purposes() == "a:r b:r c:r d:r e:r"
    assert facts(root)["layers"] == "middle"
    held = purposes(holdout_share=0.4)
    assert held.count(":s") == 2 and held.index(":r") > held.rindex(":s")
    assert facts(root | {"holdout_share": 0.4})["layers"] == "all"
    (tmp_path / "one/few.txt").write_text("b\nd\n")
    assert purposes(split_file="few.txt") == "b:r d:r"
    (tmp_path / "one/train.txt").write_text("c\n")
    assert purposes() == "c:s a:r b:r d:r e:r"
    assert facts(root)["layers"] == "all"

    for split in ("train", "val"):
        save_frames(tmp_path / f"two/{split}/images/{split}1")
        save_masks(tmp_path / f"two/{split}/masks/{split}1")
    assert [(c.name, c.purpose) for c in find_clips(tmp_path / "two")] == [
        ("train1", "select"), ("val1", "report"),
    ]  # fmt: skip


def no_clip(root: Path) -> None:
    root.mkdir(parents=True)
    (root / "readme.txt").write_text("nothing")


def no_mask(root: Path) -> None:
    save_frames(root / "images/a")


def two_of_one_name(root: Path) -> None:
    save_mp4(root / "a.mp4")
    save_mp4(root / "a.mov")


def a_file_and_its_frames(root: Path) -> None:
    save_mp4(root / "videos/a.mp4")
    save_frames(root / "videos/a")
    save_masks(root / "masks/a")


def more_masks_than_frames(root: Path) -> None:
    save_frames(root / "images/a", MAPS[:3])
    save_masks(root / "masks/a")


def broken_video(root: Path) -> None:
    save_mp4(root / "a.mp4")
    content = (root / "a.mp4").read_bytes()
    (root / "a.mp4").write_bytes(content[: len(content) // 2])
    save_indexed(root / "a.png", MAPS[0])


def empty_video(root: Path) -> None:
    root.mkdir(parents=True)
    (root / "a.avi").touch()
    save_indexed(root / "a.png", MAPS[0])


def unlisted(root: Path) -> None:
    davis(root)
    (root / "val.txt").write_text("b\n")


def unnumbered(root: Path) -> None:
    davis(root)
    Image.new("RGB", (48, 48)).save(root / "JPEGImages/480p/a/last.jpg")


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        (no_clip, "holds no clip"),
        (no_mask, r"images/a has no mask; save that of its first frame as .*masks/a\.png"),
        (two_of_one_name, "are two clips of the name 'a'"),
        (a_file_and_its_frames, "are two clips of the name 'a'"),
        (more_masks_than_frames, r"00003\.png has no frame of its number .* 0 to 2 \(5 masks"),
        (broken_video, r"a\.mp4 cannot be decoded"),
        (empty_video, r"a\.avi cannot be decoded"),
        (unlisted, r"val\.txt lists 'b'"),
        (unnumbered, "are not called alike"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_one_sentence(tmp_path: Path, layout, words: str) -> None:
    layout(tmp_path / "d")
    with pytest.raises(ValueError, match=words) as caught:
        OwnVideos(str(tmp_path / "d"))
    assert "\n" not in str(caught.value)


def config_of(root: Path) -> dict:
    return dict(
        test_dataloader=dict(dataset=dict(type="OwnVideos", data_root=str(root))),
        model=dict(layers="middle", encoder_depth=12),
    )


def test_the_check_tells_what_was_found_and_what_is_wrong(tmp_path: Path) -> None:
    root = tmp_path / "d"
    davis(root)
    save_frames(root / "JPEGImages/480p/b")
    save_indexed(root / "Annotations/480p/b/0.png", MAPS[0])
    found = check_config(config_of(root), ("test",))
    lines = found.table.splitlines()
    words = [" ".join(line.split()) for line in lines]
    assert "a 5 48x48 5 2 scored (2 objects)" in words
    assert "b 5 48x48 1 2 written, not scored" in words
    assert "block 7 of 0 to 11, a middle one" in lines[-1]
    assert not [finding for finding in found.findings if finding.is_problem]

    (root / "JPEGImages/480p/b/00002.png").unlink()
    Image.new("RGB", (40, 48)).save(root / "JPEGImages/480p/b/00004.png")
    save_indexed(root / "Annotations/480p/a/00002.png", np.zeros((10, 12), np.uint8))
    save_indexed(root / "Annotations/480p/b/0.png", np.zeros((48, 48), np.uint8))
    names = {finding.rule.name for finding in check_config(config_of(root), ("test",)).findings}
    assert {"frame-gaps", "frame-size", "mask-size", "no-object"} <= names


def test_own_data_must_be_named() -> None:
    with pytest.raises(ValueError, match="data_root=DIR"):
        facts({"data_root": None})
    with pytest.raises(ValueError, match="nowhere does not exist"):
        facts({"data_root": "nowhere"})


def small(root: Path, tmp_path: Path) -> dict:
    return dict(
        encoder="pe_spatial_t16_512",
        weights="random",
        options=dict(data_root=str(root), results_dir=str(tmp_path / "masks"), short_side=64),
        work_dir=tmp_path / "run",
    )


def test_a_run_without_truth_ends_well_and_says_where_the_masks_are(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    root = tmp_path / "d"
    save_mp4(root / "a.mp4")
    save_indexed(root / "a.png", MAPS[0])

    scores = evaluate(CONFIG, None, records=tmp_path / "records", **small(root, tmp_path))

    assert scores == {}
    assert len(list((tmp_path / "masks/a").glob("*.png"))) == 5
    assert f"results: {tmp_path / 'masks'}; there is nothing to score" in capsys.readouterr().out
    assert not list((tmp_path / "records").rglob("*.json"))


def test_scores_are_those_of_the_files_that_were_written(tmp_path: Path) -> None:
    """J by counting pixels, of the frames that DAVIS counts, against the record."""
    root = tmp_path / "d"
    davis(root)
    save_frames(root / "JPEGImages/480p/b")
    save_indexed(root / "Annotations/480p/b/00000.png", MAPS[0])

    evaluate(CONFIG, None, records=tmp_path / "records", **small(root, tmp_path))

    [record] = load_records(tmp_path / "records")
    ious = []
    for k in (1, 2):
        for t in range(1, 4):
            own = read_label_map(tmp_path / f"masks/a/{t:05d}.png") == k
            truth = MAPS[t] == k
            ious.append((own & truth).sum() / (own | truth).sum())
    assert record.scores["J"] == pytest.approx(np.mean(ious), abs=1e-9)
    assert record.dataset.num_items == 1
    assert record.protocol.id.startswith("custom-vos")
    assert len(list((tmp_path / "masks/b").glob("*.png"))) == 5  # written as well
    shutil.rmtree(tmp_path / "masks")
