"""A linear map from the features of one encoder into the space of texts, in closed form.

Shape legend: N pairs, C width of the features, D width of the embedding, B images, h w patch grid.

A pair is a picture: the mean over its patches of the features of the encoder, and the embedding of
the same picture by the vision tower that belongs to the texts, of unit length. The map is the ridge
regression from one to the other, and is then applied to every patch by itself. A linear map may
change places with a mean: what the patches of a picture are mapped to has the fitted embedding as
its mean.

Whole pictures are the pairs, and not patches, because whole pictures are what the tower learned to
embed. Its patches would have to be read off it first, and the patches of PE Core through its pool
are no good targets: labels from them have 0 to 2 mIoU (issue 117 of
facebookresearch/perception_models).

Source: a linear layer from the picture's representation in any vision model to CLIP's, fitted by
squared error without labels, is that of Text-to-Concept (arXiv:2305.06386); written from the
description. Deviations: ridge in closed form instead of SGD, on means of patches instead of the
pooled output, targets of unit length, and the map is applied to patches, which the paper does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Regularisers as shares of the mean variance of a feature.
STRENGTHS = tuple(10.0**power for power in range(-6, 4))


class LinearMap(NamedTuple):
    """x -> x @ weight_CD + offset_D.

    Attributes:
        weight_CD: Float32.
        offset_D: Float32.
    """

    weight_CD: Tensor
    offset_D: Tensor


class Fitted(NamedTuple):
    """A map and how it was chosen.

    Attributes:
        map: Fitted on all pairs.
        strength: The regulariser, a share of the mean variance of a feature.
        held_out: Regulariser -> mean cosine of mapped and true embeddings of held-out pairs, by
            maps that were fitted on the others.
        constant: The same of the mean embedding of the other pairs, which sees no features.
        shuffled: The same of a map that was fitted, at this strength, on shuffled pairs.
    """

    map: LinearMap
    strength: float
    held_out: dict[float, float]
    constant: float
    shuffled: float


def ridge(x_NC: Tensor, y_ND: Tensor, strength: float) -> LinearMap:
    """The map of least squared error plus a penalty on its weights, none on the offset.

    Args:
        x_NC: Features.
        y_ND: What they are to become.
        strength: Penalty in shares of the mean variance of a feature; above 0.

    Raises:
        ValueError: If the features of all pairs are the same.
    """
    x_NC, y_ND = x_NC.double(), y_ND.double()
    mean_C, mean_D = x_NC.mean(0), y_ND.mean(0)
    centred_NC = x_NC - mean_C
    cov_CC = centred_NC.T @ centred_NC / len(x_NC)
    scale = cov_CC.diagonal().mean()
    if not float(scale) > 0.0:
        raise ValueError("all pictures have the same features, so that nothing can be fitted")
    cov_CD = centred_NC.T @ (y_ND - mean_D) / len(x_NC)
    cov_CC += strength * scale * torch.eye(len(cov_CC), dtype=torch.float64)
    weight_CD = torch.linalg.solve(cov_CC, cov_CD)
    return LinearMap(weight_CD.float(), (mean_D - mean_C @ weight_CD).float())


def fit_map(
    x_NC: Tensor,
    y_ND: Tensor,
    is_held_N: Tensor,
    strengths: Sequence[float] = STRENGTHS,
    shuffle_seed: int | None = None,
) -> Fitted:
    """Fit a map with the regulariser that is best on held-out pairs, then on all pairs.

    Args:
        x_NC: Means of features, on the CPU.
        y_ND: Embeddings, of any length.
        is_held_N: Pairs that choose the regulariser.
        strengths: To choose among.
        shuffle_seed: Not None: the control. The map that is given back is fitted, with the chosen
            regulariser, on features with the embeddings of other pairs.

    Raises:
        ValueError: If shapes do not fit, a number is not finite, or either part has less than two
            pairs.
    """
    if x_NC.ndim != 2 or y_ND.ndim != 2 or not len(x_NC) == len(y_ND) == len(is_held_N):
        raise ValueError(
            f"features {tuple(x_NC.shape)} and embeddings {tuple(y_ND.shape)} are no pairs; pass "
            "(N, C) and (N, D)"
        )
    for what, values in (("features", x_NC), ("embeddings", y_ND)):
        if not bool(torch.isfinite(values).all()):
            raise ValueError(f"{what} are not finite; the weights are broken")
    kept_N = ~is_held_N
    if min(int(is_held_N.sum()), int(kept_N.sum())) < 2:
        raise ValueError(
            f"{int(kept_N.sum())} pairs to fit and {int(is_held_N.sum())} to choose the "
            "regulariser are too few; give more pictures"
        )
    y_ND = F.normalize(y_ND.double(), dim=-1)
    held_x, held_y = x_NC[is_held_N], y_ND[is_held_N]
    held_out = {
        strength: mean_cosine(ridge(x_NC[kept_N], y_ND[kept_N], strength), held_x, held_y)
        for strength in strengths
    }
    chosen = max(held_out, key=lambda strength: held_out[strength])
    order_N = shuffled_order(len(y_ND), 0 if shuffle_seed is None else shuffle_seed)
    control = ridge(x_NC[kept_N], y_ND[order_N][kept_N], chosen)
    nothing = LinearMap(x_NC.new_zeros(x_NC.shape[1], y_ND.shape[1]), y_ND[kept_N].mean(0).float())
    target_ND = y_ND if shuffle_seed is None else y_ND[order_N]
    return Fitted(
        map=ridge(x_NC, target_ND, chosen),
        strength=chosen,
        held_out=held_out,
        constant=mean_cosine(nothing, held_x, held_y),
        shuffled=mean_cosine(control, held_x, held_y),
    )


def shuffled_order(count: int, seed: int) -> Tensor:
    """A permutation in which nothing keeps its place, always the same for a seed."""
    order_N = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    found_N = torch.empty_like(order_N)
    found_N[order_N] = order_N.roll(1)  # one cycle through all
    return found_N


def mean_cosine(mapping: LinearMap, x_NC: Tensor, y_ND: Tensor) -> float:
    """Mean cosine of mapped features with embeddings; a zero vector has cosine 0."""
    found_ND = x_NC.double() @ mapping.weight_CD.double() + mapping.offset_D.double()
    return float(F.cosine_similarity(found_ND, y_ND.double(), dim=-1).mean())


def mapped_patches(mapping: LinearMap, features_BChw: Tensor) -> Tensor:
    """(B, D, h, w) of unit length, float32: every patch by itself."""
    found_BhwD = features_BChw.float().movedim(1, -1) @ mapping.weight_CD + mapping.offset_D
    return F.normalize(found_BhwD, dim=-1).movedim(-1, 1)
