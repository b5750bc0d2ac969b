"""Classes of pictures without looking at them: by lot, the most frequent, and by height and width.

How large a picture is says something where classes were cut out or collected in different ways; a
probe that is not above that line may have learned no more.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS

from pe_dense.data.config_datasets import datasets_of
from pe_dense.data.image_files import spread
from pe_dense.data.picture_header import picture_headers
from pe_dense.results.named_evidence import ClassificationEvidence

CHANCE = "drawn by lot"
MOST_FREQUENT = "most frequent training class"
BY_SIZE = "most frequent training class of pictures of that height and width"
MOST_READ = 20_000  # training pictures whose size is read, evenly spread
STEPS_AN_OCTAVE = 4  # sides within a quarter of a doubling count as one


def size_key(size_wh: tuple[int, int]) -> tuple[int, int]:
    """Width and height in steps of a quarter of a doubling.

    Example:
        >>> size_key((640, 480)), size_key((639, 481)) == size_key((640, 480))
        ((37, 36), True)
    """
    width, height = (round(STEPS_AN_OCTAVE * math.log2(side)) for side in size_wh)
    return width, height


def by_key(
    train: Sequence[tuple[Hashable, int]], asked: Sequence[Hashable], num_classes: int, kept: int
) -> np.ndarray:
    """(N, kept) classes, the most frequent ones of a key first, then those of all pictures.

    Args:
        train: Key and class of each training picture.
        asked: Keys of N pictures.
        num_classes: K.
        kept: How many answers, at most K.
    """
    overall = Counter(target for _, target in train)
    of_key: dict[Hashable, Counter[int]] = defaultdict(Counter)
    for key, target in train:
        of_key[key][target] += 1
    order: dict[Hashable, list[int]] = {}
    for key in set(asked):
        counts = of_key.get(key, Counter())
        ranking = sorted(range(num_classes), key=lambda k: (-counts[k], -overall[k], k))
        order[key] = ranking[:kept]
    return np.array([order[key] for key in asked], np.int64)


def listed(cfg: Config) -> str:
    """Hash of what is learned and scored: other pictures make another answer."""
    rows = [
        [split, part.get_data_info(i)["image_id"], part.get_data_info(i)["target"]]
        for split, part in _datasets(cfg).items()
        for i in range(len(part))
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def of_config(cfg: Config) -> tuple[dict[str, float], list[Path]]:
    """Scores of the blind predictors of a config; they depend on no file of labels."""
    parts = _datasets(cfg)
    if set(parts) != {"train", "test"}:
        return {}, []
    infos = {
        split: [part.get_data_info(i) for i in range(len(part))] for split, part in parts.items()
    }
    classes, metric = parts["test"].classes, cfg.protocol.metric
    kept = min(5, len(classes))
    targets = [info["target"] for info in infos["test"]]
    chosen = [infos["train"][i] for i in spread(len(infos["train"]), MOST_READ)]
    train = [(key, info["target"]) for key, info in zip(_sizes(chosen), chosen, strict=True)]
    all_train = [((), info["target"]) for info in infos["train"]]
    answers = {
        MOST_FREQUENT: by_key(all_train, [()] * len(targets), len(classes), kept),
        BY_SIZE: by_key(train, _sizes(infos["test"]), len(classes), kept),
    }
    names = [info["image_id"] for info in infos["test"]]
    scores = {CHANCE: (kept if metric == "top5" else 1) / len(classes)}
    for name, top_NJ in answers.items():
        evidence = ClassificationEvidence(
            image_ids=tuple(names),
            classes=tuple(classes),
            target_N=np.array(targets),
            top_NJ=top_NJ,
            score_NJ=np.zeros(top_NJ.shape),
        )
        scores[name] = evidence.metrics(names=[metric])[metric]
    return scores, []


def _sizes(infos: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    headers = picture_headers([info["img_path"] for info in infos])
    for header in headers:
        if isinstance(header, ValueError):
            raise header
    return [size_key(header.size) for header in headers]  # type: ignore[union-attr]


def _datasets(cfg: Config) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for split, leaf, held in datasets_of(cfg, ("train", "test")):
        if not held and split not in found:
            found[split] = DATASETS.build(dict(leaf))
    return found
