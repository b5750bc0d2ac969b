"""MMEngine's Runner as all runs use it: errors and checkpoints name their files."""

from __future__ import annotations

import logging
from typing import Any

from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

from pe_dense.openmmlab.named_pipeline import name_files_in_errors
from pe_dense.run.checkpoint import load_strictly
from pe_dense.run.checkpoint_choice import SAVED_AS

# What MMEngine tells of every run at length, which the log file has: 300 lines and more.
_FOR_THE_FILE = (
    "Config:\n", "Distributed training is not used", "Hooks will be executed", "\n------",
    '"FileClient" will be deprecated', '"HardDiskBackend" is the alias',
)  # fmt: skip


def _is_for_the_terminal(record: logging.LogRecord) -> bool:
    """Whether a person wants to see it before the first step; the log file has all."""
    return record.levelno > logging.WARNING or not str(record.msg).startswith(_FOR_THE_FILE)


class NamingRunner(Runner):
    """A Runner whose data sets say which file an error of their pipeline is of.

    Attributes:
        opened: What the checkpoint to resume holds, where it has been opened already; it is given
            up as soon as it is taken over.
    """

    opened: dict[str, Any] | None = None

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """See MMEngine; the environment and the whole config are for the log file."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_is_for_the_terminal)
        return logger

    @staticmethod
    def build_dataloader(*args: Any, **kwargs: Any) -> DataLoader:
        """See MMEngine."""
        loader = Runner.build_dataloader(*args, **kwargs)
        name_files_in_errors(loader.dataset)
        return loader

    def save_checkpoint(
        self, out_dir: str, filename: str, *args: Any, meta: dict | None = None, **kwargs: Any
    ) -> None:
        """See MMEngine; the checkpoint knows the name that it was saved under."""
        meta = {**(meta or {}), SAVED_AS: filename}
        super().save_checkpoint(out_dir, filename, *args, meta=meta, **kwargs)

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Go on from a checkpoint that is mapped into the memory of the host.

        MMEngine would read it onto the device, optimiser state and all. What would still lie in the
        file afterwards is copied, as that may go.
        """
        super().resume(filename, *args, **{**kwargs, "map_location": "cpu"})
        for state in self.optim_wrapper.optimizer.state.values():
            for key, value in state.items():
                if isinstance(value, Tensor) and value.device.type == "cpu":
                    state[key] = value.clone()

    def load_checkpoint(
        self, filename: str, map_location: Any = "cpu", *args: Any, **kwargs: Any
    ) -> dict:
        """See MMEngine; a checkpoint that has been opened is not read again."""
        if self.opened is None:
            return super().load_checkpoint(filename, map_location, *args, **kwargs)
        content, self.opened = self.opened, None
        self.call_hook("after_load_checkpoint", checkpoint=content)
        model = self.model.module if is_model_wrapper(self.model) else self.model
        load_strictly(model, content, filename)
        self.logger.info(f"Load checkpoint from {filename}")
        return content
