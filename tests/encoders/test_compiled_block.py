"""Towers whose blocks torch.compile has compiled: the same results, forward and backward."""

import copy

import pytest
import torch

from pe_dense.encoders import compiled_block
from pe_dense.encoders.build import build_encoder
from pe_dense.encoders.pe import PerceptionEncoder
from pe_dense.openmmlab.backbone import DenseBackbone

TINY = dict(patch_size=4, embed_dim=32, depth=4, num_heads=2, mlp_hidden=64, image_size=24)
WINDOWS = dict(cls_token=False, window_size=4, global_blocks=(1, -1), rope_grid=6)


@pytest.fixture
def backend(monkeypatch):
    """Traces blocks and their backward pass as any backend does, and then runs them eagerly."""
    torch.compiler.reset()
    compiled_block.compiled_block.cache_clear()
    monkeypatch.setattr(compiled_block, "BACKEND", "aot_eager")
    yield
    torch.compiler.reset()
    compiled_block.compiled_block.cache_clear()


def tiny(**options):
    torch.manual_seed(0)
    return PerceptionEncoder(**{**TINY, "cls_token": True, "layer_scale": 0.1, **options})


def pictures(batch=2):
    return torch.randn(batch, 3, 24, 24, generator=torch.Generator().manual_seed(1))


def pass_of(encoder, images):
    """Map and gradients."""
    encoder.zero_grad()
    map_BChw = encoder(images)
    map_BChw.square().mean().backward()
    return map_BChw.detach(), {name: p.grad.clone() for name, p in encoder.named_parameters()}


def graphs():
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def test_compiled_blocks_equal_written_ones(backend):
    encoder, images = tiny(), pictures()
    expected = pass_of(encoder, images)
    encoder.set_compile_blocks()
    before = graphs()
    for checkpointing in (False, True):
        encoder.set_grad_checkpointing(checkpointing)
        torch.testing.assert_close(pass_of(encoder, images), expected, rtol=1e-5, atol=1e-6)
    assert graphs() - before == 1  # four blocks, with and without checkpointing, are one function
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), expected[0], rtol=1e-5, atol=1e-6)
    encoder.set_compile_blocks(False)
    assert torch.equal(encoder(images), expected[0])


def test_windowed_blocks_compile(backend):
    encoder, images = tiny(**WINDOWS), pictures(1)
    with torch.no_grad():
        expected = encoder(images)
        encoder.set_compile_blocks()
        before = graphs()
        torch.testing.assert_close(encoder(images), expected, rtol=1e-5, atol=1e-6)
    assert graphs() - before == 2  # windowed and global


def test_hooks_copies_and_state_dicts_are_as_without(backend):
    encoder = tiny(compile_blocks=True)
    assert encoder.state_dict().keys() == tiny().state_dict().keys()
    seen = []
    encoder.blocks[2].register_forward_hook(lambda *_: seen.append(1))
    duplicate = copy.deepcopy(encoder)
    before = graphs()
    with torch.no_grad():
        torch.testing.assert_close(duplicate(pictures()), encoder(pictures()))
    assert len(seen) == 2 and graphs() > before


@pytest.mark.slow
def test_the_compiler_of_the_cpu(monkeypatch):
    """Inductor, on one block: what it fuses is the same within rounding."""
    import shutil

    if not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("torch.compile needs a C++ compiler on a CPU")
    torch.compiler.reset()
    compiled_block.compiled_block.cache_clear()
    encoder = tiny(depth=1)
    with torch.no_grad():
        expected = encoder(pictures())
        encoder.set_compile_blocks()
        torch.testing.assert_close(encoder(pictures()), expected, rtol=1e-4, atol=1e-5)


def test_the_option_reaches_encoders_of_backbones(backend):
    options = dict(depth=2, compile_blocks="max-autotune-no-cudagraphs", remainder="floor")
    backbone = DenseBackbone("pe_spatial_t16_512", encoder_options=options)
    assert {b.compile_mode for b in backbone.encoder.blocks} == {"max-autotune-no-cudagraphs"}


@pytest.mark.parametrize("mode", ["fast", "", None, "reduce-overhead"])
def test_modes_that_are_none(mode):
    with pytest.raises(ValueError, match="is none of True, False, 'default'"):
        build_encoder("pe_spatial_t16_512", depth=1, compile_blocks=mode)
