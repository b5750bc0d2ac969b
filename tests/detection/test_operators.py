"""Deformable attention on a machine whose mmcv has no CUDA kernels."""

from __future__ import annotations

import pytest
import torch
from mmcv.ops import multi_scale_deform_attn

from pe_dense.detection import operators


def test_falls_back_to_pytorch_only_where_the_kernel_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(multi_scale_deform_attn, "IS_CUDA_AVAILABLE", True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(operators, "get_compiling_cuda_version", lambda: "12.8")
    assert not operators.use_torch_where_cuda_is_missing()
    assert multi_scale_deform_attn.IS_CUDA_AVAILABLE

    monkeypatch.setattr(operators, "get_compiling_cuda_version", lambda: "not available")
    with pytest.warns(UserWarning, match="built without CUDA"):
        assert operators.use_torch_where_cuda_is_missing()
    assert not multi_scale_deform_attn.IS_CUDA_AVAILABLE


def test_nothing_changes_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not operators.use_torch_where_cuda_is_missing()
