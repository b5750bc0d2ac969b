"""Lists of image and depth files, and the samples that the data sets make of them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

pytest.importorskip("mmseg")

from depth_folders import kitti_names, write_kitti, write_nyu, write_pair
from mmengine.logging import MMLogger

from pe_dense.data.depth_list import DepthPair, read_depth_list
from pe_dense.depth.depth_datasets import (
    DepthDataset,
    KITTIEigenDataset,
    NYUDepthDataset,
    SUNRGBDDepthDataset,
)


def listed(tmp_path, text):
    path = tmp_path / "list.txt"
    path.write_bytes(text.encode())
    return path


def test_a_list_in_all_its_spellings(tmp_path):
    text = "/a/x.jpg /a/x.png 518.8579\r\n\r\nb/y.jpg b/y.png\r\nc/z.png None 721.5"
    found = read_depth_list(listed(tmp_path, text))
    assert found.pairs == (
        DepthPair("a/x.jpg", "a/x.png", 518.8579),
        DepthPair("b/y.jpg", "b/y.png", None),
    )
    assert found.num_without_depth == 1 and found.num_images == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no image"),
        ("a.jpg None 5\n", "names no image"),
        ("a.jpg\n", "line 1 of .*list.txt has 1 words"),
        ("a.jpg a.png\nmy image.jpg my depth.png 5\n", "line 2 .* has 5 words"),
        ("a.jpg a.png far\n", "ends with 'far'"),
        ("a.jpg a.png\nb.jpg b.png\n/a.jpg c.png\n", "line 3 .* repeats image a.jpg of line 1"),
        ("t/a.jpg a.png\n./t/a.jpg a.png\n", r"line 2 .* repeats image \./t/a.jpg of line 1"),
        ("t/a.jpg a.png\nt//u/../a.jpg a.png\n", "line 2 .* repeats image t//u/../a.jpg of line 1"),
    ],
)
def test_lists_that_cannot_be_used(tmp_path, text, words):
    with pytest.raises(ValueError, match=words):
        read_depth_list(listed(tmp_path, text))


def test_a_list_that_is_missing_or_no_text(tmp_path):
    with pytest.raises(ValueError, match="absent.txt .*cannot be read"):
        read_depth_list(tmp_path / "absent.txt")
    (tmp_path / "x").write_bytes(b"\x89PNG\xff\xfe\x00")
    with pytest.raises(ValueError, match="no text file"):
        read_depth_list(tmp_path / "x")


def test_nyu(tmp_path):
    root = write_nyu(tmp_path)
    prefix = dict(img_path="sync", depth_map_path="sync")
    data = NYUDepthDataset(
        ann_file="nyu_train.txt", data_root=str(root), data_prefix=prefix, pipeline=[]
    )
    assert len(data) == 4
    sample = data[1]
    assert sample["img_path"] == str(root / "sync/kitchen_0001/rgb_00001.jpg")
    assert sample["depth_map_path"] == str(root / "sync/kitchen_0001/sync_depth_00001.png")
    assert sample["image_id"] == "kitchen_0001/rgb_00001.jpg"
    assert (sample["focal"], sample["depth_scale"], sample["bit_rotation"]) == (518.8579, 1000, 0)
    assert [data[i]["sequence"] for i in range(4)] == ["kitchen_0001"] * 2 + ["study_0002"] * 2
    data[0]["seg_fields"].append("gt_depth_map")
    assert data[0]["seg_fields"] == []


def test_nyu_is_found_where_bts_unpacks_it(tmp_path):
    """One prefix for both splits, as configs have it; every file is there."""
    root = write_nyu(tmp_path)
    for split, below in (("train", "sync"), ("test", "official_splits/test")):
        data = NYUDepthDataset(ann_file=f"nyu_{split}.txt", data_root=str(root), pipeline=[])
        assert len(data) == 4
        for sample in data:
            for key in ("img_path", "depth_map_path"):
                assert Path(sample[key]).is_file()
                assert Path(sample[key]).is_relative_to(root / below)
    (root / "nyu_train.txt").write_text("elsewhere_0003/rgb_0.jpg elsewhere_0003/d_0.png\n")
    data = NYUDepthDataset(ann_file="nyu_train.txt", data_root=str(root), pipeline=[])
    assert data[0]["img_path"] == str(root / "elsewhere_0003/rgb_0.jpg")  # named as missing later


@pytest.mark.parametrize("layout", ["archive", "toolbox"])
def test_kitti_is_found_where_it_is_unpacked(tmp_path, layout):
    root = write_kitti(tmp_path)
    if layout == "toolbox":
        (root / "raw").rename(root / "input")
        (root / "data_depth_annotated").rename(root / "gt_depth")
    for split, num in (("train", 3), ("test", 2)):
        data = KITTIEigenDataset(
            ann_file=f"kitti_eigen_{split}.txt", data_root=str(root), pipeline=[]
        )
        assert len(data) == num
        for sample in data:
            assert Path(sample["img_path"]).is_file() and Path(sample["depth_map_path"]).is_file()


def test_named_sequences_win(tmp_path):
    root = write_nyu(tmp_path)
    names = [line.split()[0] for line in (root / "nyu_test.txt").read_text().splitlines()]
    (root / "scenes.txt").write_text("".join(f"{n} scene_{i}\n" for i, n in enumerate(names)))
    settings = dict(ann_file="nyu_test.txt", data_root=str(root), sequence_file="scenes.txt")
    data = NYUDepthDataset(**settings, pipeline=[])
    assert [data[i]["sequence"] for i in range(4)] == [f"scene_{i}" for i in range(4)]
    (root / "scenes.txt").write_text(f"{names[0]} a\n")
    with pytest.raises(ValueError, match=f"no sequence for 3 images .* {names[1]}"):
        NYUDepthDataset(**settings, pipeline=[])
    (root / "scenes.txt").write_text("x\n")
    with pytest.raises(ValueError, match="'image sequence' only"):
        NYUDepthDataset(**settings, pipeline=[])
    (root / "scenes.txt").unlink()
    with pytest.raises(ValueError, match="scenes.txt cannot be read"):
        NYUDepthDataset(**settings, pipeline=[])


def test_kitti_leaves_images_without_depth_out_and_says_so(tmp_path):
    root = write_kitti(tmp_path)
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    try:
        data = KITTIEigenDataset(
            ann_file="kitti_eigen_test.txt",
            data_root=str(root),
            data_prefix=dict(img_path="raw", depth_map_path="data_depth_annotated"),
            pipeline=[],
        )
    finally:
        logger.removeHandler(handler)
    assert len(data) == 2
    assert any("2 images with a depth map; 1 without one are left out" in r for r in records)
    drive = "2011_09_26_drive_0002_sync"
    image, depth = kitti_names(drive, 2)
    sample = data[1]
    assert sample["img_path"] == str(root / "raw" / image)
    assert sample["depth_map_path"] == str(root / "data_depth_annotated/val" / depth)
    assert sample["sequence"] == drive and sample["depth_scale"] == 256


def test_a_path_without_a_drive(tmp_path):
    path = listed(tmp_path, "a.png b.png\n")
    with pytest.raises(ValueError, match="a.png .* names no KITTI drive"):
        KITTIEigenDataset(ann_file=str(path), pipeline=[])


def test_sun_rgbd_undoes_the_rotation_of_bits(tmp_path):
    write_pair(tmp_path / "kv2/a/image/1.jpg", tmp_path / "kv2/a/depth/1.png")
    path = listed(tmp_path, "kv2/a/image/1.jpg kv2/a/depth/1.png\r\n")
    sample = SUNRGBDDepthDataset(ann_file=path.name, data_root=str(tmp_path), pipeline=[])[0]
    assert (sample["bit_rotation"], sample["focal"]) == (3, None)
    assert sample["sequence"] == "kv2/a/image/1.jpg"


def test_the_mini_world(mini_root):
    sets = {
        split: DepthDataset(
            ann_file=f"nyu_{split}.txt", data_root=str(mini_root / "nyu"), pipeline=[]
        )
        for split in ("train", "test")
    }
    assert (len(sets["train"]), len(sets["test"])) == (12, 6)
    sequences = {sets["test"][i]["sequence"] for i in range(6)}
    assert len(sequences) == 6 and "test/rgb_00000.jpg" in sequences
