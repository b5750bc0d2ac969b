"""The blind line of a run: what predictors that never see the picture score on its data.

They are made from the labels of the training data, scored as the run is, and remembered beside the
data while no file of labels changes (`remembered`). Of more than `MOST_MAPS` training maps as many
are read, evenly spread; how many is said.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope

import pe_dense
from pe_dense.data.checks.remembered import Answer, remembered
from pe_dense.data.config_datasets import datasets_of

# Folders whose blind.py has `of_config(cfg)`: scores by name, and the files that they depend on;
# and `listed(cfg)`: a hash of which items there are.
TASKS = (
    "detection", "depth", "segmentation", "tracking", "zero_shot", "retrieval", "classification",
)  # fmt: skip
# Of tasks that have none of their own name.
PACKAGES = {"retrieval": "zero_shot", "classification": "probing.classification"}
# What these look up in a config besides its data sets and its evaluator.
SETTINGS = ("classes", "min_depth", "max_depth", "score_crop")


def blind_scores(cfg: Config) -> dict[str, float]:
    """Main metric of each blind predictor, by name; empty where the task has none.

    Args:
        cfg: Resolved config, with the loader of the training data still in it.

    Raises:
        ValueError: If labels cannot be read; whoever scores a model has read those that count.
    """
    init_default_scope(cfg.get("default_scope", "mmengine"))
    if cfg.protocol.task not in TASKS:
        return {}
    package = PACKAGES.get(cfg.protocol.task, cfg.protocol.task)
    task = importlib.import_module(f"pe_dense.{package}.blind")
    question = _plain(
        {
            "task": cfg.protocol.task,
            "metric": cfg.protocol.metric,
            "items": task.listed(cfg),
            "code": _code_sha256(package),
            "settings": {name: cfg.get(name) for name in SETTINGS},
            "evaluator": cfg.test_evaluator,
            "train": [leaf for _, leaf, _ in datasets_of(cfg, ("train",))],
            "test": [leaf for _, leaf, held in datasets_of(cfg, ("test",)) if not held],
        }
    )
    root = Path(str(cfg.get("data_root") or "."))
    return remembered(root, question, functools.partial(_found, task.of_config, cfg))


@functools.lru_cache
def _code_sha256(task: str) -> str:
    """Hash of the code that predicts and scores, which an answer depends on."""
    package, digest = Path(pe_dense.__file__).parent, hashlib.sha256()
    for folder in (task, "pixelwise", "results"):
        for file in sorted(package.joinpath(*folder.split(".")).glob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _found(maker: Any, cfg: Config) -> Answer:
    scores, read = maker(cfg)
    return Answer(scores, read)


def _plain(value: Any) -> Any:
    """What JSON can hold; anything else as its text."""
    return json.loads(json.dumps(value, default=str, sort_keys=True))
