"""Label maps are checked before training: folders, suffixes, and lists of names."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mmseg")

from mmseg.registry import DATASETS

from pe_dense.data.checks import many_files
from pe_dense.data.checks.rules import CheckedData, require_known, require_sound
from pe_dense.segmentation import known_datasets, label_map_data
from pe_dense.segmentation.map_check import check_config


def save(path: Path, values, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = values if isinstance(values, Image.Image) else Image.fromarray(values)
    picture.save(path, **options)


def write_pair(root: Path, name: str, labels, suffix: str = ".jpg", map_suffix: str = ".png"):
    """An image of noise, different for each name, and its label map."""
    labels = np.asarray(labels, np.uint8)
    rng = np.random.default_rng(list(name.encode()))
    pixels = rng.integers(0, 256, (*labels.shape, 3), dtype=np.uint8)
    kind = "JPEG" if suffix.lower() in (".jpg", ".jpeg") else None
    save(root / f"img/{name}{suffix}", pixels, format=kind)
    save(root / f"map/{name}{map_suffix}", labels)


BOTH = [[0, 1, 1], [0, 0, 1]]


def dataset(root: Path, images: str = "img", maps: str = "map", **more) -> dict:
    return dict(
        type="BaseSegDataset",
        data_root=str(root),
        data_prefix=dict(img_path=images, seg_map_path=maps),
        metainfo=dict(classes=["a", "b"]),
        **more,
    )


def config(root: Path, train: dict | None = None, **more) -> dict:
    return dict(
        classes=["a", "b"],
        num_classes=2,
        train_dataloader=train and dict(dataset=train),
        val_dataloader=dict(dataset=dataset(root, **more)),
    )


def check(cfg: dict, *splits: str, accept: tuple[str, ...] = ()) -> CheckedData:
    """As training does."""
    checked = check_config(cfg, splits or ("val",))
    require_known(accept, checked.rules)
    require_sound(checked.findings, accept)
    return checked


def names(checked: CheckedData) -> list[str]:
    return [finding.rule.name for finding in checked.findings]


CITY = dict(img_suffix="_leftImg8bit.png", seg_map_suffix="_gtFine_labelTrainIds.png")


@pytest.fixture
def city(tmp_path):
    """Two images in a subfolder; the second map holds a class that does not exist."""
    write_pair(tmp_path, "city/good", BOTH, *CITY.values())
    write_pair(tmp_path, "city/bad", [[2, 2, 2]], *CITY.values())
    return tmp_path


def listed(root: Path, text: str) -> dict:
    (root / "names.txt").write_text(text)
    return config(root, ann_file="names.txt", **CITY)


def test_suffixes_are_followed(city):
    with pytest.raises(ValueError, match=r"bad_gtFine_labelTrainIds\.png: holds label 2, but"):
        check(config(city, **CITY))


def test_only_listed_images_are_checked(city):
    check(listed(city, "city/good\n\n"))
    with pytest.raises(ValueError, match="bad_gtFine"):
        check(listed(city, "city/good\ncity/bad\n"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names.txt: names no image"),
        (
            "city/none\n",
            "names.txt: city/none has no image .*none_leftImg8bit.png and no label map",
        ),
        ("city/good\ncity/good\n", "names.txt: city/good comes twice"),
    ],
)
def test_wrong_lists(city, text, words):
    with pytest.raises(ValueError, match=words):
        check(listed(city, text))


def test_missing_list_and_missing_map(city):
    with pytest.raises(ValueError, match="absent.txt: does not exist"):
        check(config(city, ann_file="absent.txt", **CITY))
    (city / "map/city/bad_gtFine_labelTrainIds.png").unlink()
    with pytest.raises(ValueError, match="bad_leftImg8bit.png: has no label map .*Ids.png;"):
        check(config(city, **CITY))
    check(config(city, **CITY), accept=("images-without-map",))
    for file in (city / "map").rglob("*.png"):
        file.unlink()
    with pytest.raises(ValueError, match="has no "):
        check(config(city, **CITY), accept=("images-without-map",))


def test_pairs_are_those_of_mmseg(tmp_path):
    """Where every file ends as configured: same pairs, same order."""
    from mmseg.datasets import BaseSegDataset

    for name in ("b", "a/c", "a", "d.e"):
        write_pair(tmp_path, name, BOTH)
    (tmp_path / "names.txt").write_text("d.e\na/c\n")
    for more in ({}, dict(ann_file="names.txt")):
        settings = dataset(tmp_path, **more)
        del settings["type"]
        rows = [
            [(row["img_path"], row["seg_map_path"]) for row in map(kind.get_data_info, range(n))]
            for kind in (BaseSegDataset(**settings), label_map_data.BaseSegDataset(**settings))
            for n in (len(kind),)
        ]
        assert rows[0] == rows[1] and len(rows[0]) == (2 if more else 4)


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


def test_classes_cannot_be_overridden_silently(city):
    cfg = dict(config(city, **CITY), dataset_type="CityscapesDataset")
    cfg["val_dataloader"]["dataset"].update(type="CityscapesDataset", metainfo=None)
    with pytest.raises(ValueError, match="classes was set to 2 names.*own 19"):
        known_datasets.check_config(cfg, ["val"])
    names = known_datasets.facts(cfg)["classes"]
    found = known_datasets.check_config({**cfg, "classes": names, "num_classes": 19}, ["val"])
    assert [f.count for f in found.findings] == [16]  # of 19 classes three occur


def test_a_published_set_has_its_number_of_images(tmp_path):
    write_pair(tmp_path, "x", [[1, 2, 150]])
    (tmp_path / "img").rename(tmp_path / "validation")
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations").mkdir()
    (tmp_path / "validation").rename(tmp_path / "images/validation")
    (tmp_path / "map").rename(tmp_path / "annotations/validation")
    own = dataset(tmp_path, "images/validation", "annotations/validation")
    own.update(type="ADE20KDataset", metainfo=None)
    cfg = dict(dataset_type="ADE20KDataset", val_dataloader=dict(dataset=own))
    cfg |= known_datasets.facts(cfg)
    found = known_datasets.check_config(cfg, ["val"]).findings
    assert [f.rule.name for f in found] == ["published-total", "class-absent"]
    assert "has 1 images, but ADE20K (SceneParse150) has 2,000" in found[0].sentence()


# What maps hold


def test_every_map_is_counted(tmp_path):
    for i in range(7):
        write_pair(tmp_path, f"{i}", [[0, 1, 255, 255]] if i else [[0, 0, 0, 0]])
    rows = [line.split() for line in check(config(tmp_path)).table.splitlines()]
    slow = np.array([[0, 0, 0, 0]] + 6 * [[0, 1, 255, 255]])
    for k, name in enumerate("ab"):
        share, maps = 100 * (slow == k).mean(), (slow == k).any(1).sum()
        assert [name, f"{share:.2f}", "%", f"({maps})"] in rows
    assert ["pixels", "ignored", f"{100 * (slow == 255).mean():.2f}", "%"] in rows


def test_an_object_drawn_with_255(tmp_path):
    """A binary mask as drawing programs save it.

    Source: mmsegmentation issues 1609 and 3749.
    """
    write_pair(tmp_path, "a", [[0, 0, 255]])
    with pytest.raises(ValueError, match="holds only 0 and 255, for 2 classes; 255 means no"):
        check(config(tmp_path))


def test_one_class_drawn_with_255(tmp_path):
    write_pair(tmp_path, "a", [[0, 0, 255]])
    cfg = dict(config(tmp_path), classes=["a"], num_classes=1)
    cfg["val_dataloader"]["dataset"]["metainfo"] = dict(classes=["a"])
    with pytest.raises(ValueError, match="holds only 0 and 255, for 1 classes; 255 means no"):
        check(cfg)
    check(cfg, accept=("object-is-ignored",))


def test_val_alone_drawn_with_255(tmp_path):
    write_pair(tmp_path, "a", [[0, 0, 255]])
    write_pair(tmp_path / "t", "b", BOTH)
    cfg = config(tmp_path, dataset(tmp_path / "t"))
    for splits in (("train", "val"), ("val",)):
        with pytest.raises(ValueError, match=f"{tmp_path}/map: holds only 0 and 255"):
            check(cfg, *splits)


def with_square(label: int, void_rows: int = 0) -> np.ndarray:
    labels_HW = np.zeros((40, 40), np.uint8)
    labels_HW[10:20, 10:20] = label
    labels_HW[:void_rows] = 255
    return labels_HW


def test_half_of_the_maps_drawn_with_255(tmp_path):
    for i in range(8):
        write_pair(tmp_path, f"{i}", with_square(255 if i % 2 else 1))
    words = r"map/1\.png: holds only 0 and 255, as 4 of 8 maps do, and 255 fills 6 % of them; 255"
    with pytest.raises(ValueError, match=words):
        check(config(tmp_path))
    checked = check(config(tmp_path), accept=("object-is-ignored",))
    assert names(checked) == ["object-is-ignored"]


@pytest.mark.parametrize("case", ["frame in every map", "thin", "rare"])
def test_void_beside_a_background_without_an_object(tmp_path, case):
    """Sound: 255 is void there as it is elsewhere, is thin, or comes in few maps."""
    frame = 3 if case == "frame in every map" else 0
    for i in range(24 if case == "rare" else 4):
        write_pair(tmp_path, f"m{i}", with_square(1, frame))
    labels_HW = with_square(255 if case == "rare" else 0, frame)
    labels_HW[0, :30] = 255
    write_pair(tmp_path, "a", labels_HW)
    assert names(check(config(tmp_path))) == []


def test_reduce_zero_label_on_maps_that_use_zero(tmp_path):
    """Source: mmsegmentation issues 2245 and 1714."""
    write_pair(tmp_path, "a", [[0, 0, 0, 1]])
    cfg = config(tmp_path, reduce_zero_label=True)
    with pytest.raises(ValueError, match=r"75 % label 0, .* \(besides: classes that occur nowh"):
        check(cfg)
    with pytest.raises(ValueError, match=r"holds label 2 \(b\) nowhere"):
        check(cfg, accept=("zero-fills-half",))
    check(cfg, accept=("zero-fills-half", "class-absent"))


def test_nothing_but_ignored_pixels(tmp_path):
    write_pair(tmp_path, "a", [[255, 255]])
    with pytest.raises(ValueError, match="holds only the ignored 255"):
        check(config(tmp_path))


def test_a_class_that_only_train_has_is_a_note(tmp_path):
    write_pair(tmp_path, "a", [[0, 0]])
    write_pair(tmp_path / "t", "b", BOTH)
    train = dataset(tmp_path / "t")
    assert names(check(config(tmp_path, train), "train", "val")) == ["class-absent-here"]
    assert names(check(config(tmp_path, train))) == ["class-absent-here"]  # train is at hand
    shutil.rmtree(tmp_path / "t")
    assert names(check_config(config(tmp_path, train), ["val"])) == ["class-absent"]
    with pytest.raises(ValueError, match=r"label 1 \(b\) nowhere; .*--accept class-absent"):
        check(config(tmp_path))


def test_chosen_classes_of_a_published_set(tmp_path):
    """What is not chosen is ignored; what the set does not have is refused."""
    write_pair(tmp_path, "a", [[0, 3, 18, 255]])
    own = dataset(tmp_path)
    own.update(type="CityscapesDataset", metainfo=dict(classes=["wall", "road"]))
    own.update(img_suffix=".jpg", seg_map_suffix=".png")
    cfg = dict(config(tmp_path), classes=["wall", "road"], val_dataloader=dict(dataset=own))
    checked = check(cfg)
    assert names(checked) == [] and "wall" in checked.table and "50.00 %" in checked.table
    write_pair(tmp_path, "b", [[19]])
    with pytest.raises(ValueError, match="holds label 19, but its labels may be 0 to 18 and 255"):
        check(cfg)


# Files


@pytest.mark.parametrize("suffix", [".JPG", ".jpeg", ".png", ".TIF", ".bmp", ".webp"])
def test_images_of_another_suffix_are_read(tmp_path, suffix):
    """Half of the pictures come from another camera.

    Source: datumaro issue 72; flymyai-lora-trainer issue 72.
    """
    write_pair(tmp_path, "a", BOTH)
    write_pair(tmp_path, "b", BOTH, suffix)
    assert names(check(config(tmp_path))) == []
    built = DATASETS.build(dataset(tmp_path, pipeline=[]))
    assert [built[i]["img_path"] for i in range(2)] == [
        f"{tmp_path}/img/{name}" for name in ("a.jpg", f"b{suffix}")
    ]


def test_images_that_are_absent_and_maps_that_are(tmp_path):
    for name in "abc":
        write_pair(tmp_path, name, BOTH)
    (tmp_path / "img/a.jpg").unlink()
    with pytest.raises(ValueError, match=r"map/a\.png: has no image .*img/a\.jpg"):
        check(config(tmp_path))
    check(config(tmp_path), accept=("maps-without-image",))
    (tmp_path / "img/a.jpg").symlink_to(tmp_path / "img/b.jpg")
    (tmp_path / "map/c.png").unlink()
    with pytest.raises(ValueError, match=r"img/c\.jpg: has no label map"):
        check(config(tmp_path))


def test_hidden_files_are_passed_over(tmp_path):
    """macOS leaves ._a.jpg beside a.jpg."""
    write_pair(tmp_path, "a", BOTH)
    (tmp_path / "img/._a.jpg").write_bytes(b"\0\5\x16\7")
    assert names(check(config(tmp_path))) == []


def test_two_images_of_one_name(tmp_path):
    write_pair(tmp_path, "a", BOTH, ".png")
    assert names(check(config(tmp_path))) == []
    write_pair(tmp_path, "a", BOTH)
    with pytest.raises(ValueError, match=r"img/a\.jpg: has the name of .*img/a\.png; keep one"):
        check(config(tmp_path))
    check(config(tmp_path), accept=("two-files-one-name",))
    assert DATASETS.build(dataset(tmp_path, pipeline=[]))[0]["img_path"].endswith("a.jpg")
    (tmp_path / "img/a.png").rename(tmp_path / "img/a.JPG")
    with pytest.raises(ValueError, match=r"img/a\.JPG: has the name of .*img/a\.jpg; keep one"):
        check(config(tmp_path))


def test_two_maps_of_one_name(tmp_path):
    write_pair(tmp_path, "a", BOTH)
    save(tmp_path / "map/a.tif", np.array(BOTH, np.uint8))
    with pytest.raises(ValueError, match=r"map/a\.png: has the name of .*map/a\.tif; keep one"):
        check(config(tmp_path))


def test_images_and_maps_in_one_folder(tmp_path):
    write_pair(tmp_path, "a", BOTH)
    (tmp_path / "map/a.png").rename(tmp_path / "img/a_mask.png")
    cfg = config(tmp_path, images="img", maps="img", seg_map_suffix="_mask.png")
    assert names(check(cfg)) == []
    (tmp_path / "img/a.jpg").rename(tmp_path / "img/a.png")
    cfg["val_dataloader"]["dataset"]["img_suffix"] = ".png"
    assert names(check(cfg)) == []


def test_maps_in_a_folder_of_the_images(tmp_path):
    write_pair(tmp_path, "a", BOTH)
    (tmp_path / "map").rename(tmp_path / "img/map")
    assert names(check(config(tmp_path, maps="img/map"))) == []


def test_a_data_set_of_the_user_that_passes_images_over(tmp_path):
    from mmseg.datasets import LoveDADataset

    write_pair(tmp_path, "a", BOTH)
    write_pair(tmp_path, "b", BOTH, ".JPG")
    assert not issubclass(LoveDADataset, label_map_data.PairedFiles)
    own = dataset(tmp_path, img_suffix=".jpg")
    own.update(type="LoveDADataset", metainfo=None, reduce_zero_label=False)
    cfg = dict(config(tmp_path), classes=list("abcdefg"), num_classes=7)
    cfg["val_dataloader"] = dict(dataset=own)
    with pytest.raises(ValueError, match=r"img/b\.JPG: does not end in \.jpg; rename"):
        check(cfg)


def test_another_kind_of_data_set_is_refused(tmp_path):
    write_pair(tmp_path, "a", BOTH)
    own = dict(dataset(tmp_path), type="BaseCDDataset")
    own["data_prefix"]["img_path2"] = "img"
    cfg = dict(config(tmp_path), val_dataloader=dict(dataset=own))
    with pytest.raises(ValueError, match="'BaseCDDataset' is no BaseSegDataset"):
        check(cfg)


def test_val_that_is_train(tmp_path):
    """The same folder, and copies under other names."""
    write_pair(tmp_path, "a", BOTH)
    with pytest.raises(ValueError, match=r"img/a\.jpg: is trained on; take"):
        check(config(tmp_path, dataset(tmp_path)), "train", "val")
    shutil.copytree(tmp_path / "img", tmp_path / "v/img")
    shutil.copytree(tmp_path / "map", tmp_path / "v/map")
    (tmp_path / "v/img/a.jpg").rename(tmp_path / "v/img/z.jpg")
    (tmp_path / "v/map/a.png").rename(tmp_path / "v/map/z.png")
    cfg = config(tmp_path / "v", dataset(tmp_path))
    for splits in (("train", "val"), ("val",)):  # scoring alone sees it as well
        with pytest.raises(ValueError, match=r"v/img/z\.jpg: is trained on as .*img/a\.jpg"):
            check(cfg, *splits)
    check(cfg, "train", "val", accept=("val-is-train",))


def test_a_held_out_part_of_train_is_no_val(tmp_path):
    for name in "abcd":
        write_pair(tmp_path, name, BOTH)
    held = dict(
        type="HoldoutSubset", part="holdout", share=0.25, group="image", dataset=dataset(tmp_path)
    )
    cfg = dict(config(tmp_path, dataset(tmp_path)), test_dataloader=dict(dataset=held))
    assert names(check(cfg, "train", "test")) == []


def probing_config(root: Path, reported: Path, share: float = 0.25, **more) -> dict:
    """As a config of probes: a part of train that chooses, beside what is reported."""
    parts = {
        part: dict(
            type="HoldoutSubset", part=part, share=share, group="image", dataset=dataset(root)
        )
        for part in ("train", "holdout")
    }
    both = dict(type="ConcatDataset", datasets=[parts["holdout"], dataset(reported)])
    return dict(
        config(root),
        train_dataloader=dict(dataset=parts["train"]),
        val_dataloader=None,
        test_dataloader=dict(dataset=both),
        select_on="holdout",
        **more,
    )


@pytest.mark.parametrize("splits", [("train", "val"), ("test",)], ids=["train.py", "test.py"])
def test_probes_are_not_scored_on_what_they_are_trained_on(tmp_path, splits):
    """Training has no loader of what is reported, and scoring none of what is trained on."""
    for name in "abcd":
        write_pair(tmp_path, name, BOTH)
    with pytest.raises(ValueError, match=r"img/a\.jpg: is trained on \(and 3 more"):
        check(probing_config(tmp_path, tmp_path), *splits)
    write_pair(tmp_path / "v", "z", BOTH)
    assert names(check(probing_config(tmp_path, tmp_path / "v"), *splits)) == []
    shutil.copyfile(tmp_path / "img/b.jpg", tmp_path / "v/img/z.jpg")
    with pytest.raises(ValueError, match=r"v/img/z\.jpg: is trained on as .*img/b\.jpg"):
        check(probing_config(tmp_path, tmp_path / "v"), *splits)
    if "train" in splits:  # a machine that only trains has no need of what is reported
        check(probing_config(tmp_path, tmp_path / "nowhere"), *splits)


def test_a_class_that_could_not_choose_is_told_before_training(tmp_path):
    """Scoring would refuse it after hours."""
    for name in "abcdefgh":
        write_pair(tmp_path, name, [[0, 0]] if name != "a" else BOTH)
    write_pair(tmp_path / "v", "z", BOTH)
    cfg = probing_config(tmp_path, tmp_path / "v", share=0.125)
    with pytest.raises(ValueError, match=r"1 held-out images show label 1 \(b\) nowhere; hold out"):
        check(cfg, "train", "val")
    assert names(check(dict(cfg, allow_absent_classes=True), "train", "val")) == []
    assert names(check(dict(cfg, select_on="val"), "train", "val")) == []


def test_a_large_split_is_read_in_processes(tmp_path, monkeypatch):
    """Same counts, and the defect in the last file is found."""
    monkeypatch.setattr(many_files, "FEW", 2)
    monkeypatch.setattr(many_files, "GROUP", 2)
    for i in range(9):
        write_pair(tmp_path, f"{i}", BOTH)
    assert "50.00 % (9)" in check(config(tmp_path)).table
    save(tmp_path / "map/8.png", np.array([[7, 1, 1], [0, 0, 1]], np.uint8))
    with pytest.raises(ValueError, match=r"map/8\.png: holds label 7"):
        check(config(tmp_path))
