"""Random numbers of an image, by its place in the training.

They depend on the seed of the run and on that place alone, so that any number of processes and any
accumulation draws the same, and a resumed run goes on with the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.dist import get_dist_info
from mmengine.logging import MessageHub
from torch import Tensor

Generators = torch.Generator | Sequence[torch.Generator] | None


def image_generators(stream: int, batch: int) -> list[torch.Generator] | None:
    """One generator per image of this process's batch; None, the global one, outside of a Runner.

    MMEngine's samplers give process r of P the images r, r + P, r + 2 P, ... of the training. Where
    several batches make a step, the loop says which one this is.

    Args:
        stream: Number of what is drawn; streams are independent.
        batch: Images.
    """
    hub = MessageHub.get_current_instance()
    number, seed = hub.get_info("batch", hub.get_info("iter")), hub.get_info("seed")
    if number is None or seed is None:
        return None
    rank, size = get_dist_info()
    first = int(number) * batch
    return [_generator(int(seed), (first + place) * size + rank, stream) for place in range(batch)]


def _generator(*parts: int) -> torch.Generator:
    number = int(np.random.SeedSequence(parts).generate_state(1)[0])
    return torch.Generator().manual_seed(number)


def uniform_rows(count: int, length: int, generator: Generators = None) -> Tensor:
    """Uniform numbers in [0, 1), (count, length) float32 on the CPU.

    Args:
        count: Rows.
        length: Columns.
        generator: One for all, one for each row, or None for the global one.
    """
    if generator is None or isinstance(generator, torch.Generator):
        return torch.rand(count, length, generator=generator)
    rows = [torch.rand(length, generator=one) for one in generator]
    assert len(rows) == count
    return torch.stack(rows) if rows else torch.empty(0, length)
