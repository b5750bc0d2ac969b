"""Closed-form probes of blocks: against an obvious version, and on planted answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pe_dense.probing.block_ridge import (
    IN_NONE,
    PENALTIES,
    Cells,
    Folds,
    class_counts,
    folds_of,
    left_out_predictions,
    mean_log_depth,
    probe_block,
    without_picture,
)
from pe_dense.probing.layer_choice import LayerChoice, _nothing_to_choose_with, chosen

rng = np.random.default_rng(0)


def slow_predictions(x_TC, y_TK, folds_T, penalty) -> np.ndarray:
    """One least-squares problem a fold, the penalty as further rows, the intercept as a column."""
    x_TC = (x_TC - x_TC.mean(0)) / np.maximum(x_TC.std(0), 1e-12)
    found_TK = np.zeros((len(x_TC), y_TK.shape[1]))
    for fold in set(folds_T.tolist()):
        fit = folds_T != fold
        n, width = fit.sum(), x_TC.shape[1]
        rows = np.hstack([x_TC[fit], np.ones((n, 1))])
        extra = np.hstack([math.sqrt(penalty * n) * np.eye(width), np.zeros((width, 1))])
        right = np.vstack([y_TK[fit], np.zeros((width, y_TK.shape[1]))])
        # the penalty is on features centred over the fitted tokens; an intercept makes that equal
        weights = np.linalg.lstsq(np.vstack([rows, extra]), right, rcond=None)[0]
        found_TK[~fit] = x_TC[~fit] @ weights[:-1] + weights[-1]
    return found_TK


@pytest.mark.parametrize("penalty", PENALTIES)
def test_left_out_predictions_are_those_of_an_obvious_version(penalty: float) -> None:
    x_TC = rng.normal(3.0, 5.0, (60, 7)) * np.array([1, 1, 100, 1, 1e-3, 1, 1])
    x_TC[:, 5] = 4.0  # a dead feature
    y_TK, folds_T = rng.normal(size=(60, 3)), rng.integers(0, 4, 60)
    found = left_out_predictions(*map(torch.from_numpy, (x_TC, y_TK, folds_T)), penalty)
    assert np.allclose(found.numpy(), slow_predictions(x_TC, y_TK, folds_T, penalty), atol=1e-8)


def test_what_cells_show_is_counted_pixel_by_pixel() -> None:
    labels_HW = rng.integers(0, 5, (6, 9))  # 3 and 4 are no classes
    labels_HW[0, 0] = 255
    found = class_counts(labels_HW, 3, 3)
    depth_HW = rng.uniform(0.0, 12.0, (6, 9))
    logs = mean_log_depth(depth_HW, 3, 1.0, 10.0)[:, 0]
    for t, (row, column) in enumerate((r, c) for r in (0, 3) for c in (0, 3, 6)):
        cell = labels_HW[row : row + 3, column : column + 3]
        assert found[t].tolist() == [int((cell == k).sum()) for k in range(3)]
        cell = depth_HW[row : row + 3, column : column + 3]
        known = cell[(cell >= 1) & (cell <= 10)]
        assert (
            logs[t] == pytest.approx(np.log(known).mean()) if len(known) >= 5 else np.isnan(logs[t])
        )


def test_no_sequence_is_on_two_sides() -> None:
    groups = [f"clip {n % 9}" for n in range(40)]
    folds = folds_of(groups)
    assert all(len({f for f, g in zip(folds.of_picture, groups, strict=True) if g == clip}) == 1
               for clip in groups)  # fmt: skip
    sizes = np.bincount(folds.of_picture)
    assert len(sizes) == 4 and sizes.max() - sizes.min() <= 5
    assert folds_of(groups) == folds


def test_few_sequences_are_cut_in_time_with_gaps() -> None:
    folds = folds_of(["start of clip"] * 36 + ["end of clip"] * 4)
    borders = [n for n in range(1, 40) if folds.of_picture[n] != folds.of_picture[n - 1]]
    assert folds.of_picture.count(IN_NONE) == 6 and len(borders) == 6
    assert "gaps" in folds.words
    kept = [f for f in folds.of_picture if f != IN_NONE]
    assert kept == sorted(kept) and set(kept) == {0, 1, 2, 3}


def test_seven_pictures_are_too_few() -> None:
    with pytest.raises(ValueError, match="7 training pictures are too few"):
        folds_of([str(n) for n in range(7)])


def planted(kind: str, at: int, units: int = 12) -> tuple[list[torch.Tensor], Cells]:
    """Noise in five blocks, but the answer in one."""
    pictures_T = np.repeat(np.arange(units), 20)
    if kind == "segmentation":
        classes_T = rng.integers(0, 3, len(pictures_T))
        targets_TK = 16 * np.eye(3, dtype=np.int64)[classes_T]
        answer_TC = np.eye(3)[classes_T] @ rng.normal(size=(3, 8))
    else:
        targets_TK = rng.uniform(0.0, 2.0, (len(pictures_T), 1))
        answer_TC = targets_TK @ rng.normal(size=(1, 8))
    blocks = [rng.normal(size=(len(pictures_T), 8)) for _ in range(5)]
    blocks[at] = answer_TC + 0.1 * blocks[at]
    folds = folds_of([f"picture {n}" for n in range(units)])
    return [torch.from_numpy(b).float() for b in blocks], Cells(
        kind, targets_TK, pictures_T, folds, (0.1, 10.0)
    )


def choice_of(kind: str, at: int) -> LayerChoice:
    blocks, cells = planted(kind, at)
    return choice_among(blocks, cells)


def choice_among(blocks: list[torch.Tensor], cells: Cells) -> LayerChoice:
    found = [probe_block(tokens_TC, cells) for tokens_TC in blocks]
    return chosen(found, cells, lambda block: without_picture(blocks[block], cells))


@pytest.mark.parametrize("kind", ["segmentation", "depth"])
def test_the_block_that_alone_carries_the_answer_is_chosen(kind: str) -> None:
    choice = choice_of(kind, 2)
    assert choice.layers == (2,)
    assert "more than noise" in choice.words and "12 training images" in choice.words
    assert choice.table.splitlines()[3].endswith("<- chosen")
    assert choice.table.count("[") >= 5  # an interval each
    assert choice_of(kind, 4).words.endswith(", the last block)")


@pytest.mark.parametrize("kind", ["segmentation", "depth"])
def test_noise_is_called_noise(kind: str) -> None:
    blocks, cells = planted(kind, 0)
    blocks[0] = blocks[1] + 0.01 * blocks[0]
    words = choice_among(blocks, cells).words
    assert "the last block" in words and "more than noise" not in words
    assert "tokens dealt by chance differ by" in words


def test_scores_are_those_of_a_loop_over_cells() -> None:
    blocks, cells = planted("segmentation", 1)
    evidence = probe_block(blocks[1], cells)
    best = -1.0
    for penalty in PENALTIES:
        shares = cells.targets_TK / cells.targets_TK.sum(1, keepdims=True)
        folds_T = np.array([cells.folds.of_picture[p] for p in cells.pictures_T])
        winners = slow_predictions(blocks[1].double().numpy(), shares, folds_T, penalty).argmax(1)
        right = [cells.targets_TK[winners == k, k].sum() for k in range(3)]
        either = [
            cells.targets_TK[winners == k].sum() + cells.targets_TK[winners != k, k].sum()
            for k in range(3)
        ]
        best = max(best, float(np.mean([r / e for r, e in zip(right, either, strict=True)])))
    assert evidence.metrics()["mIoU"] == pytest.approx(best)
    assert without_picture(blocks[1], cells).metrics()["mIoU"] < 0.5 < best


def test_depth_is_scored_in_metres_a_picture() -> None:
    blocks, cells = planted("depth", 1)
    evidence = probe_block(blocks[0] * 0, cells)  # the mean of the logarithms is left
    folds_T = np.array([cells.folds.of_picture[p] for p in cells.pictures_T])
    rmse = []
    for picture in range(12):
        here = cells.pictures_T == picture
        mean = cells.targets_TK[folds_T != cells.folds.of_picture[picture]].mean()
        rmse.append(np.sqrt(np.mean((np.exp(mean) - np.exp(cells.targets_TK[here, 0])) ** 2)))
    assert evidence.metrics()["rmse"] == pytest.approx(np.mean(rmse))


@pytest.mark.parametrize(
    ("kind", "targets", "reason"),
    [
        ("segmentation", [[4, 0]] * 8, "one class only"),
        ("segmentation", [[0, 0]] * 8, "too few training pictures have a class"),
        ("depth", [[np.nan]] * 8, "too few training pictures have depth within"),
        ("segmentation", [[4, 0], [0, 4]] * 4, ""),
        ("depth", [[1.0]] * 8, ""),
    ],
)
def test_what_cannot_choose_says_why(kind: str, targets: list, reason: str) -> None:
    folds = Folds((0, 1) * 4, tuple("abcdefgh"), "")
    found = _nothing_to_choose_with(Cells(kind, np.array(targets), np.arange(8), folds))
    assert (reason in found) if reason else found == ""
