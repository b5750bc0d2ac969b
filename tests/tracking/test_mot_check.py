"""MOTChallenge folders as people bring them: the right number, a note, or one sentence."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mmdet")
from mmengine.config import Config

from pe_dense.data.checks.rules import CheckedData, problems, require_sound
from pe_dense.tracking import mot
from pe_dense.tracking.mot_files import read_ground_truth
from pe_dense.tracking.mot_metric import score_files, write_evaluation_files

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in mot.NEEDED),
    reason="needs the extra 'mot'",
)
FRAMES = 6


def box(t: int) -> list[int]:
    return [4 + 6 * t, 11, 20, 30]  # x, y, w, h


def row(t: int, identity: object = 1, active: object = 1, kind: object = 1, seen: object = 1.0):
    return f"{t},{identity},{','.join(map(str, box(t)))},{active},{kind},{seen}"


def save_clip(root: Path, name: str = "clip", rows=None, seed: int = 0, **info) -> Path:
    folder = root / name
    (folder / "img1").mkdir(parents=True)
    (folder / "gt").mkdir()
    rng = np.random.default_rng(seed)
    for t in range(1, FRAMES + 1):
        picture = rng.integers(0, 256, (48, 96, 3)).astype(np.uint8)
        Image.fromarray(picture).save(folder / "img1" / f"{t:06d}.jpg")
    rows = [row(t) for t in range(1, FRAMES + 1)] if rows is None else rows
    (folder / "gt/gt.txt").write_text("".join(f"{line}\n" for line in rows))
    values = {"seqLength": FRAMES, "imWidth": 96, "imHeight": 48, **info}
    lines = [f"{key}={value}\n" for key, value in values.items()]
    (folder / "seqinfo.ini").write_text("[Sequence]\n" + "".join(lines))
    return folder


def checked(root: Path, splits=("test",), benchmark: str = "MOT17", **options) -> CheckedData:
    dataset = dict(type="MOTSequences", data_root=str(root), **options)
    cfg = {f"{s}_dataloader": {"dataset": {**dataset, "test_mode": s != "train"}} for s in splits}
    return mot.check_config(Config({**cfg, "test_evaluator": {"benchmark": benchmark}}), splits)


def refusal(root: Path, **options) -> str:
    with pytest.raises(ValueError) as error:
        require_sound(checked(root, **options).findings)
    assert str(root) in str(error.value)
    return str(error.value)


def names(found: CheckedData) -> dict[str, int]:
    return {finding.rule.name: finding.count for finding in found.findings}


def perfect_scores(folder: Path, out: Path, benchmark: str = "MOT17") -> dict[str, float]:
    """Scores of tracks that are the truth of `box`."""
    frames = [
        dict(
            sequence_dir=str(folder), frame_number=t, length=FRAMES, ids=np.array([0]),
            boxes=np.array([[x - 1, y - 1, x - 1 + w, y - 1 + h]], float), scores=np.array([0.9]),
        )
        for t in range(1, FRAMES + 1)
        for x, y, w, h in [box(t)]
    ]  # fmt: skip
    return score_files(out, write_evaluation_files(out, frames), benchmark).metrics()


@pytest.fixture
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


def test_a_sound_sequence(tmp_path: Path, out: Path) -> None:
    folder = save_clip(tmp_path)
    found = checked(tmp_path)
    assert not found.findings
    assert found.table.splitlines()[1].split() == ["test", "1", "6", "6", "6", "1", "1:", "6"]
    assert perfect_scores(folder, out)["HOTA"] == pytest.approx(1)


def test_a_tracker_that_needs_the_frame_rate(tmp_path: Path) -> None:
    folder = save_clip(tmp_path)
    dataset = dict(type="MOTSequences", data_root=str(tmp_path), test_mode=True)
    cfg = Config(
        {
            "test_dataloader": {"dataset": dataset},
            "test_evaluator": {"benchmark": "MOT17"},
            "model": {"tracker": {"type": "PublishedByteTracker"}},
        }
    )
    with pytest.raises(ValueError, match=r"clip.seqinfo.ini has no frameRate above 0"):
        mot.check_config(cfg, ("test",))
    with (folder / "seqinfo.ini").open("a") as file:
        file.write("frameRate=25\n")
    assert not mot.check_config(cfg, ("test",)).findings


# Targets ----------------------------------------------------------------------------------------


def test_rows_of_a_class_that_is_not_scored(tmp_path: Path) -> None:
    """JonathonLuiten/TrackEval 25: cars have class 3."""
    save_clip(tmp_path, rows=[row(t, kind=3) for t in range(1, 7)])
    text = refusal(tmp_path)
    assert "gt.txt: has no target in the 6 frames that are used: of 6 rows 6 are active" in text
    assert "rows by class 3: 6" in text
    assert "write 1, the class that is scored" in text
    assert names(checked(tmp_path)) == {"no-target": 1, "no-target-at-all": 1}
    with pytest.raises(ValueError, match="test has none"):
        require_sound(checked(tmp_path).findings, ["no-target"])


def test_classes_counted_from_0_and_confidence_as_flag(tmp_path: Path) -> None:
    """cheind/py-motmetrics 196: 'frame, id, l, t, w, h, conf, class' of a detector, class 0."""
    save_clip(tmp_path, rows=[row(t, active=0.7, kind=0, seen=-1) for t in range(1, 7)])
    found = names(checked(tmp_path))
    assert found["no-target"] == 1 and found["unknown-class"] == 1
    assert found["active-flags"] == 6 and found["visibility"] == 6


def test_one_sequence_without_targets_can_be_accepted(tmp_path: Path) -> None:
    save_clip(tmp_path, "a")
    save_clip(tmp_path, "b", rows=[], seed=1)
    text = refusal(tmp_path)
    assert "b/gt/gt.txt: has no target in the 6 frames that are used: of 0 rows" in text
    assert "accept them with --accept no-target" in text
    assert [f.rule.name for f in require_sound(checked(tmp_path).findings, ["no-target"])] == [
        "no-target"
    ]


def test_rows_that_are_not_active_are_no_targets(tmp_path: Path) -> None:
    save_clip(tmp_path, rows=[row(t, active=0) for t in range(1, 7)])
    assert "of 6 rows 0 are active, with rows by class 1: 6" in refusal(tmp_path)


def test_a_half_without_targets(tmp_path: Path) -> None:
    save_clip(tmp_path, rows=[row(t) for t in (1, 2, 3)])
    assert not problems(checked(tmp_path, half="first").findings)
    assert "no target in the 2 frames that are used" in refusal(tmp_path, half="second")


def test_mot15_has_no_classes(tmp_path: Path, out: Path) -> None:
    folder = save_clip(tmp_path, rows=[row(t, kind=-1, seen=-1) for t in range(1, 7)])
    assert not problems(checked(tmp_path, benchmark="MOT15").findings)
    assert perfect_scores(folder, out, "MOT15")["HOTA"] == pytest.approx(1)
    assert "has no target" in refusal(tmp_path)


def test_a_class_that_trackeval_does_not_know(tmp_path: Path) -> None:
    save_clip(tmp_path, rows=[row(1, kind=14), *(row(t) for t in range(2, 7))])
    assert "gt.txt: has 1 rows of class 14; its classes are 1 to 13" in refusal(tmp_path)


def test_training_on_what_is_not_scored(tmp_path: Path) -> None:
    save_clip(tmp_path, rows=[row(t, kind=3) for t in range(1, 7)])
    text = refusal(tmp_path, splits=("train",), class_ids=(3,))
    assert "trains on class_ids=[3], and class 1 is scored" in text


def test_unknown_visibility_is_trained_on(tmp_path: Path) -> None:
    save_clip(tmp_path, rows=[row(t, seen=-1) for t in range(1, 7)])
    found = checked(tmp_path, splits=("train",))
    assert not problems(found.findings) and names(found) == {"visibility": 6}
    assert found.table.splitlines()[1].split()[4] == "6"


# Identities and rows ----------------------------------------------------------------------------


@pytest.mark.parametrize("identity", [0, "7.0", 10**12, 2**60 + 1])
def test_identities_are_names(tmp_path: Path, out: Path, identity: object) -> None:
    """TrackEval makes a table as long as the highest identity, 8 TB for 10**12."""
    rows = [row(t, identity=identity) for t in range(1, 7)]
    folder = save_clip(tmp_path, rows=rows)
    assert not checked(tmp_path).findings
    assert perfect_scores(folder, out)["IDF1"] == pytest.approx(1)


def test_identities_that_differ_behind_the_53rd_bit(tmp_path: Path) -> None:
    save_clip(tmp_path, rows=[row(1, identity=2**60 + k) for k in range(2)])
    rows = read_ground_truth(tmp_path / "clip/gt/gt.txt")
    assert rows.ids_Q.tolist() == [2**60, 2**60 + 1]


def test_an_identity_that_is_none(tmp_path: Path) -> None:
    save_clip(tmp_path, rows=[row(1, identity=-1)])
    assert "gt.txt line 1 has identity -1, which means none" in refusal(tmp_path)


def test_rows_that_are_no_targets_may_repeat_an_identity(tmp_path: Path, out: Path) -> None:
    rows = [row(t) for t in range(1, 7)] + [row(2, identity=5, active=0, kind=8)] * 2
    folder = save_clip(tmp_path, rows=rows)
    assert perfect_scores(folder, out)["HOTA"] == pytest.approx(1)


@pytest.mark.parametrize("separator", [" ", "\t", ", "])
def test_other_separators(tmp_path: Path, out: Path, separator: str) -> None:
    folder = save_clip(tmp_path, rows=[row(t).replace(",", separator) for t in range(1, 7)])
    assert not checked(tmp_path).findings
    assert perfect_scores(folder, out)["HOTA"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (row(0), "line 1 is of frame 0, and the frames are 1 to 6"),
        (row(7), "line 1 is of frame 7"),
        ("1,1,5,5,0,10,1,1,1", "line 1 has a box of 0 x 10 px"),
        ("1,1,5,5,-3,10,1,1,1", "line 1 has a box of -3 x 10 px"),
        ("1,1,5,5,9,10,1,1,1\n1,1,5,5,9,10,1,1,1", "line 2 has identity 1 in frame 1 again"),
    ],
)
def test_rows_that_cannot_be(tmp_path: Path, bad: str, words: str) -> None:
    save_clip(tmp_path, rows=[bad])
    assert words in refusal(tmp_path)


def test_corners_for_width_and_height(tmp_path: Path) -> None:
    rows = [
        f"{t},{k},{x},11,{x + 20},41,1,1,1" for t in range(1, 7) for k, x in enumerate((5, 30, 60))
    ]
    save_clip(tmp_path, rows=rows)
    text = refusal(tmp_path)
    assert "inside 96 x 48 px, such as [60.0, 11.0, 80.0, 41.0]" in text


def test_shares_for_pixels(tmp_path: Path) -> None:
    save_clip(tmp_path, rows=[f"{t},1,0.2,0.3,0.1,0.5,1,1,1" for t in range(1, 7)])
    assert "no target of more than 1 px" in refusal(tmp_path)


# Frames -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["{:08d}.jpg", "{}.JPG", "cam2_{:04d}.jpeg"])
def test_frames_by_number(tmp_path: Path, name: str) -> None:
    """DanceTrack writes eight digits, ffmpeg as many as are needed."""
    folder = save_clip(tmp_path)
    for t in range(1, FRAMES + 1):
        (folder / f"img1/{t:06d}.jpg").rename(folder / "img1" / name.format(t))
    assert not checked(tmp_path).findings


def test_frames_counted_from_0(tmp_path: Path, out: Path) -> None:
    folder = save_clip(tmp_path)
    for t in range(1, FRAMES + 1):
        (folder / f"img1/{t:06d}.jpg").rename(folder / f"img1/{t - 1:06d}.jpg")
    assert "frame 6 is missing (1 of 6 are)" in refusal(tmp_path)
    assert names(checked(tmp_path))["frames-outside"] == 1


def test_two_files_for_a_frame(tmp_path: Path, out: Path) -> None:
    folder = save_clip(tmp_path)
    (folder / "img1/3.png").write_bytes((folder / "img1/000003.jpg").read_bytes())
    assert "000003.jpg and 3.png are two files for frame 3" in refusal(tmp_path)


def test_more_pictures_than_the_sequence_has(tmp_path: Path) -> None:
    save_clip(tmp_path, rows=[row(t) for t in (1, 2, 3, 4)], seqLength=4)
    text = refusal(tmp_path)
    assert "is frame 5 of 1 to 4 (and 1 more" in text and "--accept frames-outside" in text


def test_another_size_than_seqinfo_says(tmp_path: Path) -> None:
    save_clip(tmp_path, imWidth=48, imHeight=96)
    assert "000001.jpg: has 96 x 48 px, and seqinfo.ini says 48 x 96" in refusal(tmp_path)


def test_frames_are_turned_as_exif_says(tmp_path: Path) -> None:
    rows = [f"{t},1,5,{5 + t},20,30,1,1,1" for t in range(1, 7)]
    folder = save_clip(tmp_path, rows=rows, imWidth=48, imHeight=96)
    exif = Image.Exif()
    exif[0x0112] = 6
    for file in (folder / "img1").iterdir():
        Image.open(file).save(file, exif=exif)
    assert not checked(tmp_path).findings
    (folder / "seqinfo.ini").write_text("[Sequence]\nseqLength=6\nimWidth=96\nimHeight=48\n")
    assert "has 48 x 96 px, and seqinfo.ini says 96 x 48" in refusal(tmp_path)


def test_a_sequence_in_both_splits(tmp_path: Path) -> None:
    save_clip(tmp_path)
    text = refusal(tmp_path, splits=("train", "test"))
    assert "000001.jpg: is the same picture as" in text
    assert names(checked(tmp_path)) == {}


@pytest.mark.parametrize("splits", [("train", "val"), ("test",)], ids=["train.py", "test.py"])
def test_a_sequence_in_a_loader_that_is_not_used(tmp_path: Path, splits) -> None:
    """Training does not read what is scored, and scoring not what is trained on."""
    save_clip(tmp_path / "a")
    save_clip(tmp_path / "b", seed=1)

    def names_for(train: str, test: str) -> dict[str, int]:
        cfg: dict = {"test_evaluator": {"benchmark": "MOT17"}}
        for split, folder in (("train", train), ("val", "b"), ("test", test)):
            dataset = dict(type="MOTSequences", data_root=str(tmp_path / folder))
            cfg[f"{split}_dataloader"] = {"dataset": {**dataset, "test_mode": split != "train"}}
        return names(mot.check_config(Config(cfg), splits))

    assert names_for("a", "b") == {}  # val and test are one and the same
    assert names_for("a", "a") == {"copied-frames": 1}
    assert names_for("nowhere" if splits == ("test",) else "a", "b") == {}


def test_halves_share_nothing(tmp_path: Path) -> None:
    save_clip(tmp_path)
    cfg = {
        f"{split}_dataloader": {
            "dataset": dict(
                type="MOTSequences", data_root=str(tmp_path), half=half, test_mode=split != "train"
            )
        }
        for split, half in (("train", "first"), ("val", "second"))
    }
    cfg["test_evaluator"] = {"benchmark": "MOT17"}
    assert not mot.check_config(Config(cfg), ("train", "val")).findings


def test_hidden_folders_are_no_sequences(tmp_path: Path) -> None:
    save_clip(tmp_path)
    (tmp_path / ".pe_dense").mkdir()
    assert not checked(tmp_path).findings


@pytest.mark.parametrize("pattern", ["", "/*"])
def test_patterns_that_are_none(tmp_path: Path, pattern: str) -> None:
    save_clip(tmp_path)
    with pytest.raises(ValueError, match="is none of names inside data_root"):
        checked(tmp_path, pattern=pattern)


def test_corners_whose_centres_would_be_inside(tmp_path: Path) -> None:
    save_clip(tmp_path, rows=[f"{t},1,{30 + t},25,{50 + t},45,1,1,1" for t in range(1, 7)])
    assert "has 6 of 6 targets with less than 80% inside" in refusal(tmp_path)


def test_boxes_that_reach_out_at_the_border_are_sound(tmp_path: Path) -> None:
    save_clip(tmp_path, rows=[f"{t},1,-2,-2,40,55,1,1,1" for t in range(1, 7)])
    assert not problems(checked(tmp_path).findings)


def test_a_row_that_is_not_active_may_have_no_area(tmp_path: Path) -> None:
    save_clip(tmp_path, rows=[*map(row, range(1, 7)), "1,9,5,5,0,20,0,7,1"])
    assert not problems(checked(tmp_path).findings)


def test_places_in_the_world_of_mot15_are_no_classes(tmp_path: Path) -> None:
    rows = [f"{t},1,{','.join(map(str, box(t)))},1,-2.35,3.1,0" for t in range(1, 7)]
    folder = save_clip(tmp_path, rows=rows)
    assert not problems(checked(tmp_path, benchmark="MOT15").findings)
    assert read_ground_truth(folder / "gt/gt.txt").classes_Q.tolist() == [-1] * 6
    assert "class" in refusal(tmp_path)  # where classes count


def test_a_folder_without_seqinfo_is_told_what_to_write(tmp_path: Path) -> None:
    (save_clip(tmp_path) / "seqinfo.ini").unlink()
    with pytest.raises(ValueError, match=r"\[Sequence\], seqLength=, imWidth= and imHeight="):
        checked(tmp_path)
