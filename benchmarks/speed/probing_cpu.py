"""Many probes in one run against one probe, and against as many separate runs, on a CPU.

    python benchmarks/speed/probing_cpu.py --repeats 5

A training step on images of the mini world, frozen PE Spatial T/16 with random weights: forward
pass of the encoder, heads, loss at the resolution of the labels, backward pass, optimiser. 'bank'
has 12 layers x 6 settings, 'single' one head on the last layer. Targets: the bank takes at most
2 x the time and 1.5 x the peak memory of the single one, and 72 separate runs take at least 15 x
its time. Separate runs of early layers do not compute the blocks behind: 'separate' sums the
single probes of all twelve layers, times six. The reading of images, which a bank also does once,
is not in the numbers.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from measure import (
    FOLDER,
    command_line,
    hardware,
    interleaved_ms,
    peak_bytes_above_now,
    peak_mib_of_variants,
    versions,
    write_rows,
)
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement, PixelData

import pe_dense.probing  # noqa: F401 (registers its parts)
from pe_dense.mini_world.world import make_image

ENCODER, DEPTH, CLASSES = "pe_spatial_t16_512", 12, 10
VARIANTS = ("bank", "single")
BANK = dict(sources="all", lrs=(1e-2, 1e-3, 1e-4), weight_decays=(1e-2, 1e-4))
NUM_HEADS = 72


def mini_batch(num: int, size: int) -> tuple[torch.Tensor, list[BaseDataElement]]:
    """Normalised images (B, 3, H, W), and samples with their labels."""
    frames = [make_image(0, "train", i, image_size=size) for i in range(num)]
    images = np.stack([frame.image for frame in frames]).transpose(0, 3, 1, 2)
    samples = []
    for frame in frames:
        labels = torch.from_numpy(frame.semantic.astype(np.int64)) - 1  # 0 is "other"
        labels[labels < 0] = 255
        samples.append(BaseDataElement(gt_sem_seg=PixelData(data=labels[None])))
    return torch.from_numpy(images.copy()).float() / 127.5 - 1, samples


def training_step(batch: Any, **heads: Any) -> Callable[[], None]:
    """One step of a probe."""
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type="LayerProbe",
            backbone=dict(type="DenseBackbone", encoder=ENCODER),
            encoder_depth=DEPTH,
            task="segmentation",
            task_options=dict(num_classes=CLASSES),
            **heads,
        )
    ).train()
    wrapper = build_optim_wrapper(
        model,
        dict(
            type="OptimWrapper",
            constructor="HeadBankOptimizer",
            optimizer=dict(type="GroupedAdamW", lr=1.0),
        ),
    )
    return lambda: wrapper.update_params(model.loss(*batch)["loss"])


def main() -> None:
    """Measure and write probing_cpu.csv."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--memory-of", choices=VARIANTS)
    parser.add_argument("--dry", action="store_true", help="write no file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    batch = mini_batch(args.batch, args.size)
    heads = {"bank": BANK, "single": dict(sources=[-1])}
    if args.memory_of:
        print(peak_bytes_above_now(training_step(batch, **heads[args.memory_of])))
        return
    steps = {name: training_step(batch, **heads[name]) for name in VARIANTS}
    ms = interleaved_ms(steps, args.repeats)
    singles = {str(layer): training_step(batch, sources=[layer]) for layer in range(DEPTH)}
    separate = sum(interleaved_ms(singles, max(1, args.repeats // 2)).values())
    separate *= NUM_HEADS / DEPTH
    shape = ["--threads", args.threads, "--size", args.size, "--batch", args.batch]
    # The allocator's leftovers change a peak by a tenth: the median of five.
    peaks = [peak_mib_of_variants(map(str, shape), VARIANTS) for _ in range(5)]
    mib = {name: statistics.median(peak[name] for peak in peaks) for name in VARIANTS}
    row = {
        "encoder": ENCODER,
        "size": args.size,
        "batch": args.batch,
        "bank_ms": round(ms["bank"], 1),
        "single_ms": round(ms["single"], 1),
        "bank_over_single": round(ms["bank"] / ms["single"], 2),
        "separate_ms": round(separate, 1),
        "separate_over_bank": round(separate / ms["bank"], 1),
        "bank_peak_mib": mib["bank"],
        "single_peak_mib": mib["single"],
        "memory_ratio": round(mib["bank"] / mib["single"], 2),
        "hardware": hardware(),
        "versions": versions("onedl-mmengine"),
        "command": command_line(),
    }
    for name, value in row.items():
        print(f"{name:>18} {value}")
    if not args.dry:
        write_rows(FOLDER / "probing_cpu.csv", [row], ("encoder", "size", "batch", "hardware"))


if __name__ == "__main__":
    main()
