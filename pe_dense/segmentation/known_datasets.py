"""What mmseg knows of published data sets: their classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pe_dense.data.checks.rules import CheckedData
from pe_dense.data.config_datasets import published_classes, require_published_classes
from pe_dense.segmentation import map_check


def facts(names: Mapping[str, Any]) -> dict[str, Any]:
    """Classes of the data set that a config names in `dataset_type`; see `published_classes`."""
    from mmseg import datasets  # noqa: F401 (registers them)
    from mmseg.registry import DATASETS

    remedy = (
        "use ADE20KDataset, PascalVOCDataset or CityscapesDataset, or BaseSegDataset with "
        "metainfo=dict(classes=...) in a config without data_facts"
    )
    return published_classes(DATASETS, names["dataset_type"], "mmseg", remedy)


def check_config(cfg: Mapping[str, Any], splits: Sequence[str]) -> CheckedData:
    """As `map_check.check_config`, for configs whose data sets bring their own classes.

    Raises:
        ValueError: Also if `classes` was set to others, which the data sets would not see.
    """
    require_published_classes(
        cfg,
        facts(cfg)["classes"],
        "type='BaseSegDataset', metainfo=dict(classes='$classes') and data_check="
        "'pe_dense.segmentation.map_check:check_config'",
    )
    return map_check.check_config(cfg, splits)
