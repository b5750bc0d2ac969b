"""Kernels through triton's interpreter, against the plain forms in float64."""

import pytest
import torch
from interpreted_kernels import interpreted  # noqa: F401 (a fixture)

from pe_dense.pixelwise.banded_inference import BandedLogits, reference_labels
from pe_dense.pixelwise.depth_bins import depth_bins, expected_depth, upsampled
from pe_dense.pixelwise.upsampled_loss import (
    LabelMaps,
    reference_cross_entropy,
    upsampled_cross_entropy,
)
from pe_dense.pixelwise.windows import slide_windows

pytestmark = pytest.mark.usefixtures("interpreted")


def case(shape, size, spread=3.0, ignored=0.2, ignore_index=255, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    logits = (spread * torch.randn(*shape, generator=generator)).to(dtype)
    labels = torch.randint(0, shape[2], (shape[0], *size), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < ignored] = ignore_index
    return logits.requires_grad_(), labels


def plain(logits_BPKhw, labels_BHW, **more):
    """Losses of the heads and the gradient of their sum weighted 1, 2, ..., in float64."""
    precise = logits_BPKhw.detach().double().requires_grad_()
    losses = torch.stack(
        [reference_cross_entropy(head, labels_BHW, **more) for head in precise.unbind(1)]
    )
    weights = 1.0 + torch.arange(len(losses))
    return losses, torch.autograd.grad((losses * weights).sum(), precise)[0]


def kernel(logits_BPKhw, labels, **more):
    losses = upsampled_cross_entropy(logits_BPKhw, labels, **more)
    weights = 1.0 + torch.arange(len(losses))
    return losses, torch.autograd.grad((losses * weights).sum(), logits_BPKhw)[0]


SHAPES = {
    "heads": ((1, 2, 5, 2, 3), (7, 8)),
    "images": ((2, 1, 3, 2, 1), (5, 4)),
    "class": ((1, 1, 1, 2, 2), (3, 4)),
    "blocks of classes": ((1, 1, 40, 2, 2), (5, 6)),
    "classes beyond bytes": ((1, 1, 300, 1, 2), (1, 3)),
    "long cells": ((1, 1, 3, 1, 2), (2, 70)),
    "one token": ((1, 1, 3, 1, 1), (4, 3)),
    "one pixel": ((1, 1, 3, 3, 2), (1, 1)),
    "as many": ((1, 1, 4, 3, 4), (3, 4)),
    "fewer pixels": ((1, 1, 3, 4, 5), (3, 2)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_losses_and_gradients_are_those_of_all_large_logits(name):
    shape, size = SHAPES[name]
    ignore = 999 if shape[2] > 255 else 255
    logits, labels = case(
        shape, size, ignore_index=ignore, ignored=0.2 if name != "one pixel" else 0
    )
    found = kernel(logits, labels, ignore_index=ignore)
    expected = plain(logits, labels, ignore_index=ignore)
    torch.testing.assert_close(found[0].double(), expected[0], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(found[1].double(), expected[1], rtol=1e-5, atol=1e-7)


def test_mean_over_counted_pixels_of_labels_of_eight_bits():
    logits, labels = case((1, 1, 4, 2, 2), (5, 6))
    maps = LabelMaps(labels.to(torch.uint8), 4)
    found = kernel(logits, maps, average_counted=True)
    expected = plain(logits, labels, average_counted=True)
    torch.testing.assert_close(found[0].double(), expected[0], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(found[1].double(), expected[1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("spread", [200.0, 3e4])
def test_far_logits_neither_overflow_nor_vanish(spread):
    logits, labels = case((1, 1, 5, 2, 2), (6, 5), spread=spread)
    found, expected = kernel(logits, labels), plain(logits, labels)
    # Logits in float32 are that precise.
    torch.testing.assert_close(found[0].double(), expected[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[1].double(), expected[1], rtol=3e-7 * spread, atol=1e-7)


def test_the_gradient_of_a_head_that_diverged_far_is_that_of_whole_shares():
    logits, labels = case((1, 1, 5, 2, 2), (8, 8), spread=1e12)
    found, expected = kernel(logits, labels)[1], plain(logits, labels)[1]
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-7)


def test_the_loss_of_a_head_that_diverged_far_is_right_while_float32_holds_it():
    logits, labels = case((1, 1, 5, 2, 2), (6, 5), spread=1e30)
    with torch.no_grad():
        found = upsampled_cross_entropy(logits, labels)
    expected, _ = plain(logits, labels)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)


def test_bfloat16_logits_are_computed_in_float32():
    logits, labels = case((1, 1, 5, 2, 2), (6, 5), dtype=torch.bfloat16)
    found, expected = kernel(logits, labels), plain(logits, labels)
    assert found[0].dtype == torch.float32 and found[1].dtype == torch.bfloat16
    torch.testing.assert_close(found[0].double(), expected[0], rtol=1e-6, atol=1e-7)
    assert torch.equal(found[1], expected[1].bfloat16())


def test_where_nothing_counts_loss_and_gradient_are_zero():
    logits, labels = case((1, 1, 3, 2, 2), (3, 4))
    losses, gradient = kernel(logits, torch.full_like(labels, 255))
    assert losses.item() == 0 and not gradient.any()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_head_that_is_not_finite_leaves_the_others_as_they_are(bad):
    logits, labels = case((1, 3, 4, 2, 2), (4, 5))
    expected = kernel(logits, labels)
    with torch.no_grad():
        logits[0, 1, 2, 0, 0] = bad
    losses, gradient = kernel(logits, labels)
    assert losses[1].isnan() and torch.equal(losses[[0, 2]], expected[0][[0, 2]])
    assert torch.equal(gradient[:, [0, 2]], expected[1][:, [0, 2]])


def test_every_layout_of_the_logits_and_every_run_gives_the_same_bits():
    logits, labels = case((1, 2, 3, 2, 2), (3, 4))
    side_by_side = logits.detach().permute(0, 3, 4, 1, 2).contiguous().permute(0, 3, 4, 1, 2)
    first = kernel(logits, labels)
    for again in (logits, side_by_side.requires_grad_()):
        losses, gradient = kernel(again, labels)
        assert torch.equal(losses, first[0]) and torch.equal(gradient, first[1])


def test_without_gradient_none_is_made():
    logits, labels = case((1, 1, 3, 2, 2), (3, 4))
    with torch.no_grad():
        losses = upsampled_cross_entropy(logits, labels)
    assert not losses.requires_grad
    torch.testing.assert_close(losses.double(), plain(logits, labels)[0], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("norm", ["linear", "softmax", "sigmoid"])
@pytest.mark.parametrize(
    ("shape", "factor", "scale"), [((2, 5, 2, 3), 2, 1.0), ((1, 40, 1, 2), 3, 300.0)]
)
def test_expected_depth_and_gradient_are_those_of_upsampled_scores(norm, shape, factor, scale):
    generator = torch.Generator().manual_seed(0)
    logits = (scale * torch.randn(*shape, generator=generator)).requires_grad_()
    bins_K = depth_bins(shape[1], 1e-3, 10)
    found = expected_depth(logits, bins_K, norm, factor)
    upstream = torch.randn(found.shape, generator=generator)
    (gradient,) = torch.autograd.grad(found, logits, upstream, retain_graph=True)
    precise = logits.detach().double().requires_grad_()
    expected = expected_depth(upsampled(precise, factor), bins_K, norm)
    (expected_gradient,) = torch.autograd.grad(expected, precise, upstream.double())
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=3e-6)
    torch.testing.assert_close(gradient.double(), expected_gradient, rtol=1e-4, atol=1e-5)
    (once,) = torch.autograd.grad(found, logits, upstream, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        (once.sum() + logits.square().sum()).backward()


def test_depth_of_a_score_that_is_nan_is_nan():
    logits = torch.zeros(1, 3, 2, 2)
    logits[0, 1, 0, 0] = torch.nan
    for norm in ("linear", "softmax", "sigmoid"):
        found = expected_depth(logits, depth_bins(3, 1e-3, 10), norm, 2)
        assert found[0, 0, 0, 0].isnan() and found[0, 0, 3, 3].isfinite()


@pytest.mark.parametrize(
    ("image", "original", "flip", "heads"),
    [
        ((22, 30), (13, 19), None, None),
        ((24, 30), (24, 30), "horizontal", None),
        ((24, 28), (9, 140), "vertical", 2),
    ],
)
def test_labels_of_windows_are_those_of_all_large_logits(image, original, flip, heads):
    generator = torch.Generator().manual_seed(0)
    windows = slide_windows((24, 30), (16, 16), (10, 10))
    shape = (len(windows), heads or 1, 5 if heads else 20, 4, 4)
    logits = torch.randn(*shape, generator=generator)
    expected = [reference_labels(one, windows, image, original, flip) for one in logits.unbind(1)]
    of_heads = logits if heads else logits[:, 0]
    found = BandedLogits(of_heads, windows, image, original, flip).labels()
    assert torch.equal(found, torch.stack(expected) if heads else expected[0])


def test_labels_of_a_head_that_diverged_stay_in_range():
    windows = slide_windows((8, 8), (8, 8), (8, 8))
    logits = torch.full((1, 2, 3, 2, 2), torch.nan)
    logits[0, 1] = torch.tensor([0.0, 2.0, 2.0])[:, None, None]
    found = BandedLogits(logits, windows, (8, 8), (8, 8)).labels()
    assert not found[0].any() and (found[1] == 1).all()  # the first of equals


@pytest.mark.parametrize("setting", ["on", "off"])
def test_infinite_logits_win_or_lose_where_they_weigh_and_nowhere_else(setting, monkeypatch):
    monkeypatch.setenv("PE_DENSE_KERNELS", setting)
    windows = slide_windows((24, 30), (16, 16), (10, 10))
    logits = torch.randn(len(windows), 5, 4, 4, generator=torch.Generator().manual_seed(0))
    others = [0, 2, 3, 4]
    expected = reference_labels(logits[:, others], windows, (24, 30), (40, 50))
    logits[:, 1] = -torch.inf  # a class that is ruled out
    found = BandedLogits(logits, windows, (24, 30), (40, 50)).labels()
    assert torch.equal(found, torch.tensor(others)[expected])
    logits[0, 1, 0, 0] = torch.inf  # but for one token
    found = BandedLogits(logits, windows, (24, 30), (40, 50)).labels()
    assert found[0, 0] == 1 and torch.equal(
        found[20:, 20:], torch.tensor(others)[expected][20:, 20:]
    )
