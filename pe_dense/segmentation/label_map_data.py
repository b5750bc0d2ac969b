"""mmseg's data sets and label maps, read as `pe_dense.data` says.

These take the names of mmseg's parts in its registry: configs name them, and their hashes stand in
records. mmseg itself passes over images whose suffix differs in case, and casts every map to 8 bits
whatever it holds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mmengine import fileio
from mmseg import datasets
from mmseg.datasets import transforms
from mmseg.registry import DATASETS, TRANSFORMS

from pe_dense.data.checks.picture_pairs import pair_files
from pe_dense.data.checks.rules import Finding
from pe_dense.data.image_groups import cityscapes_city
from pe_dense.data.label_map import (
    IGNORED,
    decode_labels,
    require_labels,
    require_map_size,
    unreadable_map,
)


class PairedFiles(datasets.BaseSegDataset):
    """Images with a label map, by `pair_files`.

    Attributes:
        pair_findings: What is left over or missing; set when the list is made.
    """

    pair_findings: tuple[Finding, ...] = ()

    def sequence_of(self, image: str) -> str | None:
        """What an image shows together with others of the set; None where nothing is known."""
        return None

    def load_data_list(self) -> list[dict[str, Any]]:
        """As mmseg's, with `sequence_of` as 'sequence', and 'num_labels'.

        The latter are the labels that mean a class, some of which may be chosen.
        """
        if self.data_prefix.get("seg_map_path") is None or self.backend_args:
            return super().load_data_list()
        pairs = pair_files(
            Path(self.data_prefix["img_path"]),
            Path(self.data_prefix["seg_map_path"]),
            (self.img_suffix, self.seg_map_suffix),
            Path(self.ann_file) if self.ann_file else None,
        )
        self.pair_findings = pairs.findings
        classes = self.metainfo["classes"] if self.label_map is None else self.METAINFO["classes"]
        return [
            dict(
                img_path=str(image),
                seg_map_path=str(label),
                sequence=self.sequence_of(str(image)),
                label_map=self.label_map,
                reduce_zero_label=self.reduce_zero_label,
                num_labels=len(classes),
                seg_fields=[],
            )
            for image, label in pairs.files
        ]


@DATASETS.register_module(force=True)
class BaseSegDataset(PairedFiles):
    """mmseg's, with `PairedFiles`."""


@DATASETS.register_module(force=True)
class ADE20KDataset(PairedFiles, datasets.ADE20KDataset):
    """mmseg's, with `PairedFiles`."""


@DATASETS.register_module(force=True)
class PascalVOCDataset(PairedFiles, datasets.PascalVOCDataset):
    """mmseg's, with `PairedFiles`."""


@DATASETS.register_module(force=True)
class CityscapesDataset(PairedFiles, datasets.CityscapesDataset):
    """mmseg's, with `PairedFiles`; frames of one city look alike."""

    def sequence_of(self, image: str) -> str | None:
        """The city, see `cityscapes_city`."""
        return cityscapes_city(image)


@TRANSFORMS.register_module(force=True)
class LoadAnnotations(transforms.LoadAnnotations):
    """mmseg's, but size and labels are compared before anything is cast.

    Raises:
        UnsoundError: As `decode_labels`, `require_map_size` and `require_labels`.
        ValueError: If it is given another `reduce_zero_label` than the data set.
    """

    def _load_seg_map(self, results: dict) -> None:
        path, reduces = results["seg_map_path"], results["reduce_zero_label"]
        if self.reduce_zero_label not in (None, reduces):
            raise ValueError(
                f"LoadAnnotations has reduce_zero_label={self.reduce_zero_label} but the data set "
                f"of {path} has {reduces}; give it to the data set alone"
            )
        try:
            content = fileio.get(path, backend_args=self.backend_args)
        except OSError as error:
            raise unreadable_map(path, error) from error
        labels_HW = decode_labels(content, path)
        if "ori_shape" in results:
            require_map_size(path, labels_HW, tuple(results["ori_shape"][:2]))
        if "num_labels" in results:
            require_labels(path, labels_HW, range(results["num_labels"] + int(reduces)))
        classes_L = np.arange(256, dtype=np.uint8)  # of each label
        if reduces:
            classes_L = np.append(np.uint8(IGNORED), classes_L[:-1])
            classes_L[IGNORED] = IGNORED
        if results.get("label_map") is not None:
            chosen = dict(results["label_map"])
            classes_L = np.array([chosen.get(int(k), k) for k in classes_L], np.uint8)
        results["gt_seg_map"] = classes_L[labels_HW]
        results["seg_fields"].append("gt_seg_map")
