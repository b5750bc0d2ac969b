"""What mmseg knows of published data sets: their classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pe_dense.segmentation import map_check


def facts(names: Mapping[str, Any]) -> dict[str, Any]:
    """Classes of the data set that a config names in `dataset_type`.

    Args:
        names: Top-level names of the config.

    Returns:
        `classes`, in the order of labels, and `num_classes`.

    Raises:
        ValueError: If mmseg has no such data set, or does not know its classes.
    """
    from mmseg import datasets  # noqa: F401 (registers them)
    from mmseg.registry import DATASETS

    dataset = DATASETS.get(names["dataset_type"])
    classes = getattr(dataset, "METAINFO", {}).get("classes")
    if not classes:
        raise ValueError(
            f"dataset_type={names['dataset_type']!r} is no data set of known classes in mmseg; "
            "use ADE20KDataset, PascalVOCDataset or CityscapesDataset, or BaseSegDataset with "
            "metainfo=dict(classes=...) in a config without data_facts"
        )
    return {"classes": list(classes), "num_classes": len(classes)}


def check_config(cfg: Mapping[str, Any], splits: Sequence[str]) -> None:
    """As `map_check.check_config`, for configs whose data sets bring their own classes.

    Raises:
        ValueError: Also if `classes` was set to others, which the data sets would not see.
    """
    known = facts(cfg)["classes"]
    if list(cfg["classes"]) != known:
        raise ValueError(
            f"classes was set to {len(cfg['classes'])} names, but {cfg['dataset_type']} reads its "
            f"own {len(known)}; for other data inherit from the config and give each data set "
            "type='BaseSegDataset', metainfo=dict(classes='$classes') and data_check="
            "'pe_dense.segmentation.map_check:check_config'"
        )
    map_check.check_config(cfg, splits)
