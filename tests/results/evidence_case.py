"""Small evidence of every kind, made from a seed."""

from __future__ import annotations

import dataclasses

import numpy as np

from pe_dense.results.detection_evidence import DetectionEvidence
from pe_dense.results.evidence import (
    DepthEvidence,
    SegmentationEvidence,
    TrackingEvidence,
    VideoObjectEvidence,
)
from pe_dense.results.named_evidence import ClassificationEvidence, RetrievalEvidence


def segmentation(seed: int = 0, num: int = 12, classes: int = 5) -> SegmentationEvidence:
    """The last class is never there, the one before predicted only."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 1000, (num, classes)) * (rng.random((num, classes)) < 0.6)
    target[:, -2:] = 0
    intersection = rng.binomial(target, 0.7)
    prediction = intersection + rng.integers(0, 200, (num, classes))
    prediction[:, -1] = 0
    return SegmentationEvidence(
        image_ids=[f"image{n:03d}" for n in range(num)],
        classes=[f"class{k}" for k in range(classes)],
        intersection_NK=intersection,
        prediction_NK=prediction,
        target_NK=target,
    )


def depth(seed: int = 0, num: int = 12, per_sequence: int | None = None, shift: float = 0.0):
    """Normal values around 5; the second metric misses every third image."""
    rng = np.random.default_rng(seed)
    values = 5 + shift + rng.normal(size=(num, 2))
    values[::3, 1] = np.nan
    ids = None if per_sequence is None else [f"drive{n // per_sequence}" for n in range(num)]
    return DepthEvidence(
        image_ids=[f"frame{n:04d}" for n in range(num)],
        metric_names=("rmse", "abs_rel"),
        values_NM=values,
        sequence_ids=ids,
    )


def video_object(seed: int = 0, optional: bool = False) -> VideoObjectEvidence:
    """6 videos of 1 to 3 objects."""
    rng = np.random.default_rng(seed)
    videos = np.repeat([f"video{n}" for n in range(6)], [1, 2, 3, 1, 2, 3])
    num = len(videos)
    columns = {"j_recall_N": 0, "f_recall_N": 0, "j_decay_N": -1, "f_decay_N": -1}
    return VideoObjectEvidence(
        video_ids=videos,
        object_ids=[str(n) for n in range(num)],
        j_N=rng.random(num),
        f_N=rng.random(num),
        **{k: rng.uniform(low, 1, num) for k, low in columns.items() if optional},
    )


def tracking(seed: int = 0, num: int = 7) -> TrackingEvidence:
    rng = np.random.default_rng(seed)
    names = ("clear_tp", "clear_fp", "clear_fn", "clear_idsw", "id_tp", "id_fp", "id_fn")
    hota = {f"hota_{name}_NA": rng.integers(0, 500, (num, 19)) for name in ("tp", "fp", "fn")}
    hota["hota_tp_NA"][:, -1] = 0  # nothing matches at 0.95
    tp = hota["hota_tp_NA"]
    return TrackingEvidence(
        sequence_ids=[f"MOT17-{n:02d}" for n in range(num)],
        **{f"{name}_N": rng.integers(0, 1000, num) for name in names},
        **hota,
        **{f"{name}_sum_NA": rng.random((num, 19)) * tp for name in ("ass_a", "ass_re", "ass_pr")},
    )


def detection(seed: int = 0, num: int = 12) -> DetectionEvidence:
    """One object per image and class, found or not, and some wrong detections."""
    rng = np.random.default_rng(seed)
    rows = []
    for k in range(2):
        for n in range(num):
            quality = rng.integers(0, 11)
            rows += [(k, n, round(rng.random(), 3), quality), (k, n, round(rng.random(), 3), 0)]
    rows.sort(key=lambda row: (row[0], -row[2], row[1]))
    matched = np.array([row[3] for row in rows])[:, None] > np.arange(10)
    matched = np.repeat(matched[:, None], 4, axis=1)
    ignored = np.zeros_like(matched)
    ignored[:, 2:] = True
    gt_class, gt_image = np.divmod(np.arange(2 * num), num)
    return DetectionEvidence(
        image_ids=[str(n) for n in range(num)],
        classes=("cat", "dog"),
        image_D=np.array([row[1] for row in rows]),
        class_D=np.array([row[0] for row in rows]),
        score_D=np.array([row[2] for row in rows]),
        matched_DAT=matched,
        ignored_DAT=ignored,
        gt_image_G=gt_image,
        gt_class_G=gt_class,
        gt_count_GA=np.tile([1, 1, 0, 0], (2 * num, 1)),
    )


def classification(seed: int = 0, num: int = 12) -> ClassificationEvidence:
    """Eight classes, the last without pictures; about half is right."""
    rng = np.random.default_rng(seed)
    target = np.arange(num) % 7
    order = np.argsort(rng.random((num, 8)) + 0.6 * (np.arange(8) == target[:, None]))[:, ::-1]
    return ClassificationEvidence(
        image_ids=[f"image{n:03d}" for n in range(num)],
        classes=[f"class{k}" for k in range(8)],
        target_N=target,
        top_NJ=order[:, :5].copy(),
        score_NJ=-np.sort(-rng.random((num, 5)), axis=1),
    )


def retrieval(seed: int = 0, num: int = 12) -> RetrievalEvidence:
    """Pictures with two captions each."""
    rng = np.random.default_rng(seed)
    images = [f"image{n:03d}" for n in range(num)]
    return RetrievalEvidence(
        query_ids=[*images, *(f"{name} caption {c}" for name in images for c in range(2))],
        image_ids=[*images, *np.repeat(images, 2)],
        visual=("image",),
        is_text_N=np.r_[np.zeros(num, int), np.ones(2 * num, int)],
        rank_N=rng.integers(0, 12, 3 * num) * (rng.random(3 * num) < 0.7),
    )


ALL = {
    "segmentation": segmentation,
    "detection": detection,
    "depth": depth,
    "depth_sequences": lambda seed=0: depth(seed, 12, 3),
    "video_object": video_object,
    "video_object_full": lambda seed=0: video_object(seed, optional=True),
    "tracking": tracking,
    "classification": classification,
    "retrieval": retrieval,
}


def values_evidence(values: np.ndarray) -> DepthEvidence:
    """One metric 'm', the mean of the values."""
    names = [str(n) for n in range(len(values))]
    return DepthEvidence(image_ids=names, metric_names=("m",), values_NM=values[:, None])


def repeat_items(evidence, weights_N: np.ndarray):
    """Evidence in which item n is really there weights_N[n] times, under new names."""
    where = np.repeat(np.arange(len(weights_N)), weights_N)
    fields = {field.name: getattr(evidence, field.name) for field in dataclasses.fields(evidence)}
    own = {"object_ids", "sequence_ids"} if evidence.kind != "depth" else {"image_ids"}
    own |= {"image_ids"} & set(fields)
    if evidence.kind == "retrieval":  # pictures hold several queries
        own, fields["image_ids"] = {"query_ids"}, [evidence.image_ids[n] for n in where]
    for name, value in fields.items():
        if name in own:
            fields[name] = [f"{value[n]}#{i}" for i, n in enumerate(where)]
        elif name in ("video_ids", "sequence_ids") and value is not None:
            fields[name] = [value[n] for n in where]
        elif isinstance(value, np.ndarray):
            fields[name] = value[where]
    return dataclasses.replace(evidence, **fields)
