"""A person's folder of images and depth maps: what is found in it, as facts for a config.

Layouts and rules: docs/own_data.md. Lists of pairs, as NYUv2 and KITTI have them, are read where a
folder has one for training (nyu_train.txt, train.txt with two files on a line); images and maps
find each other by names otherwise (`own_pairs`). The answer is remembered beside the data.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pe_dense.data.checks.own_parts import (
    all_there,
    in_parts,
    median_side,
    own_root,
    split_options,
    split_rows,
    write_list,
)
from pe_dense.data.checks.progress import late_progress
from pe_dense.data.checks.remembered import Answer, folder_for, remembered
from pe_dense.data.depth_list import read_depth_list
from pe_dense.data.own_depth import scale_of, scan_depths, steps_for, usual_range, write_steps
from pe_dense.data.own_pairs import DEPTHS, OwnPair, OwnPairs, find_pairs, with_lists
from pe_dense.data.own_schedule import schedule_facts

_LIST = re.compile(r"(?:.*[_-])?(?:(train)|(val|valid|test))(?:[_-].*)?\.txt")


def facts(names: Mapping[str, Any]) -> dict[str, Any]:
    """What a config for own depth needs to know; its `data_facts`.

    Args:
        names: Top-level names of the config: data_root; images, depths, depth_scale, max_depth,
            split, split_seed, split_group, holdout_share, of which None means: find it; and those
            of `schedule_facts`.

    Returns:
        name; list, the file of all images and maps, below data_root where it is there;
        depth_scale, numbers of the files that are a metre; steps_per_metre of the maps that are
        read, which may have been written anew; min_depth, max_depth in metres;
        train_sha256, val_sha256 of maps and unit; holdout_share; found, in words; and the fields
        of `own_schedule.Schedule`.

    Raises:
        ValueError: If the folder, or what it holds, cannot be used; one sentence.
    """
    root = own_root(names)
    keys = ("images", "depths", "depth_scale", "max_depth")
    options = {key: names.get(key) for key in keys}
    limit = options["max_depth"]
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float)
                              or not limit > 1e-3):  # fmt: skip
        raise ValueError(f"max_depth={limit!r} is no depth in metres; give a number above 0.001")
    question = dict(own_depths=options, split=split_options(names))
    find_out = functools.partial(_find_out, root, question)
    found = remembered(root, question, find_out)
    if not all_there(root, found["list"]):  # somebody tidied up
        found = find_out().value
    plan = schedule_facts(names, found["num_train"], "maps", found["longer_side"])
    given = (
        "list", "depth_scale", "steps_per_metre", "min_depth", "max_depth", "train_sha256",
        "val_sha256", "holdout_share", "found",
    )  # fmt: skip
    return {"name": root.resolve().name, **{key: found[key] for key in given}, **plan}


def _find_out(root: Path, question: Mapping[str, Any]) -> Answer:
    options, split = question["own_depths"], question["split"]
    cache = folder_for(root)
    if cache is None:
        raise ValueError(f"neither {root} nor the cache folder can be written; make one writable")
    pairs, read = _pairs(root, options)
    parts = split_rows(pairs, split, root)
    groups = in_parts(pairs, parts)
    tick = late_progress(f"{root}: depth maps")
    files = {part: [(p.image, p.label) for p in of_part] for part, of_part in groups.items()}
    of_train, of_val = (scan_depths(files[part], tick) for part in ("train", "val"))
    if of_train.is_whole != of_val.is_whole:
        raise ValueError(
            f"{root} has 16-bit whole numbers in one part and floating-point ones in the other, "
            "whose units differ; use one kind"
        )
    scale = scale_of(of_train, options["depth_scale"], root)
    low, high = usual_range(of_train, scale.per_metre)
    high = options["max_depth"] or high
    digests = dict(zip((p.label for p in groups["train"]), of_train.sha256, strict=True))
    digests |= dict(zip((p.label for p in groups["val"]), of_val.sha256, strict=True))
    sha256 = {
        part: _sha256([f"{scale.per_metre:g}", *(f"{p.name} {digests[p.label]}" for p in of_part)])
        for part, of_part in groups.items()
    }
    maps, steps = {p.label: p.label for part in groups.values() for p in part}, scale.per_metre
    notes = []
    has_last = of_train.has_last or of_val.has_last
    if has_last or not of_train.is_whole:
        if not of_train.is_whole:
            steps = steps_for((of_train, of_val), scale.per_metre)
        folder = cache / f"depth-{sha256['train'][:8]}{sha256['val'][:8]}-{steps:g}"
        maps = {p.label: folder / part / f"{p.name}.png"
                for part, of_part in groups.items() for p in of_part}  # fmt: skip
        write_steps(list(maps), list(maps.values()), scale.per_metre, steps, tick)
        why = "65535 counts as unknown" if has_last else f"{1000 / steps:.2g} mm a step"
        notes.append(f"written anew as 16-bit PNG in {folder}: {why}")
    q = [value / scale.per_metre for value in of_train.quantiles]
    if pairs.num_images_alone or pairs.num_maps_alone:
        notes.append(f"left out: {pairs.num_images_alone:,} images without a depth map, "
                     f"{pairs.num_maps_alone:,} depth maps without an image")  # fmt: skip
    counts = {part: len(of_part) for part, of_part in groups.items()}
    lines = [
        f"{root}: {pairs.words}; {counts['train']:,} to train on, {counts['val']:,} to score",
        f"parts: {parts.words}",
        f"unit: {scale.per_metre:g} a metre ({scale.words}); if wrong: depth_scale=...",
        f"depth of training: {q[0]:.2f} to {q[2]:.2f} m (1 to 99 %), middle {q[1]:.2f} m; counted "
        f"up to {high:g} m (max_depth)",
        *notes,
    ]
    value = dict(
        list=write_list(root, cache, parts, pairs, maps),
        depth_scale=scale.per_metre,
        steps_per_metre=steps,
        min_depth=low,
        max_depth=float(high),
        train_sha256=sha256["train"],
        val_sha256=sha256["val"],
        holdout_share=parts.holdout_share,
        num_train=counts["train"],
        longer_side=median_side([p.image for p in groups["train"]]),
        found="\n".join(lines),
    )
    folders = {file.parent for p in pairs.pairs for file in (p.image, p.label)}
    # What was written here just now would keep the answer from being remembered.
    read = {path for path in {root, *folders, *read} if not path.is_relative_to(cache)}
    return Answer(value, read)


def _pairs(root: Path, options: Mapping[str, Any]) -> tuple[OwnPairs, set[Path]]:
    """Pairs of a list where the folder has one, else by names; and the lists that were read."""
    lists = {} if options["images"] or options["depths"] else _pair_lists(root)
    if "train" not in lists:
        found = find_pairs(root, DEPTHS, options["images"], options["depths"])
        return with_lists(root, found), set()
    pairs: list[OwnPair] = []
    left = 0
    for split, file in lists.items():
        listed = read_depth_list(file)
        left += listed.num_without_depth
        for pair in listed.pairs:
            image, depth = root / pair.image, root / pair.depth
            for path in (image, depth):
                if not path.is_file():
                    raise ValueError(f"{file} names {path}, which does not exist; its paths start "
                                     "at data_root")  # fmt: skip
            name = Path(pair.image).with_suffix("").as_posix()
            pairs.append(OwnPair(name, image, depth, split))
    words = f"pairs of {' and '.join(file.name for file in lists.values())}"
    return OwnPairs(tuple(pairs), left, 0, words), set(lists.values())


def _pair_lists(root: Path) -> dict[str, Path]:
    """Lists of the folder that have an image and a depth map on every line, by split."""
    found: dict[str, Path] = {}
    for file in sorted(root.glob("*.txt")):
        match = _LIST.fullmatch(file.name.lower())
        if match is None:
            continue
        split = "train" if match.group(1) else "val"
        try:
            first = file.read_text(encoding="utf-8-sig").split("\n", 1)[0].split()
        except UnicodeDecodeError:
            continue
        if len(first) < 2:
            continue  # a list of names
        if split in found:
            raise ValueError(f"{root} has several lists for {split} ({found[split].name}, "
                             f"{file.name}); keep one of them")  # fmt: skip
        found[split] = file
    return found


def _sha256(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
