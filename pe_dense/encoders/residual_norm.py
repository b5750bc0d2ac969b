"""When a tower in half precision runs with fewer passes over memory than its layers are written in.

Without a gradient and without a compiler, on a GPU: a residual sum and the norm behind it are one
kernel (`residual_norm_kernel`), the MLP's activation belongs to the product before it, and patches
are embedded by a product. With a gradient, `compile_blocks` does the like.

The activation in the product is GELU's tanh form of sums in float32. It is at most 5e-4 from the
exact form, less than bfloat16 rounds the sums by where the exact form takes them from memory, which
is why only bfloat16 takes this path.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pe_dense.kernels import use_kernels


def runs_fused(x: Tensor, weight: Tensor) -> bool:
    """Whether a module with this weight takes the path of fewer passes for an input."""
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        return False
    if not (x.dtype == weight.dtype == torch.bfloat16 and x.is_contiguous()):
        return False
    return not torch.is_autocast_enabled(x.device.type) and use_kernels(x)


def normed(x_BNC: Tensor, norm: nn.LayerNorm) -> Tensor:
    """The layer norm of a tensor."""
    from pe_dense.encoders.residual_norm_kernel import sum_and_norm

    return sum_and_norm(x_BNC, None, None, norm.weight, norm.bias, norm.eps, wants_sum=False)[1]


def added(
    x_BNC: Tensor, branch_BNC: Tensor, gain_C: Tensor | None, norm: nn.LayerNorm | None = None
) -> tuple[Tensor, Tensor | None]:
    """The sum x + gain * branch, and the layer norm of the sum."""
    from pe_dense.encoders.residual_norm_kernel import sum_and_norm

    weight, bias, eps = (None, None, 0.0) if norm is None else (norm.weight, norm.bias, norm.eps)
    return sum_and_norm(x_BNC, branch_BNC.contiguous(), gain_C, weight, bias, eps)[:2]


def linear_gelu(x: Tensor, layer: nn.Module) -> Tensor:
    """GELU of a linear layer, (..., C) -> (..., hidden); an adapted one is more than its weight."""
    if type(layer) is not nn.Linear or not runs_fused(x, layer.weight):
        return F.gelu(layer(x))
    rows = x.flatten(0, -2)
    hidden = torch._addmm_activation(layer.bias, rows, layer.weight.T, use_gelu=True)
    return hidden.unflatten(0, x.shape[:-1])


def patches_by_product(images_B3HW: Tensor, conv: nn.Conv2d) -> Tensor:
    """A convolution whose stride is its side: (B, 3, H, W) -> (B, C, h, w)."""
    side = conv.kernel_size[0]
    b, _, h, w = images_B3HW.shape
    cut = images_B3HW.unflatten(3, (w // side, side)).unflatten(2, (h // side, side))
    patches_BNK = cut.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, conv.weight[0].numel())
    tokens_BNC = patches_BNK @ conv.weight.flatten(1).T
    return tokens_BNC.transpose(1, 2).unflatten(2, (h // side, w // side))
