"""Sampling that shows images of rare classes more often, as LVIS detectors are trained."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence, Sized

import torch
from mmdet.registry import DATA_SAMPLERS
from mmengine.dist import get_dist_info, sync_random_seed
from torch import Tensor
from torch.utils.data import Sampler


def repeat_factors(classes_by_image: Sequence[Collection[int]], threshold: float) -> list[float]:
    """How often an image is shown in an epoch, on average; at least once.

    A class that is in a share f of the images has the factor sqrt(threshold / f), an image the
    largest factor of its classes.

    Source: LVIS, arXiv:1908.03195, section B.2 (repeat factor sampling).

    Example:
        >>> repeat_factors([{0}, {0}, {0}, {0, 1}], threshold=0.5)
        [1.0, 1.0, 1.0, 1.4142135623730951]
    """
    counts = Counter(c for classes in classes_by_image for c in set(classes))
    total = len(classes_by_image)
    by_class = {c: max(1.0, math.sqrt(threshold / (n / total))) for c, n in counts.items()}
    return [max((by_class[c] for c in classes), default=1.0) for classes in classes_by_image]


def draw_epoch(factors_N: Tensor, generator: torch.Generator) -> Tensor:
    """Image indices of one epoch, in random order.

    The whole part of a factor is certain, the rest a chance, drawn anew every epoch: mmdet's
    ClassBalancedDataset rounds up instead, which shows an image of factor 1.1 twice.
    """
    whole = factors_N.floor()
    extra = torch.rand(len(factors_N), generator=generator) < factors_N - whole
    repeats = (whole + extra).long()
    index = torch.arange(len(factors_N)).repeat_interleave(repeats)
    return index[torch.randperm(len(index), generator=generator)]


@DATA_SAMPLERS.register_module()
class RepeatFactorSampler(Sampler):
    """Endless repeat-factor sampling; processes take turns.

    For iteration-based training. The order is a function of the seed alone, and `skip` begins
    anywhere in it, so that a resumed run sees the images that an uninterrupted one would, and loads
    nothing that it has seen. The k-th image of all goes to process k modulo their number: with the
    same total batch, another number of processes trains on the same batches.

    Args:
        dataset: A data set of mmdet with `get_cat_ids(index)`.
        threshold: Share of images below which a class is repeated; 0.001 for LVIS.
        seed: Of the order; None draws one and shares it among processes.

    Source: the order is that of detectron2 @ 02b5c4e, RepeatFactorTrainingSampler, for the same
    seed.
    """

    def __init__(self, dataset: Sized, threshold: float = 0.001, seed: int | None = None) -> None:
        self.size = len(dataset)
        self.rank, self.world_size = get_dist_info()
        self.seed = sync_random_seed() if seed is None else seed
        classes = [dataset.get_cat_ids(index) for index in range(self.size)]  # type: ignore[attr-defined]
        self.factors_N = torch.tensor(repeat_factors(classes, threshold))
        self._num_skipped = 0

    def __iter__(self) -> Iterator[int]:
        """Indices for this process, without end."""
        generator = torch.Generator().manual_seed(self.seed)
        place = self._num_skipped * self.world_size + self.rank  # in the order of all processes
        while True:
            # Every epoch draws from the same generator and has a length of its own, so those before
            # `place` are drawn, too: some milliseconds for 100,000 images.
            epoch = draw_epoch(self.factors_N, generator)
            if place < len(epoch):
                yield from epoch[place :: self.world_size].tolist()
                place += -(-(len(epoch) - place) // self.world_size) * self.world_size
            place -= len(epoch)

    def __len__(self) -> int:
        """Number of images; one epoch draws more of them."""
        return self.size

    def skip(self, num_samples: int) -> None:
        """Begin behind the first so many images of this process; nothing of them is loaded.

        MMEngine's iteration-based loop calls it once, where a run is resumed.

        Raises:
            ValueError: If the number is negative.
        """
        if num_samples < 0:
            raise ValueError(
                f"RepeatFactorSampler cannot skip {num_samples} images; give 0 or more"
            )
        self._num_skipped = num_samples

    def set_epoch(self, epoch: int) -> None:
        """Nothing: there are no epochs."""
