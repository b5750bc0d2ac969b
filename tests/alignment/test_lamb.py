"""LAMB against a slow version in plain Python floats, and its state through a file."""

from __future__ import annotations

import io
import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from interpreted_kernels import interpreted  # noqa: F401 (a fixture)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from pe_dense import kernels
from pe_dense.alignment import fused_lamb
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


# Fused steps against those of single tensors

SHAPES = [(3, 5), (64,), (9, 16), (1,), (0, 4), (200,), ()]


@pytest.fixture
def small_chunks(interpreted, monkeypatch):  # noqa: F811
    """Tensors of some hundred numbers then have full chunks, several chunks and cut ones."""
    from pe_dense.alignment import lamb_kernel

    monkeypatch.setattr(lamb_kernel, "CHUNK", 64)
    monkeypatch.setattr(lamb_kernel, "BLOCK", 16)


def after_steps(shapes, dtype=torch.float32, steps=4, groups=None, **settings):
    """Parameters and moments after some steps; some start at 0, some have no gradient at first."""
    generator = torch.Generator().manual_seed(0)
    parameters = []
    for i, shape in enumerate(shapes):
        value = torch.randn(shape, generator=generator) * (i != 3)
        parameters.append(torch.nn.Parameter(value.to(dtype)))
    groups = groups or [{}]
    split = [dict(params=parameters[i :: len(groups)], **g) for i, g in enumerate(groups)]
    optimizer = LAMB(split, **{**dict(lr=0.1, betas=(0.9, 0.95)), **settings})
    for step in range(steps):
        for i, parameter in enumerate(parameters):
            gradient = torch.randn(parameter.shape, generator=generator).to(dtype)
            parameter.grad = gradient if step or i != 1 else None
        optimizer.step()
    moments = [optimizer.state[p][key] for p in parameters for key in ("exp_avg", "exp_avg_sq")]
    counts = [optimizer.state[p]["step"].item() for p in parameters]
    return [p.detach() for p in parameters], moments, counts


@pytest.mark.parametrize(
    "settings",
    [
        {},
        dict(weight_decay=0.05),
        dict(adapt_undecayed=False, eps=1e-3),
        dict(groups=[dict(weight_decay=0.1, lr=0.3), dict(betas=(0.5, 0.7))]),
    ],
)
def test_fused_steps_equal_single_ones(small_chunks, monkeypatch, settings) -> None:
    with monkeypatch.context() as patch:
        patch.setenv(kernels.VARIABLE, "off")
        expected = after_steps(SHAPES, **settings)
    used = []
    whole = fused_lamb._step
    monkeypatch.setattr(fused_lamb, "_step", lambda *a: (used.append(len(a[1])), whole(*a))[1])
    found = after_steps(SHAPES, **settings)
    assert used == [len(SHAPES) - 1] + [len(SHAPES)] * 3
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_fused_half_parameters(small_chunks, monkeypatch) -> None:
    settings = dict(dtype=torch.bfloat16, weight_decay=0.05, steps=2)
    found = after_steps(SHAPES, **settings)
    monkeypatch.setenv(kernels.VARIABLE, "off")
    expected = after_steps(SHAPES, **settings)
    for fast, slow in zip(found[0], expected[0], strict=True):
        assert fast.dtype == torch.bfloat16
        # One unit in the last place a step: the interpreter cuts where devices round.
        torch.testing.assert_close(fast, slow, rtol=2**-6, atol=2**-9)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-5, atol=1e-6)


def test_what_kernels_cannot_take_steps_alone(small_chunks) -> None:
    strided = torch.nn.Parameter(torch.randn(6, 4).T)
    doubles = torch.nn.Parameter(torch.randn(5, dtype=torch.float64))
    shifted = torch.nn.Parameter(torch.randn(9)[1:])  # at no multiple of 16 bytes
    optimizer = LAMB([strided, doubles, shifted], lr=0.1)
    for parameter in (strided, doubles, shifted):
        parameter.grad = torch.ones_like(parameter)
        before = parameter.detach().clone()
        optimizer.step()
        state, group = optimizer.state[parameter], optimizer.param_groups[0]
        assert not fused_lamb.Step().takes(parameter, state, group, True, 1.0)
        assert (parameter - before).detach().norm() == pytest.approx(
            0.1 * before.norm().item(), rel=1e-4
        )
        parameter.grad = None


def test_a_nan_of_the_gradient_is_not_hidden(small_chunks) -> None:
    x, y = (torch.nn.Parameter(torch.ones(100)) for _ in range(2))
    x.grad, y.grad = torch.ones(100), torch.ones(100)
    x.grad[70] = float("nan")
    LAMB([x, y], lr=0.1).step()
    assert x.isnan().any() and y.isfinite().all()


def test_fused_steps_repeat_bit_for_bit(small_chunks) -> None:
    for one, two in zip(after_steps(SHAPES)[0], after_steps(SHAPES)[0], strict=True):
        assert torch.equal(one, two)


def step_shards(rank: int, folder: str) -> None:
    """One of two processes that hold halves of three tensors; the first writes the results."""
    import os

    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    results = []
    for setting in ("off", "on"):
        os.environ[kernels.VARIABLE] = setting
        generator = torch.Generator().manual_seed(0)
        parameters = []
        for shape in ((5, 7), (1,), (40, 16)):
            value = distribute_tensor(torch.randn(shape, generator=generator), mesh, [Shard(0)])
            parameters.append(torch.nn.Parameter(value))
        optimizer = LAMB(parameters, lr=0.1, weight_decay=0.01)
        for _ in range(3):
            for parameter in parameters:
                gradient = torch.randn(parameter.shape, generator=generator)
                parameter.grad = distribute_tensor(gradient, mesh, [Shard(0)])
            optimizer.step()
        assert bool(optimizer._layouts) == (setting == "on")
        results.append([parameter.detach().full_tensor() for parameter in parameters])
    if rank == 0:
        torch.save(results, f"{folder}/results.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_fused_steps_of_shards_use_the_norms_of_whole_tensors(interpreted, tmp_path) -> None:  # noqa: F811
    mp.spawn(step_shards, (str(tmp_path),), nprocs=2)
    slow, fast = torch.load(tmp_path / "results.pt")
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-6)
