"""Layouts of published data sets: which class and which captions each file gets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_towers import pictures

from pe_dense.run.config import load_config, read_config
from pe_dense.zero_shot import data_check
from pe_dense.zero_shot.caption_files import read_captions
from pe_dense.zero_shot.captioned_pictures import CaptionedPictures
from pe_dense.zero_shot.class_folders import ClassFolders
from pe_dense.zero_shot.class_names import names_of_folders
from pe_dense.zero_shot.data_check import check_config
from pe_dense.zero_shot.prompts import FOLDER, load_names, load_templates

ROOT = Path(__file__).resolve().parents[2]


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def read(root, **options):
    dataset = ClassFolders(str(root), ["a {}"], **options)
    items = [dataset.item(i) for i in range(len(dataset))]
    return dataset, [(item["image_id"], dataset.class_names[item["target"]]) for item in items]


def test_published_lists_have_their_lengths():
    for name, count in (("imagenet", 80), ("kinetics", 28), ("action", 48)):
        assert len(load_templates(f"clip_{name}_templates")) == count
    names = load_names("clip_imagenet_names")
    assert len(names) == 1000 and len(set(names.values())) == 998
    assert list(names) == sorted(names)
    for file in FOLDER.glob("*.json"):
        assert "arXiv:2103.00020" in json.loads(file.read_text())["source"]


def test_equal_to_the_lists_of_open_clip():
    lists = pytest.importorskip("open_clip.zero_shot_metadata")
    assert list(load_names("clip_imagenet_names").values()) == list(lists.IMAGENET_CLASSNAMES)
    ours = [template.replace("{}", "X") for template in load_templates("clip_imagenet_templates")]
    assert ours == [template("X") for template in lists.OPENAI_IMAGENET_TEMPLATES]


PUBLISHED = [  # data of one's own and the mini world have names and sentences of their own
    path
    for path in sorted((ROOT / "configs" / "zero_shot").glob("*.py"))
    if not path.stem.endswith(("_custom", "_mini"))
]


@pytest.mark.parametrize("config", PUBLISHED, ids=lambda path: path.stem)
def test_configs_name_lists_that_are_there(config, monkeypatch):
    monkeypatch.chdir(ROOT)
    cfg, _ = load_config(config)
    dataset = cfg.test_dataloader.dataset
    templates = load_templates(dataset.templates, dataset.templates_sha256)
    assert len(templates) in (28, 48, 80)
    assert cfg.model.fit == ("crop" if config.stem.endswith("_crop") else "squash")
    assert dataset.num_classes in (1000, 200, 113, 400, 101, 51)


def test_part_of_a_published_set_is_refused(tmp_path, monkeypatch):
    """A copy that was not unpacked to its end has all folders, too."""
    pictures(tmp_path / "set", {"cat": 2, "dog": 1})
    data = dict(type="ClassFolders", data_root=str(tmp_path / "set"), templates=["a {}"])

    def problems(split="test", **options):
        cfg = {
            "protocol": {"dataset": "imagenet-v2", "split": split},
            "test_dataloader": {"dataset": {**data, **options}},
        }
        return [f.sentence() for f in check_config(cfg, ("test",)).findings if f.is_problem]

    (problem,) = problems()
    assert "has 3 pictures; imagenet-v2 test was published with 10,000" in problem
    assert "--accept published-total" in problem
    assert problems("own") == []
    monkeypatch.setitem(data_check.PUBLISHED, ("imagenet-v2", "test"), 3)
    assert problems() == problems(left_out=["cat/0.png"]) == []


def test_what_is_no_picture_by_its_ending_is_counted(tmp_path):
    pictures(tmp_path / "set", {"cat": 2, "dog": 1})
    touch(tmp_path / "set", "cat/a.heic", "cat/more/b.png", "dog/.hidden")
    cfg = {
        "protocol": {"dataset": "own", "split": "own"},
        "test_dataloader": {
            "dataset": dict(
                type="ClassFolders", data_root=str(tmp_path / "set"), templates=["a {}"]
            )
        },
    }
    checked = check_config(cfg, ("test",))
    assert [(f.rule.name, f.count) for f in checked.findings] == [("passed-over", 2)]


def test_totals_are_those_that_configs_state():
    files = [*(ROOT / "configs" / "zero_shot").glob("*.py")]
    protocols = {file: read_config(str(file)).protocol for file in files}
    for (dataset, split), total in data_check.PUBLISHED.items():
        own = [f for f, p in protocols.items() if (p.dataset, p.split) == (dataset, split)]
        assert len(own) == 2 and all(f" {total:,} " in file.read_text() for file in own)


def test_a_list_that_was_changed_is_refused(tmp_path):
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps({"templates": ["a {}"]}))
    assert load_templates([str(mine)]) == ("a {}",)
    with pytest.raises(ValueError, match="is not the file of this protocol"):
        load_templates(str(mine), "0" * 64)


def test_imagenet_by_ids_and_by_places(tmp_path):
    touch(tmp_path, "val/n01443537/b.JPEG", "val/n01440764/a.JPEG", "val/n01440764/notes.txt")
    dataset, items = read(tmp_path, folder="val", names="imagenet")
    assert items == [("n01440764/a.JPEG", "tench"), ("n01443537/b.JPEG", "goldfish")]
    assert dataset.classes == ("n01440764", "n01443537")
    touch(tmp_path, "v2/10/a.jpeg", "v2/2/b.jpeg")
    _, items = read(tmp_path, folder="v2", names="imagenet_index")
    assert items == [("2/b.jpeg", "great white shark"), ("10/a.jpeg", "brambling")]
    with pytest.raises(ValueError, match="are not those of this data set"):
        read(tmp_path, folder="val", names="imagenet", folders_sha256="0" * 64)


def test_a_name_that_stands_before_is_never_said(tmp_path):
    """Two classes of ImageNet are called missile."""
    touch(tmp_path, "n03773504/a.png", "n04008634/b.png", "n01440764/c.png")
    with pytest.raises(ValueError, match="class name 'missile' stands twice"):
        read(tmp_path, names="imagenet")
    dataset, _ = read(tmp_path, names="imagenet", repeated_names="first")
    assert dataset.class_names == ("tench", "missile", "missile") and dataset.silent == (2,)


def test_objectnet_has_the_classes_that_imagenet_has_too(tmp_path):
    touch(tmp_path, "images/air_freshener/a.png", "images/band_aid/b.png", "images/mug/c.png")
    (tmp_path / "mappings").mkdir()
    tables = {
        "folder_to_objectnet_label": {
            "air_freshener": "Air freshener",
            "band_aid": "Band Aid",
            "mug": "Mug",
        },
        "objectnet_to_imagenet_1k": {"Band Aid": "Band Aid", "Mug": "cup"},
    }
    for name, table in tables.items():
        (tmp_path / "mappings" / f"{name}.json").write_text(json.dumps(table))
    _, items = read(tmp_path, folder="images", names="objectnet")
    assert items == [("band_aid/b.png", "band aid"), ("mug/c.png", "mug")]
    (tmp_path / "mappings" / "objectnet_to_imagenet_1k.json").unlink()
    with pytest.raises(ValueError, match="lacks mappings/objectnet_to_imagenet_1k"):
        read(tmp_path, folder="images", names="objectnet")


def test_videos_of_test_lists(tmp_path):
    touch(tmp_path, "UCF-101/ApplyEyeMakeup/v_a.avi", "UCF-101/ApplyEyeMakeup/v_b.avi",
          "UCF-101/TaiChi/v_c.avi", "testlist01.txt")  # fmt: skip
    (tmp_path / "testlist01.txt").write_text("ApplyEyeMakeup/v_b.avi\nTaiChi/v_c.avi\n")
    options = dict(folder="UCF-101", names="camel", media="video", lists="testlist01.txt")
    _, items = read(tmp_path, **options)
    assert items == [("ApplyEyeMakeup/v_b.avi", "Apply Eye Makeup"), ("TaiChi/v_c.avi", "Tai Chi")]
    (tmp_path / "testlist01.txt").write_text("TaiChi/v_d.avi\n")
    with pytest.raises(ValueError, match=r"v_d\.avi is listed and does not exist \(1 such\)"):
        read(tmp_path, **options)

    touch(tmp_path, "hmdb/brush_hair/a.avi", "hmdb/brush_hair/b.avi", "hmdb/cartwheel/c.avi")
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "brush_hair_test_split1.txt").write_text("a.avi 1 \nb.avi 2 \n")
    (tmp_path / "splits" / "cartwheel_test_split1.txt").write_text("c.avi 2 \n")
    _, items = read(tmp_path, folder="hmdb", media="video", lists="splits/*_test_split1.txt")
    assert items == [("brush_hair/b.avi", "brush hair"), ("cartwheel/c.avi", "cartwheel")]


def test_kinetics_names_are_those_of_the_data_set_however_folders_are_written():
    """Hyphens stay ('tai chi' has none, 'hula-hooping' might), unlike in one's own folders."""
    folders = ["cooking on campfire", "passing American football (in game)"]
    wanted = ["cooking on campfire", "passing American football in game"]
    assert list(names_of_folders(folders, "kinetics", Path(), Path()).values()) == wanted
    written = [folder.replace(" ", "_") for folder in folders] + ["air_drumming_", "_hula-hooping"]
    found = list(names_of_folders(written, "kinetics", Path(), Path()).values())
    assert found == [*wanted, "air drumming", "hula-hooping"]


def test_captions_of_karpathys_file_of_coco_and_of_msrvtt(tmp_path):
    karpathy = tmp_path / "dataset_coco.json"
    images = [
        {"split": "test", "filename": "a.jpg", "filepath": "val2014", "sentences": [{"raw": "A."}]},
        {"split": "train", "filename": "b.jpg", "sentences": [{"raw": "B."}]},
        {"split": "test", "filename": "c.jpg", "sentences": [{"raw": "C."}, {"raw": "D."}]},
    ]
    karpathy.write_text(json.dumps({"images": images}))
    assert read_captions(karpathy, "karpathy") == [
        ("val2014/a.jpg", ("A.",)),
        ("c.jpg", ("C.", "D.")),
    ]
    coco = tmp_path / "captions.json"
    coco.write_text(json.dumps({
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}],
        "annotations": [{"image_id": 8, "caption": "B"}, {"image_id": 7, "caption": "A"}],
    }))  # fmt: skip
    assert read_captions(coco, "coco") == [("a.jpg", ("A",)), ("b.jpg", ("B",))]
    table = tmp_path / "test.csv"
    table.write_text('key,video_id,sentence\n0,video7020,"a man, singing"\n')
    assert read_captions(table, "msrvtt") == [("video7020.mp4", ("a man, singing",))]
    options = dict(folder="videos/all", media="video")
    with pytest.raises(ValueError, match="gives 1 to score, which every caption would find"):
        CaptionedPictures(str(tmp_path), "test.csv", "msrvtt", **options)
    table.write_text(table.read_text() + "1,video7021,a dog\n")
    dataset = CaptionedPictures(str(tmp_path), "test.csv", "msrvtt", **options)
    assert dataset.item(0)["img_path"] == str(tmp_path / "videos" / "all" / "video7020.mp4")
    with pytest.raises(ValueError, match="gives 2 to score, not the 1,000"):
        CaptionedPictures(str(tmp_path), "test.csv", "msrvtt", num_items=1000)


def test_lines_of_ones_own_add_up(tmp_path):
    file = tmp_path / "a.jsonl"
    rows = [
        {"image": "a.jpg", "captions": ["one"]}, {"video": "b.mp4", "caption": "two"},
        {"image": "a.jpg", "caption": "three"},
    ]  # fmt: skip
    file.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert read_captions(file, "jsonl") == [("a.jpg", ("one", "three")), ("b.mp4", ("two",))]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 1 is no JSON"),
        ("[]", "line 1 is no object"),
        ('{"captions": ["x"]}', "line 1 names no picture"),
        ('{"image": "a.jpg"}', r"line 1: a\.jpg has no caption"),
        ('{"image": "a.jpg", "captions": []}', "has no caption"),
        ('{"image": "a.jpg", "captions": "x"}', "is one text; write a list"),
        ('{"image": "a.jpg", "captions": [" "]}', "has the caption ' '"),
        ('{"image": "../a.jpg", "caption": "x"}', "leaves the folder of pictures"),
        ("", "has no picture"),
    ],
)
def test_lines_that_cannot_be_used_are_one_sentence(tmp_path, line, words):
    (tmp_path / "a.jsonl").write_text(line)
    with pytest.raises(ValueError, match=words) as caught:
        read_captions(tmp_path / "a.jsonl", "jsonl")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"nowhere\.jsonl cannot be read"):
        read_captions(tmp_path / "nowhere.jsonl", "jsonl")


def test_one_file_under_two_names_is_one_picture(tmp_path):
    """As two they would tie, and ties count against the right one."""
    rows = [("sub/a.jpg", "one"), ("./sub/a.jpg", "two"), ("sub//a.jpg", "three")]
    lines = [json.dumps({"image": name, "caption": text}) for name, text in rows]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    assert read_captions(tmp_path / "a.jsonl", "jsonl") == [("sub/a.jpg", ("one", "two", "three"))]


def test_lists_of_an_editor_that_marks_its_encoding_are_read_without_the_mark(tmp_path):
    (tmp_path / "a.txt").write_text("a {}.\nthe {}.\n", encoding="utf-8-sig")
    assert load_templates(str(tmp_path / "a.txt")) == ("a {}.", "the {}.")


def test_a_class_that_is_named_twice_is_refused(tmp_path):
    (tmp_path / "a.json").write_text('{"cat": "tabby", "dog": "hound", "cat": "lion"}')
    with pytest.raises(ValueError, match="'cat' is given twice"):
        load_names(str(tmp_path / "a.json"))


def test_folders_that_differ_by_case_alone_are_no_two_classes(tmp_path):
    """Tokenizers fold case: both would have one vector, and be right nowhere."""
    touch(tmp_path, "Sea_Lion/a.png", "sea-lion/b.png", "cat/c.png")
    with pytest.raises(ValueError, match="'sea lion' stands twice, since case and spaces do not"):
        read(tmp_path)


def test_a_link_to_nowhere_is_a_missing_picture(tmp_path):
    pictures(tmp_path / "set", {"cat": 2, "dog": 1})
    (tmp_path / "set" / "cat" / "z.png").symlink_to(tmp_path / "gone.png")
    (finding,) = findings(tmp_path / "set")
    assert finding.is_problem and "z.png: does not exist" in finding.sentence()


def findings(root, **options):
    dataset = dict(type="ClassFolders", data_root=str(root), templates=["a {}"], **options)
    cfg = {"protocol": {}, "test_dataloader": {"dataset": dataset}}
    return check_config(cfg, ("test",)).findings


def test_dark_pictures_of_16_bits_are_refused_before_anything_is_encoded(tmp_path):
    pictures(tmp_path / "set", {"cat": 2, "dog": 2})
    dark = np.full((20, 20), 1000, np.uint16)
    Image.fromarray(dark).save(tmp_path / "set" / "cat" / "deep.png")
    (problem,) = [found for found in findings(tmp_path / "set") if found.is_problem]
    assert problem.rule.name == "images-without-white" and "image_bits=12" in problem.sentence()
    assert not any(found.is_problem for found in findings(tmp_path / "set", bits=12))
    for config in ("zero_shot/images_custom.py", "classification/knn_custom.py"):
        options = {"image_bits": 12, "data_root": str(tmp_path / "set")}
        if "knn" in config:
            options["split"] = 0.4
        cfg, _ = load_config(ROOT / "configs" / config, "pe_core_t16_384", "random", options)
        assert "'bits': 12" in str(cfg.test_dataloader.to_dict())
