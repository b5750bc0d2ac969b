"""Dividing a person's pictures so that near copies are never on both sides.

Frames of a clip look alike: with neighbours in training and in validation a score says nothing.
Names propose what a clip is (the same name before its last number: clip_03_0001), and what it
shows confirms it: neighbours in a clip are much more alike than any two pictures. Names that say
'frame' need no proof. Whole clips are kept together where there are enough of them; otherwise the
end of every clip is held out, with a gap of a twentieth before it that belongs to neither.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pe_dense.data.holdout import hold_out
from pe_dense.data.image_files import spread
from pe_dense.data.image_groups import IMAGE, SEQUENCE, group_names

GAP = 0.05
LEAST_CLIPS = 4  # so many are needed to hold some out as a whole
LEAST_FRAMES = 5  # in the median clip; shorter ones are no clips
ALIKE = 0.5  # neighbours differ less than this share of what any two pictures differ
_PAIRS_LOOKED_AT = 40
_FRAME_WORD = re.compile(r"frame|frm")
Looks = Callable[[Sequence[Path]], np.ndarray]


@dataclass(frozen=True)
class Clips:
    """What belongs together.

    Attributes:
        names: Clip of every picture.
        orders: Its place in the clip.
        words: What was found, for people.
        are_clips: False where every picture is alone.
    """

    names: tuple[str, ...]
    orders: tuple[int, ...]
    words: str
    are_clips: bool


@dataclass(frozen=True)
class Division:
    """Parts of a list, and how it was divided.

    Attributes:
        parts: 'train', 'held' or '' (in a gap, in neither) of every picture.
        words: For people.
    """

    parts: tuple[str, ...]
    words: str


def find_clips(
    names: Sequence[str], images: Sequence[Path], rule: str | None, root: Path, look: Looks
) -> Clips:
    """Which pictures are of one clip.

    Args:
        names: Of the pictures, below the folder of the data, without suffix.
        images: Their files.
        rule: None: by names and looks; 'image': each is alone; 'sequence': by names; else a
            pattern as `group_names` takes it.
        root: Folder of the data.
        look: Small grey copies of pictures, (n, anything).

    Raises:
        ValueError: If the rule does not fit the paths.
    """
    by_name = [_clip_and_number(name) for name in names]
    clips = tuple(clip for clip, _ in by_name)
    numbers = tuple(number for _, number in by_name)
    if rule == IMAGE:
        return Clips(tuple(names), numbers, "every picture for itself", are_clips=False)
    if rule not in (None, SEQUENCE):
        groups = group_names([{"img_path": str(p)} for p in images], rule, str(root))
        order = np.argsort(np.argsort(names, kind="stable"), kind="stable")
        words = f"{len(set(groups)):,} groups by split_group"
        return Clips(tuple(groups), tuple(order.tolist()), words, are_clips=True)
    places = _places(clips, numbers)
    sizes = sorted(len(place) for place in places.values())
    is_long = sizes[len(sizes) // 2] >= LEAST_FRAMES
    words = f"{len(places):,} clip{'s' if len(places) > 1 else ''} by names"
    if rule == SEQUENCE or (is_long and all(_FRAME_WORD.search(c.lower()) for c in places)):
        return Clips(clips, numbers, words, are_clips=True)
    if is_long and _neighbours_are_alike(list(places.values()), images, look):
        return Clips(clips, numbers, f"{words}, whose neighbours look alike", are_clips=True)
    return Clips(tuple(names), numbers, "every picture for itself", are_clips=False)


def chosen_clips(clips: Clips, indices: Sequence[int]) -> Clips:
    """Some of the pictures, with what belongs together among them."""
    names, orders = ([of[i] for i in indices] for of in (clips.names, clips.orders))
    return Clips(tuple(names), tuple(orders), clips.words, clips.are_clips)


def divide(clips: Clips, share: float, seed: int, whole_clips: bool = True) -> Division:
    """Hold a share of the pictures out.

    Args:
        clips: What belongs together.
        share: Wanted share, above 0 and below 1.
        seed: Another one holds others out, where there is a choice.
        whole_clips: Whether whole clips may be taken; the end of each otherwise.

    Raises:
        ValueError: If the share is not between 0 and 1, or there are fewer than two pictures.
    """
    total = len(clips.names)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
        raise ValueError(f"split={share} is not between 0 and 1; use 0.2")
    if total < 2:
        raise ValueError(f"{total} labelled picture cannot be divided; label more")
    if not clips.are_clips:
        wanted = min(total - 1, max(1, round(share * total)))
        order = sorted(range(total), key=lambda i: _digest(seed, clips.names[i]))
        held = set(order[:wanted])
        parts = tuple("held" if i in held else "train" for i in range(total))
        return Division(parts, f"{wanted:,} of {total:,}, each for itself, seed {seed}")
    if whole_clips and len(set(clips.names)) >= LEAST_CLIPS:
        try:
            found = hold_out([f"{seed}:{name}" for name in clips.names], share)
        except ValueError:  # whole clips cannot meet the share
            found = None
        if found is not None:
            held = set(found.held)
            parts = tuple("held" if i in held else "train" for i in range(total))
            return Division(
                parts,
                f"{len(held):,} of {total:,}, whole clips ({found.num_held_groups} of "
                f"{found.num_groups}), seed {seed}",
            )
    return _by_time(clips, share)


def _by_time(clips: Clips, share: float) -> Division:
    parts = ["train"] * len(clips.names)
    for place in _places(clips.names, clips.orders).values():
        num = len(place)
        held = round(share * num)
        gap = int(np.ceil(GAP * num))
        if held < 1 or num - held - gap < 1:
            if num > 2 and len(set(clips.names)) == 1:
                held, gap = 1, 1
            else:
                continue
        for index in place[num - held :]:
            parts[index] = "held"
        for index in place[num - held - gap : num - held]:
            parts[index] = ""
    num_held, num_gap = parts.count("held"), parts.count("")
    if not num_held:
        raise ValueError(
            f"the clips of {len(parts)} pictures are too short to hold {share:.0%} of each out; "
            "give split_group=image if they are no clips, or name the splits in train.txt, val.txt"
        )
    words = f"{num_held:,} of {len(parts):,}, the end of each clip after a gap of {num_gap:,}"
    return Division(tuple(parts), words)


def small_grey(images: Sequence[Path]) -> np.ndarray:
    """Copies of 16 x 16 pixels, (n, 256) float32 without mean, of length 1; 0 where unreadable."""
    rows = np.zeros((len(images), 256), np.float32)
    for row, path in zip(rows, images, strict=True):
        try:
            with Image.open(path) as picture:
                picture.draft("L", (64, 64))
                grey = picture.convert("L").resize((16, 16), Image.Resampling.BOX)
        except Exception:  # told by the check that reads them all
            continue
        values = np.asarray(grey, np.float32).ravel()
        values -= values.mean()
        row[:] = values / max(1e-6, float(np.linalg.norm(values)))
    return rows


def _neighbours_are_alike(
    places: Sequence[Sequence[int]], images: Sequence[Path], look: Looks
) -> bool:
    """Whether neighbours of a clip differ much less than pictures far apart do."""
    near = [pair for place in places for pair in itertools.pairwise(place)]
    near = [near[i] for i in spread(len(near), _PAIRS_LOOKED_AT)]
    order = np.random.default_rng(0).permutation(len(images))
    far = list(zip(order[:-1].tolist(), order[1:].tolist(), strict=True))[:_PAIRS_LOOKED_AT]
    used = sorted({i for pair in (*near, *far) for i in pair})
    copies = dict(zip(used, look([images[i] for i in used]), strict=True))

    def median(pairs: Sequence[tuple[int, int]]) -> float:
        return float(np.median([np.linalg.norm(copies[a] - copies[b]) for a, b in pairs]))

    return bool(near) and median(near) < ALIKE * median(far)


def _places(clips: Sequence[str], orders: Sequence[int]) -> dict[str, list[int]]:
    """Clip -> its pictures in their order."""
    found: dict[str, list[int]] = defaultdict(list)
    for index in sorted(range(len(clips)), key=lambda i: (orders[i], i)):
        found[clips[index]].append(index)
    return dict(found)


def _clip_and_number(name: str) -> tuple[str, int]:
    """'clip_03/frame_0012_left' -> 'clip_03/frame_#_left', 12; a name without a number is alone."""
    folder, slash, stem = name.rpartition("/")
    found = re.search(r"(\d+)(\D*)$", stem)
    if found is None:
        return name, 0
    return f"{folder}{slash}{stem[: found.start()]}#{found.group(2)}", int(found.group(1))


def _digest(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogatepass")).digest()
