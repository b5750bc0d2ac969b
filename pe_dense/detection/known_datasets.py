"""What mmdet knows of published data sets: their classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pe_dense.data.checks.rules import CheckedData
from pe_dense.data.config_datasets import published_classes, require_published_classes
from pe_dense.detection import coco_check


def facts(names: Mapping[str, Any]) -> dict[str, Any]:
    """Classes of the data set that a config names in `dataset_type`; see `published_classes`."""
    from mmdet.registry import DATASETS
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    remedy = "use CocoDataset, LvisDataset or Objects365V2Dataset, or a config for own data"
    return published_classes(DATASETS, names["dataset_type"], "mmdet", remedy)


def check_config(cfg: Mapping[str, Any], splits: Sequence[str]) -> CheckedData:
    """As `coco_check.check_config`, for configs whose data sets bring their own classes.

    Raises:
        ValueError: Also if `classes` was set to others, which the data sets would not see.
    """
    require_published_classes(
        cfg,
        facts(cfg)["classes"],
        "metainfo=dict(classes='$classes') and data_check="
        "'pe_dense.detection.coco_check:check_config'",
    )
    return coco_check.check_config(cfg, splits)
