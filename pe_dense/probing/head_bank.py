"""Many linear heads on the features of one encoder: layers x settings x seeds in one module.

Shape legend: B images, C width of a source, P heads of a source, K outputs, h w token grid.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pe_dense.kernels import use_kernels

INIT_STD = 0.01  # that of mmseg's decode heads, which DINOv2's linear evaluation uses

Source = int | Sequence[int]


@dataclass(frozen=True)
class HeadSetting:
    """One head of every source: how it is optimised, and the seed of its first weights.

    With `half_length` its schedule ends after half of the steps, see half_length.py.
    """

    lr: float
    weight_decay: float
    seed: int
    half_length: bool = False


def head_settings(
    lrs: Sequence[float], weight_decays: Sequence[float], seeds: Sequence[int]
) -> tuple[HeadSetting, ...]:
    """All combinations, seeds varying fastest: head = (lr * len(wds) + wd) * len(seeds) + seed.

    Raises:
        ValueError: If a list is empty, repeats a value or holds a negative number.

    Example:
        >>> [(s.lr, s.seed) for s in head_settings([1e-2, 1e-3], [0.0], [0, 1])]
        [(0.01, 0), (0.01, 1), (0.001, 0), (0.001, 1)]
    """
    for name, values in (("lrs", lrs), ("weight_decays", weight_decays), ("seeds", seeds)):
        if not values or len(set(values)) < len(values) or min(values) < 0:
            raise ValueError(
                f"{name} is {list(values)}; give at least one value, none negative, none twice"
            )
    return tuple(HeadSetting(*of) for of in itertools.product(lrs, weight_decays, seeds))


def source_name(layers: Sequence[int]) -> str:
    """'7' for one layer, '8+9+10+11' for a concatenation.

    Example:
        >>> source_name((8, 9))
        '8+9'
    """
    return "+".join(map(str, layers))


def resolve_sources(sources: Sequence[Source] | str, depth: int) -> tuple[tuple[int, ...], ...]:
    """Layers of every source as 0..depth-1; 'all' is every layer alone.

    Raises:
        ValueError: If a layer lies outside the encoder, a source is empty or there twice, or
            another word stands there.

    Example:
        >>> resolve_sources([0, (-2, -1)], depth=12)
        ((0,), (10, 11))
    """
    if isinstance(sources, str):
        if sources != "all":
            raise ValueError(f"sources is {sources!r}; use 'all' or a list of layers")
        sources = range(depth)
    found: list[tuple[int, ...]] = []
    for source in sources:
        layers = (source,) if isinstance(source, int) else tuple(source)
        for layer in layers:
            if not -depth <= layer < depth:
                raise ValueError(
                    f"layer {layer} of the probed layers is outside an encoder of {depth} blocks; "
                    f"use {-depth}..{depth - 1} (0-based, -1 is the last block)"
                )
        resolved = tuple(layer % depth for layer in layers)
        if not resolved or resolved in found:
            raise ValueError(
                f"the probed layers {list(sources)} hold an empty or repeated entry; name each "
                "layer or tuple of layers once"
            )
        found.append(resolved)
    if not found:
        raise ValueError("no layer is probed; name at least one, for example [-1]")
    return tuple(found)


class HeadBank(nn.Module):
    """Independent linear heads; all heads of a source are one matrix product.

    A head is batch norm followed by one linear layer. Batch statistics depend on the features
    only, so every head of a layer shares them, and a concatenation shares those of its layers: each
    layer is normalised once. The norm has no scale and shift of its own: W (g * x + b) + c is again
    one linear layer of x, so that they add nothing to what a head can represent, and only a shared
    pair would tie heads together. Where they are trained and decayed they change the path of the
    optimiser; this head has one pair of parameters less than DINOv2's.

    Args:
        sources: Layers (0..depth-1) of every source; several are concatenated.
        width: C of one layer.
        num_outputs: K, classes or depth bins.
        settings: P heads that every source gets.
        batch_norm: Whether features are normalised; without, a head is one linear layer.

    Attributes:
        weights: One (P, K, C) parameter a source: outputs before inputs as in `nn.Linear`, so
            that (P * K, C) is a view.
        biases: One (P, K) parameter a source.

    First weights depend on the seed of a head and the width of its source alone, not on what else
    is in the bank: N(0, 0.01), biases 0.

    Source: BNHead of DINOv2 (arXiv:2304.07193, linear evaluation on mmseg).
    """

    def __init__(
        self,
        sources: Sequence[tuple[int, ...]],
        width: int,
        num_outputs: int,
        settings: Sequence[HeadSetting],
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        self.sources, self.settings = tuple(map(tuple, sources)), tuple(settings)
        self.num_outputs = num_outputs
        self.layers = tuple(sorted({layer for source in self.sources for layer in source}))
        self.norms = nn.ModuleDict(
            {
                str(layer): nn.BatchNorm2d(width, affine=False) if batch_norm else nn.Identity()
                for layer in self.layers
            }
        )
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for source in self.sources:
            size = num_outputs, width * len(source)
            drawn = {s.seed: first_weights(*size, s.seed) for s in self.settings}
            self.weights.append(nn.Parameter(torch.stack([drawn[s.seed] for s in self.settings])))
            self.biases.append(nn.Parameter(torch.zeros(len(self.settings), num_outputs)))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sources, in order."""
        return tuple(map(source_name, self.sources))

    def forward(self, maps: dict[int, Tensor]) -> list[Tensor]:
        """Layer -> (B, C, h, w) features; returns token logits (B, P, K, h, w) of every source.

        `maps` is emptied: only normalised features are kept for the backward pass.
        """
        return list(self.each(maps))

    def each(self, maps: dict[int, Tensor]) -> Iterator[Tensor]:
        """The same one after the other: logits that a caller has done with take no memory."""
        normalised = {layer: self.norms[str(layer)](maps.pop(layer)) for layer in self.layers}
        for source, weight_PKC, bias_PK in zip(
            self.sources, self.weights, self.biases, strict=True
        ):
            parts = [normalised[layer] for layer in source]
            features = parts[0] if len(parts) == 1 else torch.cat(parts, 1)  # (B, C, h, w)
            yield _token_logits(features, weight_PKC, bias_PK)


def _token_logits(features_BChw: Tensor, weight_PKC: Tensor, bias_PK: Tensor) -> Tensor:
    """(B, P, K, h, w); all heads in one product, whose memory is as the loss will read it."""
    batch, _, h, w = features_BChw.shape
    weight, bias = weight_PKC.flatten(0, 1), bias_PK.flatten()
    if use_kernels(features_BChw):  # classes side by side
        logits = F.linear(features_BChw.flatten(2).transpose(1, 2), weight, bias)
        return logits.view(batch, h, w, *bias_PK.shape).permute(0, 3, 4, 1, 2)
    # addmm of every image: (P * K, C) @ (C, h * w) + bias
    logits = torch.matmul(weight, features_BChw.flatten(2)) + bias[:, None]
    return logits.view(batch, *bias_PK.shape, h, w)


def first_weights(num_outputs: int, width: int, seed: int) -> Tensor:
    """(K, C) weights that a head of this seed begins with."""
    generator = torch.Generator().manual_seed(seed)
    return INIT_STD * torch.randn(num_outputs, width, generator=generator)
