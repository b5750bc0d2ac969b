"""Exported models against torch on a CPU: an encoder of base size alone, and every head on it.

    OMP_NUM_THREADS=1 python benchmarks/speed/export_cpu.py             # about half an hour
    OMP_NUM_THREADS=1 python benchmarks/speed/export_cpu.py --parts deta
    python benchmarks/speed/export_cpu.py --table                       # only writes the table

PE Spatial B/16 at full depth with numbers from a random generator, in the models of configs/, at
two sizes of the picture (in fp16 at the first). Each is written as tools/export.py writes it, and
tried on its two made-up pictures, one of them with padding for detectors: 'difference' is the
largest to torch in float32 relative to the range of the output (of detections: that of score,
corner or mask, all in 0..1, and every detection wants a partner). An fp32 file that differs by more
than its limit stops the script; fp16 has no limit here. Then torch in float32 and onnxruntime take
turns on one picture, one thread each; a time is the processor's, of the fastest of the repeats:
waiting for other programs does not count, though they still take memory bandwidth. A row that is in
the file is not measured again: a stopped run goes on where it was. --again measures anew.
"""

from __future__ import annotations

import argparse
import copy
import csv
import logging
import math
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from measure import FOLDER, ROOT, command_line, hardware, versions, write_rows

import pe_dense  # noqa: F401 (before mmcv: it answers for mmcv's operators)
from pe_dense.files import atomic_write_text

sys.path.append(str(ROOT / "tests/export"))  # a checkpoint without a training

FILE, PAGE = FOLDER / "export_cpu.csv", ROOT / "docs" / "export.md"
BEGIN = "<!-- table of benchmarks/speed/export_cpu.csv: begin -->"
END = "<!-- table: end -->"
ENCODER = "pe_spatial_b16_512"
PRECISIONS = ("fp32", "fp16")
BUSY = 2.5  # a load above it is not that of this script alone


@dataclass(frozen=True)
class Part:
    """A model, and how its config is told the size.

    Attributes:
        title: In the table.
        config: Below configs/; '' for the encoder alone.
        sides: Of pictures, in pixels; both are multiples of the patch.
        sized_by: Option of the config that is the size: 'canvas', or 'crop_size' of windows; None
            where the export is told.
        options: Others of the config.
        noise: Of `spread`. A deep head with much of it has the least or the largest depth
            everywhere, and there is nothing to compare.
    """

    title: str
    config: str
    sides: tuple[int, int] = (224, 448)
    sized_by: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    noise: float = 0.05


PARTS = {
    "encoder": Part("encoder, last layer", ""),
    "segmentation-linear": Part(
        "segmentation, linear", "segmentation/ade20k_linear_pe.py", sized_by="crop_size"
    ),
    "segmentation-upernet": Part(
        "segmentation, UPerNet", "segmentation/ade20k_upernet_pe_b16.py", (224, 320), "crop_size"
    ),
    "depth-linear": Part("depth, linear on four layers", "depth/nyu_linear4_dinov2.py"),
    "depth-dpt": Part("depth, DPT", "depth/nyu_dpt_pe.py", (224, 320), noise=0.005),
    "deta": Part("DETA", "detection/deta_pe_b16_coco_12ep.py", (320, 512), "canvas"),
    "dino": Part("DINO", "detection/dino_pe_b16_coco_12ep.py", (320, 512), "canvas"),
    "vitdet": Part(
        "ViTDet with masks", "detection/vitdet_pe_spatial_b16_coco_36ep.py", (320, 512), "canvas"
    ),
}  # fmt: skip


def program_of(part: Part, side: int, folder: Path, tower: Mapping[str, Any] | None = None) -> Any:
    """The program of a part for pictures of side x side.

    Args:
        part: Of `PARTS`.
        side: In pixels.
        folder: For the checkpoint that the model is read from, as any other.
        tower: Options of the encoder, for a trial with a small one.
    """
    from pe_dense.encoders.build import build_encoder
    from pe_dense.encoders.contract import WeightsInfo
    from pe_dense.export.checkpoint_program import Wanted, checkpoint_program
    from pe_dense.export.facts import encoder_facts
    from pe_dense.export.map_programs import encoder_program
    from pe_dense.export.program import Sizes

    torch.manual_seed(0)
    if not part.config:
        encoder = build_encoder(ENCODER, **(tower or {})).eval().requires_grad_(False)
        sizes = Sizes(side, side)
        facts = encoder_facts(ENCODER, WeightsInfo("random", "random"), sizes, "fp32")
        return encoder_program(encoder, [-1], sizes, facts)
    from export_case import untrained_run

    options: dict[str, Any] = {"encoder": ENCODER, **part.options}
    if part.sized_by:
        options[part.sized_by] = side if part.sized_by == "canvas" else (side, side)
    # untrained_run has a small tower of its own unless it is given one.
    options["model.backbone.encoder_options"] = dict(tower or {})
    run = untrained_run(f"configs/{part.config}", folder, **options)
    spread(run.content["state_dict"], part.noise)
    return checkpoint_program(run, Wanted(size=None if part.sized_by else (side, side)))


def spread(state: Mapping[str, torch.Tensor], noise: float) -> None:
    """Move the numbers of heads apart, in place: as they are drawn, most scores are one number."""
    torch.manual_seed(1)
    for name, value in state.items():
        is_counted = name.endswith(("running_mean", "running_var"))
        if value.is_floating_point() and not name.startswith("backbone.") and not is_counted:
            value.add_(noise * torch.randn_like(value))


def measure_part(program: Any, precision: str, seconds: float = 3.0) -> dict[str, object]:
    """Write a program, compare and time it: the columns of a row that are measured."""
    from pe_dense.export.onnx_file import onnx_session, outputs_of
    from pe_dense.export.writing import write_checked

    plain = copy.deepcopy(program.module)  # 'fp16' changes the program's own
    example = program.example(program.sizes.examples()[0], 0)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        limit = math.inf if precision == "fp16" else None
        written = write_checked(program, file, precision=precision, limit=limit)
        num_bytes = sum(path.stat().st_size for path in Path(folder).iterdir())
        session = onnx_session(file, torch.get_num_threads())
        arrays = {n: x.numpy() for n, x in zip(program.inputs, example, strict=True)}

        def by_torch() -> object:
            with torch.inference_mode():
                return plain(*example)

        runs = {"torch": by_torch, "onnx": lambda: outputs_of(session, arrays, file.name)}
        found = by_torch()
        found = [found] if torch.is_tensor(found) else list(found)
        if all(x.min() == x.max() for x in found if torch.is_tensor(x)):
            raise ValueError("the model gives one number everywhere, so that nothing is compared")
        fastest, repeats = fastest_ms(runs, seconds)
        worst = max(written.trials, key=lambda trial: trial.difference)
    return {
        "difference": f"{worst.difference:.1e}",
        "limit": "" if precision == "fp16" else f"{written.limit:g}",
        "note": "; ".join(trial.note for trial in written.trials if trial.note),
        "onnx_ms": round(fastest["onnx"], 1),
        "torch_ms": round(fastest["torch"], 1),
        "onnx_over_torch": round(fastest["onnx"] / fastest["torch"], 2),
        "repeats": repeats,
        "file_mb": round(num_bytes / 1e6, 1),
        "opset": written.opset,
    }


def fastest_ms(runs: Mapping[str, Any], seconds: float) -> tuple[dict[str, float], int]:
    """Of each, in turns after one run each: its fastest, and how many runs there were."""
    start = time.process_time()
    for run in runs.values():
        run()
    repeats = max(2, min(30, int(seconds / (time.process_time() - start))))
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats):
        for name in sorted(runs, reverse=bool(turn % 2)):
            start = time.process_time()
            runs[name]()
            times[name].append(1e3 * (time.process_time() - start))
    return {name: min(found) for name, found in times.items()}, repeats


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """The table of docs/export.md; one sentence where nothing was measured."""
    if not rows:
        return "Not measured yet."
    lines = [
        "| PE Spatial B/16 | pixels | file | largest difference | onnxruntime, ms | torch, ms "
        "| ratio | MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=_order):
        side = f"{row['side']} x {row['side']}"
        lines.append(
            f"| {PARTS[row['part']].title} | {side} | {row['precision']} | {_difference(row)} "
            f"| {float(row['onnx_ms']):,.0f} | {float(row['torch_ms']):,.0f} "
            f"| {row['onnx_over_torch']} | {float(row['file_mb']):,.0f} |"
        )
    machines = "; ".join(dict.fromkeys(row["hardware"] for row in rows))
    versions = "; ".join(dict.fromkeys(f"opset {row['opset']} ({row['versions']})" for row in rows))
    loads = [float(load) for row in rows for load in row["load"].split(" to ")]
    end = f"load {min(loads):g} to {max(loads):g}; {versions}."
    if max(loads) > BUSY:
        end += " Other programs were at work: a single ratio may be theirs."
    lines += ["", f"Processor time, the fastest of several runs. Measured on {machines}, {end}"]
    if left := not_measured(rows):
        lines += ["", f"Not measured yet: {'; '.join(left)}."]
    return "\n".join(lines)


def not_measured(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Parts that lack a row, and which."""
    known = {(row["part"], row["side"], row["precision"]) for row in rows}
    left: dict[str, list[str]] = {}
    for name, side, precision in rows_of(list(PARTS)):
        if (name, str(side), precision) not in known:
            left.setdefault(PARTS[name].title, []).append(f"{side} {precision}")
    return [f"{title} ({', '.join(lacking)})" for title, lacking in left.items()]


def _order(row: Mapping[str, str]) -> tuple[int, int, int]:
    return list(PARTS).index(row["part"]), PRECISIONS.index(row["precision"]), int(row["side"])


def _difference(row: Mapping[str, str]) -> str:
    """A number; of detections that have no partner, how many."""
    if row["difference"] != "inf":
        return row["difference"]
    return row["note"] or "not finite"


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


def rows_of(parts: Sequence[str]) -> list[tuple[str, int, str]]:
    """What is measured: each part in fp32 at both sizes, then in fp16 at the first."""
    single = [(name, side, "fp32") for name in parts for side in PARTS[name].sides]
    return single + [(name, PARTS[name].sides[0], "fp16") for name in parts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", nargs="+", default=tuple(PARTS), choices=PARTS)
    parser.add_argument("--again", action="store_true", help="measure rows that there are, too")
    parser.add_argument("--table", action="store_true", help="write the table, measure nothing")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)  # mmengine tells of every parameter
    torch.set_num_threads(1)
    known = {(row["part"], row["side"], row["precision"]) for row in read_rows()}
    todo = [
        row
        for row in rows_of(args.parts)
        if args.again or (row[0], str(row[1]), row[2]) not in known
    ]
    for name, side, precision in [] if args.table else todo:
        begun = os.getloadavg()[0]
        with tempfile.TemporaryDirectory() as folder:
            program = program_of(PARTS[name], side, Path(folder))
        row = {"part": name, "side": side, "precision": precision}
        row |= measure_part(program, precision)
        print(*(f"{key}={value}" for key, value in row.items()), flush=True)
        row |= {
            "load": f"{begun:.1f} to {os.getloadavg()[0]:.1f}",
            "hardware": hardware(),
            "versions": versions("onnx", "onnxscript", "onnxruntime"),
            "command": command_line(),
        }
        write_rows(FILE, [row], ("part", "side", "precision"))
    text = PAGE.read_text(encoding="utf-8")
    atomic_write_text(PAGE, with_table(text, table(read_rows())))
    print(f"wrote the table into {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
