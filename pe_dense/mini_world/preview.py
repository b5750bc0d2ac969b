"""A contact sheet of a mini world, drawn from its files.

Shape legend: H W pixels, T frames.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pe_dense.data.image_files import spread
from pe_dense.files import atomic_write_bytes
from pe_dense.mini_world.formats import DEPTH_SCALE, load_manifest
from pe_dense.pictures.boxes import Boxes, draw_boxes
from pe_dense.pictures.colours import (
    DEPTH_COLOURS,
    PAPER,
    UNKNOWN,
    class_colour,
    colour_table,
    coloured,
    faint_grey,
    filled,
)
from pe_dense.pictures.drawing import (
    MARGIN,
    Panel,
    below,
    panel_grid,
    resized,
    stacked,
    with_legend,
    with_scale_bar,
)
from pe_dense.pictures.folder import encoded
from pe_dense.pictures.masks import class_map, draw_identities

SIDE = 200  # of a tile, in pixels
QUALITY = 70  # of a JPEG


def write_contact_sheet(root: str | Path, path: str | Path, num_columns: int = 6) -> None:
    """Draws what the files of a mini world hold, for a person to look at.

    Rows: pictures; instance masks with annotation number; semantic map; depth; boxes with class
    names; then one clip as pictures and as masks with track ids. Files are read back, so
    the sheet shows what a reader of the formats would see.

    Raises:
        ValueError: If root is no mini world or path cannot be written as a picture.
    """
    manifest, path = load_manifest(root), Path(path)
    if path.suffix.lower() not in (".png", ".jpg") or path.is_dir():
        raise ValueError(f"--preview is {path}, but must be a file name that ends in .png or .jpg")
    rows = _image_rows(Path(root), manifest, min(num_columns, manifest["val"]))
    rows += _clip_rows(Path(root), spread(manifest["frames"], num_columns))
    sheet, _ = below(stacked(rows), MARGIN)
    atomic_write_bytes(path, encoded(np.asarray(sheet), path.suffix.lower(), QUALITY))


def semantic_palette(num_things: int, num_stuff: int) -> NDArray[np.uint8]:
    """RGB of each semantic label: things as their boxes, stuff pale, grey for 'other'."""
    first, last = num_things, num_things + num_stuff
    things, stuff = (
        np.array([class_colour(k) for k in labels]) for labels in (range(first), range(first, last))
    )
    pale = (stuff + 2 * np.array(PAPER)) // 3
    return np.concatenate([[UNKNOWN], pale, things]).astype(np.uint8)


def _image_rows(root: Path, manifest: dict[str, Any], count: int) -> list[NDArray[np.uint8]]:
    from pycocotools import mask as coco_mask

    coco = json.loads((root / "coco/annotations/val.json").read_text(encoding="ascii"))
    things, labels = manifest["class_names"], manifest["semantic_names"]
    palette = semantic_palette(len(things), len(labels) - len(things))
    colours = colour_table(DEPTH_COLOURS)
    pictures, instances, semantics, boxes, depths = [], [], [], [], []
    for index, info in enumerate(coco["images"][:count]):
        picture = _read(root / "coco/images/val" / info["file_name"])[..., ::-1].copy()
        scale = SIDE / picture.shape[0]
        found = [a for a in coco["annotations"] if a["image_id"] == info["id"]]
        numbers = np.zeros(picture.shape[:2], np.uint8)
        for number, item in enumerate(found, start=1):
            numbers[coco_mask.decode(item["segmentation"]).astype(bool)] = number
        xywh_Q4 = np.array([item["bbox"] for item in found], float).reshape(-1, 4)
        xyxy_Q4 = np.concatenate([xywh_Q4[:, :2], xywh_Q4[:, :2] + xywh_Q4[:, 2:]], axis=1)
        labels_Q = np.array([item["category_id"] - 1 for item in found], int)
        semantic = _read(root / f"ade/annotations/validation/ADE_val_{index + 1:08d}.png")
        large = resized(picture, scale)
        pictures.append(large)
        instances.append(draw_identities(faint_grey(picture), numbers, scale))
        semantics.append(class_map(resized(semantic, scale, is_nearest=True), large, palette))
        boxes.append(draw_boxes(picture, Boxes(xyxy_Q4, labels_Q), things, scale))
        depth_m = _read(root / f"nyu/test/sync_depth_{index:05d}.png") / DEPTH_SCALE
        depths.append(resized(depth_m, scale, is_nearest=True))
    known = np.concatenate([depth[depth > 0] for depth in depths])
    limits = (float(known.min()), float(known.max()))
    depths = [filled(coloured(d, limits, colours), d == 0, UNKNOWN) for d in depths]
    names = ["other", *labels]
    legend = [(tuple(colour), name) for colour, name in zip(palette.tolist(), names, strict=True)]
    return [
        _row("pictures", pictures),
        _row("boxes", boxes),
        _row("instances", instances),
        with_legend(_row("semantic map", semantics), legend),
        with_scale_bar(
            _row("depth", depths), 2 * (MARGIN + SIDE), colours, limits, "grey: not known", "m"
        ),
    ]


def _clip_rows(root: Path, shown_T: list[int]) -> list[NDArray[np.uint8]]:
    from PIL import Image

    name = (root / "davis/ImageSets/2017/val.txt").read_text(encoding="ascii").split()[0]
    frames, masks = [], []
    for t in shown_T:
        frame = _read(root / f"davis/JPEGImages/480p/{name}/{t:05d}.jpg")[..., ::-1].copy()
        with Image.open(root / f"davis/Annotations/480p/{name}/{t:05d}.png") as file:
            ids = np.array(file)
        scale = SIDE / frame.shape[0]
        frames.append(resized(frame, scale))
        masks.append(draw_identities(faint_grey(frame), ids, scale))
    return [_row(f"clip {name}", frames), _row("identities", masks)]


def _row(title: str, tiles: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    headings = [title] + [""] * (len(tiles) - 1)
    return panel_grid([Panel(*pair) for pair in zip(tiles, headings, strict=True)]).picture_HW3


def _read(path: Path) -> NDArray[Any]:
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError(f"{path} cannot be read as a picture; pass --overwrite to write it anew")
    return image
