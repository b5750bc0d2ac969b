"""Images per second and peak memory of every PE encoder on a GPU, bf16, eager and compiled.

    python benchmarks/speed/encoder_gpu.py --encoders pe_spatial_b16_512 --batch 16

Without CUDA it says so and stops. Weights are random; time is that of the map of the last block.
Peak memory is what torch's allocator held at most, weights included.
"""

from __future__ import annotations

import argparse
import sys

import torch
from measure import FOLDER, command_line, hardware, precision_context, versions, write_rows

from pe_dense.encoders.build import build_encoder
from pe_dense.encoders.zoo import ENCODERS

NAMES = [name for name, spec in ENCODERS.items() if spec.family == "pe" and "tiling" not in name]
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--encoders", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--passes", nargs="+", default=("forward", "forward+backward"))
    parser.add_argument("--modes", nargs="+", default=("eager", "compiled"))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=20)
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("encoder_gpu.py needs a CUDA device, and torch finds none on this machine")
    for name in args.encoders:
        for mode in args.modes:
            for passes in args.passes:
                measure_row(args, name, mode, passes)


def measure_row(args, name: str, mode: str, passes: str) -> None:
    """Measure one row on the current GPU and put it into the CSV file."""
    torch.manual_seed(0)
    torch.compiler.reset()
    encoder = build_encoder(name).cuda().eval()
    side = encoder.native_grid * encoder.patch_size
    images = torch.randn(args.batch, 3, side, side, device="cuda")
    forward = torch.compile(encoder) if mode == "compiled" else encoder
    train = passes != "forward"

    def run() -> None:
        with torch.set_grad_enabled(train), precision_context("bf16", "cuda"):
            output = forward(images)
        if train:
            output.float().square().mean().backward()
            encoder.zero_grad(set_to_none=True)

    try:
        for _ in range(3):
            run()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        times_ms = []
        for _ in range(args.repeats):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            end.synchronize()
            times_ms.append(start.elapsed_time(end))
        median_ms = sorted(times_ms)[len(times_ms) // 2]
        peak_mib = round(torch.cuda.max_memory_allocated() / MIB, 1)
        images_per_second = round(1e3 * args.batch / median_ms, 1)
    except torch.cuda.OutOfMemoryError:
        median_ms, peak_mib, images_per_second = float("nan"), "out of memory", ""
    row = {
        "encoder": name,
        "precision": "bf16",
        "passes": passes,
        "mode": mode,
        "shape": "x".join(map(str, images.shape)),
        "median_ms": round(median_ms, 2),
        "images_per_second": images_per_second,
        "peak_mib": peak_mib,
        "repeats": args.repeats,
        "hardware": hardware("cuda"),
        "versions": versions(),
        "command": command_line(),
    }
    print(*(f"{key}={value}" for key, value in list(row.items())[:8]), flush=True)
    write_rows(FOLDER / "encoder_gpu_cuda.csv", [row], ("encoder", "passes", "mode", "shape"))


if __name__ == "__main__":
    main()
