"""What position alone says on the mini worlds: mIoU of things, of stuff and of all, per predictor.

python tools/prepare_data.py mini && python tools/prepare_data.py mini2
python benchmarks/experiments/mini_worlds.py data/mini data/mini2

Beside them stands the T/16 that was trained from random weights, where its record is published.
Writes mini_worlds.csv. About 10 s a world on one core.

`tools/protocols.py blind CONFIG` has the mean over all classes alone; things are apart here,
because four parts of a backdrop hide them in that mean.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from pe_dense.mini_world.formats import load_manifest
from pe_dense.pixelwise.mean_iou import image_counts
from pe_dense.pixelwise.position_means import LabelCounts, spread
from pe_dense.segmentation.blind import IGNORED, blind_maps

HERE = Path(__file__).resolve().parent
RECORD = HERE.parent / "records/pe_spatial_t16_512/random"
RECORDS = {  # version of a world -> what a trained tower scored on it
    "1": RECORD / "mini-segmentation-v1.seed0.json",
    "2": RECORD / "mini2-segmentation-v1.seed0.json",
}
Row = tuple[str, float, float, float]  # predictor, then mIoU of things, of stuff, of all


def label_maps(root: Path, split: str) -> list[np.ndarray]:
    """Classes (H, W) of a split in the layout of ADE20K, 255 where nothing is annotated."""
    maps = []
    for file in sorted((root / "ade/annotations" / split).glob("*.png")):
        with Image.open(file) as picture:
            maps.append(np.array(picture) - np.uint8(1))  # 0 becomes 255
    return maps


def blind_rows(root: Path) -> tuple[float, list[Row]]:
    """Share of labelled training pixels that are things; all predictors without the picture."""
    names = load_manifest(root)
    num_classes = len(names["semantic_names"])
    num_stuff = num_classes - len(names["class_names"])
    counts = LabelCounts(num_classes)
    for labels_HW in label_maps(root, "training"):
        counts.add(labels_HW)
    scored, rows = label_maps(root, "validation"), []
    for name, map_GG in blind_maps(counts).items():
        found_3K = sum(
            image_counts(spread(map_GG, *m.shape).astype(np.uint8), m, num_classes, IGNORED)
            for m in scored
        )
        right_K, predicted_K, annotated_K = np.asarray(found_3K, np.float64)
        iou_K = right_K / (predicted_K + annotated_K - right_K)
        rows.append((name, iou_K[num_stuff:].mean(), iou_K[:num_stuff].mean(), iou_K.mean()))
    return counts.pixels_K[num_stuff:].sum() / counts.pixels_K.sum(), rows


def trained_rows(root: Path) -> list[Row]:
    """What the record of a trained tower says, if there is one."""
    names = load_manifest(root)
    file = RECORDS[names["version"]]
    if not file.is_file():
        return []
    scores = json.loads(file.read_text(encoding="utf-8"))["scores"]
    things, every = (
        np.array([scores[f"IoU/{name}"] for name in names[key]])
        for key in ("class_names", "semantic_names")
    )
    stuff = every[: len(every) - len(things)]
    return [("T/16 trained from random weights", things.mean(), stuff.mean(), every.mean())]


def main() -> int:
    """Print a table for each world."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("roots", nargs="+", type=Path, metavar="DIR", help="mini worlds")
    lines = [["world", "predictor", "things", "stuff", "all", "share_of_things"]]
    for root in parser.parse_args().roots:
        try:
            version = load_manifest(root)["version"]
            share, rows = blind_rows(root)
            rows += trained_rows(root)
        except (OSError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        print(f"world {version}: {share:.1%} of labelled pixels are things")
        print(f"{'mIoU':36s}things  stuff    all")
        for name, *scores in rows:
            print(f"{name:34s}" + "".join(f"{score:8.4f}" for score in scores))
            lines.append([version, name, *(f"{v:.4f}" for v in (*scores, share))])
    with (HERE / "mini_worlds.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
