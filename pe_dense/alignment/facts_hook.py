"""What the checkpoints of an alignment say of their teachers and data."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from pe_dense.alignment.cached_teacher import CachedTeacher


@HOOKS.register_module()
class AlignmentFacts(Hook):
    """Adds 'alignment' to the facts in a checkpoint's meta, and holds a resumed run to them.

    It has the facts of `SpatialAligner` (with the sha256 of every teacher) and of the data: class,
    number of images and their hash, and images per step. Place it after `ExactResumeHook` in the
    config.

    Raises:
        ValueError: If a run is resumed with other teachers or images, a teacher's cache belongs to
            other images, or several iterations make a step, so that a checkpoint could lie between.
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
                "total_batch": images_per_step(runner),
            }
        return self._facts

    def before_train(self, runner: Runner) -> None:
        """Refuse steps of several iterations, and caches of other images."""
        facts, model = self.facts(runner), runner.model
        model = model.module if is_model_wrapper(model) else model
        for teacher in model.teachers.values():
            if isinstance(teacher, CachedTeacher):
                teacher.check_image_set(facts["data"]["sha256"])
        count = runner.optim_wrapper._accumulative_counts
        if count > 1 and not hasattr(runner.train_loop, "accumulation"):
            raise ValueError(
                f"{count} iterations make a step, and a checkpoint between would lose gradients; "
                "leave accumulative_counts out and set total_batch, with "
                "train_cfg.type='StepTrainLoop'"
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


def images_per_step(runner: Runner) -> int:
    """Images of one step of the optimiser, on all processes."""
    accumulation = getattr(runner.train_loop, "accumulation", 1)
    return int(runner.train_dataloader.batch_size * runner.world_size * accumulation)
