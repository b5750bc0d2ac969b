"""Check of the instance masks that an alignment learns from, before it trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pe_dense.data.checks.class_table import class_table
from pe_dense.data.checks.coco_images import NO_FILE, UNDECODABLE
from pe_dense.data.checks.coco_split import (
    RULES,
    CocoFacts,
    CocoSplit,
    as_notes,
    coco_facts,
    split_findings,
)
from pe_dense.data.checks.progress import late_progress
from pe_dense.data.checks.rules import CheckedData, Finding
from pe_dense.data.config_datasets import datasets_of


def check_config(cfg: Mapping[str, Any], splits: Sequence[str]) -> CheckedData:
    """Check COCO masks as for detection, where a config reads them; other data have no labels.

    Images that are missing or broken are notes here: the loader skips and lists them, and stops
    above `max_unreadable_share`.

    Args:
        cfg: Resolved config. Its `accept` is handed on to the data sets, which check as well.
        splits: Of 'train', 'val', 'test'.

    Raises:
        ValueError: If a file cannot be read.
    """
    shown: dict[str, CocoFacts] = {}
    image_dirs: dict[str, Path] = {}
    findings: list[Finding] = []
    for split, dataset, _ in datasets_of(cfg, splits):
        if dataset["type"] != "CocoInstanceIds":
            continue
        root = Path(dataset["data_root"])
        images = root / dataset.get("img_folder", "")
        place = CocoSplit(root, root / dataset["ann_file"], images)
        facts = coco_facts(root, place.json_file, progress=late_progress)
        found = split_findings(
            place, facts, with_masks=True, bits=cfg.get("image_bits"), progress=late_progress
        )
        findings += as_notes(found, (NO_FILE, UNDECODABLE))
        column = split if split not in shown else f"{split} {place.json_file.name}"
        shown[column], image_dirs[column] = facts, images
        dataset["accept"] = list(cfg.get("accept", ()))
    if not shown:
        return CheckedData("")
    classes = list(dict.fromkeys(name for facts in shown.values() for name in facts.classes))
    return CheckedData(class_table(shown, image_dirs, classes), findings, RULES)
