"""A whole video from files to scores: 70 frames of 480 x 854 with B/16, as DINO evaluates it.

'ours' is the time of everything, 'against' that of the encoder alone on frames that are already on
the device. What the other parts take on their own stands in the note; in the whole they overlap.
Weights are random, so scores say nothing.

Shape legend: h w token grid, D width, C labels.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from gpu_bench import Bench, Row

from gpu_sections.synthetic_video import write_video
from pe_dense.tracking.annotated_video import read_annotated_video
from pe_dense.tracking.frame_scorer import FrameScorer
from pe_dense.tracking.frames import frame_batches, network_size
from pe_dense.tracking.label_propagation import propagate_labels
from pe_dense.tracking.reference import PropagationSetting
from pe_dense.tracking.video_propagator import (
    VideoPropagator,
    frames_together,
    reading_threads,
    score_queue,
)

IMAGE_HW, TINY_HW = (480, 854), (96, 128)
TARGET = "at most 1.5 x the encoder"


def parts(bench: Bench) -> Iterator[tuple[str, Callable[[], Row]]]:
    """The parts to measure."""
    name, frames = ("T/16, tiny frames", 5) if bench.tiny else ("B/16, 480 x 854", 70)
    with tempfile.TemporaryDirectory() as folder:
        video = write_video(Path(folder), frames, TINY_HW if bench.tiny else IMAGE_HW)
        for amp, precision in (("bfloat16", "bf16 autocast"), (None, "float32")):
            part = f"{name}, {frames} frames, {precision}"
            yield part, lambda a=amp: whole_video(bench, a, video)


def whole_video(bench: Bench, amp: str | None, video: dict[str, Any]) -> Row:
    """One row."""
    short_side = 64 if bench.tiny else 480
    encoder = "pe_spatial_t16_512" if bench.tiny else "pe_spatial_b16_512"
    backbone = dict(type="DenseBackbone", encoder=encoder, weights="random", amp_dtype=amp)
    torch.manual_seed(0)
    model = VideoPropagator(backbone, 12, [{}], short_side=short_side)
    model = model.to(bench.device).eval()
    threads = reading_threads(bench.device)
    encoder = model.backbone.encoder
    patch = encoder.patch_size
    annotated = read_annotated_video(video)
    image_hw, frames = annotated.native_hw, len(annotated.frame_paths)
    with torch.no_grad():
        size_hw = network_size(image_hw, patch, "dino", short_side)
        grid_hw = size_hw[0] // patch, size_hw[1] // patch
        batch = frames_together(bench.device, grid_hw[0] * grid_hw[1])
        first_Chw = annotated.first_labels(grid_hw).to(bench.device)
        scorer = FrameScorer(annotated, patch, True, None)

        def read(threads: int = threads) -> list[torch.Tensor]:
            colours = encoder.mean, encoder.std
            paths = annotated.frame_paths
            sizes = image_hw, size_hw, "dino"
            return list(frame_batches(paths, *sizes, *colours, batch, threads, None, bench.device))

        def encode() -> list[torch.Tensor]:
            maps = [model.backbone(batch_B3HW)[0] for batch_B3HW in batches]
            return [map_Dhw.permute(1, 2, 0) for map_BDhw in maps for map_Dhw in map_BDhw]

        def propagate() -> list[tuple[torch.Tensor, ...]]:
            return list(propagate_labels(iter(maps_hwD), first_Chw, [PropagationSetting()]))

        def score() -> list:
            with ThreadPoolExecutor(threads) as pool:
                queue = score_queue(scorer, pool, 2 * threads, first_Chw)
                for t, soft_S in enumerate(soft_labels, start=1):
                    queue.add(t, [soft_S])
                return queue.finish()

        whole = bench.measure(lambda: model.propagate(video), 3, 1 if amp is None else 2)
        batches = read()
        maps_hwD = encode()
        soft_labels = propagate()
        steps = {
            "encoder": encode,
            f"reading by {threads} threads": read,
            "propagation": propagate,
            "scoring": score,
        }
        if amp:
            steps["reading by one"] = lambda: read(1)
        alone = bench.measure_turns(steps, 2, 1)
    side_ms = {name: measured.ms for name, measured in alone.items() if name != "encoder"}
    note = ", ".join(f"{name} {ms:.0f} ms" for name, ms in side_ms.items())
    return bench.row(
        whole,
        alone["encoder"],
        "the encoder alone",
        operations=frames * frame_operations(encoder, grid_hw[0] * grid_hw[1]),
        target=TARGET,
        note=f"{1e3 * frames / whole.ms:.0f} frames/s; alone: {note}; {batch} frames together",
    )


def frame_operations(encoder: torch.nn.Module, tokens: int) -> float:
    """Multiplications and additions of the encoder's matrix products on a frame."""
    matrices = sum(p.numel() for p in encoder.blocks.parameters() if p.ndim == 2)
    attention = 2 * encoder.depth * tokens * encoder.embed_dim
    return 2.0 * tokens * (matrices + attention + 3 * encoder.patch_size**2 * encoder.embed_dim)
