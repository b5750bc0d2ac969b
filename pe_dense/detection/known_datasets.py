"""What mmdet knows of published data sets: their classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pe_dense.detection import coco_check


def facts(names: Mapping[str, Any]) -> dict[str, Any]:
    """Classes of the data set that a config names in `dataset_type`.

    Args:
        names: Top-level names of the config.

    Returns:
        `classes`, in the order of labels, and `num_classes`.

    Raises:
        ValueError: If mmdet has no such data set, or does not know its classes.
    """
    from mmdet.registry import DATASETS
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    dataset = DATASETS.get(names["dataset_type"])
    classes = getattr(dataset, "METAINFO", {}).get("classes")
    if not classes:
        raise ValueError(
            f"dataset_type={names['dataset_type']!r} is no data set of known classes in mmdet; "
            "use CocoDataset, LvisDataset or Objects365V2Dataset, or a config for own data"
        )
    return {"classes": list(classes), "num_classes": len(classes)}


def check_config(cfg: Mapping[str, Any], splits: Sequence[str]) -> str:
    """As `coco_check.check_config`, for configs whose data sets bring their own classes.

    Raises:
        ValueError: Also if `classes` was set to others, which the data sets would not see.
    """
    known = facts(cfg)["classes"]
    if list(cfg["classes"]) != known:
        raise ValueError(
            f"classes was set to {len(cfg['classes'])} names, but {cfg['dataset_type']} reads its "
            f"own {len(known)}; for other data inherit from the config and give each data set "
            "metainfo=dict(classes='$classes') and data_check="
            "'pe_dense.detection.coco_check:check_config'"
        )
    return coco_check.check_config(cfg, splits)
