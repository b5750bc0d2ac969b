"""Made-up populations for interval_coverage.py: test sets of the kinds that records are of.

Every function draws one test set and returns its evidence, as an evaluation would have left it.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from pe_dense.results.detection_evidence import DetectionEvidence
from pe_dense.results.evidence import DepthEvidence, SegmentationEvidence, VideoObjectEvidence


def videos(rng: np.random.Generator, num: int, gain: float = 0.0):
    """J and F of 1 to 6 objects in each video; a video and an object have a level of their own."""
    objects = 1 + np.minimum(rng.poisson(1.0, num), 5)
    video = np.repeat(np.arange(num), objects)
    level = 0.7 + gain + rng.normal(0, 0.15, num)[video] + rng.normal(0, 0.12, len(video))
    return VideoObjectEvidence(
        video_ids=[f"v{n:05d}" for n in video],
        object_ids=[str(n) for n in range(len(video))],
        j_N=np.clip(level, 0, 1),
        f_N=np.clip(level + rng.normal(0.02, 0.05, len(video)), 0, 1),
    )


def same_videos(rng: np.random.Generator, evidence, gain: float = 0.0):
    """Another model of the same level on the same videos."""
    noise = rng.normal(gain, 0.08, evidence.num_items)
    return dataclasses.replace(
        evidence,
        j_N=np.clip(evidence.j_N + noise, 0, 1),
        f_N=np.clip(evidence.f_N + noise, 0, 1),
    )


def detector(rng: np.random.Generator, num: int):
    """Three classes of 60, 30 and 10 % of 7 objects an image, and wrong detections.

    An image is hard for all of its objects; scores say something about the overlap, not all.
    """
    hard_N = rng.normal(0, 1.0, num)
    count_NK = rng.poisson(np.array([4.2, 2.1, 0.7]), (num, 3))
    image_O, class_O = (
        np.repeat(index.ravel(), count_NK.ravel()) for index in np.indices((num, 3))
    )
    quality = 6.5 + 1.5 * hard_N[image_O] - class_O + rng.normal(0, 2.5, len(image_O))
    quality = np.clip(np.round(quality), 0, 10).astype(int)  # thresholds passed
    found = quality > 0
    wrong = rng.poisson(3, num).sum()
    image_D = np.concatenate([image_O[found], rng.integers(num, size=wrong)])
    class_D = np.concatenate([class_O[found], rng.integers(3, size=wrong)])
    passed_D = np.concatenate([quality[found], np.zeros(wrong, int)])
    score_D = 0.3 * passed_D + rng.normal(0, 1, len(image_D))
    order = np.lexsort((image_D, -score_D, class_D))
    matched_DT = (passed_D[:, None] > np.arange(10))[order]
    ignored = np.zeros((len(order), 4, 10), bool)
    ignored[:, [1, 3]] = True  # all objects are of medium size
    image_G, class_G = np.nonzero(count_NK)
    objects_G = count_NK[image_G, class_G]
    none_G = np.zeros_like(objects_G)
    return DetectionEvidence(
        image_ids=[f"i{n:05d}" for n in range(num)],
        classes=("a", "b", "c"),
        image_D=image_D[order],
        class_D=class_D[order],
        score_D=score_D[order],
        matched_DAT=np.repeat(matched_DT[:, None], 4, axis=1),
        ignored_DAT=ignored,
        gt_image_G=image_G,
        gt_class_G=class_G,
        gt_count_GA=np.stack([objects_G, none_G, objects_G, none_G], axis=1),
    )


def label_maps(rng: np.random.Generator, num: int, classes: int, zipf: float, models: int = 1):
    """Areas of about 9 of 150 classes an image, or 4 of 20; the k-th as frequent as 1 / k^zipf.

    Part of each region is given to other classes, common ones first. Returns one evidence for each
    model, all of the same images.
    """
    weight_K = 1 / np.arange(1, classes + 1) ** zipf
    share_K = np.minimum(1, weight_K * (9 if classes > 50 else 4) / weight_K.sum())
    there_NK = rng.random((num, classes)) < share_K
    there_NK[:, 0] |= ~there_NK.any(axis=1)
    image_G, class_G = np.nonzero(there_NK)
    target_G = rng.gamma(0.7, 3000, len(image_G)).astype(np.int64) + 1
    target_NK = np.zeros((num, classes), np.int64)
    target_NK[image_G, class_G] = target_G
    easy_K, easy_N = rng_of_population(classes).normal(0, 0.8, classes), rng.normal(0, 0.7, num)
    found = []
    for _ in range(models):
        level = 1.2 + easy_K[class_G] + easy_N[image_G] + rng.normal(0, 0.8, len(image_G))
        right_G = rng.binomial(target_G, 1 / (1 + np.exp(-level)))
        intersection_NK = np.zeros_like(target_NK)
        intersection_NK[image_G, class_G] = right_G
        prediction_NK = intersection_NK.copy()
        taken = rng.choice(classes, len(image_G), p=weight_K / weight_K.sum())
        np.add.at(prediction_NK, (image_G, taken), target_G - right_G)
        found.append(
            SegmentationEvidence(
                image_ids=[f"i{n:05d}" for n in range(num)],
                classes=[f"c{k}" for k in range(classes)],
                intersection_NK=intersection_NK,
                prediction_NK=prediction_NK,
                target_NK=target_NK,
            )
        )
    return found


def rng_of_population(classes: int) -> np.random.Generator:
    """What is the same in every test set: how hard each class is."""
    return np.random.default_rng([7, classes])


def trained(
    rng: np.random.Generator,
    num: int,
    seeds: tuple[int, ...],
    seed_sd: float = 0.06,
    gaps: tuple[float, ...] = (),
    unsteady: float = 1.0,
) -> dict:
    """Per-image errors of encoders, each trained with so many seeds; lower is better.

    Images are hard for all (sd 1), for an encoder (0.5), and for a seed (0.5); besides, a seed is
    better or worse as a whole (`seed_sd`; the first encoder: so many times as much). The mean of
    an encoder is 3 plus its gap.
    """
    names = [f"i{n:05d}" for n in range(num)]
    hard_N = 3 + rng.normal(0, 1.0, num)
    encoders = {}
    for e, count in enumerate(seeds):
        own_N = hard_N + rng.normal(0, 0.5, num) + (gaps[e] if gaps else 0.0)
        spread = seed_sd * (unsteady if e == 0 else 1.0)
        encoders[f"encoder{e}"] = [
            DepthEvidence(
                image_ids=names,
                metric_names=("rmse",),
                values_NM=(own_N + rng.normal(0, 0.5, num) + rng.normal(0, spread))[:, None],
            )
            for _ in range(count)
        ]
    return encoders
