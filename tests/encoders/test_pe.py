"""How the PE tower behaves: indices, sizes, training options, precision, embeddings, errors."""

import copy
import itertools
import pickle

import pytest
import torch
import torch.nn.functional as F

from pe_dense.encoders import pe, rotation
from pe_dense.encoders.build import build_encoder
from pe_dense.encoders.contract import Encoder
from pe_dense.encoders.pe import PerceptionEncoder

TINY = dict(
    patch_size=4,
    embed_dim=32,
    depth=4,
    num_heads=2,
    mlp_hidden=64,
    image_size=24,
    cls_token=True,
)
WINDOWS = dict(cls_token=False, window_size=4, global_blocks=(1, -1), rope_grid=6)
CORE = dict(pool_heads=4, output_dim=10)


def tiny(**options):
    torch.manual_seed(0)
    return PerceptionEncoder(**{**TINY, **options}).eval()


def images_of(height=24, width=24, batch=2):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def relative_gap(expected, actual):
    return ((actual.float() - expected.float()).norm() / expected.float().norm()).item()


# Indices and shapes


def test_fulfils_the_contract():
    encoder = tiny()
    assert isinstance(encoder, Encoder)
    assert encoder.num_prefix_tokens == 1
    assert tiny(cls_token=False).num_prefix_tokens == 0
    assert encoder.mean == encoder.std == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("options", [{}, WINDOWS], ids=["global", "windowed"])
def test_any_subset_in_any_order(options):
    encoder, images = tiny(**options), images_of(20, 28)
    with torch.no_grad():
        every = encoder.forward_intermediates(images, range(4))
        assert [tuple(m.shape) for m in every] == [(2, 32, 5, 7)] * 4
        for count in (1, 2, 3):
            for indices in itertools.permutations(range(4), count):
                signed = [i - 4 if i % 2 else i for i in indices]
                maps = encoder.forward_intermediates(images, signed)
                assert all(torch.equal(m, every[i]) for m, i in zip(maps, indices, strict=True))
        twice = encoder.forward_intermediates(images, (2, 2, -1))
    assert torch.equal(twice[0], twice[1])
    assert torch.equal(twice[2], every[3])
    assert torch.equal(encoder(images), every[3])


def test_blocks_after_the_last_one_asked_for_do_not_run():
    encoder, ran = tiny(), []
    for i, block in enumerate(encoder.transformer.resblocks):
        block.register_forward_hook(lambda *_, i=i: ran.append(i))
    encoder.forward_intermediates(images_of(), (1, 0))
    assert ran == [0, 1]


def test_prefix_tokens_come_with_the_map():
    [(map_BChw, prefix)] = tiny().forward_intermediates(
        images_of(), (-1,), return_prefix_tokens=True
    )
    assert map_BChw.shape == (2, 32, 6, 6)
    assert prefix.shape == (2, 1, 32)
    [(_, none)] = tiny(cls_token=False).forward_intermediates(
        images_of(), (-1,), return_prefix_tokens=True
    )
    assert none.shape == (2, 0, 32)


@pytest.mark.parametrize(("indices", "words"), [((4,), "-4..3"), ((-5,), "-4..3"), ((), "empty")])
def test_bad_indices(indices, words):
    with pytest.raises(ValueError, match=words):
        tiny().forward_intermediates(images_of(), indices)


def test_truncated_tower_equals_the_first_blocks():
    full, short = tiny(), tiny(depth=2)
    keys = short.state_dict().keys()
    short.load_state_dict({k: v for k, v in full.state_dict().items() if k in keys}, strict=True)
    full_maps = full.forward_intermediates(images_of(), (0, 1))
    short_maps = short.forward_intermediates(images_of(), (0, -1))
    assert all(torch.equal(a, b) for a, b in zip(full_maps, short_maps, strict=True))


# Image sizes


def test_size_that_does_not_fit_the_patch_is_an_error():
    with pytest.raises(ValueError, match=r"22x24 is not a multiple of patch 4.*remainder='pad'"):
        tiny()(images_of(22, 24))


def test_padding_adds_zeros_bottom_and_right():
    images = images_of(22, 17)
    padded = F.pad(images, (0, 3, 0, 2))
    assert torch.equal(tiny(remainder="pad")(images), tiny()(padded))


def test_floor_drops_the_remainder():
    images = images_of(22, 17)
    assert torch.equal(tiny(remainder="floor")(images), tiny()(images[:, :, :20, :16]))


@pytest.mark.parametrize(("shape", "words"), [((3, 24, 24), "3, 24, 24"), ((1, 1, 24, 24), "1, 1")])
def test_wrong_image_shape(shape, words):
    with pytest.raises(ValueError, match=words):
        tiny()(torch.zeros(shape))


def test_image_smaller_than_a_patch():
    for remainder in ("error", "pad", "floor"):
        with pytest.raises(ValueError, match="smaller than one 4-pixel patch"):
            tiny(remainder=remainder)(images_of(3, 24))


def test_windows_ignore_what_lies_in_other_windows():
    encoder = tiny(cls_token=False, window_size=3)
    images = images_of(24, 24, batch=1).requires_grad_()
    encoder(images)[0, :, 0, 0].sum().backward()
    reached = images.grad[0].abs().sum(0) > 0
    assert reached[:12, :12].all()
    assert not reached[12:].any()
    assert not reached[:, 12:].any()


# Training


def test_drop_path_schedules():
    constant = tiny(drop_path_rate=0.3).transformer.resblocks
    assert [block.drop_path_1.drop_prob for block in constant] == [0.3] * 4
    linear = tiny(drop_path_rate=0.3, drop_path_schedule="linear").transformer.resblocks
    assert [block.drop_path_1.drop_prob for block in linear] == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    dropped = pe.DropPath(0.3)(torch.ones(20000, 2, 3))
    assert torch.equal(dropped, dropped[:, :1, :1].expand_as(dropped))
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.02)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=0.015)


def test_drop_path_is_off_in_eval():
    images = images_of()
    dropping, plain = tiny(drop_path_rate=0.9), tiny()
    assert torch.equal(dropping(images), plain(images))
    assert not torch.equal(dropping.train()(images), plain.train()(images))


@pytest.mark.parametrize("options", [{}, WINDOWS], ids=["global", "windowed"])
def test_checkpointing_recomputes_and_gives_the_same_gradients(options):
    gradients, calls = [], []
    for enabled in (False, True, 2, 3, 9):
        encoder, ran = tiny(grad_checkpointing=enabled, **options), []
        for block in encoder.transformer.resblocks:
            block.register_forward_pre_hook(lambda *_, ran=ran: ran.append(1))
        encoder.train()(images_of(20, 24)).square().mean().backward()
        gradients.append({name: p.grad for name, p in encoder.named_parameters()})
        calls.append(len(ran))
    assert calls == [4, 8, 6, 6, 5]
    for name, gradient in gradients[0].items():
        for other in gradients[1:]:
            torch.testing.assert_close(other[name], gradient, rtol=0, atol=0, msg=name)


def test_checkpointing_repeats_the_drop_path_draws():
    gradients = []
    for enabled in (False, True):
        encoder = tiny(drop_path_rate=0.5).train()
        encoder.set_grad_checkpointing(enabled)
        torch.manual_seed(3)
        encoder(images_of(batch=8)).square().mean().backward()
        gradients.append(encoder.conv1.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)


def test_every_parameter_gets_a_gradient():
    encoder = tiny(layer_scale=0.1, **WINDOWS)
    encoder(images_of(20, 20)).square().mean().backward()
    without = [name for name, p in encoder.named_parameters() if p.grad is None]
    assert without == []


def test_gradients_equal_numerical_ones():
    torch.manual_seed(0)
    attention = pe.SelfAttention(8, 2).double()
    torch.nn.init.normal_(attention.in_proj_weight)
    torch.nn.init.normal_(attention.in_proj_bias)
    table_ND2 = rotation.rope_table((2, 2), 4, (1.0, 1.0), 1.0, 0).double()
    tokens_BNC = torch.randn(1, 6, 8, dtype=torch.float64, requires_grad=True)

    def attend(tokens_BNC):  # 2 x 3 grid in windows of 2: one column is padding
        return attention(tokens_BNC, table_ND2, 2, (2, 3))

    gap = 1e-3  # the rotation runs in float32
    assert torch.autograd.gradcheck(attend, tokens_BNC, eps=1e-2, atol=gap, rtol=gap, nondet_tol=0)


# Rotary tables


def test_rotary_tables_are_cached_and_never_saved():
    encoder = tiny(**WINDOWS)
    keys = set(encoder.state_dict())
    encoder(images_of())
    assert set(encoder.state_dict()) == keys
    assert not any("rope" in key or "freqs" in key for key in keys)
    device = torch.device("cpu")
    for windowed in (True, False):
        first = encoder.rotary((6, 6), windowed, device)
        assert encoder.rotary((6, 6), windowed, device) is first
    assert encoder.rotary((6, 7), False, device) is not first


def test_compiled_and_eager_rotation_are_the_same(monkeypatch):
    table_ND2 = rotation.rope_table((3, 5), 16, (1.0, 1.0), 1.0, 1)
    x = torch.randn(2, 16, 4, 16)
    eager = rotation.rotate(x, table_ND2)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(rotation.rotate(x, table_ND2), eager, rtol=1e-6, atol=1e-6)


def test_rotation_keeps_lengths_and_depends_on_distance_only():
    table_ND2 = rotation.rope_table((4, 4), 16, (1.0, 1.0), 0.0, 0)
    q, k = torch.randn(2, 1, 1, 16).expand(2, 16, 1, 16)
    q, k = (
        rotation.rotate(q[None], table_ND2)[0, :, 0],
        rotation.rotate(k[None], table_ND2)[0, :, 0],
    )
    torch.testing.assert_close(q.norm(dim=-1), q.norm(dim=-1)[:1].expand(16))
    scores = (q @ k.T).view(4, 4, 4, 4)  # [row, column, row, column]
    torch.testing.assert_close(scores[0, 0, 1, 2], scores[2, 1, 3, 3])
    torch.testing.assert_close(scores[3, 2, 0, 1], scores[3, 3, 0, 2])


# Precision, chunks, copies


@pytest.mark.parametrize("options", [{}, CORE, WINDOWS], ids=["plain", "core", "windowed"])
@pytest.mark.parametrize("grad", [False, True])
def test_bfloat16_autocast_stays_close(options, grad):
    encoder = tiny(
        embed_dim=192, num_heads=3, mlp_hidden=768, patch_size=16, image_size=96, **options
    )
    images = images_of(80, 96)
    with torch.no_grad():
        exact = encoder.forward_intermediates(images, range(4))
    with torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(grad):
        maps = encoder.forward_intermediates(images, range(4))
    for expected, actual in zip(exact, maps, strict=True):
        assert actual.isfinite().all()
        assert relative_gap(expected, actual) < 3e-2
    if grad:
        sum(m.float().square().mean() for m in maps).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())
    if options is CORE:
        with torch.no_grad():
            exact = encoder.encode_image(images)
            with torch.autocast("cpu", torch.bfloat16):
                embedding = encoder.encode_image(images)
        assert relative_gap(exact, embedding) < 3e-2


def test_bfloat16_weights_run():
    encoder = tiny(**WINDOWS).to(torch.bfloat16)
    assert encoder(images_of(20, 24).to(torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("options", [{}, WINDOWS], ids=["global", "windowed"])
def test_no_grad_and_grad_outputs_are_the_same(options):
    encoder = tiny(**options)
    with torch.no_grad():
        expected = encoder(images_of())
    torch.testing.assert_close(encoder(images_of()), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("limit", [1, 64 * 7, 64 * 40])
def test_chunked_mlp_equals_the_whole(monkeypatch, limit):
    encoder = tiny()
    with torch.no_grad():
        whole = encoder(images_of())
        monkeypatch.setitem(pe.MLP_CHUNK_NUMEL, "cpu", limit)
        chunked = encoder(images_of())
    torch.testing.assert_close(chunked, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_copies_work(duplicate):
    encoder = tiny(**WINDOWS)
    expected = encoder(images_of())
    assert torch.equal(duplicate(encoder)(images_of()), expected)


# Embeddings


def test_image_embedding():
    encoder = tiny(**CORE)
    embedding = encoder.encode_image(images_of())
    assert embedding.shape == (2, 10)
    unit = encoder.encode_image(images_of(), normalize=True)
    torch.testing.assert_close(unit, F.normalize(embedding, dim=-1))


def test_video_embedding_is_the_mean_of_its_frames():
    encoder = tiny(**CORE)
    clips_BT3HW = images_of(batch=6).unflatten(0, (2, 3))
    frames = encoder.encode_image(images_of(batch=6)).unflatten(0, (2, 3))
    torch.testing.assert_close(encoder.encode_video(clips_BT3HW), frames.mean(1))
    unit = F.normalize(frames, dim=-1).mean(1)
    torch.testing.assert_close(encoder.encode_video(clips_BT3HW, normalize=True), unit)
    with pytest.raises(ValueError, match=r"\(B, T, 3, H, W\)"):
        encoder.encode_video(images_of())


def test_towers_without_a_pool_have_no_embedding_and_no_norm():
    encoder = tiny(name="pe_spatial_tiny")
    with pytest.raises(ValueError, match=r"pe_spatial_tiny has no image embedding.*pe_core"):
        encoder.encode_image(images_of())
    with pytest.raises(ValueError, match="pe_spatial_tiny"):
        encoder.encode_video(images_of(batch=4).unflatten(0, (2, 2)))
    with pytest.raises(ValueError, match="no final norm"):
        encoder.forward_intermediates(images_of(), (-1,), norm=True)


# Arguments


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(drop_path_schedule="cosine"), "drop_path_schedule='cosine'"),
        (dict(pos_embed="nearest"), "pos_embed='nearest'"),
        (dict(remainder="crop"), "remainder='crop'"),
        (dict(num_heads=3), "embed_dim 32 over 3 heads"),
        (dict(num_heads=16), "embed_dim 32 over 16 heads"),
        (dict(image_size=25), "image_size 25"),
        (dict(depth=0), "depth 0"),
        (dict(window_size=4), "cls_token=False"),
        (dict(global_blocks=(1,)), "global_blocks needs window_size"),
        (dict(cls_token=False, window_size=4, global_blocks=(9,)), "block index 9"),
        (dict(drop_path_rate=1.0), "drop_path_rate 1.0"),
        (dict(drop_path_rate=-0.1), "drop_path_rate -0.1"),
        (dict(grad_checkpointing=-1), "grad_checkpointing=-1"),
        (dict(cls_token=False, window_size=0), "window_size 0"),
        (dict(pool_heads=5, output_dim=10), "pool_heads 5"),
        (dict(pool_heads=4), "output_dim"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        tiny(**options)


def test_training_after_inference_mode_and_many_grids() -> None:
    encoder = build_encoder("pe_spatial_t16_512", depth=1, remainder="floor")
    with torch.inference_mode():
        encoder(torch.randn(1, 3, 32, 32))
    encoder(torch.randn(1, 3, 32, 32)).sum().backward()  # its rotary table is a plain tensor
    assert encoder.conv1.weight.grad is not None
    for width in range(1, pe.MAX_ROPE_TABLES + 5):
        encoder.rotary((1, width), False, torch.device("cpu"))
    assert len(encoder._rope_tables) == pe.MAX_ROPE_TABLES
