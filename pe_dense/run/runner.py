"""MMEngine's Runner as all runs use it: errors in loading name the file."""

from __future__ import annotations

from typing import Any

from mmengine.runner import Runner
from torch.utils.data import DataLoader

from pe_dense.openmmlab.named_pipeline import name_files_in_errors


class NamingRunner(Runner):
    """A Runner whose data sets say which file an error of their pipeline is of."""

    @staticmethod
    def build_dataloader(*args: Any, **kwargs: Any) -> DataLoader:
        """See MMEngine."""
        loader = Runner.build_dataloader(*args, **kwargs)
        name_files_in_errors(loader.dataset)
        return loader
