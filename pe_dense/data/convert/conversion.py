"""Converting a folder of labelled pictures into a new folder, every count said."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pe_dense.data.checks.rules import require_known, require_sound
from pe_dense.data.convert import (
    coco_sets,
    cvat,
    label_studio,
    labelme,
    to_semantic,
    via,
    voc,
    yolo,
)
from pe_dense.data.convert.division import divide
from pe_dense.data.convert.form_names import FORMS
from pe_dense.data.convert.image_places import files_below
from pe_dense.data.convert.labelled_set import (
    RULES,
    SPLITS,
    LabelledImage,
    LabelledSet,
    split_in,
)
from pe_dense.data.convert.to_coco import coco_content, coco_text
from pe_dense.files import atomic_write_text

DEFAULT_SHARE = 0.2
ALL_RULES = (
    *RULES, yolo.OUTLINES_OF_FOUR, voc.PARTS, voc.DIFFICULT, cvat.OUTSIDE, cvat.OCCLUDED,
    cvat.BETWEEN, label_studio.SEVERAL, label_studio.UNANSWERED, label_studio.GUESSES,
    coco_sets.STUFF, coco_sets.CROWDS, to_semantic.BOXES,
)  # fmt: skip


def _of_json(is_one: Callable[[Any], bool]) -> Callable[[Path], bool]:
    def is_of(root: Path) -> bool:
        for file in files_below(root, (".json",))[:20]:
            with contextlib.suppress(ValueError):
                if is_one(json.loads(file.read_text(encoding="utf-8-sig"))):
                    return True
        return False

    return is_of


_FORMS: dict[str, Callable[[Path], bool]] = {
    "yolo": yolo.is_yolo,
    "voc": voc.is_voc,
    "cvat": cvat.is_cvat,
    "labelstudio": _of_json(label_studio.is_label_studio),
    "labelme": _of_json(labelme.is_labelme),
    "via": _of_json(via.is_via),
    "coco-panoptic": _of_json(coco_sets.is_panoptic),
    "coco-masks": _of_json(coco_sets.is_masks),
}
assert tuple(_FORMS) == FORMS


@dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
        form: Format of the source.
        lines: Tables and counts, for a person.
    """

    form: str
    lines: list[str]


def guessed_form(root: Path) -> str:
    """The format of a folder.

    Raises:
        ValueError: If it has labels of none, or of several.
    """
    found = [form for form, is_of in _FORMS.items() if is_of(root)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"{root} has labels of several formats ({', '.join(found)}); say which with --from"
        )
    raise ValueError(
        f"{root} has labels of no known format ({', '.join(FORMS)}); name the folder of labels"
    )


def read_form(root: Path, form: str, target: str, voc_origin: int | None = None) -> LabelledSet:
    """A folder in one of `FORMS`."""
    if form == "voc":
        return voc.read_voc(root, voc_origin)
    if voc_origin is not None:
        raise ValueError(f"--voc-origin is for --from voc, but the labels are {form}; leave it out")
    if form == "coco-panoptic":
        return coco_sets.read_panoptic(root, things_only=target == "coco")
    readers: dict[str, Callable[[Path], LabelledSet]] = {
        "yolo": yolo.read_yolo,
        "cvat": cvat.read_cvat,
        "labelstudio": label_studio.read_label_studio,
        "labelme": labelme.read_labelme,
        "via": via.read_via,
        "coco-masks": coco_sets.read_coco_masks,
    }
    return readers[form](root)


def convert(
    source: Path,
    target_dir: Path,
    form: str | None,
    target: str,
    split: float | None = None,
    seed: int = 0,
    accepted: Sequence[str] = (),
    voc_origin: int | None = None,
    background: bool = True,
    copy: bool = False,
) -> Converted:
    """Read a folder, and write a new one that recipes for own data take as it is.

    Args:
        source: The folder.
        target_dir: A new or empty folder.
        form: Of `FORMS`; None finds out.
        target: 'coco': annotations/{split}.json and images/. 'semantic': images/{split}/,
            masks/{split}/ and classes.yaml.
        split: Divide anew with this share for val; None keeps the splits that are there, and takes
            a fifth where there are none.
        seed: Of the division.
        accepted: Names of rules that may be broken.
        voc_origin: Number of the first pixel in VOC files; None finds out.
        background: Whether what no shape covers is a class of its own, 0, in label maps; otherwise
            it is 255 and not looked at.
        copy: Copy pictures; otherwise they are linked (one file with two names) where the disk can.

    Raises:
        ValueError: If something cannot be read or would be lost, or the target is in the way.
    """
    if not source.is_dir():
        raise ValueError(f"{source} is no folder; name the one that holds pictures and labels")
    if target_dir.exists() and (not target_dir.is_dir() or any(target_dir.iterdir())):
        raise ValueError(f"{target_dir} is there already; name a new or empty folder")
    if target_dir.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"{target_dir} lies inside {source}; name a folder outside of it")
    require_known(accepted, ALL_RULES)
    form = form or guessed_form(source)
    labelled = read_form(source, form, target, voc_origin)
    if target == "semantic":
        boxes = [(i, s) for i in labelled.images for s in i.shapes if not s.has_mask]
        for image, shape in boxes:
            labelled.found.add(to_semantic.BOXES, image.name, f"has a box of {shape.label!r}")
    findings = labelled.found.findings()
    require_sound(findings, accepted)
    if not labelled.classes:
        raise ValueError(f"{source} has no labelled object; there is nothing to learn from")
    _split(labelled, split, seed)
    target_dir.mkdir(parents=True, exist_ok=True)
    lines = [f"{source}: {form}, {len(labelled.images):,} pictures", *labelled.how]
    for finding in findings:
        lines += finding.lines(is_accepted=finding.is_problem)
    if target == "coco":
        lines += _write_coco(labelled, target_dir, copy)
    else:
        lines += _write_semantic(labelled, target_dir, background, copy)
    return Converted(form, lines)


def _split(labelled: LabelledSet, share: float | None, seed: int) -> None:
    told = [image.split for image in labelled.images]
    if share is None and all(told):
        return
    if share is None and any(told):
        name = next(image.name for image in labelled.images if image.split is None)
        raise ValueError(
            f"{labelled.root} has pictures of no split, such as {name}; put them into a folder or "
            "list of one, or divide all anew with --split 0.2"
        )
    divide(labelled, DEFAULT_SHARE if share is None else share, seed)


def _of_splits(labelled: LabelledSet) -> dict[str, list[LabelledImage]]:
    by_split = {s: [i for i in labelled.images if i.split == s] for s in SPLITS}
    return {split: images for split, images in by_split.items() if images}


def _write_coco(labelled: LabelledSet, target_dir: Path, copy: bool) -> list[str]:
    names = {image.name: _short_name(image.name) for image in labelled.images}
    if len(set(names.values())) < len(names):
        names = {name: name for name in names}
    for image in labelled.images:
        _place(image.file, target_dir / "images" / names[image.name], copy)
    counts: dict[str, Counter[str]] = {}
    for split, images in _of_splits(labelled).items():
        content = coco_content(labelled, images, names)
        atomic_write_text(target_dir / "annotations" / f"{split}.json", coco_text(content))
        counts[split] = Counter(shape.label for image in images for shape in image.shapes)
    return _table(labelled, counts, "objects")


def _short_name(name: str) -> str:
    """A picture's path without the folders that every layout has."""
    parts = name.split("/")
    return "/".join([p for p in parts[:-1] if p not in ("images", "JPEGImages")] + parts[-1:])


def _write_semantic(
    labelled: LabelledSet, target_dir: Path, background: bool, copy: bool
) -> list[str]:
    names = to_semantic.class_list(labelled, background)
    numbers = {name: k for k, name in enumerate(names)}
    empty = numbers[to_semantic.BACKGROUND] if background else to_semantic.IGNORED
    counts: dict[str, Counter[str]] = {}
    overlaps = 0
    stems: dict[tuple[str, str], str] = {}
    for split, images in _of_splits(labelled).items():
        pixels: Counter[int] = Counter()
        for image in images:
            parts = _short_name(image.name).rpartition(".")[0].split("/")
            inner = [part for part in parts[:-1] if split_in(part) != split]
            stem = "_".join([*inner, parts[-1]])
            other = stems.setdefault((split, stem), image.name)
            if other != image.name:
                raise ValueError(f"{other} and {image.name} would both be {stem}.png; rename one")
            map_HW, covered = to_semantic.label_map(image, numbers, empty)
            overlaps += covered
            file = target_dir / "masks" / split / f"{stem}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            to_semantic.save_map(map_HW, file)
            to_semantic.count_pixels(map_HW, pixels)
            _place(image.file, target_dir / "images" / split / f"{stem}{image.file.suffix}", copy)
        counts[split] = Counter({name: pixels[k] for name, k in numbers.items()})
        counts[split]["(ignored)"] = pixels[to_semantic.IGNORED]
    text = yaml.safe_dump(dict(enumerate(names)), allow_unicode=True, sort_keys=True)
    atomic_write_text(target_dir / "classes.yaml", text)
    lines = _table(labelled, counts, "pixels")
    if overlaps:
        lines.append(f"pixels where shapes of two classes lie over one another: {overlaps:,}")
    return lines


def _place(source: Path, target: Path, copy: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not copy:
        with contextlib.suppress(OSError):  # another disk, or one without hard links
            os.link(source.resolve(), target)
            return
    shutil.copyfile(source, target)


def _table(labelled: LabelledSet, counts: dict[str, Counter[str]], unit: str) -> list[str]:
    splits = list(counts)
    by_split = _of_splits(labelled)
    names = list(dict.fromkeys(name for c in counts.values() for name in c)) or labelled.classes
    names = list(dict.fromkeys([*labelled.classes, *names]))
    width = max(map(len, [*names, "pictures"])) + 2
    lines = ["", " " * width + "".join(f"{split:>14}" for split in splits)]
    lines.append("pictures".ljust(width) + "".join(f"{len(by_split[s]):>14,}" for s in splits))
    lines += [
        name.ljust(width) + "".join(f"{counts[split][name]:>14,}" for split in splits)
        for name in names
    ]
    return [*lines, f"({unit} of each class)"]
