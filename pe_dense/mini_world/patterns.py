"""Two-colour patterns on planes, which fade to their mean where pixels get too coarse.

Shape legend: S any shape.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pe_dense.mini_world.scene import Texture

FloatArray = NDArray[Any]  # float32


@lru_cache(maxsize=1)
def _noise_tile() -> FloatArray:
    """Returns (1024, 1024) smooth noise in 0..1 that repeats at its borders."""
    cycles = np.fft.fftfreq(1024, d=1 / 1024)
    spectrum = np.fft.fft2(np.random.default_rng(7).standard_normal((1024, 1024)))
    spectrum /= 1.0 + (np.hypot(cycles[:, None], cycles[None, :]) / 8.0) ** 2.3
    smooth = np.fft.ifft2(spectrum).real
    tile: FloatArray = np.clip(0.5 + 0.22 * smooth / smooth.std(), 0.0, 1.0).astype(np.float32)
    return tile


def noise(p: FloatArray, q: FloatArray) -> FloatArray:
    """Smooth noise in 0..1 at plane coordinates, shape as p and q; repeats about every 10.7."""
    column, row = ((96.0 * v).astype(np.int32) & 1023 for v in (p, q))
    value: FloatArray = _noise_tile()[row, column]
    return value


def _square_wave(p: FloatArray, softness: FloatArray) -> FloatArray:
    return np.clip(0.5 + np.sin(2 * np.pi * p) / (0.3 + 6.0 * softness), 0.0, 1.0)


def _bricks(p: FloatArray, q: FloatArray, softness: FloatArray) -> FloatArray:
    row = np.floor(2.0 * q)
    p, q = p + 0.5 * row, 2.0 * q - row
    gap = np.minimum(0.5 - np.abs(p - np.floor(p) - 0.5), 0.5 * (0.5 - np.abs(q - 0.5)))
    weight: FloatArray = np.clip(0.5 + (0.05 - gap) / (0.04 + softness), 0.0, 1.0)
    return weight


def _zigzag(p: FloatArray, q: FloatArray, softness: FloatArray) -> FloatArray:
    bend = np.abs(p - np.floor(p) - 0.5)
    return _square_wave(q + bend, softness)


def _grid(p: FloatArray, q: FloatArray, softness: FloatArray) -> FloatArray:
    line = np.minimum(np.abs(p - np.floor(p) - 0.5), np.abs(q - np.floor(q) - 0.5))
    weight: FloatArray = np.clip(0.5 + (0.1 - line) / (0.05 + softness), 0.0, 1.0)
    return weight


def _dots(p: FloatArray, q: FloatArray, softness: FloatArray) -> FloatArray:
    radius = np.hypot(p - np.floor(p) - 0.5, q - np.floor(q) - 0.5)
    weight: FloatArray = np.clip(0.5 + (0.3 - radius) / (0.05 + softness), 0.0, 1.0)
    return weight


_PATTERNS: dict[str, Callable[[FloatArray, FloatArray, FloatArray], FloatArray]] = {
    "plain": lambda p, q, s: np.zeros_like(p),
    "stripes": lambda p, q, s: _square_wave(p, s),
    "checks": lambda p, q, s: np.abs(_square_wave(0.5 * p, s) - _square_wave(0.5 * q, s)),
    "dots": _dots,
    "zigzag": _zigzag,
    "grid": _grid,
    "bricks": _bricks,
    "noise": lambda p, q, s: np.clip(3.0 * noise(p, q) - 1.0, 0.0, 1.0),
    "speckle": lambda p, q, s: np.clip(4.0 * noise(4.0 * p, 4.0 * q) - 2.2, 0.0, 1.0),
}


def paint(texture: Texture, u_m: FloatArray, v_m: FloatArray, pixel_m: FloatArray) -> FloatArray:
    """Returns RGB of a texture at plane coordinates; fades to its mean where pixels are coarse.

    Args:
        texture: What to paint.
        u_m: First coordinate on the plane, any shape S.
        v_m: Second coordinate, S.
        pixel_m: Width of a pixel on the plane, S.

    Returns:
        Colours in 0..1, S + (3,).
    """
    sin_a, cos_a = np.sin(texture.angle_rad), np.cos(texture.angle_rad)
    period = np.float32(texture.period_m)
    p = np.float32(cos_a) * u_m / period - np.float32(sin_a) * v_m / period
    q = np.float32(sin_a) * u_m / period + np.float32(cos_a) * v_m / period
    p, q = p + np.float32(texture.offset[0] + 64.0), q + np.float32(texture.offset[1] + 64.0)
    softness = pixel_m / period
    weight = _PATTERNS[texture.kind](p, q, softness)
    mean = np.float32(weight.mean()) if weight.size else np.float32(0)
    weight = mean + (weight - mean) * np.clip(1.6 - 2.5 * softness, 0.0, 1.0)
    a, b = np.array((texture.colour_a, texture.colour_b), np.float32)
    grain = 1.0 + np.float32(2 * texture.grain) * (noise(2.5 * q, 2.5 * p) - 0.5)
    colour: FloatArray = (a + weight[..., None] * (b - a)) * grain[..., None]
    return colour
