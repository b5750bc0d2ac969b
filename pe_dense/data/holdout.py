"""A fixed part of a training set, held out to choose layers and learning rates with.

Frames of one drive or scene look alike: with some of them on each side, what memorises best would
be chosen. So whole groups are held out. A group is taken by the sha256 of its name, which neither
folders, machines, the order of the list nor a seed change.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmengine.registry import DATASETS

from pe_dense.data.image_groups import IMAGE, SEQUENCE, group_names

HoldoutPart = Literal["train", "holdout"]
TOLERANCE = 0.1  # of the share that was asked for
LEAST_GROUPS = (4, 3, 2, 1)  # so many are held out at least; the first that can be is used


@dataclass(frozen=True)
class Holdout:
    """A list that was split.

    Attributes:
        train: Indices to train on, rising.
        held: Held-out indices, rising.
        num_groups: Groups of the list; None where every image was tossed for alone.
        num_held_groups: Those that are held out.
        group: The rule that named the groups, as `group_names` takes it.
    """

    train: list[int]
    held: list[int]
    num_groups: int | None = None
    num_held_groups: int | None = None
    group: str | None = None

    @property
    def share(self) -> float:
        """Share of the images that are held out, 0 to 1."""
        return len(self.held) / (len(self.train) + len(self.held))

    def in_words(self) -> str:
        """As logs and records say it: '2,312 of 23,158 training images (9.98 %), ...'."""
        total = len(self.train) + len(self.held)
        images = f"{len(self.held):,} of {total:,} training images ({100 * self.share:.2f} %)"
        alone = self.group == IMAGE or self.num_groups == total
        if self.num_groups is None or alone:
            return f"{images}, each for itself"
        kind = "sequences" if self.group == SEQUENCE else "groups"
        return f"{images}, {self.num_held_groups:,} of {self.num_groups:,} {kind}"


# ---- whole groups --------------------------------------------------------------------------------


def hold_out(groups: Sequence[str], share: float = 0.1, group: str | None = None) -> Holdout:
    """Hold out whole groups until the share of images is met as nearly as they can.

    Groups stand in the order of the sha256 of their names. From the first on, each is taken that
    still fits into the wanted number of images, `share` times all, rounded; then, of those passed
    over, the one that brings the number nearest to it, if that is nearer than without.

    A group must not be larger than a quarter of the wanted number, so that at least four are held
    out and no drive of thousands of frames decides alone. Only where that ends off the share by
    more than `TOLERANCE` of it, a third, a half, and at last any size is allowed.

    Args:
        groups: Name of the group of every image.
        share: Wanted share of the images.
        group: See `Holdout`.

    Raises:
        ValueError: If the share is not between 0 and 1, or whole groups cannot meet it.

    Example:
        >>> hold_out(["a"] * 3 + ["b"] * 3 + ["c", "d", "e", "f"], 0.4).held
        [6, 7, 8, 9]
    """
    _require_share(share)
    sizes = Counter(groups)
    wanted = share * len(groups)
    target = math.floor(wanted + 0.5)
    order = sorted(sizes, key=lambda name: _sha256(name))
    off = max(0.5, TOLERANCE * wanted) + 1e-9
    nearest: list[str] = []
    for least in LEAST_GROUPS:
        largest = target / least if least > 1 else len(groups)
        taken = _fill(order, sizes, target, largest)
        held = sum(sizes[name] for name in taken)
        if 0 < held < len(groups) and abs(held - wanted) <= off:
            chosen = set(taken)
            return Holdout(
                [i for i, name in enumerate(groups) if name not in chosen],
                [i for i, name in enumerate(groups) if name in chosen],
                len(sizes),
                len(taken),
                group,
            )
        if abs(held - wanted) < abs(sum(sizes[name] for name in nearest) - wanted):
            nearest = taken
    raise ValueError(_off_the_share(groups, sizes, share, nearest))


def _fill(order: Sequence[str], sizes: Mapping[str, int], target: int, largest: float) -> list[str]:
    """Names of the groups that `hold_out` takes, none of more than `largest` images."""
    taken, passed, held = [], [], 0
    for name in order:
        if sizes[name] <= largest and held + sizes[name] <= target:
            taken.append(name)
            held += sizes[name]
        elif sizes[name] <= largest:
            passed.append(name)
    last = min(passed, key=lambda name: abs(held + sizes[name] - target), default=None)
    if last is not None and abs(held + sizes[last] - target) < abs(held - target):
        taken.append(last)
    return taken


def _off_the_share(
    groups: Sequence[str], sizes: Mapping[str, int], share: float, nearest: Sequence[str]
) -> str:
    total, held = len(groups), sum(sizes[name] for name in nearest)
    larger = [size / total for size in sizes.values() if share < size / total < 1]
    other = f", such as {min(larger):.3g}" if larger else ""
    return (
        f"a holdout of {share:.2%} comes to {held / max(1, total):.2%} in whole groups ({held:,} "
        f"of {total:,} images, {len(nearest):,} of {len(sizes):,} groups), off by more than "
        f"{TOLERANCE:.0%} of it; use more images, smaller groups, or a holdout_share that whole "
        f"groups can meet{other}"
    )


def _sha256(name: str) -> bytes:
    # Names of files need not be text: what is not UTF-8 comes as lone surrogates.
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()


def _require_share(share: float) -> None:
    if not 0 < share < 1:
        raise ValueError(f"holdout share {share} is not between 0 and 1; use 0.1")


# ---- a toss for every image, as published ----------------------------------------------------


def is_held_out(path: str, share: float = 0.1) -> bool:
    """Whether an image is held out by a toss: a pure function of its file name.

    Neither folders nor the other images enter, so the share is met by chance only.

    Example:
        >>> [is_held_out(f"images/{i}.jpg", share=0.5) for i in range(4)]
        [True, True, False, False]
    """
    name = path.replace("\\", "/").rpartition("/")[2]
    return int.from_bytes(_sha256(name)[:8], "big") < share * 2**64


def toss(paths: Sequence[str], share: float = 0.1) -> Holdout:
    """Hold out every image by a toss of its own.

    Raises:
        ValueError: If the share is not between 0 and 1, or a part would be empty.
    """
    _require_share(share)
    held = [is_held_out(path, share) for path in paths]
    parts = Holdout(
        [i for i, out in enumerate(held) if not out], [i for i, out in enumerate(held) if out]
    )
    if not parts.train or not parts.held:
        raise ValueError(
            f"a holdout share of {share} leaves {len(parts.train)} of {len(paths)} images to train "
            f"on and {len(parts.held)} to select with; use more images or another holdout_share"
        )
    return parts


# ---- the data set ----------------------------------------------------------------------------


@DATASETS.register_module()
class HoldoutSubset:
    """One part of a training set; samples of the holdout say so in `probe_split`.

    Args:
        dataset: Config of a training set, or the set; its samples have `data_samples`.
        part: 'train' or 'holdout'.
        share: Wanted share of the holdout.
        group: What is held out as a whole, by `hold_out`: 'sequence', 'image', 'found' or a
            pattern of paths; see `group_names`. None: every image by a toss of its own, as
            protocols were published before; refused where images share a sequence.
        lazy_init: As in MMEngine's wrappers.

    Attributes:
        holdout: How the list was split, for logs and records.

    Raises:
        ValueError: As `hold_out`, `group_names` and `toss`, or for another part.
    """

    holdout: Holdout

    def __init__(
        self,
        dataset: Mapping[str, Any] | BaseDataset,
        part: HoldoutPart,
        share: float = 0.1,
        group: str | None = None,
        lazy_init: bool = False,
    ) -> None:
        if part not in get_args(HoldoutPart):
            raise ValueError(f"part {part!r} is not known; use one of {get_args(HoldoutPart)}")
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
        self.part, self.share, self.group = part, share, group
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
        self.holdout = self._split(infos)
        self.indices = self.holdout.train if self.part == "train" else self.holdout.held
        print_log(f"held out: {self.holdout.in_words()}", logger="current")
        self._fully_initialized = True

    def _split(self, infos: Sequence[Mapping[str, Any]]) -> Holdout:
        if self.group is not None:
            root = getattr(self.dataset, "data_root", None)
            return hold_out(group_names(infos, self.group, root), self.share, self.group)
        sequences = [info["sequence"] for info in infos if info.get("sequence") is not None]
        if len(set(sequences)) < len(sequences):
            raise ValueError(
                f"images are tossed for one by one, but {len(sequences):,} of them are of "
                f"{len(set(sequences)):,} sequences and look alike; set holdout_group=sequence"
            )
        return toss([str(info["img_path"]) for info in infos], self.share)

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
