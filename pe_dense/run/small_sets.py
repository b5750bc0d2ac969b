"""Training sets smaller than a batch."""

from __future__ import annotations

import math
from typing import Any

from mmengine.runner import Runner
from torch.utils.data import Dataset


class RepeatedImages(Dataset):
    """A data set several times over; MMEngine's RepeatDataset takes none but its own.

    Args:
        dataset: With a length and `metainfo`.
        times: How often each item comes.
    """

    def __init__(self, dataset: Any, times: int) -> None:
        self.dataset, self.times, self.metainfo = dataset, times, dataset.metainfo

    def __len__(self) -> int:
        """Number of items, repetitions counted."""
        return self.times * len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """One item, loaded anew."""
        return self.dataset[index % len(self.dataset)]


def fill_one_batch(runner: Runner) -> None:
    """Repeat the images of a set that is smaller than a batch, until they are one.

    A loader that gives whole batches only would give none, and epochs without steps. Loops that
    count iterations draw from such a set without end, as it is.
    """
    settings = runner._train_dataloader
    if not settings.get("drop_last") or "max_epochs" not in runner.cfg.train_cfg:
        return
    dataset = runner.build_dataloader(settings, seed=runner.seed).dataset
    wanted = settings["batch_size"] * runner.world_size
    if 0 < len(dataset) < wanted:
        times = math.ceil(wanted / len(dataset))
        runner.logger.warning(
            f"there are fewer training images ({len(dataset)}) than a batch takes ({wanted}); each "
            f"is shown {times} times an epoch"
        )
        dataset = RepeatedImages(dataset, times)
    runner._train_dataloader = {**settings, "dataset": dataset}
