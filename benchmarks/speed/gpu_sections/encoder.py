"""Encoders: a forward pass in bf16 at native size."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from gpu_bench import Bench, Row

from pe_dense.encoders.build import build_encoder

BATCHES = {"pe_spatial_b16_512": 64, "pe_spatial_l14_448": 32, "pe_spatial_g14_448": 16}


def parts(bench: Bench) -> Iterator[tuple[str, Callable[[], Row]]]:
    """The parts to measure."""
    for name, batch in ({"pe_spatial_t16_512": 1} if bench.tiny else BATCHES).items():
        yield f"{name}, forward, batch {batch}", lambda n=name, b=batch: forward(bench, n, b)


def forward(bench: Bench, name: str, batch: int) -> Row:
    encoder = build_encoder(name).eval().to(bench.device, torch.bfloat16)
    side = 64 if bench.tiny else encoder.native_grid * encoder.patch_size
    images = torch.randn(batch, 3, side, side, device=bench.device, dtype=torch.bfloat16)
    with torch.no_grad():
        ours = bench.measure(lambda: encoder(images))
    operations = batch * encoder_operations(encoder, side)
    return bench.row(ours, operations=operations, note=f"{1e3 * batch / ours.ms:.0f} images/s")


def encoder_operations(encoder: torch.nn.Module, side: int) -> float:
    """Multiplications and additions of one image's forward pass: matrix products alone."""
    tokens = (side // encoder.patch_size) ** 2
    matrices = sum(p.numel() for p in encoder.blocks.parameters() if p.ndim == 2)
    attention = 2 * encoder.depth * tokens * encoder.embed_dim
    patches = 3 * encoder.patch_size**2 * encoder.embed_dim
    return 2.0 * tokens * (matrices + attention + patches)
