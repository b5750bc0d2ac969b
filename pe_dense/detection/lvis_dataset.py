"""LVIS v1 as a data set of mmdet, read without the lvis package."""

from __future__ import annotations

from mmdet.datasets import LVISV1Dataset
from mmdet.registry import DATASETS

from pe_dense.data.checks.coco_file import lvis_name
from pe_dense.detection.coco_dataset import CocoDataset

# mmdet corrects a spelling of the annotation files; classes are found there by name.
AS_IN_THE_FILES = {"speaker_(stereo_equipment)": "speaker_(stero_equipment)"}


@DATASETS.register_module()
class LvisDataset(CocoDataset):
    """LVIS v1: images by their address in COCO 2017, 1,203 classes as the files spell them.

    Takes the arguments of mmdet's CocoDataset; `data_prefix` names the folder that holds
    train2017 and val2017, because the images of either split come from both.

    Source: LVIS, arXiv:1908.03195; names as in detectron2 @ 02b5c4e (lvis_v1_categories), which
    was made from the files. mmdet 3.5.1's LVISV1Dataset needs a package that is not on the main
    path, and spells one class differently.
    """

    METAINFO = {  # noqa: RUF012  (mmdet reads it from the class)
        "classes": tuple(
            AS_IN_THE_FILES.get(name, name) for name in LVISV1Dataset.METAINFO["classes"]
        ),
        "palette": None,
    }

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """As CocoDataset, with the file name that LVIS does not write."""
        image = raw_data_info["raw_img_info"]
        image = {**image, "file_name": lvis_name(image)}
        return super().parse_data_info({**raw_data_info, "raw_img_info": image})
