"""Finding the parts of a COCO-format folder: the JSON of each split, and where its images lie.

Known layouts, the first that is complete counts:

    annotations/train.json, annotations/val.json           (valid, validation as well)
    annotations/train_split.json, annotations/val_split.json     written by `prepare_data.py`
    annotations/instances_train2017.json, annotations/instances_val2017.json    (any year, or none)
    train/_annotations.coco.json, valid/_annotations.coco.json   as Roboflow exports
    train.json, val.json

A folder without any of them may have labels of YOLO or PASCAL VOC instead, of which COCO files are
made (pe_dense/data/convert/beside.py).
"""

from __future__ import annotations

import filecmp
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

from pe_dense.data.checks.coco_images import NOWHERE, SEVERAL_PLACES
from pe_dense.data.checks.coco_split import coco_facts
from pe_dense.data.checks.progress import late_progress
from pe_dense.data.checks.remembered import FOLDER
from pe_dense.data.checks.rules import broken
from pe_dense.data.convert.beside import label_form, made_beside
from pe_dense.data.own_schedule import schedule_facts

SPLIT_COMMAND = "python tools/prepare_data.py coco-format {root} --split 0.2 --seed 0"
_VAL = r"(?:val|valid|validation)"
# Layout -> patterns of the train and the val JSON; what the group holds must agree.
_LAYOUTS: tuple[tuple[str, str], ...] = (
    (r"annotations/train()\.json", rf"annotations/{_VAL}()\.json"),
    (r"annotations/train_split()\.json", r"annotations/val_split()\.json"),
    (r"annotations/instances_train(\d*)\.json", rf"annotations/instances_{_VAL}(\d*)\.json"),
    (r"train()/_annotations\.coco\.json", rf"{_VAL}()/_annotations\.coco\.json"),
    (r"train()\.json", rf"{_VAL}()\.json"),
)
_MAX_DEPTH = 3
_MAX_FOLDERS = 200


def facts(names: Mapping[str, Any]) -> dict[str, Any]:
    """What a config for own data needs to know of them; its `data_facts`.

    Args:
        names: Top-level names of the config: `data_root`, and `train_json`, `val_json`,
            `train_images`, `val_images`, of which None means: find it.

    Returns:
        classes, num_classes, name (that of the folder); train_json, val_json, train_images,
        val_images, relative to data_root; val_file, the val JSON with its folder; train_sha256,
        val_sha256 of the JSON files. A folder without training annotations can still be tested
        on: train_json is then the name that is looked for, and train_sha256 is None. The fields
        of `own_schedule.Schedule`, which suit the images to train on; and plan, in words what of
        them changes a score besides training: 'cpu, 336 px'.

    Raises:
        ValueError: If data_root is not given or no folder, or a part is not found or not COCO.
    """
    if not names.get("data_root"):
        raise ValueError(
            "this config is for your own data: say where the folder lies with --cfg-options "
            "data_root=DIR"
        )
    root = Path(os.path.expanduser(names["data_root"]))  # noqa: PTH111 (leaves a folder called ~t)
    if not root.is_dir():
        raise ValueError(f"data_root {root} does not exist; pass --cfg-options data_root=DIR")
    train_json, val_json, is_made = _splits(root, names.get("train_json"), names.get("val_json"))
    found: dict[str, Any] = {"name": root.resolve().name, "val_file": str(root / val_json)}
    for split, json_name in (("val", val_json), ("train", train_json)):
        given = "" if is_made else names.get(f"{split}_images")
        found[f"{split}_json"] = json_name
        if split == "train" and not (root / json_name).is_file():
            found |= {"train_images": given or found["val_images"], "train_sha256": None}
            continue
        coco = coco_facts(root, root / json_name, progress=late_progress)
        if not coco.classes:
            raise ValueError(f"{root / json_name} lists no categories; there is nothing to detect")
        found[f"{split}_sha256"] = coco.sha256
        found[f"{split}_images"] = find_images(root, json_name, coco.probes, given)
        # In the end those of train; a class may be without objects in one of the files.
        found["classes"] = coco.classes_with(found.get("classes", ()))
    schedule = schedule_facts(names, max(coco.num_images, 1), "boxes", coco.longer_side or None)
    plan = f"{schedule['planned_for']}, {schedule['image_side']} px"
    return found | schedule | {"num_classes": len(found["classes"]), "plan": plan}


def _splits(root: Path, train_json: str | None, val_json: str | None) -> tuple[str, str, bool]:
    """As `find_splits`, and whether the files were made from other labels."""
    try:
        return *find_splits(root, train_json, val_json), False
    except ValueError:
        form = None if train_json or val_json else label_form(root)
        if form is None:
            raise
    made = made_beside(root, form)
    train, val = (
        file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)
        for file in (made["train"], made["val"])
    )
    return train, val, True


def find_splits(
    root: Path, train_json: str | None = None, val_json: str | None = None
) -> tuple[str, str]:
    """The JSON files of training and validation, relative to the folder.

    Args:
        root: The folder.
        train_json: Taken as it is, if given.
        val_json: Taken as it is, if given.

    Returns:
        (train, val). The training file need not exist where the other does.

    Raises:
        ValueError: If there is none, several fit, or there is nothing to validate on.
    """
    for name, value in (("train_json", train_json), ("val_json", val_json)):
        if value is not None and not (root / value).is_file():
            raise ValueError(f"{name} {root / value} does not exist; paths start at data_root")
    if train_json and val_json:
        return train_json, val_json
    candidates = json_files(root)
    partial: tuple[list[str], list[str]] = ([], [])
    for train_pattern, val_pattern in _LAYOUTS:
        trains, vals = matches(candidates, train_pattern), matches(candidates, val_pattern)
        if train_json:
            trains = dict.fromkeys(vals, train_json)
        if val_json:
            vals = dict.fromkeys(trains, val_json)
        both = sorted(trains.keys() & vals.keys())
        if len(both) > 1:
            several = ", ".join(f"{trains[group]} with {vals[group]}" for group in both)
            raise ValueError(
                f"{root} has several pairs of annotations ({several}); say which are meant: "
                "train_json=... val_json=..."
            )
        if both:
            return trains[both[0]], vals[both[0]]
        partial[0].extend(trains.values())
        partial[1].extend(vals.values())
    if val_json or partial[1]:
        return train_json or "annotations/train.json", val_json or partial[1][0]
    if train_json or partial[0]:
        train = train_json or partial[0][0]
        raise ValueError(
            f"{root} has annotations to train on ({train}) but none to validate on; split off a "
            f"fifth with: {SPLIT_COMMAND.format(root=root)}"
        )
    if len(candidates) == 1:
        raise ValueError(
            f"{root} has one JSON, {candidates[0]}; if it is COCO, split it into train and val "
            f"with: {SPLIT_COMMAND.format(root=root)}"
        )
    listed = f"it has {', '.join(candidates[:5])}" if candidates else "it has no JSON at all"
    raise ValueError(
        f"{root} has no annotations/train.json and annotations/val.json, nor a layout of COCO or "
        f"Roboflow ({listed}); say which files are meant: train_json=... val_json=..."
    )


def json_files(root: Path) -> list[str]:
    """JSON files in the folder and one level below, relative to it, sorted."""
    found = [*root.glob("*.json"), *root.glob("*/*.json")]
    return sorted(
        path.relative_to(root).as_posix()
        for path in found
        if path.is_file() and not path.name.startswith(".") and path.parent.name != FOLDER
    )


def matches(names: Sequence[str], pattern: str) -> dict[str, str]:
    """Group of the pattern -> the first name that fits it, of short names the shortest first."""
    found: dict[str, str] = {}
    for name in sorted(names, key=len):
        match = re.fullmatch(pattern, name)
        if match:
            found.setdefault(match.group(1), name)
    return found


def find_images(root: Path, json_name: str, probes: Sequence[str], given: str | None = None) -> str:
    """The folder that the file names of a JSON are relative to.

    Some of the names are looked for in the usual places, where the first that holds all of them
    counts, then in every folder up to three levels down as well; the one with the most counts.

    Args:
        root: Folder of the data set.
        json_name: The JSON, relative to it.
        probes: Some names in the JSON, evenly spread.
        given: A folder named by the user, relative to `root`: taken as it is.

    Returns:
        A path relative to `root` that ends in '/', or ''.

    Raises:
        UnsoundError: If no image is found anywhere, or other images of the same names in several
            places that are not usual, such as visible/ and infrared/.
        ValueError: If the given folder does not exist.
    """
    if given is not None:
        if not (root / given).is_dir():
            raise ValueError(f"image folder {root / given} does not exist; paths start at {root}")
        return given
    if all(Path(name).is_absolute() for name in probes):
        return ""  # nor where there are none
    held: dict[str, frozenset[str]] = {}  # folder -> the probes that it holds

    def look(folders: Iterable[str]) -> str:
        """The first of the folders with the most probes, '' where none has any."""
        best = ""
        for folder in folders:
            if folder not in held:
                is_here = ((root / folder / name).is_file() for name in probes)
                held[folder] = frozenset(compress(probes, is_here))
            if len(held[folder]) > len(held.get(best, ())):
                best = folder
        return best

    usual = look(usual_folders(json_name))
    if len(held[usual]) == len(probes):
        return usual
    below = list(folders_below(root))
    best = look([usual, *below])
    if not held[best]:
        value = f"no image was found below {root} (looked for {probes[0]} in {len(held)} folders)"
        raise broken(NOWHERE, root / json_name, value)
    for other in below if best != usual else ():
        if held[other] == held[best] and _differ(root, best, other, held[best]):
            value = f"names images that lie both in {root / best} and in {root / other}"
            raise broken(SEVERAL_PLACES, root / json_name, value)
    return best


def _differ(root: Path, one: str, other: str, names: Iterable[str]) -> bool:
    pairs = ((root / one / name, root / other / name) for name in names)
    return not all(filecmp.cmp(*pair, shallow=False) for pair in pairs)


def usual_folders(json_name: str) -> Iterator[str]:
    """Places where the images of a JSON usually lie, the likely ones first."""
    path = Path(json_name)
    word = re.search(r"train|val|test", path.stem) or re.search(r"train|val|test", json_name)
    split = word.group() if word else ""
    splits = [split, "valid", "validation"] if split == "val" else [split]
    year = re.search(r"\d{4}", path.stem)
    here = path.parent.as_posix()
    if here not in (".", "annotations"):
        yield f"{here}/"
    yield "images/"
    for name in filter(None, splits):
        for tail in (year.group() if year else "2017", ""):
            yield from (f"{name}{tail}/", f"images/{name}{tail}/", f"{name}{tail}/images/")
    yield from ("", "data/", "JPEGImages/", f"{here}/")


def folders_below(root: Path) -> Iterator[str]:
    """Folders up to three levels down, a limited number."""
    level = [root]
    seen = 0
    for _ in range(_MAX_DEPTH):
        level = sorted(
            child
            for folder in level
            for child in folder.iterdir()
            if child.is_dir() and not child.name.startswith(".")
        )
        for folder in level[: _MAX_FOLDERS - seen]:
            yield f"{folder.relative_to(root).as_posix()}/"
        seen = min(seen + len(level), _MAX_FOLDERS)


def single_json(root: Path) -> str:
    """The one JSON of a folder that has not been split yet.

    Raises:
        ValueError: If there is none, or it is not clear which is meant.
    """
    candidates = json_files(root)
    train = [name for train, _ in _LAYOUTS for name in matches(candidates, train).values()]
    if len(candidates) == 1 or train:
        return (train or candidates)[0]
    listed = ", ".join(candidates[:5]) if candidates else "none"
    raise ValueError(
        f"it is not clear which JSON of {root} is to be split ({listed}); name it with --json"
    )
