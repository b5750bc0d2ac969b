"""Counted operations: torch's own counter, closed forms, and nothing twice under checkpointing."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from pe_dense.encoders.build import build_encoder
from pe_dense.run.model_flops import ModelFlops, peak_of

TOWER = dict(embed_dim=32, depth=3, num_heads=2, mlp_hidden=64, image_size=64)


def step(checkpointing: bool, device: str = "cpu") -> None:
    torch.manual_seed(0)
    encoder = build_encoder("pe_core_t16_384", **TOWER).to(device).train()
    encoder.set_grad_checkpointing(checkpointing)
    images = torch.randn(2, 3, 64, 64, device=device)
    encoder.forward_intermediates(images, [2])[0].square().mean().backward()


def test_a_tower_has_the_operations_of_torchs_counter() -> None:
    with FlopCounterMode(display=False) as theirs:
        step(checkpointing=False)
    with ModelFlops() as ours:
        step(checkpointing=False)
    assert ours.total == theirs.get_total_flops() > 0


def test_what_is_computed_again_does_not_count() -> None:
    with FlopCounterMode(display=False) as hardware:
        step(checkpointing=True)
    with ModelFlops() as again:
        step(checkpointing=True)
    with ModelFlops() as once:
        step(checkpointing=False)
    assert again.total == once.total < hardware.get_total_flops()


def test_closed_forms() -> None:
    layer = nn.Linear(5, 7)
    rows = torch.randn(3, 5)
    with ModelFlops() as counter:
        layer(rows).sum().backward()
    assert counter.total == 2 * (2 * 3 * 5 * 7)  # product, and gradient of the weights
    with ModelFlops() as counter:
        layer(rows.requires_grad_()).sum().backward()
    assert counter.total == 3 * (2 * 3 * 5 * 7)
    with ModelFlops() as counter, torch.no_grad():
        layer(rows)
    assert counter.total == 2 * 3 * 5 * 7
    with ModelFlops() as counter, torch.inference_mode():
        layer(rows)
    assert counter.total == 2 * 3 * 5 * 7
    with ModelFlops() as counter:
        checkpoint(layer, rows, use_reentrant=False).sum().backward()
    assert counter.total == 3 * (2 * 3 * 5 * 7)
    with ModelFlops() as counter:
        pass
    assert counter.total == 0


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA GeForce GTX 1080", None),
        ("", None),
    ],
)
def test_peaks_are_of_whole_gpus_that_are_known(name: str, peak: float | None) -> None:
    assert peak_of(name) == peak
