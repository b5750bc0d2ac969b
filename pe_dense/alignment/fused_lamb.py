"""The step of LAMB for many tensors at once, on CUDA; `lamb.LAMB._step_of` is the slow reference.

Tensors of the same types, device and shards share three kernel launches (`lamb_kernel`). The norms
of sharded tensors (DTensor) need one sum over processes for all of them together.

Shape legend: T tensors.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from pe_dense.kernels import use_kernels

if TYPE_CHECKING:
    from pe_dense.alignment.lamb_kernel import Chunks, Numbers

ALIGNMENT = 16  # bytes, at which the kernels read
DTYPES = frozenset((torch.float32, torch.bfloat16, torch.float16))  # of parameters and gradients
Layouts = dict[Hashable, "Chunks"]  # by sizes of tensors; they stay the same from step to step


class Item(NamedTuple):
    """One tensor, or this process's shard of one, and how it steps."""

    addresses: tuple[int, ...]  # parameter, gradient, first and second moment
    size: int
    numbers: Numbers


class Kind(NamedTuple):
    """Items of one kind go together."""

    device: torch.device
    parameter_type: torch.dtype
    gradient_type: torch.dtype
    groups: tuple[Any, ...]  # process groups over which squares are added up


class Step:
    """Gathers tensors and takes their step.

    There are hundreds of tensors, and the device waits: what is done for each of them is little.

    Args:
        layouts: What `run` of the step before returned.
    """

    def __init__(self, layouts: Layouts | None = None) -> None:
        self._layouts = layouts or {}
        self._items: dict[Kind, list[Item]] = {}
        self._has_kernels: dict[torch.device, bool] = {}
        self._numbers: dict[Hashable, Numbers] = {}

    def takes(
        self,
        parameter: Tensor,
        state: Mapping[str, Any],
        group: Mapping[str, Any],
        adapts: bool,
        count: float,
    ) -> bool:
        """Whether a parameter joins; where it does not, the reference must take its step.

        Kernels need CUDA, Triton, floats of at most 32 bits, memory that is contiguous and aligned,
        and shards that add up to the tensor.
        """
        device = parameter.device
        if device not in self._has_kernels:
            self._has_kernels[device] = use_kernels(parameter)
        if not self._has_kernels[device]:
            return False
        parts = (parameter, parameter.grad, state["exp_avg"], state["exp_avg_sq"])
        groups: tuple[Any, ...] | None = ()
        if any(isinstance(part, DTensor) for part in parts):
            groups = _shard_groups(parts)
            if groups is None:
                return False
            parts = tuple(part.to_local() for part in parts)
        value, gradient, first, second = parts
        addresses = tuple(part.data_ptr() for part in parts)
        if not (
            value.dtype in DTYPES
            and gradient.dtype in DTYPES
            and first.dtype == second.dtype == torch.float32
            and gradient.device == first.device == second.device == device
            and all(part.is_contiguous() for part in parts)
            and not any(address % ALIGNMENT for address in addresses)
        ):
            return False
        key = (id(group), adapts, count)
        if key not in self._numbers:
            self._numbers[key] = _numbers_of(group, adapts, count)
        kind = Kind(device, value.dtype, gradient.dtype, groups)
        item = Item(addresses, value.numel(), self._numbers[key])
        self._items.setdefault(kind, []).append(item)
        return True

    def run(self) -> Layouts:
        """Take the step of all that joined; returns what the next step may use again."""
        used: Layouts = {}
        for kind, items in self._items.items():
            addresses, sizes, numbers = zip(*items, strict=True)
            key = (kind.device, kind.parameter_type, kind.gradient_type, sizes)
            used[key] = _step(kind, addresses, sizes, numbers, self._layouts.get(key))
        return used


def _step(
    kind: Kind,
    addresses: Sequence[tuple[int, ...]],
    sizes: Sequence[int],
    numbers: Sequence[Numbers],
    chunks: Chunks | None,
) -> Chunks:
    from pe_dense.alignment import lamb_kernel

    device, types = kind.device, (kind.parameter_type, kind.gradient_type)
    chunks = chunks or lamb_kernel.Chunks.of(sizes, device)
    addresses_T4 = torch.tensor(addresses)
    addresses_5T = torch.cat([addresses_T4.T, torch.tensor([sizes])]).to(device)
    numbers_10T = torch.tensor(numbers, dtype=torch.float32).T.contiguous().to(device)
    squares_2T = lamb_kernel.moments_and_squares(addresses_5T, numbers_10T, chunks, types)
    for group in kind.groups:
        dist.all_reduce(squares_2T, group=group)
    lamb_kernel.apply_updates(addresses_5T, numbers_10T, squares_2T, chunks, types)
    return chunks


def _numbers_of(group: Mapping[str, Any], adapts: bool, count: float) -> Numbers:
    from pe_dense.alignment.lamb_kernel import Numbers

    beta1, beta2 = group["betas"]
    return Numbers(
        lr=group["lr"],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        beta1=beta1,
        beta2=beta2,
        rest1=1 - beta1,
        rest2=1 - beta2,
        scale1=1 / (1 - beta1**count),
        scale2=1 / (1 - beta2**count),
        adapts=float(adapts),
    )


def _shard_groups(tensors: Sequence[Tensor]) -> tuple[Any, ...] | None:
    """Process groups over which the shards of a tensor lie; None if they do not just add up."""
    if not all(isinstance(tensor, DTensor) for tensor in tensors):
        return None
    mesh, placements = tensors[0].device_mesh, tensors[0].placements
    if any(t.device_mesh != mesh or t.placements != placements for t in tensors):
        return None
    if not all(placement.is_shard() or placement.is_replicate() for placement in placements):
        return None
    return tuple(mesh.get_group(i) for i, place in enumerate(placements) if place.is_shard())
