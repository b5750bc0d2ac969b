"""Scores of the student while it is trained."""

from __future__ import annotations

import contextlib
import importlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from pe_dense.alignment.student import has_layer_scale, insert_gains
from pe_dense.openmmlab.backbone import DenseBackbone


@HOOKS.register_module()
class ProtocolEvalHook(Hook):
    """Every so many iterations, and after the last, runs cheap probes on the student's encoder.

    A probe is any function `probe(encoder, **arguments) -> {metric: number}`, named as
    'package.module:function', so that those of the task folders can be used from here. It gets the
    encoder in eval mode, without gradient, and without masks; it must not change it. All processes
    run it and log the scores of the first. Random generators are put back afterwards: a run with
    probes has the weights of a run without.

    Scores go to the log, to the message hub ('student/<name>/<metric>') and to the checkpoints'
    facts ('student_scores'), from which a model card takes them.

    Args:
        probes: dict(name=..., function='module:function', further arguments) each.
        interval: Iterations between evaluations.
        at_start: Also evaluate before the first iteration.

    Raises:
        ValueError: If a probe is not named, cannot be imported or gives no numbers.
    """

    priority = "NORMAL"  # before the logger and checkpoints

    def __init__(
        self, probes: Sequence[Mapping[str, Any]], interval: int, at_start: bool = False
    ) -> None:
        if interval < 1:
            raise ValueError(f"ProtocolEvalHook: interval={interval} is not positive")
        self.interval, self.at_start = interval, at_start
        self.scores: list[dict[str, Any]] = []
        self.probes: dict[str, tuple[Callable[..., Mapping[str, float]], dict[str, Any]]] = {}
        for probe in map(dict, probes):
            name, function = probe.pop("name", None), probe.pop("function", None)
            if not name or name in self.probes:
                raise ValueError(f"a probe needs a name of its own, not {name!r}")
            self.probes[name] = (imported(function), probe)

    def before_train(self, runner: Runner) -> None:
        """Evaluate the student as it starts, if asked to."""
        if self.at_start and runner.iter == 0:
            self._evaluate(runner, 0)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Evaluate if it is time."""
        done = runner.iter + 1
        if done % self.interval == 0 or done == runner.max_iters:
            self._evaluate(runner, done)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add the scores so far."""
        checkpoint["meta"].setdefault("pe_dense", {})["student_scores"] = list(self.scores)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Take over the scores of the run that goes on."""
        self.scores = list(checkpoint.get("meta", {}).get("pe_dense", {}).get("student_scores", []))

    def _evaluate(self, runner: Runner, step: int) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        for name, (function, arguments) in self.probes.items():
            with kept_generators(), evaluated(model.backbone) as encoder:
                found = function(encoder, **arguments)
            if not isinstance(found, Mapping) or not found:
                raise ValueError(f"probe {name} gave {found!r}, not {{metric: number}}")
            scores = {str(metric): float(value) for metric, value in found.items()}
            self.scores.append({"step": step, "probe": name, "scores": scores})
            for metric, value in scores.items():
                runner.message_hub.update_scalar(f"student/{name}/{metric}", value)
            words = ", ".join(f"{metric} {value:.4f}" for metric, value in scores.items())
            runner.logger.info(f"student after {step} steps, {name}: {words}")


def imported(name: Any) -> Callable[..., Mapping[str, float]]:
    """The function behind 'package.module:function'.

    Raises:
        ValueError: If there is none.
    """
    module, separator, function = str(name).partition(":")
    if not separator:
        raise ValueError(f"probe function {name!r} is not written as 'package.module:function'")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"probe function {name} cannot be imported: {error}") from error
    if not callable(found):
        raise ValueError(f"probe function {name} is no function")
    return found


@contextlib.contextmanager
def evaluated(backbone: DenseBackbone) -> Iterator[nn.Module]:
    """The encoder in eval mode without gradient; afterwards every module is as it was.

    Where its parameters are sharded, a whole copy: gathering it is collective.
    """
    encoder = backbone.encoder
    if any(hasattr(parameter, "full_tensor") for parameter in encoder.parameters()):
        encoder = whole_copy(backbone)
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    try:
        with torch.no_grad():
            yield encoder
    finally:
        for module, mode in modes:
            module.training = mode


def whole_copy(backbone: DenseBackbone) -> nn.Module:
    """An encoder of the same architecture with whole parameters, on the same device."""
    state = {name: _whole(value) for name, value in backbone.encoder.state_dict().items()}
    device = next(iter(state.values())).device
    copy = backbone.new_encoder()
    if has_layer_scale(state) and not has_layer_scale(copy.state_dict()):  # the aligner added it
        insert_gains(copy, backbone.embed_dim, 1.0)
    copy.to(device)
    copy.load_state_dict(state, strict=True)
    return copy


def _whole(value: Tensor) -> Tensor:
    return value.full_tensor() if hasattr(value, "full_tensor") else value


@contextlib.contextmanager
def kept_generators() -> Iterator[None]:
    """Inside, random numbers may be drawn; afterwards the generators are as they were."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if gpu:
            torch.cuda.set_rng_state_all(gpu)
