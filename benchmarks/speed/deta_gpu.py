"""One training step of DETA on PE Spatial G on a GPU: time and peak memory.

    python benchmarks/speed/deta_gpu.py --canvas 1024

Forward and backward pass with all losses, activation checkpointing in the encoder, batch 1, random
weights, encoder in float32 and in bfloat16. Peak memory is what torch's allocator held at most,
weights and gradients included, optimiser state not. Without CUDA it says so and stops.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings

import torch
from measure import FOLDER, ROOT, command_line, hardware, versions, write_rows
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

import pe_dense.detection  # noqa: F401 (registers DETA)
from pe_dense.run.config import encoder_facts, substitute

GIB = 2**30


def build_model(encoder: str, canvas: int, amp_dtype: str | None) -> torch.nn.Module:
    """The detector of configs/detection/deta_pe_g16_coco_1728.py on another canvas, on the GPU."""
    init_default_scope("mmdet")
    cfg = Config.fromfile(ROOT / "configs/detection/deta_pe_g16_coco_1728.py")
    names = dict(
        encoder=encoder, weights="random", canvas=canvas, num_queries=900, num_classes=80,
        amp_dtype=amp_dtype, grad_checkpointing=True, drop_path_rate=0.5,
        pixel_mean=cfg.pixel_mean, pixel_std=cfg.pixel_std,
    )  # fmt: skip
    options = substitute(cfg.model.backbone.encoder_options.to_dict(), names)
    names |= {f"encoder.{key}": value for key, value in encoder_facts(encoder, options).items()}
    torch.manual_seed(0)
    with torch.device("cuda"):
        return MODELS.build(substitute(cfg.model.to_dict(), names)).train()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--encoder", default="pe_spatial_g14_448")
    parser.add_argument("--canvas", type=int, default=1024)
    parser.add_argument("--precision", nargs="+", default=("bf16", "fp32"))
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("deta_gpu.py needs a CUDA device, and torch finds none on this machine")
    warnings.simplefilter("ignore")
    MMLogger.get_current_instance().setLevel("ERROR")
    for precision in args.precision:
        measure_row(args, precision)


def measure_row(args, precision: str) -> None:
    """Measure one row and put it into the CSV file."""
    model = build_model(args.encoder, args.canvas, "bfloat16" if precision == "bf16" else None)
    side = args.canvas - 32
    image = torch.randn(1, 3, args.canvas, args.canvas, device="cuda")
    corner = torch.rand(30, 2, device="cuda") * (side - 200)
    boxes = torch.cat([corner, corner + torch.rand(30, 2, device="cuda") * 180 + 10], dim=1)
    sample = DetDataSample(
        metainfo=dict(img_shape=(side, side), batch_input_shape=(args.canvas, args.canvas))
    )
    labels = torch.randint(0, 80, (30,), device="cuda")
    sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)

    def step() -> None:
        sum(model.loss(image, [sample]).values()).backward()
        model.zero_grad(set_to_none=True)

    step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(args.repeats):
        start = time.perf_counter()
        step()
        torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    row = {
        "encoder": args.encoder,
        "canvas": args.canvas,
        "precision": precision,
        "median_ms": round(sorted(times)[len(times) // 2], 1),
        "peak_gib": round(torch.cuda.max_memory_allocated() / GIB, 2),
        "parameters_m": round(sum(p.numel() for p in model.parameters()) / 1e6, 1),
        "hardware": hardware("cuda"),
        "versions": versions("onedl-mmdetection", "onedl-mmcv"),
        "command": command_line(),
    }
    print(*(f"{key}={value}" for key, value in list(row.items())[:6]), flush=True)
    write_rows(FOLDER / "deta_gpu.csv", [row], ("encoder", "canvas", "precision"))


if __name__ == "__main__":
    main()
