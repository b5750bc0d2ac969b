"""Linear probes: a training step of one head and of all layers and settings, and where it goes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from gpu_bench import Bench, Row
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement, PixelData

import pe_dense.probing  # noqa: F401 (registers its parts)
from gpu_sections.encoder import encoder_operations
from pe_dense.probing.head_bank import HeadBank, head_settings, resolve_sources

BANK = dict(sources="all", lrs=(1e-2, 1e-3, 1e-4), weight_decays=(1e-2, 1e-4))
SETTINGS = 6
EXPONENTIALS = 3.6e12  # a second on an H100: 16 a clock on each of 132 multiprocessors


def parts(bench: Bench) -> Iterator[tuple[str, Callable[[], Row | list[Row]]]]:
    """The parts to measure."""
    encoder, depth = ("pe_spatial_t16_512", 12) if bench.tiny else ("pe_spatial_l14_448", 24)
    side, batch, classes = (32, 1, 5) if bench.tiny else (448, 16, 150)
    step = ProbeStep(bench, encoder, depth, side, batch, classes)
    shape = f"{encoder}, {side} px, {classes} classes, batch {batch}"
    yield f"one head, {shape}", lambda: step.row(1, dict(sources=[-1]), "at most 70 ms")
    heads = depth * SETTINGS
    yield f"{heads} heads, {shape}", lambda: step.row(heads, BANK, "at most 450 ms")
    yield f"{heads} heads, prediction and counts, {shape}", lambda: step.prediction_row(BANK)


class ProbeStep:
    """A training step on random images and labels."""

    def __init__(
        self, bench: Bench, encoder: str, depth: int, side: int, batch: int, classes: int
    ) -> None:
        self.bench, self.encoder, self.depth = bench, encoder, depth
        self.side, self.batch, self.classes = side, batch, classes

    @functools.cached_property
    def model(self) -> torch.nn.Module:
        """With one encoder for all rows, which takes seconds to fill with random weights."""
        torch.manual_seed(0)
        model = MODELS.build(
            dict(
                type="LayerProbe",
                backbone=dict(type="DenseBackbone", encoder=self.encoder, amp_dtype="bfloat16"),
                encoder_depth=self.depth,
                task="segmentation",
                task_options=dict(num_classes=self.classes),
            )
        )
        return model.train().to(self.bench.device)

    def with_heads(self, sources: Any, **settings: Any) -> torch.nn.Module:
        """The model with heads as `LayerProbe` makes them."""
        bank = HeadBank(
            resolve_sources(sources, self.depth),
            self.model.backbone.embed_dim,
            self.classes,
            head_settings(**(dict(lrs=[1e-3], weight_decays=[1e-2], seeds=[0]) | settings)),
        )
        self.model.bank = bank.to(self.bench.device)
        self.model.backbone.out_indices = list(bank.layers)
        return self.model

    def data(self) -> tuple[torch.Tensor, list[BaseDataElement]]:
        shape = self.side, self.side
        images = torch.randn(self.batch, 3, *shape, device=self.bench.device)
        labels = torch.randint(0, self.classes, (self.batch, 1, *shape), device=self.bench.device)
        return images, [BaseDataElement(gt_sem_seg=PixelData(data=label)) for label in labels]

    def row(self, num_heads: int, heads: dict[str, Any], target: str) -> Row:
        """A step, and how long its parts take alone."""
        bench, model, (images, samples) = self.bench, self.with_heads(**heads), self.data()
        wrapper = build_optim_wrapper(
            model,
            dict(
                type="OptimWrapper",
                constructor="HeadBankOptimizer",
                optimizer=dict(type="GroupedAdamW", lr=1.0),
            ),
        )
        repeats = 5
        ours = bench.measure(
            lambda: wrapper.update_params(model.loss(images, samples)["loss"]), repeats, 2
        )
        with torch.no_grad():
            maps = model.backbone(images)
            encoder_ms = bench.measure(lambda: model.backbone(images), repeats, 1).ms
            targets = model.task.prepare(samples, images.device)
            named = dict(zip(model.bank.layers, maps, strict=True))
            heads_ms = bench.measure(lambda: model.bank(dict(named)), repeats, 1).ms
            logits = model.bank(dict(named))[0].clone().requires_grad_()
        named.clear()
        del maps
        loss_ms = bench.measure(lambda: model.task.losses(logits, targets), repeats, 1).ms
        loss_ms *= len(model.bank.sources)
        for parameter in model.bank.parameters():
            parameter.grad = torch.zeros_like(parameter)
        step_ms = bench.measure(wrapper.optimizer.step, repeats, 1).ms
        exponentials = 2.0 * self.batch * num_heads * self.classes * self.side**2
        note = (
            f"alone: encoder {encoder_ms:.1f} ms, heads forward {heads_ms:.1f}, losses with their "
            f"gradients {loss_ms:.1f} (exponentials {1e3 * exponentials / EXPONENTIALS:.1f} at "
            f"{EXPONENTIALS:.2g} a second), optimiser {step_ms:.1f}"
        )
        return bench.row(
            ours, operations=self.operations(model, num_heads), target=target, note=note
        )

    def prediction_row(self, heads: dict[str, Any]) -> Row:
        """Counts of all heads on images whose label maps have their size."""
        bench, model, (images, samples) = self.bench, self.with_heads(**heads).eval(), self.data()
        for sample in samples:
            size = self.side, self.side
            sample.set_metainfo(dict(ori_shape=size, img_shape=size, img_path="image"))
        try:
            ours = bench.measure(lambda: model.predict(images, samples), 3, 1)
        finally:
            model.train()
        return bench.row(ours, note=f"{ours.ms / self.batch:.1f} ms an image")

    def operations(self, model: torch.nn.Module, num_heads: int) -> float:
        """Encoder, heads forward and gradient, 12 for every class of a pixel.

        The floor takes all at the rate of bf16 matrix products. Exponentials, two for every class
        of a pixel, have another one, and heads are float32 products.
        """
        encoder = model.backbone.encoder
        tokens = (self.side // encoder.patch_size) ** 2
        of_heads = 4.0 * num_heads * self.classes * encoder.embed_dim * tokens
        of_pixels = 12.0 * num_heads * self.classes * self.side**2
        return self.batch * (encoder_operations(encoder, self.side) + of_heads + of_pixels)
