"""What is there to be scored by names and captions, and what cannot be.

Which classes and captions there are, the data set itself says or refuses; here it is whether every
picture is there and has a head, whether every video has a frame, and whether a published set is
whole.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS

from pe_dense.data.checks.known_sets import PUBLISHED_TOTAL
from pe_dense.data.checks.media_files import NO_FRAME, look_at_files
from pe_dense.data.checks.picture_findings import MISSING, NO_WHITE, UNREADABLE
from pe_dense.data.checks.remembered import remembered
from pe_dense.data.checks.rules import (
    CheckedData,
    FindingCollector,
    Rule,
    from_plain,
)
from pe_dense.data.checks.text_table import text_table
from pe_dense.data.video_file import require_pyav
from pe_dense.text_dense.class_vectors import folded
from pe_dense.zero_shot.captioned_pictures import CaptionedPictures
from pe_dense.zero_shot.class_folders import ClassFolders

SAME_NAME = Rule(
    "repeated-names", "classes whose name stands before, and which are right nowhere: their "
    "pictures count as wrong, as where the first of equal scores is taken", is_problem=False,
)  # fmt: skip
SAME_WORDS = Rule(
    "repeated-captions", "captions that stand under several pictures, and are right for all of "
    "them", is_problem=False,
)  # fmt: skip
LEFT_OUT = Rule("left-out", "items that the config leaves out", is_problem=False)
PASSED_OVER = Rule(
    "passed-over", "files and folders below a class that are no pictures (or videos) by their "
    "ending", is_problem=False,
)  # fmt: skip
RULES = (MISSING, UNREADABLE, NO_WHITE, NO_FRAME, PUBLISHED_TOTAL)
# Pictures or videos of published sets by data set and split: ILSVRC 2012, ImageNet v2
# (arXiv:1902.10811), A (arXiv:1907.07174), R (arXiv:2006.16241), Sketch (arXiv:1905.13549), those
# of ObjectNet (objectnet.dev) in classes of ImageNet, the first test lists of UCF101 and HMDB51.
# Kinetics has no number: its videos go from the network one by one. Retrieval has `num_items`.
PUBLISHED = {
    ("imagenet", "val"): 50_000,
    ("imagenet-v2", "test"): 10_000,
    ("imagenet-a", "test"): 7_500,
    ("imagenet-r", "test"): 30_000,
    ("imagenet-sketch", "test"): 50_889,
    ("objectnet", "test"): 18_574,
    ("ucf101", "test 1"): 3_783,
    ("hmdb51", "test 1"): 1_530,
}


def check_config(cfg: Mapping[str, Any], splits: Sequence[str]) -> CheckedData:
    """Check the pictures that a config scores by names or captions.

    Args:
        cfg: Resolved config.
        splits: Not used: there is one loader, for tests.

    Returns:
        Classes or captions and pictures, and what is wrong.

    Raises:
        ValueError: As the data set, or if PyAV is not there for videos.
    """
    dataset = DATASETS.build(cfg["test_dataloader"]["dataset"])
    if not isinstance(dataset, ClassFolders | CaptionedPictures):
        return CheckedData("")
    if dataset.media == "video":
        require_pyav()
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    paths = [info["img_path"] for info in infos]
    look = functools.partial(look_at_files, paths, dataset.media, dataset.bits)
    question = {"media": dataset.media, "paths": paths, "bits": dataset.bits}
    found = from_plain(remembered(Path(dataset.data_root), question, look))
    notes = FindingCollector(dataset.data_root)
    notes.add_count(LEFT_OUT, len(dataset.left_out))
    what = "pictures" if dataset.media == "image" else "videos"
    protocol = cfg.get("protocol") or {}
    place = protocol.get("dataset"), protocol.get("split")
    have, total = len(infos) + len(set(dataset.left_out)), PUBLISHED.get(place)
    if total is not None and have != total:
        text = f"has {have:,} {what}; {' '.join(place)} was published with {total:,}"
        notes.add(PUBLISHED_TOTAL, "", text)
    if isinstance(dataset, ClassFolders):
        notes.add_count(PASSED_OVER, dataset.passed_over)
        for k in dataset.silent:
            notes.add(SAME_NAME, dataset.classes[k], f"is called {dataset.class_names[k]!r}")
        rows = [
            ["", "classes", what, "templates"],
            ["to score", len(dataset.classes), len(infos), len(dataset.templates)],
        ]
    else:
        captions = [folded(caption) for info in infos for caption in info["captions"]]
        notes.add_count(SAME_WORDS, len(captions) - len(set(captions)))
        rows = [["", what, "captions"], ["to score", len(infos), len(captions)]]
    return CheckedData(text_table(rows), [*found, *notes.findings()], RULES)
