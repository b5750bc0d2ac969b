"""Losses of spatial alignment: tokens like a semantic teacher's, pairs like a locality teacher's.

Source: Perception Encoder (arXiv:2504.13181), section on spatial alignment, equations 2 and 3. The
paper's first version leaves out the minus sign of the token loss; its authors confirm it
(facebookresearch/perception_models, issue 43). The training code is not released.

Both losses work in float32 at least, also under autocast. A token of norm 0 has a cosine of 0 with
every token, itself included, and a gradient of 0. A nan in either input makes the loss nan.

Shape legend: B images, G of them that pass together, N tokens, C student channels, D teacher
channels; R and K tokens of the row and the column block.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pe_dense.kernels import use_kernels

TEMPERATURE = 20.0
# Tokens along one side of a block; on the CPU its matrices should stay in the caches.
BLOCK_SIZE = {"cpu": 256, "default": 2048}
# Pairs of a block, of all images that pass together: on a GPU enough to fill it (two matrices of
# 32 MB in float32), on the CPU one image.
BLOCK_PAIRS = {"cpu": 1, "default": 2**23}


def token_cosine_loss(student_BNC: Tensor, teacher_BNC: Tensor) -> Tensor:
    """Negative mean cosine of every student token with the teacher's token at its place (L_core).

    Args:
        student_BNC: Tokens (B, N, C), any floating type.
        teacher_BNC: Frozen tokens of the same shape; no gradient flows to them.

    Returns:
        A scalar from -1 (same directions) to 1, float32 or float64.

    Raises:
        ValueError: If shapes differ, an axis is empty or a tensor is not floating.
    """
    dtype = _check_tokens(student_BNC, teacher_BNC)
    if student_BNC.shape != teacher_BNC.shape:
        raise ValueError(
            f"the student has {student_BNC.shape[2]} channels and the teacher "
            f"{teacher_BNC.shape[2]}; project the student to the teacher's width first"
        )
    student_BNC, teacher_BNC = student_BNC.to(dtype), teacher_BNC.detach().to(dtype)
    dot_BN = (student_BNC * teacher_BNC).sum(-1)
    cosine_BN = dot_BN * _inverse_norm(student_BNC, dtype) * _inverse_norm(teacher_BNC, dtype)
    return -cosine_BN.mean()


def pairwise_similarity_loss(
    student_BNC: Tensor,
    teacher_BND: Tensor,
    temperature: float = TEMPERATURE,
    count_diagonal: bool = True,
    block_size: int | None = None,
) -> Tensor:
    """Mean squared difference of the student's and the sharpened teacher's token cosines (L_loc).

    The mean over images and pairs i, j of (cos(S_i, S_j) - exp(t (cos(T_i, T_j) - 1)))^2, as
    `plain_pairwise_loss` makes it of whole matrices. Here only one block of pairs exists at a time,
    so that memory beside the gradient grows with the block and not with N^2. Both matrices are
    symmetric: blocks below the diagonal are never computed.

    The gradient is made in the forward pass and handed over by the first backward pass; a second
    one through a retained graph computes it again. Double backward is refused.

    Args:
        student_BNC: Tokens (B, N, C), any floating type.
        teacher_BND: Frozen tokens (B, N, D), such as D mask logits; no gradient flows to them.
        temperature: t, of the teacher only; 0 makes every target 1.
        count_diagonal: Whether pairs i = j count, as in the paper. They differ by 0 (but for tokens
            of norm 0), so leaving them out changes the divisor from N^2 to N (N - 1).
        block_size: Tokens along one side of a block; None: what suits the device. It changes the
            result by rounding only.

    Returns:
        A scalar, 0 or more, float32 or float64.

    Raises:
        ValueError: If shapes do not fit, an axis is empty, a tensor is not floating, the
            temperature is negative or the block empty, or no pair counts.
    """
    dtype = _check_tokens(student_BNC, teacher_BND)
    _check_temperature(temperature)
    batch, num_tokens, _ = student_BNC.shape
    if num_tokens == 1 and not count_diagonal:
        raise ValueError("one token has no pairs but itself; set count_diagonal or pass more")
    if block_size is None:
        block_size = BLOCK_SIZE.get(student_BNC.device.type, BLOCK_SIZE["default"])
    if block_size < 1:
        raise ValueError(f"block_size {block_size} is not positive; None picks one")
    pairs = num_tokens * (num_tokens if count_diagonal else num_tokens - 1)
    return _PairwiseSimilarity.apply(
        student_BNC,
        teacher_BND.detach(),
        _Settings(temperature, count_diagonal, block_size, 1 / (batch * pairs), dtype),
        student_BNC.requires_grad and torch.is_grad_enabled(),
    )


def plain_pairwise_loss(
    student_BNC: Tensor,
    teacher_BND: Tensor,
    temperature: float = TEMPERATURE,
    count_diagonal: bool = True,
) -> Tensor:
    """`pairwise_similarity_loss` as the formula is written, from (B, N, N) matrices."""
    target_BNN = _cosines(teacher_BND.detach()).sub_(1).mul_(temperature).exp_()
    cosine_BNN = _cosines(student_BNC)
    if not count_diagonal:
        others_NN = ~torch.eye(student_BNC.shape[1], dtype=torch.bool, device=student_BNC.device)
        cosine_BNN, target_BNN = cosine_BNN[:, others_NN], target_BNN[:, others_NN]
    return F.mse_loss(cosine_BNN, target_BNN)


def _cosines(tokens_BNC: Tensor) -> Tensor:
    """(B, N, N) of all pairs of tokens."""
    unit_BNC = F.normalize(tokens_BNC, dim=-1)
    return unit_BNC @ unit_BNC.mT


class _Settings(NamedTuple):
    """What the sum over blocks needs beside the tokens."""

    temperature: float
    count_diagonal: bool
    block_size: int
    weight: float  # of one pair in the mean
    dtype: torch.dtype  # to compute in


class _PairwiseSimilarity(torch.autograd.Function):
    """The loss; its gradient is made on the way and only scaled later."""

    @staticmethod
    def forward(
        ctx, student_BNC: Tensor, teacher_BND: Tensor, settings: _Settings, wants_grad: bool
    ) -> Tensor:
        loss, ctx.grad_BNC = _loss_and_grad(student_BNC, teacher_BND, settings, wants_grad)
        ctx.settings = settings
        ctx.save_for_backward(student_BNC, teacher_BND)
        return loss

    @staticmethod
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor, None, None, None]:
        # The student is an argument so that its requires_grad is seen: with grad_output alone, a
        # gradient made with create_graph would silently pass for a constant.
        student_BNC, teacher_BND = ctx.saved_tensors
        return _hand_over_grad(ctx, grad_output, student_BNC, teacher_BND)


@once_differentiable
def _hand_over_grad(
    ctx, grad_output: Tensor, student_BNC: Tensor, teacher_BND: Tensor
) -> tuple[Tensor, None, None, None]:
    """The gradient of the forward pass, scaled in place: a copy would be as large again."""
    grad_BNC, ctx.grad_BNC = ctx.grad_BNC, None
    if grad_BNC is None:
        grad_BNC = _loss_and_grad(student_BNC, teacher_BND, ctx.settings, True)[1]
    return grad_BNC.mul_(grad_output).to(student_BNC.dtype), None, None, None


def _loss_and_grad(
    student_BNC: Tensor, teacher_BND: Tensor, settings: _Settings, wants_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """The loss and, if wanted, its gradient (B, N, C) with respect to the student."""
    grad_BNC = None
    if wants_grad:
        grad_BNC = torch.zeros(
            student_BNC.shape, dtype=settings.dtype, device=student_BNC.device
        )  # not zeros_like: whatever the student's strides, rows of the gradient lie together
    total = torch.zeros((), dtype=torch.float64, device=student_BNC.device)
    limit = BLOCK_PAIRS.get(student_BNC.device.type, BLOCK_PAIRS["default"])
    side = min(settings.block_size, student_BNC.shape[1])
    together = max(1, min(len(student_BNC), limit // side**2))
    with torch.autocast(student_BNC.device.type, enabled=False):
        for start in range(0, len(student_BNC), together):
            images = slice(start, start + together)
            grad_GNC = None if grad_BNC is None else grad_BNC[images]
            total += _images_sum(student_BNC[images], teacher_BND[images], settings, grad_GNC)
    return (total * settings.weight).to(settings.dtype), grad_BNC


def _images_sum(
    student_GNC: Tensor, teacher_GND: Tensor, settings: _Settings, grad_GNC: Tensor | None
) -> Tensor:
    """Sum over the pairs of some images, unweighted; adds the weighted gradient to `grad_GNC`.

    With E the differences and n the norms, d sum(E^2) / d S_i = 4 (H S)_i minus its part along
    S_i, where H_ij = E_ij / (n_i n_j). Tokens are never normalised, which would copy them.
    """
    dtype = settings.dtype
    student_GN = _inverse_norm(student_GNC, dtype)
    teacher_GN = _inverse_norm(teacher_GND, dtype)
    sums = []
    blocks = _blocks(student_GNC.shape[1], settings.block_size)
    for first, rows in enumerate(blocks):
        student_GRC, teacher_GRD = student_GNC[:, rows].to(dtype), teacher_GND[:, rows].to(dtype)
        for columns in blocks[first:]:
            diagonal = columns is rows
            student_GKC = student_GRC if diagonal else student_GNC[:, columns].to(dtype)
            teacher_GKD = teacher_GRD if diagonal else teacher_GND[:, columns].to(dtype)
            error_GRK = student_GRC @ student_GKC.mT
            squares = _errors_of(
                error_GRK,
                teacher_GRD @ teacher_GKD.mT,
                (student_GN, teacher_GN),
                (rows, columns),
                settings,
                grad_GNC is not None,
            )
            sums.append(squares if diagonal else 2 * squares)
            if grad_GNC is None:
                continue
            _add_product(grad_GNC[:, rows], error_GRK, student_GKC)
            if not diagonal:
                _add_product(grad_GNC[:, columns], error_GRK.mT, student_GRC)
    if grad_GNC is not None:
        for rows in blocks:
            student_GRC, grad_GRC = student_GNC[:, rows].to(dtype), grad_GNC[:, rows]
            along_GR = torch.einsum("grc,grc->gr", grad_GRC, student_GRC)
            along_GR *= student_GN[:, rows].square()
            grad_GRC.addcmul_(along_GR[..., None], student_GRC, value=-1)
    return torch.cat(sums).sum(dtype=torch.float64)


def _errors_of(
    product_GRK: Tensor,
    teacher_product_GRK: Tensor,
    inverses_GN: tuple[Tensor, Tensor],
    block: tuple[slice, slice],
    settings: _Settings,
    wants_grad: bool,
) -> Tensor:
    """Squared errors of a block in one sum or several, (sums,); the product becomes 4 w H.

    Args:
        product_GRK: S_i . S_j of the block's rows and columns; overwritten.
        teacher_product_GRK: The same of the teacher; overwritten.
        inverses_GN: 1 / norm of the student's and the teacher's tokens.
        block: Rows and columns.
        settings: Of the loss.
        wants_grad: Whether H is wanted.
    """
    (rows, columns), t = block, settings.temperature
    skips_diagonal = rows is columns and not settings.count_diagonal
    scale = 4 * settings.weight if wants_grad else None
    if product_GRK.dtype == torch.float32 and use_kernels(product_GRK):
        from pe_dense.alignment.pairwise_kernel import errors_in_place

        return errors_in_place(
            product_GRK, teacher_product_GRK, *inverses_GN, *block, t, scale, skips_diagonal
        )
    student_GN, teacher_GN = inverses_GN
    target_GRK = teacher_product_GRK.mul_(t * teacher_GN[:, rows, None])
    target_GRK.mul_(teacher_GN[:, None, columns]).sub_(t).exp_()
    error_GRK = product_GRK.mul_(student_GN[:, rows, None])
    error_GRK.mul_(student_GN[:, None, columns]).sub_(target_GRK)
    if skips_diagonal:
        error_GRK.diagonal(dim1=1, dim2=2).zero_()
    flat = error_GRK.view(-1)
    squares = torch.dot(flat, flat)
    if wants_grad:
        error_GRK.mul_(scale * student_GN[:, rows, None]).mul_(student_GN[:, None, columns])
    return squares[None]


def _add_product(sum_GRC: Tensor, left_GRK: Tensor, right_GKC: Tensor) -> None:
    """Adds left @ right, without a copy of the sum; a batch of one is a plain product."""
    if len(sum_GRC) == 1:
        sum_GRC[0].addmm_(left_GRK[0], right_GKC[0])
    else:
        sum_GRC.baddbmm_(left_GRK, right_GKC)


def _blocks(num_tokens: int, block_size: int) -> list[slice]:
    """Slices of nearly equal length that cover all tokens.

    Example:
        >>> _blocks(7, 3)
        [slice(0, 3, None), slice(3, 6, None), slice(6, 7, None)]
    """
    num_blocks = -(-num_tokens // block_size)
    length = -(-num_tokens // num_blocks)
    return [slice(i, min(i + length, num_tokens)) for i in range(0, num_tokens, length)]


def _inverse_norm(tokens: Tensor, dtype: torch.dtype) -> Tensor:
    """1 / |x| over the last axis, 0 (with a gradient of 0) for a token of norm 0."""
    norm = torch.linalg.vector_norm(tokens, dim=-1, dtype=dtype)
    is_zero = norm == 0
    return torch.where(is_zero, 0.0, torch.where(is_zero, 1.0, norm).reciprocal())


def _check_tokens(student_BNC: Tensor, teacher_BND: Tensor) -> torch.dtype:
    """The type to compute in; refuses what are not tokens of the same places."""
    shapes = f"student {tuple(student_BNC.shape)} and teacher {tuple(teacher_BND.shape)}"
    for tokens in (student_BNC, teacher_BND):
        if tokens.ndim != 3 or not tokens.is_floating_point():
            raise ValueError(
                f"{shapes} of {student_BNC.dtype} and {teacher_BND.dtype} are not floating "
                "(batch, tokens, channels); flatten maps and move the channels last"
            )
        if not tokens.numel():
            raise ValueError(f"{shapes} hold nothing; pass at least one image and one token")
    if student_BNC.shape[:2] != teacher_BND.shape[:2]:
        raise ValueError(f"{shapes} differ in images or tokens; resize the teacher's map first")
    return torch.promote_types(
        torch.promote_types(student_BNC.dtype, teacher_BND.dtype), torch.float32
    )


def _check_temperature(temperature: float) -> None:
    if not temperature >= 0:
        raise ValueError(f"temperature {temperature} is negative or nan; the paper takes 20")


@MODELS.register_module()
class TokenCosineLoss(nn.Module):
    """`loss_weight` times `token_cosine_loss`; the paper's weight is 1."""

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, student_BNC: Tensor, teacher_BNC: Tensor) -> Tensor:
        """Scalar loss of two (B, N, C) token tensors."""
        return self.loss_weight * token_cosine_loss(student_BNC, teacher_BNC)


@MODELS.register_module()
class PairwiseSimilarityLoss(nn.Module):
    """`loss_weight` times `pairwise_similarity_loss`; the paper's weight is 1.

    Args:
        loss_weight: Factor of the loss.
        temperature: t of the teacher's exp(t (cos - 1)).
        count_diagonal: Whether a token's pair with itself counts.
        block_size: Tokens along one side of a block; None: what suits the device.

    Raises:
        ValueError: If the temperature is negative.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        temperature: float = TEMPERATURE,
        count_diagonal: bool = True,
        block_size: int | None = None,
    ) -> None:
        super().__init__()
        _check_temperature(temperature)
        self.loss_weight, self.temperature = loss_weight, temperature
        self.count_diagonal, self.block_size = count_diagonal, block_size

    def forward(self, student_BNC: Tensor, teacher_BND: Tensor) -> Tensor:
        """Scalar loss of student (B, N, C) and teacher (B, N, D) tokens."""
        return self.loss_weight * pairwise_similarity_loss(
            student_BNC, teacher_BND, self.temperature, self.count_diagonal, self.block_size
        )
