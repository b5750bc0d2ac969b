"""From a checkpoint to the program that is exported: which kind, and for which pictures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmseg.models import DepthEstimator, EncoderDecoder
from torch import nn

from pe_dense.depth.dpt_head import DPTDepthHead
from pe_dense.export.facts import file_facts, run_facts
from pe_dense.export.map_programs import depth_program, inference_facts, segmentation_program
from pe_dense.export.picture_rule import picture_rule
from pe_dense.export.program import Program, Sizes
from pe_dense.run.trained_run import TrainedRun, encoder_settings, trained_model

NO_BOUND = 10_000  # a scale above it bounds no side


@dataclass(frozen=True)
class Wanted:
    """What a person asks of the file.

    Attributes:
        size: Height and width of the pictures; None leaves the choice to the model.
        open_size: Any size; None where the model can and no size is given.
        batch: Pictures at once; None for any number where the size is open, else one.
        precision: 'fp32' or 'fp16'.
        suppression: 'inside' or 'outside' of the file, for detectors that suppress duplicates.
    """

    size: tuple[int, int] | None = None
    open_size: bool | None = None
    batch: int | None = None
    precision: str = "fp32"
    suppression: str = "inside"


def checkpoint_program(run: TrainedRun, wanted: Wanted) -> Program:
    """The program of a trained model.

    Raises:
        ValueError: If models of this kind are not exported, or not as they are wanted.
    """
    program = _program(run, wanted)
    facts = {**program.facts, **file_facts(run.cfg, program.task)}
    return dataclasses.replace(program, facts=facts)


def _program(run: TrainedRun, wanted: Wanted) -> Program:
    if "tta_model" in run.cfg:
        raise ValueError(
            f"{run.file} is tested with augmentation, which is no part of an exported file; "
            "use the config without it"
        )
    model = float32_model(run)
    rule = picture_rule(run.cfg.test_dataloader.dataset.pipeline)
    if isinstance(model, DepthEstimator):
        # DPT's fusion keeps the grid that it was traced with: another size stops in the runtime.
        make, can_be_open = depth_program, not isinstance(model.decode_head, DPTDepthHead)
    elif isinstance(model, EncoderDecoder):
        make, can_be_open = segmentation_program, True
    else:
        from pe_dense.export.detector_programs import detection_program

        sizes = chosen_sizes(model, rule, wanted, False)
        facts = {**run_facts(run, sizes, wanted.precision), **inference_facts(model, rule)}
        return detection_program(model, sizes, facts, wanted.suppression)
    sizes = chosen_sizes(model, rule, wanted, can_be_open)
    facts = {**run_facts(run, sizes, wanted.precision), **inference_facts(model, rule)}
    return make(model, sizes, facts)


def float32_model(run: TrainedRun) -> nn.Module:
    """The model on the CPU; an encoder that was trained under autocast runs without it."""
    model = trained_model(run).cpu()
    encoder_settings(run.cfg)  # says what is missing
    backbone = getattr(model, "backbone", None)
    if backbone is None or not hasattr(backbone, "encoder"):
        raise ValueError(
            f"{run.file} holds a {type(model).__name__}, which is not exported; segmentors, depth "
            "estimators and detectors are"
        )
    backbone.amp_dtype = None
    return model.requires_grad_(False)


def chosen_sizes(
    model: nn.Module, rule: Mapping[str, Any], wanted: Wanted, can_be_open: bool
) -> Sizes:
    """For which pictures a model is exported.

    Raises:
        ValueError: If any size is asked of a model that has one.
    """
    test_cfg = getattr(model, "test_cfg", None) or {}
    patch = model.backbone.patch_size
    slides = test_cfg.get("mode") == "slide"
    canvas = getattr(model, "canvas", None)
    if wanted.open_size and not can_be_open:
        raise ValueError(
            f"a {type(model).__name__} is exported for one size only; give --size H W without "
            "--dynamic"
        )
    if wanted.open_size and slides:
        raise ValueError(
            "the model reads windows of one size; export it without --dynamic, and the runner "
            "slides the window over pictures of any size"
        )
    if not slides:
        divisor = patch
    is_open = wanted.open_size
    if is_open is None:
        is_open = can_be_open and not slides and wanted.size is None
    size = wanted.size
    if slides:
        crop = (int(test_cfg["crop_size"][0]), int(test_cfg["crop_size"][1]))
        if size not in (None, crop):
            raise ValueError(f"the model reads windows of {crop[0]}x{crop[1]}; leave --size out")
        size = crop
    elif canvas is not None:
        if size not in (None, (canvas, canvas)):
            raise ValueError(f"the model has a canvas of {canvas} px; leave --size out")
        size = (canvas, canvas)
    elif size is None:
        divisor = math.lcm(patch, _padding(model))
        size = _default_size(model, rule["resize"], divisor)
    batch = wanted.batch
    is_open_batch = batch is None and is_open
    multiple = math.lcm(patch, _padding(model)) if is_open else 1
    return Sizes(*size, batch or 1, is_open, is_open_batch, multiple)


def _padding(model: nn.Module) -> int:
    preprocessor = model.data_preprocessor
    test_pad = getattr(preprocessor, "test_cfg", None) or {}
    return int(test_pad.get("size_divisor") or getattr(preprocessor, "pad_size_divisor", 1) or 1)


def _default_size(
    model: nn.Module, resize: Sequence[Mapping[str, Any]], divisor: int
) -> tuple[int, int]:
    """The square that pictures fit in after the test's resize, or the encoder's native one."""
    if resize and "scale" in resize[-1]:
        scale = [side for side in resize[-1]["scale"] if side < NO_BOUND]
        sides = scale[::-1] if not resize[-1]["keep_ratio"] else [max(scale)] * 2
    elif resize:
        sides = [resize[-1]["longest"] or resize[-1]["short"]] * 2
    else:
        sides = list(model.backbone.encoder.native_hw)
    rows, columns = (math.ceil(side / divisor) * divisor for side in sides)
    return rows, columns
