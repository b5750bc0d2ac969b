"""Checks of lists, images and depth maps before anything is trained or scored."""

from __future__ import annotations

import copy
import functools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS, DefaultScope

from pe_dense.data.checks.depth_folder import KNOWN_RULES, known_findings, published_depth_split
from pe_dense.data.checks.depth_maps import (
    CONTENT_RULES,
    DepthCounts,
    Scoring,
    count_depths,
    depth_findings,
    depth_table,
)
from pe_dense.data.checks.picture_findings import IMAGE_RULES
from pe_dense.data.checks.progress import late_progress
from pe_dense.data.checks.repeated_images import TRAINED_ON, repeated_images
from pe_dense.data.checks.rules import CheckedData, Finding
from pe_dense.data.config_datasets import datasets_of, holdouts_of
from pe_dense.data.depth_map import FILE_RULES
from pe_dense.data.holdout import HoldoutSubset
from pe_dense.depth.depth_datasets import DepthDataset
from pe_dense.pixelwise.depth_errors import EVALUATION_BOXES, kb_box
from pe_dense.pixelwise.windows import PixelBox

RULES = (*IMAGE_RULES, *FILE_RULES, *CONTENT_RULES, *KNOWN_RULES, TRAINED_ON)


def check_config(cfg: Mapping[str, Any], splits: Sequence[str]) -> CheckedData:
    """Check the data that a depth config will read: all files, and every depth map, once.

    What is trained on and what is reported are compared, also where a loader of them will not be
    used: training a probe scores nothing, and scoring trains nothing. Images count that are there.

    Args:
        cfg: Resolved config with `max_depth` in metres.
        splits: Of 'train', 'val', 'test': the loaders that will be used.

    Raises:
        ValueError: If the config contradicts itself or a list cannot be used.
    """
    max_depth = cfg["max_depth"]
    head = cfg.get("model", {}).get("decode_head", {})
    if head.get("max_depth", max_depth) != max_depth:
        raise ValueError(
            f"model.decode_head.max_depth is {head['max_depth']} but max_depth is {max_depth} m; "
            "make them agree"
        )
    _require_holdouts(cfg)
    findings: list[Finding] = []
    images: dict[str, list[Path]] = {}
    table: dict[str, DepthCounts] = {}
    done: list[Any] = []
    for split, dataset, held in datasets_of(cfg, splits):
        evaluator = {} if split == "train" or held else cfg.get(f"{split}_evaluator") or {}
        if (dataset, evaluator) in done:
            continue
        done.append((dataset, evaluator))
        files, first = _files(dataset)
        title = "train" if held else split  # held-out images are in the list that is trained on
        images.setdefault(title, []).extend(image for image, _ in files)
        crop = evaluator.get("crop")
        if crop is not None and crop not in EVALUATION_BOXES:
            raise ValueError(f"crop {crop!r} is not known; use one of {sorted(EVALUATION_BOXES)}")
        scoring = Scoring(
            first["depth_scale"],
            first["bit_rotation"],
            evaluator.get("min_depth", 1e-3),
            evaluator.get("max_depth", max_depth),
            cfg.get("image_bits"),
            functools.partial(
                counted_box, has_kb_crop=_uses("KBCrop", dataset.get("pipeline", ())), crop=crop
            ),
        )
        root, name = Path(dataset.get("data_root") or ""), dataset["ann_file"]
        counts = count_depths(files, root, root / name, scoring, late_progress(name))
        findings += depth_findings(counts, max_depth, crop)
        published = published_depth_split(dataset["type"], name)
        if published is not None and not dataset.get("indices"):
            findings += known_findings(counts, files, *published)
        title = f"{title}: {name}"
        table[title if title not in table else f"{title} of {root}"] = counts
    trained = [*images.pop("train", ()), *_images_there(cfg, {"train"} - set(splits))]
    scored = [image for found in images.values() for image in found]
    scored += _images_there(cfg, {"test"} - set(splits))
    findings += repeated_images(trained, scored)
    return CheckedData(depth_table(table), list(dict.fromkeys(findings)), RULES)


def counted_box(
    height: int, width: int, has_kb_crop: bool, crop: str | None
) -> tuple[slice, slice]:
    """Rows and columns of a depth map that count: a box within KITTI's crop, where that is cut.

    Raises:
        ValueError: If the map is smaller than KITTI's crop.
    """
    whole = kb_box(height, width) if has_kb_crop else PixelBox(0, height, 0, width)
    if crop is None:
        return whole.slices
    box = EVALUATION_BOXES[crop](*whole.size)
    bottom, right = whole.top + box.bottom, whole.left + box.right
    return PixelBox(
        whole.top + box.top, min(bottom, whole.bottom), whole.left + box.left,
        min(right, whole.right),
    ).slices  # fmt: skip


def _files(dataset: Mapping[str, Any]) -> tuple[list[tuple[Path, Path]], dict[str, Any]]:
    """Image and depth map of every sample, and the first sample."""
    samples = _samples(dataset)
    files = [(Path(s["img_path"]), Path(s["depth_map_path"])) for s in samples]
    return files, samples[0]


def _require_holdouts(cfg: Mapping[str, Any]) -> None:
    """Refuse a holdout that misses its share, where its list is there; it is logged otherwise."""
    for settings in holdouts_of(cfg):
        if settings["part"] == "holdout" and _list_of(settings["dataset"]).is_file():
            of = {name: settings[name] for name in ("share", "group") if name in settings}
            HoldoutSubset(_built(settings["dataset"]), "holdout", **of)


def _list_of(dataset: Mapping[str, Any]) -> Path:
    return Path(dataset.get("data_root") or "", dataset.get("ann_file") or "")


def _images_there(cfg: Mapping[str, Any], splits: Collection[str]) -> list[Path]:
    """What loaders that are not used would read, but for held-out images, where lists are there."""
    return [
        image
        for _, dataset, is_held_out in datasets_of(cfg, sorted(splits))
        if not is_held_out and _list_of(dataset).is_file()
        for image, _ in _files(dataset)[0]
    ]


def _samples(dataset: Mapping[str, Any]) -> list[dict[str, Any]]:
    built = _built(dataset)
    return [built.get_data_info(index) for index in range(len(built))]


def _built(dataset: Mapping[str, Any]) -> DepthDataset:
    settings = copy.deepcopy(dict(dataset))
    kind = DATASETS.get(settings["type"])
    if kind is None or not issubclass(kind, DepthDataset):
        raise ValueError(
            f"data set {settings['type']!r} is no DepthDataset, so its depth maps cannot be "
            "checked; use one, or another data_check"
        )
    settings.update(pipeline=[], serialize_data=False)
    with DefaultScope.overwrite_default_scope("mmengine"):
        return DATASETS.build(settings)


def _uses(transform: str, pipeline: Sequence[Mapping[str, Any]]) -> bool:
    return any(
        step.get("type") == transform or _uses(transform, step.get("transforms", ()))
        for step in pipeline
    )
