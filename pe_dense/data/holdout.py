"""A fixed part of a training set, held out by a hash of file names, or of sequences."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

HoldoutPart = Literal["train", "holdout"]


def is_held_out(path: str, share: float = 0.1) -> bool:
    """Whether an image belongs to the holdout: a pure function of its file name.

    Folders do not enter, so that the split is the same on every machine, and neither do the other
    images, so that it is the same for a subset of them.

    Example:
        >>> [is_held_out(f"images/{i}.jpg", share=0.5) for i in range(4)]
        [True, True, False, False]
    """
    name = path.replace("\\", "/").rpartition("/")[2]
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def split_indices(paths: Sequence[str], share: float = 0.1) -> tuple[list[int], list[int]]:
    """Indices to train on and held-out indices, both rising.

    Raises:
        ValueError: If the share is not between 0 and 1, or a part would be empty.
    """
    if not 0 < share < 1:
        raise ValueError(f"holdout share {share} is not between 0 and 1; use 0.1")
    held = [is_held_out(path, share) for path in paths]
    train = [i for i, out in enumerate(held) if not out]
    holdout = [i for i, out in enumerate(held) if out]
    if not train or not holdout:
        raise ValueError(
            f"a holdout share of {share} leaves {len(train)} of {len(paths)} images to train on "
            f"and {len(holdout)} to select with; use more images or another holdout_share"
        )
    return train, holdout


@DATASETS.register_module()
class HoldoutSubset:
    """One part of a training set; samples of the holdout say so in `probe_split`.

    Args:
        dataset: Config of a training set, or the set; its samples have `data_samples`. Where its
            list names a `sequence` for an image, whole sequences are held out.
        part: 'train' or 'holdout'.
        share: Expected share of the holdout.
        lazy_init: As in MMEngine's wrappers.

    Raises:
        ValueError: As `split_indices`, or for another part.
    """

    def __init__(
        self,
        dataset: Mapping[str, Any] | BaseDataset,
        part: HoldoutPart,
        share: float = 0.1,
        lazy_init: bool = False,
    ) -> None:
        if part not in get_args(HoldoutPart):
            raise ValueError(f"part {part!r} is not known; use one of {get_args(HoldoutPart)}")
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
        self.part, self.share = part, share
        self.indices: list[int] = []
        self._fully_initialized = False
        if not lazy_init:
            self.full_init()

    @property
    def metainfo(self) -> dict[str, Any]:
        """That of the whole set."""
        return copy.deepcopy(self.dataset.metainfo)

    def full_init(self) -> None:
        """Read the list of images and split it."""
        if self._fully_initialized:
            return
        self.dataset.full_init()
        infos = [self.dataset.get_data_info(i) for i in range(len(self.dataset))]
        # Frames of one sequence look alike: in both parts, they would choose what memorises best.
        names = [info.get("sequence") or info["img_path"] for info in infos]
        train, holdout = split_indices(names, self.share)
        self.indices = train if self.part == "train" else holdout
        self._fully_initialized = True

    def get_data_info(self, index: int) -> dict[str, Any]:
        """Annotation of one image of this part."""
        self.full_init()
        return self.dataset.get_data_info(self.indices[index])

    def __len__(self) -> int:
        """Number of images of this part."""
        self.full_init()
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        """One sample, marked where it belongs to the holdout."""
        self.full_init()
        sample = self.dataset[self.indices[index]]
        if self.part == "holdout":
            sample["data_samples"].set_metainfo({"probe_split": "holdout"})
        return sample
