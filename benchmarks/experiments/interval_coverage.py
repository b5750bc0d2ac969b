"""How often 95 % intervals hold the truth, equal encoders stand together, and gaps are found.

    python benchmarks/experiments/interval_coverage.py            # about 15 minutes on one core
    python benchmarks/experiments/interval_coverage.py --only groups --trials 200

Test sets are drawn from made-up populations of the size and kind of real ones, scored through the
evidence classes, and given intervals, differences and groups by `pe_dense.results`, as records and
pages get them. Truth is the mean over test sets of that size; for intervals of one score, the share
that holds the score on endless data stands beside it (AP and mIoU depend on the size of the set).

Writes interval_coverage.csv and .md beside this file. A row passes between 92 and 98 %, or carries
the mark that the row of a table would carry. A killed run goes on where it was: finished blocks of
trials lie in --work-dir; every trial has a seed of its own, so that it does not matter when it ran.

`--package DIR` measures the code in another checkout, for what was before; its rows replace only
those of its own label.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
BLOCK = 25
COLUMNS = (
    "code", "kind", "case", "seeds", "asked", "share", "endless", "marks", "verdict", "trials",
    "resamples", "seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        kind: 'interval', 'difference', 'combined', 'groups' or 'power'.
        case: What the test set is.
        seeds: Of each encoder; 0 where there are none.
        asked: What share is counted.
        trial: Function of a random generator and a seed of the draws -> (held, held on endless
            data or None, marks).
        trials, resamples: How many.
    """

    kind: str
    case: str
    seeds: str
    asked: str
    trial: Callable[[np.random.Generator, int, int], tuple[bool, bool | None, tuple[str, ...]]]
    trials: int = 1000
    resamples: int = 1000

    @property
    def key(self) -> str:
        """Name of the row, for files and messages."""
        return f"{self.kind} | {self.case} | {self.seeds} | {self.asked}"


# ---- populations -----------------------------------------------------------------------------


def videos(rng: np.random.Generator, num: int, gain: float = 0.0):
    """J and F of 1 to 6 objects in each video; a video and an object have a level of their own."""
    from pe_dense.results.evidence import VideoObjectEvidence

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
    import dataclasses

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
    from pe_dense.results.detection_evidence import DetectionEvidence

    hard_N = rng.normal(0, 1.0, num)
    count_NK = rng.poisson(np.array([4.2, 2.1, 0.7]), (num, 3))
    image_O, class_O = (np.repeat(index.ravel(), count_NK.ravel()) for index in np.indices((num, 3)))
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
    """Areas of about 9 classes an image, the k-th as frequent as 1 / k^zipf, for equal models.

    Part of each region is given to other classes, common ones first. Returns one evidence for each
    model, all of the same images.
    """
    from pe_dense.results.evidence import SegmentationEvidence

    weight_K = 1 / np.arange(1, classes + 1) ** zipf
    share_K = np.minimum(1, weight_K * min(9, classes / 2) / weight_K.sum())
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
) -> dict:
    """Per-image errors of encoders, each trained with so many seeds; lower is better.

    Images are hard for all (sd 1), for an encoder (0.5), and for a seed (0.5); besides, a seed is
    better or worse as a whole (`seed_sd`). The mean of an encoder is 3 plus its gap.
    """
    from pe_dense.results.evidence import DepthEvidence

    names = [f"i{n:05d}" for n in range(num)]
    hard_N = 3 + rng.normal(0, 1.0, num)
    encoders = {}
    for e, count in enumerate(seeds):
        own_N = hard_N + rng.normal(0, 0.5, num) + (gaps[e] if gaps else 0.0)
        encoders[f"encoder{e}"] = [
            DepthEvidence(
                image_ids=names,
                metric_names=("rmse",),
                values_NM=(own_N + rng.normal(0, 0.5, num) + rng.normal(0, seed_sd))[:, None],
            )
            for _ in range(count)
        ]
    return encoders


# ---- trials ----------------------------------------------------------------------------------


def held(found, truth: float) -> bool:
    """Whether the interval holds it."""
    return bool(found.low <= truth <= found.high)


def words(found) -> tuple[str, ...]:
    """Marks of a result; none from code that knew of none."""
    try:
        from pe_dense.results.interval_marks import marks_in_words
    except ImportError:
        return ("fewer than 20 units",) if found.few_units else ()
    return marks_in_words(found.unit, found.num_units, found.thin_classes)


class Truth:
    """Mean score of test sets of this size, and of endless data; drawn once, when first asked."""

    def __init__(self, draw: Callable, metric: str, num: int, sets: int, endless: int) -> None:
        self.draw, self.metric, self.num = draw, metric, num
        self.sets, self.endless = sets, endless
        self._found: tuple[float, float] | None = None

    def __call__(self) -> tuple[float, float]:
        if self._found is None:
            rng = np.random.default_rng([99, self.num])
            scores = [self.score(rng, self.num) for _ in range(self.sets)]
            self._found = float(np.mean(scores)), self.score(rng, self.endless)
        return self._found

    def score(self, rng: np.random.Generator, num: int) -> float:
        return self.draw(rng, num).metrics(None, [self.metric])[self.metric]


def interval_case(
    name: str, draw: Callable, metric: str, num: int, sets: int, endless: int, **options
) -> Case:
    """Coverage of the interval of one score."""
    unit = options.pop("unit", None)
    truth = Truth(draw, metric, num, sets, endless)

    def trial(rng, seed, resamples):
        from pe_dense.results.statistics import interval

        found = interval(draw(rng, num), metric, resamples, seed, unit)
        of_size, of_all = truth()
        return held(found, of_size), held(found, of_all), words(found)

    return Case("interval", name, "-", "holds the truth", trial, **options)


def difference_case(name: str, pair: Callable, metric: str, **options) -> Case:
    """Share of equal models that are not significantly different."""

    def trial(rng, seed, resamples):
        from pe_dense.results.statistics import paired_difference

        found = paired_difference(*pair(rng), metric, resamples, seed)
        return found.p_value >= 0.05, None, words(found)

    return Case("difference", name, "-", "equal models are not told apart", trial, **options)


def combined_case(name: str, seeds: tuple[int, ...], num: int, **options) -> Case:
    """Coverage of the interval of the first encoder's mean, for other images and seeds."""

    def trial(rng, seed, resamples):
        from pe_dense.results import statistics

        encoders = trained(rng, num, seeds)
        if hasattr(statistics, "combined_intervals"):
            all_found = statistics.combined_intervals(encoders, "rmse", resamples, seed)
            found = all_found["encoder0"]
        else:
            found = statistics.combined_interval(encoders["encoder0"], "rmse", resamples, seed)
        marks = words(found)
        if getattr(found, "compares", "encoders") == "checkpoints":
            marks += ("compares checkpoints",)
        return held(found, 3.0), None, marks

    return Case("combined", name, described(seeds), "holds the encoder's mean", trial, **options)


def groups_case(
    name: str, seeds: tuple[int, ...], num: int, seed_sd: float = 0.06, **options
) -> Case:
    """Share of trials in which equal encoders are all in group 1."""

    def trial(rng, seed, resamples):
        from pe_dense.results.rank_groups import rank_groups

        ranks = rank_groups(trained(rng, num, seeds, seed_sd), "rmse", False, 0.95, resamples, seed)
        marks = ("fewer than 30 images",) if ranks[0].few_units else ()
        if getattr(ranks[0], "compares", "encoders") == "checkpoints":
            marks += ("compares checkpoints",)
        return all(rank.group == 1 for rank in ranks), None, marks

    asked = "equal encoders share group 1"
    return Case("groups", name, described(seeds), asked, trial, resamples=400, **options)


def power_case(name: str, seeds: tuple[int, ...], num: int, gap_sd: float, **options) -> Case:
    """Share of trials in which the one encoder that is worse is not in group 1."""

    def trial(rng, seed, resamples):
        from pe_dense.results.rank_groups import rank_groups

        gaps = (gap_sd * 0.06, *[0.0] * (len(seeds) - 1))
        ranks = rank_groups(
            trained(rng, num, seeds, gaps=gaps), "rmse", False, 0.95, resamples, seed
        )
        group = {rank.name: rank.group for rank in ranks}
        return group["encoder0"] > 1, None, ()

    asked = f"a gap of {gap_sd:g} seed-SDs is found"
    return Case("power", name, described(seeds), asked, trial, resamples=400, **options)


def described(seeds: tuple[int, ...]) -> str:
    """'3' or '1, others 3'."""
    if len(set(seeds)) == 1:
        return str(seeds[0])
    return f"{seeds[0]}, others {seeds[1]}"


def maps(classes: int, zipf: float) -> Callable:
    return lambda rng, num: label_maps(rng, num, classes, zipf)[0]


def cases() -> list[Case]:
    """All rows, in the order of the table."""
    rows = [
        interval_case(f"J&F, {n} videos", videos, "J&F", n, 20_000, 200_000) for n in (30, 12, 4)
    ]
    rows += [
        interval_case(f"AP, {n} images", detector, "AP", n, 4000, 50_000, resamples=400)
        for n in (50, 20)
    ]
    rows += [
        interval_case(
            "mIoU, 2,000 images, 150 classes, Zipf 1", maps(150, 1.0), "mIoU", 2000, 1000, 100_000,
            resamples=300,
        ),
        interval_case(
            "mIoU, 100 images, 20 classes, Zipf 1", maps(20, 1.0), "mIoU", 100, 4000, 100_000
        ),
        interval_case(
            "mIoU, 100 images, 20 classes, Zipf 0.5", maps(20, 0.5), "mIoU", 100, 4000, 100_000
        ),
        difference_case("J&F, 30 videos", two_of_videos(30), "J&F"),
        difference_case("J&F, 4 videos", two_of_videos(4), "J&F"),
        difference_case(
            "mIoU, 100 images, 20 classes, Zipf 1", lambda rng: label_maps(rng, 100, 20, 1.0, 2),
            "mIoU",
        ),
        difference_case(
            "mIoU, 2,000 images, 150 classes, Zipf 1",
            lambda rng: label_maps(rng, 2000, 150, 1.0, 2), "mIoU", resamples=300, trials=500,
        ),
    ]  # fmt: skip
    rows += [combined_case("100 images, one encoder", (s,), 100) for s in (1, 2, 3)]
    rows += [combined_case("100 images, six encoders", s, 100) for s in ((1, 3, 3, 3, 3, 3), (2,) * 6, (3,) * 6)]
    rows += [
        groups_case(f"{num} images, {n} encoders", (s,) * n, num)
        for num in (300, 30, 12)
        for n in (2, 6)
        for s in (1, 2, 3)
    ]
    rows += [
        groups_case("300 images, 6 encoders, no spread between seeds", (s,) * 6, 300, 0.0)
        for s in (1, 3)
    ]
    rows += [
        power_case(f"300 images, {n} encoders", (s,) * n, 300, gap)
        for n in (2, 6)
        for s in (2, 3)
        for gap in (3, 6)
    ]
    return rows


def two_of_videos(num: int) -> Callable:
    def pair(rng):
        evidence = videos(rng, num)
        return same_videos(rng, evidence), same_videos(rng, evidence)

    return pair
