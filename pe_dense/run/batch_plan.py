"""How the images of a step of the optimiser are dealt out: processes x images x accumulation.

A recipe stands for a total batch, and any number of processes trains it. A config with
`total_batch` accumulates: `batch_size` is what one process holds at a time, and the batches that
make a step follow. In all others a step is one batch per process: on another number of processes
than the recipe's (`processes`, 1 if it names none) each takes another share, unless a person says
`batch_size` and means another total.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from pe_dense.run.options import configured

LOOP = "StepTrainLoop"
_PLACE = "train_dataloader.batch_size"


@dataclass(frozen=True)
class BatchPlan:
    """Images of one step of the optimiser.

    Attributes:
        total_batch: On all processes, accumulation included.
        batch_size: Of one process at a time.
        processes: How many there are.
        accumulation: Batches of a process that make a step.
    """

    total_batch: int
    batch_size: int
    processes: int
    accumulation: int = 1

    def words(self) -> str:
        """How the log says it.

        Example:
            >>> BatchPlan(96, 4, 8, 3).words()
            '96 images a step: 8 processes x 4 images x 3 accumulated'
            >>> BatchPlan(4, 4, 1).words()
            '4 images a step: 1 process x 4 images'
        """
        several = "process" if self.processes == 1 else "processes"
        text = f"{self.total_batch} images a step: {self.processes} {several} x {self.batch_size}"
        return text + " images" + (f" x {self.accumulation} accumulated" * (self.accumulation > 1))

    def apply(self, cfg: Config) -> None:
        """Put it into a resolved config."""
        cfg.train_dataloader.batch_size = self.batch_size
        if "total_batch" in cfg:
            cfg.train_cfg.accumulation = self.accumulation


def batch_size_of(template: Config) -> int | None:
    """Images that a process takes at a time, by the config; None where that is no number."""
    value = configured(template, _PLACE)
    return value if type(value) is int else None


def plan_batches(
    template: Config, processes: int, options: Collection[str], path: str | Path
) -> BatchPlan | None:
    """What each process does, so that the total batch is the recipe's.

    Args:
        template: Config, references in place or resolved.
        processes: How many there are.
        options: Names of `--cfg-options`; where `batch_size` is among them, it is taken as it is.
        path: How errors call the config.

    Returns:
        None where nothing is trained in batches.

    Raises:
        ValueError: If the total batch cannot be dealt out evenly; with numbers that work.
    """
    own = configured(template, _PLACE)
    if own is None:
        return None
    _require_count(own, "batch_size", path)
    assert processes >= 1
    if "total_batch" in template:
        plan = _accumulated(template, own, processes, path)
        _require_no_other_steps(template, plan.accumulation, path)
        return plan
    _require_no_other_steps(template, 1, path)
    recipe = template.get("processes", 1)
    _require_count(recipe, "processes", path)
    if processes == recipe or {"batch_size", _PLACE} & set(options):
        return BatchPlan(own * processes, own, processes)
    total = own * recipe
    if total % processes:
        raise ValueError(
            f"{path} trains {total} images a step, which {processes} processes cannot share "
            f"evenly; start {_words(_near(total, processes))} processes, or name another total, "
            f"which is another protocol: --cfg-options batch_size={max(1, total // processes)}"
        )
    return BatchPlan(total, total // processes, processes)


def recipe_total(template: Config) -> int | None:
    """Images of a step as a config has them, without anything that a person asks for."""
    own = batch_size_of(template)
    return template.get("total_batch", None if own is None else own * template.get("processes", 1))


def _require_count(value: Any, name: str, path: str | Path) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"config {path}: {name}={value!r} is no positive whole number")


def _require_no_other_steps(template: Config, accumulation: int, path: str | Path) -> None:
    """Refuse settings that would make a step of other images than the plan says, or do nothing.

    A checkpoint between two steps of the optimiser's wrapper would lose gradients, too.
    """
    allowed = {"train_cfg.accumulation": accumulation, "optim_wrapper.accumulative_counts": 1}
    for place, count in allowed.items():
        value = configured(template, place)
        if value is not None and (value != count or type(value) is not int):
            raise ValueError(
                f"config {path}: {place}={value!r} makes no step; leave it out and set total_batch "
                f"with train_cfg.type={LOOP!r}, which accumulates up to it on any number of "
                "processes"
            )


def _accumulated(template: Config, own: int, processes: int, path: str | Path) -> BatchPlan:
    total = template.total_batch
    _require_count(total, "total_batch", path)
    loop = configured(template, "train_cfg.type")
    if loop != LOOP:
        raise ValueError(
            f"config {path} has total_batch and the loop {loop}; only train_cfg.type={LOOP!r} "
            "accumulates up to it"
        )
    if total % processes:
        raise ValueError(
            f"total_batch={total} of {path} cannot be shared evenly by {processes} processes; "
            f"start {_words(_near(total, processes))} processes, or train another total, which is "
            f"another protocol: --cfg-options total_batch={-(-total // processes) * processes}"
        )
    share = total // processes
    if share % own:
        raise ValueError(
            f"total_batch={total} of {path} is no whole number of times batch_size={own} x "
            f"{processes} processes; take --cfg-options batch_size={_near(share, own)[0]}"
        )
    return BatchPlan(total, own, processes, share // own)


def _near(total: int, number: int) -> list[int]:
    """The divisors of `total` next to a number that is none: below and above, where there are."""
    below = next((n for n in range(min(number, total), 0, -1) if total % n == 0), None)
    above = next((n for n in range(number, total + 1) if total % n == 0), None)
    return [n for n in (below, above) if n is not None]


def _words(numbers: Collection[int]) -> str:
    return " or ".join(map(str, dict.fromkeys(numbers)))


def require_schedule(cfg: Config, path: str | Path) -> None:
    """Refuse lengths that do not agree, before anything is loaded; `cfg` is resolved.

    Of trainings that count iterations: where the schedule of the learning rate ends, and, where
    `total_batch` makes an iteration a step, how often the student is probed and written.

    Raises:
        ValueError: With the first number that is none, or longer than the training.
    """
    total = (cfg.get("train_cfg") or {}).get("max_iters")
    if total is None:
        return
    name = "total_steps" if "total_steps" in cfg else "max_iters"
    if type(total) is not int or total < 1:
        raise ValueError(f"config {path}: {name}={total!r} is no positive whole number")
    if "total_batch" not in cfg:
        return
    schedulers = cfg.get("param_scheduler") or []
    for part in [schedulers] if isinstance(schedulers, Mapping) else schedulers:
        begin, end = part.get("begin", 0), part.get("end", total)
        if not part.get("by_epoch", True) and not 0 <= begin < end <= total:
            raise ValueError(
                f"config {path}: {part['type']} runs from step {begin} to {end} of a training of "
                f"{name}={total}; set its length (warmup_steps for a warm-up) to at most that"
            )
    for key, hook in _intervals(cfg):
        steps = hook.get("interval")
        if type(steps) is not int or not 1 <= steps <= total:
            raise ValueError(
                f"config {path}: {key}={steps!r} is no number of steps from 1 to {name}={total}; "
                f"take --cfg-options {key}={total}, or less"
            )


def _intervals(cfg: Config) -> list[tuple[str, Mapping[str, Any]]]:
    """Hooks with an interval in steps, by the name that sets it."""
    writing = (cfg.get("default_hooks") or {}).get("checkpoint")
    found = [] if writing is None else [("checkpoint_interval", writing)]
    probing = [h for h in cfg.get("custom_hooks", []) if h["type"] == "ProtocolEvalHook"]
    return [*found, *(("probe_interval", hook) for hook in probing)]
