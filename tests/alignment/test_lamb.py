"""LAMB against a slow version in plain Python floats, and its state through a file."""

from __future__ import annotations

import io
import math

import pytest
import torch

from pe_dense.alignment.lamb import LAMB


def slow_lamb(x, gradients, lr, betas, eps, decay, adapt):
    """Algorithm 2 of arXiv:1904.00962, number by number."""
    m, v = [0.0] * len(x), [0.0] * len(x)
    for t, g in enumerate(gradients, 1):
        update = []
        for i in range(len(x)):
            m[i] = betas[0] * m[i] + (1 - betas[0]) * g[i]
            v[i] = betas[1] * v[i] + (1 - betas[1]) * g[i] ** 2
            r = m[i] / (1 - betas[0] ** t) / (math.sqrt(v[i] / (1 - betas[1] ** t)) + eps)
            update.append(r + decay * x[i])
        norms = [math.sqrt(sum(a * a for a in u)) for u in (x, update)]
        ratio = norms[0] / norms[1] if adapt and norms[0] and norms[1] else 1.0
        x = [a - lr * ratio * u for a, u in zip(x, update, strict=True)]
    return x


@pytest.mark.parametrize("decay", [0.0, 0.05])
@pytest.mark.parametrize("adapt", [True, False])
@pytest.mark.parametrize("start", [0.0, 0.7])
def test_equals_the_slow_version(decay, adapt, start) -> None:
    torch.manual_seed(0)
    x = torch.nn.Parameter(torch.randn(2, 3, dtype=torch.float64) * start)
    gradients = torch.randn(5, 6, dtype=torch.float64)
    settings = dict(lr=0.1, betas=(0.9, 0.95), eps=1e-6)
    expected = slow_lamb(
        x.detach().flatten().tolist(),
        gradients.tolist(),
        **settings,
        decay=decay,
        adapt=adapt or decay > 0,
    )
    optimizer = LAMB([x], **settings, weight_decay=decay, adapt_undecayed=adapt)
    for gradient in gradients:
        x.grad = gradient.view(2, 3).clone()
        optimizer.step()
    torch.testing.assert_close(x.detach().flatten().tolist(), expected, rtol=1e-12, atol=1e-13)


def test_a_step_is_as_long_as_the_learning_rate_says() -> None:
    x = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = LAMB([x], lr=0.01)
    x.grad = torch.tensor([1e-3, -7.0])
    optimizer.step()
    step = x.detach() - torch.tensor([3.0, 4.0])
    assert step.norm().item() == pytest.approx(0.01 * 5, rel=1e-5)


def test_zero_gradients_and_absent_ones() -> None:
    x, y = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = LAMB([x, y], lr=0.1)
    x.grad = torch.zeros(2)
    optimizer.step()
    assert x.tolist() == y.tolist() == [1.0, 1.0] and y not in optimizer.state


def test_the_group_decides_what_is_adapted() -> None:
    torch.manual_seed(0)
    x, y = (torch.nn.Parameter(torch.full((3,), 5.0)) for _ in range(2))
    groups = [dict(params=[x], weight_decay=0.0), dict(params=[y], weight_decay=1e-9)]
    optimizer = LAMB(groups, lr=0.1, adapt_undecayed=False)
    x.grad = y.grad = torch.ones(3)
    optimizer.step()
    assert x.tolist() == pytest.approx([4.9] * 3, rel=1e-5)  # Adam's step
    assert y.tolist() == pytest.approx([4.5] * 3, rel=1e-5)  # a tenth of the norm


def test_half_parameters_keep_float32_moments() -> None:
    x = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    optimizer = LAMB([x], lr=0.1)
    x.grad = torch.ones(3, dtype=torch.bfloat16)
    optimizer.step()
    assert optimizer.state[x]["exp_avg"].dtype == torch.float32 and x.dtype == torch.bfloat16


def test_resumes_bit_for_bit() -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(4, 3), torch.randn(6, 4, 3)

    def run(x, optimizer, part):
        for gradient in part:
            x.grad = gradient.clone()
            optimizer.step()

    x = torch.nn.Parameter(start.clone())
    optimizer = LAMB([x], lr=0.1, weight_decay=0.1)
    run(x, optimizer, gradients[:3])
    file = io.BytesIO()
    torch.save((x.detach(), optimizer.state_dict()), file)
    run(x, optimizer, gradients[3:])
    file.seek(0)
    value, state = torch.load(file, weights_only=True)
    y = torch.nn.Parameter(value)
    again = LAMB([y], lr=0.5)
    again.load_state_dict(state)
    run(y, again, gradients[3:])
    assert torch.equal(x, y)


@pytest.mark.parametrize(
    "settings, words",
    [
        (dict(lr=-1), "lr=-1"),
        (dict(eps=-1e-9), "eps=-1e-09"),
        (dict(weight_decay=float("nan")), "weight_decay=nan"),
        (dict(betas=(0.9, 1.0)), r"betas=\(0.9, 1.0\)"),
    ],
)
def test_bad_numbers(settings, words) -> None:
    with pytest.raises(ValueError, match=words):
        LAMB([torch.nn.Parameter(torch.ones(1))], **settings)


def test_sparse_gradients_are_refused() -> None:
    table = torch.nn.Embedding(3, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match="sparse"):
        LAMB(table.parameters()).step()
