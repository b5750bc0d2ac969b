"""Depth losses against loops over pixels, hand-solved cases and what the released code gives."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS

from pe_dense.pixelwise.depth_losses import DepthGradientLoss, ScaleInvariantLogLoss

EPS = 1e-3


def maps(batch=2, height=9, width=11, seed=0):
    """Prediction and depth in float64; a third of the depth is not annotated."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, 1, height, width)
    prediction = torch.rand(shape, generator=generator, dtype=torch.float64) * 9 + 0.5
    depth = torch.rand(shape, generator=generator, dtype=torch.float64) * 9 + 0.5
    depth[torch.rand(shape, generator=generator) < 0.3] = 0.0
    return prediction, depth


def log_errors(prediction, depth, max_depth=math.inf):
    pairs = zip(prediction.flatten().tolist(), depth.flatten().tolist())
    return [math.log(p + EPS) - math.log(d + EPS) for p, d in pairs if 0 < d <= max_depth]


@pytest.mark.parametrize("max_depth", [None, 5.0])
def test_scale_invariant_loss_is_the_form_of_bts(max_depth):
    prediction, depth = maps()
    errors = log_errors(prediction, depth, max_depth or math.inf)
    n = len(errors)
    mean, mean_square = sum(errors) / n, sum(e * e for e in errors) / n
    # BTS: mean(g^2) - 0.85 mean(g)^2; the variance part is divided by n - 1 instead of n.
    expected = math.sqrt((mean_square - mean**2) * n / (n - 1) + 0.15 * mean**2)
    loss = ScaleInvariantLogLoss(loss_weight=10.0, max_depth=max_depth)
    assert loss(prediction, depth).item() == pytest.approx(10 * expected, rel=1e-12)
    assert expected == pytest.approx(math.sqrt(mean_square - 0.85 * mean**2), rel=1e-2)


def test_the_largest_depth_itself_counts():
    depth = torch.tensor([5.0, 2.0, 8.0]).reshape(1, 1, 1, 3)
    prediction = torch.tensor([1.0, 2.0, 2.0], requires_grad=True)
    ScaleInvariantLogLoss(max_depth=5.0)(prediction.reshape(1, 1, 1, 3), depth).backward()
    assert (prediction.grad != 0).tolist() == [True, True, False]


def test_a_mask_is_the_same_as_no_annotation():
    prediction, depth = maps()
    valid = torch.rand(depth.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    for loss in (ScaleInvariantLogLoss(), DepthGradientLoss()):
        masked = loss(prediction, depth, valid)
        assert masked == loss(prediction, torch.where(valid, depth, 0.0))
        assert masked != loss(prediction, depth)


def test_warm_up_trains_the_scale_only_and_survives_a_checkpoint():
    prediction, depth = maps()
    errors = log_errors(prediction, depth)
    scale_only = math.sqrt(0.15) * abs(sum(errors) / len(errors))
    full = ScaleInvariantLogLoss()(prediction, depth).item()
    loss = ScaleInvariantLogLoss(warm_up_steps=2)
    assert loss.eval()(prediction, depth).item() == full  # validation neither warms nor counts
    loss.train()
    assert loss(prediction, depth).item() == pytest.approx(scale_only, rel=1e-12)
    resumed = ScaleInvariantLogLoss(warm_up_steps=2)
    resumed.load_state_dict(loss.state_dict())
    values = [resumed(prediction, depth).item() for _ in range(3)]
    assert values == pytest.approx([scale_only, full, full], rel=1e-12)


def test_a_perfect_prediction_has_loss_and_gradient_zero():
    _, depth = maps()
    depth = depth.clamp(min=0.5)
    warming = ScaleInvariantLogLoss(warm_up_steps=5)
    for loss in (ScaleInvariantLogLoss(), warming, DepthGradientLoss()):
        prediction = depth.clone().requires_grad_()
        value = loss(prediction, depth)
        value.backward()
        assert value.item() == 0.0
        assert torch.equal(prediction.grad, torch.zeros_like(depth))


@pytest.mark.parametrize("as_released", [False, True])
def test_no_annotation_gives_zero_with_a_graph(as_released):
    for invalid in (0.0, -1.0, math.nan, math.inf):
        for loss in (
            ScaleInvariantLogLoss(),
            ScaleInvariantLogLoss(warm_up_steps=5),
            DepthGradientLoss(as_released=as_released),
        ):
            prediction = torch.rand(2, 1, 4, 5).requires_grad_()
            value = loss(prediction, torch.full((2, 1, 4, 5), invalid))
            value.backward()
            assert value.item() == 0.0
            assert torch.equal(prediction.grad, torch.zeros(2, 1, 4, 5))


def test_bad_values_where_nothing_is_annotated_do_not_reach_the_gradient():
    prediction, depth = maps()
    spoiled = torch.where(depth > 0, prediction, -5.0).requires_grad_()
    for loss in (ScaleInvariantLogLoss(), DepthGradientLoss()):
        value = loss(spoiled, depth)
        (gradient,) = torch.autograd.grad(value, spoiled)
        assert value == loss(prediction, depth) and torch.isfinite(gradient).all()
        assert (gradient[depth <= 0] == 0).all() and (gradient != 0).any()


def test_one_pixel_has_no_variance():
    depth = torch.zeros(1, 1, 3, 3)
    depth[0, 0, 1, 1] = 2.0
    loss = ScaleInvariantLogLoss(eps=1e-9)(torch.full_like(depth, 4.0), depth)
    assert loss.item() == pytest.approx(math.sqrt(0.15) * math.log(2), rel=1e-5)


def test_gradients_are_those_of_finite_differences():
    prediction, depth = maps(height=5, width=6)
    prediction.requires_grad_()
    for loss in (ScaleInvariantLogLoss(), DepthGradientLoss()):
        assert torch.autograd.gradcheck(lambda p, loss=loss: loss(p, depth), prediction)


def slow_gradient_loss(prediction, depth):
    """One loop for every sentence of the rule, on (B, 1, H, W)."""
    total = 0.0
    batch, _, height, width = depth.shape
    for step in (1, 2, 4, 6):
        rows, columns = range(0, height, step), range(0, width, step)
        change, num = 0.0, 0
        for b in range(batch):
            g = {}
            for y in range(len(rows)):
                for x in range(len(columns)):
                    p = prediction[b, 0, rows[y], columns[x]].item()
                    d = depth[b, 0, rows[y], columns[x]].item()
                    if d > 0:
                        g[y, x] = math.log(p + EPS) - math.log(d + EPS)
            num += len(g)
            for (y, x), value in g.items():
                change += sum(abs(value - g[q]) for q in ((y + 2, x), (y, x + 2)) if q in g)
        total += change / max(num, 1)
    return total


@pytest.mark.parametrize("size", [(9, 11), (20, 17), (3, 3), (1, 1)])
def test_gradient_loss_equals_loops(size):
    prediction, depth = maps(3, *size)
    expected = slow_gradient_loss(prediction, depth)
    loss = DepthGradientLoss(loss_weight=0.5)
    assert loss(prediction, depth).item() == pytest.approx(0.5 * expected, rel=1e-12)
    assert loss(prediction[:, 0], depth[:, 0]).item() == pytest.approx(0.5 * expected, rel=1e-12)
    assert (expected > 0) == (size != (1, 1))


def test_gradient_loss_solved_by_hand():
    # A row whose log error rises by 1 a pixel: pairs two apart differ by 2.
    depth = torch.ones(1, 1, 1, 4, dtype=torch.float64)
    prediction = torch.exp(torch.arange(4.0, dtype=torch.float64)).reshape(1, 1, 1, 4)
    loss = DepthGradientLoss(eps=1e-12)(prediction, depth).item()
    assert loss == pytest.approx((2 + 2) / 4)  # step 2 keeps two columns: no pair
    depth[..., 0] = 0.0
    assert DepthGradientLoss(eps=1e-12)(prediction, depth).item() == pytest.approx(2 / 3)


@pytest.mark.parametrize("batch", [1, 2])
def test_released_gradient_loss_is_zero_for_two_images(batch):
    prediction, depth = maps(batch, 24, 24)
    released = DepthGradientLoss(as_released=True)(prediction.requires_grad_(), depth)
    released.backward()
    assert released.item() == 0.0 and not prediction.grad.any()
    assert DepthGradientLoss()(prediction, depth).item() > 0.5


def test_released_gradient_loss_compares_images():
    prediction, depth = maps(5, 6, 7)
    log_error = (prediction + EPS).log() - (depth + EPS).log()
    annotated = depth > 0
    expected = 0.0
    for step in (1, 2, 4, 6):
        images = range(0, 5, step)
        num = sum(int(annotated[b].sum()) for b in images)
        for first, third in zip(images, images[2:]):
            both = annotated[first] & annotated[third]
            change = (log_error[first] - log_error[third]).abs()[both].sum().item()
            expected += change / num
    released = DepthGradientLoss(as_released=True)(prediction, depth)
    assert released.item() == pytest.approx(expected, rel=1e-12) and expected > 0.5


def test_half_precision_is_computed_in_float32():
    prediction, depth = maps()
    half = prediction.bfloat16()
    for loss in (ScaleInvariantLogLoss(), DepthGradientLoss()):
        assert loss(half, depth.float()).dtype == torch.float32
        assert loss(half, depth.float()) == loss(half.float(), depth.float())


def test_losses_are_built_by_name():
    loss = MODELS.build({"type": "ScaleInvariantLogLoss", "warm_up_steps": 100})
    assert isinstance(loss, ScaleInvariantLogLoss) and loss.loss_name == "loss_silog"
    loss = MODELS.build({"type": "DepthGradientLoss", "loss_weight": 0.5, "as_released": True})
    assert isinstance(loss, DepthGradientLoss) and loss.as_released


def test_bad_input_is_refused():
    one = torch.ones(2, 1, 4, 4)
    for loss in (ScaleInvariantLogLoss(), DepthGradientLoss()):
        with pytest.raises(ValueError, match=r"depth of \(2, 4, 4\)"):
            loss(one, one[:, 0])
        with pytest.raises(ValueError, match="valid is torch.float32"):
            loss(one, one, one)
    with pytest.raises(ValueError, match=r"pass \(B, 1, H, W\)"):
        DepthGradientLoss(as_released=True)(one[:, 0], one[:, 0])


@pytest.mark.parametrize(
    ("loss", "arguments", "message"),
    [
        (ScaleInvariantLogLoss, {"mean_weight": 1.5}, "mean_weight 1.5"),
        (ScaleInvariantLogLoss, {"warm_up_steps": -1}, "warm_up_steps -1"),
        (ScaleInvariantLogLoss, {"eps": 0.0}, "eps 0.0"),
        (DepthGradientLoss, {"max_depth": 0.0}, "max_depth 0.0"),
        (DepthGradientLoss, {"loss_name": "grad"}, "'grad' does not begin with 'loss'"),
    ],
)
def test_bad_arguments_are_refused(loss, arguments, message):
    with pytest.raises(ValueError, match=message):
        loss(**arguments)


GOLDEN = np.load(Path(__file__).resolve().parents[1] / "golden/depth_losses.npz")


def golden_maps(batch):
    """Prediction and depth, (batch, 1, 13, 17) in m."""
    names = ("prediction", "depth")
    return [torch.from_numpy(GOLDEN[name][:batch].astype(np.float32)) for name in names]


@pytest.mark.parametrize("batch", [2, 3])
@pytest.mark.parametrize("source", ["dinov2", "dinov3"])
def test_scale_invariant_loss_is_that_of_dinov2_and_dinov3(source, batch):
    """The first, the last of the warm-up, and the one after it."""
    prediction, depth = (
        torch.from_numpy(GOLDEN[name][:batch].astype(np.float32))
        for name in ("prediction", "depth")
    )
    loss = ScaleInvariantLogLoss(warm_up_steps=100)
    found = [loss(prediction, depth).item() for _ in range(101)]
    known = GOLDEN[f"{source}.silog.{batch}"]
    np.testing.assert_allclose([found[0], found[99], found[100]], known, rtol=1e-5)


@pytest.mark.parametrize("batch", [2, 3])
def test_released_gradient_loss_is_that_of_dinov2(batch):
    """At the 2 images of the recipe it is exactly 0, so that leaving it out changes nothing."""
    prediction, depth = (
        torch.from_numpy(GOLDEN[name][:batch].astype(np.float32))
        for name in ("prediction", "depth")
    )
    found = DepthGradientLoss(loss_weight=0.5, as_released=True)(prediction, depth).item()
    known = float(GOLDEN[f"dinov2.gradient.{batch}"])
    assert found == pytest.approx(known, rel=1e-5, abs=0.0)
    assert (known == 0) == (batch == 2)
