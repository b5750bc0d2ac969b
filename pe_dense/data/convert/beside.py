"""YOLO and VOC folders as they are: a COCO JSON of each split, made beside the data.

The JSON lies in `.pe_dense/`, or in the user's cache folder where that cannot be written, under a
name with the hash of what it holds; what labels say now decides which file that is, so that none is
stale. Labels are read anew when the size, time or list of any label or picture has changed.
Beside it lies what was noticed while reading, which the check of the data reports.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pe_dense.data.checks.remembered import Answer, folder_for, remembered
from pe_dense.data.checks.rules import Finding, from_plain, to_plain
from pe_dense.data.convert.image_places import files_below
from pe_dense.data.convert.labelled_set import SPLITS, LabelledSet
from pe_dense.data.convert.to_coco import coco_content, coco_text
from pe_dense.data.convert.voc import is_voc, read_voc
from pe_dense.data.convert.yolo import is_yolo, read_yolo
from pe_dense.files import atomic_write_text, file_sha256

CONVERT_COMMAND = "python tools/prepare_data.py convert {root} {root}_coco --split 0.2 --seed 0"
_KINDS: dict[str, tuple[Callable[[Path], bool], Callable[[Path], LabelledSet]]] = {
    "yolo": (is_yolo, read_yolo),
    "voc": (is_voc, read_voc),
}
_LABEL_SUFFIXES = (".txt", ".xml", ".yaml", ".yml", ".names", ".labels")


@dataclass(frozen=True)
class MadeFrom:
    """What a made JSON came from.

    Attributes:
        form: 'yolo' or 'voc'.
        how: What was decided while reading, a line each.
        findings: What was noticed.
    """

    form: str
    how: list[str]
    findings: list[Finding]


def label_form(root: Path) -> str | None:
    """'yolo' or 'voc', if a folder has such labels; None if neither.

    Raises:
        ValueError: If it has both.
    """
    found = [form for form, (is_of, _) in _KINDS.items() if is_of(root)]
    if len(found) > 1:
        raise ValueError(
            f"{root} has labels of two formats ({' and '.join(found)}); take one of them out, or "
            f"convert one: python tools/prepare_data.py convert {root} NEW_DIR --from {found[0]}"
        )
    return found[0] if found else None


def made_beside(root: Path, form: str) -> dict[str, Path]:
    """Split -> COCO JSON of a folder, made if it is not there yet.

    Args:
        root: The folder.
        form: As `label_form` found it.

    Raises:
        ValueError: If labels cannot be understood, the folder is not divided into train and val,
            or nothing can be written.
    """
    question = {"kind": "made coco", "form": form}
    for _ in range(2):
        known = remembered(root, question, functools.partial(_make, root, form))
        files = {split: Path(path) for split, (path, _) in known.items()}
        if all(f.is_file() and file_sha256(f) == known[s][1] for s, f in files.items()):
            return files
        _make(root, form)  # somebody deleted or changed a file, but not the answer
    return files


def made_from(json_file: Path) -> MadeFrom | None:
    """What a JSON was made from; None for one that was not made here."""
    notes = _notes_file(json_file)
    if not notes.is_file():
        return None
    content = json.loads(notes.read_text(encoding="utf-8"))
    return MadeFrom(content["form"], content["how"], from_plain(content["findings"]))


def _make(root: Path, form: str) -> Answer:
    labelled = _KINDS[form][1](root)
    by_split = {
        split: [image for image in labelled.images if image.split == split] for split in SPLITS
    }
    undivided = [image.name for image in labelled.images if image.split is None]
    if undivided and any(by_split.values()):
        raise ValueError(
            f"{root} has {len(undivided)} pictures that belong to no split, such as "
            f"{undivided[0]}; put them into a folder or a list of a split"
        )
    absent = [split for split in ("train", "val") if not by_split[split]]
    if absent:
        raise ValueError(
            f"{root} ({form} labels) has no pictures for {absent[-1]}; divide it: "
            f"{CONVERT_COMMAND.format(root=root)}"
        )
    folder = folder_for(root)
    if folder is None:
        raise ValueError(
            f"neither {root} nor the cache folder ($XDG_CACHE_HOME, ~/.cache) can be written, so "
            f"{form} labels cannot be used as they are; convert them: "
            f"{CONVERT_COMMAND.format(root=root)}"
        )
    names = {image.name: image.name for image in labelled.images}
    notes = {
        "form": form, "how": labelled.how, "findings": to_plain(labelled.found.findings())
    }  # fmt: skip
    files = {}
    for split, images in by_split.items():
        if images:
            text = coco_text(coco_content(labelled, images, names))
            digest = hashlib.sha256(text.encode()).hexdigest()
            file = folder / f"{form}-{split}-{digest[:16]}.json"
            atomic_write_text(_notes_file(file), json.dumps(notes))
            atomic_write_text(file, text)
            files[split] = [str(file), digest]
    pictures = {image.file.parent for image in labelled.images}
    return Answer(files, [root, *pictures, *labelled.read, *files_below(root, _LABEL_SUFFIXES)])


def _notes_file(json_file: Path) -> Path:
    return json_file.with_suffix(".notes")
