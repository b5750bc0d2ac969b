"""300 small COCO folders with one defect each: the number of the sound one, or one sentence."""

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

CONFIG = "configs/detection/deta_custom.py"
WIDTH, HEIGHT, NUM_IMAGES = 64, 48, 4
COLOURS = {"disc": (220, 30, 30), "box": (30, 200, 30), "tree": (30, 30, 220)}
Content = dict[str, Any]
Defect = Callable[[np.random.Generator, Path, Content], str | None]


# ---- a sound folder, and who sees it -------------------------------------------------------------


def build(root: Path) -> Path:
    """Pictures with one rectangle of each colour, some left out, at exact places."""
    rng = np.random.default_rng(5)
    (root / "annotations").mkdir(parents=True)
    (root / "images").mkdir()
    for split, first in (("train", 1), ("val", 101)):
        content: Content = dict(info={}, images=[], annotations=[], categories=[])
        for k, name in enumerate(COLOURS):
            content["categories"].append(dict(id=3 * k + 2, name=name, supercategory="things"))
        for i in range(NUM_IMAGES):
            picture = rng.integers(90, 110, (HEIGHT, WIDTH, 3)).astype(np.uint8)
            name = f"{split}{i}.png"
            content["images"].append(dict(id=first + i, file_name=name, width=WIDTH, height=HEIGHT))
            for k, colour in enumerate(COLOURS.values()):
                if k and k == i % 3:
                    continue
                x, y = 21 * k + int(rng.integers(0, 6)), int(rng.integers(4, 24))
                w, h = int(rng.integers(10, 14)), int(rng.integers(12, 20))
                picture[y : y + h, x : x + w] = colour
                content["annotations"].append(
                    dict(
                        id=len(content["annotations"]) + first,
                        image_id=first + i,
                        category_id=3 * k + 2,
                        bbox=[x, y, w, h],
                        area=w * h,
                        iscrowd=0,
                    )
                )
            Image.fromarray(picture).save(root / "images" / name)
        (root / "annotations" / f"{split}.json").write_text(json.dumps(content))
    return root


def see(batch: dict[str, Any]) -> list[dict[str, Any]]:
    """One box per colour that is in the picture; blue ones are too narrow, one box is wrong."""
    samples = []
    for image_3hw, sample in zip(batch["inputs"], batch["data_samples"], strict=True):
        bgr_hw3 = image_3hw.permute(1, 2, 0).to(torch.int64)
        boxes, scores, labels = [[1.0, 1.0, 9.0, 9.0]], [0.3], [0]
        for name, colour in COLOURS.items():
            close_hw = (bgr_hw3 - torch.tensor(colour[::-1])).abs().amax(-1) < 40
            rows, columns = torch.nonzero(close_hw, as_tuple=True)
            if len(rows) < 20 or name not in CLASSES:
                continue
            low, high = (columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)
            box = torch.tensor([*low, *high], dtype=torch.float32)
            box[2] -= 2.0 if name == "tree" else 0.0
            boxes.append((box / torch.tensor([*sample.scale_factor] * 2)).tolist())
            scores.append(0.9 if name == "disc" else 0.8)
            labels.append(CLASSES.index(name))
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor(boxes), scores=torch.tensor(scores), labels=torch.tensor(labels)
        )
        samples.append(sample.to_dict())
    return samples


CLASSES: list[str] = []  # of the run, in the order of its labels


def score(root: Path, trains: bool = False) -> dict[str, float] | str:
    """Scores of the folder; the seer learns the classes as a model does, from the training file."""
    try:
        known = json.loads((root / "annotations/train.json").read_text())["categories"]
        CLASSES[:] = [entry["name"] for entry in known if entry["name"] != "things"]
    except (ValueError, KeyError, TypeError, OSError, RecursionError):
        CLASSES[:] = list(COLOURS)
    options = dict(data_root=str(root), image_scale=(WIDTH, HEIGHT), shrink=(1.0, 1.0))
    options |= dict(holdout_share=0)  # sets of four images have no tenth
    return scores_of(CONFIG, options, see, trains)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("sound") / "set")


@pytest.fixture(scope="module")
def right(sound: Path) -> dict[str, float]:
    scores = score(sound)
    assert isinstance(scores, dict), scores
    assert 0.3 < scores["coco/AP"] < 0.99
    return scores


# ---- defects: each changes files, or the content of one JSON -------------------------------------

JUNK: list[Any] = [
    None, "", "x", "1", [], {}, [1], {"a": 1}, -50, 10**6, float("nan"), float("inf"), 2**70,
    -(2**70), 1.5, 1e300, "../../etc/passwd", "\u0000", [[[]]], False,
]  # fmt: skip


def junk_value(rng: np.random.Generator, root: Path, content: Content) -> str:
    part = some(rng, ["images", "annotations", "categories"])
    place = int(rng.integers(len(content[part])))
    item = content[part][place]
    key = some(rng, sorted(item))
    value = some(rng, JUNK)
    item[key] = None if key == "area" and value in (1.5, 10**6, 1e300) else value
    return f"{part}[{place}].{key} = {value!r}"


def junk_in_box(rng: np.random.Generator, root: Path, content: Content) -> str:
    place = int(rng.integers(len(content["annotations"])))
    value = some(rng, [v for v in JUNK if v not in (1.5, False)])
    content["annotations"][place]["bbox"][int(rng.integers(4))] = value
    return f"a coordinate of box {place} is {value!r}"


def missing_key(rng: np.random.Generator, root: Path, content: Content) -> str:
    part = some(rng, ["images", "annotations", "categories"])
    place = int(rng.integers(len(content[part])))
    key = some(rng, sorted(content[part][place]))
    del content[part][place][key]
    return f"{part}[{place}] without {key}"


def missing_part(rng: np.random.Generator, root: Path, content: Content) -> str:
    key = some(rng, sorted(content))
    if rng.random() < 0.5:
        del content[key]
        return f"no {key}"
    content[key] = some(rng, [None, {}, [], "x", 3, [None], [[]]])
    return f"{key} = {content[key]!r}"


def shifted_ids(rng: np.random.Generator, root: Path, content: Content) -> str:
    part = some(rng, ["images", "annotations", "categories"])
    by = some(rng, [-2, -101, -1, 2**31, 2**53, 2**53 + 1, 2**62])
    for item in content[part]:
        item["id"] += by
    for item in content["annotations"]:
        if part != "annotations":
            item[{"images": "image_id", "categories": "category_id"}[part]] += by
    return f"ids of {part} shifted by {by}"


def ids_of_other_type(rng: np.random.Generator, root: Path, content: Content) -> str:
    kind = some(rng, [str, float])
    part = some(rng, ["images", "annotations", "categories"])
    for item in content[part]:
        item["id"] = kind(item["id"])
    for item in content["annotations"]:
        if part != "annotations":
            key = {"images": "image_id", "categories": "category_id"}[part]
            item[key] = kind(item[key])
    return f"ids of {part} as {kind.__name__}"


def repeated_id(rng: np.random.Generator, root: Path, content: Content) -> str:
    part = some(rng, ["images", "annotations", "categories"])
    one, other = rng.permutation(len(content[part]))[:2]
    content[part][one]["id"] = content[part][other]["id"]
    return f"{part}[{one}] has the id of [{other}]"


def shuffled(rng: np.random.Generator, root: Path, content: Content) -> str:
    part = some(rng, ["images", "annotations", "categories"])
    rng.shuffle(content[part])
    return f"{part} in another order"


def copied_entry(rng: np.random.Generator, root: Path, content: Content) -> str:
    part = some(rng, ["images", "annotations", "categories"])
    item = dict(some(rng, content[part]))
    if rng.random() < 0.7:
        item["id"] = 999
    content[part].append(item)
    return f"an entry of {part} twice, the second with id {item['id']}"


def renamed_class(rng: np.random.Generator, root: Path, content: Content) -> str:
    category = some(rng, content["categories"])
    category["name"] = some(rng, ["Disc", "other", " box", "tree ", "d\u00efsc", "a$lr", "box\n"])
    return f"a class of one split is called {category['name']!r}"


def placeholder_class(rng: np.random.Generator, root: Path, content: Content) -> str:
    for file in (root / "annotations").glob("*.json"):
        own = json.loads(file.read_text())
        own["categories"].insert(0, dict(id=0, name="things", supercategory="none"))
        file.write_text(json.dumps(own))
    content["categories"].insert(0, dict(id=0, name="things", supercategory="none"))
    return "Roboflow's placeholder class"


def boxes_as_corners(rng: np.random.Generator, root: Path, content: Content) -> str:
    for item in content["annotations"]:
        x, y, w, h = item["bbox"]
        item["bbox"] = [x, y, x + w, y + h]
    return "boxes as corners"


def boxes_in_shares(rng: np.random.Generator, root: Path, content: Content) -> str:
    for item in content["annotations"]:
        x, y, w, h = item["bbox"]
        item["bbox"] = [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT]
    return "boxes in shares of the image"


def negative_side(rng: np.random.Generator, root: Path, content: Content) -> str:
    item = some(rng, content["annotations"])
    x, y, w, h = item["bbox"]
    item["bbox"] = some(rng, [[x + w, y, -w, h], [x, y + h, w, -h], [x, y, -w, -h], [x, y, 0, h]])
    return f"a box {item['bbox']}"


def zero_area(rng: np.random.Generator, root: Path, content: Content) -> str:
    value = some(rng, [0, -1, 0.0, -12.5])
    for item in (
        content["annotations"] if rng.random() < 0.5 else [some(rng, content["annotations"])]
    ):
        item["area"] = value
    return f"area {value}"


def all_crowd(rng: np.random.Generator, root: Path, content: Content) -> str:
    for item in content["annotations"]:
        item[some(rng, ["iscrowd", "ignore"])] = 1
    return "nothing but crowds and ignored objects"


def broken_json(rng: np.random.Generator, root: Path, content: Content) -> str:
    file = root / "annotations" / some(rng, ["train.json", "val.json"])
    data = file.read_bytes()
    at = int(rng.integers(1, len(data)))
    kind, new = some(
        rng,
        [
            ("cut", data[:at]),
            ("empty", b""),
            ("followed by junk", data + b"}"),
            ("not UTF-8", data[:at] + b"\xff" + data[at:]),
            ("with a byte-order mark", b"\xef\xbb\xbf" + data),
            ("UTF-16", data.decode().encode("utf-16")),
            ("nested", b"[" * 100_000),
            ("twice", data + data),
            ("text", b"hello"),
            ("zeros", bytes(len(data))),
            ("a list", b"[" + data + b"]"),
        ],
    )
    file.write_bytes(new)
    content.clear()
    return f"{file.name} {kind}"


def broken_image(rng: np.random.Generator, root: Path, content: Content) -> str:
    file = some(rng, sorted((root / "images").iterdir()))
    data = file.read_bytes()
    kind = some(rng, ["cut", "empty", "text", "absent", "folder", "case", "suffix"])
    file.unlink()
    if kind == "cut":
        file.write_bytes(data[: int(rng.integers(10, len(data) - 40))])
    elif kind == "empty":
        file.touch()
    elif kind == "text":
        file.write_text("no picture")
    elif kind == "folder":
        file.mkdir()
    elif kind == "case":
        file.with_name(file.name.upper()).write_bytes(data)
    elif kind == "suffix":
        file.with_suffix(".jpg").write_bytes(data)
    return f"{file.name} {kind}"


def other_coding(rng: np.random.Generator, root: Path, content: Content) -> str:
    file = some(rng, sorted((root / "images").iterdir()))
    picture = Image.open(file).convert("RGB")
    kind = some(rng, ["palette", "RGBA", "BMP", "WEBP", "TIFF", "16 bits", "turned", "smaller"])
    if kind == "palette":
        picture.quantize(64).save(file)
    elif kind == "RGBA":
        picture.putalpha(255)
        picture.save(file)
    elif kind == "16 bits":
        import cv2

        wide = np.asarray(picture)[..., ::-1].astype(np.uint16) * 257
        assert cv2.imwrite(str(file), wide)
    elif kind == "turned":
        exif = picture.getexif()
        exif[0x0112] = int(rng.integers(5, 9))
        picture.save(file, exif=exif)
    elif kind == "smaller":
        size = some(
            rng, [(WIDTH // 2, HEIGHT // 2), (HEIGHT, WIDTH), (WIDTH, 1), (WIDTH + 1, HEIGHT)]
        )
        picture.resize(size).save(file)
        kind = f"of {size}"
    else:
        picture.save(file, format=kind, **({"lossless": True} if kind == "WEBP" else {}))
    return f"{file.name} {kind}"


def val_is_train(rng: np.random.Generator, root: Path, content: Content) -> str:
    content.clear()
    if rng.random() < 0.5:
        shutil.copy(root / "annotations/train.json", root / "annotations/val.json")
        return "val.json is train.json"
    shutil.copy(root / "images/val1.png", root / "images/train2.png")
    return "a picture of val is in train"


def emptied(rng: np.random.Generator, root: Path, content: Content) -> str:
    part = some(rng, ["images", "annotations", "categories"])
    content[part] = []
    return f"{part} is empty"


def strange_reference(rng: np.random.Generator, root: Path, content: Content) -> str:
    item = some(rng, content["annotations"])
    key = some(rng, ["image_id", "category_id"])
    item[key] = some(rng, [0, -1, 10**9, 2**63, None, "1", 1.5])
    return f"{key} {item[key]!r}"


def larger_numbers(rng: np.random.Generator, root: Path, content: Content) -> str:
    image = some(rng, content["images"])
    key = some(rng, ["width", "height"])
    image[key] = some(rng, [0, -1, 1, 63, 65, 10**9, 64.5, "64", None])
    return f"{key} {image[key]!r}"


def more_fields(rng: np.random.Generator, root: Path, content: Content) -> str:
    for part in ("images", "annotations", "categories"):
        for item in content[part]:
            item[some(rng, ["note", "attributes", "keypoints", "score"])] = some(rng, JUNK)
    return "fields that nobody reads"


DEFECTS: list[Defect] = [
    junk_value, junk_in_box, missing_key, missing_part, shifted_ids, ids_of_other_type, repeated_id,
    shuffled, copied_entry, renamed_class, placeholder_class, boxes_as_corners, boxes_in_shares,
    negative_side, zero_area, all_crowd, broken_json, broken_image, other_coding, val_is_train,
    emptied, strange_reference, larger_numbers, more_fields,
]  # fmt: skip
# Sound data in another dress: these must be scored, not refused.
HARMLESS = {shifted_ids, shuffled, placeholder_class, more_fields}


def damaged(sound: Path, folder: Path, seed: int) -> tuple[Defect, str]:
    """A copy of the sound folder with one defect."""
    rng = np.random.default_rng(seed)
    shutil.copytree(sound, folder)
    defect = DEFECTS[seed % len(DEFECTS)]
    file = folder / "annotations" / some(rng, ["train.json", "val.json"])
    content = json.loads(file.read_text())
    words = defect(rng, folder, content)
    if content:
        file.write_text(json.dumps(content))
    return defect, f"{defect.__name__} in {file.name}: {words}"


@pytest.mark.parametrize("seed", range(300))
def test_right_or_refused(seed: int, sound: Path, right: dict[str, float], tmp_path: Path) -> None:
    defect, words = damaged(sound, tmp_path / "set", seed)
    refused = require_right_or_refused(
        score(tmp_path / "set", trains=True), right, tmp_path / "set", words
    )
    assert not (refused and defect in HARMLESS), words
