"""Which blocks of an encoder know the answer: closed-form linear probes, each on pictures left out.

Tokens of a few hundred pictures, of all blocks, are enough to tell blocks apart: a ridge regression
from a token to what its cell shows has a closed form, so that every block costs the solution of a
few linear systems instead of a training. Pictures are in folds; each fold is predicted by probes
that were fitted on the others.

Maps: a token predicts the shares of the classes in its cell, and its cell is taken for the class of
the largest one; the score is mIoU over the labelled pixels of the cells. Depth: a token predicts
the mean logarithm of the depth in its cell; the score is the RMSE in metres, a mean over pictures.

The penalty is the best of `PENALTIES` for each block, by the same score; the intercept has none.
Tokens are centred and scaled feature by feature first, as a batch norm does it.

Shape legend: N pictures, T tokens, C width, K targets (classes; 1 for depth), F folds.

Source: Hoerl and Kennard, Ridge Regression (Technometrics 12, 1970); least squares on indicators as
a classifier: Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, section 4.2.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from pe_dense.pixelwise.mean_iou import counts_evidence
from pe_dense.results.evidence import DepthEvidence
from pe_dense.results.item_evidence import ItemEvidence

Kind = Literal["segmentation", "depth"]
METRIC: dict[Kind, str] = {"segmentation": "mIoU", "depth": "rmse"}
PENALTIES = (1e-3, 1e-2, 1e-1)  # of the mean square of a feature, which is 1
NUM_FOLDS = 4
LEAST_PICTURES = 8
GAP = 0.05  # of the pictures, between two stretches of a sequence
IN_NONE = -1
T = TypeVar("T")


# ---- folds ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Folds:
    """Which pictures are predicted together.

    Attributes:
        of_picture: Fold of each of N pictures, `IN_NONE` for those in a gap.
        units: What is drawn for intervals: the name of each picture's group, or of its stretch.
        words: How it was done, for people.
    """

    of_picture: tuple[int, ...]
    units: tuple[str, ...]
    words: str


def folds_of(groups: Sequence[str]) -> Folds:
    """Divide pictures so that no group is on two sides.

    Groups go, in the order of the sha256 of their names and the largest first, to the fold that has
    the fewest pictures. Where there are fewer than four, or one has more than half of the pictures,
    the list is cut into four stretches with gaps between, as its order is that of time.

    Args:
        groups: Group of every picture, in the order of the list.

    Raises:
        ValueError: If there are fewer than `LEAST_PICTURES`.

    Example:
        >>> folds_of(["a", "a", "b", "b", "c", "c", "d", "d"]).of_picture
        (3, 3, 2, 2, 1, 1, 0, 0)
    """
    total = len(groups)
    if total < LEAST_PICTURES:
        raise ValueError(
            f"{total} training pictures are too few to hold some out and choose a block with; "
            f"{LEAST_PICTURES} are needed"
        )
    sizes = {name: groups.count(name) for name in dict.fromkeys(groups)}
    if len(sizes) >= NUM_FOLDS and max(sizes.values()) <= total / 2:
        order = sorted(sizes, key=lambda name: (-sizes[name], _sha256(name)))
        filled, fold_of = [0] * NUM_FOLDS, {}
        for name in order:
            fold_of[name] = filled.index(min(filled))
            filled[fold_of[name]] += sizes[name]
        alone = len(sizes) == total
        words = f"{NUM_FOLDS} folds of " + ("pictures" if alone else f"{len(sizes):,} sequences")
        return Folds(tuple(fold_of[name] for name in groups), tuple(groups), words)
    gap = math.ceil(GAP * total) if total > NUM_FOLDS * 4 else 1
    ends = [round(i * total / NUM_FOLDS) for i in range(NUM_FOLDS + 1)]
    of_picture = [IN_NONE] * total
    for fold, (begin, end) in enumerate(itertools.pairwise(ends)):
        for place in range(begin + (gap if fold else 0), end):
            of_picture[place] = fold
    units = tuple(f"stretch {fold}" for fold in of_picture)
    return Folds(tuple(of_picture), units, f"{NUM_FOLDS} stretches of time with gaps between")


def _sha256(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()


# ---- what cells show -----------------------------------------------------------------------------


def class_counts(labels_HW: np.ndarray, patch_size: int, num_classes: int) -> np.ndarray:
    """Pixels of every class in each cell, (h * w, K) int64; other labels are no class.

    Args:
        labels_HW: Whole patches: H and W are multiples of `patch_size`.
        patch_size: Side of a cell in pixels.
        num_classes: K.

    Example:
        >>> class_counts(np.array([[0, 1, 9, 1]]).repeat(2, 0), 2, 2).tolist()
        [[2, 2], [0, 2]]
    """
    cells_TP = _cells(labels_HW, patch_size).astype(np.int64)
    num = len(cells_TP)
    known_TP = (cells_TP >= 0) & (cells_TP < num_classes)
    at_TP = np.where(known_TP, cells_TP + num_classes * np.arange(num)[:, None], num * num_classes)
    counts = np.bincount(at_TP.ravel(), minlength=num * num_classes + 1)[:-1]
    return counts.reshape(num, num_classes)


def mean_log_depth(
    depth_HW: np.ndarray, patch_size: int, min_depth: float, max_depth: float
) -> np.ndarray:
    """Mean logarithm of the depth in each cell, (h * w, 1); nan where less than half is known.

    Args:
        depth_HW: Metres; not from `min_depth` to `max_depth`: not known. Whole patches.
        patch_size: Side of a cell in pixels.
        min_depth: Metres.
        max_depth: Metres.
    """
    cells_TP = _cells(depth_HW, patch_size).astype(np.float64)
    known_TP = (cells_TP >= max(min_depth, 1e-6)) & (cells_TP <= max_depth)
    logs_TP = np.log(np.where(known_TP, cells_TP, 1.0))
    known_T = known_TP.sum(1)
    mean_T = logs_TP.sum(1) / np.maximum(known_T, 1)
    return np.where(2 * known_T >= cells_TP.shape[1], mean_T, np.nan)[:, None]


def _cells(map_HW: np.ndarray, patch_size: int) -> np.ndarray:
    """(h * w, pixels of a cell)."""
    rows, columns = (side // patch_size for side in map_HW.shape)
    cells = map_HW.reshape(rows, patch_size, columns, patch_size).swapaxes(1, 2)
    return cells.reshape(rows * columns, patch_size**2)


# ---- probes --------------------------------------------------------------------------------------


def left_out_predictions(
    tokens_TC: Tensor, targets_TK: Tensor, folds_T: Tensor, penalty: float
) -> Tensor:
    """What ridge regressions say of tokens whose fold they were not fitted on, (T, K) float64.

    Args:
        tokens_TC: Of one block.
        targets_TK: What is to be predicted.
        folds_T: Fold of each token, from 0 on.
        penalty: Per token, of squared weights on features of variance 1.
    """
    return _Moments(tokens_TC, targets_TK, folds_T).predictions(penalty)


class _Moments:
    """Sums over the tokens of each fold, from which those without a fold follow by subtraction."""

    def __init__(self, tokens_TC: Tensor, targets_TK: Tensor, folds_T: Tensor) -> None:
        x_TC = tokens_TC.double()
        x_TC = x_TC - x_TC.mean(0)
        scale_C = x_TC.square().mean(0).sqrt()
        self.x_TC = x_TC / torch.where(scale_C > 1e-12, scale_C, 1.0)
        self.folds_T, y_TK = folds_T, targets_TK.double()
        self.sums = []
        for fold in range(int(folds_T.max()) + 1):
            x, y = self.x_TC[folds_T == fold], y_TK[folds_T == fold]
            self.sums.append((len(x), x.sum(0), y.sum(0), x.T @ x, x.T @ y))
        self.num_targets = y_TK.shape[1]

    def predictions(self, penalty: float) -> Tensor:
        """See `left_out_predictions`."""
        found_TK = self.x_TC.new_zeros(len(self.x_TC), self.num_targets)
        for fold in range(len(self.sums)):
            fitted = [sums for other, sums in enumerate(self.sums) if other != fold]
            n, x_C, y_K, xx_CC, xy_CK = (sum(parts) for parts in zip(*fitted, strict=True))
            if not n:
                continue
            mean_C, mean_K = x_C / n, y_K / n
            xx_CC = xx_CC - n * torch.outer(mean_C, mean_C)
            xx_CC = xx_CC + penalty * n * torch.eye(len(xx_CC)).to(xx_CC)
            root_CC = torch.linalg.cholesky(xx_CC)
            weights_CK = torch.cholesky_solve(xy_CK - n * torch.outer(mean_C, mean_K), root_CC)
            here = self.folds_T == fold
            found_TK[here] = (self.x_TC[here] - mean_C) @ weights_CK + mean_K
        return found_TK


# ---- scores --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cells:
    """Tokens' cells of all pictures, and who they belong to.

    Attributes:
        kind: 'segmentation' or 'depth'.
        targets_TK: Pixels of each class in a cell, or the mean logarithm of its depth.
        pictures_T: Picture of each cell.
        folds: Of the pictures.
        depth_range: Least and largest depth in metres, to which predictions are cut.
    """

    kind: Kind
    targets_TK: np.ndarray
    pictures_T: np.ndarray
    folds: Folds
    depth_range: tuple[float, float] = (1e-3, math.inf)

    @property
    def kept(self) -> np.ndarray:
        """Whether each cell counts, (T,): its picture is in a fold, and what it shows is known."""
        fold_T = np.asarray(self.folds.of_picture)[self.pictures_T]
        known_T = (
            self.targets_TK.sum(1) > 0 if self.kind == "segmentation"
            else np.isfinite(self.targets_TK[:, 0])
        )  # fmt: skip
        return (fold_T != IN_NONE) & known_T

    def fitted(self) -> np.ndarray:
        """What probes are fitted to, (T, K), of the cells that count."""
        targets_TK = self.targets_TK[self.kept].astype(np.float64)
        if self.kind == "depth":
            return targets_TK
        return targets_TK / targets_TK.sum(1, keepdims=True)

    def folds_of_cells(self) -> np.ndarray:
        """Folds of the cells that count, (T,)."""
        return np.asarray(self.folds.of_picture)[self.pictures_T[self.kept]]

    def evidence(self, predicted_TK: np.ndarray) -> ItemEvidence:
        """Predictions of the cells that count as evidence: by unit for maps, else by picture."""
        pictures_T = self.pictures_T[self.kept]
        if self.kind == "segmentation":
            return self._evidence_of_maps(predicted_TK, pictures_T)
        truth_T = np.exp(self.targets_TK[self.kept][:, 0])
        with np.errstate(over="ignore"):
            found_T = np.exp(predicted_TK[:, 0]).clip(*self.depth_range)
        seen = sorted(set(pictures_T.tolist()))
        rmse = [
            float(np.sqrt(np.mean((found_T - truth_T)[pictures_T == picture] ** 2)))
            for picture in seen
        ]
        return DepthEvidence(
            image_ids=tuple(map(str, seen)),
            metric_names=("rmse",),
            values_NM=np.array(rmse)[:, None],
            sequence_ids=tuple(self.folds.units[picture] for picture in seen),
        )

    def _evidence_of_maps(self, predicted_TK: np.ndarray, pictures_T: np.ndarray) -> ItemEvidence:
        counts_TK = self.targets_TK[self.kept]
        num_classes = counts_TK.shape[1]
        winner_T = predicted_TK.argmax(1)
        names = sorted({self.folds.units[picture] for picture in pictures_T.tolist()})
        place = {name: index for index, name in enumerate(names)}
        unit_T = np.array([place[self.folds.units[p]] for p in pictures_T.tolist()])
        counts_N3K = np.zeros((len(names), 3, num_classes), np.int64)
        tokens_T = np.arange(len(winner_T))
        np.add.at(counts_N3K, (unit_T, 0, winner_T), counts_TK[tokens_T, winner_T])
        np.add.at(counts_N3K, (unit_T, 1, winner_T), counts_TK.sum(1))
        np.add.at(counts_N3K[:, 2], unit_T, counts_TK)
        return counts_evidence(names, [f"class {k}" for k in range(num_classes)], counts_N3K)


def probe_block(tokens_TC: Tensor, cells: Cells) -> ItemEvidence:
    """Evidence of a block with its best penalty.

    Args:
        tokens_TC: Of all cells, those that do not count as well.
        cells: What they show.
    """
    device = tokens_TC.device
    moments = _Moments(
        tokens_TC[torch.from_numpy(cells.kept).to(device)],
        torch.from_numpy(cells.fitted()).to(device),
        torch.from_numpy(cells.folds_of_cells()).to(device),
    )
    found = [cells.evidence(moments.predictions(p).cpu().numpy()) for p in PENALTIES]
    return best_of(found, lambda evidence: evidence, cells.kind)


def without_picture(tokens_TC: Tensor, cells: Cells) -> ItemEvidence:
    """The same with the tokens dealt to the cells by chance: what a probe gets that sees nothing.

    A constant answer would be too weak a control for mIoU: whoever guesses all classes gets more.
    """
    kept_T = torch.from_numpy(np.flatnonzero(cells.kept))
    drawn_T = np.random.default_rng(0).permutation(len(kept_T))
    dealt_TC = tokens_TC.clone()
    dealt_TC[kept_T] = tokens_TC[kept_T[torch.from_numpy(drawn_T)]]
    return probe_block(dealt_TC, cells)


def best_of(items: Sequence[T], evidence: Callable[[T], ItemEvidence], kind: Kind) -> T:
    """The item of the best score, the first of several; what has no score is never better."""
    sign = -1.0 if kind == "depth" else 1.0

    def key(item: T) -> float:
        score = sign * evidence(item).metrics(None, [METRIC[kind]])[METRIC[kind]]
        return score if math.isfinite(score) else -math.inf

    return max(items, key=key)
