"""Towers in bfloat16 with fewer passes over memory equal the layers as they are written."""

import pytest
import torch
import torch.nn.functional as F
from interpreted_kernels import interpreted  # noqa: F401 (a fixture)

from pe_dense import kernels
from pe_dense.encoders import pe
from pe_dense.encoders.pe import PerceptionEncoder
from pe_dense.encoders.residual_norm import added, linear_gelu, patches_by_product, runs_fused

TINY = dict(patch_size=4, embed_dim=48, depth=3, num_heads=3, mlp_hidden=96, image_size=24)
WINDOWS = dict(cls_token=False, window_size=4, global_blocks=(1,), rope_grid=6)


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("channels", [16, 40])
@pytest.mark.parametrize("rows", [1, 7, 600])
def test_sum_and_norm_equal_the_layers(interpreted, rows, channels):  # noqa: F811
    from pe_dense.encoders.residual_norm_kernel import sum_and_norm

    x, branch = numbers(rows, channels), numbers(rows, channels, seed=1)
    gain, weight, bias = (numbers(channels, seed=s) for s in (2, 3, 4))
    total, normed, shifted = sum_and_norm(x, branch, gain, weight, bias, 1e-5)
    expected = x + gain * branch
    norm = F.layer_norm(expected, (channels,), weight, bias, 1e-5)
    torch.testing.assert_close((total, normed), (expected, norm), rtol=1e-5, atol=1e-5)
    assert shifted is None
    total, normed, _ = sum_and_norm(x, branch, None, None, None)
    torch.testing.assert_close(total, x + branch)
    assert normed is None
    total, normed, _ = sum_and_norm(x, None, None, weight, bias, 1e-3, wants_sum=False)
    norm = F.layer_norm(x, (channels,), weight, bias, 1e-3)
    torch.testing.assert_close(normed, norm, rtol=1e-5, atol=1e-5)
    assert total is None


def test_rows_of_base_and_shift_repeat(interpreted):  # noqa: F811
    from pe_dense.encoders.residual_norm_kernel import sum_and_norm

    base, branch, shift = numbers(5, 16), numbers(3, 5, 16, seed=1), numbers(5, 16, seed=2)
    weight, bias = numbers(16, seed=3), numbers(16, seed=4)
    total, normed, shifted = sum_and_norm(base, branch, None, weight, bias, 1e-6, False, shift)
    expected = F.layer_norm(base + branch, (16,), weight, bias, 1e-6)
    torch.testing.assert_close(normed, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(shifted, expected + shift, rtol=1e-5, atol=1e-5)
    assert total is None


def tower(**options):
    torch.manual_seed(0)
    return PerceptionEncoder(**{**TINY, "cls_token": True, **options}).eval()


@pytest.mark.parametrize("options", [{}, dict(layer_scale=0.5), WINDOWS])
def test_towers_with_and_without(interpreted, monkeypatch, options):  # noqa: F811
    encoder, images = tower(**options), numbers(2, 3, 20, 24)
    with torch.no_grad():
        exact = encoder(images)
        half, ran = encoder.to(torch.bfloat16), []
        monkeypatch.setattr(pe, "added", lambda *a: (ran.append(1), added(*a))[1])
        fast = half(images.bfloat16())
        assert len(ran) == 2 * encoder.depth == 6
        monkeypatch.setenv(kernels.VARIABLE, "off")
        slow = half(images.bfloat16())
        assert len(ran) == 2 * encoder.depth
    gaps = [(x.float() - exact).norm() / exact.norm() for x in (fast, slow)]
    assert max(gaps) < 3e-2  # the interpreter cuts what devices round: three times the gap


def test_who_takes_the_path_of_fewer_passes(interpreted):  # noqa: F811
    weight, x = torch.ones(4, dtype=torch.bfloat16), torch.ones(2, 4, dtype=torch.bfloat16)
    with torch.no_grad():
        assert runs_fused(x, weight)
        assert not runs_fused(x.float(), weight.float()) and not runs_fused(x, weight.float())
        assert not runs_fused(torch.ones(4, 2, dtype=torch.bfloat16).T, weight)
        with torch.autocast("cpu", torch.bfloat16):
            assert not runs_fused(x, weight)
    assert not runs_fused(x, weight)  # a gradient may be wanted


def test_hooked_and_compiled_blocks_run_one_by_one(interpreted, monkeypatch):  # noqa: F811
    encoder, images = tower().to(torch.bfloat16), numbers(1, 3, 24, 24).bfloat16()
    with torch.no_grad():
        fast = encoder.forward_intermediates(images, (0, -1))
        seen = []
        encoder.blocks[1].register_forward_hook(lambda *_: seen.append(1))
        slow = encoder.forward_intermediates(images, (0, -1))
    assert seen == [1]
    for a, b in zip(fast, slow, strict=True):
        assert (a - b).norm() < 3e-2 * b.norm()


def test_training_towers_and_hung_up_patches_run_as_written(interpreted, monkeypatch):  # noqa: F811
    encoder, images = tower(drop_path_rate=0.5).to(torch.bfloat16), numbers(2, 3, 24, 24).bfloat16()
    monkeypatch.setattr(pe, "added", None)
    monkeypatch.setattr(pe, "patches_by_product", None)
    encoder.train().conv1.register_forward_hook(lambda module, inputs, patches: patches * 0)
    with torch.no_grad():
        assert encoder(images).isfinite().all()


@pytest.mark.parametrize("size", [(1, 8, 12), (2, 4, 4)])
def test_patches_by_product_are_those_of_the_convolution(size):
    batch, h, w = size
    conv = torch.nn.Conv2d(3, 5, 4, stride=4, bias=False)
    images = numbers(batch, 3, h, w)
    torch.testing.assert_close(patches_by_product(images, conv), conv(images))


def test_gelu_in_the_product_is_as_near_as_gelu_behind_it():
    """Both against float64: the tanh form in float32 beside the exact form of rounded sums."""
    layer, x = torch.nn.Linear(64, 256).bfloat16(), numbers(4, 100, 64).bfloat16()
    with torch.no_grad():
        exact = F.gelu(F.linear(x.double(), layer.weight.double(), layer.bias.double()))
        behind, inside = F.gelu(layer(x)), linear_gelu(x, layer)
    assert inside.shape == behind.shape
    tanh = F.gelu(
        F.linear(x.double(), layer.weight.double(), layer.bias.double()), approximate="tanh"
    )
    gap = (behind.double() - exact).norm()
    assert (inside.double() - exact).norm() <= 1.05 * gap
    assert (tanh.bfloat16().double() - exact).norm() <= gap
    assert (tanh - exact).abs().max() < 5e-4
