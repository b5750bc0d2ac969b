"""MMEngine's Runner as all runs use it: errors and checkpoints name their files."""

from __future__ import annotations

from typing import Any

from mmengine.runner import Runner
from torch.utils.data import DataLoader

from pe_dense.openmmlab.named_pipeline import name_files_in_errors
from pe_dense.run.checkpoint_choice import SAVED_AS


class NamingRunner(Runner):
    """A Runner whose data sets say which file an error of their pipeline is of."""

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
