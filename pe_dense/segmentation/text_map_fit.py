"""Fits the linear map of a config of segmentation by names, on its training pictures alone.

No label is read. Pictures go through the pipeline of the test and are cut into its windows: the
mean of a window's features and the embedding of the same window are a pair. Held-out pictures,
chosen by the hash of their bytes, choose the regulariser; their windows are on one side together.

Shape legend: W windows, C width of the features, D width of the embedding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS, MODELS
from torch import Tensor

from pe_dense.files import file_sha256
from pe_dense.openmmlab.devices import device_of_machine
from pe_dense.pixelwise.windows import windows_of
from pe_dense.segmentation.mapped_text_backbone import MappedTextBackbone
from pe_dense.text_dense.linear_map import Fitted, fit_map
from pe_dense.text_dense.map_file import MapFacts, pictures_sha256

_ANNOTATIONS = ("LoadAnnotations",)


class Pairs(NamedTuple):
    """What a map is fitted on.

    Attributes:
        x_WC: Means of features, float32, on the CPU.
        y_WD: Embeddings of unit length.
        is_held_W: Windows of pictures that choose the regulariser.
    """

    x_WC: Tensor
    y_WD: Tensor
    is_held_W: Tensor


def training_pictures(cfg: Mapping[str, Any]) -> list[Path]:
    """The pictures that a map of this config is fitted on, each once, in the order of the data.

    Raises:
        ValueError: If the config names no training data, or they are empty.
    """
    loader = cfg.get("train_dataloader")
    if not loader:
        raise ValueError("the config names no training data, on which a map could be fitted")
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmseg")):
        dataset = DATASETS.build(copy.deepcopy(loader["dataset"]))
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    found = list(dict.fromkeys(Path(info["img_path"]) for info in infos))
    if not found:
        raise ValueError("the training data hold no picture, on which a map could be fitted")
    return found


def hashes_of(pictures: Sequence[Path]) -> list[str]:
    """SHA-256 of the bytes of each.

    Raises:
        ValueError: If one cannot be read.
    """
    try:
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(file_sha256, pictures))
    except OSError as error:
        raise ValueError(f"training picture {error.filename} cannot be read ({error})") from error


def chooses_regulariser(sha256: str, share: float) -> bool:
    """Whether a picture is held out: a pure function of its bytes.

    Example:
        >>> chooses_regulariser("0" * 64, 0.1), chooses_regulariser("f" * 64, 0.1)
        (True, False)
    """
    return int(sha256[:8], 16) / 2**32 < share


@torch.no_grad()
def pairs_of(
    model: Any,
    pipeline: Sequence[Mapping[str, Any]],
    pictures: Sequence[Path],
    is_held: Sequence[bool],
    tell: Callable[[int], object] = lambda done: None,
) -> Pairs:
    """Pairs of all windows of pictures.

    Args:
        model: A `TextSegmentor` with a `MappedTextBackbone`.
        pipeline: Of the test.
        pictures: Files.
        is_held: Of each.
        tell: Called with the number of pictures that are done.
    """
    backbone: MappedTextBackbone = model.backbone
    steps = Compose([dict(step) for step in pipeline if step["type"] not in _ANNOTATIONS])
    at_once = model.test_cfg.get("window_batch", 8)
    features: list[Tensor] = []
    embeddings: list[Tensor] = []
    held: list[Tensor] = []
    for done, (picture, is_picture_held) in enumerate(zip(pictures, is_held, strict=True), 1):
        sample = steps(dict(img_path=str(picture), seg_fields=[], reduce_zero_label=False))
        batch = model.data_preprocessor(pseudo_collate([sample]), False)
        image_13HW = batch["inputs"]
        windows = windows_of(model.test_cfg, tuple(image_13HW.shape[2:]))
        crops_W3HW = torch.cat([image_13HW[(..., *window.slices)] for window in windows])
        for part in crops_W3HW.split(at_once):
            features.append(backbone.features(part).mean(dim=(2, 3)).cpu())
            embeddings.append(backbone.embeddings(part).cpu())
        held.append(torch.full((len(windows),), is_picture_held))
        tell(done)
    return Pairs(torch.cat(features), torch.cat(embeddings), torch.cat(held))


def fit_of_config(
    cfg: Config,
    shuffle_seeds: Sequence[int | None] = (None,),
    tell: Callable[[int, int], object] = lambda done, total: None,
) -> list[tuple[Fitted, MapFacts]]:
    """The maps of a resolved config without one, and their provenance, in one pass over pictures.

    Args:
        cfg: Of a `TextSegmentor` with a `MappedTextBackbone`.
        shuffle_seeds: None for the map, a number for the control on pairs that are shuffled by it.
        tell: Called with the number of pictures that are done, and of all.

    Raises:
        ValueError: If the config is of something else, or its pictures cannot be used.
    """
    settings = copy.deepcopy(cfg.model)
    if settings.backbone.get("type") != "MappedTextBackbone":
        raise ValueError(
            "the config has no encoder whose patches a map takes to texts; use one of "
            "configs/segmentation/*_text_map*.py"
        )
    settings.backbone.map_file = None
    pictures = training_pictures(cfg)
    hashes = hashes_of(pictures)
    share = float(settings.backbone.map_rule["held_share"])
    is_held = [chooses_regulariser(sha256, share) for sha256 in hashes]
    scope = DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmseg"))
    with scope, torch.random.fork_rng(devices=[]):
        torch.manual_seed(cfg.randomness.seed)
        model = MODELS.build(settings).to(device_of_machine()).eval()
        pairs = pairs_of(
            model, _pipeline_of(cfg), pictures, is_held, lambda done: tell(done, len(pictures))
        )
    found = []
    for seed in shuffle_seeds:
        fitted = fit_map(*pairs, shuffle_seed=seed)
        held_out = {f"{strength:g}": cosine for strength, cosine in fitted.held_out.items()}
        facts = MapFacts(
            **{**model.backbone.made_for, "shuffle_seed": seed},
            num_pictures=len(pictures),
            pictures_sha256=pictures_sha256(hashes),
            num_pairs=len(pairs.x_WC),
            strength=fitted.strength,
            held_out={**held_out, "constant": fitted.constant, "shuffled": fitted.shuffled},
        )
        found.append((fitted, facts))
    return found


def table_of(fitted: Fitted) -> str:
    """How the regulariser was chosen, line by line.

    Example:
        >>> fitted = Fitted(None, 0.1, {0.01: 0.4, 0.1: 0.5, 1.0: 0.25}, 0.2, 0.125)
        >>> print(table_of(fitted))
        regulariser  mean cosine of held-out windows
               0.01  0.4000
                0.1  0.5000  chosen
                  1  0.2500
           shuffled  0.1250  the control: embeddings of other windows
        no features  0.2000  the mean embedding
    """
    lines = ["regulariser  mean cosine of held-out windows"]
    for strength, cosine in fitted.held_out.items():
        mark = "  chosen" if strength == fitted.strength else ""
        lines.append(f"{strength:>11g}  {cosine:.4f}{mark}")
    lines.append(
        f"{'shuffled':>11}  {fitted.shuffled:.4f}  the control: embeddings of other windows"
    )
    lines.append(f"{'no features':>11}  {fitted.constant:.4f}  the mean embedding")
    if fitted.strength in (min(fitted.held_out), max(fitted.held_out)):
        lines.append("the best regulariser is at the end of the list: another may be better")
    return "\n".join(lines)


def _pipeline_of(cfg: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    dataset = cfg["test_dataloader"]["dataset"]
    return (dataset["datasets"][-1] if dataset["type"] == "ConcatDataset" else dataset)["pipeline"]
