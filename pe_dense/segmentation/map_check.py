"""Checks of images and label maps before anything is trained or scored."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.registry import DefaultScope
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from pe_dense.data.checks.known_sets import PUBLISHED_TOTAL
from pe_dense.data.checks.label_maps import (
    CLASS_ABSENT,
    CONTENT_RULES,
    LabelCounts,
    LabelledSplit,
    LabelNames,
    class_findings,
    count_labels,
    label_table,
    split_findings,
)
from pe_dense.data.checks.picture_findings import IMAGE_RULES
from pe_dense.data.checks.picture_pairs import PAIR_RULES, pair_files
from pe_dense.data.checks.progress import late_progress
from pe_dense.data.checks.repeated_images import TRAINED_ON, repeated_images
from pe_dense.data.checks.rules import CheckedData, Finding, FindingCollector, Rule
from pe_dense.data.checks.segmentation_folder import published_split, total_findings
from pe_dense.data.config_datasets import datasets_of, holdouts_of
from pe_dense.data.holdout import HoldoutSubset
from pe_dense.data.label_map import FILE_RULES, IGNORED

PASSED_OVER = Rule(
    "images-passed-over", "images that the data set passes over",
    "rename them to its img_suffix, or use BaseSegDataset", "left out of training and of scores",
)  # fmt: skip
HELD_LACKS = Rule(
    "holdout-lacks-class", "classes that no held-out image shows",
    "hold out more with holdout_share, or set allow_absent_classes=True",
)  # fmt: skip
RULES = (
    *PAIR_RULES, *IMAGE_RULES, *FILE_RULES, *CONTENT_RULES, PASSED_OVER, PUBLISHED_TOTAL,
    TRAINED_ON, HELD_LACKS,
)  # fmt: skip


def check_config(cfg: Mapping[str, Any], splits: Sequence[str]) -> CheckedData:
    """Check the data that a segmentation config will read.

    Every image must have its map and every map its image; all maps are read, once. What is trained
    on and what is reported are compared, also where a loader of them will not be used: training a
    probe scores nothing, and scoring trains nothing. Images count that are there.

    Args:
        cfg: Resolved config.
        splits: Of 'train', 'val', 'test': the loaders that will be used.

    Raises:
        ValueError: If the config contradicts itself.
    """
    _require_classes(cfg)
    split_of = {}
    for split, dataset, is_held_out in datasets_of(cfg, splits):
        split_of.setdefault("train" if is_held_out else split, []).append(_part(dataset, cfg))
    parts = {split: list(dict.fromkeys(found)) for split, found in split_of.items()}
    known = {part: _count(part, cfg) for part in set().union(*parts.values())}
    findings = [f for found in parts.values() for part in found for f in part.findings]
    labelled = _labelled(parts, known)
    for split in labelled.values():
        for counts, names in split.parts:
            findings += split_findings(counts, names)
    unread = _parts_there(cfg, {"train"} - set(splits))
    trained = list(dict.fromkeys([*parts.get("train", ()), *unread]))
    of_classes = class_findings(labelled) if labelled else []
    if "train" not in parts and any(f.rule is CLASS_ABSENT for f in of_classes):
        known |= {part: _count(part, cfg) for part in trained}
        of_classes = class_findings(_labelled({"train": trained, **parts}, known))
    findings += of_classes
    scored = [part for split, found in parts.items() if split != "train" for part in found]
    scored += _parts_there(cfg, {"test"} - set(splits))
    findings += repeated_images(_images(trained), _images(scored))
    findings += _absent_in_holdout(cfg)
    return CheckedData(label_table(labelled) if labelled else "", findings, RULES)


@dataclass(frozen=True)
class _Part:
    """One data set of a config: where it lies, and what it reads."""

    root: Path
    where: str
    files: tuple[tuple[Path, Path], ...]
    names: LabelNames
    findings: tuple[Finding, ...]


def _part(dataset: Mapping[str, Any], cfg: Mapping[str, Any]) -> _Part:
    root = Path(dataset.get("data_root") or "")
    prefix = dataset.get("data_prefix", {})
    images, maps = (root / prefix.get(key, "") for key in ("img_path", "seg_map_path"))
    listed = root / dataset["ann_file"] if dataset.get("ann_file") else None
    where = str(listed or maps)
    if not (images.is_dir() and maps.is_dir() and (listed is None or listed.is_file())):
        findings = pair_files(images, maps, ("", ""), listed).findings  # names what is absent
        return _Part(root, where, (), LabelNames(()), findings)
    built = _built(dataset)
    if not isinstance(built, BaseSegDataset):
        raise ValueError(
            f"data set {dataset['type']!r} is no BaseSegDataset, so its label maps cannot be "
            "checked; use one, or another data_check"
        )
    infos = [built.get_data_info(index) for index in range(len(built))]
    files = tuple((Path(info["img_path"]), Path(info["seg_map_path"])) for info in infos)
    findings = getattr(built, "pair_findings", None)
    if findings is None:  # a data set of the user's own
        findings = _compared(built, files, images, maps, listed)
    published = published_split(dataset)
    if published is not None and not dataset.get("indices"):
        findings = (*findings, *total_findings(*published, len(files), root))
    return _Part(root, where, files, _label_names(built, cfg["classes"]), findings)


def _built(dataset: Mapping[str, Any]) -> Any:
    settings = copy.deepcopy(dict(dataset)) | dict(pipeline=[], serialize_data=False)
    with DefaultScope.overwrite_default_scope("mmseg"):
        return DATASETS.build(settings)


def _compared(
    dataset: BaseSegDataset, files: Sequence[Any], images: Path, maps: Path, listed: Path | None
) -> tuple[Finding, ...]:
    """What a data set that pairs files itself leaves out."""
    suffixes = dataset.img_suffix, dataset.seg_map_suffix
    pairs = pair_files(images, maps, suffixes, listed)
    found = FindingCollector()
    for image, _ in sorted(set(pairs.files) - set(files)):
        found.add(PASSED_OVER, "", f"does not end in {suffixes[0]}", image)
    return (*pairs.findings, *found.findings())


def _label_names(dataset: BaseSegDataset, classes: Sequence[str]) -> LabelNames:
    shift = int(dataset.reduce_zero_label)
    classes = dataset.metainfo.get("classes") or classes
    ignored = {0} if shift else set()
    if dataset.label_map is None:
        named = {index + shift: name for index, name in enumerate(classes)}
    else:  # some classes of a published set
        chosen = {old + shift: new for old, new in dataset.label_map.items()}
        named = {old: classes[new] for old, new in chosen.items() if new != IGNORED}
        ignored |= chosen.keys() - named.keys()
    return LabelNames(tuple(named.items()), frozenset(ignored))


def _count(part: _Part, cfg: Mapping[str, Any]) -> LabelCounts:
    tick = late_progress(f"{part.where}: label maps")
    return count_labels(part.files, part.root, part.where, tick, cfg.get("image_bits"))


def _labelled(
    parts: Mapping[str, Sequence[_Part]], known: Mapping[_Part, LabelCounts]
) -> dict[str, LabelledSplit]:
    found = {
        split: [(known[part], part.names) for part in of_split if known[part].num_maps]
        for split, of_split in parts.items()
    }
    return {split: LabelledSplit(tuple(pairs)) for split, pairs in found.items() if pairs}


def _parts_there(cfg: Mapping[str, Any], splits: Collection[str]) -> list[_Part]:
    """What loaders that are not used would read, held-out images left out, where it is at hand."""
    found = [
        _part(dataset, cfg) for _, dataset, held in datasets_of(cfg, sorted(splits)) if not held
    ]
    return [part for part in dict.fromkeys(found) if part.files]


def _absent_in_holdout(cfg: Mapping[str, Any]) -> list[Finding]:
    """Classes that could not choose; scoring would refuse them, after all training.

    Raises:
        ValueError: If a holdout misses its share.
    """
    needs_all = cfg.get("select_on") == "holdout" and not cfg.get("allow_absent_classes")
    found = FindingCollector()
    for settings in holdouts_of(cfg):
        inner = settings["dataset"]
        if settings["part"] != "holdout" or "dataset" in inner or "datasets" in inner:
            continue  # wrappers in between are split by the loader alone
        part = _part(inner, cfg)
        if not part.files:
            continue
        of = {name: settings[name] for name in ("share", "group") if name in settings}
        subset = HoldoutSubset(_built(inner), "holdout", **of)
        if not needs_all:
            continue
        held = dataclasses.replace(part, files=tuple(part.files[i] for i in subset.indices))
        counts = _count(held, cfg)
        for label in sorted(part.names.classes.keys() - counts.labels):
            value = f"{len(held.files):,} held-out images show {part.names.called(label)} nowhere"
            found.add(HELD_LACKS, "", value, part.where)
    return found.findings()


def _images(parts: Sequence[_Part]) -> list[Path]:
    return [image for part in parts for image, _ in part.files]


def _require_classes(cfg: Mapping[str, Any]) -> None:
    classes = cfg["classes"]
    if len(classes) != cfg["num_classes"]:
        raise ValueError(
            f"num_classes is {cfg['num_classes']} but classes names {len(classes)}; make them agree"
        )
    head = cfg.get("model", {}).get("decode_head", {})
    if head.get("num_classes", len(classes)) != len(classes):
        raise ValueError(
            f"model.decode_head.num_classes is {head['num_classes']} but there are {len(classes)} "
            "classes; make them agree"
        )
