"""Feature maps as colours: low-pass mix, three principal components, LCh.

Source: Perception Encoder, arXiv:2504.13181, appendix B.3.2: features x on the token grid become
0.5 x + 0.5 g(x), g a Gaussian blur of kernel 3 and sigma 1, so that no component is spent on
global tokens; a PCA of three components over all tokens of the image; each component is one
channel of LCh, shown as RGB. The README of facebookresearch/perception_models @ 3e352cc shows a
second figure whose PCA sees the tokens of the foreground alone.

Choices that neither source states, made here:
- At the border of the grid the blur is the weighted mean of the tokens that exist.
- No whitening or scaling of channels before the PCA; its mean is that of the tokens it sees.
- Components come by falling variance and turn so that the loading of largest magnitude is
  positive: a picture is a function of the features alone.
- The first component is L, the second C, the third h, unless another order is asked for.
- A component's 1st and 99th percentile (over the tokens that the PCA saw) become the ends of the
  channel, and what lies beyond is clipped: L 25..90, C 0..70, h 0..300 degrees. The gap in h
  keeps the ends of the third component apart, which a full circle would give one colour.
- A colour that sRGB cannot show keeps L and h and loses chroma until it can.

Everything is float64 on the CPU. Another platform's features differ in their last bits, so a
channel of a pixel may differ by one grey level, unless two of the components have almost the
same variance: `Basis.is_ambiguous` says so.

Shape legend: C feature width, N tokens, h w token grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

NUM_COMPONENTS = 3
MIX = 0.5
SIGMA = 1.0
PERCENTILES = (1.0, 99.0)
RANGES = {"L": (25.0, 90.0), "C": (0.0, 70.0), "h": (0.0, 300.0)}
CLOSE_VARIANCES = 0.01  # relative; closer components may swap from one platform to another
BISECTIONS = 12  # of the chroma: finer than 8 bits

# CIE 15 and IEC 61966-2-1: white point D65 (2 degree observer), linear sRGB from XYZ.
_WHITE_XYZ = np.array([0.95047, 1.0, 1.08883])
_RGB_FROM_XYZ = np.array(
    [
        [3.2404542, -1.5371385, -0.4985314],
        [-0.9692660, 1.8760108, 0.0415560],
        [0.0556434, -0.2040259, 1.0572252],
    ]
)


class Basis(NamedTuple):
    """What turns features into colours; one basis makes several pictures comparable.

    Attributes:
        mean_C: Mean feature.
        axes_3C: Orthonormal components by falling variance; zero where there is no variance.
        low_3: Component value at the lower end of its channel.
        high_3: Component value at the upper end.
        variances_4: Variances of the three components and the one behind them.
        share: Part of the total variance that the three hold, 0..1.
    """

    mean_C: np.ndarray
    axes_3C: np.ndarray
    low_3: np.ndarray
    high_3: np.ndarray
    variances_4: np.ndarray
    share: float

    @property
    def is_ambiguous(self) -> bool:
        """Whether two neighbouring components have almost the same variance, so may swap."""
        first, second = self.variances_4[:-1], self.variances_4[1:]
        return bool((first - second < CLOSE_VARIANCES * first)[first > 0].any())


def low_pass(map_Chw: np.ndarray, mix: float = MIX, sigma: float = SIGMA) -> np.ndarray:
    """(1 - mix) x + mix g(x) with a 3 x 3 Gaussian g; (C, h, w) float64.

    Args:
        map_Chw: Features.
        mix: Share of the blurred map, 0..1; 0 leaves the map as it is.
        sigma: Of the Gaussian, in tokens.

    Raises:
        ValueError: If `mix` is outside 0..1, or sigma is not positive.

    Example:
        >>> low_pass(np.ones((1, 2, 2)))[0].round(6).tolist()
        [[1.0, 1.0], [1.0, 1.0]]
    """
    if not 0.0 <= mix <= 1.0:
        raise ValueError(f"low-pass mix {mix} is outside 0..1; the paper uses 0.5")
    if not sigma > 0:
        raise ValueError(f"low-pass sigma {sigma} is not positive; the paper uses 1")
    map_Chw = np.asarray(map_Chw, np.float64)
    h, w = map_Chw.shape[1:]
    side = np.exp(-0.5 / sigma**2)  # weight of a neighbour beside the centre's 1
    mass_hw = np.zeros((h, w))
    blurred = np.zeros_like(map_Chw)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            to = (slice(max(-dy, 0), h - max(dy, 0)), slice(max(-dx, 0), w - max(dx, 0)))
            of = (slice(max(dy, 0), h - max(-dy, 0)), slice(max(dx, 0), w - max(-dx, 0)))
            weight = side ** (abs(dy) + abs(dx))
            blurred[(slice(None), *to)] += weight * map_Chw[(slice(None), *of)]
            mass_hw[to] += weight
    return (1 - mix) * map_Chw + mix * blurred / mass_hw


def fit_basis(
    maps_Chw: Sequence[np.ndarray], foreground_hw: Sequence[np.ndarray] | None = None
) -> Basis:
    """Principal components of the tokens of one or several maps, and the ends of the channels.

    Args:
        maps_Chw: Features, one map per image or frame; grids may differ.
        foreground_hw: Boolean grids, one a map; the PCA sees these tokens alone. None is all.

    Raises:
        ValueError: If there is no map or no token, widths differ, a grid does not fit its map,
            or a feature is not finite.
    """
    tokens_NC = np.concatenate(_tokens(maps_Chw, foreground_hw))
    mean_C = tokens_NC.mean(axis=0)
    centred_NC = tokens_NC - mean_C
    covariance_CC = centred_NC.T @ centred_NC / len(tokens_NC)
    variances, vectors = np.linalg.eigh(covariance_CC)  # rising
    variances, axes = np.maximum(variances[::-1], 0.0), vectors.T[::-1]
    total = float(variances.sum())
    variances_4, axes_3C = np.zeros(4), np.zeros((NUM_COMPONENTS, len(mean_C)))
    variances_4[: min(4, len(variances))] = variances[:4]
    variances_4[variances_4 <= 1e-12 * max(total, 1e-300)] = 0.0  # rounding, not variance
    for i in range(min(NUM_COMPONENTS, len(axes))):
        if variances_4[i] > 0:
            # The first of the largest: rounding must not choose among equal ones.
            size_C = np.abs(axes[i])
            axes_3C[i] = axes[i] * np.sign(axes[i][(size_C >= size_C.max() * (1 - 1e-6)).argmax()])
    values_N3 = centred_NC @ axes_3C.T
    low_3, high_3 = np.percentile(values_N3, PERCENTILES, axis=0)
    share = float(variances_4[:3].sum() / total) if total > 0 else 0.0
    return Basis(mean_C, axes_3C, low_3, high_3, variances_4, share)


def colour_map(map_Chw: np.ndarray, basis: Basis, order: str = "LCh") -> np.ndarray:
    """RGB of every token, (h, w, 3) in 0..1.

    Args:
        map_Chw: Features, of the width of the basis.
        basis: From `fit_basis`.
        order: Channel of the first, second and third component, a permutation of 'LCh'.

    Raises:
        ValueError: If the width is another, or the order no permutation.
    """
    if sorted(order) != sorted("LCh"):
        raise ValueError(f"channel order {order!r} is no permutation of LCh; try LCh or hLC")
    if map_Chw.shape[0] != len(basis.mean_C):
        raise ValueError(
            f"features of width {map_Chw.shape[0]} do not fit a basis of {len(basis.mean_C)}; "
            "fit one for this encoder"
        )
    unit_hw3 = component_map(map_Chw, basis)
    channels = {}
    for i, channel in enumerate(order):
        low, high = RANGES[channel]
        channels[channel] = low + (high - low) * unit_hw3[..., i]
    return rgb_from_lch(np.stack([channels[c] for c in "LCh"], axis=-1))


def component_map(map_Chw: np.ndarray, basis: Basis) -> np.ndarray:
    """The three components, (h, w, 3), from 0 to 1 between the ends of their channels.

    A component without variance is 0.5 everywhere.
    """
    tokens_hwC = np.moveaxis(np.asarray(map_Chw, np.float64), 0, -1)
    values_hw3 = (tokens_hwC - basis.mean_C) @ basis.axes_3C.T
    span_3 = basis.high_3 - basis.low_3
    unit_hw3 = (values_hw3 - basis.low_3) / np.where(span_3 > 0, span_3, 1.0)
    return np.where(span_3 > 0, np.clip(unit_hw3, 0.0, 1.0), 0.5)


def guess_foreground(maps_Chw: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Boolean grids (h, w): a guess at the foreground, from the first component alone.

    The first component of all maps is cut where it falls into two groups best (Otsu); the group
    that has the smaller share of the tokens at the image borders is the foreground. Cutting the
    first component is how DINOv2's figures were made (arXiv:2304.07193, section 7.4), with a
    threshold chosen by hand; this rule is ours, and it is wrong for objects that fill an image.

    Raises:
        ValueError: As `fit_basis`, and if all tokens are alike.
    """
    basis = fit_basis(maps_Chw)
    firsts_hw = [component_map(each, basis)[..., 0] for each in maps_Chw]
    values_N = np.concatenate([first.ravel() for first in firsts_hw])
    if values_N.min() == values_N.max():
        raise ValueError("all tokens are alike, so no foreground can be told; use all tokens")
    cut = _otsu(values_N)
    on_border = np.concatenate([_border(first.shape).ravel() for first in firsts_hw])
    above = values_N > cut
    is_above = on_border[above].mean() < on_border[~above].mean()
    return [(first > cut) == is_above for first in firsts_hw]


def rgb_from_lch(lch_3: np.ndarray) -> np.ndarray:
    """CIE LCh(ab), D65, to sRGB in 0..1, chroma reduced where sRGB has no such colour.

    Args:
        lch_3: (..., 3): L 0..100, C >= 0, h in degrees.

    Source: CIE 15 and IEC 61966-2-1.

    Example:
        >>> (255 * rgb_from_lch(np.array([53.2408, 104.55, 39.999]))).round().tolist()
        [255.0, 0.0, 0.0]
    """
    lch_3 = np.asarray(lch_3, np.float64)
    lightness, chroma, hue = lch_3[..., 0], lch_3[..., 1], np.radians(lch_3[..., 2])
    low, high = np.zeros_like(chroma), chroma.copy()
    fits = _in_gamut(_linear_rgb(lightness, chroma, hue))
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        is_good = _in_gamut(_linear_rgb(lightness, middle, hue))
        low, high = np.where(is_good, middle, low), np.where(is_good, high, middle)
    linear = np.clip(_linear_rgb(lightness, np.where(fits, chroma, low), hue), 0.0, 1.0)
    bright = 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, 12.92 * linear, bright)


def _linear_rgb(lightness: np.ndarray, chroma: np.ndarray, hue: np.ndarray) -> np.ndarray:
    fy = (lightness + 16) / 116
    f = np.stack([fy + chroma * np.cos(hue) / 500, fy, fy - chroma * np.sin(hue) / 200], axis=-1)
    delta = 6 / 29
    xyz = np.where(f > delta, f**3, 3 * delta**2 * (f - 4 / 29)) * _WHITE_XYZ
    return xyz @ _RGB_FROM_XYZ.T


def _in_gamut(linear_3: np.ndarray) -> np.ndarray:
    return ((linear_3 > -1e-3) & (linear_3 < 1 + 1e-3)).all(axis=-1)


def _tokens(
    maps_Chw: Sequence[np.ndarray], foreground_hw: Sequence[np.ndarray] | None
) -> list[np.ndarray]:
    if not len(maps_Chw):
        raise ValueError("there is no feature map to fit colours to; name an image")
    if foreground_hw is not None and len(foreground_hw) != len(maps_Chw):
        raise ValueError(f"{len(foreground_hw)} foregrounds for {len(maps_Chw)} maps; one each")
    parts = []
    for i, map_Chw in enumerate(maps_Chw):
        map_Chw = np.asarray(map_Chw, np.float64)
        if map_Chw.ndim != 3 or map_Chw.shape[0] != len(maps_Chw[0]):
            raise ValueError(
                f"feature map {i} has shape {map_Chw.shape}, expected ({len(maps_Chw[0])}, h, w)"
            )
        tokens_NC = map_Chw.reshape(len(map_Chw), -1).T
        if foreground_hw is not None:
            chosen = np.asarray(foreground_hw[i], bool)
            if chosen.shape != map_Chw.shape[1:]:
                raise ValueError(f"foreground {chosen.shape} does not fit grid {map_Chw.shape[1:]}")
            tokens_NC = tokens_NC[chosen.ravel()]
        parts.append(tokens_NC)
    if not sum(map(len, parts)):
        raise ValueError("the foreground holds no token; give a mask with larger objects")
    if not all(np.isfinite(part).all() for part in parts):
        raise ValueError("a feature is NaN or infinite; use other weights or float32")
    return parts


def _otsu(values_N: np.ndarray) -> float:
    """Threshold of largest variance between two groups (Otsu 1979), over the sorted values."""
    ordered = np.sort(values_N)
    count = np.arange(1, len(ordered))
    left = np.cumsum(ordered)[:-1] / count
    right = (ordered.sum() - np.cumsum(ordered)[:-1]) / (len(ordered) - count)
    between = count * (len(ordered) - count) * (left - right) ** 2
    between[ordered[1:] == ordered[:-1]] = -1.0  # equal values stay together
    best = int(between.argmax())
    return float((ordered[best] + ordered[best + 1]) / 2)


def _border(grid_hw: tuple[int, ...]) -> np.ndarray:
    border = np.ones(grid_hw, bool)
    border[1:-1, 1:-1] = False
    return border
