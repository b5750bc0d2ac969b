"""One step of label propagation against the whole affinity matrix, on a CPU.

    python benchmarks/speed/label_propagation_cpu.py --repeats 5

The plain one is `pe_dense.tracking.reference.next_labels`, which does what facebookresearch/dino @
7c446df, eval_video_segmentation.py, does at every frame: all context features normalised, cosines
of all tokens with all of them, mask, top-k over the context, labels by a matrix product. Its mask
is made once and not repeated for each context frame, so it is not slowed down by that. Context:
the first and the last 7 frames, radius 12, top 5, 4 labels. Both find the same (the script checks
it).
Targets: 60 x 104 at most 1/8 of the time and of the peak memory, 30 x 52 at most 1/3 of the time,
both against the original's own order of steps (exponential before the mask, top-k down the
columns), which takes 1.5 to 1.8 times as long as this plain form on one core.
'settings' is how many settings one pass of pe_dense serves; the plain one runs once for each.
Peak memory holds the features of the context in both: pe_dense passes over a whole video, the
plain one copies the context as its queue would hold it and makes one step.

Shape legend: h w token grid, N tokens, D width, C labels, M context frames.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
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
from torch import Tensor

from pe_dense.tracking.label_propagation import propagate_labels
from pe_dense.tracking.reference import PropagationSetting, neighbourhood, next_labels

LABELS = 4
VARIANTS = ("pe_dense", "plain")
ONE = (PropagationSetting(),)
MANY = tuple(
    PropagationSetting(last_frames=n, topk=k, temperature=t)
    for n in (4, 7) for k in (5, 10) for t in (0.1, 0.2)
)  # fmt: skip


def video(grid_hw: tuple[int, int], width: int) -> tuple[list[Tensor], Tensor]:
    """Nine frames that look alike (h, w, D), and labels in blocks (C, h, w)."""
    generator = torch.Generator().manual_seed(0)
    scene = torch.randn(*grid_hw, width, generator=generator)
    frames = [scene + torch.randn(scene.shape, generator=generator) for _ in range(9)]
    row, column = torch.meshgrid(*(torch.arange(side) for side in grid_hw), indexing="ij")
    label_map = (row // 8 + column // 8) % LABELS
    return frames, F.one_hot(label_map, LABELS).permute(2, 0, 1).float()


def endless(frames: list[Tensor]) -> Iterator[Tensor]:
    """All frames, then the last one for ever."""
    yield from frames
    while True:
        yield frames[-1]


def build_runs(grid_hw, width: int, settings) -> dict[str, Callable[[], object]]:
    """The step of the ninth frame in both variants; checks that they agree."""
    frames, first_Chw = video(grid_hw, width)
    stream = propagate_labels(endless(frames), first_Chw, settings)
    history = [(first_Chw,) * len(settings)] + [next(stream) for _ in range(7)]
    flat = [frame.flatten(0, 1) for frame in frames]
    near_NN = neighbourhood(grid_hw, settings[0])  # one radius for all

    def plain() -> list[Tensor]:
        found = []
        for i, setting in enumerate(settings):
            used = [0, *range(8 - setting.last_frames, 8)]
            labels_MNC = torch.stack([history[m][i].flatten(1).T for m in used])
            context_MND = torch.stack([flat[m] for m in used])
            found.append(next_labels(flat[8], context_MND, labels_MNC, near_NN, setting))
        return found

    for ours_Chw, plain_NC in zip(next(stream), plain(), strict=True):
        ours_NC = ours_Chw.flatten(1).T
        assert (ours_NC - plain_NC).abs().max() < 1e-5
        assert torch.equal(ours_NC.argmax(1), plain_NC.argmax(1))
    return {"pe_dense": lambda: next(stream), "plain": plain}


def print_peak(grid_hw, width: int, settings, variant: str) -> None:
    """What the child process does: print the peak memory of one variant in bytes."""
    frames, first_Chw = video(grid_hw, width)
    if variant == "pe_dense":
        print(peak_bytes_above_now(lambda: list(propagate_labels(frames, first_Chw, settings))))
        return
    flat, near_NN = [frame.flatten(0, 1) for frame in frames], neighbourhood(grid_hw, ONE[0])
    labels_MNC = first_Chw.flatten(1).T.repeat(8, 1, 1)

    def queue_and_step() -> None:
        next_labels(flat[8], torch.stack(flat[:8]), labels_MNC, near_NN, ONE[0])

    print(peak_bytes_above_now(queue_and_step))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--grids", nargs="+", default=("30x52", "60x104"))
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--settings", nargs="+", type=int, default=(1, 8), choices=(1, 8))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--skip-memory", action="store_true")
    parser.add_argument("--memory-of", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    for grid in args.grids:
        grid_hw = tuple(int(side) for side in grid.split("x"))
        for number in args.settings:
            settings = {1: ONE, 8: MANY}[number]
            if args.memory_of:
                print_peak(grid_hw, args.width, settings, args.memory_of)
                return
            medians = interleaved_ms(build_runs(grid_hw, args.width, settings), args.repeats)
            peaks = dict.fromkeys(VARIANTS, "")
            if not args.skip_memory:
                arguments = ["--grids", grid, "--settings", str(number)]
                arguments += ["--width", str(args.width)]
                peaks = peak_mib_of_variants(arguments, VARIANTS)
            row = {
                "grid": grid,
                "width": args.width,
                "settings": number,
                "pe_dense_ms": round(medians["pe_dense"], 1),
                "plain_ms": round(medians["plain"], 1),
                "ratio": round(medians["pe_dense"] / medians["plain"], 4),
                "pe_dense_peak_mib": peaks["pe_dense"],
                "plain_peak_mib": peaks["plain"],
                "repeats": args.repeats,
                "hardware": hardware(),
                "versions": versions(),
                "command": command_line(),
            }
            print(*(f"{key}={value}" for key, value in list(row.items())[:9]), flush=True)
            write_rows(FOLDER / "label_propagation_cpu.csv", [row], ("grid", "width", "settings"))


if __name__ == "__main__":
    main()
