"""Columns of a COCO file against pycocotools, and every fault of form as a finding."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2")

from coco_folders import changed, content_of

from pe_dense.data.checks import json_stream
from pe_dense.data.checks.coco_file import CocoFile, places, read_coco_file
from pe_dense.data.checks.rules import require_sound

GOOD = content_of(["a.jpg", "b.jpg", "c.jpg"])


def read(folder: Path, content: object, naming: str = "coco") -> CocoFile:
    path = folder / "x.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_coco_file(path, naming)


def test_columns_are_what_pycocotools_reads(mini_root: Path) -> None:
    mask_api = pytest.importorskip("pycocotools.coco")
    path = mini_root / "coco" / "annotations" / "train.json"
    with contextlib.redirect_stdout(io.StringIO()):
        reference = mask_api.COCO(str(path))
    coco = read_coco_file(path)
    assert coco.findings == []
    assert coco.image_ids_I.tolist() == [i["id"] for i in reference.dataset["images"]]
    assert coco.file_names == [i["file_name"] for i in reference.dataset["images"]]
    annotations = reference.dataset["annotations"]
    np.testing.assert_array_equal(coco.boxes_A4, [a["bbox"] for a in annotations])
    np.testing.assert_array_equal(coco.areas_A, [a["area"] for a in annotations])
    for name, (images, boxes, objects) in coco.class_counts().items():
        (k,) = reference.getCatIds(catNms=[name])
        assert images == len(reference.getImgIds(catIds=[k]))
        assert boxes == objects == len(reference.getAnnIds(catIds=[k]))
    with_objects = {a["image_id"] for a in annotations}
    assert coco.num_empty_images() == len(reference.imgs) - len(with_objects)


def test_usable_boxes_are_those_that_mmdet_keeps(tmp_path: Path) -> None:
    datasets = pytest.importorskip("mmdet.datasets")

    def spoil(content: dict) -> None:
        boxes = [[0, 0, 5, 5], [0, 0, 0.5, 5], [0, 0, -3, 5], [64, 0, 5, 5], [60, 40, 9, 9],
                 [-5, -5, 5, 9]]  # fmt: skip
        for annotation, box in zip(content["annotations"], boxes):
            annotation["bbox"] = box
        content["annotations"][0]["area"] = 0

    coco = read(tmp_path, changed(GOOD, spoil))
    dataset = datasets.CocoDataset(
        ann_file=str(tmp_path / "x.json"),
        metainfo=dict(classes=("disc", "box")),
        data_prefix=dict(img=""),
        pipeline=[],
    )
    kept = sum(len(dataset.get_data_info(i)["instances"]) for i in range(len(dataset)))
    assert int(coco.is_usable().sum()) == kept == 1


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    from pe_dense.files import file_sha256

    assert read(tmp_path, GOOD).sha256 == file_sha256(tmp_path / "x.json")


@pytest.mark.parametrize("order", [("categories", "annotations", "images"), tuple(GOOD)[1:]])
def test_the_order_of_the_lists_does_not_matter(tmp_path: Path, order: tuple[str, ...]) -> None:
    coco = read(tmp_path, {key: GOOD[key] for key in order})
    assert coco.findings == [] and coco.num_annotations == 6


BAD = {
    "image without a name": (lambda c: c["images"][1].pop("file_name"), "images[1] has no"),
    "name is a number": (lambda c: c["images"][1].update(file_name=7), "file_name 7"),
    "name is empty": (lambda c: c["images"][1].update(file_name=" "), "not the name of a file"),
    "name is null": (lambda c: c["images"][1].update(file_name=None), "file_name None"),
    "width is text": (lambda c: c["images"][1].update(width="64"), "not two whole numbers"),
    "height is 0": (lambda c: c["images"][1].update(height=0), "not two whole numbers"),
    "class name is a number": (lambda c: c["categories"][0].update(name=3), "categories[0] has"),
    "class name is null": (lambda c: c["categories"][0].update(name=None), "name None"),
    "class name twice": (lambda c: c["categories"][1].update(name="disc"), "repeats name 'disc'"),
    "class id twice": (lambda c: c["categories"][1].update(id=9), "repeats id 9"),
    "image id is text": (lambda c: c["images"][0].update(id="1"), "images[0] has an id '1'"),
    "image id is huge": (lambda c: c["images"][0].update(id=2**70), "not an integer"),
    "image id is true": (lambda c: c["images"][0].update(id=True), "images[0] has an id True"),
    "image id twice": (lambda c: c["images"][2].update(id=1), "images[2] repeats id 1"),
    "box is NaN": (lambda c: c["annotations"][0].update(bbox=[1, 2, float("nan"), 4]), "four num"),
    "box is infinite": (lambda c: c["annotations"][0].update(bbox=[1, 2, float("inf"), 4]), "four"),
    "box of booleans": (lambda c: c["annotations"][0].update(bbox=[True] * 4), "four numbers"),
    "area is NaN": (lambda c: c["annotations"][0].update(area=float("nan")), "an area nan"),
    "crowd is null": (lambda c: c["annotations"][0].update(iscrowd=None), "iscrowd None"),
    "crowd is a list": (lambda c: c["annotations"][0].update(iscrowd=[1]), "iscrowd [1]"),
    "no such image": (lambda c: c["annotations"][0].update(image_id=77), "names image 77"),
    "no such class": (lambda c: c["annotations"][0].update(category_id=3), "names category 3"),
    "entry is a list": (lambda c: c["annotations"].append([]), "annotations[6] has no 'id'"),
}


@pytest.mark.parametrize("name", BAD)
def test_every_fault_is_a_problem_in_one_sentence(tmp_path: Path, name: str) -> None:
    change, words = BAD[name]
    coco = read(tmp_path, changed(GOOD, change))
    assert words in " ".join(str(place) for f in coco.findings for place in f.examples)
    with pytest.raises(ValueError) as error:
        require_sound(coco.findings)
    assert str(error.value).startswith(f"{tmp_path / 'x.json'}: ")
    assert "\n" not in str(error.value)


def test_a_missing_iscrowd_means_no_crowd(tmp_path: Path) -> None:
    coco = read(tmp_path, changed(GOOD, lambda c: c["annotations"][0].pop("iscrowd")))
    require_sound(coco.findings)
    assert not coco.is_crowd_A.any()


def test_many_faults_are_counted_and_the_first_ones_shown(tmp_path: Path) -> None:
    def spoil(content: dict) -> None:
        for annotation in content["annotations"][:5]:
            annotation["bbox"] = "x"

    coco = read(tmp_path, changed(GOOD, spoil))
    (finding,) = coco.findings
    assert finding.count == 5 and len(finding.examples) == 3
    assert finding.lines()[-2].strip() == "... and 2 more"
    assert coco.num_annotations == 1
    with pytest.raises(ValueError, match="and 4 more of this kind"):
        require_sound(coco.findings)


def test_a_list_given_twice_is_refused(tmp_path: Path) -> None:
    text = json.dumps(GOOD)
    with pytest.raises(ValueError, match="has the list 'images' twice"):
        read(tmp_path, text[:-1] + ', "images": []}')


def test_long_values_are_cut_in_messages(tmp_path: Path) -> None:
    def spoil(content: dict) -> None:
        content["annotations"][0]["bbox"] = list(range(10_000))

    assert len(read(tmp_path, changed(GOOD, spoil)).findings[0].examples[0].value) < 150


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent.json: does not exist; check data_root"):
        read_coco_file(tmp_path / "absent.json")


def test_empty_lists_are_sound(tmp_path: Path) -> None:
    coco = read(tmp_path, dict(images=[], annotations=[], categories=[]))
    assert coco.findings == [] and coco.class_counts() == {} and coco.num_empty_images() == 0
    assert coco.is_usable().shape == (0,)


def test_names_of_lvis_and_objects365(tmp_path: Path) -> None:
    def lvis(content: dict) -> None:
        for image in content["images"]:
            name = image.pop("file_name")
            image["coco_url"] = f"http://images.cocodataset.org/train2017/{name}"

    assert read(tmp_path, changed(GOOD, lvis), "lvis").file_names[0] == "train2017/a.jpg"
    assert "lack a key" in read(tmp_path, GOOD, "lvis").findings[0].rule.kind

    def objects365(content: dict) -> None:
        for image in content["images"]:
            image["file_name"] = f"images/v1/patch8/{image['file_name']}"

    assert read(tmp_path, changed(GOOD, objects365), "objects365").file_names[0] == "patch8/a.jpg"


def test_roboflow_placeholder_is_no_class(tmp_path: Path) -> None:
    def roboflow(content: dict) -> None:
        for category in content["categories"]:
            category["supercategory"] = "things"
        content["categories"].insert(0, dict(id=0, name="things", supercategory="none"))

    content = changed(GOOD, roboflow)
    assert read(tmp_path, content).class_names() == ["disc", "box"]
    content["annotations"][0]["category_id"] = 0  # once it is used, it is a class
    assert read(tmp_path, content).class_names() == ["things", "disc", "box"]


def test_places() -> None:
    rng = np.random.default_rng(0)
    ids = rng.permutation(100)[:50]
    wanted = rng.integers(0, 100, 200)
    slow = [list(ids).index(w) if w in ids else -1 for w in wanted]
    assert places(ids, wanted).tolist() == slow
    assert places(np.zeros(0, dtype=int), wanted[:2]).tolist() == [-1, -1]


def test_memory_does_not_grow_with_segmentations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the columns do not hold is let go at once."""
    import tracemalloc

    monkeypatch.setattr(json_stream, "CHUNK_BYTES", 1 << 16)

    def grow(content: dict) -> None:
        content["annotations"] = [
            {**content["annotations"][0], "id": i, "segmentation": [[0.5] * 400]}
            for i in range(2000)
        ]

    path = tmp_path / "x.json"
    path.write_text(json.dumps(changed(GOOD, grow)))
    tracemalloc.start()
    read_coco_file(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < path.stat().st_size / 4
