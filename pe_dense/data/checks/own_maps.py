"""A person's folder of images and label maps: what is found in it, as facts for a config.

Layouts and rules: docs/own_data.md. Found by `own_pairs` (files), `own_json_maps` (COCO),
`own_labels` (what numbers mean) and `own_split` (parts); the answer is remembered beside the data.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pe_dense.data.checks.label_map_files import CITYSCAPES_TRAIN_IDS
from pe_dense.data.checks.own_parts import (
    Parts,
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
from pe_dense.data.class_names import ClassTable, find_class_table, read_class_table
from pe_dense.data.own_json_maps import JsonMaps, find_json_maps, is_panoptic_folder
from pe_dense.data.own_labels import class_mapping, scan, write_dense
from pe_dense.data.own_pairs import LABELS, OwnPair, OwnPairs, find_pairs, with_lists
from pe_dense.data.own_schedule import schedule_facts

CITYSCAPES_CLASSES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
    "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train",
    "motorcycle", "bicycle",
)  # fmt: skip


def facts(names: Mapping[str, Any]) -> dict[str, Any]:
    """What a config for own segmentation needs to know; its `data_facts`.

    Args:
        names: Top-level names of the config: data_root; images, masks, names_file, classes,
            unlabelled, split, split_seed, split_group, holdout_share, of which None means: find it;
            and those of `schedule_facts`.

    Returns:
        name, classes, num_classes; list, the file of all images and maps, below data_root where it
        is there; train_sha256, val_sha256 of maps and classes; holdout_share; found, in words;
        and the fields of `own_schedule.Schedule`.

    Raises:
        ValueError: If the folder, or what it holds, cannot be used; one sentence.
    """
    root = own_root(names)
    options = {
        key: names.get(key) for key in ("images", "masks", "names_file", "classes", "unlabelled")
    }
    for key in ("classes", "unlabelled"):
        options[key] = _as_list(options[key])
    question = dict(own_maps=options, split=split_options(names), tells="label_numbers")
    find_out = functools.partial(_find_out, root, question)
    found = remembered(root, question, find_out)
    if not all_there(root, found["list"]):  # somebody tidied up
        found = find_out().value
    plan = schedule_facts(names, found["num_train"], "maps", found["longer_side"])
    keys = (
        "classes", "num_classes", "list", "train_sha256", "val_sha256", "holdout_share", "found",
        "label_numbers",
    )  # fmt: skip
    return {"name": root.resolve().name, **{key: found[key] for key in keys}, **plan}


def _find_out(root: Path, question: Mapping[str, Any]) -> Answer:
    options, split = question["own_maps"], question["split"]
    cache = folder_for(root)
    if cache is None:
        raise ValueError(f"neither {root} nor the cache folder can be written; make one writable")
    pairs, table, unlabelled, read = _labelled(root, options, cache)
    parts = split_rows(pairs, split, root)
    groups = in_parts(pairs, parts)
    tick = late_progress(f"{root}: label maps")
    of_train = scan([(p.image, p.label) for p in groups["train"]], tick)
    of_val = scan([(p.image, p.label) for p in groups["val"]], tick)
    mapping = class_mapping(
        of_train, of_val, table, options["classes"], unlabelled, parts.are_given
    )
    kinds = of_train.kinds | of_val.kinds
    digests = dict(zip((p.label for p in groups["train"]), of_train.sha256, strict=True))
    digests |= dict(zip((p.label for p in groups["val"]), of_val.sha256, strict=True))
    meaning = json.dumps([sorted(mapping.of_number.items()), mapping.classes])
    sha256 = {
        "train": _sha256([meaning, *_lines(groups, "train", digests)]),
        "val": _sha256([meaning, *_lines(groups, "val", digests)]),
    }
    in_colour = of_train.are_colours or of_val.are_colours
    maps = {p.label: p.label for part in groups.values() for p in part}
    if kinds != {"plain"} or not mapping.is_dense:
        folder = cache / f"maps-{sha256['train'][:8]}{sha256['val'][:8]}"
        maps = {
            p.label: folder / part / f"{p.name}.png"
            for part, of_part in groups.items()
            for p in of_part
        }
        write_dense(list(maps), list(maps.values()), mapping.of_number, in_colour, tick)
    listed = write_list(root, cache, parts, pairs, maps)
    counts = {part: len(of_part) for part, of_part in groups.items()}
    value = dict(
        classes=list(mapping.classes),
        num_classes=len(mapping.classes),
        list=listed,
        train_sha256=sha256["train"],
        val_sha256=sha256["val"],
        num_train=counts["train"],
        holdout_share=parts.holdout_share,
        label_numbers=None if in_colour else mapping.numbers,
        longer_side=median_side([p.image for p in groups["train"]]),
        found=_in_words(root, pairs, parts, counts, mapping.classes, table, mapping.notes),
    )
    folders = {file.parent for p in pairs.pairs for file in (p.image, p.label)}
    # What was written here just now would keep the answer from being remembered.
    read = {path for path in {root, *folders, *read} if not path.is_relative_to(cache)}
    return Answer(value, read)


def _labelled(
    root: Path, options: Mapping[str, Any], cache: Path
) -> tuple[OwnPairs, ClassTable | None, Sequence[int | str] | None, set[Path]]:
    """Pairs, names, what is no class, and files that were read besides."""
    given = options["names_file"]
    if given is not None and not (root / given).is_file():
        raise ValueError(f"names_file {root / given} does not exist; the path starts at data_root")
    unlabelled = options["unlabelled"]
    tick = late_progress(f"{root}: JSON to label maps")
    if options["masks"] is None and is_panoptic_folder(root):
        found = find_json_maps(root, cache, tick)
        if found is not None:
            return _of_json(found, unlabelled)
    try:
        pairs = with_lists(root, find_pairs(root, LABELS, options["images"], options["masks"]))
    except ValueError:
        found = None if options["masks"] else find_json_maps(root, cache, tick)
        if found is None:
            raise
        return _of_json(found, unlabelled)
    folders = dict.fromkeys(pair.label.parent for pair in pairs.pairs)
    if given is not None:
        table: ClassTable | None = read_class_table(root / given)
    else:
        table = find_class_table(root, folders) or _of_cityscapes(pairs)
    read = {Path(table.file)} if table and table.file and Path(table.file).is_file() else set()
    return pairs, table, unlabelled, read | set(folders)


def _of_json(
    found: JsonMaps, unlabelled: Sequence[int | str] | None
) -> tuple[OwnPairs, ClassTable | None, Sequence[int | str] | None, set[Path]]:
    pairs = OwnPairs(found.pairs, 0, 0, found.words)
    return pairs, found.table, unlabelled or list(found.unlabelled), set(found.read)


def _of_cityscapes(pairs: OwnPairs) -> ClassTable | None:
    """Names of the ids that Cityscapes' files say they hold, the others being no class."""
    stems = [pair.label.stem.lower() for pair in pairs.pairs]
    if all(stem.endswith("_gtfine_labeltrainids") for stem in stems):
        return ClassTable(dict(enumerate(CITYSCAPES_CLASSES)), file="Cityscapes' train ids")
    if all(stem.endswith("_gtfine_labelids") for stem in stems):
        names = {i: f"void_{i}" for i in range(34)}
        names |= {i: CITYSCAPES_CLASSES[n] for i, n in CITYSCAPES_TRAIN_IDS.items()}
        return ClassTable(
            {i: "void" if n.startswith("void_") else n for i, n in names.items()},
            file="Cityscapes' ids",
        )
    return None


def _in_words(
    root: Path, pairs: OwnPairs, parts: Parts, counts: Mapping[str, int], classes: Sequence[str],
    table: ClassTable | None, notes: Sequence[str],
) -> str:  # fmt: skip
    source = "the config"
    if table is not None and table.file:
        source = os.path.relpath(table.file, root) if Path(table.file).is_file() else table.file
    if table is None:
        source = "none found, called by their labels"
    lines = [
        f"{root}: {pairs.words}; {counts['train']:,} to train on, {counts['val']:,} to score",
        f"parts: {parts.words}",
        f"class names: {source}; {len(classes)} classes",
        *notes,
    ]
    if pairs.num_images_alone or pairs.num_maps_alone:
        lines.append(
            f"left out: {pairs.num_images_alone:,} images without a label map, "
            f"{pairs.num_maps_alone:,} label maps without an image"
        )
    return "\n".join(lines)


def _lines(
    groups: Mapping[str, Sequence[OwnPair]], part: str, digests: Mapping[Path, str]
) -> list[str]:
    return [f"{part} {pair.name} {digests[pair.label]}" for pair in groups[part]]


def _sha256(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _as_list(value: Any) -> list[Any] | None:
    """A list that a person typed, also as text: '[cat,dog]'."""
    if value is None or isinstance(value, str | int) is False:
        return None if value is None else list(value)
    words = str(value).strip("[]").split(",")
    stripped = [word.strip() for word in words if word.strip()]
    return [int(word) if word.isdigit() else word for word in stripped]
