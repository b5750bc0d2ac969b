"""Seconds of 1,000 bootstrap resamples, and sizes of evidence files, at the size of real data sets.

The data are made up: as many images, classes, objects and detections as ADE20K val and COCO val
have, with scores and sizes of objects spread in a similar way; time depends on little else.
AP takes as many threads as there are cores, over classes (class_threads in the CSV file).

    python benchmarks/speed/bootstrap.py
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import FOLDER, MIB, command_line, hardware, versions, write_rows

from pe_dense.results.detection_evidence import DetectionEvidence
from pe_dense.results.evidence import SegmentationEvidence
from pe_dense.results.evidence_file import load_evidence, save_evidence
from pe_dense.results.item_evidence import ItemEvidence
from pe_dense.results.statistics import interval, intervals

TARGET_S = {"mIoU": 0.5, "AP": 60.0}


def ade_size(num_images: int = 2000, num_classes: int = 150) -> SegmentationEvidence:
    """Areas of 4 to 17 classes in each image of 512 x 683 pixels, common classes first."""
    rng = np.random.default_rng(0)
    frequency = 1 / np.arange(1, num_classes + 1)
    frequency /= frequency.sum()
    target = np.zeros((num_images, num_classes), np.int64)
    intersection, prediction = target.copy(), target.copy()
    for n in range(num_images):
        there = np.unique(rng.choice(num_classes, rng.integers(4, 18), p=frequency))
        pixels = 512 * 683 - rng.integers(30_000)
        target[n, there] = rng.multinomial(pixels, rng.dirichlet(np.ones(len(there))))
        intersection[n, there] = rng.binomial(target[n, there], rng.beta(4, 2, len(there)))
        wrong = rng.multinomial(pixels - intersection[n].sum(), rng.dirichlet(np.ones(8)))
        prediction[n] = intersection[n]
        np.add.at(prediction[n], rng.choice(num_classes, 8), wrong)
    return SegmentationEvidence(
        image_ids=[f"ADE_val_{n:08d}" for n in range(1, num_images + 1)],
        classes=[f"class {k}" for k in range(num_classes)],
        intersection_NK=intersection,
        prediction_NK=prediction,
        target_NK=target,
    )


def coco_size(num_images: int = 5000, num_classes: int = 80, per_image: int = 100):
    """36,000 objects, 90 % of them found at some IoU, and wrong detections to fill the images."""
    rng = np.random.default_rng(0)
    frequency = 1 / np.arange(1, num_classes + 1)
    frequency /= frequency.sum()
    num_objects, num_rows = 36_000, num_images * per_image
    num_wrong = num_rows - num_objects
    image_G = rng.integers(0, num_images, num_objects)
    class_G = rng.choice(num_classes, num_objects, p=frequency)
    size_G = rng.choice(3, num_objects, p=(0.41, 0.34, 0.25))
    cells, place = np.unique(class_G * num_images + image_G, return_inverse=True)
    count = np.zeros((len(cells), 4), np.int64)
    np.add.at(count, (place, 0), 1)
    np.add.at(count, (place, 1 + size_G), 1)

    flat = (frequency + 1 / num_classes) / 2
    image = np.concatenate([image_G, rng.integers(0, num_images, num_wrong)])
    category = np.concatenate([class_G, rng.choice(num_classes, num_wrong, p=flat)])
    size = np.concatenate([size_G, rng.choice(3, num_wrong, p=(0.5, 0.3, 0.2))])
    thresholds = rng.integers(0, 11, num_objects) * (rng.random(num_objects) < 0.9)
    thresholds = np.concatenate([thresholds, np.zeros(num_wrong, np.int64)])
    score = 1 / (1 + np.exp(4 - 0.6 * thresholds - rng.normal(0, 1.2, num_rows)))
    score = score.astype(np.float32)
    order = np.lexsort((image, -score, category))
    matched = np.repeat((thresholds[:, None] > np.arange(10))[:, None], 4, axis=1)
    ignored = np.zeros_like(matched)
    for a in range(3):
        ignored[:, 1 + a] = (size != a)[:, None]
    return DetectionEvidence(
        image_ids=[str(139 + 117 * n) for n in range(num_images)],
        classes=[f"class {k}" for k in range(num_classes)],
        image_D=image[order],
        class_D=category[order],
        score_D=score[order],
        matched_DAT=matched[order],
        ignored_DAT=ignored[order],
        gt_image_G=cells % num_images,
        gt_class_G=cells // num_images,
        gt_count_GA=count,
    )


def median_s(run, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def measure_rows(evidence: ItemEvidence, size: str, resamples: int, repeats: int) -> list[dict]:
    """One row for the main metric, one for all metrics together."""
    main = evidence.metric_names[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "evidence.npz"
        save_s = median_s(lambda: save_evidence(evidence, path), 1)
        load_s = median_s(lambda: load_evidence(path), 1)
        file_mib = path.stat().st_size / MIB
    runs = {
        main: (lambda: interval(evidence, main, resamples), repeats, TARGET_S[main]),
        "all metrics": (lambda: intervals(evidence, None, resamples), 1, ""),
    }
    return [
        {
            "metric": name,
            "size": size,
            "resamples": resamples,
            "seconds": round(median_s(run, times), 3),
            "target_seconds": target,
            "point_estimate_seconds": round(median_s(lambda: evidence.metrics(None, main), 5), 4),
            "file_mib": round(file_mib, 2),
            "save_seconds": round(save_s, 2),
            "load_seconds": round(load_s, 2),
            "repeats": times,
            "class_threads": len(os.sched_getaffinity(0)),
            "hardware": hardware(),
            "versions": versions("numpy"),
            "command": command_line(),
        }
        for name, (run, times, target) in runs.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    cases = {
        "2000 images x 150 classes": ade_size,
        "5000 images x 80 classes, 500000 detections": coco_size,
    }
    for size, build in cases.items():
        rows = measure_rows(build(), size, args.resamples, args.repeats)
        for row in rows:
            print(*(f"{key}={value}" for key, value in list(row.items())[:10]), flush=True)
        write_rows(FOLDER / "bootstrap_cpu.csv", rows, ("metric", "size", "resamples"))


if __name__ == "__main__":
    main()
