"""The fused loss against interpolation and cross-entropy one after the other."""

import pytest
import torch
import torch.nn.functional as F

from pe_dense.pixelwise import upsampled_loss
from pe_dense.pixelwise.upsampled_loss import (
    interpolation_matrix,
    reference_cross_entropy,
    upsampled_cross_entropy,
)


def case(seed, batch=2, classes=7, grid=(5, 6), size=(37, 50), ignored=0.2):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, classes, *grid, generator=generator)
    labels = torch.randint(0, classes, (batch, *size), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < ignored] = 255
    return logits.requires_grad_(), labels


@pytest.mark.parametrize("band", [1, 1000, 10**7])
@pytest.mark.parametrize("average_counted", [False, True])
@pytest.mark.parametrize("size", [(37, 50), (5, 6), (3, 4), (40, 48)])
def test_loss_and_gradient_equal_the_plain_path(monkeypatch, band, average_counted, size):
    monkeypatch.setitem(upsampled_loss.BAND_NUMEL, "cpu", band)
    logits, labels = case(0, size=size)
    found = upsampled_cross_entropy(logits, labels, average_counted=average_counted)
    (gradient,) = torch.autograd.grad(2 * found, logits)
    expected = reference_cross_entropy(logits, labels, 255, average_counted)
    (expected_gradient,) = torch.autograd.grad(2 * expected, logits)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("band", [1, 200, 10**7])
@pytest.mark.parametrize("spread", [1.0, 300.0])
@pytest.mark.parametrize("average_counted", [False, True])
def test_many_heads_have_the_losses_and_gradients_of_each(
    monkeypatch, band, spread, average_counted
):
    monkeypatch.setitem(upsampled_loss.BAND_NUMEL, "cpu", band)
    torch.manual_seed(0)
    logits = (spread * torch.randn(2, 3, 5, 4, 6)).requires_grad_()
    labels = torch.randint(0, 5, (2, 37, 50))
    labels[0, :20] = 255
    factors = torch.tensor([1.0, 0.5, 2.0])
    found = upsampled_cross_entropy(logits, labels, average_counted=average_counted)
    (gradient,) = torch.autograd.grad((found * factors).sum(), logits)
    expected = torch.stack(
        [reference_cross_entropy(logits[:, p], labels, 255, average_counted) for p in range(3)]
    )
    (expected_gradient,) = torch.autograd.grad((expected * factors).sum(), logits)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-7)


def test_a_head_of_nan_leaves_the_others_as_they_are():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 5, 4, 6)
    labels = torch.randint(0, 5, (2, 37, 50))
    expected = upsampled_cross_entropy(logits, labels)
    logits[1, 1, 0, 0, 0] = torch.nan
    found = upsampled_cross_entropy(logits, labels)
    assert found[1].isnan() and torch.equal(found[[0, 2]], expected[[0, 2]])


def test_logits_that_lie_otherwise_in_memory():
    logits, labels = case(8)
    moved = logits.detach().permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2).requires_grad_()
    upsampled_cross_entropy(moved, labels).backward()
    (expected,) = torch.autograd.grad(reference_cross_entropy(logits, labels), logits)
    torch.testing.assert_close(moved.grad, expected, rtol=1e-5, atol=1e-6)


def test_large_logits_do_not_overflow():
    logits, labels = case(1)
    huge = (logits.detach() * 1000).requires_grad_()
    found = upsampled_cross_entropy(huge, labels)
    torch.testing.assert_close(found, reference_cross_entropy(huge, labels), rtol=1e-5, atol=1e-5)
    found.backward()
    assert torch.isfinite(huge.grad).all()


def test_half_precision_logits_are_computed_in_float32():
    logits, labels = case(2)
    low = logits.detach().bfloat16().requires_grad_()
    found = upsampled_cross_entropy(low, labels)
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found, reference_cross_entropy(low.float(), labels), rtol=1e-5, atol=1e-6
    )
    found.backward()
    assert low.grad.dtype == torch.bfloat16


def test_nothing_counts():
    logits, labels = case(3)
    for average_counted in (False, True):
        found = upsampled_cross_entropy(logits, torch.full_like(labels, 255), 255, average_counted)
        assert found.item() == 0.0
        (gradient,) = torch.autograd.grad(found, logits)
        assert not gradient.any()


def test_labels_of_eight_bits_and_another_ignored_label():
    logits, labels = case(4)
    found = upsampled_cross_entropy(logits, labels.to(torch.uint8))
    torch.testing.assert_close(found, reference_cross_entropy(logits, labels))
    zero = torch.where(labels == 255, 0, labels)
    torch.testing.assert_close(
        upsampled_cross_entropy(logits, zero, ignore_index=0),
        reference_cross_entropy(logits, zero, ignore_index=0),
    )


@pytest.mark.parametrize("label", [7, 200, -1])
def test_labels_out_of_range_are_refused(label):
    logits, labels = case(5)
    labels[1, 2, 3] = label
    with pytest.raises(ValueError, match="but there are 7 classes; check reduce_zero_label"):
        upsampled_cross_entropy(logits, labels)


def test_shapes_that_do_not_fit_are_refused():
    logits, labels = case(6)
    with pytest.raises(ValueError, match="of one batch"):
        upsampled_cross_entropy(logits, labels[:1])
    with pytest.raises(ValueError, match="of one batch"):
        upsampled_cross_entropy(logits, labels[:, None])


@pytest.mark.parametrize(("small", "large"), [(1, 5), (4, 4), (7, 30), (9, 5)])
def test_interpolation_matrix_is_that_of_torch(small, large):
    values = torch.randn(small)
    expected = F.interpolate(values[None, None], size=large, mode="linear", align_corners=False)
    found = interpolation_matrix(small, large, values) @ values
    torch.testing.assert_close(found, expected[0, 0])


def test_without_gradient_none_is_kept():
    logits, labels = case(7)
    with torch.no_grad():
        found = upsampled_cross_entropy(logits, labels)
    assert not found.requires_grad
    torch.testing.assert_close(found, reference_cross_entropy(logits.detach(), labels))


def test_autocast_around_it_changes_nothing():
    logits, labels = case(9)
    expected = upsampled_cross_entropy(logits, labels)
    (expected_gradient,) = torch.autograd.grad(expected, logits)
    with torch.autocast("cpu", torch.bfloat16):
        found = upsampled_cross_entropy(logits, labels)
    (gradient,) = torch.autograd.grad(found, logits)
    assert torch.equal(found, expected) and torch.equal(gradient, expected_gradient)


def test_a_second_derivative_is_refused_and_the_first_is_not():
    logits, labels = case(10)
    (expected,) = torch.autograd.grad(reference_cross_entropy(logits, labels), logits)
    (gradient,) = torch.autograd.grad(
        upsampled_cross_entropy(logits, labels), logits, create_graph=True
    )
    torch.testing.assert_close(gradient.detach(), expected, rtol=1e-5, atol=1e-6)
    # The plain path has one, and here another term has a graph: nothing may pass for 0.
    with pytest.raises(RuntimeError, match="differentiate twice"):
        (gradient.square().sum() + logits.square().sum()).backward()
