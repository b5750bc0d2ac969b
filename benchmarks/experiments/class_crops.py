"""Cuts the objects of a COCO-format folder into class folders: real pictures to classify.

    python benchmarks/experiments/class_crops.py PHOTOS OUT
    for weights in random FILE; do
        python tools/test.py configs/classification/knn_custom.py --encoder ENCODER \\
            --weights $weights --records RECORDS --cfg-options data_root=OUT side=98
    done
    python benchmarks/experiments/class_crops.py --table RECORDS > class_crops.csv

PHOTOS has images/{train,val} or {train,val} beside annotations/{train,val}.json. Objects of a side
below 32 pixels and crowds are left out, and classes with fewer than 8 objects to learn from or 3 to
score. Train and val photos are different ones, so that no photo is on both sides.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from PIL import Image

LEAST_SIDE, LEAST_TRAIN, LEAST_VAL = 32, 8, 3


def objects(root: Path, part: str) -> list[tuple[Path, str, int, tuple[int, int, int, int]]]:
    """Photo, class, annotation id and box (left, top, right, bottom) of what is large enough."""
    content = json.loads((root / "annotations" / f"{part}.json").read_text(encoding="utf-8"))
    names = {row["id"]: row["name"] for row in content["categories"]}
    files = {row["id"]: row["file_name"] for row in content["images"]}
    found = []
    for row in content["annotations"]:
        left, top, width, height = row["bbox"]
        if row.get("iscrowd") or min(width, height) < LEAST_SIDE:
            continue
        photo = next(
            path
            for folder in (root / "images" / part, root / part, root / "images", root)
            if (path := folder / files[row["image_id"]]).is_file()
        )
        box = round(left), round(top), round(left + width), round(top + height)
        found.append((photo, names[row["category_id"]], row["id"], box))
    return found


def cut(root: Path, out: Path) -> None:
    """Writes OUT/{train,val}/<class>/<annotation>.png."""
    parts = {part: objects(root, part) for part in ("train", "val")}
    counts = {part: Counter(name for _, name, _, _ in found) for part, found in parts.items()}
    kept = {
        name
        for name, count in counts["train"].items()
        if count >= LEAST_TRAIN and counts["val"][name] >= LEAST_VAL
    }
    for part, found in parts.items():
        for photo, name, number, box in found:
            if name in kept:
                folder = out / part / name
                folder.mkdir(parents=True, exist_ok=True)
                with Image.open(photo) as picture:
                    picture.convert("RGB").crop(box).save(folder / f"{number}.png")
    totals = {part: sum(counts[part][name] for name in kept) for part in parts}
    print(f"{len(kept)} classes, {totals['train']} to learn from, {totals['val']} to score")


def table(records: Path) -> str:
    """CSV of all records of own class folders."""
    lines = ["encoder,weights,protocol,layer,k,items,top1,low,high,by_size,most_frequent,chance"]
    for file in sorted(records.rglob("custom-knn*.json")):
        row = json.loads(file.read_text(encoding="utf-8"))
        (bounds, *_), chosen = row["ci95"]["top1"], row["selection"]["chosen"]
        blind = sorted(row["blind"].items(), key=lambda item: -len(item[0]))
        numbers = [row["scores"]["top1"], bounds["low"], bounds["high"], *(v for _, v in blind)]
        words = [
            row["encoder"]["name"], row["encoder"]["weights"], "custom-knn", chosen["layer"],
            chosen["k"], str(row["dataset"]["num_items"]),
        ]  # fmt: skip
        lines.append(",".join([*words, *(f"{value:.4f}" for value in numbers)]))
    return "\n".join(lines) + "\n"


def main() -> int:
    """Cut, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, nargs="?", metavar="PHOTOS")
    parser.add_argument("out", type=Path, nargs="?", metavar="OUT")
    parser.add_argument("--table", type=Path, metavar="RECORDS")
    args = parser.parse_args()
    if args.table is not None:
        sys.stdout.write(table(args.table))
    elif args.out is None:
        parser.error("name the folder of photos and the folder to write")
    else:
        cut(args.root, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
