"""Gradients of distributed training sent as float16, as detectron2's ViTDet does."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.nn.parallel import DistributedDataParallel


@HOOKS.register_module()
class CompressGradients(Hook):
    """Halves what is sent between GPUs: gradients are averaged in float16.

    One process, or sharded training, sends nothing that could be compressed; the log says so.
    """

    def before_train(self, runner: Runner) -> None:
        """Attach torch's compression to the wrapped model."""
        if isinstance(runner.model, DistributedDataParallel):
            runner.model.register_comm_hook(state=None, hook=fp16_compress_hook)
        else:
            runner.logger.info("CompressGradients: no DistributedDataParallel, nothing to compress")
