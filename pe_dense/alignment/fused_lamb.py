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

from pe_dense.kernels import use_kernels

if TYPE_CHECKING:
    from pe_dense.alignment.lamb_kernel import Chunks, Numbers

ALIGNMENT = 16  # bytes, at which the kernels read
Layouts = dict[Hashable, "Chunks"]  # by sizes of tensors; they stay the same from step to step


class Item(NamedTuple):
    """One tensor, or this process's shard of one, and how it steps."""

    parameter: Tensor
    gradient: Tensor
    first: Tensor
    second: Tensor
    numbers: Numbers
    groups: tuple[Any, ...]  # process groups over which squares are added up

    @property
    def kind(self) -> Hashable:
        """Items of one kind go together."""
        names = tuple(group.group_name for group in self.groups)
        return self.parameter.device, self.parameter.dtype, self.gradient.dtype, names


def item_of(
    parameter: Tensor, state: Mapping[str, Any], group: Mapping[str, Any], adapts: bool
) -> Item | None:
    """What the kernels need of a parameter; None where they do not apply and the reference must.

    They need CUDA, Triton, floats of at most 32 bits, memory that is contiguous and aligned, and
    shards that add up to the tensor.
    """
    if not use_kernels(parameter):
        return None
    whole = (parameter, parameter.grad, state["exp_avg"], state["exp_avg_sq"])
    groups = _shard_groups(whole)
    if groups is None:
        return None
    parts = [_local(tensor.detach()) for tensor in whole]
    from pe_dense.alignment.lamb_kernel import DTYPES, Numbers

    fits = parts[0].dtype in DTYPES and parts[1].dtype in DTYPES
    for part in parts:
        fits &= part.shape == parts[0].shape and part.is_contiguous()
        fits &= part.data_ptr() % ALIGNMENT == 0 and part.device == parts[0].device
    if not fits or parts[2].dtype != torch.float32 or parts[3].dtype != torch.float32:
        return None
    (beta1, beta2), count = group["betas"], state["step"].item()
    numbers = Numbers(
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
    return Item(*parts, numbers, groups)


def step(items: Sequence[Item], layouts: Layouts) -> Layouts:
    """Take the step of all items; returns the layouts in use, for the next step."""
    from pe_dense.alignment import lamb_kernel

    kinds: dict[Hashable, list[Item]] = {}
    for item in items:
        kinds.setdefault(item.kind, []).append(item)
    used: Layouts = {}
    for kind, members in kinds.items():
        device = members[0].parameter.device
        sizes = tuple(item.parameter.numel() for item in members)
        key = (kind, sizes)
        chunks = used[key] = layouts.get(key) or lamb_kernel.Chunks.of(sizes, device)
        tensors = zip(*(item[:4] for item in members), strict=True)
        rows = [[tensor.data_ptr() for tensor in row] for row in tensors]
        addresses_5T = torch.tensor([*rows, sizes]).to(device)
        numbers = list(zip(*(item.numbers for item in members), strict=True))
        numbers_10T = torch.tensor(numbers, dtype=torch.float32).to(device)
        types = (members[0].parameter.dtype, members[0].gradient.dtype)
        squares_2T = lamb_kernel.moments_and_squares(addresses_5T, numbers_10T, chunks, types)
        for group in members[0].groups:
            dist.all_reduce(squares_2T, group=group)
        lamb_kernel.apply_updates(addresses_5T, numbers_10T, squares_2T, chunks, types)
    return used


def _local(tensor: Tensor) -> Tensor:
    """This process's part of a DTensor, sharing memory; another tensor as it is."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _shard_groups(tensors: Sequence[Tensor]) -> tuple[Any, ...] | None:
    """Process groups over which the shards of a tensor lie; None if they do not just add up."""
    if not any(hasattr(tensor, "to_local") for tensor in tensors):
        return ()
    if not all(hasattr(tensor, "to_local") for tensor in tensors):
        return None
    mesh, placements = tensors[0].device_mesh, tensors[0].placements
    if any(t.device_mesh != mesh or t.placements != placements for t in tensors):
        return None
    if not all(placement.is_shard() or placement.is_replicate() for placement in placements):
        return None
    return tuple(mesh.get_group(i) for i, place in enumerate(placements) if place.is_shard())
