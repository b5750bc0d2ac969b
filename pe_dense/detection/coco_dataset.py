"""mmdet's data sets of COCO files, with labels by name and the objects that the metric scores.

mmdet numbers labels in the order of each file, so that a validation file with its classes in
another order would be scored under wrong names; and it drops an object with the flag 'ignore',
where the metric ignores it as a crowd. The names of the data sets stay, so that configs say what
they always said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet.datasets import CocoDataset as MMDetCoco
from mmdet.datasets import Objects365V2Dataset as MMDetObjects365
from mmdet.datasets.api_wrappers import COCO
from mmdet.registry import DATASETS

from pe_dense.data.coco_categories import categories_of
from pe_dense.data.coco_objects import is_ignored
from pe_dense.openmmlab.read_once import of_first_process


class ClassesByName(COCO):
    """mmdet's reader, which gives categories in the order in which they are asked for."""

    def __init__(self, annotation_file: str) -> None:
        super().__init__(annotation_file)
        self.ann_file = annotation_file

    def get_cat_ids(self, cat_names: Sequence[str]) -> list[int]:
        """Ids of the categories of these names; where the file does not list one, an unused id.

        Raises:
            ValueError: As `categories_of`.
        """
        used = {annotation["category_id"] for annotation in self.anns.values()}
        found = categories_of(cat_names, list(self.cats.values()), used, self.ann_file)
        unused = min([0, *self.cats]) - 1
        return [
            unused - k if category is None else category["id"] for k, category in enumerate(found)
        ]


class _ScoredObjects:
    """Before one of mmdet's classes: classes by name, what is ignored becomes a crowd."""

    COCOAPI = ClassesByName

    def load_data_list(self) -> list[dict]:
        """As mmdet's, but of several processes the first reads the file."""

        def load() -> tuple[list[dict], dict[str, Any]]:
            before = set(self.__dict__)
            found = super(_ScoredObjects, self).load_data_list()  # type: ignore[misc]
            return found, {name: self.__dict__[name] for name in self.__dict__.keys() - before}

        found, attributes = of_first_process(load)
        self.__dict__.update(attributes)
        return found

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """As mmdet, which passes crowds on as what is to be ignored."""
        annotations = [
            annotation | dict(iscrowd=int(is_ignored(annotation)), ignore=0)
            for annotation in raw_data_info["raw_ann_info"]
        ]
        return super().parse_data_info({**raw_data_info, "raw_ann_info": annotations})  # type: ignore[misc]

    def filter_data(self) -> list[dict]:
        """As mmdet's; `filter_only_ignored` of `filter_cfg` takes out what has crowds alone, too.

        mmdet's `filter_empty_gt` keeps such images. Like that one, this acts in training only.
        """
        found = super().filter_data()  # type: ignore[misc]
        if self.test_mode or not (self.filter_cfg or {}).get("filter_only_ignored", False):  # type: ignore[attr-defined]
            return found
        return [
            image for image in found if not all(item["ignore_flag"] for item in image["instances"])
        ]


@DATASETS.register_module(force=True)
class CocoDataset(_ScoredObjects, MMDetCoco):
    """mmdet's CocoDataset with the labels of `metainfo['classes']`, found by name."""


@DATASETS.register_module(force=True)
class Objects365V2Dataset(_ScoredObjects, MMDetObjects365):
    """mmdet's Objects365V2Dataset, the same way."""
