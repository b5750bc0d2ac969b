"""Names and captions without the pictures: drawing by lot, and always the same answer.

No training data is there: which class or picture is most frequent is told by the scored set itself,
so that line is higher than what anybody could know.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS

from pe_dense.text_dense.class_vectors import folded

CHANCE = "drawn by lot"
SAME_CLASS = "most frequent class"
SAME_ORDER = "the same order for all queries"


def of_classes(targets: Sequence[int], num_classes: int, metric: str) -> dict[str, float]:
    """'top1', 'top5' or 'mean_class_top1' of predictors that see nothing.

    Example:
        >>> of_classes([0, 0, 0, 1], 4, "top1")
        {'drawn by lot': 0.25, 'most frequent class': 0.75}
    """
    k = min(5 if metric == "top5" else 1, num_classes)
    counts = Counter(targets)
    often = sum(count for _, count in counts.most_common(k)) / len(targets)
    if metric == "mean_class_top1":
        often = 1 / len(counts)
    return {CHANCE: k / num_classes, SAME_CLASS: often}


def of_captions(captions: Sequence[Sequence[str]], metric: str) -> dict[str, float]:
    """'text_to_image_R@5' and the like of predictors that see nothing.

    By lot: of n answers, r of them right, none is among k drawn with probability
    C(n - r, k) / C(n, k). The same order: the k answers that are right most often stand first,
    taken one after the other for what they add.

    Args:
        captions: Of each picture.
        metric: Direction and k.

    Example:
        >>> of_captions([["a", "b"], ["c"]], "text_to_image_R@1")
        {'drawn by lot': 0.5, 'the same order for all queries': 0.6666666666666666}
    """
    direction, _, number = metric.partition("_R@")
    captions = [[folded(text) for text in texts] for texts in captions]
    images_of: dict[str, set[int]] = defaultdict(set)
    for i, texts in enumerate(captions):
        for text in texts:
            images_of[text].add(i)
    flat = [text for texts in captions for text in texts]
    if direction.startswith("text_to_"):
        right, total = [images_of[text] for text in flat], len(captions)
    else:
        places: dict[str, set[int]] = defaultdict(set)
        for t, text in enumerate(flat):
            places[text].add(t)
        right = [set().union(*(places[text] for text in texts)) for texts in captions]
        for texts_right, i in zip(right, range(len(captions)), strict=True):
            assert texts_right, i
        total = len(flat)
    k = min(int(number), total)
    missed = [math.comb(total - len(r), k) / math.comb(total, k) for r in right]
    return {CHANCE: 1 - sum(missed) / len(missed), SAME_ORDER: _same_order(right, k)}


def _same_order(right: Sequence[set[int]], k: int) -> float:
    """Share of queries that k fixed answers serve, the best next one taken k times."""
    open_queries, served = set(range(len(right))), 0
    for _ in range(k):
        counts = Counter(answer for q in open_queries for answer in right[q])
        if not counts:
            break
        best, count = min(counts.items(), key=lambda item: (-item[1], item[0]))
        served += count
        open_queries = {q for q in open_queries if best not in right[q]}
    return served / len(right)


def listed(cfg: Config) -> str:
    """Hash of what is scored: other items make another answer."""
    infos = _infos(cfg)
    rows = [[i["image_id"], i.get("target"), list(i.get("captions", ()))] for i in infos]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def of_config(cfg: Config) -> tuple[dict[str, float], list[Path]]:
    """Scores of the blind predictors of a config, and the files of labels that they depend on."""
    dataset, metric = _dataset(cfg), cfg.protocol.metric
    infos = _infos(cfg)
    if "target" in infos[0]:
        targets = [info["target"] for info in infos]
        return of_classes(targets, len(dataset.classes), metric), []
    return of_captions([info["captions"] for info in infos], metric), [Path(dataset.ann_file)]


def _dataset(cfg: Config) -> Any:
    return DATASETS.build(copy.deepcopy(cfg.test_dataloader.dataset))


def _infos(cfg: Config) -> list[Mapping[str, Any]]:
    dataset = _dataset(cfg)
    return [dataset.get_data_info(index) for index in range(len(dataset))]
