"""What predict writes scores as the test scores it, by other people's metrics or plain formulas."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")

from mmseg.evaluation import IoUMetric
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from runs import evaluate
from saved_models import Saved, save_untrained

ORIENTATION = 0x0112
STATS = {"AP": 0, "AP50": 1, "AP75": 2, "APs": 3, "APm": 4, "APl": 5, "AR100": 8}


def test_scores(saved: Saved, folder: Path) -> dict[str, float]:
    return evaluate(
        saved.config, saved.checkpoint, options=saved.options, work_dir=folder / "scored"
    )


test_scores.__test__ = False


def resave(path: Path, box: tuple[int, int, int, int] | None = None, turned: bool = False) -> None:
    """A picture or map cut out, perhaps with an Exif entry that turns it."""
    with Image.open(path) as opened:
        picture = opened.crop(box) if box else opened.copy()
    more = {}
    if turned:
        more["exif"] = Image.Exif()
        more["exif"][ORIENTATION] = 6
    picture.save(path, **({"quality": 95, **more} if path.suffix == ".jpg" else {}))


@pytest.fixture(scope="module")
def maps_root(mini_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scored half of the semantic mini world, with pictures of other sizes, grey and turned."""
    root = tmp_path_factory.mktemp("maps") / "ade"
    shutil.copytree(mini_root / "ade", root)
    pictures = sorted((root / "images" / "validation").iterdir())
    maps = sorted((root / "annotations" / "validation").iterdir())
    for file in (pictures[0], maps[0]):
        resave(file, (3, 5, 93, 62), turned=file.suffix == ".jpg")
    for file in (pictures[1], maps[1]):
        resave(file, (0, 0, 40, 128))
    with Image.open(pictures[2]) as picture:
        grey = picture.convert("L")
    grey.save(pictures[2])
    return root


@pytest.mark.parametrize("name", ["linear", "upernet", "mask2former"])
def test_label_maps_score_by_mmseg_as_the_test(maps_root: Path, tmp_path: Path, name: str) -> None:
    more: dict = {}
    if name == "linear":
        more = {"test_mode": "slide", "model.test_cfg.crop_size": (64, 64)}
        more["model.test_cfg.stride"] = (40, 40)
    if name == "mask2former":  # mmseg's own model tests only one size at a time
        more = {"test_dataloader.batch_size": 1}
    saved = save_untrained(name, tmp_path, maps_root, **more)
    scores = test_scores(saved, tmp_path)
    out = tmp_path / "out"
    saved.predict([maps_root / "images" / "validation"], out)
    areas = []
    for truth in sorted((maps_root / "annotations" / "validation").iterdir()):
        labels_HW = np.array(Image.open(truth)).astype(int) - 1
        labels_HW[labels_HW == -1] = 255  # reduce_zero_label
        with Image.open(out / "labels" / truth.name) as picture:
            assert picture.mode == "P"
            found_HW = np.array(picture).astype(int) - 1  # files have the numbers of the training
        assert found_HW.shape == labels_HW.shape
        pair = torch.from_numpy(found_HW), torch.from_numpy(labels_HW)
        areas.append(IoUMetric.intersect_and_union(*pair, 10, 255))
    sums = [sum(parts) for parts in zip(*areas, strict=True)]
    found = IoUMetric.total_area_to_metrics(*sums, ["mIoU"])
    assert scores["mIoU"] > 0
    np.testing.assert_allclose(np.nanmean(found["IoU"]), scores["mIoU"], atol=1e-6)
    np.testing.assert_allclose(found["aAcc"], scores["aAcc"], atol=1e-6)


def test_depth_scores_by_plain_formulas_as_the_test(mini_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "nyu"
    shutil.copytree(mini_root / "nyu", root)
    names = [line.split()[:2] for line in (root / "nyu_test.txt").read_text().splitlines()]
    for name in names[0]:
        resave(root / name, (0, 0, 90, 57), turned=name.endswith(".jpg"))
    saved = save_untrained("depth", tmp_path, root)
    scores = test_scores(saved, tmp_path)
    out = tmp_path / "out"
    saved.predict([root / image for image, _ in names], out)
    index = json.loads((out / "index.json").read_text())
    assert index["steps_per_metre"] == 1000
    rows = []
    for image, depth in names:
        truth_HW = np.array(Image.open(root / depth)).astype(np.float64) / 1000
        found_HW = np.load(out / "depth" / f"{Path(image).stem}.npy").astype(np.float64)
        steps_HW = np.array(Image.open(out / "depth" / f"{Path(image).stem}.png"))
        assert found_HW.shape == truth_HW.shape and steps_HW.dtype in (np.uint16, np.int32)
        np.testing.assert_allclose(steps_HW / 1000, found_HW, atol=0.0005001)
        is_scored_HW = (truth_HW > 1e-3) & (truth_HW < 10)
        d, p = truth_HW[is_scored_HW], found_HW[is_scored_HW].clip(1e-3, 10)
        rows.append([np.sqrt(((p - d) ** 2).mean()), (abs(p - d) / d).mean(),
                     (np.maximum(p / d, d / p) < 1.25).mean()])  # fmt: skip
    found = np.mean(rows, axis=0)
    expected = [scores[name] for name in ("rmse", "abs_rel", "delta1")]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.fixture(scope="module")
def coco_root(mini_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mini world as COCO with pictures of several sizes, one of them turned by Exif."""
    root = tmp_path_factory.mktemp("boxes") / "coco"
    shutil.copytree(mini_root / "coco", root)
    pictures = sorted((root / "images" / "val").iterdir())
    resave(pictures[1], (0, 0, 128, 60), turned=True)
    resave(pictures[2], (0, 0, 70, 128))
    return root


def ground_truth_of(detections: Path, target: Path) -> None:
    """Annotations near some of the detections, so that a model that knows nothing has a score."""
    data = json.loads(detections.read_text())
    seen: dict[int, int] = {}
    annotations = []
    for row in data["annotations"]:
        place = seen.get(row["image_id"], 0)
        seen[row["image_id"]] = place + 1
        if place % 3 or place > 12 or min(row["bbox"][2:]) < 4:
            continue
        image = next(one for one in data["images"] if one["id"] == row["image_id"])
        left, top, width, height = row["bbox"]
        box = [max(left, 0.0) + 1, max(top, 0.0) + 1, 0.0, 0.0]
        box[2] = min(0.8 * width, image["width"] - box[0])
        box[3] = min(0.8 * height, image["height"] - box[1])
        if min(box[2:]) < 2:
            continue
        x, y, w, h = box
        corners = [x, y, x + w, y, x + w, y + h, x, y + h]
        annotations.append(
            dict(id=len(annotations) + 1, image_id=row["image_id"], bbox=box, area=w * h,
                 category_id=row["category_id"], segmentation=[corners], iscrowd=0)
        )  # fmt: skip
    assert len(annotations) > 5
    target.write_text(json.dumps({**data, "annotations": annotations}))


def by_pycocotools(truth: Path, rows: list[dict], kind: str) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        evaluation = COCOeval(coco, coco.loadRes(rows), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: evaluation.stats[place] for name, place in STATS.items()}


@pytest.mark.parametrize("name", ["deta", "vitdet"])
def test_detections_score_by_pycocotools_as_the_test(
    coco_root: Path, tmp_path: Path, name: str
) -> None:
    root = tmp_path / "coco"
    shutil.copytree(coco_root, root)
    # Beside a larger picture of its batch the encoder of DETA and DINO sees more padding.
    saved = save_untrained(name, tmp_path, root, **{"test_dataloader.batch_size": 1})
    truth = root / "annotations" / "val.json"
    saved.predict([root / "images" / "val"], tmp_path / "first", ids=truth)
    ground_truth_of(tmp_path / "first" / "detections.json", truth)
    scores = test_scores(saved, tmp_path)
    out = tmp_path / "out"
    saved.predict([root / "images" / "val"], out, ids=truth, batch_size=4, overlays=True)
    rows = json.loads((out / "detections.json").read_text())["annotations"]
    known = {key: value for key, value in scores.items() if key in STATS}
    assert scores["AP"] > 0.01
    found = by_pycocotools(truth, rows, "bbox")
    assert {key: found[key] for key in known} == pytest.approx(known, abs=1e-6)
    if name == "vitdet":
        for row in rows:
            del row["bbox"]
        found = by_pycocotools(truth, rows, "segm")
        known = {k.removeprefix("mask_"): v for k, v in scores.items() if k.startswith("mask_")}
        assert known["AP"] > 0
        assert {key: found[key] for key in known} == pytest.approx(known, abs=1e-6)
