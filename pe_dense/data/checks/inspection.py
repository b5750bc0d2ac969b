"""Looks through a folder that a person has and says what is there, and what is missing or wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pe_dense.data.checks.class_table import class_table
from pe_dense.data.checks.coco_file import CocoFile, read_coco_file
from pe_dense.data.checks.coco_findings import (
    box_findings,
    content_findings,
    image_findings,
    leak_findings,
)
from pe_dense.data.checks.coco_folder import find_images, find_splits
from pe_dense.data.checks.findings import Finding
from pe_dense.data.checks.known_sets import KnownSet, KnownSplit

# Title of a piece of work -> callback (done, total).
Progress = Callable[[str], Callable[[int, int], None]]


@dataclass
class Inspection:
    """What was found.

    Attributes:
        title: The data set and its folder.
        findings: Where it was found -> what.
        contents: Split -> what its JSON holds, of those that could be read.
        table: What other data hold, for a person.
    """

    title: str
    findings: dict[str, list[Finding]] = field(default_factory=dict)
    contents: dict[str, CocoFile] = field(default_factory=dict)
    table: str = ""

    def add(self, where: str, findings: Sequence[Finding]) -> None:
        """More findings of a file or folder."""
        if findings:
            self.findings.setdefault(where, []).extend(findings)

    @property
    def num_problems(self) -> int:
        """Kinds of problems, over all files."""
        return sum(f.is_problem for found in self.findings.values() for f in found)

    def text(self, all_classes: bool = False) -> str:
        """The whole of it for a person: the table, the notes, then the problems.

        Args:
            all_classes: Show every class, however many there are.
        """
        blocks = [self.title, *filter(None, [self.table])]
        if self.contents:
            limit = 10_000 if all_classes else 20
            blocks.append(class_table(self.contents, max_rows=limit))
        for heading, is_problem in (("notes", False), ("problems", True)):
            lines = [
                f"  {where}: {line}" if not line.startswith(" ") else f"  {line}"
                for where, found in self.findings.items()
                for finding in found
                if finding.is_problem == is_problem
                for line in finding.lines()
            ]
            if lines:
                blocks.append("\n".join([heading, *lines]))
        return "\n\n".join(blocks)


def inspect_known_set(
    root: Path, known: KnownSet, splits: Sequence[str], progress: Progress, num_decoded: int = 200
) -> Inspection:
    """Compare a folder with what a published data set should have.

    Args:
        root: The folder.
        known: The data set.
        splits: Of 'train' and 'val'.
        progress: Makes a progress callback from the title of a piece of work.
        num_decoded: So many images per split are decoded.

    Raises:
        ValueError: If the folder does not exist.
    """
    require_folder(root)
    found = Inspection(f"{known.title} in {root}")
    for split in splits:
        expected = known.splits[split]
        absent = _missing_folders(root, expected)
        found.add(split, absent)
        json_file = root / expected.json
        if not json_file.is_file():
            found.add(split, [_missing("annotation file", json_file, expected.json_from)])
            continue
        coco = _read(found, split, json_file, known.naming, progress)
        if coco is None:
            continue
        found.add(expected.json, total_findings(coco, known, expected))
        found.add(expected.json, box_findings(coco, known.outside_is_problem))
        found.add(expected.json, content_findings(coco))
        if not absent:
            images = root / expected.images
            tick = progress(f"{split} images")
            found.add(split, image_findings(coco, images, known.naming, num_decoded, tick))
    return found


def inspect_folder(
    root: Path,
    progress: Progress,
    train_json: str | None = None,
    val_json: str | None = None,
    num_decoded: int = 200,
) -> Inspection:
    """Look through a COCO-format folder with any classes.

    Args:
        root: The folder.
        progress: As in `inspect_known_set`.
        train_json: Relative to the folder; by default it is found.
        val_json: The same.
        num_decoded: So many images per split are decoded.

    Raises:
        ValueError: If the folder does not exist or its annotations are not found.
    """
    require_folder(root)
    names = dict(zip(("train", "val"), find_splits(root, train_json, val_json), strict=True))
    found = Inspection(f"{root}: {names['train']}, {names['val']}")
    folders: dict[str, Path] = {}
    for split, name in names.items():
        if not (root / name).is_file():
            found.add(split, [_missing("annotation file", root / name, "your own annotations")])
            continue
        coco = _read(found, split, root / name, "coco", progress)
        if coco is None:
            continue
        found.add(name, box_findings(coco))
        found.add(name, content_findings(coco))
        try:
            folder = root / find_images(root, name, coco.file_names)
        except ValueError as error:
            found.add(name, [Finding("images without a file", coco.num_images, (str(error),))])
            continue
        folders[split] = folder
        tick = progress(f"{split} images")
        found.add(name, image_findings(coco, folder, "coco", num_decoded, tick))
    found.add("val", class_findings(found.contents))
    if len(folders) == 2:
        train, val = (found.contents[split] for split in ("train", "val"))
        found.add("val", leak_findings(train, folders["train"], val, folders["val"]))
    return found


def total_findings(coco: CocoFile, known: KnownSet, expected: KnownSplit) -> list[Finding]:
    """Images, boxes and classes in numbers other than published; LVIS's own fields."""
    findings = []
    for what, have, should in (
        ("images", coco.num_images, expected.num_images),
        ("boxes", coco.num_annotations, expected.num_boxes),
    ):
        if should is not None and have != should:
            text = (
                f"there are {have:,} {what}, and {'' if known.is_certain else 'about '}{should:,}"
            )
            kind = f"another number of {what} than {known.title} has"
            findings.append(
                Finding(kind, abs(have - should), (f"{text} are published",), known.is_certain)
            )
    have_ids, should_ids = set(coco.category_ids.tolist()), set(known.category_ids)
    if have_ids != should_ids:
        lacking, extra = sorted(should_ids - have_ids), sorted(have_ids - should_ids)
        words = [
            f"{word} {', '.join(map(str, ids[:10]))}{' ...' if len(ids) > 10 else ''}"
            for word, ids in (("lacks", lacking), ("has besides", extra))
            if ids
        ]
        text = f"of {len(should_ids)} ids it {', and '.join(words)}"
        kind = f"classes that are not those of {known.title}"
        findings.append(Finding(kind, len(lacking) + len(extra), (text,)))
    if known.naming == "lvis":
        plain = [c["name"] for c in coco.categories if c.get("frequency") not in ("r", "c", "f")]
        if plain:
            kind = "classes without a frequency (r, c or f), which LVIS AP needs"
            findings.append(Finding(kind, len(plain), (", ".join(plain[:3]),)))
    return findings


def class_findings(contents: dict[str, CocoFile]) -> list[Finding]:
    """Classes of val that differ from those of train, or come in another order."""
    if set(contents) != {"train", "val"}:
        return []
    train, val = contents["train"].class_names(), contents["val"].class_names()
    if train == val:
        return []
    only = [f"{name} is only in train" for name in train if name not in val]
    only += [f"{name} is only in val" for name in val if name not in train]
    kind = "classes that differ between train and val"
    if not only:
        return [Finding(kind, len(val), ("they are the same, but in another order",))]
    return [Finding(kind, len(only), tuple(only[:3]))]


def _read(
    found: Inspection, split: str, json_file: Path, naming: str, progress: Progress
) -> CocoFile | None:
    try:
        coco = read_coco_file(json_file, naming, progress(f"{split} annotations"))
    except ValueError as error:
        found.add(split, [Finding("unusable annotation file", 1, (str(error),))])
        return None
    found.add(json_file.name, coco.findings)
    if any(finding.is_problem and "twice" in finding.kind for finding in coco.findings):
        return None  # with repeated ids nothing else can be told
    found.contents[split] = coco
    return coco


def _missing_folders(root: Path, expected: KnownSplit) -> list[Finding]:
    return [
        _missing("image folder", root / folder, source)
        for folder, source in expected.images_from.items()
        if not (root / folder).is_dir()
    ]


def _missing(what: str, path: Path, source: str) -> Finding:
    return Finding(f"missing {what}", 1, (f"{path} does not exist; it comes from {source}",))


def require_folder(root: Path, content: str = "the annotations") -> None:
    """Refuse to look through what is no folder.

    Raises:
        ValueError: If it is none.
    """
    if not root.is_dir():
        raise ValueError(f"{root} is no folder; name the one that holds {content}")
