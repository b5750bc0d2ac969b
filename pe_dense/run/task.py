"""Which task a config is for: as its protocol says, or as its evaluator or its model tells."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import METRICS, MODELS, Registry, init_default_scope

from pe_dense.run.launch import is_first_process

TASKS = (
    "detection", "segmentation", "depth", "tracking", "alignment", "zero_shot", "retrieval",
    "classification",
)  # fmt: skip
# Packages of OpenMMLab that are for one task.
_PACKAGES = {"mmdet": "detection", "mmseg": "segmentation"}


def task_of(cfg: Config) -> str:
    """The task of a resolved config.

    Raises:
        ValueError: If neither its protocol nor its parts tell.
    """
    stated = (cfg.get("protocol") or {}).get("task")
    if stated:
        return str(stated)
    init_default_scope(cfg.get("default_scope", "mmengine"))
    parts = ((METRICS, cfg.get("test_evaluator")), (MODELS, cfg.get("model")))
    for registry, part in parts:
        found = _task_of_part(registry, part)
        if found:
            return found
    raise ValueError(
        "the config has no protocol, and neither its test_evaluator nor its model tells the task; "
        f"add protocol = dict(task=...) with one of {', '.join(TASKS)}"
    )


def tell_without_protocol(cfg: Config, config: str) -> None:
    """Say, once, that a config without a protocol is scored without a record.

    Raises:
        ValueError: If its task cannot be told, which drawing and predicting need.
    """
    if not cfg.get("protocol"):
        task = task_of(cfg)
        if is_first_process():
            print_log(
                f"config {config} has no protocol: its scores are printed and enter no record "
                f"(task: {task}, read off its parts)",
                level=logging.WARNING,
            )


def _task_of_part(registry: Registry, part: object) -> str | None:
    """The task of the package that a part of a config is of."""
    if isinstance(part, list | tuple):
        return next(filter(None, (_task_of_part(registry, item) for item in part)), None)
    if not isinstance(part, Mapping):
        return None
    if part.get("task") in TASKS:  # a probe serves several
        return str(part["task"])
    kind = part.get("type")
    found = kind
    if isinstance(kind, str):
        with registry.switch_scope_and_registry(None) as scoped:
            found = scoped.get(kind)
    package, _, rest = getattr(found, "__module__", "").partition(".")
    name = rest.partition(".")[0] if package == "pe_dense" else _PACKAGES.get(package)
    return name if name in TASKS else None
