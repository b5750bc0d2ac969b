"""What is there to learn and to score of class folders, and what cannot be."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS

from pe_dense.data.checks.known_sets import PUBLISHED_TOTAL
from pe_dense.data.checks.media_files import look_at_files
from pe_dense.data.checks.picture_findings import MISSING, NO_WHITE, UNREADABLE
from pe_dense.data.checks.remembered import Answer, remembered
from pe_dense.data.checks.repeated_images import TRAINED_ON, repeated_images
from pe_dense.data.checks.rules import (
    CheckedData,
    Finding,
    FindingCollector,
    Rule,
    from_plain,
    to_plain,
)
from pe_dense.data.checks.text_table import text_table
from pe_dense.data.config_datasets import datasets_of
from pe_dense.probing.classification.class_images import ClassImages
from pe_dense.probing.classification.own_facts import require_same_classes

LONE = Rule(
    "lone-picture", "classes with one training picture, which cannot be both learned and held out",
    "add pictures to the class, or take it away",
)  # fmt: skip
PASSED_OVER = Rule(
    "passed-over", "files and folders below a class that are no pictures by their ending",
    is_problem=False,
)  # fmt: skip
SHARED = Rule(
    "scored-is-learned", "pictures to score that stand among those to learn from, by their path",
    "score pictures that are not learned from",
)  # fmt: skip
RULES = (MISSING, UNREADABLE, NO_WHITE, LONE, SHARED, TRAINED_ON, PUBLISHED_TOTAL)
# Pictures of published sets by data set and split: ILSVRC 2012.
PUBLISHED = {("imagenet", "train"): 1_281_167, ("imagenet", "val"): 50_000}


def check_config(cfg: Mapping[str, Any], splits: Sequence[str]) -> CheckedData:
    """Check the pictures that a config learns from and scores.

    Args:
        cfg: Resolved config.
        splits: Not used: what is scored depends on what is learned, so that both are looked at.

    Returns:
        Classes and pictures, and what is wrong.

    Raises:
        ValueError: As the data sets, or if the classes of the two differ.
    """
    found: dict[str, ClassImages] = {}
    for split, leaf, held in datasets_of(cfg, ("train", "test")):
        if not held and split not in found:
            dataset = DATASETS.build(dict(leaf))
            if not isinstance(dataset, ClassImages):
                return CheckedData("")
            found[split] = dataset
    train, val = found["train"], found["test"]
    where = [str(part.data_root or split) for split, part in found.items()]
    where = [f"the training data ({where[0]})", f"the scored data ({where[1]})"]
    require_same_classes(train.classes, val.classes, *where)
    notes, rows = FindingCollector(str(cfg.get("data_root") or "")), [["", "classes", "pictures"]]
    trained, scored = set(), set()
    for name, part in (("to learn from", train), ("to score", val)):
        infos = [part.get_data_info(i) for i in range(len(part))]
        rows.append([name, len(part.classes), len(infos)])
        notes.add_count(PASSED_OVER, getattr(part.images, "passed_over", 0))
        if part is train:
            trained = {info["img_path"] for info in infos}
            counts = Counter(info["target"] for info in infos)
            for k, folder in enumerate(train.classes):
                if counts[k] < 2:
                    notes.add(LONE, folder, f"has {counts[k]}")
        else:
            scored = {info["img_path"] for info in infos}
            both = [info["image_id"] for info in infos if info["img_path"] in trained]
            for image_id in both:
                notes.add(SHARED, image_id, "is in both")
    protocol = cfg.get("protocol") or {}
    for split, part in (("train", train), ("val", val)):
        total = PUBLISHED.get((protocol.get("dataset"), split))
        if total is not None and len(part) != total:
            text = f"has {len(part):,} pictures; {protocol['dataset']} {split} was published with"
            notes.add(PUBLISHED_TOTAL, "", f"{text} {total:,}")
    paths = sorted(trained | scored)
    bits = getattr(train.images, "bits", None)
    question = {"media": "image", "paths": paths, "bits": bits}
    root = Path(str(cfg.get("data_root") or "."))
    look = functools.partial(look_at_files, paths, "image", bits)
    files = from_plain(remembered(root, question, look))
    if (protocol.get("dataset"), "train") not in PUBLISHED:  # those were divided by their makers
        files += _copies(root, sorted(trained), scored - trained)
    return CheckedData(text_table(rows), [*files, *notes.findings()], RULES)


def _copies(root: Path, trained: Sequence[str], scored: Collection[str]) -> list[Finding]:
    """Scored files that are learned from under another path: copies and links."""
    question = {"trained": list(trained), "scored": sorted(scored)}
    look = functools.partial(_compared, question["trained"], question["scored"])
    return from_plain(remembered(root, question, look))


def _compared(trained: Sequence[str], scored: Sequence[str]) -> Answer:
    files = [Path(path) for path in trained], [Path(path) for path in scored]
    return Answer(to_plain(repeated_images(*files)), files[0] + files[1])
