"""Dividing pictures into train and val where nothing says how: whole sequences where names tell.

Frames of one video look alike; with some of them on each side, what memorises best would look best.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from pe_dense.data.convert.labelled_set import LabelledSet

NUM_SHUFFLES = 100
MIN_SEQUENCES = 4
MAX_SHARE = 0.5  # of the pictures in one sequence; more, and the name before the number is a title


def sequences_in(names: Sequence[str]) -> list[str] | None:
    """The sequence of each picture by its path; None where paths tell none.

    The path up to the last number of the name counts: 'clip3/frame_0007.png' belongs to
    'clip3/frame_', 'a_12.jpg' to 'a_'. Copies of one picture (NAME.rf.HASH.jpg of Roboflow) count
    as one. There must be at least four sequences, one of them of two pictures or more, and none
    with more than half of the pictures: a common title, as in IMG_0001.jpg, is no sequence.

    Example:
        >>> sequences_in(["a_1.jpg", "a_2.jpg", "b_1.jpg", "c_1.jpg", "d_1.jpg"])
        ['a_', 'a_', 'b_', 'c_', 'd_']
        >>> sequences_in(["IMG_1.jpg", "IMG_2.jpg", "IMG_3.jpg"]) is None
        True
    """
    found = []
    for name in names:
        stem = re.sub(r"\.[^./]*$", "", source_of(name))
        found.append(re.sub(r"\d+[^\d/]*$", "", stem))
    sizes = Counter(found)
    largest = max(sizes.values(), default=0)
    if len(sizes) < MIN_SEQUENCES or largest < 2 or largest > MAX_SHARE * len(names):
        return None
    return found


def source_of(name: str) -> str:
    """The name of the picture that a copy of Roboflow was made from.

    Example:
        >>> source_of("a_jpg.rf.0f1e.jpg")
        'a_jpg.jpg'
    """
    return re.sub(r"\.rf\.[0-9A-Za-z]+(?=\.\w+$)", "", name)


def divide(labelled: LabelledSet, val_share: float, seed: int) -> None:
    """Give each picture 'train' or 'val', whole sequences where there are some, or a video's end.

    Of 100 shuffles of the sequences the one is taken that comes nearest to the share in pictures
    and in objects of every class.

    Args:
        labelled: Pictures whose splits are overwritten.
        val_share: Share of the pictures for val, above 0 and below 1.
        seed: The same seed divides the same set in the same way.

    Raises:
        ValueError: If the share cannot be used, or there is but one picture.
    """
    if not 0.0 < val_share < 1.0:
        raise ValueError(f"--split is {val_share}, but must be between 0 and 1, for example 0.2")
    images = labelled.images
    names = [image.name for image in images]
    told = [image.sequence for image in images]
    if all(name is not None for name in told):
        groups, words = [str(name) for name in told], "videos"
    else:
        by_name = sequences_in(names)
        words = "pictures one by one (names tell no sequences)"
        if by_name is not None:
            words = "sequences, by the name before the number"
        groups = by_name or [source_of(name) for name in names]
    group_names, group_I = np.unique(groups, return_inverse=True)
    if len(images) < 2:
        raise ValueError(f"{labelled.root} has one picture; at least two are needed to divide")
    if len(group_names) < 2:
        first_val = min(max(round((1 - val_share) * len(images)), 1), len(images) - 1)
        for k, image in enumerate(images):
            image.split = "val" if k >= first_val else "train"
        labelled.how.append(
            f"divided: the last {len(images) - first_val} of {len(images)} frames to val; they are "
            "of one video with those trained on, so that scores say little of other videos"
        )
        return
    place = {name: k for k, name in enumerate(labelled.classes)}
    counts_GK = np.zeros((len(group_names), 1 + len(place)))
    for g, image in zip(group_I, images, strict=True):
        counts_GK[g, 0] += 1
        for shape in image.shapes:
            counts_GK[g, 1 + place[shape.label]] += 1
    is_val_G = _nearest(counts_GK, val_share, seed)
    for g, image in zip(group_I, images, strict=True):
        image.split = "val" if is_val_G[g] else "train"
    num_val = int(counts_GK[is_val_G, 0].sum())
    labelled.how.append(
        f"divided: {num_val} of {len(images)} pictures to val, {int(is_val_G.sum())} of "
        f"{len(group_names)} {words}, seed {seed}"
    )


def _nearest(counts_GK: np.ndarray, share: float, seed: int) -> np.ndarray:
    """(G,) bool, the groups of val."""
    total_K = counts_GK.sum(0)
    wanted_K = share * total_K
    rng = np.random.default_rng(seed)
    best, least = np.zeros(len(counts_GK), dtype=bool), np.inf
    for _ in range(NUM_SHUFFLES):
        order = rng.permutation(len(counts_GK))
        filled = np.cumsum(counts_GK[order, 0])
        number = int(np.argmin(np.abs(filled - wanted_K[0]))) + 1
        number = min(number, len(order) - 1)
        chosen = order[:number]
        gap = np.abs(counts_GK[chosen].sum(0) - wanted_K) / np.maximum(wanted_K, 1)
        if gap.max() < least:
            best = np.zeros(len(order), dtype=bool)
            best[chosen] = True
            least = gap.max()
    return best
