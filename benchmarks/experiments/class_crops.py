"""Cuts the objects of a COCO-format folder into class folders: real pictures to classify.

    python benchmarks/experiments/class_crops.py PHOTOS OUT
    for seed in 0 1 2; do python benchmarks/experiments/class_crops.py --draw random-$seed.safetensors --seed $seed; done
    for weights in random-*.safetensors FILE; do
        python tools/test.py configs/classification/knn_custom.py \\
            --encoder timm:vit_small_patch14_dinov2.lvd142m --weights $weights \\
            --records RECORDS --cfg-options data_root=OUT side=98
    done
    python benchmarks/experiments/class_crops.py --table RECORDS > class_crops.csv

PHOTOS has images/{train,val} or {train,val} beside annotations/{train,val}.json. Train and val
photos are different ones, so that no photo is on both sides.

- Objects of a side below 32 pixels and crowds are left out, and classes with fewer than 4 objects
  to learn from or 3 to score.
- A class has at most 15 objects on either side, from as many photos as there are: every photo gives
  one before any gives two. Without that, three of four are people, and the most frequent class
  alone scores 78 %.
- Objects of one photo have light, lens and place in common: intervals and the paired difference
  draw photos, each with all of its objects.
- Random weights have gains of 1 on the residual branches: with timm's 1e-5 every block would be the
  patch embedding.
"""  # noqa: E501 (one line is one command)

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent))

from pe_dense.results.comparison import evidence_of
from pe_dense.results.named_evidence import ClassificationEvidence
from pe_dense.results.record import Record
from pe_dense.results.statistics import interval, paired_difference
from pe_dense.results.store import load_records

LEAST_SIDE, LEAST_TRAIN, LEAST_VAL, MOST = 32, 4, 3, 15


class Crop(NamedTuple):
    """An object: its photo, class, annotation id and box (left, top, right, bottom) in pixels."""

    photo: Path
    name: str
    number: int
    box: tuple[int, int, int, int]

    @property
    def file(self) -> str:
        """Name of its picture, which tells the photo: '000000000139-1640.png'."""
        return f"{self.photo.stem}-{self.number}.png"


@dataclass(frozen=True, eq=False, kw_only=True)
class CropEvidence(ClassificationEvidence):
    """The best classes of objects, of which those of one photo are drawn together."""

    @property
    def unit_labels(self) -> dict[str, tuple[str, ...]]:
        """The photo of each object, as its file says."""
        return {"photo": tuple(photo_of(name) for name in self.image_ids)}

    @property
    def unit(self) -> str:
        """Photos are drawn."""
        return "photo"


def photo_of(name: str) -> str:
    """Photo of an object by the name of its picture.

    Example:
        >>> photo_of("cup/000000000139-1640.png")
        '000000000139'
    """
    return Path(name).stem.partition("-")[0]


def objects(root: Path, part: str) -> list[Crop]:
    """All that are large enough."""
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
        found.append(Crop(photo, names[row["category_id"]], row["id"], box))
    return found


def spread(crops: Sequence[Crop], most: int) -> list[Crop]:
    """At most so many objects of each class; every photo gives one before any gives two."""
    turns: dict[str, list[tuple[int, Crop]]] = defaultdict(list)
    given: dict[tuple[str, Path], int] = defaultdict(int)
    for crop in sorted(crops):
        turns[crop.name].append((given[crop.name, crop.photo], crop))
        given[crop.name, crop.photo] += 1
    return [crop for ordered in turns.values() for _, crop in sorted(ordered)[:most]]


def chosen(train: Sequence[Crop], val: Sequence[Crop], most: int) -> dict[str, list[Crop]]:
    """What is learned from and what is scored: classes that have enough on both sides."""
    parts = {"train": spread(train, most), "val": spread(val, most)}
    kept = {crop.name for crop in train}
    for part, least in (("train", LEAST_TRAIN), ("val", LEAST_VAL)):
        names = [crop.name for crop in parts[part]]
        kept &= {name for name in names if names.count(name) >= least}
    return {part: [crop for crop in found if crop.name in kept] for part, found in parts.items()}


def cut(root: Path, out: Path, most: int = MOST) -> None:
    """Writes OUT/{train,val}/<class>/<photo>-<annotation>.png."""
    parts = chosen(objects(root, "train"), objects(root, "val"), most)
    for part, found in parts.items():
        for crop in found:
            folder = out / part / crop.name
            folder.mkdir(parents=True, exist_ok=True)
            with Image.open(crop.photo) as picture:
                picture.convert("RGB").crop(crop.box).save(folder / crop.file)
        classes, photos = ({crop[i] for crop in found} for i in (1, 0))
        print(f"{part}: {len(found)} objects of {len(photos)} photos, {len(classes)} classes")


def by_photo(record: Record, records: Path) -> CropEvidence:
    """Evidence of a record, with photos as what is drawn."""
    evidence = evidence_of(record, records)
    return CropEvidence(**{f.name: getattr(evidence, f.name) for f in fields(evidence)})


def table(records: Path) -> str:
    """CSV of all records of own class folders; differences are to the best random one."""
    lines = [
        "weights,layer,k,objects,photos,top1,low,high,mean_class_top1,mean_class_low,"
        "mean_class_high,by_size,most_frequent,chance,minus_best_random,minus_low,minus_high"
    ]
    rows = [row for row in load_records(records) if row.protocol.id.startswith("custom-knn")]
    rows.sort(key=lambda row: (not row.encoder.weights.startswith("random"), row.encoder.weights))
    drawn = [row for row in rows if row.encoder.weights.startswith("random")]
    best = max(drawn, key=lambda row: row.scores["top1"], default=None)
    for record in rows:
        evidence = by_photo(record, records)
        bounds = {name: interval(evidence, name) for name in ("top1", "mean_class_top1")}
        picked = record.selection.chosen
        blind = sorted(record.blind.items(), key=lambda item: -len(item[0]))
        numbers = [
            value
            for name, found in bounds.items()
            for value in (record.scores[name], found.low, found.high)
        ]
        numbers += [value for _, value in blind]
        if best is not None and record is not best:
            paired = paired_difference(evidence, by_photo(best, records), "top1")
            numbers += [paired.difference, paired.low, paired.high]
        counts = len(evidence.image_ids), bounds["top1"].num_units
        words = [record.encoder.weights, picked["layer"], picked["k"], *map(str, counts)]
        cells = [*words, *(f"{value:.4f}" for value in numbers)]
        lines.append(",".join([*cells, *[""] * (17 - len(cells))]))
    return "\n".join(lines) + "\n"


def main() -> int:
    """Cut, draw weights, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, nargs="?", metavar="PHOTOS")
    parser.add_argument("out", type=Path, nargs="?", metavar="OUT")
    parser.add_argument("--most", type=int, default=MOST, help="objects of a class (%(default)s)")
    parser.add_argument("--draw", type=Path, metavar="FILE", help="write random weights")
    parser.add_argument("--seed", type=int, default=0, help="of random weights")
    parser.add_argument("--table", type=Path, metavar="RECORDS")
    args = parser.parse_args()
    if args.table is not None:
        sys.stdout.write(table(args.table))
    elif args.draw is not None:
        from real_encoder import REAL, random_weights

        print(random_weights(REAL, args.draw, args.seed))
    elif args.out is None:
        parser.error("name the folder of photos and the folder to write")
    else:
        cut(args.root, args.out, args.most)
    return 0


if __name__ == "__main__":
    sys.exit(main())
