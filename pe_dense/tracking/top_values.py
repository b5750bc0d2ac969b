"""The largest values of each row, and where they are.

Shape legend: R rows, N values of a row, n of them wanted.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

LONG_ROW = 2048  # from here on a partition is faster than sorting whole rows


def top_values(x_RN: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The n largest values of each row.

    On a CPU, NumPy finds the n-th largest value of each row, which is several times faster than
    `torch.topk`; places are then those of the values that reach it. Where ties let more values
    than n reach it, `torch.topk` decides instead.

    Args:
        x_RN: float32 or float64 without nan.
        n: At least 1; cut to N.

    Returns:
        Values (R, n) in falling order, and places (R, n), int64, in the flattened rows and in any
        order: place i of a row does not belong to value i.

    Example:
        >>> values, places = top_values(torch.tensor([[3.0, 1.0], [2.0, 5.0]]), 1)
        >>> values.tolist(), places.tolist()
        ([[3.0], [5.0]], [[0], [3]])
    """
    rows, length = x_RN.shape
    n = min(n, length)
    if x_RN.device.type != "cpu":
        return _sorted_top(x_RN, n)
    values_RN = x_RN.numpy()
    if length < LONG_ROW:
        rising_Rn = np.sort(values_RN, axis=1)[:, length - n :]
    else:
        rising_Rn = np.partition(values_RN, length - n, axis=1)[:, length - n :]
        rising_Rn.sort(axis=1)
    flat = np.flatnonzero(values_RN >= rising_Rn[:, :1])
    if len(flat) != rows * n:
        return _sorted_top(x_RN, n)
    return torch.from_numpy(rising_Rn[:, ::-1].copy()), torch.from_numpy(flat).view(rows, n)


def _sorted_top(x_RN: Tensor, n: int) -> tuple[Tensor, Tensor]:
    values_Rn, columns_Rn = x_RN.topk(n, dim=1)
    starts_R = torch.arange(0, x_RN.numel(), x_RN.shape[1], device=x_RN.device)
    return values_Rn, columns_Rn + starts_R[:, None]
