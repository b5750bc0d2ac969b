"""Looks through a folder that a person has and says what is there, and what is missing or wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from pe_dense.data.checks.class_table import class_table
from pe_dense.data.checks.coco_folder import find_images, find_splits
from pe_dense.data.checks.coco_images import NUM_DECODED
from pe_dense.data.checks.coco_split import (
    CocoFacts,
    CocoSplit,
    both_findings,
    class_findings,
    coco_facts,
    split_findings,
)
from pe_dense.data.checks.known_sets import KnownSet, KnownSplit, total_findings
from pe_dense.data.checks.many_files import Progress
from pe_dense.data.checks.rules import Fault, Finding, Rule, UnsoundError

MISSING = Rule("missing-files", "missing files and folders")


@dataclass
class Inspection:
    """What was found.

    Attributes:
        title: The data set and its folder.
        findings: Where it was found -> what.
        contents: Split -> what its JSON holds, of those that could be read.
        image_dirs: Split -> the folder of its images.
        table: What other data hold, for a person.
    """

    title: str
    findings: dict[str, list[Finding]] = field(default_factory=dict)
    contents: dict[str, CocoFacts] = field(default_factory=dict)
    image_dirs: dict[str, Path] = field(default_factory=dict)
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
            blocks.append(class_table(self.contents, self.image_dirs, max_rows=limit))
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
    root: Path,
    known: KnownSet,
    splits: Sequence[str],
    progress: Progress,
    num_decoded: int = NUM_DECODED,
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
    places: dict[str, CocoSplit] = {}
    for split in splits:
        expected = known.splits[split]
        absent = _missing_folders(root, expected)
        found.add(split, absent)
        json_file = root / expected.json
        if not json_file.is_file():
            found.add(split, [_missing(json_file, expected.json_from)])
            continue
        place = CocoSplit(root, json_file, root / expected.images, known.naming)
        facts = _facts(found, split, place, progress)
        if facts is None:
            continue
        found.add(expected.json, total_findings(json_file, facts, known, expected))
        if not absent:
            places[split], found.image_dirs[split] = place, place.image_dir
            checked = split_findings(place, facts, True, True, None, num_decoded, progress)
            found.add(expected.json, checked)
    if len(places) == 2:
        found.add("val", both_findings(places["train"], places["val"], found.contents, True))
    return found


def inspect_folder(
    root: Path,
    progress: Progress,
    train_json: str | None = None,
    val_json: str | None = None,
    with_masks: bool = False,
    num_decoded: int = NUM_DECODED,
    images: Mapping[str, str | None] = MappingProxyType({}),
) -> Inspection:
    """Look through a COCO-format folder with any classes.

    Args:
        root: The folder.
        progress: As in `inspect_known_set`.
        train_json: Relative to the folder; by default it is found.
        val_json: The same.
        with_masks: Whether masks are to be trained or scored.
        num_decoded: So many images per split are decoded.
        images: Split -> folder of its images, relative to the folder; by default it is found.

    Raises:
        ValueError: If the folder does not exist or its annotations are not found.
    """
    require_folder(root)
    names = dict(zip(("train", "val"), find_splits(root, train_json, val_json), strict=True))
    found = Inspection(f"{root}: {names['train']}, {names['val']}")
    places: dict[str, CocoSplit] = {}
    for split, name in names.items():
        if not (root / name).is_file():
            found.add(split, [_missing(root / name, "your own annotations")])
            continue
        place = CocoSplit(root, root / name, root)
        facts = _facts(found, split, place, progress)
        if facts is None:
            continue
        try:
            image_dir = root / find_images(root, name, facts.probes, images.get(split))
        except UnsoundError as error:
            found.add(name, [*facts.findings, error.finding])
            continue
        places[split] = CocoSplit(root, root / name, image_dir)
        found.image_dirs[split] = image_dir
        checked = split_findings(
            places[split], facts, with_masks, False, None, num_decoded, progress
        )
        found.add(name, checked)
    if len(found.contents) == 2:
        train, val = found.contents["train"], found.contents["val"]
        classes = train.classes_with(val.counts)
        found.add(
            "val",
            class_findings(root / names["val"], val, classes, str(root / names["train"]), True),
        )
    if len(places) == 2:
        found.add("val", both_findings(places["train"], places["val"], found.contents))
    return found


def _facts(found: Inspection, split: str, place: CocoSplit, progress: Progress) -> CocoFacts | None:
    try:
        facts = coco_facts(place.root, place.json_file, place.naming, progress)
    except UnsoundError as error:
        found.add(split, [error.finding])
        return None
    found.contents[split] = facts
    return facts


def _missing_folders(root: Path, expected: KnownSplit) -> list[Finding]:
    return [
        _missing(root / folder, source)
        for folder, source in expected.images_from.items()
        if not (root / folder).is_dir()
    ]


def _missing(path: Path, source: str) -> Finding:
    return Finding(MISSING, 1, (Fault(str(path), "", f"does not exist; it comes from {source}"),))


def require_folder(root: Path, content: str = "the annotations") -> None:
    """Refuse to look through what is no folder.

    Raises:
        ValueError: If it is none.
    """
    if not root.is_dir():
        raise ValueError(f"{root} is no folder; name the one that holds {content}")
