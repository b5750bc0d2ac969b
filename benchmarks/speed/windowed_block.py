"""A G-shaped windowed block against a plain per-window implementation, on a CPU.

    python benchmarks/speed/windowed_block.py --grids 64 --windows 32 --repeats 5

The plain one does what detection code around ViTs commonly does: cut into windows (with padding)
before the projections, rotate by tables of cosines and sines, softmax(q k^T) v with the whole
attention matrix in memory. Both have the same weights and agree (the script checks it). Targets:
at least 1.5 times faster (ratio at most 0.667) and at most half the peak memory.
Parts: 'block' is the whole transformer block, 'attention' its attention sublayer with projections,
'core' what lies between the projections (windows, rotation, attention).

Shape legend: B images, N tokens, C width, M heads, D head width, h w token grid, S window side.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from measure import (
    FOLDER,
    command_line,
    hardware,
    interleaved_ms,
    peak_bytes_above_now,
    peak_mib_of_variants,
    run_once,
    versions,
    write_rows,
)
from torch import Tensor

from pe_dense.encoders.pe import Block, grid_from_windows, rope_table, windows_from_grid

WIDTH, HEADS, HIDDEN = 1536, 16, 8960
VARIANTS = ("pe_dense", "plain")
PARTS = ("block", "attention", "core")


def plain_windows(grid_BhwC: Tensor, side: int) -> tuple[Tensor, tuple[int, int]]:
    """Pad with zeros and cut: (B * V, S * S, C) and the padded grid."""
    b, h, w, c = grid_BhwC.shape
    grid_BhwC = F.pad(grid_BhwC, (0, 0, 0, -w % side, 0, -h % side))
    rows, columns = grid_BhwC.shape[1] // side, grid_BhwC.shape[2] // side
    windows = grid_BhwC.view(b, rows, side, columns, side, c).permute(0, 1, 3, 2, 4, 5)
    return windows.reshape(-1, side * side, c), (rows * side, columns * side)


def plain_grid(windows_VNC: Tensor, side: int, padded_hw, grid_hw) -> Tensor:
    """Undo `plain_windows`: (B, h, w, C)."""
    rows, columns = padded_hw[0] // side, padded_hw[1] // side
    grid = windows_VNC.view(-1, rows, columns, side, side, windows_VNC.shape[-1])
    grid = grid.permute(0, 1, 3, 2, 4, 5).reshape(-1, *padded_hw, windows_VNC.shape[-1])
    return grid[:, : grid_hw[0], : grid_hw[1]].contiguous()


def plain_rotate(x: Tensor, cos_ND: Tensor, sin_ND: Tensor) -> Tensor:
    """Rotate neighbouring pairs of (V, M, N, D) with tables of full head width."""
    turned = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
    return (x * cos_ND + turned * sin_ND).to(x.dtype)


def plain_core(qkv_VNC: Tensor, table_ND2: Tensor) -> Tensor:
    """Explicit attention inside every window: (V, N, 3 C) -> (V, N, C)."""
    qkv = qkv_VNC.unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.unbind(0)  # (V, M, N, D)
    cos, sin = table_ND2.repeat_interleave(2, dim=1).unbind(-1)
    q, k = plain_rotate(q, cos, sin), plain_rotate(k, cos, sin)
    weights = (q / math.sqrt(q.shape[-1])) @ k.transpose(-2, -1)
    return (weights.softmax(dim=-1).to(v.dtype) @ v).transpose(1, 2).flatten(2)


def plain_attention(block: Block, normed_BNC: Tensor, table_ND2: Tensor, grid_hw) -> Tensor:
    """Attention sublayer with the projections inside the windows."""
    side, attn = block.window_size, block.attn
    windows, padded_hw = plain_windows(normed_BNC.unflatten(1, grid_hw), side)
    mixed = plain_core(F.linear(windows, attn.in_proj_weight, attn.in_proj_bias), table_ND2)
    return plain_grid(attn.out_proj(mixed), side, padded_hw, grid_hw).flatten(1, 2)


def plain_block(block: Block, x_BNC: Tensor, table_ND2: Tensor, grid_hw) -> Tensor:
    """Whole block around `plain_attention`."""
    x_BNC = x_BNC + plain_attention(block, block.ln_1(x_BNC), table_ND2, grid_hw)
    return x_BNC + block.mlp.c_proj(F.gelu(block.mlp.c_fc(block.ln_2(x_BNC))))


def build_forwards(part: str, side: int, grid: int) -> dict[str, Callable[[], Tensor]]:
    """Both variants of a part on one G-shaped block."""
    torch.manual_seed(0)
    block = Block(WIDTH, HEADS, HIDDEN, None, 0.0, side)
    torch.nn.init.xavier_uniform_(block.attn.in_proj_weight)
    torch.nn.init.normal_(block.attn.in_proj_bias, std=0.1)
    plain = copy.copy(block)
    grid_hw = (grid, grid)
    table = rope_table((side, side), WIDTH // HEADS, (1.0, 1.0), 1.0, 0)
    x_BNC = torch.randn(1, grid * grid, WIDTH)
    if part == "block":
        return {
            "pe_dense": lambda: block(x_BNC, table, grid_hw),
            "plain": lambda: plain_block(plain, x_BNC, table, grid_hw),
        }
    if part == "attention":
        return {
            "pe_dense": lambda: block.attn(x_BNC, table, side, grid_hw),
            "plain": lambda: plain_attention(plain, x_BNC, table, grid_hw),
        }
    qkv_BNC = torch.randn(1, grid * grid, 3 * WIDTH)
    attn = block.attn
    attn.in_proj_weight = attn.out_proj = None  # only the bias, which fills padding, is used
    padding = attn.in_proj_bias

    def ours() -> Tensor:
        windows = windows_from_grid(qkv_BNC.unflatten(1, grid_hw), side, padding)
        return grid_from_windows(attn.attend(windows, table), side, grid_hw).flatten(1, 2)

    def explicit() -> Tensor:
        grid_BhwC = qkv_BNC.unflatten(1, grid_hw) - padding  # plain pads with zeros, then adds
        windows, padded_hw = plain_windows(grid_BhwC, side)
        mixed = plain_core(windows + padding, table)
        return plain_grid(mixed, side, padded_hw, grid_hw).flatten(1, 2)

    return {"pe_dense": ours, "plain": explicit}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--grids", nargs="+", type=int, default=(64, 96, 108, 114))
    parser.add_argument("--windows", nargs="+", type=int, default=(24, 32))
    parser.add_argument("--parts", nargs="+", default=("block", "attention"), choices=PARTS)
    parser.add_argument("--precision", nargs="+", default=("fp32", "bf16"))
    parser.add_argument("--passes", nargs="+", default=("forward",))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--skip-memory", action="store_true")
    parser.add_argument("--memory-of", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    for part in args.parts:
        for side in args.windows:
            for grid in args.grids:
                forwards = build_forwards(part, side, grid)
                if args.memory_of:
                    print_peak(args, forwards[args.memory_of])
                    return
                with torch.no_grad():
                    ours, plain = forwards["pe_dense"](), forwards["plain"]()
                assert (ours - plain).abs().max() < 1e-4 * plain.abs().max()
                del ours, plain
                for precision in args.precision:
                    for passes in args.passes:
                        measure_row(args, part, side, grid, forwards, precision, passes)


def print_peak(args, forward: Callable[[], Tensor]) -> None:
    """What the child process does: print the peak memory of one variant in bytes."""
    train = args.passes[0] != "forward"
    print(peak_bytes_above_now(lambda: run_once(forward, args.precision[0], train)))


def measure_row(args, part, side, grid, forwards, precision, passes) -> None:
    """Measure one row, print it and put it into the CSV file."""
    train = passes != "forward"
    runs = {
        variant: (lambda forward=forward: run_once(forward, precision, train))
        for variant, forward in forwards.items()
    }
    medians = interleaved_ms(runs, args.repeats)
    peaks = dict.fromkeys(VARIANTS, "")
    if not args.skip_memory:
        arguments = ["--parts", part, "--windows", str(side), "--grids", str(grid)]
        arguments += ["--precision", precision, "--passes", passes]
        peaks = peak_mib_of_variants(arguments, VARIANTS)
    row = {
        "part": part,
        "precision": precision,
        "passes": passes,
        "image": 16 * grid,
        "window": side,
        "shape": f"1x{grid}x{grid}x{WIDTH}",
        "pe_dense_ms": round(medians["pe_dense"], 2),
        "plain_ms": round(medians["plain"], 2),
        "ratio": round(medians["pe_dense"] / medians["plain"], 3),
        "pe_dense_peak_mib": peaks["pe_dense"],
        "plain_peak_mib": peaks["plain"],
        "repeats": args.repeats,
        "hardware": hardware(),
        "versions": versions(),
        "command": command_line(),
    }
    print(*(f"{key}={value}" for key, value in list(row.items())[:11]), flush=True)
    key = ("part", "precision", "passes", "shape", "window")
    write_rows(FOLDER / "windowed_block_cpu.csv", [row], key)


if __name__ == "__main__":
    main()
