"""The largest values of rows against sorting whole rows."""

import pytest
import torch

from pe_dense.tracking import top_values as top_values_module
from pe_dense.tracking.top_values import top_values


def check(x, n):
    top = top_values(x, n)
    expected = x.sort(dim=1, descending=True).values[:, :n]
    assert torch.equal(top.falling_Rn, expected)
    assert top.values_Rn.dtype == x.dtype and top.columns_Rn.dtype == torch.int64
    assert all(len(set(row)) == len(row) for row in top.columns_Rn.tolist())
    assert torch.equal(top.values_Rn, x.gather(1, top.columns_Rn))
    assert torch.equal(top.values_Rn.sort(dim=1, descending=True).values, expected)


@pytest.mark.parametrize("long_row", [1, 2048])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("rows", "length", "n"), [(5, 40, 7), (3, 2100, 11), (1, 1, 1), (4, 6, 6)])
def test_values_and_columns(monkeypatch, long_row, dtype, rows, length, n):
    monkeypatch.setattr(top_values_module, "LONG_ROW", long_row)
    x = torch.randn(rows, length, dtype=dtype, generator=torch.Generator().manual_seed(0))
    check(x, n)
    check(x[:, : length // 2 + 1], n + length)  # rows that do not touch, fewer than wanted


@pytest.mark.parametrize("n", [1, 3, 8])
def test_ties_and_infinity(n):
    x = torch.randint(0, 3, (50, 9), generator=torch.Generator().manual_seed(1)).float()
    check(x, n)
    x[x == 0] = -torch.inf
    check(x, n)
    check(torch.full((2, 9), -torch.inf), n)


def test_too_many_in_one_row_do_not_hide_behind_another():
    check(torch.tensor([[1.0, 1.0, 1.0], [3.0, 2.0, 1.0]]), 2)
    check(torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]), 1)


def test_no_rows():
    assert {part.shape for part in top_values(torch.empty(0, 5), 2)} == {(0, 2)}
