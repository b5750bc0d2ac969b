"""Choosing the block that a head reads, before a training, on training pictures left out.

One pass of the frozen encoder over at most `MOST_PICTURES` training pictures gives the tokens of
all blocks; `block_ridge` says how well each predicts what cells show on pictures that its probe did
not see. The scored pictures have no part in it. Pictures are read as they are scored, without
augmentation, at the image side of the recipe; sides are cut to whole patches.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.registry import DATASETS, MODELS
from torch import Tensor

from pe_dense.data.checks.progress import late_progress
from pe_dense.data.image_groups import FOUND, group_names
from pe_dense.encoders.build import build_encoder
from pe_dense.openmmlab.devices import device_of_machine
from pe_dense.probing.block_ridge import (
    IN_NONE,
    METRIC,
    Cells,
    Folds,
    Kind,
    best_of,
    class_counts,
    folds_of,
    mean_log_depth,
    probe_block,
    without_picture,
)
from pe_dense.results.item_evidence import ItemEvidence
from pe_dense.results.statistics import interval, paired_difference

MOST_PICTURES = 256
LEAST_TOKENS = 32  # of a picture, where memory is short for more
MEMORY = 2**30  # bytes of tokens that are kept
BEYOND = "more than noise"


@dataclass(frozen=True)
class LayerChoice:
    """What was chosen, and why.

    Attributes:
        layers: The block, 0-based; None where none could be chosen.
        words: One sentence for people and records.
        table: Score of every block, for people; '' where nothing was measured.
        scores: Score of every block.
        seconds: Duration.
        weights_sha256: Of the encoder's weights.
    """

    layers: tuple[int, ...] | None
    words: str
    table: str = ""
    scores: tuple[float, ...] = ()
    seconds: float = 0.0
    weights_sha256: str = ""

    def to_plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        layers = None if self.layers is None else list(self.layers)
        return {**vars(self), "layers": layers, "scores": list(self.scores)}


def choose(cfg: Mapping[str, Any]) -> LayerChoice:
    """The block of the best score for the data and the encoder of a config for own data.

    Args:
        cfg: Resolved: model.backbone, model.data_preprocessor, train_dataloader, test_dataloader,
            randomness, and num_classes or min_depth and max_depth.

    Raises:
        ValueError: If a picture or the weights cannot be read.
    """
    start = time.perf_counter()
    dataset, places, groups = _training_pictures(cfg)
    try:
        folds = folds_of(groups)
    except ValueError as error:
        return LayerChoice(None, str(error))
    backbone = _backbone_of_all_blocks(cfg)
    tokens_LTC, cells = _look(cfg, dataset, places, folds, backbone)
    if reason := _nothing_to_choose_with(cells):
        return LayerChoice(None, reason, seconds=time.perf_counter() - start)
    device = next(backbone.parameters()).device
    if device.type == "mps":  # has no float64
        device = torch.device("cpu")
    tick = late_progress("which block: probes")
    found = []
    for number, tokens_TC in enumerate(tokens_LTC):
        found.append(probe_block(tokens_TC.to(device), cells))
        tick(number + 1, len(tokens_LTC))
    choice = chosen(found, cells, lambda b: without_picture(tokens_LTC[b].to(device), cells))
    seconds = time.perf_counter() - start
    return dataclasses.replace(
        choice,
        table=f"{choice.table}; {seconds:.1f} s",
        seconds=seconds,
        weights_sha256=backbone.weights_info.sha256,
    )


def look(cfg: Mapping[str, Any]) -> tuple[Tensor, Cells]:
    """What `choose` looks at: tokens of all blocks, (L, T, C), and what their cells show.

    Raises:
        ValueError: As `choose`, and if the pictures are too few.
    """
    dataset, places, groups = _training_pictures(cfg)
    return _look(cfg, dataset, places, folds_of(groups), _backbone_of_all_blocks(cfg))


# ---- the pass ------------------------------------------------------------------------------------


def _training_pictures(cfg: Mapping[str, Any]) -> tuple[Any, list[int], list[str]]:
    """The training part, read as what is scored; places of the pictures, and their groups."""
    inner = cfg["train_dataloader"]["dataset"]
    while "dataset" in inner:  # a part is held out for checkpoints; both parts may choose a block
        inner = inner["dataset"]
    pipeline = cfg["test_dataloader"]["dataset"]["pipeline"]
    dataset = DATASETS.build({**inner, "test_mode": True, "pipeline": pipeline})
    dataset.full_init()
    places = _spread(len(dataset), MOST_PICTURES)
    infos = [dataset.get_data_info(place) for place in places]
    groups = group_names(infos, cfg.get("holdout_group") or FOUND, cfg.get("data_root"))
    return dataset, places, groups


def _spread(count: int, most: int) -> list[int]:
    """At most so many places of a list, at even distances.

    Example:
        >>> _spread(10, 4), _spread(3, 4)
        ([0, 3, 6, 9], [0, 1, 2])
    """
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def _backbone_of_all_blocks(cfg: Mapping[str, Any]) -> Any:
    """The recipe's backbone with a map of every block, as the training begins with it."""
    settings = dict(cfg["model"]["backbone"])
    with torch.device("meta"):
        whole = build_encoder(settings["encoder"], **(settings.get("encoder_options") or {}))
    with torch.random.fork_rng():
        torch.manual_seed(cfg["randomness"]["seed"])  # random weights are those of the training
        backbone = MODELS.build({**settings, "out_indices": list(range(whole.depth))})
    return backbone.to(device_of_machine()).eval()


def _look(
    cfg: Mapping[str, Any], dataset: Any, places: Sequence[int], folds: Folds, backbone: Any
) -> tuple[Tensor, Cells]:
    """Tokens of all blocks (L, T, C) from one pass over some pictures, and their cells."""
    patch, depth = backbone.patch_size, len(backbone.out_indices)
    most = max(LEAST_TOKENS, MEMORY // (len(places) * depth * backbone.embed_dim * 4))
    preprocessor = cfg["model"]["data_preprocessor"]
    mean, std = (torch.tensor(preprocessor[name])[:, None, None] for name in ("mean", "std"))
    tick = late_progress("which block: pictures")
    tokens, targets, pictures, kind = [], [], [], "segmentation"
    for number, place in enumerate(places):
        if folds.of_picture[number] == IN_NONE:
            continue
        sample = dataset[place]
        image_3HW = sample["inputs"].float()
        if preprocessor.get("bgr_to_rgb"):
            image_3HW = image_3HW.flip(0)
        height, width = (side // patch * patch for side in image_3HW.shape[1:])
        if min(height, width):
            kind, targets_TK = _targets(cfg, sample["data_samples"], image_3HW.shape[1:], patch)
            image_1 = ((image_3HW - mean) / std)[None, :, :height, :width]
            kept_T = _some(len(targets_TK), most, place)
            tokens.append(_tokens_of(backbone, image_1, kept_T))
            targets.append(targets_TK[kept_T])
            pictures.append(np.full(len(kept_T), number))
        tick(number + 1, len(places))
    empty = np.zeros((0, 1))
    cells = Cells(
        kind,
        np.concatenate(targets) if targets else empty,
        np.concatenate(pictures) if pictures else np.zeros(0, np.int64),
        folds,
        (float(cfg.get("min_depth") or 1e-3), float(cfg.get("max_depth") or math.inf)),
    )
    return torch.cat(tokens, 1) if tokens else torch.zeros(depth, 0, 1), cells


@torch.inference_mode()
def _tokens_of(backbone: Any, images_13HW: Tensor, kept_T: np.ndarray) -> Tensor:
    """Tokens of every block at some places of the grid, (L, T, C) in the memory of the host."""
    maps = backbone(images_13HW.to(next(backbone.parameters()).device))
    index_T = torch.from_numpy(kept_T).to(maps[0].device)
    return torch.stack([m[0].flatten(1).T[index_T].float().cpu() for m in maps])


def _some(count: int, most: int, seed: int) -> np.ndarray:
    """Places of a grid, all where they are not too many, else drawn with a fixed seed; rising."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def _targets(
    cfg: Mapping[str, Any], sample: Any, side_HW: Sequence[int], patch: int
) -> tuple[Kind, np.ndarray]:
    """What the cells of a picture show; the map is brought to the size of the picture."""
    is_depth = "gt_depth_map" in sample
    map_HW = (sample.gt_depth_map if is_depth else sample.gt_sem_seg).data[0].numpy()
    height, width = side_HW
    if map_HW.shape != (height, width):
        map_HW = cv2.resize(map_HW, (width, height), interpolation=cv2.INTER_NEAREST)
    map_HW = map_HW[: height // patch * patch, : width // patch * patch]
    if is_depth:
        return "depth", mean_log_depth(map_HW, patch, cfg["min_depth"], cfg["max_depth"])
    return "segmentation", class_counts(map_HW, patch, cfg["num_classes"])


# ---- the choice ----------------------------------------------------------------------------------


def _nothing_to_choose_with(cells: Cells) -> str:
    """Why no block can be chosen, '' where one can."""
    kept_T = cells.kept
    if len(set(cells.folds_of_cells().tolist())) < 2:
        what = "depth within min_depth and max_depth" if cells.kind == "depth" else "a class"
        return f"too few training pictures have {what} to choose a block with"
    if cells.kind == "segmentation" and (cells.targets_TK[kept_T].sum(0) > 0).sum() < 2:
        return "the training pictures that could choose a block show one class only"
    return ""


def chosen(
    found: Sequence[ItemEvidence], cells: Cells, blind: Callable[[int], ItemEvidence]
) -> LayerChoice:
    """The block whose evidence is best, with a table of all; the first of several.

    Args:
        found: Evidence of every block.
        cells: What it is about.
        blind: Evidence of a block whose tokens were dealt to the cells by chance.
    """
    metric, last = METRIC[cells.kind], len(found) - 1
    scores = [evidence.metrics(None, [metric])[metric] for evidence in found]
    best = best_of(range(len(found)), lambda number: found[number], cells.kind)
    lines = [(f"{number}", evidence) for number, evidence in enumerate(found)]
    lines.append(("by chance", blind(best)))
    rows = [
        f"  {name:>9}  {evidence.metrics(None, [metric])[metric]:.4f}  "
        f"{_interval_in_words(evidence, metric)}" + ("  <- chosen" if name == str(best) else "")
        for name, evidence in lines
    ]
    on = f"{len(set(cells.pictures_T[cells.kept].tolist())):,} training images"
    head = f"which block: {metric} of cells, ridge probes on {on}, {cells.folds.words}"
    words = f"block {best} of 0 to {last}, chosen by ridge probes on {on} in {cells.folds.words}"
    words += f" ({metric} of cells {scores[best]:.4f}"
    if best == last:
        words += ", the last block"
    else:
        gain, verdict = _difference(found[best], found[-1], metric)
        words += f"; the last block {scores[last]:.4f}, {gain}, {verdict}"
    gain, verdict = _difference(found[best], lines[-1][1], metric)
    if verdict != BEYOND:
        words += f"; tokens dealt by chance differ by {gain}, {verdict}"
    words += ")"
    table = "\n".join([head, *rows, f"layers: {words}"])
    return LayerChoice((best,), words, table, tuple(map(float, scores)))


def _interval_in_words(evidence: ItemEvidence, metric: str) -> str:
    try:
        found = interval(evidence, metric)
    except ValueError:  # one unit
        return "[no interval]"
    return f"[{found.low:.4f}, {found.high:.4f}]"


def _difference(one: ItemEvidence, other: ItemEvidence, metric: str) -> tuple[str, str]:
    """How far two scores are apart with its interval, and whether that is more than noise."""
    try:
        gain = paired_difference(one, other, metric)
    except ValueError:
        return "by an unknown amount", "on too few images to tell"
    words = f"{gain.difference:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
    return words, "within noise" if gain.low <= 0 <= gain.high else BEYOND
