"""DropPath drawn image by image, and repeated by checkpointing."""

import pytest
import torch

from pe_dense.alignment.batch_drop_path import BatchDropPath, draw_paths, replace_drop_paths
from pe_dense.encoders.build import build_encoder


def tower(name="pe_core_t16_384", **options):
    torch.manual_seed(0)
    sizes = dict(embed_dim=32, depth=3, num_heads=2, mlp_hidden=64, image_size=64)
    return build_encoder(name, **{**sizes, **options})


def generator():
    return torch.Generator().manual_seed(7)


def test_every_drop_path_is_replaced_and_nothing_else():
    encoder = tower(drop_path_rate=0.4, drop_path_schedule="linear").train()
    before = list(encoder.state_dict())
    paths = replace_drop_paths(encoder)
    assert [p.drop_prob for p in paths] == pytest.approx([0.2, 0.2, 0.4, 0.4])  # block 0: 0
    assert list(encoder.state_dict()) == before and all(p.training for p in paths)
    assert not replace_drop_paths(tower())


def test_timm():
    pytest.importorskip("timm")
    encoder = build_encoder("timm:vit_tiny_patch16_224", depth=2, drop_path_rate=0.4)
    paths = replace_drop_paths(encoder.train())
    assert len(paths) == 2 and 0 < paths[0].drop_prob <= 0.4  # rates of the whole model's depth
    draw_paths(paths, 2, generator())
    assert torch.isfinite(encoder.forward_intermediates(torch.zeros(2, 3, 64, 64), [1])[0]).all()


def test_every_image_may_have_its_generator():
    paths = [BatchDropPath(0.5) for _ in range(3)]
    seeded = [torch.Generator().manual_seed(seed) for seed in range(6)]
    draw_paths(paths, 6, seeded)
    whole = [p.kept_B for p in paths]
    draw_paths(paths, 2, [torch.Generator().manual_seed(seed) for seed in (1, 4)])
    for path, kept in zip(paths, whole, strict=True):
        assert torch.equal(path.kept_B, kept[[1, 4]])


def test_branches_are_dropped_or_rescaled():
    path = BatchDropPath(0.25)
    draw_paths([path], 1000, generator())
    x = torch.randn(1000, 2, 3)
    expected = torch.where(path.kept_B[:, None, None], x / 0.75, torch.zeros(()))
    torch.testing.assert_close(path(x), expected)
    assert path.kept_B.float().mean().item() == pytest.approx(0.75, abs=0.05)
    assert 600 < (path(x[:900]) != 0).any(2).any(1).sum() < 750  # another batch: drawn anew
    assert torch.equal(path.eval()(x), x)


def test_checkpointing_repeats_the_choice():
    images = torch.randn(4, 3, 64, 64)
    gradients = []
    for checkpointing in (False, True):
        encoder = tower(drop_path_rate=0.5).train()
        encoder.set_grad_checkpointing(checkpointing)
        paths = replace_drop_paths(encoder)
        draw_paths(paths, 4, generator())
        encoder.forward_intermediates(images, [2])[0].square().mean().backward()
        gradients.append(encoder.conv1.weight.grad)
    torch.testing.assert_close(*gradients, rtol=0, atol=0)
