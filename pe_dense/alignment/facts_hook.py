"""What the checkpoints of an alignment say of their teachers and data."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from pe_dense.alignment.cached_teacher import CachedTeacher


@HOOKS.register_module()
class AlignmentFacts(Hook):
    """Adds 'alignment' to the facts in a checkpoint's meta, and holds a resumed run to them.

    It has the facts of `SpatialAligner` (with the sha256 of every teacher) and of the data: class,
    number of images and their hash, batch, accumulation and processes. Place it after
    `ExactResumeHook` in the config.

    Raises:
        ValueError: If a run is resumed with other teachers or images, a teacher's cache belongs to
            other images, or checkpoints are written between two steps of the optimiser, where
            gradients that wait would be lost.
    """

    priority = "VERY_HIGH"

    def __init__(self) -> None:
        self._facts: dict[str, Any] | None = None

    def facts(self, runner: Runner) -> dict[str, Any]:
        """The facts; hashing many images takes a moment, once."""
        if self._facts is None:
            model = runner.model.module if is_model_wrapper(runner.model) else runner.model
            dataset = runner.train_dataloader.dataset
            self._facts = {
                **model.facts(),
                "data": {
                    "type": type(dataset).__name__,
                    "num_images": len(dataset),
                    "sha256": getattr(dataset, "image_set_sha256", None),
                },
                "batch_size": runner.train_dataloader.batch_size,
                "accumulation": accumulation_of(runner),
                "world_size": runner.world_size,
            }
        return self._facts

    def before_train(self, runner: Runner) -> None:
        """Refuse checkpoints in the middle of an accumulated batch, and caches of other images."""
        facts, model = self.facts(runner), runner.model
        model = model.module if is_model_wrapper(model) else model
        for teacher in model.teachers.values():
            if isinstance(teacher, CachedTeacher):
                teacher.check_image_set(facts["data"]["sha256"])
        count = accumulation_of(runner)
        for hook in runner.hooks:
            interval = hook.interval if isinstance(hook, CheckpointHook) else 0
            if interval > 0 and not hook.by_epoch and interval % count:
                raise ValueError(
                    f"checkpoints every {interval} iterations would lose gradients, because "
                    f"{count} iterations make a step; set the interval to a multiple of {count}"
                )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add the facts."""
        checkpoint["meta"].setdefault("pe_dense", {})["alignment"] = self.facts(runner)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Compare with the facts of the run that goes on."""
        stored = checkpoint.get("meta", {}).get("pe_dense", {}).get("alignment")
        own = self.facts(runner)
        if stored is None or stored == own:
            return
        other = sorted(key for key in own if stored.get(key) != own[key])
        raise ValueError(
            f"the run was begun with other settings of the alignment ({', '.join(other)}); resume "
            "it with the same teachers and images, or train in another --work-dir"
        )


def accumulation_of(runner: Runner) -> int:
    """Iterations that make one step of the optimiser."""
    return int(getattr(runner.optim_wrapper, "_accumulative_counts", 1))
