"""A step of label propagation against dense affinities, as `label_propagation_cpu.py` on a CPU.

The floor counts each cosine within the neighbourhood once in bf16. Kernels take three float16
products for it, so that neighbours are those of float32, and all of a rectangle around a tile; so
about six times the floor is the least that they can reach.

Shape legend: h w token grid, N tokens, D width, C labels, M context frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from gpu_bench import Bench, Measured, Row, difference
from label_propagation_cpu import LABELS, MANY, ONE, endless, video
from torch import Tensor

from pe_dense.tracking.label_propagation import propagate_labels
from pe_dense.tracking.reference import PropagationSetting, neighbourhood, next_labels

CONTEXT = 8
# At most so much of the time and of the memory of dense affinities.
TARGETS = {(30, 52): "at most 1.0 x the time", (60, 104): "at most 0.5 x the time, 0.25 x the GiB"}


def parts(bench: Bench) -> Iterator[tuple[str, Callable[[], Row]]]:
    """The parts to measure."""
    for grid_hw in ((6, 9),) if bench.tiny else TARGETS:
        for settings in (ONE, MANY):
            name = f"{grid_hw[0]} x {grid_hw[1]}, {CONTEXT} frames, {len(settings)} settings"
            yield name, lambda g=grid_hw, s=settings: one_step(bench, g, s)


def one_step(
    bench: Bench, grid_hw: tuple[int, int], settings: tuple[PropagationSetting, ...]
) -> Row:
    """One row: the ninth frame."""
    width = 32 if bench.tiny else 1024
    frames, first_Chw = video(grid_hw, width)
    frames, first_Chw = [frame.to(bench.device) for frame in frames], first_Chw.to(bench.device)
    ours, history = our_step(bench, frames, first_Chw, settings)
    found = [labels_Chw.flatten(1).T.cpu() for labels_Chw in history.pop()]
    bench.free()  # neither has the other's memory beside its own
    flat = [frame.flatten(0, 1) for frame in frames]
    near_NN = neighbourhood(grid_hw, settings[0]).to(bench.device)  # one radius for all

    def plain() -> list[Tensor]:
        steps = []
        for i, setting in enumerate(settings):
            used = [0, *range(CONTEXT - setting.last_frames, CONTEXT)]
            labels_MNC = torch.stack([history[m][i].flatten(1).T for m in used])
            context_MND = torch.stack([flat[m] for m in used])
            steps.append(next_labels(flat[-1], context_MND, labels_MNC, near_NN, setting))
        return steps

    expected = [labels_NC.cpu() for labels_NC in plain()]
    dense = bench.measure(plain, 5, 1)
    pairs = float(near_NN.sum()) * CONTEXT
    tokens = grid_hw[0] * grid_hw[1]
    others = sum(
        int((ours_NC.argmax(1) != plain_NC.argmax(1)).sum())
        for ours_NC, plain_NC in zip(found, expected, strict=True)
    )
    same = "same arg-max" if not others else f"{others} other arg-max of {tokens * len(settings)}"
    return bench.row(
        ours,
        dense,
        "dense affinities",
        operations=2.0 * width * pairs,
        bytes_moved=4.0 * tokens * ((CONTEXT + 1) * width + len(settings) * LABELS * CONTEXT),
        equal=f"{difference(torch.stack(found), torch.stack(expected))}, {same}",
        target=TARGETS.get(grid_hw, ""),
    )


def our_step(
    bench: Bench,
    frames: list[Tensor],
    first_Chw: Tensor,
    settings: tuple[PropagationSetting, ...],
) -> tuple[Measured, list[tuple[Tensor, ...]]]:
    """Time and memory of a step, and the labels (C, h, w) of all nine frames."""
    stream = propagate_labels(endless(frames), first_Chw, settings)
    history = [(first_Chw,) * len(settings)] + [next(stream) for _ in range(CONTEXT)]
    return bench.measure(lambda: next(stream)), history
