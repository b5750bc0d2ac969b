"""Choosing among heads: on held-out training images, each layer its setting, and then the layer.

Shape legend: S sources, P heads of a source (settings x seeds), E seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pe_dense.probing.head_bank import HeadSetting


@dataclass(frozen=True)
class ChosenHeads:
    """What was chosen, by index; `results.record.Selection` tells it with names.

    Attributes:
        source: Index of the chosen source.
        setting_S: For every source the index of the chosen (lr, weight decay), counted without
            seeds.
        by_seed: For every seed alone: index of the source and of the setting it would choose.
    """

    source: int
    setting_S: tuple[int, ...]
    by_seed: tuple[tuple[int, int], ...]


def select_heads(
    scores_SP: np.ndarray, settings: Sequence[HeadSetting], higher_is_better: bool
) -> ChosenHeads:
    """The setting of every source and the source with the best mean over seeds.

    A setting of which some seed has no score (nan: it diverged) is never chosen. Ties go to the
    first source and setting.

    Args:
        scores_SP: Scores of the heads on the images to select with.
        settings: P, in the order of `head_bank.head_settings`: seeds vary fastest.
        higher_is_better: False for errors.

    Raises:
        ValueError: If all settings of a source are nan.

    Example:
        >>> pairs = [HeadSetting(1e-2, 0.0, 0), HeadSetting(1e-3, 0.0, 0)]
        >>> select_heads(np.array([[0.1, 0.2], [0.4, 0.3]]), pairs, True)
        ChosenHeads(source=1, setting_S=(1, 0), by_seed=((1, 0),))
    """
    seeds = len({s.seed for s in settings})
    scores_STE = np.asarray(scores_SP, np.float64).reshape(len(scores_SP), -1, seeds)
    good_STE = scores_STE if higher_is_better else -scores_STE
    good_STE = np.where(np.isfinite(good_STE), good_STE, -np.inf)
    good_ST = good_STE.mean(2)
    lost = np.flatnonzero(np.isneginf(good_ST).all(1))
    if len(lost):
        raise ValueError(
            f"all heads of source {lost[0]} diverged or have no score; add smaller learning rates"
        )
    setting_S = good_ST.argmax(1)
    source = int(good_ST.max(1).argmax())
    by_seed = tuple(
        tuple(int(i) for i in np.unravel_index(good_STE[:, :, e].argmax(), good_ST.shape))
        for e in range(seeds)
    )
    return ChosenHeads(source, tuple(map(int, setting_S)), by_seed)
