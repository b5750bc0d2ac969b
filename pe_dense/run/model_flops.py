"""Operations that a model needs, and what a GPU could do in the time.

A multiplication and an addition are two operations. Counted are matrix products, convolutions and
attention, forward and backward, as torch's table has them (`torch.utils.flop_counter`); what a
backward pass computes a second time to save memory is not the model's need and does not count
(PaLM, arXiv:2204.02311, appendix B: model FLOPs, not hardware FLOPs).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

# Dense bfloat16 operations per second, without sparsity. Source: NVIDIA's data sheets of A100, A30,
# A10, L4, L40S, H100, H200 and B200. Names as CUDA gives them, whole: a part of a GPU (MIG) has
# another, and is not known here.
PEAKS: dict[str, float] = {
    r"NVIDIA A100-(SXM4|PCIE)-(40|80)GB|NVIDIA A100 80GB PCIe": 312e12,
    r"NVIDIA A30": 165e12,
    r"NVIDIA A10": 125e12,
    r"NVIDIA L4": 121e12,
    r"NVIDIA L40S": 362e12,
    r"NVIDIA H100 80GB HBM3|NVIDIA H100 SXM5": 989e12,
    r"NVIDIA H100 PCIe": 756e12,
    r"NVIDIA H100 NVL|NVIDIA H200 NVL": 835e12,
    r"NVIDIA H200|NVIDIA GH200 480GB": 989e12,
    r"NVIDIA B200": 2250e12,
}


def peak_of(name: str) -> float | None:
    """bfloat16 operations per second of a GPU by its name; None where that is not known.

    Example:
        >>> peak_of("NVIDIA H100 80GB HBM3"), peak_of("NVIDIA H100 80GB HBM3 MIG 1g.10gb")
        (989000000000000.0, None)
    """
    found = [peak for pattern, peak in PEAKS.items() if re.fullmatch(pattern, name)]
    return found[0] if found else None


_DEVICE = torch.ops.prim.device.default  # must not be taken apart


class ModelFlops(TorchDispatchMode):
    """Inside, counts the operations of what runs, but for what is computed again.

    Attributes:
        total: Operations so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one operation and count it."""
        kwargs = kwargs or {}
        packet = getattr(func, "_overloadpacket", None)
        formula = flop_registry.get(packet)
        if formula is None and hasattr(func, "decompose") and func is not _DEVICE:
            with self:  # its parts come here, as they would without inference mode
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        if formula is not None and not _is_computed_again():
            self.total += int(formula(*args, **kwargs, out_val=result))
        return result


def _is_computed_again() -> bool:
    """Whether this is a forward pass within a backward pass: that has no gradients itself."""
    return torch._C._current_graph_task_id() != -1 and torch.is_grad_enabled()
