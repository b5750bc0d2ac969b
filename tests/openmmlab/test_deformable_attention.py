"""The Triton kernel of deformable attention equals mmcv's PyTorch form, with its gradients."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from interpreted_kernels import interpreted  # noqa: F401 (a fixture)

pytest.importorskip("mmcv.ops")
from pe_dense.openmmlab import deformable_attention as module
from pe_dense.openmmlab.deformable_attention import (
    deformable_attention,
    plain_deformable_attention,
)

SHAPES = ((5, 7), (3, 4), (1, 1))


def inputs(num_queries: int, width: int, spread: float, dtype=torch.float32):
    torch.manual_seed(0)
    shapes = torch.tensor(SHAPES)
    num_tokens = int(shapes.prod(1).sum())
    values = torch.randn(2, num_tokens, 2, width, dtype=dtype)
    locations = 0.5 + spread * (torch.rand(2, num_queries, 2, 3, 2, 2, dtype=dtype) - 0.5)
    weights = torch.rand(2, num_queries, 2, 3, 2, dtype=dtype)
    return shapes, values, locations, weights


def results(function, shapes, values, locations, weights):
    leaves = [x.clone().requires_grad_() for x in (values, locations, weights)]
    output = function(leaves[0], shapes, leaves[1], leaves[2])
    torch.manual_seed(1)
    output.backward(torch.randn_like(output))
    return [output.detach(), *(x.grad for x in leaves)]


@pytest.mark.parametrize(
    ("num_queries", "width", "spread"), [(5, 8, 1.4), (35, 6, 0.9), (1, 4, 50)]
)
def test_the_kernel_equals_the_plain_form(interpreted, num_queries, width, spread) -> None:  # noqa: F811
    case = inputs(num_queries, width, spread)
    fast = results(deformable_attention, *case)
    slow = results(plain_deformable_attention, *case)
    for name, a, b in zip(("output", "values", "locations", "weights"), fast, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_the_kernel_takes_no_queries(interpreted) -> None:  # noqa: F811
    output, *grads = results(deformable_attention, *inputs(0, 8, 1.0))
    assert output.shape == (2, 0, 16)
    assert not grads[0].any()


def test_cpu_tensors_take_the_plain_form() -> None:
    shapes, values, locations, weights = inputs(4, 8, 1.0)
    expected = plain_deformable_attention(values, shapes, locations, weights)
    assert torch.equal(deformable_attention(values, shapes, locations, weights), expected)


class OnCuda:
    """What the dispatcher asks of values on a GPU."""

    is_cuda, dtype, device = True, torch.float32, torch.device("cuda", 0)

    def __init__(self, num_images: int) -> None:
        self.num_images = num_images

    def __len__(self) -> int:
        return self.num_images


@pytest.mark.parametrize(
    ("operators_work", "num_images", "dtype", "taken"),
    [
        (True, 2, torch.float32, "mmcv"),
        (True, 65, torch.float32, "plain"),
        (True, 2, torch.bfloat16, "plain"),
        (False, 2, torch.float32, "plain"),
    ],
)
def test_without_triton_mmcv_s_operator_is_taken_where_it_runs(
    monkeypatch, operators_work, num_images, dtype, taken
) -> None:
    values = OnCuda(num_images)
    values.dtype = dtype
    apply = SimpleNamespace(apply=lambda *inputs: ("mmcv", inputs[2].tolist()))
    monkeypatch.setattr(module, "use_kernels", lambda values: False)
    monkeypatch.setattr(module, "work_on", lambda device: operators_work)
    monkeypatch.setattr(module.mmcv_module, "MultiScaleDeformableAttnFunction", apply)
    monkeypatch.setattr(module, "plain_deformable_attention", lambda *inputs: "plain")
    result = deformable_attention(values, torch.tensor(SHAPES), None, None)
    assert result == (("mmcv", [0, 35, 47]) if taken == "mmcv" else "plain")


def test_mmcv_s_layer_comes_here(monkeypatch) -> None:
    layer = module.mmcv_module.MultiScaleDeformableAttention(
        16, num_heads=2, num_levels=3, num_points=2, batch_first=True
    )
    tokens = torch.randn(1, 48, 16)
    points = torch.rand(1, 48, 3, 2)
    seen = []
    monkeypatch.setattr(module, "use_kernels", lambda values: bool(seen.append(values.shape)))
    layer(tokens, reference_points=points, spatial_shapes=torch.tensor(SHAPES))
    assert seen == [(1, 48, 2, 8)]


@pytest.mark.parametrize("box", [False, True])
def test_the_layer_without_checks_equals_mmcv_s(box: bool) -> None:
    torch.manual_seed(0)
    layer = module.mmcv_module.MultiScaleDeformableAttention(
        16, num_heads=2, num_levels=3, num_points=2, batch_first=True, dropout=0.0
    )
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    inputs = dict(
        query=torch.randn(2, 48, 16),
        query_pos=torch.randn(2, 48, 16),
        key_padding_mask=torch.rand(2, 48) > 0.8,
        reference_points=torch.rand(2, 48, 3, 4 if box else 2),
        spatial_shapes=torch.tensor(SHAPES),
    )
    expected = layer(**inputs), layer(**inputs, value=inputs["query"].flip(1))
    names = list(layer.state_dict())
    model = torch.nn.Sequential(layer)
    module.without_checks(model)
    assert type(model[0]) is module.DeformableAttention
    assert list(model[0].state_dict()) == names
    torch.testing.assert_close(model[0](**inputs), expected[0])
    torch.testing.assert_close(model[0](**inputs, value=inputs["query"].flip(1)), expected[1])
