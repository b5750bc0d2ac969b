"""The parts of a person's data: what is trained on and what is reported.

A list beside the data says of every image which it is; data sets read it. Validation is what
folders or lists call so (or test, where there is no validation), or is divided off by `own_split`.
What is held out to choose checkpoints and layers with is a part of training that `HoldoutSubset`
takes in whole groups; the list names them. Where clips are too few for that, the groups are the
starts and the ends of all clips, with a gap between that is in no part: the ends are held out.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pe_dense.data.checks.picture_findings import image_header
from pe_dense.data.holdout import hold_out
from pe_dense.data.image_files import spread
from pe_dense.data.own_pairs import OwnPair, OwnPairs
from pe_dense.data.own_split import Clips, chosen_clips, divide, find_clips, small_grey
from pe_dense.files import atomic_write_text

Part = Literal["train", "val"]
PARTS: tuple[Part, ...] = ("train", "val")
USUAL_SPLIT, USUAL_HOLDOUT = 0.2, 0.1
_SIZES_LOOKED_AT = 50


@dataclass(frozen=True)
class Parts:
    """Which part every pair is of.

    Attributes:
        parts: 'train', 'val', or '' for what is in none.
        clips: Group of each image: what looks alike is in one.
        holdout_share: Share of the training images that is held out, as whole groups can meet it.
        words: How it was divided, for people.
        are_given: Whether folders or lists said what validation is.
    """

    parts: tuple[str, ...]
    clips: tuple[str, ...]
    holdout_share: float
    words: str
    are_given: bool


def own_root(names: Mapping[str, Any]) -> Path:
    """The folder of the data that a config names.

    Raises:
        ValueError: If it names none, or none that exists.
    """
    if not names.get("data_root"):
        raise ValueError(
            "this config is for your own data: say where the folder lies with --cfg-options "
            "data_root=DIR"
        )
    root = Path(os.path.expanduser(names["data_root"]))  # noqa: PTH111 (leaves a folder called ~t)
    if not root.is_dir():
        raise ValueError(f"data_root {root} does not exist; pass --cfg-options data_root=DIR")
    return root


def split_options(names: Mapping[str, Any]) -> dict[str, Any]:
    """split, split_seed, split_group and holdout_share of a config, as JSON can hold them."""
    keys = ("split", "split_seed", "split_group", "holdout_share")
    options = {key: names.get(key) for key in keys}
    seed = options["split_seed"]
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise ValueError(f"split_seed={seed!r} is no whole number; give 0")
    return options


def split_rows(found: OwnPairs, options: Mapping[str, Any], root: Path) -> Parts:
    """Divide what was found.

    Raises:
        ValueError: If folders say what validation is and `split` says it as well, if there is
            nothing to train on, or as `find_clips` and `divide`.
    """
    pairs = found.pairs
    clips = find_clips(
        [p.name for p in pairs], [p.image for p in pairs], options["split_group"], root, small_grey
    )
    splits = [p.split for p in pairs]
    named = "val" if "val" in splits else "test" if "test" in splits else ""
    parts = ["train" if split in ("train", "") else "val" if split == named else ""
             for split in splits]  # fmt: skip
    is_given = bool(named) and "train" in parts
    if is_given and options["split"] is not None:
        raise ValueError(
            f"split={options['split']} was given, but {root} has its own validation part "
            f"({splits.count(named):,} images); leave split out"
        )
    if is_given:
        words = f"val is what folders or lists call {named}"
    else:
        share = USUAL_SPLIT if options["split"] is None else options["split"]
        division = divide(clips, share, options["split_seed"] or 0)
        parts = [{"held": "val"}.get(part, part) for part in division.parts]
        words = f"val {division.words}"
    train = [i for i, part in enumerate(parts) if part == "train"]
    if len(train) < 2:
        raise ValueError(
            f"{root} has {len(train)} labelled image to train on and {len(pairs)} in all; label "
            "three at least: to train on, to choose with, and to score"
        )
    groups = list(clips.names)
    share, held = _hold_out(clips, train, options["holdout_share"], parts, groups)
    words += f" ({clips.words}); held out of training to choose with: {held}"
    return Parts(tuple(parts), tuple(groups), share, words, is_given)


def _hold_out(
    clips: Clips, train: Sequence[int], asked: float | None, parts: list[str], groups: list[str]
) -> tuple[float, str]:
    """Name the groups of training, and take a gap out, so that the share can be held out."""
    share = USUAL_HOLDOUT if asked is None else asked
    if not share:
        return 0, "nothing"
    own = chosen_clips(clips, train)
    share = max(share, 1 / len(train)) if isinstance(share, int | float) else share
    try:
        found = hold_out(own.names, share)
    except ValueError:
        division = divide(own, share, 0, whole_clips=False)
        for index, part in zip(train, division.parts, strict=True):
            parts[index] = part and "train"
            groups[index] = {"held": "ends of clips"}.get(part, "starts of clips")
        num = division.parts.count("held")
        return num / (num + division.parts.count("train")), division.words
    of = f"{len(found.held):,} of {len(train):,}"
    return share, f"{of} in whole clips" if clips.are_clips else of


def in_parts(found: OwnPairs, parts: Parts) -> dict[str, list[OwnPair]]:
    """Part -> its pairs, in their order."""
    return {
        name: [p for p, part in zip(found.pairs, parts.parts, strict=True) if part == name]
        for name in PARTS
    }


def write_list(
    root: Path, cache: Path, parts: Parts, found: OwnPairs, maps: Mapping[Path, Path]
) -> str:
    """Write the list that data sets read; the name it has below `root`, or its whole path.

    Args:
        root: Folder of the data.
        cache: Where the list is written.
        parts: Of every pair.
        found: The pairs.
        maps: Map as it was found -> map to be read.
    """
    rows = [
        dict(
            image=_below(pair.image, root), map=_below(maps[pair.label], root), part=part,
            clip=clip,
        )
        for pair, part, clip in zip(found.pairs, parts.parts, parts.clips, strict=True)
        if part
    ]  # fmt: skip
    text = "".join(json.dumps(row) + "\n" for row in rows)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    file = cache / f"own-{digest}.jsonl"
    if not file.is_file():
        atomic_write_text(file, text)
    return _below(file, root)


def read_list(file: Path, root: Path, part: Part) -> list[dict[str, Any]]:
    """Rows of a part: image, map (files) and clip.

    Raises:
        ValueError: If the list is missing or broken.
    """
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        return [
            dict(image=root / row["image"], map=root / row["map"], clip=row["clip"],
                 name=row["image"])
            for row in rows
            if row["part"] == part
        ]  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"list {file} of own data cannot be read ({error}); remove it, it is written anew"
        ) from error


def all_there(root: Path, listed: str) -> bool:
    """Whether a list and the folders of its maps are there."""
    try:
        lines = (root / listed).read_text(encoding="utf-8").splitlines()
        return all(folder.is_dir() for folder in {(root / json.loads(line)["map"]).parent
                                                  for line in lines})  # fmt: skip
    except (OSError, ValueError, KeyError):
        return False


def median_side(images: Sequence[Path]) -> int:
    """Median of the longer sides of some of the images, in pixels."""
    looked = [images[i] for i in spread(len(images), _SIZES_LOOKED_AT)]
    return int(np.median([max(image_header(image).size) for image in looked]))


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path.absolute())
