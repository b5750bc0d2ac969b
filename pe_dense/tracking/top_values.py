"""The largest values of each row, and where they are.

Shape legend: R rows, N values of a row, n of them wanted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

LONG_ROW = 2048  # from here on a partition is faster than sorting whole rows


class TopValues(NamedTuple):
    """The n largest values of each row of x.

    Attributes:
        columns_Rn: int64, where they are, in any order.
        values_Rn: What is there: `x.gather(1, columns)`.
        falling_Rn: The same values in falling order, so that column k - 1 is the k-th largest.
    """

    columns_Rn: Tensor
    values_Rn: Tensor
    falling_Rn: Tensor


def top_values(x_RN: Tensor, n: int) -> TopValues:
    """The n largest values of each row.

    On a CPU, NumPy finds the n-th largest value of each row, which is several times faster than
    `torch.topk`; columns are then those of the values that reach it, from left to right. Where
    ties let more values than n reach it, `torch.topk` decides instead.

    Args:
        x_RN: float32 or float64 without nan.
        n: At least 1; cut to N.

    Example:
        >>> top = top_values(torch.tensor([[3.0, 1.0, 4.0], [2.0, 5.0, 0.0]]), 2)
        >>> top.columns_Rn.tolist(), top.values_Rn.tolist(), top.falling_Rn.tolist()
        ([[0, 2], [0, 1]], [[3.0, 4.0], [2.0, 5.0]], [[4.0, 3.0], [5.0, 2.0]])
    """
    rows, length = x_RN.shape
    n = min(n, length)
    if x_RN.device.type == "cpu":
        values_RN = x_RN.numpy()
        if length < LONG_ROW:
            rising_Rn = np.sort(values_RN, axis=1)[:, length - n :]
        else:
            rising_Rn = np.partition(values_RN, length - n, axis=1)[:, length - n :]
            rising_Rn.sort(axis=1)
        columns = np.nonzero(values_RN >= rising_Rn[:, :1])[1]
        if len(columns) == rows * n:
            columns_Rn = torch.from_numpy(columns).view(rows, n)
            falling_Rn = torch.from_numpy(rising_Rn[:, ::-1].copy())
            return TopValues(columns_Rn, x_RN.gather(1, columns_Rn), falling_Rn)
    falling_Rn, columns_Rn = x_RN.topk(n, dim=1)
    return TopValues(columns_Rn, falling_Rn, falling_Rn)
