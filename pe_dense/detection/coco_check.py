"""Checks of COCO-format data before anything is trained or scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pe_dense.data.checks.class_table import class_table
from pe_dense.data.checks.coco_boxes import LEFT_OUT_RULES
from pe_dense.data.checks.coco_images import NUM_DECODED
from pe_dense.data.checks.coco_split import (
    RULES,
    CocoFacts,
    CocoSplit,
    both_findings,
    class_findings,
    coco_facts,
    filter_findings,
    split_findings,
)
from pe_dense.data.checks.known_sets import KNOWN_RULES, KNOWN_SETS, KnownSet, total_findings
from pe_dense.data.checks.progress import late_progress
from pe_dense.data.checks.rules import CheckedData, Finding
from pe_dense.data.config_datasets import datasets_of
from pe_dense.data.convert.beside import made_from
from pe_dense.data.convert.labelled_set import RULES as LABEL_RULES
from pe_dense.data.own_schedule import plan_in_words
from pe_dense.detection.reachable_scores import limit_findings, limits_of

# mmdet's data sets that name an image's file otherwise than COCO does.
NAMING_OF_TYPE = {
    "LvisDataset": "lvis",
    "LVISV1Dataset": "lvis",
    "Objects365V2Dataset": "objects365",
}
_KNOWN_OF_TYPE = {"CocoDataset": "coco", **NAMING_OF_TYPE}


def check_config(cfg: Mapping[str, Any], splits: Sequence[str]) -> CheckedData:
    """Check the data that a config will read, and set in it what follows from what was accepted.

    Args:
        cfg: Resolved config. Where faults are accepted that leave objects out, its metrics are
            told to leave them out as well.
        splits: Of 'train', 'val', 'test': the loaders that will be used.

    Returns:
        A table of images and objects by class and split, and all findings.

    Raises:
        ValueError: If the config contradicts itself, or a file cannot be read.
    """
    classes = cfg["classes"]
    if len(classes) != cfg["num_classes"]:
        raise ValueError(
            f"num_classes is {cfg['num_classes']} but classes names {len(classes)}: "
            f"{', '.join(classes)}; make them agree"
        )
    most = cfg.get("model", {}).get("test_cfg", {}).get("max_per_img", 0)
    possible = cfg.get("model", {}).get("num_queries", most) * len(classes)
    if most > possible:
        raise ValueError(
            f"model.test_cfg.max_per_img is {most}, but num_queries {possible // len(classes)} and "
            f"{len(classes)} classes give at most {possible} detections; lower it"
        )
    shown: dict[str, CocoFacts] = {}
    image_dirs: dict[str, Path] = {}
    places: dict[str, dict[CocoSplit, CocoFacts]] = {}
    findings: list[Finding] = []
    made: list[str] = []
    known = _known_set(cfg)
    for split, dataset, is_held_out in datasets_of(cfg, splits):
        if is_held_out:  # these images are in the file that is trained on
            continue
        place = _place(dataset)
        facts = _facts(place)
        if place not in places.setdefault(split, {}):
            places[split][place] = facts
            column = split if split not in shown else f"{split} {place.json_file.name}"
            shown[column], image_dirs[column] = facts, place.image_dir
            findings += _of_split(cfg, split, place, facts, known)
            source = made_from(place.json_file)
            if source is not None:
                findings += source.findings
                made += [f"{source.form} labels; {line}" for line in source.how]
        if split == "train":
            findings += filter_findings(place.json_file, facts, dataset.get("filter_cfg") or {})
    for split in sorted({"train", "test"} - set(splits)):  # compared, not looked through
        places[split] = dict(_places_there(cfg, split))
    for scored in {place: 0 for split in ("val", "test") for place in places.get(split, {})}:
        for train, facts in places.get("train", {}).items():
            both = {"train": facts, "val": _facts(scored)}
            findings += both_findings(train, scored, both, _are_published(known, train, scored))
    findings = list(dict.fromkeys(findings))  # val and test are often the same
    _leave_out_in_scores(cfg, findings)
    plan = [plan_in_words({**cfg, "image_side": max(cfg["image_scale"])})] if _plans(cfg) else []
    table = "\n".join([*dict.fromkeys(made), class_table(shown, image_dirs, classes), *plan])
    return CheckedData(table, findings, (*RULES, *KNOWN_RULES, *LABEL_RULES))


def _plans(cfg: Mapping[str, Any]) -> bool:
    return "planned_for" in cfg and isinstance(cfg.get("image_scale"), list | tuple)


def _of_split(
    cfg: Mapping[str, Any], split: str, place: CocoSplit, facts: CocoFacts, known: KnownSet | None
) -> list[Finding]:
    loader, evaluator = cfg[f"{split}_dataloader"], cfg.get(f"{split}_evaluator")
    with_masks = _is_true_somewhere(loader["dataset"], "with_mask") or (
        split != "train" and _is_true_somewhere(evaluator, "with_masks")
    )
    findings = split_findings(
        place, facts, with_masks, known is not None, cfg.get("image_bits"), NUM_DECODED,
        late_progress,
    )  # fmt: skip
    may_lack = split != "train" and known is None and place.naming == "coco"
    findings += class_findings(place.json_file, facts, cfg["classes"], "the config", may_lack)
    if split != "train":
        findings += limit_findings(place, facts, limits_of(cfg))
    if known is not None:
        for expected in known.splits.values():
            if place.json_file == place.root / expected.json:
                findings += total_findings(place.json_file, facts, known, expected)
    return findings


def _place(dataset: Mapping[str, Any]) -> CocoSplit:
    root = Path(dataset["data_root"])
    if not root.is_dir():
        raise ValueError(
            f"data_root {root} does not exist; pass --cfg-options data_root=DIR, or run "
            "python tools/prepare_data.py for data that can be made"
        )
    images = root / dataset.get("data_prefix", {}).get("img", "")
    naming = NAMING_OF_TYPE.get(dataset.get("type", ""), "coco")
    return CocoSplit(root, root / dataset["ann_file"], images, naming)


def _facts(place: CocoSplit) -> CocoFacts:
    return coco_facts(place.root, place.json_file, place.naming, late_progress)


def _places_there(cfg: Mapping[str, Any], split: str) -> Iterator[tuple[CocoSplit, CocoFacts]]:
    """The data sets of a loader that is not used, as far as they are there."""
    for _, dataset, _ in datasets_of(cfg, (split,)):
        if (Path(dataset["data_root"]) / dataset["ann_file"]).is_file():
            place = _place(dataset)
            yield place, _facts(place)


def _known_set(cfg: Mapping[str, Any]) -> KnownSet | None:
    """The published data set that a config is for; own data have none."""
    if cfg.get("data_facts") != "pe_dense.detection.known_datasets:facts":
        return None
    known = KNOWN_SETS.get(_KNOWN_OF_TYPE.get(cfg["dataset_type"], ""))
    is_own = known is None or len(cfg["classes"]) != len(known.category_ids)
    return None if is_own else known


def _are_published(known: KnownSet | None, train: CocoSplit, scored: CocoSplit) -> bool:
    """Whether training and scoring are divided as published, each by its own file.

    A config for a published set may name other files: val as train, or a list of one's own.
    """
    if known is None or train.root.resolve() != scored.root.resolve():
        return False
    files = {split: train.root / expected.json for split, expected in known.splits.items()}
    scored_of = {file for split, file in files.items() if split != "train"}
    return train.json_file == files.get("train") and scored.json_file in scored_of


def _is_true_somewhere(value: Any, key: str) -> bool:
    """Whether a part of a config has `key=True`."""
    if isinstance(value, Mapping):
        return value.get(key) is True or any(_is_true_somewhere(v, key) for v in value.values())
    return isinstance(value, (list, tuple)) and any(_is_true_somewhere(v, key) for v in value)


def _leave_out_in_scores(cfg: Mapping[str, Any], findings: Sequence[Finding]) -> None:
    """Tell the metrics what training leaves out, where that was accepted."""
    names = {rule.name for rule in LEFT_OUT_RULES} & set(cfg.get("accept", ()))
    if not any(finding.is_problem and finding.rule.name in names for finding in findings):
        return
    for name in ("val_evaluator", "test_evaluator"):
        evaluators = cfg.get(name) or []
        for evaluator in [evaluators] if isinstance(evaluators, Mapping) else evaluators:
            if evaluator["type"] in ("CocoAP", "LvisAP"):
                evaluator["leave_out_untrainable"] = True
