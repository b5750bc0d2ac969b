"""PE encoders against timm's port of them, on a CPU: time and peak memory.

    python benchmarks/speed/encoder_vs_timm.py --encoders pe_spatial_t16_512 --repeats 10

All rows take about an hour on two cores; rows that are run replace those in the CSV. The target
is a ratio of medians (ours / timm) of at most 1.00 in every row. Both sides have the same random
weights, give the map of the last block alone, and agree to float32 precision (tests).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
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
from torchvision_ops import make_timm_importable

make_timm_importable()
import timm  # noqa: E402

from pe_dense.encoders.build import build_encoder  # noqa: E402
from pe_dense.encoders.conversion import official_to_timm  # noqa: E402

TIMM_NAMES = {
    "pe_spatial_t16_512": "vit_pe_spatial_tiny_patch16_512",
    "pe_spatial_s16_512": "vit_pe_spatial_small_patch16_512",
    "pe_spatial_b16_512": "vit_pe_spatial_base_patch16_512",
    "pe_spatial_l14_448": "vit_pe_spatial_large_patch14_448",
}
DEFAULT = ("pe_spatial_t16_512", "pe_spatial_b16_512", "pe_spatial_l14_448")
VARIANTS = ("pe_dense", "timm")


def build_forward(name: str, variant: str, images: torch.Tensor) -> Callable[[], torch.Tensor]:
    """A function that gives the map of the last block."""
    torch.manual_seed(0)
    encoder = build_encoder(name).eval()
    if variant == "pe_dense":
        return lambda: encoder.forward_intermediates(images, (-1,))[0]
    port = timm.create_model(TIMM_NAMES[name]).eval()
    port.load_state_dict(official_to_timm(encoder.state_dict()))
    last = [encoder.depth - 1]
    return lambda: port.forward_intermediates(
        images, indices=last, norm=False, intermediates_only=True
    )[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--encoders", nargs="+", default=DEFAULT, choices=TIMM_NAMES)
    parser.add_argument("--precision", nargs="+", default=("fp32", "bf16"))
    parser.add_argument("--passes", nargs="+", default=("forward", "forward+backward"))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--skip-memory", action="store_true")
    parser.add_argument("--memory-of", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    for name in args.encoders:
        side = int(name.rpartition("_")[2])
        images = torch.randn(args.batch, 3, side, side)
        if args.memory_of:
            print_peak(args, build_forward(name, args.memory_of, images))
            return
        forwards = {variant: build_forward(name, variant, images) for variant in VARIANTS}
        for precision in args.precision:
            for passes in args.passes:
                measure_row(args, name, images, forwards, precision, passes)


def print_peak(args, forward: Callable[[], torch.Tensor]) -> None:
    """What the child process does: print the peak memory of one variant in bytes."""
    train = args.passes[0] != "forward"
    print(peak_bytes_above_now(lambda: run_once(forward, args.precision[0], train)))


def measure_row(args, name, images, forwards, precision, passes) -> None:
    """Measure one row, print it and put it into the CSV file."""
    train = passes != "forward"
    runs = {
        variant: (lambda forward=forward: run_once(forward, precision, train))
        for variant, forward in forwards.items()
    }
    medians = interleaved_ms(runs, args.repeats)
    peaks = dict.fromkeys(VARIANTS, "")
    if not args.skip_memory:
        arguments = ["--encoders", name, "--precision", precision, "--passes", passes]
        peaks = peak_mib_of_variants([*arguments, "--batch", str(args.batch)], VARIANTS)
    row = {
        "encoder": name,
        "precision": precision,
        "passes": passes,
        "shape": "x".join(map(str, images.shape)),
        "pe_dense_ms": round(medians["pe_dense"], 2),
        "timm_ms": round(medians["timm"], 2),
        "ratio": round(medians["pe_dense"] / medians["timm"], 3),
        "pe_dense_peak_mib": peaks["pe_dense"],
        "timm_peak_mib": peaks["timm"],
        "repeats": args.repeats,
        "hardware": hardware(),
        "versions": versions("timm"),
        "command": command_line(),
    }
    print(*(f"{key}={value}" for key, value in list(row.items())[:9]), flush=True)
    key = ("encoder", "precision", "passes", "shape")
    write_rows(FOLDER / "encoder_vs_timm_cpu.csv", [row], key)


if __name__ == "__main__":
    main()
