"""A person's own images and label maps: the data set, and what is told of them before a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmseg.registry import DATASETS

from pe_dense.data.checks.own_parts import Part, read_list
from pe_dense.data.checks.rules import CheckedData
from pe_dense.data.own_schedule import plan_in_words
from pe_dense.segmentation import map_check
from pe_dense.segmentation.label_map_data import PairedFiles


@DATASETS.register_module()
class OwnLabelMaps(PairedFiles):
    """Images and dense label maps of a list that `data.checks.own_maps` wrote.

    Args:
        part: 'train' or 'val'.
        ann_file: The list, below `data_root`.
        data_root: Folder of the data.
        **kwargs: Further arguments of mmseg's BaseSegDataset.

    Raises:
        ValueError: If the list cannot be read.
    """

    def __init__(self, *, part: Part, ann_file: str, data_root: str, **kwargs: Any) -> None:
        self.part: Part = part
        super().__init__(ann_file=ann_file, data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """As `PairedFiles`, in the order of the list; the group of an image is its 'sequence'."""
        rows = read_list(Path(self.ann_file), Path(self.data_root), self.part)
        return [
            dict(
                img_path=str(row["image"]),
                seg_map_path=str(row["map"]),
                sequence=row["clip"],
                label_map=self.label_map,
                reduce_zero_label=self.reduce_zero_label,
                num_labels=len(self.metainfo["classes"]),
                seg_fields=[],
            )
            for row in rows
        ]


def check_config(cfg: Mapping[str, Any], splits: Sequence[str]) -> CheckedData:
    """As `map_check.check_config`, with what was found in the folder and the plan above the table.

    Raises:
        ValueError: As there.
    """
    checked = map_check.check_config(cfg, splits)
    plan = plan_in_words(cfg) if "planned_for" in cfg else ""  # none where nothing is trained
    lines = [cfg["found"], checked.table, plan]
    return dataclasses.replace(checked, table="\n".join(filter(None, lines)))
