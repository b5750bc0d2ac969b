"""YOLO and VOC folders, read as they are: by hand, and refused with one sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from label_folders import picture, voc_folder, voc_xml, write, yolo_folder

from pe_dense.data.checks.coco_folder import facts
from pe_dense.data.convert.beside import made_from
from pe_dense.data.convert.voc import read_voc
from pe_dense.data.convert.yolo import read_yolo


def content(root: Path, split: str) -> dict:
    found = facts({"data_root": str(root)})
    return json.loads((root / found[f"{split}_json"]).read_text())


def boxes(root: Path, split: str) -> list[list[float]]:
    return [item["bbox"] for item in content(root, split)["annotations"]]


# ---- YOLO ----------------------------------------------------------------------------------------


def test_shares_of_the_picture_become_pixels(tmp_path: Path) -> None:
    root = yolo_folder(tmp_path / "d")
    train = content(root, "train")
    assert [item["bbox"] for item in train["annotations"]] == [[24, 12, 16, 24], [12, 6, 8, 12]]
    assert [i["file_name"] for i in train["images"]] == ["images/train/a.png", "images/train/b.png"]
    assert train["categories"] == [dict(id=1, name="cat"), dict(id=2, name="big dog")]
    box, outline = content(root, "val")["annotations"]
    assert box["bbox"] == [0, 0, 32, 24] and "segmentation" not in box
    assert outline["segmentation"] == [[32, 24, 48, 24, 48, 36]]
    assert outline["bbox"] == [32, 24, 16, 12] and outline["area"] == 16 * 12 / 2


def test_empty_and_unlabelled_pictures_are_kept_and_counted(tmp_path: Path) -> None:
    root = yolo_folder(tmp_path / "d")
    picture(root / "images/train/e.png")
    write(root / "labels/train/e.txt", "\n")
    found = facts({"data_root": str(root)})
    assert len(content(root, "train")["images"]) == 3
    notes = made_from(root / found["train_json"])
    assert {f.rule.name: f.count for f in notes.findings} == {
        "images-without-labels": 1, "empty-labels": 1,
    }  # fmt: skip


@pytest.mark.parametrize("way", ["folders", "roboflow", "lists", "absolute lists", "beside"])
def test_layouts(way: str, tmp_path: Path) -> None:
    root = tmp_path / "d"
    text = "0 0.5 0.5 0.5 0.5\n"
    places = {
        "folders": ("images/train/a.jpg", "images/val/b.jpg"),
        "roboflow": ("train/images/a.jpg", "valid/images/b.jpg"),
        "lists": ("images/a.jpg", "images/b.jpg"),
        "absolute lists": ("images/a.jpg", "images/b.jpg"),
        "beside": ("train/a.jpg", "val/b.jpg"),
    }[way]
    for place in places:
        picture(root / place)
        write((root / place.replace("images/", "labels/")).with_suffix(".txt"), text)
    if way == "roboflow":
        write(root / "data.yaml", "train: ../train/images\nval: ../valid/images\nnc: 1\nnames: [x]")
    else:
        write(root / "classes.txt", "x\n")
    if "lists" in way:
        start = "/home/someone/data/" if way == "absolute lists" else "./"
        write(root / "train.txt", f"{start}{places[0]}\n")
        write(root / "val.txt", f"{start}{places[1]}\n")
    assert [boxes(root, split) for split in ("train", "val")] == [[[16, 12, 32, 24]]] * 2
    assert content(root, "val")["images"][0]["file_name"] == places[1]


def test_sizes_are_those_of_the_turned_picture(tmp_path: Path) -> None:
    root = yolo_folder(tmp_path / "d")
    picture(root / "images/val/d.jpg", (64, 48), orientation=6)
    write(root / "labels/val/d.txt", "0 0.5 0.5 0.5 0.5\n")
    val = content(root, "val")
    assert (val["images"][1]["width"], val["images"][1]["height"]) == (48, 64)
    assert val["annotations"][-1]["bbox"] == [12, 16, 24, 32]


def test_changed_labels_are_never_stale(tmp_path: Path) -> None:
    root = yolo_folder(tmp_path / "d")
    before = facts({"data_root": str(root)})
    assert facts({"data_root": str(root)}) == before
    file = root / "labels/val/c.txt"
    times = os.stat(file)
    file.write_text("0 0.50 0.5 0.25 0.5\n" + "1 0.25 0.25 0.5 0.5\n")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = facts({"data_root": str(root)})
    assert after["val_sha256"] != before["val_sha256"]
    assert after["train_sha256"] == before["train_sha256"]
    made = root / after["val_json"]
    made.write_text(made.read_text().replace("24", "25"))
    assert facts({"data_root": str(root)})["val_sha256"] == after["val_sha256"]
    assert '"bbox": [24' in made.read_text()


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = yolo_folder(tmp_path / "d")
    plain = facts({"data_root": str(root)})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for file in (root / ".pe_dense").iterdir():
        file.unlink()
    (root / ".pe_dense").rmdir()
    (root / ".pe_dense").write_text("")  # in the way, as a folder without rights would be
    found = facts({"data_root": str(root)})
    assert found["train_json"].startswith(str(tmp_path / "cache"))
    assert found["val_file"] == found["val_json"]
    assert found["train_sha256"] == plain["train_sha256"], "the protocol does not know the place"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("labels/train/a.txt", "2 .5 .5 .1 .1", "a.txt: line 1 has class 2, but there are 2 cl"),
        ("labels/train/a.txt", "0.5 .5 .5 .1 .1", "has class 0.5"),
        ("labels/train/a.txt", "0 32 24 10 10", "has 32, outside 0 to 1; coordinates are shares"),
        ("labels/train/a.txt", "0 .5 .5 .1", "has 4 numbers"),
        ("labels/train/a.txt", "0 .5 .5 .1 .1 .9", "has a sixth number, as predictions"),
        ("labels/train/a.txt", "cat .5 .5 .1 .1", "write 'class x y w h' in numbers"),
        ("labels/train/a.txt", "0 nan .5 .1 .1", "no finite number"),
        ("data.yaml", "train: images/train\nval: images/val\nnames: {0: a, 2: b}", "number them 0"),
        ("data.yaml", "train: images/train\nval: images/val\nnc: 3\nnames: [a, b]", "make them ag"),
        ("data.yaml", "train: images/train\nnames: [a, b]", "no pictures for val"),
        ("data.yaml", "train: images\nval: images/val\nnames: [a, b]", "both in train and in val"),
        ("data.yaml", "train: x\nval: images/val\nnames: [a, b]", "names x, which is not below"),
        ("data.yaml", "train: images/train\nval: images/val\nnames: [a, a]", "class 'a' twice"),
        ("more.yaml", "train: images/train\nnames: [a, b]", "two descriptions of YOLO data"),
    ],
)
def test_bad_yolo_is_one_sentence(name: str, text: str, words: str, tmp_path: Path) -> None:
    root = yolo_folder(tmp_path / "d")
    write(root / name, text)
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        facts({"data_root": str(root)})
    assert words in str(error.value)


def test_two_pictures_of_one_label_are_refused(tmp_path: Path) -> None:
    root = yolo_folder(tmp_path / "d")
    picture(root / "images/train/a.jpg")
    with pytest.raises(ValueError, match=r"a\.txt belongs to both a\.jpg and a\.png"):
        facts({"data_root": str(root)})


def test_labels_without_a_picture_are_found(tmp_path: Path) -> None:
    root = yolo_folder(tmp_path / "d")
    write(root / "labels/train/z.txt", "0 .5 .5 .1 .1\n")
    (finding,) = [f for f in read_yolo(root).found.findings() if f.is_problem]
    assert finding.rule.name == "labels-without-image" and "z.txt" in str(finding.examples[0])


def test_no_classes_are_refused(tmp_path: Path) -> None:
    root = yolo_folder(tmp_path / "d")
    (root / "data.yaml").unlink()
    with pytest.raises(ValueError, match=r"names no classes; write data\.yaml"):
        facts({"data_root": str(root)})


def test_two_formats_in_one_folder_are_refused(tmp_path: Path) -> None:
    root = yolo_folder(tmp_path / "d")
    voc_xml(root / "labels/train/a.xml", "a.png", [("cat", 2, 2, 9, 9, 0)])
    with pytest.raises(ValueError, match="two formats .yolo and voc."):
        facts({"data_root": str(root)})


# ---- VOC -----------------------------------------------------------------------------------------


def test_voc_counts_pixels_from_one_to_the_last_inside(tmp_path: Path) -> None:
    root = voc_folder(tmp_path / "d")
    assert boxes(root, "val") == [[10, 4, 20, 20], [0, 0, 64, 48]]
    train = content(root, "train")
    assert [c["name"] for c in train["categories"]] == ["cat", "größe 1"]
    assert [a.get("ignore", 0) for a in train["annotations"]] == [0, 1, 0, 0], "difficult"
    assert read_voc(root, origin=0).images[0].shapes[0].box_xyxy == (11, 5, 30, 24)


def test_a_box_from_zero_shows_that_a_set_counts_from_there(tmp_path: Path) -> None:
    root = voc_folder(tmp_path / "d")
    voc_xml(root / "Annotations/c.xml", "c.jpg", [("cat", 0, 0, 63, 47, 0)])
    found = read_voc(root)
    assert found.images[2].shapes[0].box_xyxy == (0, 0, 63, 47)
    assert found.images[0].shapes[0].box_xyxy == (11, 5, 30, 24)
    assert any("from 0" in line for line in found.how)


def test_a_picture_without_xml_is_kept(tmp_path: Path) -> None:
    root = voc_folder(tmp_path / "d")
    (root / "Annotations/b.xml").unlink()
    train = content(root, "train")
    assert len(train["images"]) == 2 and {a["image_id"] for a in train["annotations"]} == {1}


def test_unknown_tags_are_counted(tmp_path: Path) -> None:
    root = voc_folder(tmp_path / "d")
    file = root / "Annotations/a.xml"
    file.write_text(file.read_text().replace("</object>", "<colour>red</colour></object>"))
    (note,) = [f for f in read_voc(root).found.findings() if f.rule.name == "other-tags"]
    assert note.count == 2 and "<colour>" in str(note.examples[0])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("<width>64</width>", "<width>48</width>", "is for a picture of 48 x 48"),
        ("<xmin>11</xmin>", "", "has xmin None, which is no number"),
        ("<filename>a.jpg", "<filename>b.jpg", "says it labels b.jpg, but a.jpg has its own name"),
        ("<annotation>", '<!DOCTYPE a [<!ENTITY x "y">]><annotation>', "declares a document type"),
        ("</annotation>", "", "is no XML"),
    ],
)
def test_bad_voc_is_one_sentence(old: str, new: str, words: str, tmp_path: Path) -> None:
    root = voc_folder(tmp_path / "d")
    file = root / "Annotations/a.xml"
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        facts({"data_root": str(root)})
    assert words in str(error.value)


def test_a_picture_in_two_splits_is_refused(tmp_path: Path) -> None:
    root = voc_folder(tmp_path / "d")
    write(root / "ImageSets/Main/val.txt", "c\na\n")
    with pytest.raises(ValueError, match="lists a, which is in train too"):
        facts({"data_root": str(root)})
