"""Label maps are checked before training: folders, suffixes, and lists of names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pe_dense.segmentation import known_datasets
from pe_dense.segmentation.map_check import check_config, image_pairs


def save(path: Path, values) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


def config(root: Path, **more) -> dict:
    dataset = dict(
        data_root=str(root),
        data_prefix=dict(img_path="img", seg_map_path="map"),
        img_suffix="_leftImg8bit.png",
        seg_map_suffix="_gtFine_labelTrainIds.png",
        **more,
    )
    return dict(classes=["a", "b"], num_classes=2, val_dataloader=dict(dataset=dataset))


@pytest.fixture
def root(tmp_path):
    """Two images in a subfolder; the second map holds a class that does not exist."""
    for name, value in (("good", 1), ("bad", 2)):
        save(tmp_path / f"img/city/{name}_leftImg8bit.png", np.zeros((2, 3, 3)))
        save(tmp_path / f"map/city/{name}_gtFine_labelTrainIds.png", np.full((2, 3), value))
    return tmp_path


def listed(root: Path, text: str) -> dict:
    (root / "names.txt").write_text(text)
    return config(root, ann_file="names.txt")


def test_suffixes_are_followed(root):
    with pytest.raises(ValueError, match=r"bad_gtFine_labelTrainIds\.png holds 2"):
        check_config(config(root), ["val"])


def test_only_listed_images_are_checked(root):
    check_config(listed(root, "city/good\n"), ["val"])
    with pytest.raises(ValueError, match="bad_gtFine"):
        check_config(listed(root, "city/good\ncity/bad\n"), ["val"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names.txt names no image"),
        ("city/none\n", "1 of 1 names in .*names.txt have no image.*none_leftImg8bit.png"),
    ],
)
def test_wrong_lists(root, text, words):
    with pytest.raises(ValueError, match=words):
        check_config(listed(root, text), ["val"])


def test_missing_list_and_missing_map(root):
    with pytest.raises(ValueError, match="absent.txt does not exist"):
        check_config(config(root, ann_file="absent.txt"), ["val"])
    (root / "map/city/good_gtFine_labelTrainIds.png").unlink()
    with pytest.raises(ValueError, match="1 of 2 images in .* have no label map"):
        check_config(config(root), ["val"])


def test_pairs_are_those_of_mmseg(root):
    from mmseg.datasets import BaseSegDataset

    (root / "names.txt").write_text("city/good\ncity/bad\n")
    for names in (None, "names.txt"):
        dataset = config(root)["val_dataloader"]["dataset"]
        more = dict(ann_file=names) if names else {}
        stock = BaseSegDataset(**dataset, **more, metainfo=dict(classes=["a", "b"]))
        known = [(row["img_path"], row["seg_map_path"]) for row in map(stock.get_data_info, (0, 1))]
        suffixes = dataset["img_suffix"], dataset["seg_map_suffix"]
        found = image_pairs(root / "img", root / "map", suffixes, names and root / names)
        assert [(str(a), str(b)) for a, b in found] == known


# Known data sets


@pytest.mark.parametrize(
    ("name", "count", "first", "last"),
    [
        ("ADE20KDataset", 150, "wall", "flag"),
        ("PascalVOCDataset", 21, "background", "tvmonitor"),
        ("CityscapesDataset", 19, "road", "bicycle"),
    ],
)
def test_classes_are_those_of_mmseg(name, count, first, last):
    facts = known_datasets.facts({"dataset_type": name})
    assert facts["num_classes"] == len(facts["classes"]) == count
    assert (facts["classes"][0], facts["classes"][-1]) == (first, last)


@pytest.mark.parametrize("name", ["BaseSegDataset", "NoSuchDataset"])
def test_sets_without_known_classes(name):
    with pytest.raises(ValueError, match=f"{name}.*no data set of known classes"):
        known_datasets.facts({"dataset_type": name})


def test_classes_cannot_be_overridden_silently(root):
    cfg = dict(config(root), dataset_type="CityscapesDataset")
    with pytest.raises(ValueError, match="classes was set to 2 names.*own 19"):
        known_datasets.check_config(cfg, ["val"])
    names = known_datasets.facts(cfg)["classes"]
    known_datasets.check_config({**cfg, "classes": names, "num_classes": 19}, ["val"])
