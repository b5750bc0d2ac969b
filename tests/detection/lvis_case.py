"""A small LVIS-format data set with detections, and what lvis-api 0.5.3 says of them."""

import json

import numpy as np

# LVISEval(gt, LVISResults(gt, detections), "bbox") of lvis-api on `build(0)`.
LVIS_API_SCORES = {
    "AP": 0.2243771161072165,
    "AP50": 0.5077179162956169,
    "AP75": 0.17926624993476967,
    "APs": 0.05362221344085627,
    "APm": 0.26588401492547775,
    "APl": 0.6969966996699669,
    "APr": 0.2539537407393756,
    "APc": 0.2360463249011514,
    "APf": 0.18313128268112236,
}


def build(seed, num_classes=12, num_images=30):
    """Ground truth and (Q, 7) detections; partly searched images, more than 300 boxes on some."""
    rng = np.random.default_rng(seed)
    categories = [
        dict(id=k + 1, name=f"c{k}", frequency="rcf"[k % 3], image_count=3)
        for k in range(num_classes)
    ]
    images, annotations = [], []
    number = 1
    for n in range(num_images):
        positive = rng.choice(num_classes, 4, replace=False) + 1
        rest = [k for k in range(1, num_classes + 1) if k not in positive]
        negative = rng.choice(rest, 3, replace=False).tolist()
        partly = rng.choice(positive, 1).tolist() + negative[:1]
        images.append(
            dict(
                id=n + 1, width=200, height=200, file_name="",
                neg_category_ids=[int(k) for k in negative],
                not_exhaustive_category_ids=[int(k) for k in partly],
            )
        )  # fmt: skip
        for _ in range(6):
            x, y = rng.uniform(0, 140, 2)
            w, h = rng.uniform(5, 120, 2)
            w, h = min(w, 199 - x), min(h, 199 - y)
            annotations.append(
                dict(
                    id=number, image_id=n + 1, category_id=int(rng.choice(positive)),
                    bbox=[x, y, w, h], area=w * h,
                    segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
                )
            )  # fmt: skip
            number += 1
    rows = []
    for a in annotations:
        for _ in range(3):
            box = np.array(a["bbox"]) + rng.normal(0, 6, 4)
            box[2:] = np.maximum(box[2:], 2)
            score = rng.random()
            own = rng.random() < 0.8
            category = a["category_id"] if own else rng.integers(1, num_classes + 1)
            rows.append([a["image_id"], *box, score, category])
    for _ in range(4000):
        image = rng.integers(1, num_images + 1)
        corner, size = rng.uniform(0, 100, 2), rng.uniform(5, 90, 2)
        score, category = rng.random() * 0.6, rng.integers(1, num_classes + 1)
        rows.append([image, *corner, *size, score, category])
    truth = dict(images=images, annotations=annotations, categories=categories)
    return truth, np.array(rows, dtype=float)


def write(folder, truth):
    path = folder / "lvis.json"
    path.write_text(json.dumps(truth))
    return str(path)
