"""Predictors without the picture, on the mini world, against slow ones written out here."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest

pytest.importorskip("mmseg")

from config_files import REPO as ROOT
from mmengine.config import Config

from pe_dense.data.box_layout import mean_layout
from pe_dense.data.checks import remembered
from pe_dense.data.depth_map import read_depth_steps
from pe_dense.detection.blind import of_config
from pe_dense.pixelwise.position_means import LabelCounts
from pe_dense.run.blind import blind_scores
from pe_dense.run.checkpoint import install
from pe_dense.run.config import load_config
from pe_dense.segmentation.blind import blind_mean_iou, head_on_position
from pe_dense.tracking.blind import copied_first_masks
from pe_dense.tracking.davis_dataset import DavisVideos

install()


def blind(config: str, root: Path, **options) -> dict[str, float]:
    cfg, _ = load_config(ROOT / "configs" / config, options={"data_root": str(root), **options})
    return blind_scores(cfg)


def label_maps(folder: Path) -> list[np.ndarray]:
    maps = [cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in sorted(folder.glob("*.png"))]
    return [np.where(m == 0, 255, m.astype(int) - 1) for m in maps]  # 0 is unlabelled


def mean_iou(pairs: list[tuple[np.ndarray, np.ndarray]], num_classes: int) -> float:
    values = []
    for k in range(num_classes):
        hit = sum(((p == k) & (t == k)).sum() for p, t in pairs)
        union = sum((((p == k) | (t == k)) & (t != 255)).sum() for p, t in pairs)
        if union:
            values.append(hit / union)
    return float(np.mean(values))


def test_segmentation(mini_root):
    found = blind("segmentation/linear_pe_t16_mini.py", mini_root / "ade")
    train = label_maps(mini_root / "ade/annotations/training")
    val = label_maps(mini_root / "ade/annotations/validation")
    pixels = [sum((m == k).sum() for m in train) for k in range(10)]
    constant = [(np.full_like(m, int(np.argmax(pixels))), m) for m in val]
    assert found["most frequent class"] == pytest.approx(mean_iou(constant, 10))
    # Pictures have 128 px here: a cell of the grid is two pixels wide, and its sample the second.
    counts = np.zeros((64, 64, 10))
    for m in train:
        for k in range(10):
            counts[..., k] += m[1::2, 1::2] == k
    map_HW = counts.argmax(-1).repeat(2, 0).repeat(2, 1)
    assert counts.any(-1).all()
    same = [(map_HW, m) for m in val]
    assert found["mean map of the training labels"] == pytest.approx(mean_iou(same, 10))
    assert found["mean map of the training labels"] > found["most frequent class"]
    assert set(found) >= {"linear head on position"}


def test_a_head_on_position_finds_halves():
    counts_GGK = np.zeros((16, 16, 3), int)
    counts_GGK[:8, :, 0] = 5
    counts_GGK[8:, :, 1] = 5
    found_GG = head_on_position(counts_GGK)
    assert (found_GG[:7] == 0).all() and (found_GG[9:] == 1).all()


def test_depth(mini_root):
    found = blind("depth/linear_pe_t16_mini.py", mini_root / "nyu")
    cfg, _ = load_config(ROOT / "configs/depth/linear_pe_t16_mini.py")
    max_depth, maps = cfg.max_depth, {}
    for split in ("train", "test"):
        lines = (mini_root / f"nyu/nyu_{split}.txt").read_text().splitlines()
        maps[split] = [
            read_depth_steps(str(mini_root / "nyu" / line.split()[1])) / 1000.0 for line in lines
        ]
    cells = np.concatenate([m[1::2, 1::2].ravel() for m in maps["train"]])
    mean = np.mean(cells[(cells > 1e-3) & (cells < max_depth)])
    errors = []
    for m in maps["test"]:
        scored = m[(m > 1e-3) & (m < max_depth)]
        errors.append(np.sqrt(np.mean((scored - mean) ** 2)))
    assert found["mean depth"] == pytest.approx(np.mean(errors), rel=1e-4)
    assert found["mean map of the training depth"] < found["mean depth"]


def test_detection(mini_root):
    found = blind("detection/deta_pe_t16_mini.py", mini_root / "coco")
    assert 0 <= found["mean layout of the training boxes"] < 0.1


def test_lvis(tmp_path):
    """Two images with the one box of training, by LVIS: not searched for the other class."""
    categories = [
        {"id": k + 1, "name": name, "frequency": "f", "image_count": 2}
        for k, name in enumerate(("cup", "dog"))
    ]
    lists = {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    images = [{"id": n, "width": 100, "height": 80, "file_name": "", **lists} for n in (1, 2)]
    box = {"bbox": [10, 20, 30, 40], "area": 1200, "iscrowd": 0, "category_id": 1}
    boxes = [{**box, "id": n, "image_id": n, "segmentation": []} for n in (1, 2)]
    other = {**boxes[0], "id": 3, "bbox": [50, 10, 20, 20], "area": 400, "category_id": 2}
    for name, objects in (("train", [*boxes, other]), ("val", boxes)):
        content = {"images": images, "annotations": objects, "categories": categories}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))

    def config(evaluator):
        train = {"type": "LvisDataset", "data_root": str(tmp_path), "ann_file": "train.json"}
        return Config({
            "protocol": {"task": "detection", "metric": "AP"}, "classes": ["cup", "dog"],
            "train_dataloader": {"dataset": train},
            "test_evaluator": {"type": evaluator, "ann_file": str(tmp_path / "val.json")},
        })  # fmt: skip

    scores, files = of_config(config("LvisAP"))
    assert scores == {"mean layout of the training boxes": pytest.approx(1.0)}
    assert {file.name for file in files} == {"train.json", "val.json"}
    assert of_config(config("SomeOtherAP")) == ({}, [])


def test_a_layout_is_where_the_boxes_are():
    boxes_N4 = np.array([[0.2, 0.3, 0.1, 0.1]] * 6 + [[0.8, 0.8, 0.3, 0.2]] * 2)
    layout_M6 = mean_layout(boxes_N4, np.array([1] * 8), num_classes=3, num_images=4)
    assert layout_M6.tolist() == [
        pytest.approx([0.2, 0.3, 0.1, 0.1, 1.5, 1.0]),
        pytest.approx([0.8, 0.8, 0.3, 0.2, 0.5, 1.0]),
    ]
    assert mean_layout(np.zeros((0, 4)), np.zeros(0, int), 3, 4).shape == (0, 6)


def test_videos(mini_root):
    assert 0 < blind("tracking/mini_v1.py", mini_root / "davis")["first mask copied"] < 1


def test_tracks_know_the_other_sequences_alone(mini_root, tmp_path):
    pytest.importorskip("trackeval")
    config = "tracking/bytetrack_pe_t16_mini.py"
    (sequence,) = (mini_root / "mot/test").glob("[!.]*")  # what is remembered is hidden
    assert blind(config, mini_root / "mot/test") == {}  # there is no other
    for name in ("a", "b"):
        shutil.copytree(sequence, tmp_path / "mot" / name)
    lines = [f"{t},1,11,21,40,30,1,1,1" for t in range(1, 5)]  # the box 10, 20 to 50, 50
    for name in ("a", "b"):
        (tmp_path / "mot" / name / "gt/gt.txt").write_text("\n".join(lines) + "\n")
    found = blind(config, tmp_path / "mot")
    assert found == {"static boxes of the other sequences": pytest.approx(1.0, abs=0.05)}


def test_copies_on_real_clips_have_the_known_score():
    """22.5 on four clips of DAVIS 2016, as measured by another program."""
    root = ROOT.parent / "shared/data/real_video"
    if not root.is_dir():
        pytest.skip("the real clips are not here")
    data = DavisVideos(str(root), resolution="480p", split_file="ImageSets/2017/four.txt")
    videos = [data.get_data_info(index) for index in range(len(data))]
    assert copied_first_masks(videos, "J&F")["first mask copied"] == pytest.approx(0.225, abs=5e-4)


def test_a_standing_object_is_copied_to_the_full_score(tmp_path):
    for folder in ("JPEGImages/a", "Annotations/a"):
        (tmp_path / folder).mkdir(parents=True)
    mask_HW = np.zeros((40, 60), np.uint8)
    mask_HW[10:20, 20:40] = 1
    for t in range(4):
        cv2.imwrite(str(tmp_path / f"JPEGImages/a/{t:05d}.jpg"), np.zeros((40, 60, 3), np.uint8))
        cv2.imwrite(str(tmp_path / f"Annotations/a/{t:05d}.png"), mask_HW)
    data = DavisVideos(str(tmp_path))
    assert copied_first_masks([data.get_data_info(0)], "J&F") == {"first mask copied": 1.0}
    with pytest.raises(ValueError, match="no video is scored"):
        copied_first_masks([], "J&F")


def test_answers_follow_the_labels(mini_root, tmp_path):
    shutil.copytree(mini_root / "davis", tmp_path / "davis")
    before = blind("tracking/mini_v1.py", tmp_path / "davis")
    assert before == blind("tracking/mini_v1.py", tmp_path / "davis")
    for file in sorted((tmp_path / "davis/Annotations").rglob("*.png"))[1:]:
        first = file.parent / "00000.png"
        if file.name != first.name:
            shutil.copyfile(first, file)
    assert blind("tracking/mini_v1.py", tmp_path / "davis")["first mask copied"] == 1.0


@pytest.mark.parametrize("data", ["nyu", "davis"])
def test_answers_follow_what_lists_name(mini_root, tmp_path, data):
    """Files that were read stay as they are; others come to them."""
    shutil.copytree(mini_root / data, tmp_path / data)
    config = {
        "nyu": "depth/linear_pe_t16_mini.py",
        "davis": "tracking/mini_v1.py",
    }[data]
    lists = {"nyu": "nyu_test.txt", "davis": "ImageSets/2017/val.txt"}
    text = (tmp_path / data / lists[data]).read_text()
    (tmp_path / data / lists[data]).write_text(text.splitlines()[0] + "\n")
    if data == "davis":
        for folder in ("JPEGImages", "Annotations"):
            inside = tmp_path / data / folder / "480p"
            shutil.copytree(inside / "train_000", inside / "new")
    for file in (tmp_path / data).rglob("*"):
        os.utime(file, (1, 1))
    with mock.patch.object(remembered, "SETTLED_S", -3600.0):  # every answer is kept
        few = blind(config, tmp_path / data)
        assert few == blind(config, tmp_path / data)
        also = "new\n" if data == "davis" else ""
        (tmp_path / data / lists[data]).write_text(also + text)
        more = blind(config, tmp_path / data)
    assert more != few


def test_an_answer_follows_the_range_of_depth(mini_root, tmp_path):
    shutil.copytree(mini_root / "nyu", tmp_path / "nyu")
    config = "probing/depth_pe_t16_mini.py"
    with mock.patch.object(remembered, "SETTLED_S", -3600.0):
        far = blind(config, tmp_path / "nyu")
        near = blind(config, tmp_path / "nyu", max_depth=5.0)
    assert far != near


def test_no_failure_loses_a_score(capsys):
    from pe_dense.run.evaluation import blind_line

    cfg = Config({"protocol": {"task": "detection", "metric": "AP"}})
    for error in (KeyError("AP"), RuntimeError("no memory"), AssertionError()):
        with mock.patch("pe_dense.run.evaluation.blind_scores", side_effect=error):
            assert blind_line(cfg, {"AP": 1.0}) is None
    out = capsys.readouterr().out
    assert "no blind baseline: no memory" in out and "no blind baseline: AssertionError" in out


def test_every_protocol_of_a_known_task_can_have_a_line():
    """A new loader of labels is found by its name: configs read labels with a step 'Load...'."""
    from pe_dense.data.label_reading import label_steps

    nested = [{"type": "LoadImage"}, {"type": "A", "transforms": [[{"type": "LoadAnnotations"}]]}]
    assert label_steps({"pipeline": nested}) == [{"type": "LoadAnnotations"}]
    assert json.dumps(label_steps({"pipeline": []})) == "[]"


def test_more_classes_than_a_byte_holds():
    counts = LabelCounts(300, ignore_index=255)
    labels_HW = np.full((8, 8), 299)
    counts.add(labels_HW)
    found = blind_mean_iou(counts, [labels_HW], [f"class {k}" for k in range(300)])
    assert found["most frequent class"] == 1.0
