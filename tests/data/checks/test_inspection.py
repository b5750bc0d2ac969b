"""The checks of `tools/prepare_data.py`: what is said, and the exit code."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("cv2")

from coco_folders import changed, content_of, edit, write_folder, write_image

from pe_dense.data.checks import known_sets
from pe_dense.data.checks.class_table import class_table
from pe_dense.data.checks.coco_split import coco_facts
from pe_dense.data.checks.known_sets import COCO_IDS, KNOWN_SETS

TOOL = Path(__file__).resolve().parents[3] / "tools" / "prepare_data.py"


@pytest.fixture(scope="module")
def tool() -> object:
    spec = importlib.util.spec_from_file_location("prepare_data_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tool: object, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run_tool(*words: object) -> tuple[int, str, str]:
        code = tool.main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run_tool


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "set")


# Any classes


def test_a_good_folder(run: Callable, folder: Path) -> None:
    code, out, err = run("coco-format", folder)
    assert (code, err) == (0, "")
    assert "no problems" in out and "annotations/train.json" in out
    rows = [line.split() for line in out.splitlines()]
    assert ["images", "6", "3"] in rows and ["boxes", "12", "6"] in rows
    assert "disc" in out and "6 (6)" in out and "3 (3)" in out


def test_bccd_is_good(run: Callable, bccd_root: Path) -> None:
    code, out, _ = run("coco-format", bccd_root, "--decode", 5)
    assert code == 0 and "2,381 (197)" in out


def test_problems_are_listed_by_kind_with_counts(run: Callable, folder: Path) -> None:
    (folder / "images" / "t0.jpg").unlink()

    def spoil(content: dict) -> None:
        for annotation in content["annotations"][:5]:
            annotation["bbox"] = [50, 5, 40, 9]
        content["annotations"][6]["iscrowd"] = 1

    edit(folder / "annotations" / "train.json", spoil)
    code, out, err = run("coco-format", folder)
    assert code == 2
    assert err == f"error: 2 kinds of problems in {folder}, listed above\n"
    notes, problems = out.split("\nproblems\n")
    assert "crowds (not trained on, ignored in scores): 1" in notes
    assert "reach outside by more than 1 px: 5" in problems and "... and 2 more" in problems
    assert "images without a file: 1" in problems and "t0.jpg does not exist" in problems
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["annotations"][0].update(bbox=[float("nan")] * 4), "not four numbers"),
        (lambda c: c["images"][0].update(file_name=None), "file_name None"),
        (lambda c: c["categories"][1].update(name="disc"), "repeats name 'disc'"),
        (lambda c: c["images"][1].update(id=1), "images[1] repeats id 1"),
        (lambda c: c["categories"][0].update(name="circle"), "lacks circle and adds disc"),
    ],
    ids=["nan", "name", "class twice", "id twice", "classes"],
)
def test_faults_of_the_file(run: Callable, folder: Path, change: Callable, words: str) -> None:
    edit(folder / "annotations" / "train.json", change)
    code, out, _ = run("coco-format", folder)
    assert code == 2 and words in out.split("\nproblems\n")[1]


def test_one_unreadable_file_does_not_hide_the_other(run: Callable, folder: Path) -> None:
    (folder / "annotations" / "train.json").write_text("[")
    (folder / "images" / "v0.jpg").unlink()
    code, out, _ = run("coco-format", folder)
    assert code == 2 and "is not JSON" in out and "v0.jpg does not exist" in out


def test_images_that_are_trained_on_and_scored(run: Callable, folder: Path) -> None:
    edit(folder / "annotations" / "val.json", lambda c: c["images"][0].update(file_name="t0.jpg"))
    code, out, _ = run("coco-format", folder)
    assert code == 2 and "scored images that are trained on: 1" in out


def test_images_that_are_nowhere(run: Callable, folder: Path) -> None:
    shutil.rmtree(folder / "images")
    code, out, _ = run("coco-format", folder)
    assert code == 2 and "sets of which no image has a file: 1" in out


@pytest.mark.parametrize("words", [("coco-format",), ("coco",), ("lvis",), ("objects365",)])
def test_a_folder_that_is_none(run: Callable, tmp_path: Path, words: tuple) -> None:
    code, out, err = run(*words, tmp_path / "absent")
    assert code == 2 and out == "" and "is no folder" in err.splitlines()[-1]


def test_a_split_then_a_check(run: Callable, folder: Path) -> None:
    (folder / "annotations" / "val.json").unlink()
    code, _, err = run("coco-format", folder)
    assert code == 2 and "--split 0.2" in err
    code, out, _ = run("coco-format", folder, "--split", 0.34, "--seed", 3)
    assert code == 0 and "divided into" in out and "val_split.json" in out
    assert len(json.loads((folder / "annotations/val_split.json").read_text())["images"]) == 2


def test_the_file_to_split_needs_a_share(run: Callable, folder: Path) -> None:
    code, _, err = run("coco-format", folder, "--json", "x.json")
    assert code == 2 and "add --split" in err


# Published data sets


@pytest.fixture
def coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as COCO 2017 lays it out, with totals to match."""
    small = KNOWN_SETS["coco"]
    counts = {"train": (3, 6), "val": (2, 4)}
    splits = {
        name: dataclasses.replace(split, num_images=counts[name][0], num_boxes=counts[name][1])
        for name, split in small.splits.items()
    }
    monkeypatch.setitem(known_sets.KNOWN_SETS, "coco", dataclasses.replace(small, splits=splits))
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    for name, (count, _) in counts.items():
        names = [f"{i:012d}.jpg" for i in range(count)]
        for file in names:
            write_image(root / f"{name}2017" / file)
        content = content_of(names)
        content["categories"] = [dict(id=i, name=f"class {i}") for i in COCO_IDS]
        for annotation in content["annotations"]:
            annotation["category_id"] = 90
        (root / f"annotations/instances_{name}2017.json").write_text(json.dumps(content))
    return root


def test_the_ids_of_coco_are_those_of_its_classes() -> None:
    assert len(COCO_IDS) == 80 and COCO_IDS[0] == 1 and COCO_IDS[-1] == 90
    totals = [(s.num_images, s.num_boxes) for s in KNOWN_SETS["coco"].splits.values()]
    assert totals == [(118_287, 860_001), (5_000, 36_781)]
    totals = [(s.num_images, s.num_boxes) for s in KNOWN_SETS["lvis"].splits.values()]
    assert totals == [(100_170, 1_270_141), (19_809, 244_707)]
    assert [len(KNOWN_SETS[n].category_ids) for n in ("lvis", "objects365")] == [1203, 365]


def test_the_files_are_those_that_the_recipes_read() -> None:
    pytest.importorskip("mmengine")
    from pe_dense.run.config import load_template

    configs = TOOL.parents[1] / "configs" / "detection"
    for name, config in (
        ("coco", "deta_pe_g16_coco_1728"),
        ("lvis", "vitdet_pe_core_g14_lvis_75ep"),
        ("objects365", "deta_pe_g16_objects365_1024"),
    ):
        cfg = load_template(configs / f"{config}.py")
        for split, known in KNOWN_SETS[name].splits.items():
            assert (known.json, known.images) == (cfg[f"{split}_json"], cfg[f"{split}_images"])


def test_a_whole_coco(run: Callable, coco: Path) -> None:
    code, out, _ = run("coco", coco)
    assert code == 0 and "no problems" in out and "80 classes" in out


def test_every_class_is_listed_on_request(run: Callable, coco: Path) -> None:
    assert "... 60 more" in run("coco", coco)[1]
    out = run("coco", coco, "--all-classes")[1]
    assert all(f"class {i} " in out for i in COCO_IDS)


def test_missing_parts_say_where_they_come_from(run: Callable, coco: Path) -> None:
    shutil.rmtree(coco / "val2017")
    (coco / "annotations" / "instances_train2017.json").unlink()
    code, out, _ = run("coco", coco)
    assert code == 2
    assert "http://images.cocodataset.org/zips/val2017.zip" in out
    assert "annotations_trainval2017.zip" in out and "instances_train2017.json" in out
    assert run("coco", coco, "--splits", "train")[1].count("does not exist") == 1


def test_other_totals_and_classes(run: Callable, coco: Path) -> None:
    def spoil(content: dict) -> None:
        content["images"].pop()
        content["annotations"] = content["annotations"][:2]
        content["categories"][0]["id"] = 12

    edit(coco / "annotations" / "instances_val2017.json", spoil)
    code, out, _ = run("coco", coco)
    assert code == 2
    assert "has 1 images; COCO 2017 was published with 2" in out
    assert "has 2 boxes; COCO 2017 was published with 4" in out
    assert "lacks 1, and has besides 12" in out


def test_lvis_takes_its_images_from_both_folders(
    run: Callable, coco: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = KNOWN_SETS["lvis"]
    splits = {n: dataclasses.replace(s, num_images=2, num_boxes=4) for n, s in full.splits.items()}
    monkeypatch.setitem(
        known_sets.KNOWN_SETS,
        "lvis",
        dataclasses.replace(full, splits=splits, category_ids=(2, 9)),
    )
    content = content_of(["x", "y"])
    for image, folder in zip(content["images"], ("train2017", "val2017")):
        image.pop("file_name")
        image["coco_url"] = f"http://images.cocodataset.org/{folder}/{0:012d}.jpg"
    for category in content["categories"]:
        category["frequency"] = "r"
    for annotation in content["annotations"]:
        annotation.pop("iscrowd")  # LVIS has none
    for split in ("train", "val"):
        (coco / f"annotations/lvis_v1_{split}.json").write_text(json.dumps(content))
    assert run("lvis", coco)[0] == 0
    plain = changed(content, lambda c: c["categories"][0].pop("frequency"))
    (coco / "annotations/lvis_v1_val.json").write_text(json.dumps(plain))
    code, out, _ = run("lvis", coco)
    assert code == 2 and "without a frequency" in out and "disc" in out


def test_objects365_does_not_fail_on_what_is_uncertain(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = KNOWN_SETS["objects365"]
    small = dataclasses.replace(full, category_ids=(2, 9))
    monkeypatch.setitem(known_sets.KNOWN_SETS, "objects365", small)
    (tmp_path / "annotations").mkdir()
    for split, name in (("train", "zhiyuan_objv2_train.json"), ("val", "zhiyuan_objv2_val.json")):
        names = [f"images/v1/patch3/{i}.jpg" for i in range(3)]
        for i in range(3):
            write_image(tmp_path / split / "patch3" / f"{i}.jpg")
        content = content_of(names)
        content["annotations"][0]["bbox"] = [50, 5, 40, 9]
        (tmp_path / "annotations" / name).write_text(json.dumps(content))
    code, out, _ = run("objects365", tmp_path)
    assert code == 2 and "zhiyuan_objv2_train_fixmiss.json: does not exist" in out
    assert "--write-fixmiss" in out
    code, out, _ = run("objects365", tmp_path, "--write-fixmiss")
    assert code == 0 and "0 images without a file left out" in out
    assert "has 3 images; Objects365 v2 was published with about 1,742,289" in out


def test_the_table_names_what_cannot_be_used(tmp_path: Path) -> None:
    content = content_of(["a.jpg", "b.jpg"])
    content["annotations"][0]["bbox"] = [0, 0, 0.1, 5]
    content["annotations"][1]["iscrowd"] = 1
    content["annotations"] = content["annotations"][:2]
    (tmp_path / "x.json").write_text(json.dumps(content))
    lines = class_table({"train": coco_facts(tmp_path, tmp_path / "x.json")}, {}).splitlines()
    assert [line.split()[-1] for line in lines[1:6]] == ["2", "1", "2", "1", "1"]
    assert "too small or outside" in lines[4] and "crowds or ignored" in lines[5]
    assert lines[-2].split() == ["disc", "1", "(1)"]
