"""Seconds of the check of COCO 2017 before training, on made-up files of its size.

118,287 images with 860,001 annotations to train on, with a polygon of 25 points each (about 450
MB of JSON), 5,000 with 36,781 to validate on; tiny JPEGs of one size, so that each is compared
with the others byte for byte. The check is that of tools/train.py with a COCO recipe; imports and
reading the config are not in the numbers. 'first' finds all out, 'second' remembers, 'four at
once' are four processes that begin without an answer, as on four GPUs: one of them finds out.
Targets: 60 s, 3 s, and not four times the work.

    python benchmarks/speed/coco_check_cpu.py
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from measure import FOLDER, MIB, ROOT, command_line, hardware, versions, write_rows

CONFIG = ROOT / "configs" / "detection" / "deta_pe_b16_coco_12ep.py"
SIZES = {"train": (118_287, 860_001), "val": (5_000, 36_781)}
WIDTH, HEIGHT, POINTS = 640, 480, 25
TARGET_S = {"first": 60.0, "second": 3.0}


def write_images(folder: Path, first: int, count: int) -> None:
    """JPEGs that differ in a comment; their pixels are the same."""
    folder.mkdir(parents=True)
    image_HW3 = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    plain = cv2.imencode(".jpg", image_HW3)[1].tobytes()
    for number in range(first, first + count):
        comment = f"{number:012d}".encode()
        segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
        (folder / f"{number:012d}.jpg").write_bytes(plain[:2] + segment + plain[2:])


def annotations(first_image: int, num_images: int, count: int) -> Iterator[str]:
    """One object after the other, an ellipse in its box."""
    from pe_dense.data.checks.known_sets import COCO_IDS

    rng = np.random.default_rng(first_image)
    angles = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    circle_P2 = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for number in range(1, count + 1):
        side = rng.uniform((8, 8), (200, 150)).round(2)
        corner = rng.uniform((0, 0), (WIDTH - 200, HEIGHT - 150)).round(2)
        points = (corner + side / 2 * (1 + circle_P2)).round(2).ravel().tolist()
        image = first_image + (number % num_images)
        yield json.dumps(
            dict(
                segmentation=[points], area=round(0.785 * side[0] * side[1], 3), iscrowd=0,
                image_id=image, bbox=[*corner.tolist(), *side.tolist()],
                category_id=COCO_IDS[number % len(COCO_IDS)], id=number,
            )
        )  # fmt: skip


def write_split(root: Path, split: str, first: int, classes: dict[int, str]) -> int:
    """Images and JSON of a split; the bytes of the JSON."""
    num_images, num_boxes = SIZES[split]
    write_images(root / f"{split}2017", first, num_images)
    file = root / "annotations" / f"instances_{split}2017.json"
    file.parent.mkdir(exist_ok=True)
    categories = [dict(supercategory="", id=i, name=name) for i, name in classes.items()]
    with file.open("w") as stream:
        stream.write('{"info": {}, "licenses": [], "images": [')
        images = (
            dict(
                license=1, file_name=f"{i:012d}.jpg", height=HEIGHT, width=WIDTH, id=i,
                coco_url=f"http://images.cocodataset.org/{split}2017/{i:012d}.jpg",
            )
            for i in range(first, first + num_images)
        )  # fmt: skip
        stream.write(", ".join(map(json.dumps, images)) + '], "annotations": [')
        for place, text in enumerate(annotations(first, num_images, num_boxes)):
            stream.write(f"{', ' if place else ''}{text}")
        stream.write(f'], "categories": {json.dumps(categories)}}}')
    return file.stat().st_size


def check(root: Path) -> None:
    """What tools/train.py does before training; prints seconds, and those of the processor."""
    import pe_dense.detection  # noqa: F401 (registers its parts)
    from pe_dense.run.config import check_data, load_config

    cfg, _ = load_config(CONFIG, None, "random", {"data_root": str(root)})
    start, busy = time.perf_counter(), time.process_time()
    check_data(cfg, ("train", "val"))
    print("seconds", time.perf_counter() - start, time.process_time() - busy)


def seconds(root: Path, processes: int = 1) -> tuple[float, float]:
    """The longest time of so many checks at once, and their processor time, summed."""
    command = [sys.executable, __file__, "--check", str(root)]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    lines = [process.communicate()[0].splitlines()[-1].split() for process in started]
    return max(float(line[1]) for line in lines), sum(float(line[2]) for line in lines)


def main() -> None:
    """Make the data, measure, write coco_check_cpu.csv."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--dry", action="store_true", help="write no file")
    args = parser.parse_args()
    if args.check:
        check(args.check)
        return
    from mmdet.datasets import CocoDataset

    from pe_dense.data.checks.known_sets import COCO_IDS

    classes = dict(zip(COCO_IDS, CocoDataset.METAINFO["classes"], strict=True))
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        size = write_split(root, "train", 1, classes)
        write_split(root, "val", 500_001, classes)
        time.sleep(3)  # answers about files that are being written are not kept
        measured["first"] = seconds(root)
        measured["second"] = seconds(root)
        shutil.rmtree(root / ".pe_dense")
        measured["four at once"] = seconds(root, 4)
    rows = [
        {
            "case": case,
            "images": sum(images for images, _ in SIZES.values()),
            "json_mib": round(size / MIB),
            "seconds": round(wall, 1),
            "processor_seconds": round(busy, 1),
            "target_seconds": TARGET_S.get(case, ""),
            "hardware": hardware(),
            "versions": versions("numpy", "opencv-python-headless"),
            "command": command_line(),
        }
        for case, (wall, busy) in measured.items()
    ]
    for row in rows:
        print(row)
    if not args.dry:
        write_rows(FOLDER / "coco_check_cpu.csv", rows, key=("case",))


if __name__ == "__main__":
    main()
