"""Classes that a file of a set does not list, or has no object of: labels and scores are right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mmdet")

from coco_folders import edit, write_folder

from pe_dense.data.checks.coco_folder import facts
from pe_dense.data.checks.inspection import inspect_folder
from pe_dense.data.checks.many_files import silent
from pe_dense.data.checks.rules import problems
from pe_dense.detection.coco_check import check_config
from pe_dense.detection.coco_dataset import CocoDataset
from pe_dense.detection.coco_metric import average_precision
from pe_dense.detection.ground_truth import read_ground_truth
from pe_dense.run.config import load_config
from pe_dense.run.training import splits_read

CONFIG = Path(__file__).parents[2] / "configs/detection/deta_custom.py"


def only(split: Path, category_id: int) -> None:
    """Leaves the objects of one category."""
    edit(
        split,
        lambda c: c.update(
            annotations=[a for a in c["annotations"] if a["category_id"] == category_id]
        ),
    )


def found_problems(root: Path) -> list[str]:
    """Those of training, which are those of the command that looks through folders."""
    cfg, _ = load_config(CONFIG, None, "random", {"data_root": str(root)})
    found = [f.rule.name for f in problems(check_config(cfg, splits_read(cfg)).findings)]
    inspected = [
        f.rule.name for fs in inspect_folder(root, silent).findings.values() for f in problems(fs)
    ]
    assert found == inspected
    return found


@pytest.fixture
def hierarchy(tmp_path: Path) -> Path:
    """Category 9 is the parent of 2, and a class."""
    write_folder(tmp_path)
    categories = [
        dict(id=9, name="vehicle", supercategory="none"),
        dict(id=2, name="car", supercategory="vehicle"),
    ]
    for split in ("train", "val"):
        edit(tmp_path / f"annotations/{split}.json", lambda c: c.update(categories=categories))
    return tmp_path


def labels(root: Path, split: str, classes: list[str]) -> list[int]:
    data = CocoDataset(
        ann_file=str(root / f"annotations/{split}.json"),
        metainfo=dict(classes=classes),
        data_prefix=dict(img=""),
        pipeline=[],
    )
    return [i["bbox_label"] for n in range(len(data)) for i in data.get_data_info(n)["instances"]]


def test_a_parent_class_that_val_does_not_show(hierarchy: Path) -> None:
    only(hierarchy / "annotations/val.json", 2)
    classes = facts(dict(data_root=str(hierarchy)))["classes"]
    assert classes == ["vehicle", "car"] and found_problems(hierarchy) == []
    assert labels(hierarchy, "train", classes) == [0, 1] * 6
    assert labels(hierarchy, "val", classes) == [1] * 3
    truth = read_ground_truth(hierarchy / "annotations/val.json", classes)
    assert [a["category_id"] for a in truth.dataset["annotations"]] == [2] * 3


def test_a_parent_class_that_train_does_not_show(hierarchy: Path) -> None:
    only(hierarchy / "annotations/train.json", 2)
    assert facts(dict(data_root=str(hierarchy)))["classes"] == ["vehicle", "car"]
    assert found_problems(hierarchy) == ["untrained-classes"]


def test_a_placeholder_that_no_split_uses(hierarchy: Path) -> None:
    for split in ("train", "val"):
        only(hierarchy / f"annotations/{split}.json", 2)
    classes = facts(dict(data_root=str(hierarchy)))["classes"]
    assert classes == ["car"] and found_problems(hierarchy) == []
    assert labels(hierarchy, "val", classes) == [0] * 3


@pytest.mark.parametrize("absent", [9, 2])
def test_val_that_lists_only_what_it_shows_scores_the_same(tmp_path: Path, absent: int) -> None:
    write_folder(tmp_path)
    val, classes = tmp_path / "annotations/val.json", ["disc", "box"]
    only(val, 11 - absent)
    detections_Q7 = np.array(
        [[image, 2 + k, 3, 20.5, 10 + k, 0.9, 1 + k] for image in (1, 2) for k in (0, 1)]
    )
    whole = average_precision(read_ground_truth(val, classes), detections_Q7, [1, 2, 3])
    edit(val, lambda c: c.update(categories=[k for k in c["categories"] if k["id"] != absent]))
    part = average_precision(read_ground_truth(val, classes), detections_Q7, [1, 2, 3])
    assert whole == part and 0.5 < part["AP"] < 0.7
    assert found_problems(tmp_path) == []
    assert facts(dict(data_root=str(tmp_path)))["classes"] == classes
    assert labels(tmp_path, "val", classes) == [0 if absent == 2 else 1] * 3
    notes = inspect_folder(tmp_path, silent).text()
    assert f"does not list {'disc' if absent == 9 else 'box'}" in notes


def test_train_must_list_every_class_and_val_no_other(tmp_path: Path) -> None:
    write_folder(tmp_path)
    only(tmp_path / "annotations/train.json", 9)
    edit(tmp_path / "annotations/train.json", lambda c: c["categories"].pop())
    assert found_problems(tmp_path) == ["other-classes"]
    with pytest.raises(ValueError, match="has 0 classes 'moon', not one"):
        labels(tmp_path, "val", ["disc", "moon"])
