"""mmcv's compiled operators against the PyTorch forms of pe_dense, on a CPU.

    python benchmarks/speed/operators_cpu.py             # under three minutes on two free cores
    python benchmarks/speed/operators_cpu.py --table     # only writes the table into the docs

Needs an environment with compiled operators (`make operators`). Both take turns in one process: the
operators ask `compiled_operators.work_on` at every call, which is answered with no for ours. The
script checks that both find the same: operators to 1e-3 of the range; detectors to a tenth of the
mean score or the loss, since scores of random weights lie close together. 'step' is a forward pass
with all losses and the gradient of all parameters, batch 1, by the small detectors of
configs/detection on random weights: where encoder and attention take the time, an operator does not
show. A time is the fastest of the repeats, since other programs only add. Part of a row is the load
of the machine (its number of running processes) at the start of the script and after the part.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import torch
from measure import FOLDER, ROOT, command_line, hardware, versions, write_rows
from torch import Tensor

import pe_dense  # noqa: F401 (before mmcv: it answers for mmcv's operators)
from pe_dense.files import atomic_write_text
from pe_dense.openmmlab import compiled_operators

FILE, PAGE = FOLDER / "operators_cpu.csv", ROOT / "docs" / "operators.md"
BEGIN = "<!-- table of benchmarks/speed/operators_cpu.csv: begin -->"
END = "<!-- table: end -->"
SECONDS = 5.0  # for the repeats of a part
BUSY = 3.5  # a load above it is not that of this script alone, on two cores
Run = Callable[[], Tensor]


def crowd(count: int, side: float) -> Tensor:
    """(count, 4) corners of boxes of 10 to 110 px."""
    corner = torch.rand(count, 2) * (side - 120)
    return torch.cat([corner, corner + torch.rand(count, 2) * 100 + 10], dim=1)


def operator_parts(num_boxes: int, num_rois: int, side: int = 1024) -> Iterator[tuple[str, Run]]:
    """The operators alone; each run gives what it found."""
    from mmcv.ops import nms, roi_align, soft_nms

    boxes, scores = crowd(num_boxes, side), (1 + torch.randperm(num_boxes)) / num_boxes  # no ties
    yield f"NMS of {num_boxes:,} boxes", lambda: nms(boxes, scores, 0.7)[1]
    few = boxes[: num_boxes // 5], scores[: num_boxes // 5]
    yield (
        f"soft-NMS of {len(few[0]):,} boxes",
        lambda: soft_nms(*few, iou_threshold=0.7, method="linear", min_score=1e-3)[1],
    )
    maps = torch.randn(1, 256, side // 8, side // 8)
    rois = torch.cat([torch.zeros(num_rois, 1), crowd(num_rois, side)], dim=1)

    def pooled(maps: Tensor) -> Tensor:
        return roi_align(maps, rois, (7, 7), 1 / 8, 0, "avg", True)

    def gradient() -> Tensor:
        needed = maps.clone().requires_grad_()
        return torch.autograd.grad(pooled(needed).sum(), needed)[0]

    yield f"RoIAlign of {num_rois:,} boxes, 7 x 7, 256 channels", lambda: pooled(maps)
    yield f"RoIAlign of {num_rois:,} boxes, with gradient", gradient


def model_parts(sides: tuple[int, ...]) -> Iterator[tuple[str, Run]]:
    """Detectors: DETA forward and step at each side, ViTDet's and DINO's step at the first."""
    deta = detector("deta_pe_t16_mini")
    for side in sides:
        yield f"DETA, {side} px, prediction", lambda side=side: predicted(deta, side)
        yield f"DETA, {side} px, step", lambda side=side: step(deta, side)
    for name, config in (("ViTDet with masks", "vitdet_pe_t16_mini"), ("DINO", "dino_pe_t16_mini")):
        options = {"canvas": sides[0]} if config.startswith("vitdet") else {}
        model = detector(config, options)
        yield f"{name}, {sides[0]} px, prediction", lambda m=model: predicted(m, sides[0])
        yield f"{name}, {sides[0]} px, step", lambda m=model: step(m, sides[0])


def detector(config: str, options: dict[str, int] | None = None) -> torch.nn.Module:
    """A detector of configs/detection on random weights."""
    from mmdet.registry import MODELS
    from mmengine.logging import MMLogger
    from mmengine.registry import init_default_scope

    from pe_dense.run.config import load_config

    init_default_scope("mmdet")
    cfg, _ = load_config(ROOT / "configs/detection" / f"{config}.py", options=options)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    MMLogger.get_current_instance().setLevel("ERROR")  # init_weights logs every parameter
    model.init_weights()
    return model


def sample(side: int) -> object:
    """Twenty objects with boxes and masks in a picture."""
    import numpy as np
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(20, 2, generator=generator) * (side - 120)
    boxes = torch.cat([corner, corner + 20 + 90 * torch.rand(20, 2, generator=generator)], dim=1)
    masks = np.zeros((20, side, side), dtype=np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    shape = (side, side)
    scored = DetDataSample(
        metainfo=dict(
            img_shape=shape, batch_input_shape=shape, pad_shape=shape, ori_shape=shape,
            scale_factor=(1.0, 1.0),
        )
    )  # fmt: skip
    labels = torch.randint(0, 3, (20,), generator=generator)
    scored.gt_instances = InstanceData(
        bboxes=boxes, labels=labels, masks=BitmapMasks(masks, side, side)
    )
    return scored


def picture(side: int) -> Tensor:
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))


def predicted(model: torch.nn.Module, side: int) -> Tensor:
    """Mean score of the boxes that a detector keeps."""
    model.eval()
    with torch.no_grad():
        return model.predict(picture(side), [sample(side)])[0].pred_instances.scores.mean()[None]


def step(model: torch.nn.Module, side: int) -> Tensor:
    """The sum of all losses, after the gradient of all parameters."""
    model.train()
    torch.manual_seed(0)  # samplers choose at random
    losses = model.loss(picture(side), [sample(side)])
    total = model.parse_losses(losses)[0]
    model.zero_grad(set_to_none=True)
    total.backward()
    return total.detach()[None]


def in_pytorch(run: Run) -> Run:
    """The same run without compiled operators."""

    def plain() -> Tensor:
        with mock.patch.object(compiled_operators, "work_on", lambda device: False):
            return run()

    return plain


def check_equal(part: str, ours: Tensor, compiled: Tensor) -> None:
    """Both found the same, up to the order of sums."""
    assert ours.shape == compiled.shape, (part, ours.shape, compiled.shape)
    size = compiled.double().abs().max()
    gap = (ours.double() - compiled.double()).abs().max()
    assert gap <= (0.1 if "px" in part else 1e-3) * size, (part, gap, size)


def measure_part(part: str, run: Run, seconds: float = SECONDS) -> dict[str, object]:
    """One row; both take turns after one run each, up to thirty times, as time allows."""
    variants = {"ours": in_pytorch(run), "compiled": run}
    start = time.perf_counter()
    check_equal(part, variants["ours"](), variants["compiled"]())
    once = time.perf_counter() - start
    repeats = max(1 if once > 4 * seconds else 2, min(30, int(seconds / once)))
    times: dict[str, list[float]] = {name: [] for name in variants}
    for i in range(repeats):
        for name in sorted(variants, reverse=bool(i % 2)):
            start = time.perf_counter()
            variants[name]()
            times[name].append(1e3 * (time.perf_counter() - start))
    fastest = {name: min(found) for name, found in times.items()}
    return {
        "part": part,
        "ours_ms": round(fastest["ours"], 2),
        "compiled_ms": round(fastest["compiled"], 2),
        "compiled_over_ours": round(fastest["compiled"] / fastest["ours"], 2),
        "repeats": repeats,
    }


def table(rows: list[dict[str, str]]) -> str:
    """The table of docs/operators.md; one sentence where nothing was measured."""
    if not rows:
        return "Not measured yet."
    lines = [
        "| on a CPU | PyTorch, ms | compiled, ms | compiled over PyTorch |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row['part']} | {_ms(row['ours_ms'])} | {_ms(row['compiled_ms'])} "
        f"| {row['compiled_over_ours']} |"
        for row in rows
    ]
    last = rows[-1]
    loads = [float(load) for row in rows for load in row["load"].split(" to ")]
    end = f"load {min(loads):g} to {max(loads):g} ({last['versions']})."
    if max(loads) > BUSY:
        end += " Other programs were at work: a single ratio may be theirs."
    return "\n".join([*lines, "", f"Measured on {last['hardware']}, {end}"])


def _ms(text: str) -> str:
    value = float(text)
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def read_rows(path: Path = FILE) -> list[dict[str, str]]:
    """Rows of the CSV file; none without it."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def with_table(text: str, made: str) -> str:
    """A Markdown text with the table between the two comments replaced."""
    head, found, rest = text.partition(BEGIN)
    _, closed, tail = rest.partition(END)
    if not (found and closed):
        raise ValueError(f"the text needs {BEGIN} and {END}, in this order")
    return f"{head}{BEGIN}\n\n{made}\n\n{END}{tail}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--table", action="store_true", help="write the table, measure nothing")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if not args.table:
        if problem := compiled_operators.problem_on("cpu"):
            sys.exit(f"error: {problem}, so there is nothing to compare with; run: make operators")
        begun, rows = os.getloadavg()[0], []
        torch.manual_seed(0)
        for make in (lambda: operator_parts(10_000, 1_000), lambda: model_parts((512, 1024))):
            for part, run in make():
                row = measure_part(part, run)
                print(*(f"{key}={value}" for key, value in row.items()), flush=True)
                rows.append(
                    row
                    | {
                        "load": f"{begun:.1f} to {os.getloadavg()[0]:.1f}",
                        "hardware": hardware(),
                        "versions": versions("onedl-mmcv", "onedl-mmdetection"),
                        "command": command_line(),
                    }
                )
        write_rows(FILE, rows, ("part",))
    text = PAGE.read_text(encoding="utf-8")
    atomic_write_text(PAGE, with_table(text, table(read_rows())))
    print(f"wrote the table into {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
