"""The same boxes and masks of objects written as the tools write them that people label with.

Written from the descriptions of the formats, none by the readers of pe_dense: COCO, YOLO, VOC, CVAT
for images 1.1, Label Studio, labelme 5, VIA 2, COCO's panoptic format. Coordinates are pixels,
(0, 0) is the corner of the first one.

Shape legend: H, W pixels.
"""

from __future__ import annotations

import base64
import io
import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from layouts_of_maps import VOID, Photo, link, text
from numpy.typing import NDArray
from PIL import Image

PARTS = ("train", "val")


@dataclass(frozen=True)
class Thing:
    """An object: its class, and its box or mask.

    Attributes:
        label: Name of the class.
        box_xywh: Left, top, width, height.
        mask_HW: bool over the picture, None of a box alone.
    """

    label: str
    box_xywh: tuple[int, int, int, int]
    mask_HW: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Scene:
    """A picture with its objects."""

    name: str
    part: str
    image: Path
    size: tuple[int, int]  # width, height
    things: tuple[Thing, ...]


def boxed_scenes(data: Path, num: dict[str, int]) -> tuple[list[Scene], list[str]]:
    """Pictures of BCCD with their boxes."""
    return _coco_scenes(data, num, masks=False)


def masked_scenes(data: Path, num: dict[str, int]) -> tuple[list[Scene], list[str]]:
    """Pictures of real_photos with the objects that they have most of."""
    return _coco_scenes(data, num, masks=True, only=("person", "chair"))


def _coco_scenes(
    data: Path, num: dict[str, int], masks: bool, only: Sequence[str] | None = None
) -> tuple[list[Scene], list[str]]:
    from pycocotools import mask as coding

    scenes, labels = [], set()
    for part in PARTS:
        content = json.loads((data / f"annotations/{part}.json").read_text())
        names = {c["id"]: c["name"] for c in content["categories"]}
        of_part = 0
        for image in sorted(content["images"], key=lambda image: image["file_name"]):
            things = []
            for item in content["annotations"]:
                label = names[item["category_id"]]
                if item["image_id"] != image["id"] or (only is not None and label not in only):
                    continue
                mask_HW = coding.decode(item["segmentation"]).astype(bool) if masks else None
                box = tuple(int(v) for v in item["bbox"]) if mask_HW is None else box_of(mask_HW)
                things.append(Thing(label, box, mask_HW))
            if not things or of_part == num[part]:
                continue
            of_part += 1
            labels |= {thing.label for thing in things}
            size = image["width"], image["height"]
            file = data / "images" / image["file_name"]
            scenes.append(Scene(file.stem, part, file, size, tuple(things)))
    return scenes, sorted(labels)


def scenes_of_maps(photos: Sequence[Photo], classes: Sequence[str]) -> list[Scene]:
    """Label maps as pictures whose every class is one object."""
    scenes = []
    for photo in photos:
        things = [
            Thing(classes[label], box_of(photo.map_HW == label), photo.map_HW == label)
            for label in np.unique(photo.map_HW).tolist()
            if label != VOID
        ]
        size = photo.map_HW.shape[::-1]
        scenes.append(Scene(photo.name, photo.part, photo.image, size, tuple(things)))
    return scenes


def box_of(mask_HW: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The smallest box around a mask."""
    rows, columns = np.flatnonzero(mask_HW.any(1)), np.flatnonzero(mask_HW.any(0))
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y


def outlines_of(mask_HW: NDArray[np.bool_]) -> list[list[float]]:
    """Outer outlines of a mask, an eighth of a pixel inside of its edge; without its holes."""
    fine_HW = np.kron(mask_HW, np.ones((4, 4), bool)).astype(np.uint8)
    found, _ = cv2.findContours(fine_HW, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [((part.reshape(-1) + 0.5) / 4).tolist() for part in found if len(part) >= 3]


def runs_of(mask_HW: NDArray[np.bool_]) -> list[int]:
    """Run lengths row by row, the background first."""
    flat = mask_HW.reshape(-1).astype(np.int8)
    ends = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *ends, len(flat)]).tolist()
    return [0, *runs] if flat[0] else runs


# ---- COCO ----------------------------------------------------------------------------------------


def coco(
    scenes: Sequence[Scene], classes: Sequence[str], out: Path, kind: str = "runs",
    json_at: str = "annotations/PART.json", images_at: str = "images", file_in: str = "",
) -> None:  # fmt: skip
    """COCO's JSON; masks as `kind` says: 'runs', 'counts' (uncompressed) or 'polygons'."""
    from pycocotools import mask as coding

    for part in PARTS:
        images, annotations = [], []
        for scene in (scene for scene in scenes if scene.part == part):
            width, height = scene.size
            file = f"{scene.name}{scene.image.suffix}"
            link(scene.image, out / images_at.replace("PART", part) / file)
            images.append(
                dict(id=len(images) + 1, file_name=file_in + file, width=width, height=height)
            )
            for thing in scene.things:
                x, y, w, h = thing.box_xywh
                entry = dict(
                    id=len(annotations) + 1, image_id=len(images), iscrowd=0, bbox=[x, y, w, h],
                    category_id=classes.index(thing.label) + 1, area=w * h,
                )  # fmt: skip
                if thing.mask_HW is not None:
                    entry["area"] = int(thing.mask_HW.sum())
                    entry["segmentation"] = outlines_of(thing.mask_HW)
                    if kind == "counts" or not entry["segmentation"]:
                        columns = np.ascontiguousarray(thing.mask_HW.T)
                        counts = runs_of(columns)
                        entry["segmentation"] = dict(size=[height, width], counts=counts)
                    if kind == "runs":
                        runs = coding.encode(np.asfortranarray(thing.mask_HW.astype(np.uint8)))
                        runs["counts"] = runs["counts"].decode()
                        entry["segmentation"] = runs
                annotations.append(entry)
        categories = [dict(id=k + 1, name=name) for k, name in enumerate(classes)]
        content = dict(images=images, annotations=annotations, categories=categories)
        text(out / json_at.replace("PART", part), [json.dumps(content)])


def panoptic(scenes: Sequence[Scene], classes: Sequence[str], out: Path) -> None:
    """COCO's panoptic JSON and PNG; all classes are things."""
    for part in PARTS:
        images, annotations, ident = [], [], 0
        for scene in (scene for scene in scenes if scene.part == part):
            width, height = scene.size
            file = f"{scene.name}{scene.image.suffix}"
            link(scene.image, out / f"{part}2017" / file)
            images.append(dict(id=len(images) + 1, file_name=file, width=width, height=height))
            ids_HW, segments = np.zeros((height, width), np.int64), []
            for thing in scene.things:
                ident += 1001
                ids_HW[thing.mask_HW] = ident
                segments.append(
                    dict(id=ident, category_id=classes.index(thing.label) + 1, iscrowd=0,
                         bbox=list(thing.box_xywh), area=int(thing.mask_HW.sum()))
                )  # fmt: skip
            rgb_HWC = np.stack([ids_HW >> shift & 255 for shift in (0, 8, 16)], axis=-1)
            name = f"{scene.name}.png"
            target = out / f"annotations/panoptic_{part}2017" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rgb_HWC.astype(np.uint8)).save(target)
            annotations.append(dict(image_id=len(images), file_name=name, segments_info=segments))
        categories = [dict(id=k + 1, name=name, isthing=1) for k, name in enumerate(classes)]
        content = dict(images=images, annotations=annotations, categories=categories)
        text(out / f"annotations/panoptic_{part}2017.json", [json.dumps(content)])


# ---- YOLO and VOC --------------------------------------------------------------------------------


def yolo(
    scenes: Sequence[Scene],
    classes: Sequence[str],
    out: Path,
    digits: int | None = None,
    in_lists: bool = False,
) -> None:
    """Ultralytics' folder; `digits` behind the point as its tools write, None: all of them."""
    for scene in scenes:
        folder = "" if in_lists else f"{scene.part}/"
        link(scene.image, out / f"images/{folder}{scene.name}{scene.image.suffix}")
        lines = []
        for thing in scene.things:
            x, y, w, h = thing.box_xywh
            width, height = scene.size
            shares = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
            parts = [] if thing.mask_HW is None else outlines_of(thing.mask_HW)
            if parts:  # a line has one outline: the longest
                xy_N2 = np.array(max(parts, key=len)).reshape(-1, 2) / scene.size
                shares = xy_N2.reshape(-1).tolist()
            numbers = [repr(v) if digits is None else f"{v:.{digits}f}" for v in shares]
            lines.append(" ".join([str(classes.index(thing.label)), *numbers]))
        text(out / f"labels/{folder}{scene.name}.txt", lines)
    for part in PARTS if in_lists else ():
        files = [f"images/{s.name}{s.image.suffix}" for s in scenes if s.part == part]
        text(out / f"{part}.txt", files)
    places = ["train: train.txt", "val: val.txt"] if in_lists else [
        "train: images/train", "val: images/val"
    ]  # fmt: skip
    text(out / "data.yaml", [*places, f"names: [{', '.join(classes)}]"])


def voc(scenes: Sequence[Scene], classes: Sequence[str], out: Path, beside: bool = False) -> None:
    """PASCAL VOC, whose first pixel is 1 and whose last one is inside; or XML beside pictures."""
    for scene in scenes:
        images, labels = (scene.part, scene.part) if beside else ("JPEGImages", "Annotations")
        file = f"{scene.name}{scene.image.suffix}"
        link(scene.image, out / images / file)
        tree = ET.Element("annotation")
        ET.SubElement(tree, "filename").text = file
        size = ET.SubElement(tree, "size")
        for key, value in zip(("width", "height", "depth"), (*scene.size, 3), strict=True):
            ET.SubElement(size, key).text = str(value)
        for thing in scene.things:
            item = ET.SubElement(tree, "object")
            ET.SubElement(item, "name").text = thing.label
            ET.SubElement(item, "difficult").text = "0"
            box = ET.SubElement(item, "bndbox")
            x, y, w, h = thing.box_xywh
            corners = zip(("xmin", "ymin", "xmax", "ymax"), (x + 1, y + 1, x + w, y + h),
                          strict=True)  # fmt: skip
            for key, value in corners:
                ET.SubElement(box, key).text = str(value)
        text(out / labels / f"{scene.name}.xml", [ET.tostring(tree, encoding="unicode")])
    for part in () if beside else PARTS:
        text(out / f"ImageSets/Main/{part}.txt", [s.name for s in scenes if s.part == part])


# ---- tools that people label with, which the converter reads -------------------------------------


def cvat(scenes: Sequence[Scene], classes: Sequence[str], out: Path) -> None:
    """CVAT for images 1.1, one XML, parts as subsets; masks as run lengths inside their box."""
    tree = ET.Element("annotations")
    ET.SubElement(tree, "version").text = "1.1"
    labels = ET.SubElement(ET.SubElement(ET.SubElement(tree, "meta"), "task"), "labels")
    for name in classes:
        ET.SubElement(ET.SubElement(labels, "label"), "name").text = name
    for k, scene in enumerate(scenes):
        file = f"{scene.name}{scene.image.suffix}"
        link(scene.image, out / "images" / scene.part / file)
        size = dict(zip(("width", "height"), map(str, scene.size), strict=True))
        place = ET.SubElement(
            tree, "image", id=str(k), name=f"{scene.part}/{file}", subset=scene.part, **size
        )
        for thing in scene.things:
            x, y, w, h = thing.box_xywh
            common = dict(label=thing.label, occluded="0", z_order="0")
            if thing.mask_HW is None:
                corners = dict(xtl=x, ytl=y, xbr=x + w, ybr=y + h)
                edges = {key: f"{value:.2f}" for key, value in corners.items()}
                ET.SubElement(place, "box", **common, **edges)
            else:
                rle = ", ".join(map(str, runs_of(thing.mask_HW[y : y + h, x : x + w])))
                box = dict(left=x, top=y, width=w, height=h)
                edges = {key: str(value) for key, value in box.items()}
                ET.SubElement(place, "mask", **common, rle=rle, **edges)
    text(out / "annotations.xml", [ET.tostring(tree, encoding="unicode")])


def label_studio(scenes: Sequence[Scene], classes: Sequence[str], out: Path) -> None:
    """Label Studio's JSON: rectangles in percent, or the brush's packed bits."""
    tasks = []
    for k, scene in enumerate(scenes):
        file = f"{scene.name}{scene.image.suffix}"
        link(scene.image, out / "images" / scene.part / file)
        width, height = scene.size
        results: list[dict[str, Any]] = []
        for number, thing in enumerate(scene.things):
            x, y, w, h = thing.box_xywh
            kind, value = "rectanglelabels", dict(
                x=100 * x / width, y=100 * y / height, width=100 * w / width,
                height=100 * h / height, rotation=0,
            )  # fmt: skip
            if thing.mask_HW is not None:
                kind, value = "brushlabels", dict(format="rle", rle=packed(thing.mask_HW))
            results.append(
                dict(id=f"{k}-{number}", type=kind, original_width=width, original_height=height,
                     image_rotation=0, value={**value, kind: [thing.label]})
            )  # fmt: skip
        tasks.append(
            dict(id=k + 1, data=dict(image=f"/data/upload/1/0f1e2d3c-{file}"),
                 annotations=[dict(id=k + 1, was_cancelled=False, result=results)])
        )  # fmt: skip
    text(out / "project-1.json", [json.dumps(tasks)])


def packed(mask_HW: NDArray[np.bool_]) -> list[int]:
    """The brush's stream: four values of 8 bits a pixel, written as runs of one value.

    Source: thi.ng/rle-pack, the description of its format.
    """
    flat = np.repeat(mask_HW.reshape(-1), 4)
    bits = [f"{len(flat):032b}", f"{7:05b}", *(f"{length - 1:04b}" for length in (3, 4, 8, 16))]
    value = False
    for run in runs_of(flat):
        for left in range(run, 0, -65536):
            bits.append(f"1{3:02b}{min(left, 65536) - 1:016b}{255 * value:08b}")
        value = not value
    stream = "".join(bits)
    stream += "0" * (-len(stream) % 8)
    return [int(stream[k : k + 8], 2) for k in range(0, len(stream), 8)]


def labelme(
    scenes: Sequence[Scene], classes: Sequence[str], out: Path, polygons: bool = False
) -> None:
    """labelme's JSON beside each picture: rectangles, masks, or polygons, grouped by object."""
    for scene in scenes:
        file = f"{scene.name}{scene.image.suffix}"
        link(scene.image, out / scene.part / file)
        shapes: list[dict[str, Any]] = []
        for k, thing in enumerate(scene.things):
            x, y, w, h = thing.box_xywh
            common = dict(label=thing.label, group_id=None, flags={})
            if thing.mask_HW is None:
                points = [[x, y], [x + w, y + h]]
                shapes.append(dict(**common, shape_type="rectangle", points=points))
            elif polygons and (parts := outlines_of(thing.mask_HW)):
                for part in parts:
                    points = np.reshape(part, (-1, 2)).tolist()
                    shape = dict(common, group_id=k, shape_type="polygon", points=points)
                    shapes.append(shape)
            else:
                inner = io.BytesIO()
                Image.fromarray(thing.mask_HW[y : y + h, x : x + w]).save(inner, format="PNG")
                mask = base64.b64encode(inner.getvalue()).decode()
                points = [[x, y], [x + w - 1, y + h - 1]]
                shapes.append(dict(**common, shape_type="mask", points=points, mask=mask))
        width, height = scene.size
        content = dict(version="5.5.0", flags={}, shapes=shapes, imagePath=file, imageData=None,
                       imageWidth=width, imageHeight=height)  # fmt: skip
        text(out / scene.part / f"{scene.name}.json", [json.dumps(content)])


def via(scenes: Sequence[Scene], classes: Sequence[str], out: Path) -> None:
    """VIA 2, one JSON, rectangles."""
    content = {}
    for scene in scenes:
        file = f"{scene.name}{scene.image.suffix}"
        link(scene.image, out / "images" / scene.part / file)
        regions = [
            dict(
                shape_attributes=dict(
                    zip(("name", "x", "y", "width", "height"), ("rect", *thing.box_xywh),
                        strict=True)
                ),
                region_attributes=dict(name=thing.label),
            )
            for thing in scene.things
        ]  # fmt: skip
        key = f"{file}{scene.image.stat().st_size}"
        content[key] = dict(filename=file, size=-1, regions=regions, file_attributes={})
    text(out / "via_project.json", [json.dumps(dict(_via_img_metadata=content))])


def furthest(first: Sequence[float], second: Sequence[float]) -> float:
    """The largest difference of two lists of numbers."""
    return max((math.fabs(a - b) for a, b in zip(first, second, strict=True)), default=0.0)
