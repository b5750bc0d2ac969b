"""What a run is about to do, in a few lines: what stands in its log before the first step.

The whole config lies in the work dir and in the log file; people read this.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from pe_dense.encoders.contract import WeightsInfo
from pe_dense.results.record import ProtocolInfo
from pe_dense.run.batch_plan import BatchPlan

RANDOM = "random, so that the encoder knows nothing; --weights released takes trained ones"


def weights_in_words(weights: WeightsInfo | None, start_from: WeightsInfo | None = None) -> str:
    """Where the parameters of an encoder come from, as tables of a run and scores have it.

    Args:
        weights: What the encoder was built with; None where that is not known.
        start_from: Checkpoint of the whole model that replaced them, or None.

    Example:
        >>> weights_in_words(WeightsInfo("hf://a/b:b.pt", "0" * 64, is_published=True))
        'hf://a/b:b.pt (00000000, as published)'
        >>> weights_in_words(None)
        'not known'
    """
    weights = start_from or weights
    if weights is None:
        return "not known"
    if weights.sha256 == "random":
        return RANDOM
    standing = ", as published" if weights.is_published else ""
    return f"{weights.source} ({weights.sha256[:8]}{standing})"


def as_table(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values below each other; rows without a value are left out.

    Example:
        >>> print(as_table([("task", "depth"), ("data", ""), ("encoder", "pe")]))
          task     depth
          encoder  pe
    """
    kept = [(name, value) for name, value in rows if value]
    width = max((len(name) for name, _ in kept), default=0)
    return "\n".join(f"  {name:{width}}  {value}" for name, value in kept)


def parameters_in_words(model: nn.Module) -> str:
    """How many parameters learn, of how many.

    Example:
        >>> parameters_in_words(nn.Linear(999, 2))
        '2,000, all trained'
        >>> parameters_in_words(nn.Linear(999, 2).requires_grad_(False))
        '2,000, none trained'
    """
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if trained == total:
        return f"{total:,}, all trained"
    if trained == 0:
        return f"{total:,}, none trained"
    return f"{total:,}, {trained:,} trained ({100 * trained / total:.3g} %)"


def task_in_words(protocol: Mapping[str, Any], name: str | None = None) -> str:
    """Task and protocol: 'depth, nyu (protocol nyu-linear-v1)'.

    Args:
        protocol: As configs have it.
        name: Its id with the version; default: those of `protocol`.
    """
    name = name or f"{protocol['id']}-v{protocol['version']}"
    return f"{protocol['task']} on {protocol['dataset']} (protocol {name})"


class StartTable(Hook):
    """Tells, before the first step, what is trained on what, once.

    Args:
        cfg: Resolved config.
        start_from: Checkpoint of the whole model that is fine-tuned, or None.
        plan: How the images of a step are dealt out, or None.
    """

    priority = "VERY_LOW"  # all others have had their say

    def __init__(self, cfg: Config, start_from: WeightsInfo | None, plan: BatchPlan | None) -> None:
        self.cfg, self.start_from, self.plan = cfg, start_from, plan
        self.told: list[tuple[str, str]] = []

    def before_train(self, runner: Runner) -> None:
        """See MMEngine."""
        if not is_main_process():
            return
        rows = self.told = self.rows(runner)
        print_log("this run\n" + as_table(rows), logger=runner.logger)
        if dict(rows)["weights"] == RANDOM:
            print_log(f"weights are {RANDOM}", logger=runner.logger, level=logging.WARNING)

    def rows(self, runner: Runner) -> list[tuple[str, str]]:
        """Name and value of each line."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        loop = runner.train_loop
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        steps = f"{runner.max_epochs} epochs" if by_epoch else f"{runner.max_iters:,} steps"
        if by_epoch:
            steps += f" of {len(loop.dataloader):,} batches"
        if runner.iter:
            steps += f", {runner.iter:,} done"
        protocol = self.cfg.get("protocol")
        return [
            ("task", "" if protocol is None else task_in_words(protocol)),
            ("encoder", str(self.cfg.get("encoder", ""))),
            ("weights", weights_in_words(weights_of(model), self.start_from)),
            ("parameters", parameters_in_words(model)),
            ("data", data_in_words(self.cfg, runner)),
            ("a step", "" if self.plan is None else self.plan.words()),
            ("steps", steps),
            ("optimiser", optimiser_in_words(runner.optim_wrapper)),
            ("device", device_in_words(model)),
            ("work dir", str(runner.work_dir)),
            ("config", str(Path(runner.work_dir) / Path(runner.cfg.filename or "").name)),
        ]


def weights_of(model: nn.Module) -> WeightsInfo | None:
    """What the encoder of a model was built with: the first part that knows."""
    sources = (getattr(module, "weights_info", None) for module in model.modules())
    return next((found for found in sources if isinstance(found, WeightsInfo)), None)


def encoder_learns(model: nn.Module) -> bool:
    """Whether a training changes the encoder of a model, or leaves it as it was loaded."""
    for module in model.modules():
        if isinstance(getattr(module, "weights_info", None), WeightsInfo):
            return any(p.requires_grad for p in module.parameters())
    return False


def data_in_words(cfg: Config, runner: Runner) -> str:
    """Folder and number of items that are trained on."""
    dataset = getattr(runner.train_loop.dataloader, "dataset", None)
    count = f"{len(dataset):,} training items" if hasattr(dataset, "__len__") else ""
    return " in ".join(filter(None, [count, str(cfg.get("data_root") or "")]))


def optimiser_in_words(wrapper: Any) -> str:
    """Name and the largest learning rate of an optimiser, or of several."""
    optimizer = getattr(wrapper, "optimizer", None)
    if optimizer is None:
        return ""
    rates = [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]
    decays = {float(group.get("weight_decay", 0.0)) for group in optimizer.param_groups}
    lr = (
        f"lr {min(rates):.3g} to {max(rates):.3g}"
        if min(rates) < max(rates)
        else f"lr {rates[0]:.3g}"
    )
    return f"{type(optimizer).__name__}, {lr}, weight decay {max(decays):.3g}"


def device_in_words(model: nn.Module) -> str:
    """Where the model is: 'cpu', or the name of the GPU."""
    import torch

    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


def tell_weights(encoder: str, weights: WeightsInfo) -> None:
    """Say what is scored where nothing is trained, before it takes its time; loudly if random."""
    if not is_main_process():
        return
    level = logging.WARNING if weights.sha256 == "random" else logging.INFO
    print_log(f"{encoder}: weights are {weights_in_words(weights)}", "current", level=level)


def beside_score(protocol: ProtocolInfo, encoder: str, weights: WeightsInfo, trained: bool) -> str:
    """What is told with the scores of an evaluation.

    Args:
        protocol: That was followed.
        encoder: Name in the zoo.
        weights: What the encoder, or the whole model, started from.
        trained: Whether the encoder learned since.

    Example:
        >>> protocol = ProtocolInfo("p", 1, "AP", True, "0" * 64)
        >>> print(beside_score(protocol, "pe_core_t16_384", WeightsInfo("random", "random"), True))
        protocol: p-v1
        encoder: pe_core_t16_384
        weights: random at the start of training
    """
    words = weights_in_words(weights)
    if trained:
        words = "random" if weights.sha256 == "random" else words
        words += " at the start of training"
    return f"protocol: {protocol.id}-v{protocol.version}\nencoder: {encoder}\nweights: {words}"
