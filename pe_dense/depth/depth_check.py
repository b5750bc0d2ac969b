"""Checks of lists, images and depth maps before anything is trained or scored."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import DATASETS, DefaultScope

from pe_dense.data.config_datasets import datasets_of
from pe_dense.data.depth_map import metres, picture_size, read_depth_steps, require_size
from pe_dense.data.image_files import spread
from pe_dense.depth.depth_datasets import DepthDataset
from pe_dense.pixelwise.depth_errors import kb_box, scored_pixels

# So many pairs of a split, spread over its list, are opened; of the others only the files must be.
MAX_DECODED = 200
WRONG_SHARE = 0.99  # of the depths are beyond what the limits let one expect


def check_config(cfg: Mapping[str, Any], splits: Sequence[str]) -> None:
    """Check the data that a depth config will read.

    Args:
        cfg: Resolved config with `max_depth` in metres.
        splits: Of 'train', 'val', 'test': the loaders that will be used.

    Raises:
        ValueError: With one sentence that names the file, the fault and the remedy: of a list, a
            missing file, a depth map that is not 16-bit or has another size than its image, a
            scale that cannot be, a set of which no pixel would be scored, or an image that is
            both trained on and scored.
    """
    max_depth = cfg["max_depth"]
    head = cfg.get("model", {}).get("decode_head", {})
    if head.get("max_depth", max_depth) != max_depth:
        raise ValueError(
            f"model.decode_head.max_depth is {head['max_depth']} but max_depth is {max_depth} m; "
            "make them agree"
        )
    samples: dict[str, list[dict[str, Any]]] = {}
    done: list[tuple[Any, Any]] = []
    for split, dataset, held in datasets_of(cfg, splits):
        evaluator = {} if split == "train" or held else cfg.get(f"{split}_evaluator") or {}
        if (dataset, evaluator) in done:
            continue
        done.append((dataset, evaluator))
        found = _samples(dataset)
        if not held:  # held-out images are in the list that is trained on
            samples.setdefault(split, []).extend(found)
        has_kb_crop = _uses("KBCrop", dataset.get("pipeline", ()))
        limits = dict(
            min_depth=evaluator.get("min_depth", 1e-3),
            max_depth=evaluator.get("max_depth", max_depth),
            crop=evaluator.get("crop"),
        )
        check_samples(found, dataset["ann_file"], max_depth, limits, has_kb_crop)
    trained = {sample["img_path"] for sample in samples.get("train", ())}
    for split in samples.keys() - {"train"}:
        both = [s["img_path"] for s in samples[split] if s["img_path"] in trained]
        if both:
            raise ValueError(
                f"{len(both)} images are trained on and scored ({split}), first {both[0]}; take "
                "them out of one list"
            )


def check_samples(
    samples: Sequence[Mapping[str, Any]],
    name: str,
    max_depth: float,
    limits: Mapping[str, Any] | None = None,
    has_kb_crop: bool = False,
) -> None:
    """Check that all files of a set exist and that those that are opened make sense.

    Args:
        samples: As `DepthDataset` lists them.
        name: What the set is called in messages: its list.
        max_depth: Depth in metres that few pixels exceed.
        limits: What is scored: min_depth, max_depth and crop of `scored_pixels`; None: all.
        has_kb_crop: Whether `kb_box` cuts the maps before they are scored.

    Raises:
        ValueError: See `check_config`.
    """
    for key, what in (("img_path", "image"), ("depth_map_path", "depth map")):
        absent = [sample[key] for sample in samples if not Path(sample[key]).is_file()]
        if absent:
            raise ValueError(
                f"{len(absent)} of {len(samples)} {what}s of {name} are missing, first "
                f"{absent[0]}; check data_root and data_prefix"
            )
    num_known = num_far = num_near = num_scored = 0
    for index in spread(len(samples), MAX_DECODED):
        depth_HW = check_pair(samples[index])
        known = depth_HW[depth_HW > 0]
        num_known += known.size
        num_far += int((known > max_depth).sum())
        num_near += int((known < max_depth / 100).sum())
        if has_kb_crop:
            depth_HW = depth_HW[kb_box(*depth_HW.shape).slices]
        scored_HW = scored_pixels(torch.from_numpy(np.ascontiguousarray(depth_HW)), **limits or {})
        num_scored += int(scored_HW.sum())
    scale = samples[0]["depth_scale"]
    for count, words, remedy in (
        (num_far, f"above max_depth of {max_depth} m", "larger"),
        (num_near, f"below {max_depth / 100} m", "smaller"),
    ):
        if count >= WRONG_SHARE * num_known:
            raise ValueError(
                f"{100 * count / num_known:.0f} % of the depths of {name} are {words}, so "
                f"depth_scale={scale:g} cannot be right; make it {remedy} (NYUv2 1000, KITTI 256; "
                f"bit_rotation is {samples[0]['bit_rotation']}), or correct max_depth"
            )
    if num_scored == 0:
        raise ValueError(
            f"no annotated pixel of {name} lies within the depth limits and the crop "
            f"{(limits or {}).get('crop')!r}, so there is nothing to score; check them"
        )


def check_pair(sample: Mapping[str, Any]) -> np.ndarray:
    """Check one image and its depth map; see `check_config`.

    Returns:
        (H, W) float32 in metres.
    """
    path = sample["depth_map_path"]
    steps_HW = read_depth_steps(path)
    require_size(path, steps_HW, picture_size(sample["img_path"]))
    return metres(steps_HW, sample["depth_scale"], sample["bit_rotation"])


def _samples(dataset: Mapping[str, Any]) -> list[dict[str, Any]]:
    settings = copy.deepcopy(dict(dataset))
    kind = DATASETS.get(settings["type"])
    if kind is None or not issubclass(kind, DepthDataset):
        raise ValueError(
            f"data set {settings['type']!r} is no DepthDataset, so its depth maps cannot be "
            "checked; use one, or another data_check"
        )
    settings.update(pipeline=[], serialize_data=False)
    with DefaultScope.overwrite_default_scope("mmengine"):
        built = DATASETS.build(settings)
    return [built.get_data_info(index) for index in range(len(built))]


def _uses(transform: str, pipeline: Sequence[Mapping[str, Any]]) -> bool:
    return any(
        step.get("type") == transform or _uses(transform, step.get("transforms", ()))
        for step in pipeline
    )
