"""Videos are listed as the two layouts have them, and what is missing is named."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("mmengine")

from video_folders import moving_squares, save_split, save_video

from pe_dense.tracking.davis_dataset import DavisVideos, part_of_videos


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        save_video(tmp_path, name, moving_squares(4, {1: 0}))
    save_split(tmp_path, "train", ["c"])
    save_split(tmp_path, "val", ["b", "a"])
    return tmp_path


def videos(root: Path, **options) -> DavisVideos:
    options = {"resolution": "480p", "split_file": "ImageSets/2017/val.txt", **options}
    return DavisVideos(str(root), **options)


def test_a_split_is_read_in_its_order(davis: Path) -> None:
    data = videos(davis)
    items = [data[i]["data_samples"].metainfo for i in range(len(data))]
    assert [item["video"] for item in items] == ["b", "a"]
    assert [Path(p).name for p in items[0]["frame_paths"]] == [f"{t:05d}.png" for t in range(4)]
    assert items[0]["mask_paths"][0].endswith("Annotations/480p/b/00000.png")
    assert {item["purpose"] for item in items} == {"report"} and data.num_reported == 2


def test_without_a_list_all_folders_count(davis: Path) -> None:
    data = videos(davis, split_file=None)
    assert [data.get_data_info(i)["video"] for i in range(len(data))] == ["a", "b", "c"]


def test_selection_comes_first_and_shares_no_video(davis: Path) -> None:
    data = videos(davis, selection=dict(split_file="ImageSets/2017/train.txt"))
    infos = [data.get_data_info(i) for i in range(len(data))]
    assert [(i["video"], i["purpose"]) for i in infos] == [
        ("c", "select"), ("b", "report"), ("a", "report"),
    ]  # fmt: skip
    assert data.num_reported == 2
    with pytest.raises(ValueError, match="/a is to choose the setting and to be reported"):
        videos(davis, selection=dict(split_file=None))


def test_parts_are_disjoint_whatever_the_order() -> None:
    names = [f"video_{i}" for i in range(50)]
    val = part_of_videos(names, "val", 0.2)
    assert len(val) == 10
    assert sorted(val + part_of_videos(names, "train", 0.2)) == sorted(names)
    assert set(part_of_videos(names[::-1], "val", 0.2)) == set(val)


def test_sparse_masks(tmp_path: Path) -> None:
    save_video(tmp_path, "a", moving_squares(7, {1: 0}), resolution="", every=3)
    (tmp_path / "Annotations" / "a" / "00000.png").unlink()
    data = DavisVideos(str(tmp_path), style="youtube")
    info = data.get_data_info(0)
    assert [Path(p).stem for p in info["frame_paths"]] == ["00003", "00004", "00005", "00006"]
    assert [p is not None for p in info["mask_paths"]] == [True, False, False, True]
    with pytest.raises(ValueError, match=r"no mask of its first frame, .*00000\.png"):
        DavisVideos(str(tmp_path), style="davis")


def test_what_is_missing_is_named(davis: Path) -> None:
    with pytest.raises(ValueError, match=r"folder .*Full-Resolution does not exist"):
        videos(davis, resolution="Full-Resolution")
    with pytest.raises(ValueError, match=r"absent\.txt does not exist"):
        videos(davis, split_file="absent.txt")
    save_split(davis, "val", ["a", "a"])
    with pytest.raises(ValueError, match="lists 'a' twice"):
        videos(davis)
    save_split(davis, "val", [])
    with pytest.raises(ValueError, match="no video to report"):
        videos(davis)
    save_split(davis, "val", ["zz"])
    with pytest.raises(ValueError, match="video 'zz' has no folder"):
        videos(davis)
    masks = davis / "Annotations" / "480p" / "a"
    save_split(davis, "val", ["a"])
    (masks / "00002.png").unlink()
    with pytest.raises(ValueError, match=r"'a' has no mask .*00002\.png; scoring needs one"):
        videos(davis)
    assert len(videos(davis, scored=False)) == 1
    (masks / "00009.png").write_bytes((masks / "00000.png").read_bytes())
    with pytest.raises(ValueError, match=r"mask .*00009\.png has no frame"):
        videos(davis)


@pytest.mark.parametrize("frames", [1, 2])
def test_videos_too_short_to_be_scored(tmp_path: Path, frames: int) -> None:
    save_video(tmp_path, "a", moving_squares(frames, {1: 0}))
    with pytest.raises(ValueError, match=f"'a' has {frames} annotated frames; scoring needs 3"):
        videos(tmp_path, split_file=None)
    assert len(videos(tmp_path, split_file=None, scored=False)) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(style="mot"), "style='mot' is unknown"),
        (dict(part="test"), "part='test' is unknown"),
        (dict(val_share=1.0), "val_share=1.0 must lie between"),
        (dict(selection=dict(split="train")), "selection has 'split'"),
        (dict(selection=dict(part="train"), scored=False), "selection needs scored videos"),
    ],
)
def test_bad_options(davis: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        videos(davis, **options)
