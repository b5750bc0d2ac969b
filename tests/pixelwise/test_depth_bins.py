"""Bins and their expectation against loops, closed forms and the arrays that autograd keeps."""

from __future__ import annotations

import math

import pytest
import torch

from pe_dense.pixelwise.depth_bins import bin_probabilities, depth_bins, expected_depth

NORMS = ["linear", "softmax", "sigmoid"]


def test_uniform_bins_are_even_and_reach_both_limits():
    bins = depth_bins(256, 1e-3, 10.0)
    assert bins.dtype == torch.float32 and bins[0] == pytest.approx(1e-3) and bins[-1] == 10.0
    for k in (1, 100, 200):
        assert bins[k].item() == pytest.approx(1e-3 + k * (10 - 1e-3) / 255, rel=1e-5)


def test_log_bins_have_one_ratio():
    bins = depth_bins(5, 1e-3, 10.0, "SID")
    assert bins.tolist() == pytest.approx([1e-3, 1e-2, 1e-1, 1.0, 10.0], rel=1e-6)


def test_log_bins_as_released_are_powers_of_ten_of_the_limits():
    bins = depth_bins(4, 1.0, 4.0, "SID_as_released")
    assert bins.tolist() == pytest.approx([10.0, 100.0, 1000.0, 10000.0])
    assert depth_bins(256, 1e-3, 10.0, "SID_as_released")[-1].item() == pytest.approx(1e10)
    with pytest.raises(ValueError, match="'SID_as_released' puts the last bin at 10"):
        depth_bins(256, 1e-3, 80.0, "SID_as_released")


def slow_depth(logits, bins, norm):
    """Depth of one pixel from lists."""
    weights = {
        "linear": [max(x, 0.0) + 0.1 for x in logits],
        "softmax": [math.exp(x) for x in logits],
        "sigmoid": [1 / (1 + math.exp(-x)) for x in logits],
    }[norm]
    return sum(w * b for w, b in zip(weights, bins)) / sum(weights)


@pytest.mark.parametrize("norm", NORMS)
def test_equals_loops(norm):
    torch.manual_seed(0)
    logits, bins = torch.randn(2, 6, 3, 4, dtype=torch.float64) * 3, depth_bins(6, 0.5, 10.0)
    depth = expected_depth(logits, bins, norm)
    probabilities = bin_probabilities(logits, norm)
    assert depth.shape == (2, 1, 3, 4) and depth.dtype == torch.float64
    for b in range(2):
        for y in range(3):
            for x in range(4):
                slow = slow_depth(logits[b, :, y, x].tolist(), bins.tolist(), norm)
                assert depth[b, 0, y, x].item() == pytest.approx(slow, rel=1e-12)
    assert probabilities.sum(1).numpy() == pytest.approx(1.0)
    mean = (probabilities * bins.double().view(1, 6, 1, 1)).sum(1, keepdim=True)
    assert torch.allclose(depth, mean, rtol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_gradients_are_those_of_finite_differences(norm):
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    bins = depth_bins(4, 0.5, 10.0).double()
    assert torch.autograd.gradcheck(lambda x: expected_depth(x, bins, norm), logits)


@pytest.mark.parametrize("norm", NORMS)
def test_stays_finite_and_within_the_bins(norm):
    bins = depth_bins(8, 1.0, 8.0)
    middle = torch.full((1, 1, 1, 1), 4.5)
    low = torch.full((1, 8, 1, 1), -500.0)
    assert torch.allclose(expected_depth(low, bins, norm), middle)  # equal logits: the mean
    sure = low.clone()
    sure[:, 2] = 1e6
    assert torch.allclose(expected_depth(sure, bins, norm), torch.tensor(3.0), atol=1e-4)


@pytest.mark.parametrize(("norm", "arrays"), [("linear", 1), ("softmax", 1), ("sigmoid", 2)])
def test_keeps_few_arrays_for_the_backward_pass(norm, arrays):
    logits = torch.randn(2, 64, 8, 8, requires_grad=True)
    kept = set()

    def pack(tensor):
        if tensor.untyped_storage().nbytes() >= logits.nbytes:
            kept.add(tensor.untyped_storage().data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        depth = expected_depth(logits, depth_bins(64, 1e-3, 10.0), norm)
    assert len(kept) <= arrays, "more arrays of the size of the logits than promised"
    depth.sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_half_precision_and_autocast_lose_nothing_more():
    torch.manual_seed(0)
    logits, bins = torch.randn(1, 256, 4, 4).bfloat16(), depth_bins(256, 1e-3, 10.0)
    exact = expected_depth(logits.double(), bins)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        depth = expected_depth(logits, bins)
    assert depth.dtype == torch.float32
    assert torch.allclose(depth.double(), exact, rtol=1e-5)
    assert not torch.allclose(depth.bfloat16().double(), exact, rtol=1e-5)


def test_no_images_give_no_depth():
    assert expected_depth(torch.ones(0, 4, 2, 2), depth_bins(4, 1.0, 2.0)).shape == (0, 1, 2, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 1.0, 2.0), "num_bins 1 "),
        ((4, 0.0, 2.0), "no range"),
        ((4, 3.0, 2.0), "no range"),
        ((4, 1.0, math.inf), "no range"),
        ((4, 1.0, 2.0, "log"), "strategy 'log' is not known"),
    ],
)
def test_bad_bins_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        depth_bins(*arguments)


def test_bad_logits_are_refused():
    bins = depth_bins(4, 1.0, 2.0)
    with pytest.raises(ValueError, match=r"logits of shape \(1, 5, 2, 2\)"):
        expected_depth(torch.ones(1, 5, 2, 2), bins)
    with pytest.raises(ValueError, match="norm 'relu' is not known"):
        expected_depth(torch.ones(1, 4, 2, 2), bins, "relu")
    with pytest.raises(ValueError, match="norm 'relu' is not known"):
        bin_probabilities(torch.ones(1, 4, 2, 2), "relu")
