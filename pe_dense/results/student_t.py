"""Quantiles and tails of Student's t and of the normal distribution, without scipy.

Tails are one-sided, upper, and keep their relative precision however small they are. Degrees of
freedom may be fractions, as those of a sum of two variances are, and `math.inf` is the normal.

Source: DLMF 8.17 (incomplete beta function, continued fraction 8.17.22) and 26.5.27 of Abramowitz
and Stegun, Handbook of Mathematical Functions (the t distribution as an incomplete beta function).
"""

from __future__ import annotations

import functools
import math
from statistics import NormalDist

_NORMAL = NormalDist()
_TERMS = 20_000  # of the continued fraction; it needs about sqrt(df)


def normal_tail(z: float) -> float:
    """Probability that a normal value is above z.

    Example:
        >>> round(normal_tail(1.959964), 6)
        0.025
    """
    return math.erfc(z / math.sqrt(2)) / 2


def normal_quantile(tail: float) -> float:
    """The z that a normal value exceeds with probability `tail`, above 0 and below 1."""
    return -_NORMAL.inv_cdf(tail)


def t_tail(t: float, df: float) -> float:
    """Probability that Student's t with `df` degrees of freedom is above t.

    Raises:
        ValueError: If `df` is not above 0.

    Example:
        >>> round(t_tail(3.182446, 3), 6)
        0.025
    """
    if not df > 0:
        raise ValueError(f"degrees of freedom are {df}; give more than 0")
    if math.isinf(df):
        return normal_tail(t)
    if t < 0:
        return 1 - t_tail(-t, df)
    if math.isinf(t):
        return 0.0
    return _incomplete_beta(t, df) / 2


@functools.lru_cache(maxsize=4096)
def t_quantile(tail: float, df: float) -> float:
    """The t that Student's t with `df` degrees of freedom exceeds with probability `tail`.

    Raises:
        ValueError: If `tail` is not above 0 and below 1, or `df` not above 0.

    Example:
        >>> round(t_quantile(0.025, 3), 4)
        3.1824
    """
    if not 0 < tail < 1:
        raise ValueError(f"tail is {tail}; give a probability above 0 and below 1")
    if not df > 0:
        raise ValueError(f"degrees of freedom are {df}; give more than 0")
    if tail > 0.5:
        return -t_quantile(1 - tail, df)
    if tail == 0.5:
        return 0.0
    if math.isinf(df):
        return normal_quantile(tail)
    # Log of the tail over log of t is concave, and a line far out: Newton's steps from a point
    # below the root pass it once and then come back from above, in a few steps.
    log_t = math.log(normal_quantile(tail))
    for _ in range(200):
        t = math.exp(log_t)
        found = t_tail(t, df)
        step = (math.log(found) - math.log(tail)) * found / (t * _density(t, df))
        log_t += min(step, 2.0)
        if abs(step) < 1e-14 * max(1.0, abs(log_t)):
            break
    return math.exp(log_t)


def normal_equivalent(t: float, df: float) -> float:
    """The normal value with the tail of a Student's t of `df` degrees of freedom; t is 0 or more.

    Example:
        >>> round(normal_equivalent(3.182446, 3), 3)
        1.96
    """
    tail = t_tail(t, df)
    return math.inf if tail == 0 else normal_quantile(tail)


def _density(t: float, df: float) -> float:
    log_scale = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - math.log(df * math.pi) / 2
    return math.exp(log_scale - (df + 1) / 2 * math.log1p(t * t / df))


def _incomplete_beta(t: float, df: float) -> float:
    """I_x(df / 2, 1 / 2) at x = df / (df + t^2), the two-sided tail of t."""
    if t == 0:
        return 1.0
    a, b = df / 2, 0.5
    x, rest = df / (df + t * t), t * t / (df + t * t)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(log_front - a * math.log1p(t * t / df) + b * math.log(rest))
    if x < (a + 1) / (a + b + 2):  # where the fraction converges fast
        return front / a * _beta_fraction(a, b, x)
    return 1 - front / b * _beta_fraction(b, a, rest)


def _beta_fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta function, from the front (Lentz's method)."""
    tiny = 1e-300
    value, numerator, denominator = 1.0, 1.0, 0.0
    for n in range(1, _TERMS):
        m = n // 2
        top = m * (b - m) if n % 2 == 0 else -(a + m) * (a + b + m)
        term = top * x / ((a + n - 1) * (a + n))
        denominator = 1 / (1 + term * denominator or tiny)
        numerator = 1 + term / numerator or tiny
        value *= numerator * denominator
        if abs(numerator * denominator - 1) < 1e-15:
            break
    return 1 / value
