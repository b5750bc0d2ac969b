"""Student's t against closed forms, tables and scipy."""

from __future__ import annotations

import math

import pytest

from pe_dense.results.student_t import normal_equivalent, normal_tail, t_quantile, t_tail

DF = (0.7, 1, 2, 3.5, 10, 29, 100, 4999, 1e6)


def test_closed_forms():
    """df 1 is Cauchy, df 2 has an algebraic tail."""
    for t in (0.0, 0.3, 1.0, 7.0, 1e4):
        assert t_tail(t, 1) == pytest.approx(0.5 - math.atan(t) / math.pi, rel=1e-9, abs=1e-12)
        exact = 1 / ((2 + t * t) * (1 + t / math.sqrt(2 + t * t)))
        assert t_tail(t, 2) == pytest.approx(exact, rel=1e-11)
    assert t_tail(-1.5, 4) == pytest.approx(1 - t_tail(1.5, 4))
    assert t_tail(1.3, math.inf) == normal_tail(1.3)
    assert t_tail(math.inf, 3) == 0.0


@pytest.mark.parametrize(
    ("df", "value"), [(1, 12.7062), (3, 3.1824), (11, 2.2010), (29, 2.0452), (math.inf, 1.9600)]
)
def test_table_of_the_975_quantile(df, value):
    assert t_quantile(0.025, df) == pytest.approx(value, abs=5e-5)
    assert t_quantile(0.975, df) == pytest.approx(-t_quantile(0.025, df), rel=1e-12)
    assert normal_equivalent(t_quantile(0.025, df), df) == pytest.approx(1.959964, abs=1e-5)


@pytest.mark.parametrize("df", DF)
def test_equal_to_scipy(df):
    stats = pytest.importorskip("scipy.stats")
    for t in (0.0, 1e-6, 0.1, 1.0, 2.0, 8.0, 40.0):
        assert t_tail(t, df) == pytest.approx(stats.t.sf(t, df), rel=1e-8, abs=1e-290)
    for tail in (0.4999, 0.4, 0.1, 0.025, 1e-4, 1e-9, 0.8):
        assert t_quantile(tail, df) == pytest.approx(stats.t.isf(tail, df), rel=1e-7)


def test_wrong_arguments():
    for df in (0, -1, math.nan):
        with pytest.raises(ValueError, match="degrees of freedom"):
            t_tail(1.0, df)
        with pytest.raises(ValueError, match="degrees of freedom"):
            t_quantile(0.1, df)
    for tail in (0.0, 1.0, -0.1, math.nan):
        with pytest.raises(ValueError, match="tail is"):
            t_quantile(tail, 3)
