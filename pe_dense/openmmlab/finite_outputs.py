"""Stops an evaluation whose model gives numbers that are none, before they become a score of 0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

REMEDY = (
    "its weights have diverged, so score an earlier checkpoint, or train again with a lower "
    "learning rate in another --work-dir"
)
# Judged by what they give; of all else every layer is judged.
WHOLE_PARTS = ("backbone", "neck", "bank")


@HOOKS.register_module()
class RequireFiniteOutputs(Hook):
    """Raises at the first batch of validation or test in which the model gives NaN or inf.

    Weights can be finite and so large that what they make is not; scores of that are zeros, or
    whatever the order of NaN makes of them. Judged are backbone, neck and a probe's bank of heads
    as a whole, every layer of all else, and the predictions: layers are finite even where a model
    masks proposals or scores with inf between them. One flag per part stays on the device, and all
    are read once per batch.

    `pe_dense.run` gives it to every training and evaluation.

    Args:
        source: What the weights are, for messages; '' names the step of the training.

    Raises:
        ValueError: If so; the message has the source, the part and what to do.
    """

    priority = "HIGH"

    def __init__(self, source: str = "") -> None:
        self.source = source
        self._is_bad: dict[str, Tensor] = {}
        self._handles: list[Any] = []

    def before_val(self, runner: Runner) -> None:
        """Look from now on."""
        self._is_bad.clear()
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        for name, module in judged_modules(model):
            self._handles.append(module.register_forward_hook(self._judge(name)))
        self._handles.append(model.register_forward_hook(lambda *_: self._require(runner)))

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Read the flags of a batch, and of its predictions."""
        for sample in outputs if isinstance(outputs, Sequence) else ():
            if isinstance(sample, BaseDataElement):
                predicted = {k: v for k, v in sample.items() if k.startswith("pred_")}
                self._note("the predictions", predicted)
        self._require(runner)

    def after_val(self, runner: Runner) -> None:
        """Look no longer."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    before_test, after_test_iter, after_test = before_val, after_val_iter, after_val

    def _judge(self, name: str) -> Any:
        return lambda module, inputs, outputs: self._note(name, outputs)

    def _note(self, name: str, outputs: Any) -> None:
        for values in float_tensors(outputs):
            is_bad = ~torch.isfinite(values.detach()).all()
            self._is_bad[name] = self._is_bad[name] | is_bad if name in self._is_bad else is_bad

    def _require(self, runner: Runner) -> None:
        names, flags = list(self._is_bad), list(self._is_bad.values())
        self._is_bad.clear()
        if not flags or not bool(torch.stack([flag.to(flags[0].device) for flag in flags]).any()):
            return
        part = next(name for name, flag in zip(names, flags, strict=True) if flag)
        source = self.source or f"the model after step {runner.iter}"
        raise ValueError(f"{source}: {part} gives NaN or infinite numbers; {REMEDY}")


def judged_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules whose outputs must be finite: whole parts, and other layers with weights.

    Example:
        >>> parts = {name: nn.Sequential(nn.Linear(1, 1)) for name in ("backbone", "head")}
        >>> [name for name, _ in judged_modules(nn.ModuleDict(parts))]
        ['backbone', 'head.0']
    """
    for name, module in model.named_modules():
        *parents, last = name.split(".")
        if any(parent in WHOLE_PARTS for parent in parents):
            continue
        is_layer = name and not any(True for _ in module.children())
        if last in WHOLE_PARTS or (is_layer and any(True for _ in module.parameters())):
            yield name, module


def float_tensors(value: Any) -> Iterator[Tensor]:
    """All tensors of floating point in nested lists, mappings and data elements."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, (Mapping, BaseDataElement)):
        for item in value.values():
            yield from float_tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from float_tensors(item)
