"""Labels of other tools, turned into COCO files and label maps: hand-made cases."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from label_folders import HEIGHT, WIDTH, picture, voc_folder, voc_xml, write, yolo_folder
from PIL import Image
from pycocotools import mask as coding

from pe_dense.data.convert.brush_runs import brush_mask
from pe_dense.data.convert.conversion import convert, guessed_form
from pe_dense.data.convert.division import sequences_in

REPO = Path(__file__).resolve().parents[2]
DIVIDED = dict(split=0.5)


def coco_of(root: Path, form: str | None = None, **options: Any) -> tuple[dict, list[str]]:
    """All images and annotations of both splits by file name, and what was said."""
    target = root.parent / f"{root.name}_out"
    done = convert(root, target, form, "coco", **{**DIVIDED, **options})
    found: dict[str, list[dict]] = {}
    for file in sorted((target / "annotations").glob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        names = {c["id"]: c["name"] for c in content["categories"]}
        for image in content["images"]:
            assert (target / "images" / image["file_name"]).is_file()
            found[image["file_name"]] = [
                {**a, "class": names[a["category_id"]]}
                for a in content["annotations"]
                if a["image_id"] == image["id"]
            ]
    return found, done.lines


def said(lines: list[str], words: str) -> bool:
    return any(words in line for line in lines)


# ---- CVAT ----------------------------------------------------------------------------------------

CVAT_IMAGES = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><labels><label><name>car</name></label>
<label><name>big dog</name></label><label><name>nose</name></label></labels></task></meta>
<image id="0" name="a.png" width="64" height="48">
<box label="car" occluded="1" xtl="10.0" ytl="5.5" xbr="30.0" ybr="25.5" z_order="0"/>
<polygon label="big dog" points="2.0,2.0;12.0,2.0;12.0,12.0" z_order="1"/>
<mask label="car" rle="1, 2, 3" left="4" top="10" width="3" height="2" z_order="0"/>
<ellipse label="car" cx="40" cy="20" rx="8" ry="4" z_order="0"/></image>
<image id="1" name="b.png" width="64" height="48"/></annotations>"""


def cvat(root: Path, text: str = CVAT_IMAGES) -> Path:
    for name in "ab":
        picture(root / "images" / f"{name}.png")
    write(root / "annotations.xml", text)
    return root


def test_cvat_images(tmp_path: Path) -> None:
    found, lines = coco_of(cvat(tmp_path / "d"))
    box, polygon, mask, ellipse = found["a.png"]
    assert found["b.png"] == [] and said(lines, "labelled as empty")
    assert box["bbox"] == [10, 5.5, 20, 20] and box["class"] == "car" and "segmentation" not in box
    assert polygon["segmentation"] == [[2, 2, 12, 2, 12, 12]] and polygon["class"] == "big dog"
    decoded = coding.decode(mask["segmentation"])
    assert np.argwhere(decoded).tolist() == [[10, 5], [10, 6]], "row by row inside its rectangle"
    assert mask["bbox"] == [5, 10, 2, 1]
    assert ellipse["bbox"] == [32, 16, 16, 8]
    assert ellipse["area"] == pytest.approx(np.pi * 8 * 4, rel=2e-3)
    assert said(lines, "objects marked occluded (kept): 1") and said(lines, "left out: nose")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "<box ",
            '<box rotation="30" ',
            "turned by 30 degrees; draw upright boxes, or accept them",
        ),
        ("<ellipse", '<points label="nose" points="1,2"/><ellipse', "has a <points> of 'nose'"),
        ('12.0,12.0"', '"', "has a polygon of 2 points"),
        ('rle="1, 2, 3"', 'rle="1, 2"', "runs do not fill it"),
        ('width="64" height="48">', 'width="60" height="48">', "with 60 x 48 px, but"),
        ("b.png", "c.png", "image 'c.png' has no file"),
        (
            "<annotations>",
            '<!DOCTYPE x [<!ENTITY e "e">]><annotations>',
            "declares a document type",
        ),
    ],
)
def test_what_cvat_would_lose_is_refused(old: str, new: str, words: str, tmp_path: Path) -> None:
    root = cvat(tmp_path / "d", CVAT_IMAGES.replace(old, new, 1))
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        coco_of(root)
    assert words in str(error.value) and not (tmp_path / "d_out").exists()


def test_a_turned_box_is_accepted_as_a_polygon(tmp_path: Path) -> None:
    root = cvat(tmp_path / "d", CVAT_IMAGES.replace("<box ", '<box rotation="90" ', 1))
    found, _ = coco_of(root, accepted=["rotated-boxes"])
    # 20 x 20 about (20, 15.5): a quarter turn gives the same corners, one on.
    assert found["a.png"][0]["bbox"] == [10, 5.5, 20, 20]
    assert found["a.png"][0]["segmentation"] == [[30, 5.5, 30, 25.5, 10, 25.5, 10, 5.5]]


def track(label: str, *boxes: str) -> str:
    return f'<track id="0" label="{label}">{"".join(boxes)}</track>'


def box(frame: int, x: float, outside: int = 0) -> str:
    return (
        f'<box frame="{frame}" outside="{outside}" occluded="0" keyframe="1" xtl="{x}" ytl="1" '
        f'xbr="{x + 10}" ybr="11" z_order="0"/>'
    )


def video(root: Path, tracks: str, frames: int = 5) -> Path:
    for frame in range(frames):
        picture(root / "images" / f"frame_{frame:06d}.png")
    meta = "<meta><task><original_size><width>64</width><height>48</height></original_size></task>"
    write(root / "annotations.xml", f"<annotations>{meta}</meta>{tracks}</annotations>")
    return root


def test_cvat_tracks(tmp_path: Path) -> None:
    root = video(tmp_path / "d", track("car", box(0, 0), box(2, 20), box(3, 20, outside=1)))
    write(root / "more.xml", "<other/>")
    found, lines = coco_of(root, split=0.4)
    val = json.loads((tmp_path / "d_out/annotations/val.json").read_text())
    assert [i["file_name"] for i in val["images"]] == ["frame_000003.png", "frame_000004.png"]
    boxes = {name: [a["bbox"] for a in found[name]] for name in sorted(found)}
    assert list(boxes.values()) == [[[0, 1, 10, 10]], [[10, 1, 10, 10]], [[20, 1, 10, 10]], [], []]
    assert said(lines, "frames of tracks in which the object is outside (no object): 1")
    assert said(lines, "(taken in between): 1") and said(lines, "carry no label, not read: 1")


def test_tracks_without_frames_or_with_too_few(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ffmpeg"):
        coco_of(video(tmp_path / "none", track("car", box(0, 0)), frames=0))
    with pytest.raises(ValueError, match="has frame 7, which has no picture"):
        coco_of(video(tmp_path / "few", track("car", box(7, 0))))


# ---- Label Studio --------------------------------------------------------------------------------


class BitWriter:
    def __init__(self) -> None:
        self.bits = ""

    def put(self, value: int, count: int) -> None:
        self.bits += format(value, f"0{count}b")

    def bytes(self) -> list[int]:
        padded = self.bits + "0" * (-len(self.bits) % 8)
        return [int(padded[i : i + 8], 2) for i in range(0, len(padded), 8)]


def brush(mask_HW: np.ndarray) -> list[int]:
    """Packed as the description says, repeated values and others in turn."""
    rgba = np.repeat(mask_HW.astype(np.uint8).ravel() * 255, 4)
    out = BitWriter()
    out.put(len(rgba), 32)
    out.put(7, 5)
    for length in (2, 3, 7, 15):
        out.put(length, 4)
    place = 0
    while place < len(rgba):
        run = int(np.argmax(np.append(rgba[place:] != rgba[place], True)))
        count = min(run, 1 << 16)
        if count > 3:
            out.put(1, 1), out.put(3, 2), out.put(count - 1, 16), out.put(int(rgba[place]), 8)
        else:
            count = min(5, len(rgba) - place)
            out.put(0, 1), out.put(1, 2), out.put(count - 1, 4)
            for value in rgba[place : place + count]:
                out.put(int(value), 8)
        place += count
    return out.bytes()


def region(kind: str, label: str, value: dict, key: str) -> dict:
    return {
        "id": key, "type": f"{kind}labels", "original_width": 64, "original_height": 48,
        "image_rotation": 0, "value": {**value, f"{kind}labels": [label]},
    }  # fmt: skip


def studio(root: Path, regions: list[dict], **task: Any) -> Path:
    picture(root / "images" / "a b.png")
    picture(root / "images" / "c.png")
    tasks = [
        {
            "id": 1, "data": {"image": "/data/upload/3/0f1e2d3c-a%20b.png"},
            "annotations": [{"id": 5, "result": regions}], **task,
        },
        {
            "id": 2, "data": {"image": "/data/local-files/?d=some/where/c.png"},
            "annotations": [{"id": 6, "result": []}],
        },
    ]  # fmt: skip
    write(root / "export.json", json.dumps(tasks))
    return root


RECTANGLE = dict(x=25.0, y=50.0, width=50.0, height=25.0, rotation=0)


def test_label_studio_counts_in_percent(tmp_path: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[10:20, 5:9] = mask[12, 40:60] = True
    regions = [
        region("rectangle", "größer", RECTANGLE, "r"),
        region("polygon", "cat", dict(points=[[0, 0], [50, 0], [50, 100]]), "p"),
        region("brush", "cat", dict(format="rle", rle=brush(mask)), "b"),
        region("ellipse", "cat", dict(x=50, y=50, radiusX=25, radiusY=25, rotation=0), "e"),
    ]
    found, lines = coco_of(studio(tmp_path / "d", regions))
    rectangle, polygon, brushed, ellipse = found["a b.png"]
    assert rectangle["bbox"] == [16, 24, 32, 12] and rectangle["class"] == "größer"
    assert polygon["segmentation"] == [[0, 0, 32, 0, 32, 48]]
    assert np.array_equal(coding.decode(brushed["segmentation"]), mask)
    assert ellipse["bbox"] == [16, 12, 32, 24]
    assert found["c.png"] == [] and said(lines, "labelled as empty")


def test_a_turned_rectangle_turns_about_its_upper_left_corner(tmp_path: Path) -> None:
    root = studio(tmp_path / "d", [region("rectangle", "cat", {**RECTANGLE, "rotation": 90}, "r")])
    with pytest.raises(ValueError, match="--accept rotated-boxes"):
        coco_of(root)
    found, _ = coco_of(root, accepted=["rotated-boxes"])
    assert found["a b.png"][0]["segmentation"] == [[16, 24, 16, 56, 4, 56, 4, 24]]


def test_shape_and_label_as_two_results_of_one_region(tmp_path: Path) -> None:
    shape = {"id": "r", "type": "rectangle", "value": RECTANGLE}
    label = {"id": "r", "type": "labels", "value": {**RECTANGLE, "labels": ["cat"]}}
    found, _ = coco_of(studio(tmp_path / "d", [shape, label]))
    assert [a["class"] for a in found["a b.png"]] == ["cat"]


def test_the_short_export_of_label_studio(tmp_path: Path) -> None:
    root = studio(tmp_path / "d", [])
    value = {**RECTANGLE, "rectanglelabels": ["cat"], "original_width": 64, "original_height": 48}
    tasks = [
        {
            "image": "/data/upload/3/0f1e2d3c-a%20b.png",
            "id": 1,
            "annotation_id": 3,
            "label": [value],
        }
    ]
    write(root / "export.json", json.dumps(tasks))
    found, _ = coco_of(root)
    assert found["a b.png"][0]["bbox"] == [16, 24, 32, 12] and found["c.png"] == []


@pytest.mark.parametrize(
    ("regions", "task", "words"),
    [
        ([region("keypoint", "cat", dict(x=1, y=1), "k")], {}, "has a region 'keypointlabels'"),
        ([{"id": "r", "type": "rectangle", "value": RECTANGLE}], {}, "a rectangle without a label"),
        ([region("rectangle", "cat", {**RECTANGLE, "x": None}, "r")], {}, "coordinate None"),
        ([region("brush", "cat", dict(rle=[0, 0, 1, 2]), "b")], {}, "brush mask that cannot be"),
        ([{**region("rectangle", "c", RECTANGLE, "r"), "original_width": 99}], {}, "of 99 x 48"),
        ([{**region("rectangle", "c", RECTANGLE, "r"), "image_rotation": 90}], {}, "turned by 90"),
        ([], dict(annotations=[{"result": [], "was_cancelled": True}]), "has no annotation"),
        ([], dict(annotations=[{"result": []}, {"result": []}]), "has 2 annotations"),
        ([], dict(data={"image": "s3://bucket/z.png"}), "'s3://bucket/z.png', which is not there"),
    ],
)  # fmt: skip
def test_what_label_studio_would_lose(
    regions: list, task: dict, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        coco_of(studio(tmp_path / "d", regions, **task))
    assert words in str(error.value)


def test_brush_masks_of_another_size_are_refused() -> None:
    packed = brush(np.ones((HEIGHT, WIDTH), dtype=bool))
    assert brush_mask(packed, (WIDTH, HEIGHT)).all()
    with pytest.raises(ValueError, match="3072 pixels, but the picture 64 x 49"):
        brush_mask(packed, (64, 49))


# ---- labelme and VIA -----------------------------------------------------------------------------


def labelme(root: Path, shapes: list[dict], name: str = "a.png") -> Path:
    picture(root / name)
    picture(root / "b.png")
    content = dict(version="5.5", shapes=shapes, imagePath=name, imageWidth=64, imageHeight=48)
    write(root / "a.json", json.dumps(content))
    return root


def lm(label: str, kind: str, points: list, group: int | None = None, **more: Any) -> dict:
    return dict(label=label, shape_type=kind, points=points, group_id=group, flags={}, **more)


def test_labelme(tmp_path: Path) -> None:
    inner = np.array([[1, 0], [1, 1]], dtype=np.uint8) * 255
    buffer = io.BytesIO()
    Image.fromarray(inner).save(buffer, format="PNG")
    mask = base64.b64encode(buffer.getvalue()).decode()
    shapes = [
        lm("cat", "polygon", [[1, 1], [5, 1], [5, 5]], group=1),
        lm("cat", "polygon", [[10, 1], [14, 1], [14, 5]], group=1),
        lm("dog house", "rectangle", [[30, 20], [20, 10]]),
        lm("cat", "circle", [[40, 20], [43, 24]]),
        lm("cat", "mask", [[50, 30], [51, 31]], mask=mask),
    ]
    found, lines = coco_of(labelme(tmp_path / "d", shapes))
    both, house, circle, masked = found["a.png"]
    assert both["segmentation"] == [[1, 1, 5, 1, 5, 5], [10, 1, 14, 1, 14, 5]]
    assert both["bbox"] == [1, 1, 13, 4] and both["area"] == 16
    assert house["bbox"] == [20, 10, 10, 10] and house["class"] == "dog house"
    assert circle["bbox"] == [35, 15, 10, 10]
    assert np.argwhere(coding.decode(masked["segmentation"])).tolist() == [
        [30, 50], [31, 50], [31, 51],
    ]  # fmt: skip
    assert found["b.png"] == [] and said(lines, "images without a label file")


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (lm("a", "point", [[1, 1]]), "is a point of 'a'"),
        (lm("a", "polygon", [[1, 1], [2, 2]]), "polygon of 2 points"),
        (lm("", "rectangle", [[1, 1], [2, 2]]), "has no label"),
        (lm("a", "star", [[1, 1], [2, 2]]), "is a 'star', which is not known"),
        (lm("a", "polygon", [[1, 1], [2, 2], ["x", 3]]), "not numbers"),
        (lm("a", "mask", [[1, 1], [2, 2]], mask="?"), "has a mask that is no PNG"),
    ],
)
def test_what_labelme_would_lose(shape: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        coco_of(labelme(tmp_path / "d", [shape]))
    assert words in str(error.value)


def test_via(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for name in "ab":
        picture(root / f"{name}.png")
    regions = [
        dict(shape_attributes=dict(name="rect", x=1, y=2, width=10, height=20),
             region_attributes=dict(kind="cat")),
        dict(shape_attributes=dict(name="polygon", all_points_x=[1, 9, 9], all_points_y=[1, 1, 7]),
             region_attributes=dict(kind="dog")),
    ]  # fmt: skip
    metadata = {
        "a.png1": dict(filename="a.png", size=1, regions=regions),
        "b.png1": dict(filename="b.png", size=1, regions=[]),
    }
    write(root / "via.json", json.dumps({"_via_img_metadata": metadata}))
    found, _ = coco_of(root)
    assert [a["bbox"] for a in found["a.png"]] == [[1, 2, 10, 20], [1, 1, 8, 6]]
    assert [a["class"] for a in found["a.png"]] == ["cat", "dog"]


# ---- label maps ----------------------------------------------------------------------------------


def maps_of(root: Path, **options: Any) -> dict[str, np.ndarray]:
    target = root.parent / f"{root.name}_out"
    convert(root, target, None, "semantic", **{**DIVIDED, **options})
    return {
        file.name: np.asarray(Image.open(file))
        for file in sorted((target / "masks").rglob("*.png"))
    }


def test_higher_shapes_of_cvat_lie_on_top(tmp_path: Path) -> None:
    shapes = "".join(
        f'<polygon label="{label}" points="{x},2;{x + 20},2;{x + 20},12;{x},12" z_order="{z}"/>'
        for label, x, z in (("top", 10, 5), ("low", 0, 1), ("low", 20, 1))
    )
    head = CVAT_IMAGES[: CVAT_IMAGES.index("<box")]
    found = maps_of(cvat(tmp_path / "d", f"{head}{shapes}</image></annotations>"))
    row = found["a.png"][5]
    out = tmp_path / "d_out"
    names = yaml.safe_load((out / "classes.yaml").read_text())
    runs = [names[int(row[x])] for x in (0, 5, 12, 25, 35, 45)]
    assert runs == ["low", "low", "top", "top", "low", "background"]


def test_maps_lie_over_the_stored_pixels(tmp_path: Path) -> None:
    """Labels are over the picture as it is shown, maps over what is stored."""
    root = yolo_folder(tmp_path / "d")
    picture(root / "images/val/d.jpg", (64, 48), orientation=6)
    for name in ("labels/train/a.txt", "labels/val/c.txt"):
        write(root / name, "")
    write(root / "labels/val/d.txt", "0 .25 .25 .5 .25 .5 .5 .25 .5 .25 .375\n")
    found = maps_of(root, split=None)["d.png"]
    assert found.shape == (48, 64)
    shown = np.rot90(found, -1)
    assert shown[16:32, 12:24].all() and shown.sum() == 16 * 12


def test_boxes_are_no_masks_unless_accepted(tmp_path: Path) -> None:
    root = voc_folder(tmp_path / "d")
    with pytest.raises(ValueError, match="has a box of .*--accept boxes-as-masks"):
        maps_of(root, split=None)
    found = maps_of(root, split=None, accepted=["boxes-as-masks"])
    assert (found["b.png"] == 1).all(), "the later one lies on top, over the whole picture"
    assert 255 in found["a.png"], "difficult objects are ignored"


def panoptic(root: Path) -> Path:
    """One picture a split: a thing with a hole, and stuff around it."""
    categories = [
        dict(id=7, name="cat", isthing=1), dict(id=90, name="sky", isthing=0),
    ]  # fmt: skip
    for split in ("train", "val"):
        picture(root / split / f"{split}.png")
        ids = np.full((HEIGHT, WIDTH), 70_000)
        ids[10:30, 10:30] = 300
        ids[15:20, 15:20] = 0
        rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], 2).astype(np.uint8)
        folder = root / "annotations" / f"panoptic_{split}"
        folder.mkdir(parents=True)
        assert cv2.imwrite(str(folder / f"{split}.png"), rgb[..., ::-1])
        content = dict(
            images=[dict(id=1, file_name=f"{split}.png", width=WIDTH, height=HEIGHT)],
            annotations=[
                dict(
                    image_id=1, file_name=f"{split}.png",
                    segments_info=[dict(id=300, category_id=7), dict(id=70_000, category_id=90)],
                )
            ],
            categories=categories,
        )  # fmt: skip
        write(root / "annotations" / f"panoptic_{split}.json", json.dumps(content))
    return root


def test_panoptic_maps(tmp_path: Path) -> None:
    found = maps_of(panoptic(tmp_path / "d"), split=None, background=False)["val.png"]
    expected = np.ones((HEIGHT, WIDTH))
    expected[10:30, 10:30] = 0
    expected[15:20, 15:20] = 255
    assert np.array_equal(found, expected)


def test_panoptic_things_as_masks_with_holes(tmp_path: Path) -> None:
    root = panoptic(tmp_path / "d")
    with pytest.raises(ValueError, match="--accept stuff-segments"):
        coco_of(root, split=None)
    found, _ = coco_of(root, split=None, accepted=["stuff-segments"])
    (thing,) = found["val/val.png"]
    mask = coding.decode(thing["segmentation"])
    assert mask.sum() == 400 - 25 == thing["area"] and not mask[15:20, 15:20].any()
    assert thing["class"] == "cat" and thing["bbox"] == [10, 10, 20, 20]


def test_masks_of_coco_the_smaller_one_on_top(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for split in ("train", "val"):
        picture(root / "images" / f"{split}.png")
        squares = [[0, 0, 40, 0, 40, 40, 0, 40], [10, 10, 20, 10, 20, 20, 10, 20]]
        content = dict(
            images=[dict(id=4, file_name=f"{split}.png", width=WIDTH, height=HEIGHT)],
            annotations=[
                dict(id=k, image_id=4, category_id=c, segmentation=[square], iscrowd=0,
                     bbox=[0, 0, 9, 9], area=1)
                for k, c, square in ((1, 2, squares[1]), (2, 1, squares[0]))
            ],
            categories=[dict(id=1, name="big"), dict(id=2, name="small")],
        )  # fmt: skip
        write(root / "annotations" / f"{split}.json", json.dumps(content))
    found = maps_of(root, split=None)["val.png"]
    assert (found == 1).sum() == 1600 - 100 and (found[10:20, 10:20] == 2).all()


# ---- the folder and the command ------------------------------------------------------------------


def test_formats_are_told_apart(tmp_path: Path) -> None:
    made = {
        "yolo": yolo_folder(tmp_path / "1"), "voc": voc_folder(tmp_path / "2"),
        "cvat": cvat(tmp_path / "3"), "labelstudio": studio(tmp_path / "4", []),
        "labelme": labelme(tmp_path / "5", []), "coco-panoptic": panoptic(tmp_path / "6"),
    }  # fmt: skip
    assert {form: guessed_form(root) for form, root in made.items()} == {f: f for f in made}
    with pytest.raises(ValueError, match="several formats .yolo, labelstudio.; say which"):
        write(made["yolo"] / "x.json", (made["labelstudio"] / "export.json").read_text())
        guessed_form(made["yolo"])
    with pytest.raises(ValueError, match="no known format"):
        guessed_form(tmp_path / "2" / "JPEGImages")


def test_sequences_stay_together(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for clip in "pqrs":
        for frame in range(3):
            picture(root / "images" / f"clip{clip}_{frame:02d}.png")
            write(root / "labels" / f"clip{clip}_{frame:02d}.txt", "0 .5 .5 .5 .5\n")
    write(root / "classes.txt", "cat\n")
    done = convert(root, tmp_path / "out", "yolo", "coco", split=0.25, seed=3)
    names = {
        split: {
            i["file_name"][:5]
            for i in json.loads((tmp_path / f"out/annotations/{split}.json").read_text())["images"]
        }
        for split in ("train", "val")
    }
    assert len(names["val"]) == 1 and not names["val"] & names["train"]
    assert said(done.lines, "3 of 12 pictures to val, 1 of 4 sequences")
    assert sequences_in([f"BloodImage_{k:05d}.jpg" for k in range(20)]) is None


def run(*arguments: object) -> tuple[int, str, str]:
    command = [sys.executable, "-P", str(REPO / "tools/prepare_data.py"), "convert"]
    done = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, cwd=REPO, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_the_command_prints_counts_and_checks_what_it_wrote(tmp_path: Path) -> None:
    code, out, _ = run(voc_folder(tmp_path / "d"), tmp_path / "out")
    assert code == 0 and "voc, 3 pictures" in out and "no problems" in out
    assert "objects marked difficult, which VOC ignores: 1" in out
    assert ["größe", "1", "2", "1"] in [line.split() for line in out.splitlines()]
    code, _, err = run(tmp_path / "d", tmp_path / "out")
    assert code == 2 and "is there already; name a new or empty folder" in err


def test_boxes_over_the_border_are_kept_and_refused_by_the_check(tmp_path: Path) -> None:
    root = voc_folder(tmp_path / "d")
    voc_xml(root / "Annotations/b.xml", "b.jpg", [("cat", 20, 20, 80, 40, 0)])
    code, out, err = run(root, tmp_path / "out", "--from", "voc")
    assert code == 2 and "reaches 16 px out of an image of 64 x 48" in out
    assert err.startswith("error: 1 kind of problems") and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(split=1.5), "must be between 0 and 1"),
        (dict(accepted=["rotated"]), "near: rotated-boxes"),
        (dict(voc_origin=1), "--voc-origin is for --from voc"),
    ],
)
def test_options_that_cannot_be(options: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        convert(yolo_folder(tmp_path / "d"), tmp_path / "out", "yolo", "coco", **options)
    with pytest.raises(ValueError, match="lies inside"):
        convert(tmp_path / "d", tmp_path / "d" / "out", "yolo", "coco")
