"""The feature print: the same for the same function, another for other weights."""

import hashlib
import re

import pytest
import torch

from pe_dense.encoders.fingerprint import (
    feature_fingerprint,
    fingerprints_agree,
    fixed_image,
    signs,
    state_sha256,
)
from pe_dense.encoders.pe import PerceptionEncoder

ARCH = dict(
    patch_size=16, embed_dim=32, depth=3, num_heads=2, mlp_hidden=64, image_size=64, cls_token=True
)
IMAGE_SUM, SIGNS_SUM = 418513, 1770  # the print depends on both: they must never change


def tower(seed=0, **changes):
    torch.manual_seed(seed)
    return PerceptionEncoder(**ARCH | changes)


class Toy:
    """The contract and nothing else."""

    patch_size, embed_dim, depth, num_prefix_tokens = 8, 3, 1, 0
    mean, std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

    def forward_intermediates(self, images_B3HW, out_indices):
        assert not torch.is_grad_enabled()
        return [torch.nn.functional.avg_pool2d(images_B3HW, self.patch_size)] * len(out_indices)


def test_same_weights_same_print():
    first = feature_fingerprint(tower())
    assert re.fullmatch("[0-9a-f]{16}", first)
    assert feature_fingerprint(tower()) == first
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert feature_fingerprint(tower()) == first
    finally:
        torch.set_num_threads(threads)


def test_other_weights_other_print():
    prints = [feature_fingerprint(tower(seed)) for seed in range(5)]
    prints.append(feature_fingerprint(tower(mean=(0.48, 0.46, 0.41))))
    for i, first in enumerate(prints):
        assert not any(fingerprints_agree(first, second) for second in prints[:i])


def test_one_block_of_other_weights_is_seen():
    changed = tower()
    torch.nn.init.normal_(changed.transformer.resblocks[1].mlp.c_proj.weight, std=0.1)
    assert not fingerprints_agree(feature_fingerprint(changed), feature_fingerprint(tower()))


def test_rounding_noise_is_not_seen():
    precise = feature_fingerprint(tower().double())
    assert fingerprints_agree(precise, feature_fingerprint(tower()))


def test_leaves_mode_and_random_state_alone():
    encoder = tower(drop_path_rate=0.5).train()
    encoder.ln_pre.eval()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = feature_fingerprint(encoder)
    assert torch.equal(torch.get_rng_state(), before)
    assert encoder.training
    assert encoder.transformer.resblocks[0].training
    assert not encoder.ln_pre.training
    assert first == feature_fingerprint(tower())
    assert torch.is_grad_enabled()
    assert all(parameter.grad is None for parameter in encoder.parameters())


def test_mode_comes_back_after_an_error():
    encoder = tower().train()
    encoder.patch_size = 7  # the fixed image no longer fits the kernel
    encoder.forward_intermediates = lambda *args: 1 / 0
    with pytest.raises(ZeroDivisionError):
        feature_fingerprint(encoder)
    assert encoder.training


def test_autocast_does_not_matter():
    with torch.autocast("cpu", torch.bfloat16):
        inside = feature_fingerprint(tower())
    assert inside == feature_fingerprint(tower())


def test_any_object_of_the_contract():
    assert re.fullmatch("[0-9a-f]{16}", feature_fingerprint(Toy()))


def test_encoder_of_one_size_gets_its_size():
    class Fixed(Toy):
        any_size, native_hw = False, (40, 64)

        def forward_intermediates(self, images_B3HW, out_indices):
            assert images_B3HW.shape == (1, 3, 40, 64)
            return super().forward_intermediates(images_B3HW, out_indices)

    assert re.fullmatch("[0-9a-f]{16}", feature_fingerprint(Fixed()))


@pytest.mark.parametrize(
    "changes", [dict(patch_size=14, image_size=56), dict(cls_token=False, window_size=4)]
)
def test_other_patches_and_windows(changes):
    assert re.fullmatch("[0-9a-f]{16}", feature_fingerprint(tower(**changes)))


def test_nan_is_refused():
    encoder = tower(name="broken tower")
    torch.nn.init.constant_(encoder.ln_pre.bias, float("nan"))
    with pytest.raises(ValueError, match="broken tower gives NaN"):
        feature_fingerprint(encoder)


def test_agreement_is_modulo_sixteen():
    assert fingerprints_agree("0f" * 8, "f0" * 8)
    assert not fingerprints_agree("0f" * 8, "0d" * 8)
    assert not fingerprints_agree("00", "000")


def test_image_and_signs_never_change():
    image = (fixed_image(32, 32) * 255).round().long()
    assert image.min() >= 0
    assert image.max() <= 255
    assert image.float().std() > 40
    assert image.sum().item() == IMAGE_SUM
    weighted = (signs(16, 50, 1) * torch.arange(800).view(16, 50)).sum().item()
    assert weighted == SIGNS_SUM
    both = signs(16, 768, 1)
    gram = both @ both.T / 768 - torch.eye(16)
    assert gram.abs().max() < 0.15
    assert both.mean(1).abs().max() < 0.12
    assert (signs(16, 768, 2) * both).mean().abs() < 0.03


@pytest.mark.parametrize("with_layout", [False, True])
def test_the_hash_of_a_state_is_that_of_its_bytes_by_name(with_layout):
    tensors = {
        "b": torch.arange(6.0).view(2, 3).T,  # not contiguous: the values count, row by row
        "a": torch.tensor(3),
        "c": torch.ones(2, dtype=torch.bfloat16),
        "d": torch.empty(0, 4),
    }
    layouts = {"a": "torch.int64 ()", "b": "torch.float32 (3, 2)", "c": "torch.bfloat16 (2,)",
               "d": "torch.float32 (0, 4)"}  # fmt: skip
    values = {"a": tensors["a"].numpy().tobytes(), "b": tensors["b"].numpy().tobytes("C"),
              "c": b"\x80?\x80?", "d": b""}  # fmt: skip
    text = b"".join(
        name.encode() + (f" {layouts[name]}\n".encode() if with_layout else b"") + values[name]
        for name in "abcd"
    )
    assert state_sha256(tensors, with_layout=with_layout) == hashlib.sha256(text).hexdigest()
    assert state_sha256({}, with_layout=with_layout) == hashlib.sha256().hexdigest()
