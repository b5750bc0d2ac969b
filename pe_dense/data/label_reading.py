"""Labels of the data sets that a config names, read without their pictures where possible."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DATASETS

from pe_dense.data.config_datasets import datasets_of

MOST_MAPS = 2_000  # of a training set, evenly spread
_LABELS = ("seg_map_path", "depth_map_path")


def scored_leaf(cfg: Config) -> Mapping[str, Any]:
    """The data set whose scores are reported."""
    leaves = [leaf for _, leaf, held in datasets_of(cfg, ("test",)) if not held]
    if len(leaves) != 1:
        raise ValueError(f"the test data are {len(leaves)} data sets; one is needed")
    return leaves[0]


def built(leaf: Mapping[str, Any], pipeline: list[Any]) -> Any:
    """A data set with other steps than its config has."""
    return DATASETS.build({**copy.deepcopy(dict(leaf)), "pipeline": pipeline, "test_mode": True})


def label_maps(dataset: Any, key: str, most: int | None = None) -> Iterator[np.ndarray]:
    """Label maps (H, W) of a data set, at most so many, evenly spread."""
    step = 1 if most is None else max(1, -(-len(dataset) // most))
    for index in range(0, len(dataset), step):
        yield np.asarray(dataset[index][key])


def say_how_many(dataset: Any, what: str) -> None:
    """One line: of how many maps the means are."""
    used = len(range(0, len(dataset), max(1, -(-len(dataset) // MOST_MAPS))))
    print_log(f"blind baselines from {used:,} of {len(dataset):,} training {what} ...", "current")


def label_files(*datasets: Any) -> list[Path]:
    """The label maps of some data sets."""
    found = []
    for dataset in datasets:
        for index in range(len(dataset)):
            info = dataset.get_data_info(index)
            found += [Path(info[key]) for key in _LABELS if info.get(key)]
    return found


def items_sha256(cfg: Config) -> str:
    """Hash of all that the training and the scored data sets list.

    A list file or a folder may name other items later, while none of the files that were read for
    an answer changes.
    """
    sets = [built(leaf, []) for _, leaf, _ in datasets_of(cfg, ("train", "test"))]
    return infos_sha256(s.get_data_info(index) for s in sets for index in range(len(s)))


def infos_sha256(infos: Iterable[Mapping[str, Any]]) -> str:
    """Hash of what data sets say of their items."""
    digest = hashlib.sha256()
    for info in infos:
        digest.update(json.dumps(info, default=str, sort_keys=True).encode())
    return digest.hexdigest()


def label_steps(leaf: Mapping[str, Any]) -> list[Any]:
    """The steps of a pipeline that read labels, also inside others; the picture is not opened."""
    found: list[Any] = []

    def look(value: Any) -> None:
        if isinstance(value, Mapping):
            name = str(value.get("type", ""))
            if name.startswith("Load") and name != "LoadImage":
                found.append(value)
            for part in value.values():
                look(part)
        elif isinstance(value, (list, tuple)):
            for part in value:
                look(part)

    look(leaf["pipeline"])
    return found
