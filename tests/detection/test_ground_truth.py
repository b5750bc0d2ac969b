"""Ids are names: any of them gives the scores of ids from 1; what counts is the same everywhere."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet")
pytest.importorskip("faster_coco_eval")

from pycocotools.coco import COCO as PythonCOCO  # noqa: N811
from pycocotools.cocoeval import COCOeval

from pe_dense.data.coco_objects import is_trainable
from pe_dense.detection.coco_dataset import CocoDataset
from pe_dense.detection.coco_metric import CocoAP
from pe_dense.detection.ground_truth import ground_truth
from pe_dense.detection.lvis_metric import LvisAP

CLASSES = ["disc", "box", "star"]
SIDE = 200


def world(seed: int = 0, num_images: int = 5) -> dict:
    """Ids from 1, squares of three classes, LVIS's lists besides."""
    rng = np.random.default_rng(seed)
    images = [
        dict(
            id=n, file_name=f"{n}.jpg", width=SIDE, height=SIDE,
            neg_category_ids=[1, 2, 3], not_exhaustive_category_ids=[2] if n == 1 else [],
        )
        for n in range(1, num_images + 1)
    ]  # fmt: skip
    annotations = []
    for image in images:
        for _ in range(4):
            (x, y), (w, h) = rng.integers(0, 100, 2).tolist(), rng.integers(8, 100, 2).tolist()
            polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append(
                dict(
                    id=len(annotations) + 1, image_id=image["id"], iscrowd=0,
                    category_id=int(rng.integers(1, 4)), bbox=[x, y, w, h], area=w * h,
                    segmentation=[polygon],
                )
            )  # fmt: skip
    categories = [
        dict(id=k, name=name, frequency="rcf"[k - 1]) for k, name in enumerate(CLASSES, start=1)
    ]
    return dict(images=images, annotations=annotations, categories=categories)


def renamed(
    content: dict,
    image: Callable[[int], int] = int,
    annotation: Callable[[int], int] = int,
    category: Callable[[int], int] = int,
) -> dict:
    """The same world under other ids."""
    content = copy.deepcopy(content)
    for item in content["images"]:
        item["id"] = image(item["id"])
        for key in ("neg_category_ids", "not_exhaustive_category_ids"):
            item[key] = [category(k) for k in item[key]]
    for item in content["annotations"]:
        item["id"] = annotation(item["id"])
        item["image_id"] = image(item["image_id"])
        item["category_id"] = category(item["category_id"])
    for item in content["categories"]:
        item["id"] = category(item["id"])
    return content


def found_in(content: dict, image_number: int, seed: int = 1) -> dict:
    """Imperfect boxes and masks of one image of `world`, as a detector gives them."""
    rng = np.random.default_rng(seed + image_number)
    boxes, labels, masks = [], [], []
    for item in world()["annotations"]:
        if item["image_id"] == image_number:
            x, y, w, h = (np.array(item["bbox"]) + rng.integers(-4, 5, 4)).tolist()
            boxes.append([x, y, x + max(w, 2), y + max(h, 2)])
            labels.append(item["category_id"] - 1 if rng.random() < 0.8 else 0)
            mask = np.zeros((SIDE, SIDE), bool)
            mask[max(y, 0) : max(y + h, 2), max(x, 0) : max(x + w, 2)] = True
            masks.append(mask)
    scores = torch.from_numpy(rng.integers(1, 5, len(boxes)) / 10)  # ties
    found = dict(bboxes=torch.tensor(boxes, dtype=torch.float64), scores=scores)
    found |= dict(labels=torch.tensor(labels), masks=torch.from_numpy(np.array(masks)))
    return dict(img_id=content["images"][image_number - 1]["id"], pred_instances=found)


def scores_of(tmp_path: Path, content: dict, kind: type = CocoAP, **named: object) -> tuple:
    path = tmp_path / "val.json"
    path.write_text(json.dumps(content))
    metric = kind(str(path), **named)
    metric.dataset_meta = dict(classes=CLASSES)
    samples = [found_in(content, n) for n in range(1, len(content["images"]) + 1)]
    metric.process({}, samples)
    scores = metric.evaluate(len(samples))
    return scores, metric.evidence()


RENAMED = {
    "annotations from 0": dict(annotation=lambda i: i - 1),
    "all from 0": dict.fromkeys(("image", "annotation", "category"), lambda i: i - 1),
    "negative": dict.fromkeys(("image", "annotation", "category"), lambda i: i - 50),
    "above 2^53": dict.fromkeys(("image", "annotation", "category"), lambda i: 2**60 + i),
    "other order of classes": dict(category=lambda i: {1: 9, 2: 4, 3: 0}[i]),
}


@pytest.mark.parametrize("kind", [CocoAP, LvisAP])
@pytest.mark.parametrize("case", RENAMED)
def test_any_ids_give_the_scores_of_ids_from_1(case: str, kind: type, tmp_path: Path) -> None:
    expected, expected_evidence = scores_of(tmp_path, world(), kind, with_masks=True)
    content = renamed(world(), **RENAMED[case])
    found, evidence = scores_of(tmp_path, content, kind, with_masks=True)
    assert found == expected
    name = next(name for name in expected if name.endswith("/AP"))
    assert 0.05 < expected[name] < 0.95
    assert evidence.metrics() == pytest.approx(expected_evidence.metrics(), nan_ok=True)
    assert evidence.metrics()["AP"] == pytest.approx(expected[name], abs=1e-9)
    assert evidence.image_ids == tuple(str(image["id"]) for image in content["images"])
    assert evidence.classes == tuple(CLASSES)


def test_the_order_of_the_lists_does_not_matter(tmp_path: Path) -> None:
    content = world()
    content["categories"].reverse()
    assert scores_of(tmp_path, content)[0] == scores_of(tmp_path, world())[0]


def by_pycocotools(content: dict, samples: list[dict]) -> float:
    """AP on a file whose ids count from 1."""
    rows = []
    for sample in samples:
        found = sample["pred_instances"]
        for (x, y, right, low), score, label in zip(
            found["bboxes"].tolist(), found["scores"].tolist(), found["labels"].tolist(),
            strict=True,
        ):  # fmt: skip
            box = [x, y, right - x, low - y]
            rows.append(
                dict(image_id=sample["img_id"], bbox=box, score=score, category_id=label + 1)
            )
    with contextlib.redirect_stdout(io.StringIO()):
        coco = PythonCOCO()
        coco.dataset = copy.deepcopy({"info": {}, **content})
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(rows), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def with_odd_objects() -> dict:
    """One object too thin, one without area, one outside, besides the sound ones."""
    content = world()
    for box, area in (([10, 10, 0.5, 40], 20), ([10, 10, 40, 40], 0), ([300, 10, 40, 40], 1600)):
        odd = dict(image_id=1, category_id=1, bbox=box, area=area, iscrowd=0, segmentation=[])
        content["annotations"].append(odd | dict(id=len(content["annotations"]) + 1))
    return content


def test_as_published_what_is_not_trained_on_counts_as_missed(tmp_path: Path) -> None:
    content = with_odd_objects()
    samples = [found_in(content, n) for n in range(1, 6)]
    scores, _ = scores_of(tmp_path, content)
    assert scores["coco/AP"] == pytest.approx(by_pycocotools(content, samples), abs=1e-9)
    assert scores["coco/AP"] < scores_of(tmp_path, world())[0]["coco/AP"]
    summary = ground_truth(content, CLASSES).summary()
    assert "objects: 23 scored (3 of them" in summary and "0 left out" in summary


def test_on_request_it_is_left_out(tmp_path: Path) -> None:
    found = scores_of(tmp_path, with_odd_objects(), leave_out_untrainable=True)[0]
    assert found == scores_of(tmp_path, world())[0]
    truth = ground_truth(with_odd_objects(), CLASSES, leave_out_untrainable=True)
    assert (truth.num_scored, truth.num_untrainable, truth.num_left_out) == (20, 0, 3)


def test_the_flag_ignore_is_a_crowd(tmp_path: Path) -> None:
    flagged, crowded = world(), world()
    for n in (0, 5, 6):
        flagged["annotations"][n]["ignore"] = 1
        crowded["annotations"][n]["iscrowd"] = 1
    samples = [found_in(flagged, n) for n in range(1, 6)]
    scores = scores_of(tmp_path, flagged)[0]
    assert scores["coco/AP"] == pytest.approx(by_pycocotools(crowded, samples), abs=1e-9)
    assert scores["coco/AP"] != pytest.approx(scores_of(tmp_path, world())[0]["coco/AP"])
    truth = ground_truth(flagged, CLASSES)
    assert (truth.num_scored, truth.num_ignored) == (17, 3)
    assert "17 scored, 3 ignored" in truth.summary()


def test_the_data_set_trains_on_what_is_scored(tmp_path: Path) -> None:
    """Labels by name, ignored objects flagged, the rest what mmdet trains on."""
    content = with_odd_objects()
    content["annotations"][0]["ignore"] = 1
    content["annotations"][1]["iscrowd"] = 1
    content = renamed(content, **RENAMED["all from 0"])
    content["categories"].reverse()
    path = tmp_path / "train.json"
    path.write_text(json.dumps(content))
    data = CocoDataset(
        ann_file=str(path), metainfo=dict(classes=CLASSES), data_prefix=dict(img=""), pipeline=[]
    )
    instances = [i for n in range(len(data)) for i in data.get_data_info(n)["instances"]]
    truth = ground_truth(content, CLASSES, leave_out_untrainable=True)
    assert len(instances) == truth.num_scored + truth.num_ignored
    for instance, annotation in zip(instances, truth.dataset["annotations"], strict=True):
        x, y, w, h = annotation["bbox"]
        assert instance["bbox"] == [x, y, x + w, y + h]
        assert instance["bbox_label"] + 1 == annotation["category_id"]
        assert instance["ignore_flag"] == annotation["iscrowd"]


def test_classes_that_the_file_lacks_are_refused_in_training(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_text(json.dumps(world()))
    with pytest.raises(ValueError, match=r"train.json has 0 classes 'moon', not one"):
        CocoDataset(ann_file=str(path), metainfo=dict(classes=["disc", "moon"]), pipeline=[])


def test_the_registry_builds_it_under_mmdets_name() -> None:
    from mmdet.registry import DATASETS

    assert DATASETS.get("CocoDataset") is CocoDataset
    assert DATASETS.get("Objects365V2Dataset").__module__ == CocoDataset.__module__


def test_trainable_is_what_mmdet_keeps() -> None:
    from mmdet.datasets import CocoDataset as MMDetCoco

    data = MMDetCoco(
        lazy_init=True, pipeline=[], metainfo=dict(classes=("a",)), data_prefix=dict(img="")
    )
    data.cat_ids, data.cat2label = [1], {1: 0}
    rng = np.random.default_rng(0)
    kept = 0
    for _ in range(300):
        box, area = rng.uniform(-60, 70, 4).round(1).tolist(), float(rng.uniform(-10, 100))
        item = dict(bbox=box, area=area, category_id=1)
        image = dict(img_id=1, file_name="a", width=50, height=40)
        parsed = data.parse_data_info(dict(raw_img_info=image, raw_ann_info=[item]))
        assert is_trainable(item, 50, 40) == bool(parsed["instances"])
        kept += is_trainable(item, 50, 40)
    assert 20 < kept < 280


BAD = {
    "text": (lambda c: c["images"][0].update(id="1"), "id '1' of images in .* is no integer"),
    "float": (lambda c: c["annotations"][0].update(id=1.0), "id 1.0 of annotations"),
    "bool": (lambda c: c["categories"][0].update(id=True), "id True of categories"),
    "repeated": (lambda c: c["annotations"][1].update(id=1), "id 1 of annotations .* comes twice"),
    "image": (lambda c: c["annotations"][1].update(image_id=77), "image_id 77, which is not"),
    "class": (lambda c: c["annotations"][1].update(category_id="2"), "category_id '2', which"),
    "flag": (lambda c: c["annotations"][1].update(ignore="no"), "ignore 'no'; write 0 or 1"),
    "no class": (lambda c: c["categories"][-1].update(name="moon"), "0 classes 'star', not one"),
    "two": (lambda c: c["categories"][0].update(name="star"), "0 classes 'disc'|2 classes 'star'"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_ground_truth_is_refused(case: str) -> None:
    change, message = BAD[case]
    content = world()
    change(content)
    with pytest.raises(ValueError, match=message):
        ground_truth(content, CLASSES)


@pytest.mark.parametrize("image_id", ["1", 1.0, True, 99, None])
def test_images_that_the_file_lacks_are_refused(image_id: object) -> None:
    with pytest.raises(ValueError, match="detections name image"):
        ground_truth(world(), CLASSES).numbers([image_id])


def test_an_image_scored_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="image 2 was scored twice"):
        ground_truth(world(), CLASSES).numbers([2, 1, 2])


@pytest.mark.parametrize("key", ["bboxes", "scores"])
def test_detections_that_are_not_finite_are_refused(key: str, tmp_path: Path) -> None:
    path = tmp_path / "val.json"
    path.write_text(json.dumps(world()))
    metric = CocoAP(str(path))
    metric.dataset_meta = dict(classes=CLASSES)
    sample = found_in(world(), 3)
    sample["pred_instances"][key][0] = float("nan")
    metric.process({}, [sample])
    with pytest.raises(ValueError, match="a detection of image 3 is NaN"):
        metric.evaluate(1)


def test_a_file_without_objects_has_no_scores(tmp_path: Path) -> None:
    content = world()
    content["annotations"] = []
    assert scores_of(tmp_path, content)[0] == {}
