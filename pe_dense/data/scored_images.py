"""The images that a config is scored on, and others, run through its model one at a time."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import Compose
from mmengine.registry import DATASETS
from mmengine.structures import BaseDataElement

from pe_dense.data.image_files import spread


class ScoredImages:
    """Images by file, loaded as the config tests.

    Args:
        dataset: The data set of a resolved config.
        annotation_step: Type of the transform that loads annotations; left out for images that
            have none.
        annotation_path: Where a sample names its annotation file.
    """

    def __init__(
        self, dataset: Mapping[str, Any], annotation_step: str, annotation_path: str
    ) -> None:
        steps = [step for step in dataset["pipeline"] if step["type"] != annotation_step]
        self.load_alone = Compose(steps)
        self.dataset = DATASETS.build(copy.deepcopy(dataset)) if data_are_there(dataset) else None
        self.files: list[Path] = []
        self.annotated: dict[Path, int] = {}
        for index in range(0 if self.dataset is None else len(self.dataset)):
            sample = self.dataset.get_data_info(index)
            file, annotation = Path(sample["img_path"]), sample.get(annotation_path)
            self.files.append(file)
            if annotation is not None and Path(annotation).is_file():
                self.annotated[file.resolve()] = index

    def spread_files(self, count: int | None) -> list[Path]:
        """So many of the images, evenly spread; all for None.

        Raises:
            ValueError: If there is none.
        """
        if not self.files:
            raise ValueError(
                "the config's test images are not there; pass --cfg-options data_root=DIR, or "
                "name images with --image"
            )
        if count is None:
            return self.files
        return [self.files[i] for i in spread(len(self.files), count)]

    def predict(
        self, model: torch.nn.Module, file: Path
    ) -> tuple[torch.Tensor, BaseDataElement, bool]:
        """Run one image.

        Args:
            model: In eval mode, with `test_step`.
            file: An image; one of the data set comes with its annotation.

        Returns:
            What the pipeline loaded, (3, H, W) BGR; the predicted sample on the CPU; whether it
            has an annotation.

        Raises:
            ValueError: If the image is missing or cannot be decoded.
        """
        index = self.annotated.get(file.resolve())
        if index is None:
            loaded = self.load_alone({"img_path": str(file), "seg_fields": []})
        else:
            loaded = self.dataset[index]
        batch = {"inputs": [loaded["inputs"]], "data_samples": [loaded["data_samples"]]}
        with torch.no_grad():
            sample = model.test_step(batch)[0].cpu()
        return loaded["inputs"], sample, index is not None


def data_are_there(dataset: Mapping[str, Any]) -> bool:
    """Whether the folder of images, and the list if the data set has one, exist."""
    root = Path(dataset.get("data_root") or "")
    folder, listed = dataset.get("data_prefix", {}).get("img_path", ""), dataset.get("ann_file", "")
    return (root / folder).is_dir() and (not listed or (root / listed).is_file())
