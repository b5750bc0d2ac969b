"""Queries and keys turned where they lie equal those of the written rotation."""

import pytest
import torch
from interpreted_kernels import interpreted  # noqa: F401 (a fixture)

from pe_dense import kernels
from pe_dense.encoders import rotation
from pe_dense.encoders.pe import PerceptionEncoder
from pe_dense.encoders.rotation import rope_table, rotate, turned_qkv

# Sequences, tokens (one of them prefix), heads, head width: widths that are no powers of two, more
# sequences than one program takes, a last program that is not full.
SIZES = [(1, 2, 1, 4), (2, 7, 2, 12), (6, 10, 3, 8), (3, 5, 1, 96)]


def case(batch, tokens, heads, width, dtype=torch.float16):
    """float16: the interpreter rounds it as devices do, and cuts bfloat16."""
    generator = torch.Generator().manual_seed(tokens)
    qkv_BNC = torch.randn(batch, tokens, 3 * heads * width, generator=generator).to(dtype)
    return qkv_BNC, rope_table((1, tokens - 1), width, (1.0, 1.0), 1.0, 1)


def by_hand(qkv_BNC, table_ND2, heads):
    """In float64, one complex product after the other."""
    q, k, v = qkv_BNC.double().unflatten(-1, (3, heads, -1)).unbind(2)
    turn = torch.complex(*table_ND2.double().unbind(-1))[:, None]
    turned = [
        torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * turn).flatten(-2)
        for x in (q, k)
    ]
    return [x.transpose(1, 2) for x in (*turned, v)]


@pytest.mark.parametrize("size", SIZES)
def test_the_written_rotation_is_right(size):
    qkv_BNC, table_ND2 = case(*size, dtype=torch.float32)
    found = turned_qkv(qkv_BNC, table_ND2, size[2])
    expected = [x.float() for x in by_hand(qkv_BNC, table_ND2, size[2])]
    torch.testing.assert_close(list(found), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_the_kernel_equals_the_written_rotation(interpreted, monkeypatch, size):  # noqa: F811
    qkv_BNC, table_ND2 = case(*size)
    with monkeypatch.context() as patch:
        patch.setenv(kernels.VARIABLE, "off")
        expected = turned_qkv(qkv_BNC.clone(), table_ND2, size[2])
    memory = qkv_BNC.clone()
    found = turned_qkv(memory, table_ND2, size[2])
    assert all(x.untyped_storage().data_ptr() == memory.data_ptr() for x in found)  # in place
    for fast, slow in zip(found, expected, strict=True):
        torch.testing.assert_close(fast, slow, rtol=2**-10, atol=2**-12)
    assert torch.equal(found[2], expected[2])


@pytest.mark.parametrize("size", SIZES)
def test_gradients_equal_those_of_the_written_rotation(interpreted, monkeypatch, size):  # noqa: F811
    qkv_BNC, table_ND2 = case(*size)
    weights = [torch.randn(size[0], size[2], size[1], size[3]).half() for _ in range(3)]
    gradients = []
    for setting in ("off", "on"):
        monkeypatch.setenv(kernels.VARIABLE, setting)
        leaf = qkv_BNC.clone().requires_grad_()
        found = turned_qkv(leaf * 1, table_ND2, size[2])  # what a linear layer made
        sum((x.float() * w.float()).sum() for x, w in zip(found, weights)).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=2**-9, atol=2**-11)


def test_kernels_are_for_half_precision(interpreted):  # noqa: F811
    qkv_BNC, table_ND2 = case(1, 5, 2, 4, dtype=torch.float32)
    memory = qkv_BNC.clone()
    q, k, _ = turned_qkv(memory, table_ND2, 2)
    assert torch.equal(memory, qkv_BNC)  # float32 is as it ever was, bit for bit
    qk = rotate(qkv_BNC.unflatten(-1, (6, 4))[:, :, :4], table_ND2)
    assert torch.equal(torch.cat([q, k], 1), qk.transpose(1, 2))


@pytest.mark.parametrize(
    "options", [{}, dict(cls_token=False, window_size=4, global_blocks=(1,), rope_grid=6)]
)
@pytest.mark.parametrize("train", [False, True])
def test_towers_with_and_without_kernels(interpreted, monkeypatch, options, train):  # noqa: F811
    torch.manual_seed(0)
    settings = dict(patch_size=4, embed_dim=32, depth=2, num_heads=2, mlp_hidden=64, image_size=24)
    encoder = PerceptionEncoder(**{**settings, "cls_token": True, **options})
    images = torch.randn(1, 3, 20, 24)
    maps, gradients, uses = [], [], []
    whole = rotation._turns_in_place
    monkeypatch.setattr(
        rotation, "_turns_in_place", lambda qkv: (uses.append(whole(qkv)), uses[-1])[1]
    )
    for setting in ("off", "on"):
        monkeypatch.setenv(kernels.VARIABLE, setting)
        with torch.set_grad_enabled(train), torch.autocast("cpu", torch.bfloat16):
            maps.append(encoder(images))
        if train:
            maps[-1].float().square().mean().backward()
            gradients.append(encoder.conv1.weight.grad)
            encoder.zero_grad()
    assert uses == [False] * 2 + [True] * 2
    for fast, slow in ((maps[1], maps[0]), *((gradients[1:] and [gradients[::-1]]) or [])):
        assert (fast.float() - slow.float()).norm() < 2e-2 * slow.float().norm()
