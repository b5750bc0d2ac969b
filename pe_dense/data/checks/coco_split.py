"""One split of a COCO-format set: what its JSON and images hold, found out once and remembered."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pe_dense.data.checks import coco_boxes, coco_entries, coco_images, coco_masks
from pe_dense.data.checks.coco_boxes import box_findings, content_findings
from pe_dense.data.checks.coco_file import (
    NO_COCO,
    NO_JSON,
    read_coco_file,
    read_images,
    scored_objects,
)
from pe_dense.data.checks.coco_images import NUM_DECODED, image_findings
from pe_dense.data.checks.coco_masks import mask_findings
from pe_dense.data.checks.many_files import Progress, Tick, silent
from pe_dense.data.checks.remembered import Answer, remembered
from pe_dense.data.checks.repeated_images import TRAINED_ON, repeated_images
from pe_dense.data.checks.rules import Fault, Finding, Rule, from_plain, to_plain
from pe_dense.data.image_files import spread

NUM_PROBES = 20

OTHER_CLASSES = Rule(
    "other-classes",
    "classes that differ",
    "name the same classes in every file, or set classes and num_classes to those of the file, in "
    "any order",
)
UNTRAINED = Rule(
    "untrained-classes",
    "classes that are scored but have no object to train on",
    "divide the images anew, or take the class out of both files",
    "scored as the others, which lowers the mean",
)
UNLISTED = Rule(
    "unlisted-classes",
    "classes that a scored file does not list (no object of them, no AP)",
    is_problem=False,
)
EMPTIED = Rule(
    "filtered-out",
    "sets that filter_cfg leaves without images",
    "lower filter_cfg.min_size, or annotate larger images",
)
FILTERED = Rule(
    "filtered-images", "images that filter_cfg leaves out in training", is_problem=False
)
RULES: tuple[Rule, ...] = (
    NO_JSON, NO_COCO, *coco_entries.RULES, *coco_boxes.SPLIT_RULES, *coco_boxes.BOX_RULES,
    *coco_masks.MASK_RULES, *coco_images.IMAGE_RULES, TRAINED_ON, OTHER_CLASSES, UNTRAINED, EMPTIED,
)  # fmt: skip


@dataclass(frozen=True)
class CocoFacts:
    """What a COCO JSON holds, small enough to be remembered.

    Attributes:
        sha256: Of the file, hex.
        counts: Class -> (images that show it, annotations, objects to train on), in its order.
        num_images, num_empty: Images, and those of them without annotations.
        num_annotations, num_unusable, num_crowds: Annotations, those that training leaves out,
            and those that it ignores.
        most_objects, most_of_class: Scored objects of an image, and of an image and class, at most.
        sides: (shorter side in pixels, whether anything is annotated, how many such images).
        longer_side: Median of the images' longer sides in pixels, 0 where there is no image.
        probes: Up to 20 names of images, evenly spread.
        category_ids: As in the file.
        listed: Names of all categories, with what looks like a placeholder in this file.
        unrated: Classes without LVIS's 'frequency'.
        findings: Of form, boxes, masks and content.
    """

    sha256: str
    counts: Mapping[str, tuple[int, int, int]]
    num_images: int
    num_empty: int
    num_annotations: int
    num_unusable: int
    num_crowds: int
    most_objects: int
    most_of_class: int
    sides: Sequence[tuple[int, bool, int]]
    longer_side: int
    probes: Sequence[str]
    category_ids: Sequence[int]
    listed: Sequence[str]
    unrated: Sequence[str]
    findings: Sequence[Finding]

    @property
    def classes(self) -> list[str]:
        """Names, in the order of the file."""
        return list(self.counts)

    def classes_with(self, names: Container[str]) -> list[str]:
        """The same, with what looks like a placeholder here if it is among some names."""
        return [n for n in dict.fromkeys(self.listed) if n in self.counts or n in names]


@dataclass(frozen=True)
class CocoSplit:
    """Where a split lies.

    Attributes:
        root: Folder of the data set, beside which answers are remembered.
        json_file: Its annotations.
        image_dir: What the names of images are relative to.
        naming: As in `read_coco_file`.
    """

    root: Path
    json_file: Path
    image_dir: Path
    naming: str = "coco"


def coco_facts(
    root: Path, json_file: Path, naming: str = "coco", progress: Progress = silent
) -> CocoFacts:
    """What a JSON holds; arguments as in `CocoSplit`.

    Raises:
        UnsoundError: If it cannot be read.
    """
    on_progress = progress(f"reading {json_file.name}")
    find = functools.partial(_find_facts, json_file, naming, on_progress)
    plain = remembered(root, {"facts of": str(json_file), "naming": naming}, find)
    return CocoFacts(**plain | {"findings": from_plain(plain["findings"])})


def _find_facts(json_file: Path, naming: str, on_progress: Tick) -> Answer:
    coco = read_coco_file(json_file, naming, on_progress)
    is_annotated_I = [False] * coco.num_images
    for image in set(coco.image_index().tolist()):
        is_annotated_I[image] = True
    sides = Counter(zip(coco.sizes_I2.min(1, initial=2**31).tolist(), is_annotated_I, strict=True))
    image_A, class_A = scored_objects(coco)
    most_objects = int(np.bincount(image_A).max(initial=0))
    most_of_class = int(np.bincount(image_A * len(coco.categories) + class_A).max(initial=0))
    findings = [*coco.findings, *box_findings(coco), *content_findings(coco), *mask_findings(coco)]
    facts = {
        "sha256": coco.sha256,
        "counts": coco.class_counts(),
        "num_images": coco.num_images,
        "num_empty": coco.num_empty_images(),
        "num_annotations": coco.num_annotations,
        "num_unusable": int((~coco.is_usable()).sum()),
        "num_crowds": int(coco.is_crowd_A.sum()),
        "most_objects": most_objects,
        "most_of_class": most_of_class,
        "sides": [(*key, count) for key, count in sorted(sides.items())],
        "longer_side": int(np.median(coco.sizes_I2.max(1))) if coco.num_images else 0,
        "probes": [coco.file_names[i] for i in spread(coco.num_images, NUM_PROBES)],
        "category_ids": coco.category_ids.tolist(),
        "listed": coco.listed,
        "unrated": [
            category["name"]
            for category in coco.categories
            if category.get("frequency") not in ("r", "c", "f")
        ],
        "findings": to_plain(findings),
    }
    return Answer(facts, [json_file])


def split_findings(
    split: CocoSplit,
    facts: CocoFacts,
    with_masks: bool,
    is_published: bool = False,
    bits: int | None = None,
    num_decoded: int = NUM_DECODED,
    progress: Progress = silent,
) -> list[Finding]:
    """All that is found in the JSON and the images of a split.

    Args:
        split: Where it lies.
        facts: Of its JSON.
        with_masks: Whether masks are trained or scored; otherwise their faults are notes.
        is_published: Whether it is a published file, whose faults official scores count: those of
            boxes and masks are notes.
        bits: As in `image_findings`.
        num_decoded: The same.
        progress: Title -> callback.
    """
    findings = list(facts.findings)
    if not with_masks:
        if any(f.rule == coco_masks.ABSENT and f.count == facts.num_annotations for f in findings):
            findings = [f for f in findings if f.rule not in coco_masks.MASK_RULES]
        findings = as_notes(findings, coco_masks.MASK_RULES)
    if is_published:
        findings = as_notes(findings, (*coco_boxes.BOX_RULES, *coco_masks.MASK_RULES))
    on_progress = progress(f"images of {split.json_file.name}")
    find = functools.partial(_find_image_findings, split, bits, num_decoded, on_progress)
    question = {
        "images of": str(split.json_file), "in": str(split.image_dir), "naming": split.naming,
        "bits": bits, "decoded": num_decoded,
    }  # fmt: skip
    return [*findings, *from_plain(remembered(split.root, question, find))]


def _find_image_findings(
    split: CocoSplit,
    bits: int | None,
    num_decoded: int,
    on_progress: Tick,
) -> Answer:
    names, sizes_I2 = read_images(split.json_file, split.naming)
    findings = image_findings(
        split.json_file, names, sizes_I2, split.image_dir, split.naming, bits, num_decoded,
        on_progress,
    )  # fmt: skip
    return Answer(to_plain(findings), [split.json_file, *_folders(split.image_dir, names)])


def _folders(image_dir: Path, names: Iterable[str]) -> list[Path]:
    return [image_dir / parent for parent in {name.rpartition("/")[0] for name in names}]


def both_findings(
    train: CocoSplit, val: CocoSplit, facts: Mapping[str, CocoFacts], is_published: bool = False
) -> list[Finding]:
    """What is wrong between training and validation: shared images, classes that never occur.

    Args:
        train: Where the JSON and images of training lie.
        val: The same of validation.
        facts: Of 'train' and 'val'.
        is_published: As in `split_findings`.
    """
    question = {
        "shared images of": [str(train.json_file), str(val.json_file)],
        "in": [str(train.image_dir), str(val.image_dir)],
        "naming": [train.naming, val.naming],
    }
    find = functools.partial(_find_shared, train, val)
    findings = from_plain(remembered(val.root, question, find))
    counts = facts["train"].counts
    places = [
        Fault(
            str(train.json_file),
            "",
            f"has no object of {name!r} to train on, and {val.json_file} has {num_scored:,}",
        )
        for name, (_, _, num_scored) in facts["val"].counts.items()
        if num_scored and name in facts["train"].listed and not counts.get(name, (0, 0, 0))[2]
    ]
    if places:
        findings.append(Finding(UNTRAINED, len(places), tuple(places[:3])))
    return as_notes(findings, (TRAINED_ON, UNTRAINED)) if is_published else findings


def _find_shared(train: CocoSplit, val: CocoSplit) -> Answer:
    files, read = [], [train.json_file, val.json_file]
    for split in (train, val):
        names, _ = read_images(split.json_file, split.naming)
        files.append([split.image_dir / name for name in names])
        read += _folders(split.image_dir, names)
    return Answer(to_plain(repeated_images(*files)), read)


def class_findings(
    json_file: Path,
    facts: CocoFacts,
    wanted: Sequence[str],
    whose: str,
    may_lack: bool = False,
) -> list[Finding]:
    """Classes of a file that are not those that it should have; their order does not matter.

    Args:
        json_file: The file.
        facts: Of it.
        wanted: Those that it should have.
        whose: Who has these.
        may_lack: Whether it may list only some of them.
    """
    names = facts.classes_with(wanted)
    if sorted(names) == sorted(wanted):
        return []
    lacking = [name for name in wanted if name not in names]
    extra = [name for name in names if name not in wanted]
    if may_lack and lacking and not extra:
        place = Fault(str(json_file), "", f"does not list {_few(lacking)}")
        return [Finding(UNLISTED, len(lacking), (place,))]
    words = [f"{word} {_few(some)}" for word, some in (("lacks", lacking), ("adds", extra)) if some]
    value = (
        f"has {len(names)} classes ({_few(names)}), but {whose} has {len(wanted)} "
        f"({_few(wanted)}): it {' and '.join(words) or 'repeats some'}"
    )
    count = max(len(lacking) + len(extra), 1)
    return [Finding(OTHER_CLASSES, count, (Fault(str(json_file), "", value),))]


def filter_findings(
    json_file: Path, facts: CocoFacts, filter_cfg: Mapping[str, Any]
) -> list[Finding]:
    """Images that mmdet's `filter_cfg` leaves out in training; a problem if those are all."""
    least, only_annotated = filter_cfg.get("min_size", 0), filter_cfg.get("filter_empty_gt", False)
    left_out = sum(
        count
        for side, is_annotated, count in facts.sides
        if side < least or (only_annotated and not is_annotated)
    )
    if not left_out:
        return []
    value = f"has {left_out:,} of {facts.num_images:,} images that {dict(filter_cfg)} leaves out"
    place = Fault(str(json_file), "", value)
    if left_out == facts.num_images:
        return [Finding(EMPTIED, 1, (place,))]
    return [Finding(FILTERED, left_out, (place,))]


def as_notes(findings: Iterable[Finding], rules: Sequence[Rule]) -> list[Finding]:
    """Findings with those of some rules turned into notes."""
    return [
        dataclasses.replace(
            finding, rule=dataclasses.replace(finding.rule, remedy="", is_problem=False)
        )
        if finding.rule in rules
        else finding
        for finding in findings
    ]


def _few(names: Sequence[str], limit: int = 12) -> str:
    tail = f", ... {names[-1]}" if len(names) > limit else ""
    return ", ".join(names[:limit]) + tail
