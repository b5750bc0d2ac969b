"""A person's own images and depth maps: the data set, and what is told of them before a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS

from pe_dense.data.checks.own_parts import Part, read_list
from pe_dense.data.checks.rules import CheckedData
from pe_dense.data.own_schedule import plan_in_words
from pe_dense.depth import depth_check
from pe_dense.depth.depth_datasets import DepthDataset


@DATASETS.register_module()
class OwnDepthMaps(DepthDataset):
    """Images and depth maps of a list that `data.checks.own_depths` wrote.

    Args:
        part: 'train' or 'val'.
        **kwargs: As `DepthDataset`; `ann_file` is the list.

    Raises:
        ValueError: If the list cannot be read.
    """

    def __init__(self, *, part: Part, **kwargs: Any) -> None:
        self.part: Part = part
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """As `DepthDataset`, in the order of the list; the group of an image is its sequence."""
        rows = read_list(Path(self.ann_file), Path(self.data_root), self.part)
        return [
            dict(
                img_path=str(row["image"]),
                depth_map_path=str(row["map"]),
                image_id=row["name"],
                sequence=row["clip"],
                focal=None,
                depth_scale=self.depth_scale,
                bit_rotation=self.bit_rotation,
                seg_fields=[],
            )
            for row in rows
        ]


def check_config(cfg: Mapping[str, Any], splits: Sequence[str]) -> CheckedData:
    """As `depth_check.check_config`, with what was found in the folder and the plan around it.

    Raises:
        ValueError: As there.
    """
    checked = depth_check.check_config(cfg, splits)
    lines = [cfg["found"], checked.table, plan_in_words(cfg)]
    return dataclasses.replace(checked, table="\n".join(filter(None, lines)))
