"""The pictures of classes, whole or divided into two parts; any data set of class folders."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.registry import DATASETS
from mmengine.structures import BaseDataElement

from pe_dense.data.holdout import hold_out
from pe_dense.data.image_files import stamp_of
from pe_dense.data.image_groups import group_names

PARTS = ("all", "train", "val")


def divided(image_ids: Sequence[str], targets: Sequence[int], share: float, seed: int) -> list[str]:
    """'train' or 'val' of every picture, class by class, so that each has pictures in both.

    Which ones is a matter of seed, class and name alone; pictures of one clip are not kept
    together.

    Raises:
        ValueError: If the share is not between 0 and 1, or a class has fewer than two pictures.

    Example:
        >>> divided(["a/0", "a/1", "b/0", "b/1"], [0, 0, 1, 1], 0.5, 0)
        ['train', 'val', 'val', 'train']
    """
    if not 0 < share < 1:
        raise ValueError(f"split={share} is not between 0 and 1; use 0.2")
    of_class: dict[int, list[int]] = defaultdict(list)
    for i, target in enumerate(targets):
        of_class[target].append(i)
    parts = ["train"] * len(image_ids)
    for members in of_class.values():
        if len(members) < 2:
            raise ValueError(
                f"{image_ids[members[0]]} is the only picture of its class, which cannot be both "
                "learned and scored; add pictures, or take the class away"
            )
        wanted = min(max(1, round(share * len(members))), len(members) - 1)
        order = sorted(members, key=lambda i: _digest(f"{seed} {image_ids[i]}"))
        for i in order[:wanted]:
            parts[i] = "val"
    return parts


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()


@DATASETS.register_module()
class ClassImages:
    """One item is a picture, its class, and its place in the list that features are kept for.

    Args:
        images: Config of a data set whose items have img_path, image_id, target and class_folder,
            such as `ClassFolders`.
        part: 'all', or a part of it.
        split: Share of each class that is 'val'; None where the pictures have parts of their own.
        split_seed: Of the division.
        lazy_init: As in MMEngine's wrappers.

    Raises:
        ValueError: If an option is unknown, or as `divided` and the data set.
    """

    def __init__(
        self,
        images: Mapping[str, Any],
        part: str = "all",
        split: float | None = None,
        split_seed: int = 0,
        lazy_init: bool = False,
    ) -> None:
        if part not in PARTS:
            raise ValueError(f"part={part!r} is unknown; choose one of {', '.join(PARTS)}")
        if (split is None) != (part == "all"):
            raise ValueError(
                f"part={part!r} and split={split} do not fit: a part is made by a split, and "
                "without one all pictures count"
            )
        self.images = DATASETS.build(dict(images))
        self.part, self.split, self.split_seed = part, split, split_seed
        self.data_root = getattr(self.images, "data_root", None)
        self.ann_file = ""
        self.indices: list[int] = []
        self._is_ready = False
        if not lazy_init:
            self.full_init()

    @property
    def metainfo(self) -> dict[str, Any]:
        """That of the pictures, with their classes."""
        return {**copy.deepcopy(self.images.metainfo), "classes": tuple(self.images.classes)}

    @property
    def classes(self) -> tuple[str, ...]:
        """Folders of the classes, in the order of targets."""
        return tuple(self.images.classes)

    def full_init(self) -> None:
        """Read the list and divide it."""
        if self._is_ready:
            return
        self.images.full_init()
        every = range(len(self.images))
        self.indices = list(every)
        if self.split is not None:
            infos = [self.images.get_data_info(i) for i in every]
            parts = divided(
                [info["image_id"] for info in infos],
                [info["target"] for info in infos],
                self.split,
                self.split_seed,
            )
            self.indices = [i for i in every if parts[i] == self.part]
        self._is_ready = True

    @functools.cached_property
    def list_sha256(self) -> str:
        """Hash of names, sizes and times of all files of the list, whatever the part."""
        digest = hashlib.sha256()
        for i in range(len(self.images)):
            info = self.images.get_data_info(i)
            row = [info["image_id"], *stamp_of(info["img_path"])]
            digest.update(json.dumps(row).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def get_data_info(self, index: int) -> dict[str, Any]:
        """Entry of one picture of this part; 'row' is its place in the whole list."""
        self.full_init()
        row = self.indices[index]
        return {**self.images.get_data_info(row), "row": row}

    def item(self, index: int) -> dict[str, Any]:
        """The same with what is the same for all of the list."""
        whole = self.images
        return {
            **self.get_data_info(index),
            "num_rows": len(whole),
            "list_sha256": self.list_sha256,
            "as_stored": getattr(whole, "as_stored", True),
            "bits": getattr(whole, "bits", None),
        }

    def targets(self) -> list[int]:
        """Classes of all pictures of this part."""
        return [self.get_data_info(i)["target"] for i in range(len(self))]

    def __len__(self) -> int:
        """Number of pictures of this part."""
        self.full_init()
        return len(self.indices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """An empty tensor, so that collating has one, and a sample with the entry as metainfo."""
        sample = BaseDataElement(metainfo=self.item(index))
        return {"inputs": torch.empty(0), "data_samples": sample}


def held_out_rows(images: ClassImages, share: float, group: str) -> set[int]:
    """Rows of the pictures that `HoldoutSubset` holds out with this share and group."""
    infos = [images.get_data_info(i) for i in range(len(images))]
    held = hold_out(group_names(infos, group, images.data_root), share, group).held
    return {infos[i]["row"] for i in held}
