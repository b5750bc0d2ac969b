"""Folders of ADE20K, VOC 2012 and Cityscapes: what is missing or wrong; maps that are written."""

from __future__ import annotations

import collections
import dataclasses
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pe_dense.data.checks import label_map_files
from pe_dense.data.checks.label_map_files import train_ids, write_augmented_voc, write_train_ids
from pe_dense.data.checks.segmentation_folder import KNOWN_SEGMENTATION, inspect_segmentation

ROOT = Path(__file__).resolve().parents[3]
ADE, VOC, CITY = (KNOWN_SEGMENTATION[name] for name in ("ade20k", "voc", "cityscapes"))


def quiet(*_):
    return lambda done, total: None


def save(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)
    return path


def resized(known, **numbers):
    """The set with other numbers of images, so that a test can have all of them."""
    splits = {k: dataclasses.replace(known.splits[k], num_images=n) for k, n in numbers.items()}
    return dataclasses.replace(known, splits=splits)


def ade_pair(root: Path, number: int, labels=None, size=(6, 8)) -> None:
    name = f"ADE_val_{number:08d}"
    save(root / f"images/validation/{name}.jpg", np.zeros((*size, 3)))
    labels = np.full(size, 150) if labels is None else labels
    save(root / f"annotations/validation/{name}.png", labels)


def kinds(found) -> dict[str, int]:
    """Problems by name and count; classes that so few pixels lack are left out."""
    counts = collections.Counter()
    for finding in (f for of_split in found.findings.values() for f in of_split if f.is_problem):
        counts[finding.rule.name] += finding.count
    return {name: count for name, count in counts.items() if name != "class-absent"}


def test_the_published_numbers():
    numbers = {(k, s): n.num_images for k, v in KNOWN_SEGMENTATION.items() for s, n in
               v.splits.items()}  # fmt: skip
    assert numbers == {
        ("ade20k", "train"): 20210, ("ade20k", "val"): 2000, ("voc", "train"): 1464,
        ("voc", "val"): 1449, ("voc", "trainaug"): 10582, ("cityscapes", "train"): 2975,
        ("cityscapes", "val"): 500,
    }  # fmt: skip


def test_a_whole_folder_has_no_problems(tmp_path):
    every = np.arange(160).clip(max=150).reshape(10, 16)
    for number in (1, 2, 3):
        ade_pair(tmp_path, number, every, every.shape)
    found = inspect_segmentation(tmp_path, resized(ADE, val=3), ["val"], quiet)
    assert found.num_problems == 0
    rows = [line.split() for line in found.text().splitlines()]
    assert ["label", "maps", "3"] in rows and ["150", "6.25", "%", "(3)"] in rows


def test_missing_files_are_named(tmp_path):
    for number in (1, 3):
        ade_pair(tmp_path, number)
    (tmp_path / "annotations/validation/ADE_val_00000003.png").unlink()
    found = inspect_segmentation(tmp_path, resized(ADE, val=3), ["val"], quiet)
    assert kinds(found) == {
        "images-without-map": 1, "listed-without-files": 1, "published-total": 1
    }  # fmt: skip
    text = found.text()
    assert "annotations/validation/ADE_val_00000003.png" in text
    assert "ADE_val_00000002.jpg" in text and "has 1 images, but ADE20K" in text


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (np.full((6, 8), 151), "label-range"),
        (np.full((8, 6), 150), "label-map-size"),
        (np.zeros((6, 8, 3)), "label-map-colour"),
        (np.zeros((6, 8)), "zero-fills-half"),
    ],
)
def test_wrong_label_maps(tmp_path, labels, kind):
    ade_pair(tmp_path, 1, labels)
    found = inspect_segmentation(tmp_path, resized(ADE, val=1), ["val"], quiet)
    assert kind in kinds(found) and "annotations/validation" in found.text()


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_a_broken_file_is_named(tmp_path, content):
    ade_pair(tmp_path, 1)
    (tmp_path / "images/validation/ADE_val_00000001.jpg").write_bytes(content)
    found = inspect_segmentation(tmp_path, resized(ADE, val=1), ["val"], quiet)
    assert kinds(found) == {"image-unreadable": 1}


def test_a_copy_of_a_training_image_in_val(tmp_path):
    ade_pair(tmp_path, 1)
    shutil.copytree(tmp_path / "images/validation", tmp_path / "images/training")
    shutil.copytree(tmp_path / "annotations/validation", tmp_path / "annotations/training")
    for file in tmp_path.rglob("training/*"):
        file.rename(file.with_stem("ADE_train_00000001"))
    found = inspect_segmentation(tmp_path, resized(ADE, train=1, val=1), ["train", "val"], quiet)
    assert kinds(found) == {"val-is-train": 1} and "as " in found.text()


def test_empty_folders_and_unknown_splits(tmp_path):
    found = inspect_segmentation(tmp_path, CITY, ["train", "val"], quiet)
    assert kinds(found)["missing-folder"] == 4 and "leftImg8bit/train" in found.text()
    with pytest.raises(ValueError, match="is no folder"):
        inspect_segmentation(tmp_path / "absent", CITY, ["val"], quiet)
    with pytest.raises(ValueError, match="no split 'test'"):
        inspect_segmentation(tmp_path, CITY, ["test"], quiet)


# Cityscapes


def city(root: Path, ids, name="zurich/zurich_000000_000019") -> Path:
    save(root / f"leftImg8bit/val/{name}_leftImg8bit.png", np.zeros((*np.shape(ids), 3)))
    return save(root / f"gtFine/val/{name}_gtFine_labelIds.png", ids)


def test_train_ids_of_every_class():
    # Of the published table: the 19 classes in the order of their ids for training.
    counted = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    slow = [counted.index(i) if i in counted else 255 for i in range(256)]
    assert train_ids(np.arange(256, dtype=np.uint8)[None])[0].tolist() == slow


def test_train_ids_are_written_once_and_whole(tmp_path, monkeypatch):
    source = city(tmp_path, [[7, 0, 33, 26]])
    city(tmp_path, [[8, 8, 8, 1]], "bern/bern_000000_000019")
    target = source.with_name(source.name.replace("labelIds", "labelTrainIds"))
    assert kinds(inspect_segmentation(tmp_path, resized(CITY, val=2), ["val"], quiet)) == {
        "images-without-map": 2,
        "no-pairs": 1,
    }
    real = label_map_files.atomic_write_bytes

    def stopped(path, content):
        if path == target:
            raise KeyboardInterrupt
        real(path, content)

    monkeypatch.setattr(label_map_files, "atomic_write_bytes", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_train_ids(tmp_path, ("val",), quiet())
    monkeypatch.undo()
    assert not target.exists()
    assert write_train_ids(tmp_path, ("val",), quiet()) == (1, 1)
    assert write_train_ids(tmp_path, ("val",), quiet()) == (0, 2)
    assert np.asarray(Image.open(target)).tolist() == [[0, 255, 18, 13]]
    assert not list(tmp_path.rglob(".*"))
    assert kinds(inspect_segmentation(tmp_path, resized(CITY, val=2), ["val"], quiet)) == {}


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def fail(self, target):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        label_map_files.atomic_write_bytes(tmp_path / "x.png", b"x")
    assert list(tmp_path.iterdir()) == []


def test_label_ids_that_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match="labelIds.png.*unpack"):
        write_train_ids(tmp_path, ("val",), quiet())
    source = city(tmp_path, [[7]])
    source.write_bytes(b"")
    with pytest.raises(ValueError, match="zurich_000000_000019.*cannot be decoded"):
        write_train_ids(tmp_path, ("val",), quiet())


# VOC


@pytest.fixture
def voc(tmp_path):
    """VOC with one training and one validation image, and SBD with both and one more."""
    savemat = pytest.importorskip("scipy.io").savemat
    root, sbd = tmp_path / "VOC2012", tmp_path / "sbd"
    every = np.arange(21).reshape(3, 7)
    for name in "ab":
        save(root / f"SegmentationClass/{name}.png", every)
    for grey, name in enumerate("abc"):
        save(root / f"JPEGImages/{name}.jpg", np.full((3, 7, 3), 60 * grey))
        (sbd / "cls").mkdir(parents=True, exist_ok=True)
        labels = np.full((3, 7), 20, np.uint8)
        savemat(sbd / f"cls/{name}.mat", {"GTcls": {"Segmentation": labels}})
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text("a\n")
    (root / "ImageSets/Segmentation/val.txt").write_text("b\n")
    (sbd / "train.txt").write_text("c\nb\n")
    (sbd / "val.txt").write_text("a\n")
    return root, sbd


def test_augmented_voc(voc):
    root, sbd = voc
    assert write_augmented_voc(root, sbd, quiet()) == (2, 0)
    assert (root / "ImageSets/Segmentation/trainaug.txt").read_text() == "a\nc\n"  # b is val
    maps = {n: np.asarray(Image.open(root / f"SegmentationClassAug/{n}.png")) for n in "ac"}
    assert (maps["a"].ravel() == np.arange(21)).all()  # VOC's own map
    assert (maps["c"] == 20).all() and maps["c"].shape == (3, 7)  # SBD's
    assert write_augmented_voc(root, sbd, quiet()) == (0, 2)
    known = resized(VOC, train=1, val=1, trainaug=2)
    assert kinds(inspect_segmentation(root, known, list(known.splits), quiet)) == {}


def test_faults_of_sbd(voc, monkeypatch):
    root, sbd = voc
    with pytest.raises(ValueError, match="no folder cls"):
        write_augmented_voc(root, root, quiet())
    (sbd / "cls/c.mat").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"c\.mat cannot be read"):
        write_augmented_voc(root, sbd, quiet())
    assert not (root / "ImageSets/Segmentation/trainaug.txt").exists()
    (sbd / "cls/c.mat").unlink()
    with pytest.raises(ValueError, match=r"c\.mat does not exist"):
        write_augmented_voc(root, sbd, quiet())
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ValueError, match="need scipy"):
        write_augmented_voc(root, sbd, quiet())


# The tool


def test_the_tool_ends_with_0_or_2(voc, tmp_path, capsys, monkeypatch):
    root, sbd = voc
    main = runpy.run_path(str(ROOT / "tools/prepare_data.py"))["main"]
    assert main(["voc", str(root), "--aug", str(sbd)]) == 2
    captured = capsys.readouterr()
    assert "2 label maps of trainaug written" in captured.out
    assert "but PASCAL VOC 2012 has 10,582" in captured.out and "error:" in captured.err
    known = resized(VOC, train=1, val=1, trainaug=2)
    monkeypatch.setitem(KNOWN_SEGMENTATION, "voc", known)
    assert main(["voc", str(root)]) == 0
    city(tmp_path / "city", [sorted(label_map_files.CITYSCAPES_TRAIN_IDS)])
    monkeypatch.setitem(KNOWN_SEGMENTATION, "cityscapes", resized(CITY, val=1))
    command = ["cityscapes", str(tmp_path / "city"), "--splits", "val"]
    assert main(command) == 2
    assert main([*command, "--train-ids"]) == 0
    assert main(["ade20k", str(tmp_path / "absent")]) == 2
    assert "Traceback" not in capsys.readouterr().err
