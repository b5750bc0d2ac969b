"""300 small COCO folders with one defect in their masks: the right AP, or one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuzzing import require_right_or_refused, scores_of, some
from mmengine.structures import InstanceData
from PIL import Image
from pycocotools import mask as coding

CONFIG = "configs/detection/vitdet_pe_t16_mini.py"
WIDTH, HEIGHT, NUM_IMAGES = 64, 48, 3
COLOURS = {"disc": (220, 30, 30), "box": (30, 200, 30)}
Content = dict[str, Any]
Defect = Callable[[np.random.Generator, Content], str]


# ---- a sound folder, and who sees it -------------------------------------------------------------


def build(root: Path) -> Path:
    """Pictures with an L of each colour; the first as a polygon, the second as an RLE."""
    rng = np.random.default_rng(6)
    (root / "annotations").mkdir(parents=True)
    (root / "images").mkdir()
    for split in ("train", "val"):
        categories = [dict(id=k + 1, name=name) for k, name in enumerate(COLOURS)]
        content: Content = dict(images=[], annotations=[], categories=categories)
        for i in range(1, NUM_IMAGES + 1):
            picture = rng.integers(90, 110, (HEIGHT, WIDTH, 3)).astype(np.uint8)
            name = f"{split}{i}.png"
            content["images"].append(dict(id=i, file_name=name, width=WIDTH, height=HEIGHT))
            for k, colour in enumerate(COLOURS.values()):
                x, y = 32 * k + int(rng.integers(0, 8)), int(rng.integers(0, 16))
                mask = np.zeros((HEIGHT, WIDTH), np.uint8)
                mask[y : y + 24, x : x + 10] = mask[y + 12 : y + 24, x : x + 20] = 1
                picture[mask == 1] = colour
                points = [
                    x,
                    y,
                    x + 10,
                    y,
                    x + 10,
                    y + 12,
                    x + 20,
                    y + 12,
                    x + 20,
                    y + 24,
                    x,
                    y + 24,
                ]
                content["annotations"].append(
                    dict(
                        id=2 * i + k,
                        image_id=i,
                        category_id=k + 1,
                        bbox=[x, y, 20, 24],
                        area=int(mask.sum()),
                        iscrowd=0,
                        segmentation=[points] if k == 0 else counts_of(mask),
                    )
                )
            Image.fromarray(picture).save(root / "images" / name)
        (root / f"annotations/{split}.json").write_text(json.dumps(content))
    return root


def counts_of(mask_HW: np.ndarray) -> dict[str, Any]:
    """An RLE that is not compressed: lengths of runs of 0 and 1 down the columns."""
    flat = mask_HW.T.reshape(-1)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat]))).tolist()
    runs = np.diff([0, *edges, flat.size]).tolist()
    return dict(size=list(mask_HW.shape), counts=runs)


def see(batch: dict[str, Any]) -> list[dict[str, Any]]:
    """The pixels of each colour; green ones without their last four columns."""
    samples = []
    for image_3hw, sample in zip(batch["inputs"], batch["data_samples"], strict=True):
        bgr_hw3 = image_3hw.permute(1, 2, 0).to(torch.int64)
        boxes, masks = [], []
        for name, colour in COLOURS.items():
            close_hw = (bgr_hw3 - torch.tensor(colour[::-1])).abs().amax(-1) < 40
            columns = torch.nonzero(close_hw.any(0)).flatten()
            if name == "box" and len(columns):
                close_hw[:, columns.max() - 3 :] = False
            rows, columns = torch.nonzero(close_hw, as_tuple=True)
            masks.append(close_hw[: sample.ori_shape[0], : sample.ori_shape[1]])
            low, high = (columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)
            boxes.append([float(v) for v in (*low, *high)])
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor(boxes),
            scores=torch.tensor([0.9, 0.8]),
            labels=torch.tensor([0, 1]),
            masks=torch.stack(masks),
        )
        samples.append(sample.to_dict())
    return samples


def score(root: Path) -> dict[str, float] | str:
    options = dict(
        data_root=str(root),
        classes=list(COLOURS),
        num_classes=2,
        image_scale=(WIDTH, HEIGHT),
        train_images="images/",
        val_images="images/",
    )
    return scores_of(CONFIG, options, see, trains=True)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("sound") / "set")


@pytest.fixture(scope="module")
def right(sound: Path) -> dict[str, float]:
    scores = score(sound)
    assert isinstance(scores, dict), scores
    assert 0.5 < scores["coco/mask_AP"] < 0.99
    return scores


# ---- defects -------------------------------------------------------------------------------------

JUNK: list[Any] = [
    None, "", "x", 1, -1, [], {}, [[]], [[[]]], [None], ["x"], [1, 2, 3, 4, 5, 6], {"counts": "x"},
    {"size": [1, 1]}, {"size": [HEIGHT, WIDTH], "counts": None}, [{}], True,
]  # fmt: skip


def polygon(rng: np.random.Generator, content: Content) -> dict[str, Any]:
    return some(rng, [a for a in content["annotations"] if a["category_id"] == 1])


def rle(rng: np.random.Generator, content: Content) -> dict[str, Any]:
    return some(rng, [a for a in content["annotations"] if a["category_id"] == 2])


def junk(rng: np.random.Generator, content: Content) -> str:
    item = some(rng, content["annotations"])
    item["segmentation"] = some(rng, JUNK)
    return f"segmentation {item['segmentation']!r}"


def no_masks(rng: np.random.Generator, content: Content) -> str:
    several = content["annotations"] if rng.random() < 0.5 else [some(rng, content["annotations"])]
    for item in several:
        del item["segmentation"]
    return f"{len(several)} annotations without masks"


def points(rng: np.random.Generator, content: Content) -> str:
    item = polygon(rng, content)
    [values] = item["segmentation"]
    at = int(rng.integers(len(values)))
    how, new = some(
        rng,
        {
            "odd": [values[:-1]],
            "two points": [values[:4]],
            "one point": [values[:2]],
            "nothing": [[]],
            "a good one and two points": [values, values[:4]],
            "nan": [[*values[:at], float("nan"), *values[at + 1 :]]],
            "inf": [[*values[:at], float("inf"), *values[at + 1 :]]],
            "None": [[*values[:at], None, *values[at + 1 :]]],
            "text": [[*values[:at], "7", *values[at + 1 :]]],
            "far away": [[*values[:at], 900, *values[at + 1 :]]],
            "pairs": [[values[i : i + 2] for i in range(0, len(values), 2)]],
            "flat": values,
            "shares": [[v / 64 for v in values]],
            "shifted": [[v + 25 for v in values]],
            "larger": [[2.5 * v for v in values]],
            "y before x": [[v for i in range(0, 12, 2) for v in (values[i + 1], values[i])]],
            "1e300": [[*values[:at], 1e300, *values[at + 1 :]]],
        }.items(),
    )
    item["segmentation"] = new
    return f"polygon {how}"


def runs(rng: np.random.Generator, content: Content) -> str:
    item = rle(rng, content)
    size, counts = item["segmentation"]["size"], item["segmentation"]["counts"]
    at = int(rng.integers(len(counts)))
    how, new = some(
        rng,
        {
            "size turned": dict(size=size[::-1], counts=counts),
            "size smaller": dict(size=[24, 32], counts=counts),
            "size text": dict(size=["48", "64"], counts=counts),
            "no size": dict(counts=counts),
            "no counts": dict(size=size),
            "too few": dict(size=size, counts=counts[:-1]),
            "too many": dict(size=size, counts=[*counts, 5]),
            "negative": dict(size=size, counts=[*counts[:at], -3, *counts[at + 1 :]]),
            "float": dict(size=size, counts=[*counts[:at], counts[at] + 0.5, *counts[at + 1 :]]),
            "None": dict(size=size, counts=[*counts[:at], None, *counts[at + 1 :]]),
            "huge": dict(size=size, counts=[*counts[:at], 2**40, *counts[at + 1 :]]),
            "empty": dict(size=size, counts=[HEIGHT * WIDTH]),
            "all": dict(size=size, counts=[0, HEIGHT * WIDTH]),
            "no runs": dict(size=size, counts=[]),
            "of rows": counts_by_row(size, counts),
        }.items(),
    )
    item["segmentation"] = new
    return f"RLE {how}"


def counts_by_row(size: list[int], counts: list[int]) -> dict[str, Any]:
    flat = np.concatenate([np.full(run, k % 2, np.uint8) for k, run in enumerate(counts)])
    mask = flat.reshape(size[::-1]).T
    return dict(size=size, counts=counts_of(mask.reshape(size).T.copy())["counts"])


def compressed(rng: np.random.Generator, content: Content) -> str:
    item = rle(rng, content)
    size, counts = item["segmentation"]["size"], item["segmentation"]["counts"]
    text = coding.frPyObjects(dict(size=size, counts=counts), *size)["counts"].decode()
    how, new = some(
        rng,
        {
            "sound": dict(size=size, counts=text),
            "cut": dict(size=size, counts=text[:-3]),
            "longer": dict(size=size, counts=text + text),
            "junk": dict(size=size, counts="?!"),
            "other characters": dict(size=size, counts=text.replace(text[3], "\u00e4")),
            "empty": dict(size=size, counts=""),
            "size turned": dict(size=size[::-1], counts=text),
        }.items(),
    )
    item["segmentation"] = new
    return f"compressed RLE {how}"


def equal_form(rng: np.random.Generator, content: Content) -> str:
    """The same masks, written otherwise."""
    for item in content["annotations"]:
        x, y, _, _ = item["bbox"]
        if item["category_id"] == 1:
            two = [
                [x, y, x + 10, y, x + 10, y + 24, x, y + 24],
                [x + 10, y + 12, x + 20, y + 12, x + 20, y + 24, x + 10, y + 24],
            ]
            mask = coding.decode(coding.merge(coding.frPyObjects(two, HEIGHT, WIDTH)))
            item["segmentation"] = some(rng, [two, counts_of(mask)])
        elif rng.random() < 0.5:
            size, counts = item["segmentation"]["size"], item["segmentation"]["counts"]
            text = coding.frPyObjects(dict(size=size, counts=counts), *size)["counts"].decode()
            item["segmentation"] = dict(size=size, counts=text)
    return "the same masks in another form"


DEFECTS: list[Defect] = [junk, no_masks, points, runs, compressed, equal_form]
# Sound data in another dress: these must be scored, not refused.
HARMLESS = {equal_form}


@pytest.mark.parametrize("seed", range(300))
def test_right_or_refused(seed: int, sound: Path, right: dict[str, float], tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    folder = tmp_path / "set"
    shutil.copytree(sound, folder)
    defect = DEFECTS[seed % len(DEFECTS)]
    file = folder / "annotations" / some(rng, ["train.json", "val.json"])
    content = json.loads(file.read_text())
    words = f"{defect.__name__} in {file.name}: {defect(rng, content)}"
    file.write_text(json.dumps(content))
    refused = require_right_or_refused(score(folder), right, folder, words)
    assert not (refused and defect in HARMLESS), words
