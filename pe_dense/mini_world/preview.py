"""A contact sheet of a mini world, drawn from its files.

Shape legend: H W pixels.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pe_dense.mini_world.formats import DEPTH_SCALE, davis_palette, encode_image, load_manifest
from pe_dense.mini_world.scene import THING_NAMES


def write_contact_sheet(root: str | Path, path: str | Path, num_columns: int = 6) -> None:
    """Draws what the files of a mini world hold, for a person to look at.

    Rows: pictures; instance masks with annotation number; semantic map; depth; boxes with class
    names; then one clip as pictures and as masks with track ids. Files are read back, so
    the sheet shows what a reader of the formats would see.

    Raises:
        ValueError: If root is no mini world or path cannot be written as a picture.
    """
    import cv2

    manifest = load_manifest(root)
    rows = _image_rows(Path(root), min(num_columns, manifest["val"]))
    rows += _clip_rows(Path(root), num_columns, manifest["frames"])
    side = 256
    sheet = np.full((len(rows) * (side + 4), num_columns * (side + 4), 3), 255, np.uint8)
    for i, (title, tiles) in enumerate(rows):
        for j, tile in enumerate(tiles):
            big = cv2.resize(tile, (side, side), interpolation=cv2.INTER_NEAREST)
            if j == 0:
                _label(big, title, (4, side - 8))
            top, left = i * (side + 4), j * (side + 4)
            sheet[top : top + side, left : left + side] = big
    path = Path(path)
    if path.suffix.lower() not in (".png", ".jpg") or path.is_dir():
        raise ValueError(f"--preview is {path}, but must be a file name that ends in .png or .jpg")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_image(path.suffix.lower(), sheet))


def _image_rows(root: Path, count: int) -> list[tuple[str, list[NDArray[np.uint8]]]]:
    import cv2
    from pycocotools import mask as coco_mask

    coco = json.loads((root / "coco/annotations/val.json").read_text(encoding="ascii"))
    palette = davis_palette()
    titles = ("picture", "instances", "semantic", "depth", "boxes")
    rows: dict[str, list[NDArray[np.uint8]]] = {title: [] for title in titles}
    for index, info in enumerate(coco["images"][:count]):
        picture = _read(root / "coco/images/val" / info["file_name"])[..., ::-1].copy()
        masks, boxes = picture // 3, picture.copy()
        found = [a for a in coco["annotations"] if a["image_id"] == info["id"]]
        for number, item in enumerate(found, start=1):
            mask = coco_mask.decode(item["segmentation"]).astype(bool)
            x, y, w, h = (int(v) for v in item["bbox"])
            masks[mask] = palette[number]
            _label(masks, str(number), (x + w // 2 - 4, y + h // 2 + 4))
            cv2.rectangle(boxes, (x, y), (x + w - 1, y + h - 1), (255, 255, 255), 1)
            _label(boxes, THING_NAMES[item["category_id"] - 1], (x, max(y - 3, 10)))
        semantic = _read(root / f"ade/annotations/validation/ADE_val_{index + 1:08d}.png")
        depth_m = _read(root / f"nyu/test/sync_depth_{index:05d}.png") / DEPTH_SCALE
        near = np.where(depth_m > 0, 255 * np.clip(1.8 / np.maximum(depth_m, 0.1), 0, 1), 0)
        colours = cv2.applyColorMap(near.astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
        colours = np.where((depth_m > 0)[..., None], colours, 0).astype(np.uint8)
        tiles = (picture, masks, palette[semantic], colours, boxes)
        for title, tile in zip(titles, tiles, strict=True):
            rows[title].append(tile)
    return list(rows.items())


def _clip_rows(
    root: Path, count: int, num_frames: int
) -> list[tuple[str, list[NDArray[np.uint8]]]]:
    from PIL import Image

    name = (root / "davis/ImageSets/2017/val.txt").read_text(encoding="ascii").split()[0]
    palette = davis_palette()
    pictures, masks = [], []
    for t in np.linspace(0, num_frames - 1, min(count, num_frames)).round().astype(int):
        pictures.append(_read(root / f"davis/JPEGImages/480p/{name}/{t:05d}.jpg")[..., ::-1].copy())
        with Image.open(root / f"davis/Annotations/480p/{name}/{t:05d}.png") as file:
            ids = np.array(file)
        tile = np.where((ids > 0)[..., None], palette[ids], pictures[-1] // 3)
        for track_id in np.unique(ids[ids > 0]):
            rows, columns = np.nonzero(ids == track_id)
            _label(tile, str(track_id), (int(columns.mean()) - 4, int(rows.mean()) + 4))
        masks.append(tile)
    return [(f"clip {name}", pictures), ("track ids", masks)]


def _read(path: Path) -> NDArray[Any]:
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError(f"{path} cannot be read as a picture; pass --overwrite to write it anew")
    return image


def _label(image: NDArray[Any], text: str, corner_xy: tuple[int, int]) -> None:
    import cv2

    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(
            image, text, corner_xy, cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, width, cv2.LINE_AA
        )
