"""Own images and label maps: every layout gives the same pairs, every number its class or a no."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cv2")

from own_folders import label_map, labelled, picture

from pe_dense.data.checks.own_maps import facts
from pe_dense.data.checks.own_parts import read_list
from pe_dense.data.label_map import read_labels


def found(root: Path, **options: object) -> dict:
    return facts({"data_root": str(root), "planned_for": "cpu", **options})


def rows(root: Path, part: str = "train", **options: object) -> list[dict]:
    return read_list(root / found(root, **options)["list"], root, part)


def names(root: Path, part: str) -> list[str]:
    return [Path(row["name"]).stem for row in rows(root, part)]


LAYOUTS = {
    "plain": ("images/{n}.jpg", "masks/{n}.png"),
    "labels": ("imgs/{n}.PNG", "labels/{n}.png"),
    "ends": ("images/{n}.webp", "annotations/{n}_mask.png"),
    "beside": ("{n}.jpeg", "{n}_mask.png"),
    "only_masks_named": ("{n}.bmp", "masks/{n}.png"),
    "camvid": ("train/{n}.png", "trainannot/{n}.png"),
    "voc": ("JPEGImages/{n}.jpg", "SegmentationClass/{n}.png"),
    "folders_of_folders": ("images/a/{n}.tif", "masks/a/{n}.tif"),
    "mmseg": ("img_dir/train/{n}.jpg", "ann_dir/train/{n}.png"),
    "split_first": ("train/images/{n}.jpg", "train/masks/{n}.png"),
    "cityscapes": (
        "leftImg8bit/train/ulm/ulm_0_{n}_leftImg8bit.png",
        "gtFine/train/ulm/ulm_0_{n}_gtFine_labelTrainIds.png",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_pairs(layout: str, tmp_path: Path) -> None:
    root = labelled(tmp_path / "mine", *LAYOUTS[layout])
    all_rows = [*rows(root, "train"), *rows(root, "val")]
    images = sorted(row["image"].name for row in all_rows)
    assert images == sorted(Path(LAYOUTS[layout][0].format(n=n)).name for n in range(6))
    for row in all_rows:
        digit = row["image"].stem.replace("_leftImg8bit", "").rpartition("_")[2]
        assert digit == row["map"].stem.split("_gtFine")[0].replace("_mask", "").rpartition("_")[2]
    assert found(root)["num_classes"] == 3


def test_folders_lists_and_chance_divide(tmp_path: Path) -> None:
    root = labelled(tmp_path / "folders", "images/train/{n}.jpg", "masks/train/{n}.png")
    picture(root / "images/val/9.jpg", 9), label_map(root / "masks/val/9.png", [0, 1, 2])
    assert (names(root, "train"), names(root, "val")) == (list("012345"), ["9"])
    with pytest.raises(ValueError, match=r"split=0\.2 was given, but .* has its own validation"):
        found(root, split=0.2)

    root = labelled(tmp_path / "lists", "JPEGImages/{n}.jpg", "SegmentationClass/{n}.png")
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("0\n1\n2\n")
    (lists / "val.txt").write_text("4\n5\n")
    assert (names(root, "train"), names(root, "val")) == (list("012"), list("45"))
    (lists / "val.txt").write_text("4\n7\n")
    with pytest.raises(ValueError, match=r"val\.txt names '7', which is no image with a map"):
        found(root)
    (lists / "val.txt").write_text("2\n")
    with pytest.raises(ValueError, match=r"2\.jpg is in .*train\.txt and in .*val\.txt"):
        found(root)

    root = labelled(tmp_path / "chance", "images/{n}.jpg", "masks/{n}.png", count=10)
    first = names(root, "val")
    assert len(first) == 2
    assert first == names(shutil.copytree(root, tmp_path / "moved"), "val")
    others = {tuple(Path(r["name"]).stem for r in rows(root, "val", split_seed=s))
              for s in range(5)}  # fmt: skip
    assert len(others) > 1
    assert len(rows(root, "val", split=0.5)) == 5


def test_clips_are_not_cut_and_a_single_one_ends_after_a_gap(tmp_path: Path) -> None:
    root = tmp_path / "clips"
    for clip in "abcdefghij":
        labelled(root, f"images/{clip}/frame_{{n:03}}.png", f"masks/{clip}/frame_{{n:03}}.png")
    val = {row["name"].split("/")[1] for row in rows(root, "val")}
    train = {row["name"].split("/")[1] for row in rows(root, "train")}
    assert len(val) == 2 and len(train) == 8 and not val & train

    root = labelled(tmp_path / "one", "images/frame_{n:03}.png", "masks/frame_{n:03}.png", 40)
    numbers = {part: [int(n[-3:]) for n in names(root, part)] for part in ("train", "val")}
    assert numbers["val"] == list(range(32, 40))
    assert max(numbers["train"]) == 29  # two belong to neither
    groups = {row["clip"] for row in rows(root, "train")}
    assert groups == {"starts of clips", "ends of clips"}


def test_numbers_that_look_alike_are_clips_and_others_are_not(tmp_path: Path) -> None:
    alone = labelled(tmp_path / "alone", "images/IMG_{n:04}.png", "masks/IMG_{n:04}.png", 20)
    assert "every picture for itself" in found(alone)["found"]
    root = labelled(tmp_path / "drive", "images/IMG_{n:04}.png", "masks/IMG_{n:04}.png", 20)
    for n in range(20):  # a light that moves
        image_HW = np.zeros((64, 64), np.uint8)
        image_HW[:, 3 * n : 3 * n + 12] = 255
        Image.fromarray(image_HW).save(root / f"images/IMG_{n:04}.png")
    assert "neighbours look alike" in found(root)["found"]
    assert "every picture for itself" in found(root, split_group="image")["found"]


# ---- what numbers mean ---------------------------------------------------------------------------


def classes_and_labels(root: Path, **options: object) -> tuple[list[str], list[int]]:
    row = rows(root, **options)[0]
    return found(root, **options)["classes"], np.unique(read_labels(row["map"])).tolist()


def with_values(root: Path, *values: object, mask: str = "masks/{n}.png") -> Path:
    return labelled(root, "images/{n}.jpg", mask, values=values)


def test_sound_maps_are_used_as_they_are(tmp_path: Path) -> None:
    root = with_values(tmp_path, 0, 1, 255)
    assert classes_and_labels(root) == (["class_0", "class_1"], [0, 1, 255])
    assert all(row["map"].parent == root / "masks" for row in rows(root))


def test_gaps_depth_and_binary_maps_become_dense(tmp_path: Path) -> None:
    root = with_values(tmp_path / "gaps", 3, 90, 200)
    assert classes_and_labels(root) == (["class_3", "class_90", "class_200"], [0, 1, 2])
    assert "3 -> 0, 90 -> 1, 200 -> 2" in found(root)["found"]
    assert found(root)["label_numbers"] == [3, 90, 200], "as predictions are to be written"
    deep = with_values(tmp_path / "deep", 7, 1000, 65_535)
    assert classes_and_labels(deep) == (["class_7", "class_1000"], [0, 1, 255])
    binary = with_values(tmp_path / "binary", 0, 255)
    assert classes_and_labels(binary) == (["background", "foreground"], [0, 1])
    assert found(binary, classes=["road"])["classes"] == ["background", "road"]
    assert found(binary, classes="[sky,road]")["classes"] == ["sky", "road"]


def test_maps_that_were_tidied_away_are_written_again(tmp_path: Path) -> None:
    root = with_values(tmp_path, 3, 90, 200)
    before = rows(root)
    shutil.rmtree(before[0]["map"].parents[1])
    assert [row["map"].is_file() for row in rows(root)] == [True] * len(before)


NAMES = {
    "classes.txt": "void\nroad\ncar\n",
    "classes.yaml": "classes: {0: unlabelled, 1: road, 2: car}\n",
    "labelmap.txt": "# label:color_rgb:parts:actions\nvoid:0,0,0::\nroad:1,2,3::\ncar:4,5,6::\n",
    "names.json": '["ignore", "road", "car"]',
    "id2label.json": '{"0": "unknown", "1": "road", "2": "car"}',
    "class_dict.csv": "name,r,g,b\nvoid,0,0,0\nroad,9,9,9\ncar,8,8,8\n",
}


@pytest.mark.parametrize("file", NAMES)
def test_names_come_from_a_file_and_void_is_no_class(file: str, tmp_path: Path) -> None:
    root = with_values(tmp_path, 0, 1, 2)
    (root / file).write_text(NAMES[file])
    assert classes_and_labels(root) == (["road", "car"], [0, 1, 255])
    assert found(root, unlabelled=[])["num_classes"] == 3
    assert found(root, unlabelled="[car]")["num_classes"] == 2
    assert file in found(root)["found"]


def test_counted_names_may_begin_at_one(tmp_path: Path) -> None:
    root = with_values(tmp_path, 0, 1, 2)
    (root / "classes.txt").write_text("road\ncar\n")
    assert classes_and_labels(root) == (["road", "car"], [0, 1, 255])
    assert "0 is no class" in found(root)["found"]


def test_colours_need_a_file_that_says_what_they_mean(tmp_path: Path) -> None:
    root = with_values(tmp_path, (0, 0, 0), (128, 64, 0), (0, 0, 142))
    with pytest.raises(ValueError, match=r"are in colour, and nothing says .* names_file=FILE"):
        found(root)
    (root / "colours.txt").write_text("0 0 0 Void\n0 0 142 car\n128 64 0 road\n")
    classes, labels = classes_and_labels(root, names_file="colours.txt")
    assert (classes, labels) == (["car", "road"], [0, 1, 255])
    assert found(root, names_file="colours.txt")["label_numbers"] is None
    dense_HW = read_labels(rows(root, names_file="colours.txt")[0]["map"])
    assert (dense_HW[32] == 1).all() and (dense_HW[-1] == 0).all()
    (root / "colours.txt").write_text("0 0 0 Void\n0 0 142 car\n")
    with pytest.raises(ValueError, match=r"has the colour \(128, 64, 0\), which .*colours\.txt"):
        found(root, names_file="colours.txt")


def test_a_coloured_map_may_have_dark_colours_alone(tmp_path: Path) -> None:
    """A picture of nothing but void, and one whose colours have no red: numbers below 65,536."""
    root = tmp_path / "mine"
    colours = np.array([[0, 0, 0], [0, 0, 142], [0, 90, 7], [128, 64, 0]], np.uint8)
    shown = {"a": (1, 3), "b": (0, 0), "c": (1, 2), "d": (2, 3)}
    for k, (name, (left, right)) in enumerate(shown.items()):
        part = "val" if name == "d" else "train"
        picture(root / f"images/{part}/{name}.jpg", k)
        numbers_HW = np.full((64, 64), left)
        numbers_HW[:, 32:] = right
        file = root / f"masks/{part}/{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(colours[numbers_HW]).save(file)
    (root / "label_colors.txt").write_text("0 0 0 void\n0 0 142 car\n0 90 7 tree\n128 64 0 road\n")
    found(root)
    expected = {0: 255, 1: 0, 2: 1, 3: 2}
    for row in rows(root):
        left, right = shown[row["image"].stem]
        dense_HW = read_labels(row["map"])
        assert (dense_HW[:, :32] == expected[left]).all(), row["image"].stem
        assert (dense_HW[:, 32:] == expected[right]).all(), row["image"].stem


def test_grey_in_three_channels_is_labels(tmp_path: Path) -> None:
    root = with_values(tmp_path, (0, 0, 0), (1, 1, 1))
    assert classes_and_labels(root) == (["class_0", "class_1"], [0, 1])


# ---- COCO ----------------------------------------------------------------------------------------


def coco(root: Path, split: str, panoptic: bool, categories: tuple[str, ...]) -> None:
    images, annotations = [], []
    for n in range(4):
        name = f"{split}{n}.png"
        picture(root / f"{split}2017" / name, n + 10 * (split == "val"))
        images.append(dict(id=n, file_name=name, width=64, height=64))
        if panoptic:
            ids_HW3 = np.zeros((64, 64, 3), np.uint8)
            ids_HW3[16:32, :, 0], ids_HW3[32:, :, 1] = 5, 2  # segments 5 and 512
            folder = root / f"annotations/panoptic_{split}2017"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(ids_HW3).save(folder / name)
            info = [dict(id=5, category_id=7), dict(id=512, category_id=199)]
            annotations.append(dict(image_id=n, file_name=name, segments_info=info))
        else:
            for number, top in ((7, 16), (199, 32)):
                box = [0, top, 64, top, 64, 64, 0, 64]
                annotations.append(dict(id=len(annotations), image_id=n, category_id=number,
                                        segmentation=[box], iscrowd=0, area=1,
                                        bbox=[0, top, 64, 64 - top]))  # fmt: skip
    kind = "panoptic" if panoptic else "instances"
    (root / "annotations").mkdir(exist_ok=True)
    named = [dict(id=i, name=name) for i, name in zip((7, 199, 3), categories, strict=True)]
    (root / f"annotations/{kind}_{split}2017.json").write_text(
        json.dumps(dict(images=images, annotations=annotations, categories=named))
    )


@pytest.mark.parametrize("panoptic", [True, False])
def test_coco_becomes_label_maps(panoptic: bool, tmp_path: Path) -> None:
    for split in ("train", "val"):
        coco(tmp_path, split, panoptic, ("cat", "tree", "unseen"))
    expected = ["cat", "tree"] if panoptic else ["background", "cat", "tree"]
    assert found(tmp_path)["classes"] == expected
    labels_HW = read_labels(rows(tmp_path)[0]["map"])
    column = labels_HW[[0, 20, 40], 0].tolist()
    assert column == ([255, 0, 1] if panoptic else [0, 1, 2])
    assert [len(rows(tmp_path, part)) for part in ("train", "val")] == [4, 4]


def test_categories_that_differ_between_splits_are_refused(tmp_path: Path) -> None:
    coco(tmp_path, "train", True, ("cat", "tree", "unseen"))
    coco(tmp_path, "val", True, ("cat", "bush", "unseen"))
    with pytest.raises(ValueError, match=r"id 199 is 'tree' in .* and 'bush' in"):
        found(tmp_path)


# ---- what cannot be used -------------------------------------------------------------------------


def test_a_class_that_only_validation_has(tmp_path: Path) -> None:
    root = labelled(tmp_path, "images/train/{n}.jpg", "masks/train/{n}.png")
    picture(root / "images/val/9.jpg", 9), label_map(root / "masks/val/9.png", [0, 1, 2, 7])
    with pytest.raises(ValueError, match=r"validation holds label 7 .*9\.png.* same classes"):
        found(root)
    (root / "classes.txt").write_text("\n".join("abcdefgh"))
    assert found(root)["classes"] == ["a", "b", "c"]
    assert (
        "validation holds h, which training does not: no class, not scored"
        in (found(root)["found"])
    )


def broken_jpeg(root: Path) -> None:
    (root / "masks/3.png").unlink()
    label_map(root / "masks/3.jpg", [0, 1])


def broken_size(root: Path) -> None:
    label_map(root / "masks/3.png", [0, 1], side=32)


def broken_cut(root: Path) -> None:
    content = (root / "masks/3.png").read_bytes()
    (root / "masks/3.png").write_bytes(content[: len(content) // 2])


def broken_names(root: Path) -> None:
    for file in (root / "masks").iterdir():
        file.rename(file.with_name(f"other{file.name}"))


def broken_photo(root: Path) -> None:
    for n in range(6):
        picture(root / f"masks/{n}.png", n, side=128), picture(root / f"images/{n}.jpg", n, 128)


CASES = {
    "jpeg": (broken_jpeg, {}, r"3\.jpg: is a JPEG"),
    "size": (broken_size, {}, r"3\.png: is 32x32 px but its image is 64x64"),
    "cut": (broken_cut, {}, r"3\.png: is no picture, or is cut off"),
    "names": (broken_names, {}, r"6 of 6 label maps .* have no image of their name"),
    "photo": (broken_photo, {}, r"different values, so it is a picture and no map"),
    "no_maps": (lambda r: shutil.rmtree(r / "masks"), {}, r"has no label maps that can be told"),
    "folder": (lambda r: None, {"masks": "mask"}, r"masks=mask is no folder of .*images, masks"),
    "names_file": (lambda r: None, {"names_file": "x.txt"}, r"names_file .*x\.txt does not exist"),
    "classes": (lambda r: None, {"classes": ["a"]}, r"label 1 of .* has no name in classes"),
    "twice": (lambda r: None, {"classes": ["a", "a", "b"]}, r"has a name twice"),
    "unlabelled": (lambda r: None, {"unlabelled": ["sky"]}, r"names 'sky', which is no class"),
    "one_class": (lambda r: None, {"unlabelled": [1, 2]}, r"holds 1 class \(class_0\), and two"),
    "split": (lambda r: None, {"split": 1.5}, r"split=1\.5 is not between 0 and 1"),
    "seed": (lambda r: None, {"split_seed": "a"}, r"split_seed='a' is no whole number"),
    "no_folder": (shutil.rmtree, {}, r"data_root .* does not exist"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_used_is_refused_in_one_sentence(case: str, tmp_path: Path) -> None:
    root = labelled(tmp_path / "mine", "images/{n}.jpg", "masks/{n}.png")
    breaks, options, words = CASES[case]
    breaks(root)
    with pytest.raises(ValueError, match=words) as error:
        found(root, **options)
    assert "\n" not in str(error.value)


def test_too_few_pictures(tmp_path: Path) -> None:
    root = labelled(tmp_path, "images/{n}.jpg", "masks/{n}.png", count=2)
    with pytest.raises(ValueError, match="label three at least"):
        found(root)
    with pytest.raises(ValueError, match="say where the folder lies"):
        facts({"data_root": None})


def test_hashes_follow_labels_names_and_parts(tmp_path: Path) -> None:
    root = labelled(tmp_path / "a", "images/{n}.jpg", "masks/{n}.png", count=10)
    first = found(root)
    copy = found(shutil.copytree(root, tmp_path / "b"))
    same = ("train_sha256", "val_sha256", "classes")
    assert [first[key] for key in same] == [copy[key] for key in same]
    assert found(root, split=0.5)["train_sha256"] != first["train_sha256"]
    assert found(root, classes=["a", "b", "c"])["val_sha256"] != first["val_sha256"]
    label_map(Path(rows(root)[0]["map"]), [0, 1, 2, 0])
    assert found(root)["train_sha256"] != first["train_sha256"]
    assert found(root)["val_sha256"] == first["val_sha256"]
