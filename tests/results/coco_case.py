"""Synthetic COCO data: crowds, ignored objects, all sizes, ties in score, empty images."""

from __future__ import annotations

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pe_dense.results.detection_evidence import detection_evidence_from_eval_imgs

NAMES = {3: "cat", 7: "dog", 9: "emu", 12: "fox"}  # emu: no objects; fox: no detections
WITH_OBJECTS, WITH_DETECTIONS = (3, 7, 12), (3, 7, 9)


def random_case(seed: int, num_images: int = 12, ties_within: bool = True, most: int = 9) -> tuple:
    """(annotations, detections): rows of dicts; images 1 to num_images, some of them empty."""
    rng = np.random.default_rng(seed)
    objects, found = [], []
    for image in range(1, num_images + 1):
        if image % 5 == 0:
            continue
        for _ in range(rng.integers(1, most)):
            side = np.exp(rng.uniform(np.log(10), np.log(200), 2))
            box = [*rng.uniform(0, 200, 2), *side]
            category = int(rng.choice(WITH_OBJECTS, p=(0.6, 0.3, 0.1)))
            crowd = int(rng.random() < 0.15)
            objects.append(
                {"image_id": image, "category_id": category, "bbox": box, "iscrowd": crowd}
            )
            for _ in range(rng.integers(0, 4)):
                shift = rng.normal(0, 0.08, 4) * np.tile(side, 2)
                moved = [float(v) for v in np.maximum(np.array(box) + shift, 1.0)]
                label = category if rng.random() < 0.85 else int(rng.choice(WITH_DETECTIONS))
                if label not in WITH_DETECTIONS:
                    continue
                found.append({"image_id": image, "category_id": label, "bbox": moved})
    # Few different scores: ties over images, and, where allowed, within one.
    taken: set = set()
    for row in found:
        while True:
            score = round(float(rng.random()), 2 if not ties_within else 1)
            key = (row["image_id"], row["category_id"], score)
            if ties_within or key not in taken:
                taken.add(key)
                row["score"] = score
                break
    return objects, found


def evaluate(
    objects: list, found: list, image_ids: list[int], max_dets=(1, 10, 100), coco_class=COCO
) -> COCOeval:
    """Pycocotools after evaluate, accumulate and summarize."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco_class()
        truth.dataset = {
            "info": {},
            "images": [{"id": i, "width": 640, "height": 480} for i in image_ids],
            "categories": [{"id": i, "name": name} for i, name in NAMES.items()],
            "annotations": [
                {**row, "id": i, "area": row["bbox"][2] * row["bbox"][3]}
                for i, row in enumerate(objects, 1)
            ],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes([dict(row) for row in found]), "bbox")
        evaluation.params.maxDets = list(max_dets)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def evidence_of(evaluation: COCOeval):
    return detection_evidence_from_eval_imgs(evaluation.evalImgs, evaluation.params, NAMES)


def repeated(rows: list, weights: np.ndarray) -> list:
    """The rows of a data set in which image i is there weights[i - 1] times, copies in a row."""
    ids = np.repeat(np.arange(1, len(weights) + 1), weights)
    by_image: dict[int, list] = {}
    for row in rows:
        by_image.setdefault(row["image_id"], []).append(row)
    return [
        {**row, "image_id": new}
        for new, old in enumerate(ids, 1)
        for row in by_image.get(int(old), [])
    ]
