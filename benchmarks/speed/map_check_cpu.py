"""Seconds of the check of ADE20K before training, on made-up files of its size.

20,210 images to train on and 2,000 to validate on, 512 x 683 px, with label maps of 20 classes of
random rectangles on a ground; the images are JPEGs that differ in a comment. The check is that of
tools/train.py with a recipe for ADE20K; imports and reading the config are not in the numbers.
'first' reads every map, 'second' remembers.

    python benchmarks/speed/map_check_cpu.py
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from measure import FOLDER, ROOT, command_line, hardware, versions, write_rows

CONFIG = ROOT / "configs" / "segmentation" / "ade20k_linear_dinov2.py"
SIZES = {"training": ("ADE_train", 20_210), "validation": ("ADE_val", 2_000)}
HEIGHT, WIDTH, CLASSES, DIFFERENT = 512, 683, 150, 40


def label_maps() -> list[bytes]:
    """PNG files of 40 different maps, which together hold every class."""
    rng = np.random.default_rng(0)
    files = []
    for k in range(DIFFERENT):
        labels_HW = np.full((HEIGHT, WIDTH), 1 + k % CLASSES, np.uint8)
        for i in range(20):
            y, x = int(rng.integers(0, HEIGHT - 60)), int(rng.integers(0, WIDTH - 60))
            h, w = rng.integers(20, 200, 2).tolist()
            labels_HW[y : y + h, x : x + w] = 1 + (20 * k + i) % CLASSES
        files.append(cv2.imencode(".png", labels_HW)[1].tobytes())
    return files


def write_split(root: Path, split: str) -> None:
    """Images and maps under the names of ADE20K."""
    name, count = SIZES[split]
    images, maps = (root / kind / split for kind in ("images", "annotations"))
    for folder in (images, maps):
        folder.mkdir(parents=True)
    plain = cv2.imencode(".jpg", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))[1].tobytes()
    files = label_maps()
    for number in range(1, count + 1):
        comment = f"{name}_{number:08d}".encode()
        segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
        (images / f"{comment.decode()}.jpg").write_bytes(plain[:2] + segment + plain[2:])
        (maps / f"{comment.decode()}.png").write_bytes(files[number % DIFFERENT])


def check(root: Path) -> None:
    """What tools/train.py does before training; prints the seconds."""
    import pe_dense.segmentation  # noqa: F401 (registers its parts)
    from pe_dense.run.config import check_data, load_config

    cfg, _ = load_config(CONFIG, None, "random", {"data_root": str(root)})
    start = time.perf_counter()
    check_data(cfg, ("train", "val"))
    print("seconds", time.perf_counter() - start)


def seconds(root: Path) -> float:
    """Time of one check in a process of its own."""
    command = [sys.executable, __file__, "--check", str(root)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.splitlines()[-1].split()[1])


def main() -> None:
    """Make the data, measure, write map_check_cpu.csv."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.check:
        check(args.check)
        return
    with tempfile.TemporaryDirectory() as folder:
        for split in SIZES:
            write_split(Path(folder), split)
        time.sleep(3)  # answers about files that are being written are not kept
        measured = {case: seconds(Path(folder)) for case in ("first", "second")}
    rows = [
        {
            "case": case,
            "maps": sum(count for _, count in SIZES.values()),
            "size": f"{HEIGHT}x{WIDTH}",
            "seconds": round(wall, 1),
            "hardware": hardware(),
            "versions": versions("numpy", "opencv-python-headless"),
            "command": command_line(),
        }
        for case, wall in measured.items()
    ]
    for row in rows:
        print(row)
    write_rows(FOLDER / "map_check_cpu.csv", rows, key=("case",))


if __name__ == "__main__":
    main()
