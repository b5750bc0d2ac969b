"""A program becomes a file, and the file is tried on the spot; one that differs is not kept."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pe_dense.export.agreement import (
    FLOOR,
    Detections,
    detection_difference,
    relative_difference,
)
from pe_dense.export.onnx_file import OPSET, onnx_session, outputs_of, write_onnx
from pe_dense.export.program import Program, in_half_precision
from pe_dense.export.torch_program_file import run_torch_program, write_torch_program

FORMATS = {"onnx": ".onnx", "torch": ".pt2"}
# Largest difference from torch in float32, relative to the range of the output. In float16 the
# encoder rounds each number to 1 part in 2048, and its blocks add that up: see docs/export.md.
LIMITS = {"fp32": 1e-4, "fp16": 3e-2}


@dataclass(frozen=True)
class Trial:
    """One input that the file was tried with.

    Attributes:
        shape: (batch, height, width).
        difference: Largest over the outputs, relative to their range.
        note: What was compared where that is not plain.
        file_s, torch_s: Seconds of the second of two runs, on the CPU.
    """

    shape: tuple[int, int, int]
    difference: float
    note: str
    file_s: float
    torch_s: float


@dataclass(frozen=True)
class Written:
    """A file that has passed.

    Attributes:
        file: Where it is.
        operators: Each operator of the file and how often it occurs.
        trials: What it was tried with.
        limit: Of the difference.
        opset: Of an ONNX file, else None.
    """

    file: Path
    operators: Mapping[str, int]
    trials: Sequence[Trial]
    limit: float
    opset: int | None = None


def write_checked(
    program: Program,
    target: Path,
    file_format: str = "onnx",
    precision: str = "fp32",
    limit: float | None = None,
    overwrite: bool = False,
    opset: int = OPSET,
) -> Written:
    """Write a program as `target`, load the file, compare it with torch in float32.

    Args:
        program: What is written; with 'fp16' its encoder is in float16 afterwards.
        target: Ends in the suffix of the format. Weights above 2 GiB lie beside it.
        file_format: Of `FORMATS`.
        precision: 'fp32' or 'fp16'.
        limit: Of the largest difference; None for that of `LIMITS`.
        overwrite: Replace a file.
        opset: Of ONNX.

    Raises:
        ValueError: If the target exists or has another suffix, if something cannot be exported, or
            if the file differs by more than the limit. No file is left then.
    """
    if target.suffix != FORMATS[file_format]:
        raise ValueError(
            f"--out {target} does not end in {FORMATS[file_format]}, as --format {file_format} does"
        )
    beside = target.with_name(target.name + ".data")
    for path in (target, beside):
        if path.exists() and not overwrite:
            raise ValueError(f"{path} exists; add --overwrite to replace it")
    limit = LIMITS[precision] if limit is None else limit
    examples = [program.example(s, i) for i, s in enumerate(program.sizes.examples())]
    expected = [_timed(lambda e=e: _outputs(program, e)) for e in examples]
    if precision == "fp16":
        in_half_precision(program.encoder)
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = target.parent / f".{target.name}.tmp"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        unchecked = folder / target.name
        if file_format == "onnx":
            operators = write_onnx(program, unchecked, opset)
        else:
            operators = write_torch_program(program, unchecked)
        trials = [
            _trial(program, unchecked, example, want, seconds, limit)
            for example, (want, seconds) in zip(examples, expected, strict=True)
        ]
        worst = max(trials, key=lambda trial: trial.difference)
        if not worst.difference <= limit:
            raise ValueError(
                f"the exported file differs from torch by {worst.difference:.2e} of the range at "
                f"{_words(worst)}, more than {limit:g}; it was not kept ({worst.note})"
                if worst.note
                else f"the exported file differs from torch by {worst.difference:.2e} of the range "
                f"at {_words(worst)}, more than {limit:g}; it was not kept"
            )
        for path in sorted(folder.iterdir(), reverse=True):  # the data before what names it
            path.replace(target.with_name(path.name))
        if beside.exists() and not (folder / beside.name).exists() and overwrite:
            _remove_stale(beside, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Written(target, operators, trials, limit, opset if file_format == "onnx" else None)


def _remove_stale(beside: Path, target: Path) -> None:
    """Weights of an earlier file of this name, which the new one does not read."""
    if beside.name.encode() not in target.read_bytes():
        beside.unlink()


def _words(trial: Trial) -> str:
    return "x".join(map(str, trial.shape))


def _outputs(program: Program, example: Sequence[torch.Tensor]) -> list[np.ndarray]:
    with torch.inference_mode():
        return [found.numpy() for found in program.module(*example)]


def _timed(run: Callable[[], list[np.ndarray]]) -> tuple[list[np.ndarray], float]:
    run()
    started = time.perf_counter()
    found = run()
    return found, time.perf_counter() - started


def _trial(
    program: Program,
    file: Path,
    example: Sequence[torch.Tensor],
    expected: Sequence[np.ndarray],
    torch_s: float,
    limit: float,
) -> Trial:
    arrays = {n: x.numpy() for n, x in zip(program.inputs, example, strict=True)}
    if file.suffix == FORMATS["onnx"]:
        session = onnx_session(file, torch.get_num_threads())
        found, file_s = _timed(lambda: outputs_of(session, arrays, file.name))
    else:
        found, file_s = _timed(run_torch_program(file, example))
    difference, note = compared(program, found, expected, limit)
    batch, _, height, width = example[0].shape
    return Trial((batch, height, width), difference, note, file_s, torch_s)


def compared(
    program: Program, found: Sequence[np.ndarray], expected: Sequence[np.ndarray], limit: float
) -> tuple[float, str]:
    """Largest difference of all outputs, and what else there is to say."""
    if program.task != "detection":
        return max(map(relative_difference, found, expected)), ""
    sides = [dict(zip(program.outputs, side, strict=True)) for side in (found, expected)]
    largest, numbers = 0.0, [0, 0]
    for image in range(len(sides[0]["scores"])):
        sets = [
            Detections(
                *(side[name][image] for name in ("boxes", "scores", "labels")),
                side["masks"][image] if "masks" in side else None,
            )
            for side in sides
        ]
        seen = sets[1].scores.max(initial=0.0) >= FLOOR  # else, all that there is is compared
        floor = FLOOR if seen else float(np.finfo(np.float32).tiny)
        difference = detection_difference(*sets, limit=limit, floor=floor)
        largest = max(largest, difference.largest)
        numbers = [numbers[0] + difference.compared, numbers[1] + difference.alone]
    if numbers[1]:
        largest = float("inf")
    return largest, f"{numbers[0]} detections have a partner, {numbers[1]} have none"
