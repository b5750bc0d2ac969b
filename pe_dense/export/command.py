"""What `tools/export.py` does, and what it tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pe_dense.encoders.build import build_loaded
from pe_dense.export.checkpoint_program import Wanted, checkpoint_program
from pe_dense.export.facts import encoder_facts
from pe_dense.export.file_score import (
    PictureRun,
    score_file,
    score_path,
    scored_run,
    told_scores,
)
from pe_dense.export.map_programs import encoder_program
from pe_dense.export.program import Program, Sizes
from pe_dense.export.writing import Written, write_checked
from pe_dense.predict.model import open_trained
from pe_dense.run.request import RunRequest


@dataclass(frozen=True)
class Scoring:
    """How an exported file is scored.

    Attributes:
        runner: Makes of a file what runs it on a picture.
        config: Config of the score; None for that of the checkpoint.
        argv: The command line, which the scores keep.
    """

    runner: Callable[[Path], PictureRun]
    config: str | None = None
    argv: Sequence[str] = ("tools/export.py",)


def export_checkpoint(
    checkpoint: Path,
    config: str | None,
    options: Mapping[str, Any],
    wanted: Wanted,
    scoring: Scoring | None = None,
    **how: Any,
) -> list[str]:
    """Export a trained model.

    Args:
        checkpoint: A file, or a work dir.
        config: Of a checkpoint that does not hold its own.
        options: Overrides of config values.
        wanted: What the file shall be.
        scoring: Score the file, too; None leaves it.
        **how: Of `write_checked`.

    Returns:
        Lines that tell what was written.

    Raises:
        ValueError: If the checkpoint cannot be opened or exported, or the file differs.
    """
    run = open_trained(checkpoint, config, options=options)
    assert run.file is not None
    scored = None
    if scoring is not None:
        named = scoring.config or config or ""
        request = RunRequest(named, options=options, argv=scoring.argv)
        scored = scored_run(request, run.file)  # what cannot be scored is said before the work
    program = checkpoint_program(run, wanted)
    written = write_checked(program, precision=wanted.precision, **how)
    score_path(written.file).unlink(missing_ok=True)  # it was of the file that this one replaced
    lines = told(program, written)
    if scoring is not None and scored is not None:
        found = score_file(scored, request, written.file, scoring.runner(written.file))
        lines += told_scores(found, written.file)
    return lines


def export_encoder(
    name: str, weights: str, layers: Sequence[int], norm: bool, wanted: Wanted, **how: Any
) -> list[str]:
    """Export an encoder alone; as `export_checkpoint`."""
    encoder, info = build_loaded(name, weights)
    encoder.eval().requires_grad_(False)
    patch = encoder.patch_size
    is_open = wanted.open_size if wanted.open_size is not None else wanted.size is None
    if is_open and not encoder.any_size:
        if wanted.open_size:
            raise ValueError(f"{name} reads pictures of one size; leave --dynamic out")
        is_open = False
    size = wanted.size or tuple(encoder.native_hw)
    open_batch = wanted.batch is None and is_open
    sizes = Sizes(*size, wanted.batch or 1, is_open, open_batch, patch if is_open else 1)
    facts = encoder_facts(name, info, sizes, wanted.precision)
    program = encoder_program(encoder, layers, sizes, facts, norm)
    return told(program, write_checked(program, precision=wanted.precision, **how))


def told(program: Program, written: Written) -> list[str]:
    """What was written, what it was tried with, its operators."""
    sizes, data = program.sizes, written.file.with_name(written.file.name + ".data")
    num_bytes = sum(path.stat().st_size for path in (written.file, data) if path.exists())
    shape = "any size" if sizes.open_size else f"{sizes.height}x{sizes.width}"
    step = f" in steps of {sizes.multiple} px" if sizes.open_size and sizes.multiple > 1 else ""
    batch = "any number" if sizes.open_batch else str(sizes.batch)
    lines = [
        f"{written.file}: {program.task}, {', '.join(program.outputs)}; pictures of {shape}{step}, "
        f"{batch} at once, {num_bytes / 1e6:.1f} MB",
    ]
    for trial in written.trials:
        note = f" ({trial.note})" if trial.note else ""
        lines.append(
            f"  {'x'.join(map(str, trial.shape))}: differs from torch by {trial.difference:.1e} of "
            f"the range, limit {written.limit:g}{note}; {trial.file_s:.3f} s, torch "
            f"{trial.torch_s:.3f} s"
        )
    if written.opset is not None:
        lines.append(f"  opset {written.opset}")
    names = ", ".join(f"{name} {count}" for name, count in sorted(written.operators.items()))
    lines.append(f"  operators: {names}")
    not_done = program.facts.get("picture", {}).get("not_done") or ()
    if not_done:
        lines.append(
            f"  the file does not say how to do {', '.join(not_done)} of the test's pipeline: "
            "pictures must come with it done"
        )
    licence = program.facts["licence"]
    lines.append(f"  licence of the encoder's weights: {licence['name']}")
    return lines
