"""Encoders: bf16 weights at native size, as written, with kernels, and with compiled blocks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import torch
from gpu_bench import Bench, Row, difference

from pe_dense import kernels
from pe_dense.encoders.build import build_encoder

BATCHES = {"pe_spatial_b16_512": 64, "pe_spatial_l14_448": 32, "pe_spatial_g14_448": 16}
TARGETS = {"b16": 0.5, "l14": 0.6, "g14": 0.6}  # share of the matrix peak
COMPILED = ("pe_spatial_b16_512",)  # the compiler takes 10 s a tower


def parts(bench: Bench) -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    """The parts to measure."""
    for name, batch in ({"pe_spatial_t16_512": 1} if bench.tiny else BATCHES).items():
        yield f"{name}, forward, batch {batch}", lambda n=name, b=batch: forward(bench, n, b)


def forward(bench: Bench, name: str, batch: int) -> list[Row]:
    """Eager beside eager without kernels, and one tower compiled."""
    torch.manual_seed(0)
    with torch.device(bench.device):
        encoder = build_encoder(name).eval().to(torch.bfloat16)
    side = 64 if bench.tiny else encoder.native_grid * encoder.patch_size
    images = torch.randn(batch, 3, side, side, device=bench.device, dtype=torch.bfloat16)
    operations = batch * encoder_operations(encoder, side)
    rows = []
    with torch.no_grad():
        with without_kernels():
            written = encoder(images)
            plain = bench.measure(lambda: encoder(images))
        for mode in ("eager", "compiled") if name in COMPILED else ("eager",):
            begin = time.perf_counter()
            encoder.set_compile_blocks(mode == "compiled")
            equal = difference(encoder(images), written)
            bench.synchronize()
            waited = f", first pass {time.perf_counter() - begin:.0f} s" * (mode == "compiled")
            ours = bench.measure(lambda: encoder(images))
            rows.append(
                bench.row(
                    ours,
                    plain,
                    "as written",
                    operations=operations,
                    equal=equal,
                    target=target_of(name),
                    note=f"{1e3 * batch / ours.ms:.0f} images/s{waited}",
                    part=f"{name}, forward, batch {batch}, {mode}",
                )
            )
    return rows


def target_of(name: str) -> str:
    share = TARGETS.get(name.split("_")[2])
    return f"{share:.2f} of the matrix peak" if share else ""


class without_kernels:  # noqa: N801 (a context manager)
    """Functions take their plain PyTorch form meanwhile."""

    def __enter__(self) -> None:
        self._before = os.environ.get(kernels.VARIABLE)
        os.environ[kernels.VARIABLE] = "off"

    def __exit__(self, *_: object) -> None:
        del os.environ[kernels.VARIABLE]
        if self._before is not None:
            os.environ[kernels.VARIABLE] = self._before


def encoder_operations(encoder: torch.nn.Module, side: int, depth: int | None = None) -> float:
    """Multiplications and additions of one image's forward pass: matrix products alone.

    Args:
        encoder: A tower of `PerceptionEncoder`.
        side: Of the image, in pixels.
        depth: Blocks that run; all that were built by default.
    """
    depth = depth or encoder.depth
    tokens = (side // encoder.patch_size) ** 2
    matrices = sum(p.numel() for p in encoder.blocks[:depth].parameters() if p.ndim == 2)
    attention = 2 * depth * tokens * encoder.embed_dim
    patches = 3 * encoder.patch_size**2 * encoder.embed_dim
    return 2.0 * tokens * (matrices + attention + patches)
