"""Detection: a training step and a prediction of DETA, and the parts that kernels took over.

The plain form of the whole is the same model with PE_DENSE_KERNELS=off, so with deformable
attention by `grid_sample` and NMS class by class. 'Encoder' is the tower alone, forward and
backward with activation checkpointing, or forward; the rest of a step is 'heads and losses'.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

import torch
from gpu_bench import Bench, Row, difference
from measure import ROOT
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

import pe_dense.detection  # noqa: F401 (registers DETA)
from pe_dense.detection.suppression import grouped_nms
from pe_dense.kernels import VARIABLE, use_kernels
from pe_dense.openmmlab.deformable_attention import (
    deformable_attention,
    plain_deformable_attention,
)
from pe_dense.run.config import encoder_facts, substitute

CONFIG = ROOT / "configs/detection/deta_pe_g16_coco_1728.py"


def parts(bench: Bench) -> Iterator[tuple[str, Callable[[], Row | list[Row]]]]:
    """The parts to measure."""
    cases = [("pe_spatial_t16_512", 128)]
    if not bench.tiny:
        cases = [("pe_spatial_g14_448", 1024), ("pe_spatial_g14_448", 1824)]
    steps = [
        (
            f"DETA on {encoder}, {canvas} px",
            lambda encoder=encoder, canvas=canvas: deta_rows(bench, encoder, canvas),
        )
        for encoder, canvas in cases
    ]
    yield steps[0]
    yield "deformable attention of a DETA layer, 1024 px", lambda: attention_row(bench)
    yield "NMS of 10,000 boxes in 80 classes", lambda: nms_row(bench)
    yield from steps[1:]


@contextlib.contextmanager
def without_kernels() -> Iterator[None]:
    """PE_DENSE_KERNELS=off for a while."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "off"
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        if before is not None:
            os.environ[VARIABLE] = before


@contextlib.contextmanager
def tensor_float() -> Iterator[None]:
    """What --tf32 does."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def plainly(function: Callable[[], object]) -> Callable[[], object]:
    """A function that runs another one without kernels."""

    def run() -> object:
        with without_kernels():
            return function()

    return run


def attention_row(bench: Bench) -> Row:
    """Forward and backward of 21,824 tokens, 8 heads of 32, 5 levels, 4 points."""
    side = 8 if bench.tiny else 128
    shapes = torch.tensor([(side >> i, side >> i) for i in range(5)], device=bench.device)
    shapes = shapes.clamp(min=1)
    tokens = int(shapes.prod(1).sum())
    torch.manual_seed(0)
    values = torch.randn(1, tokens, 8, 32, device=bench.device, requires_grad=True)
    centres = torch.rand(1, tokens, 1, 1, 1, 2, device=bench.device)
    spread = 0.05 * torch.randn(1, tokens, 8, 5, 4, 2, device=bench.device)
    places = (centres + spread).requires_grad_()
    weights = torch.rand(1, tokens, 8, 5, 4, device=bench.device).requires_grad_()
    grad = torch.randn(1, tokens, 256, device=bench.device)
    leaves = (values, places, weights)

    def run(function: Callable) -> list:
        output = function(values, shapes, places, weights)
        return [output, *torch.autograd.grad(output, leaves, grad)]

    equal = "; ".join(
        f"{name} {difference(fast, slow)}"
        for name, fast, slow in zip(
            ("output", "values", "places", "weights"),
            run(deformable_attention),
            run(plain_deformable_attention),
            strict=True,
        )
    )
    turns = bench.measure_turns(
        {
            "ours": lambda: run(deformable_attention),
            "plain": lambda: run(plain_deformable_attention),
        }
    )
    # Values, places, weights, output: read or written once forward, and their gradients backward.
    moved = 4.0 * (3 * values.numel() + 2 * grad.numel() + 3 * places.numel() + 3 * weights.numel())
    return bench.row(
        turns["ours"],
        turns["plain"],
        "grid_sample",
        bytes_moved=moved,
        equal=equal,
        note="forward and backward",
    )


def nms_row(bench: Bench) -> Row:
    """What a prediction of DETA suppresses."""
    count = 300 if bench.tiny else 10_000
    torch.manual_seed(0)
    corner = torch.rand(count, 2, device=bench.device) * 900
    boxes = torch.cat([corner, corner + torch.rand(count, 2, device=bench.device) * 200 + 10], 1)
    scores = torch.rand(count, device=bench.device)
    labels = torch.randint(0, 80, (count,), device=bench.device)

    def run() -> torch.Tensor:
        return grouped_nms(boxes, scores, labels, 0.7)

    same = torch.equal(run(), plainly(run)())
    turns = bench.measure_turns({"ours": run, "plain": plainly(run)})
    return bench.row(
        turns["ours"],
        turns["plain"],
        "class by class",
        bytes_moved=4.0 * 8 * count,
        equal="the same boxes" if same else "OTHER boxes",
    )


def build_model(encoder: str, canvas: int, device: torch.device | str) -> torch.nn.Module:
    """The detector of configs/detection/deta_pe_g16_coco_1728.py on another canvas, on a device."""
    init_default_scope("mmdet")
    MMLogger.get_current_instance().setLevel("ERROR")
    cfg = Config.fromfile(CONFIG)
    names = dict(
        encoder=encoder, weights="random", canvas=canvas, num_queries=900, num_classes=80,
        amp_dtype="bfloat16", grad_checkpointing=True, drop_path_rate=0.5,
        pixel_mean=cfg.pixel_mean, pixel_std=cfg.pixel_std,
    )  # fmt: skip
    if encoder != cfg.encoder:  # tiny sizes
        names |= dict(num_queries=60, num_classes=5)
        cfg.model.encoder.num_layers = cfg.model.decoder.num_layers = 2
        cfg.model.backbone.encoder_options.update(global_blocks=[3, 11], window_size=4)
    options = substitute(cfg.model.backbone.encoder_options.to_dict(), names)
    names |= {f"encoder.{key}": value for key, value in encoder_facts(encoder, options).items()}
    torch.manual_seed(0)
    with torch.device(device):
        return MODELS.build(substitute(cfg.model.to_dict(), names))


def batch(
    canvas: int, device: torch.device, num_classes: int
) -> tuple[torch.Tensor, list[DetDataSample]]:
    """One image with 30 objects."""
    side = canvas - 32
    torch.manual_seed(1)
    image = torch.randn(1, 3, canvas, canvas, device=device)
    corner = torch.rand(30, 2, device=device) * side * 0.8
    size = torch.rand(30, 2, device=device) * side * 0.18 + 4
    sample = DetDataSample(
        metainfo=dict(
            img_shape=(side, side), batch_input_shape=(canvas, canvas), ori_shape=(side, side),
            scale_factor=(1.0, 1.0),
        )
    )  # fmt: skip
    sample.gt_instances = InstanceData(
        bboxes=torch.cat([corner, corner + size], 1),
        labels=torch.randint(0, num_classes, (30,), device=device),
    )
    return image, [sample]


def deta_rows(bench: Bench, encoder: str, canvas: int) -> list[Row]:
    """A training step (forward, all losses, backward, no optimiser) and a prediction."""
    model = build_model(encoder, canvas, bench.device)
    image, samples = batch(canvas, bench.device, model.bbox_head.num_classes)

    def step() -> None:
        sum(model.loss(image, samples).values()).backward()
        model.zero_grad(set_to_none=True)

    def encoder_step() -> None:
        model.backbone(image)[-1].float().mean().backward()
        model.zero_grad(set_to_none=True)

    def predict() -> object:
        with torch.no_grad():
            return model.predict(image, samples, rescale=False)

    def encoder_forward() -> None:
        with torch.no_grad():
            model.backbone(image)

    rows = []
    for what, whole, tower, bound in (
        ("training step", step, encoder_step, 1.5),
        ("prediction", predict, encoder_forward, 1.5),
    ):
        model.train(what == "training step")
        repeats = 5 if canvas < 1500 else 3
        turns = bench.measure_turns({"ours": whole, "tower": tower}, repeats, 2)
        with tensor_float():
            fast = bench.measure(whole, repeats, 1)
        plain = None
        if bench.tiny or (bench.cuda and use_kernels(image)):
            plain = bench.measure(plainly(whole), repeats, 2)
        ours, tower_ms = turns["ours"], turns["tower"].ms
        rest = ours.ms - tower_ms
        rows.append(
            bench.row(
                ours,
                plain,
                "grid_sample, NMS class by class" if plain else "",
                target=f"at most {bound} x the encoder",
                note=f"encoder {tower_ms:.1f} ms, heads and losses {rest:.1f} ms: "
                f"{ours.ms / tower_ms:.2f} x the encoder; {1e3 / ours.ms:.2f} images/s",
                part=f"DETA on {encoder}, {canvas} px, batch 1: {what}",
            )
        )
        rows.append(
            bench.row(
                fast,
                ours,
                "without --tf32",
                note=f"{fast.ms / tower_ms:.2f} x the encoder; {1e3 / fast.ms:.2f} images/s",
                part=f"DETA on {encoder}, {canvas} px, batch 1: {what}, --tf32",
            )
        )
    return rows
