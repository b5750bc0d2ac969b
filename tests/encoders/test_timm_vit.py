"""The encoder contract on small random timm models of several families."""

import hashlib
import itertools
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torchvision_ops import importorskip_timm

from pe_dense.encoders.contract import Encoder
from pe_dense.encoders.timm_vit import TimmEncoder
from pe_dense.encoders.weights import WeightsInfo

timm = importorskip_timm()

FAMILIES = {  # name: prefix tokens
    "vit_tiny_patch16_224": 1,
    "vit_small_patch14_reg4_dinov2": 5,
    "vit_small_patch16_dinov3": 5,
    "eva02_tiny_patch14_224": 1,
    "vit_base_patch16_siglip_224": 0,
}
ONE_SIZE = "beit_base_patch16_224"
DEPTH = 3


def build(model_name="test_vit", **options):
    torch.manual_seed(0)
    return TimmEncoder(model_name, **{"depth": DEPTH, "image_size": 112, **options}).eval()


@pytest.fixture(scope="module", params=FAMILIES)
def encoder(request):
    return build(request.param)


def images_for(encoder, rows=5, columns=7):
    torch.manual_seed(1)
    return torch.randn(1, 3, rows * encoder.patch_size, columns * encoder.patch_size)


def residual_streams(encoder, images_B3HW):
    """Tokens after each block, read with hooks instead of timm's own method."""
    streams = []
    hooks = [
        block.register_forward_hook(lambda _module, _inputs, output: streams.append(output))
        for block in encoder.model.blocks
    ]
    encoder.model.forward_features(images_B3HW)
    for hook in hooks:
        hook.remove()
    return streams


@torch.no_grad()
def test_index_i_is_the_residual_stream_after_block_i(encoder):
    images = images_for(encoder)
    prefix_count = FAMILIES[encoder.model.default_cfg["architecture"]]
    assert encoder.num_prefix_tokens == prefix_count
    streams = residual_streams(encoder, images)
    outputs = encoder.forward_intermediates(images, range(DEPTH), return_prefix_tokens=True)
    for stream_BNC, (map_BChw, prefix_BPC) in zip(streams, outputs, strict=True):
        assert map_BChw.shape == (1, encoder.embed_dim, 5, 7)
        assert torch.equal(prefix_BPC, stream_BNC[:, :prefix_count])
        assert torch.equal(map_BChw.flatten(2).mT, stream_BNC[:, prefix_count:])
    assert torch.equal(encoder(images), outputs[-1][0])


@torch.no_grad()
def test_any_subset_in_any_order(encoder):
    images = images_for(encoder, 2, 3)
    every = encoder.forward_intermediates(images, range(DEPTH))
    for indices in itertools.permutations(range(DEPTH), 2):
        signed = [indices[0], indices[1] - DEPTH, indices[0]]
        maps = encoder.forward_intermediates(images, signed)
        expected = [every[indices[0]], every[indices[1]], every[indices[0]]]
        assert all(torch.equal(a, b) for a, b in zip(maps, expected, strict=True))


def test_fulfils_the_contract(encoder):
    assert isinstance(encoder, Encoder)
    assert encoder.depth == DEPTH
    config = timm.get_pretrained_cfg(encoder.model.default_cfg["architecture"])
    assert encoder.mean == tuple(config.mean)
    assert encoder.std == tuple(config.std)


def test_every_parameter_but_the_final_norm_gets_a_gradient(encoder):
    encoder.requires_grad_(True)
    encoder(images_for(encoder)).square().mean().backward()
    behind = {id(p) for p in encoder.head_parameters()}
    without = [n for n, p in encoder.named_parameters() if p.grad is None and id(p) not in behind]
    encoder.zero_grad()
    assert without == []


def test_final_norm_only_where_there_is_one():
    encoder = build()
    images = images_for(encoder)
    [plain] = encoder.forward_intermediates(images, (0,))
    [normed] = encoder.forward_intermediates(images, (0,), norm=True)
    expected = encoder.model.norm(plain.flatten(2).mT).mT.unflatten(2, (5, 7))
    torch.testing.assert_close(normed, expected)
    with pytest.raises(ValueError, match=r"timm:eva02_tiny_patch14_224 has no final norm"):
        build("eva02_tiny_patch14_224").forward_intermediates(
            torch.zeros(1, 3, 28, 28), (0,), norm=True
        )


def test_depth_keeps_the_first_blocks():
    whole, short = build(depth=None), build(depth=2)
    assert whole.depth == 6
    short.model.load_state_dict(
        {k: v for k, v in whole.model.state_dict().items() if k in short.model.state_dict()}
    )
    images = images_for(whole)
    with torch.no_grad():
        expected = whole.forward_intermediates(images, (1,))[0]
        assert torch.equal(short.forward_intermediates(images, (-1,))[0], expected)
    for depth in (0, 7):
        with pytest.raises(ValueError, match=f"has 6 blocks; depth {depth}"):
            build(depth=depth)


def test_sizes_that_do_not_fit_the_patch():
    images = torch.randn(1, 3, 50, 61)
    with pytest.raises(ValueError, match=r"50x61 is not a multiple of patch 16"):
        build()(images)
    plain = build()
    with torch.no_grad():
        padded = plain(F.pad(images, (0, 3, 0, 14)))
        assert torch.equal(build(remainder="pad")(images), padded)
        floored = plain(images[:, :, :48, :48])
        assert torch.equal(build(remainder="floor")(images), floored)
    with pytest.raises(ValueError, match="smaller than one 16-pixel patch"):
        build(remainder="pad")(images[:, :, :15])
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        build()(images[0])


def test_a_model_of_one_size_says_so():
    encoder = build(ONE_SIZE, image_size=64, depth=1)
    assert encoder(torch.zeros(1, 3, 64, 64)).shape == (1, 768, 4, 4)
    with pytest.raises(ValueError, match=r"images of 64x64 only, got 64x80.*image_size"):
        encoder(torch.zeros(1, 3, 64, 80))


def test_checkpointing_recomputes_and_gives_the_same_gradients():
    gradients, calls = [], []
    for enabled in (False, True):
        encoder, ran = build(grad_checkpointing=enabled), []
        encoder.model.patch_embed.requires_grad_(False)
        for block in encoder.model.blocks:
            block.register_forward_pre_hook(lambda *_, ran=ran: ran.append(1))
        encoder.train()(images_for(encoder, 2, 2)).square().mean().backward()
        gradients.append(encoder.model.blocks[0].attn.qkv.weight.grad)
        calls.append(len(ran))
    assert calls == [DEPTH, 2 * DEPTH]
    torch.testing.assert_close(gradients[0], gradients[1])


def test_drop_path_rises_over_the_blocks():
    rates = [block.drop_path1 for block in build(depth=None, drop_path_rate=0.2).model.blocks]
    assert isinstance(rates[0], torch.nn.Identity)
    assert rates[-1].drop_prob == pytest.approx(0.2)


# Weights files


def test_weights_file_is_read_strictly(tmp_path):
    torch.manual_seed(5)
    source = timm.create_model("test_vit3", img_size=112)
    path = tmp_path / "siglip.pth"  # test_vit3 has an attention pool as SigLIP has
    torch.save(source.state_dict(), path)
    encoder = build("test_vit3", depth=1)
    encoder.load_weights_file(path)
    assert torch.equal(encoder.model.pos_embed, source.pos_embed)
    torch.save({**source.state_dict(), "blocks.0.extra": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"siglip.pth does not fit.*unexpected blocks.0.extra"):
        encoder.load_weights_file(path)
    state = source.state_dict()
    del state["blocks.0.norm1.weight"]
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"missing blocks.0.norm1.weight"):
        encoder.load_weights_file(path)


def test_weights_file_with_a_classifier_and_another_size(tmp_path):
    source = timm.create_model("test_vit", num_classes=7)
    path = tmp_path / "vit.pth"
    torch.save({"state_dict": source.state_dict()}, path)
    encoder = build(depth=None)
    notes = encoder.load_weights_file(path)
    assert notes[0] == "converted by timm: pos_embed"
    assert notes[1] == "left out: head.bias, head.weight"
    assert torch.equal(encoder.model.blocks[1].attn.qkv.weight, source.blocks[1].attn.qkv.weight)
    assert encoder.model.pos_embed.shape == (1, 7 * 7 + 1, 64)


def test_weights_file_that_is_none(tmp_path):
    encoder = build(depth=1)
    with pytest.raises(ValueError, match=r"absent.pth"):
        encoder.load_weights_file(tmp_path / "absent.pth")
    path = tmp_path / "text.pth"
    path.write_text("no weights")
    with pytest.raises(ValueError, match=r"text.pth cannot be"):
        encoder.load_weights_file(path)
    torch.save({"conv1.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"text.pth.*conv1.weight"):
        encoder.load_weights_file(path)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    encoder = build(depth=1)
    state = {key: value.clone() for key, value in encoder.model.state_dict().items()}
    state["norm.bias"][3] = float("nan")
    torch.save(state, tmp_path / "vit.pth")
    with pytest.raises(ValueError, match=r"vit.pth holds NaN .* first in norm.bias"):
        encoder.load_weights_file(tmp_path / "vit.pth")
    assert bool(encoder.model.norm.bias.isfinite().all())


def test_origin_of_the_weights(monkeypatch, tmp_path):
    encoder = build(depth=1)
    assert encoder.weights_info() == WeightsInfo("random", "random")
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"abc")
    encoder.pretrained = True
    encoder.model.pretrained_cfg["file"] = str(path)
    info = encoder.weights_info()
    assert (info.source, info.sha256) == ("timm:test_vit", hashlib.sha256(b"abc").hexdigest())
    encoder.model.pretrained_cfg.update(file=None, hf_hub_id=None, url=None)
    assert encoder.weights_info().notes == ("sha256 is that of the tensors",)
    assert encoder.weights_info() == encoder.weights_info() != build(depth=2).weights_info()


# Errors


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vit_tiny_patch16_225", r"knows no model 'vit_tiny_patch16_225'.*vit_tiny_patch16_224"),
        ("qqqqqqqq", "timm.list_models"),
        ("vit_tiny_patch16_224.moon", r"knows no weights.*augreg_in21k_ft_in1k"),
        ("resnet18", "ResNet.* is not a plain ViT"),
        ("swin_tiny_patch4_window7_224", "is not a plain ViT"),
        ("hiera_tiny_224", "is not a plain ViT"),
        ("mixer_s32_224", "is not a plain ViT"),
    ],
)
def test_names_that_do_not_work(name, words):
    with pytest.raises(ValueError, match=words):
        TimmEncoder(name)


def test_bad_arguments():
    with pytest.raises(ValueError, match="remainder='crop'"):
        build(remainder="crop")
    with pytest.raises(ValueError, match=r"block index 3 is outside an encoder of 3 blocks"):
        build().forward_intermediates(torch.zeros(1, 3, 32, 32), (3,))


def test_embeddings_belong_to_pe_core():
    encoder = build(depth=1, name="my_vit")
    with pytest.raises(ValueError, match=r"my_vit.*PE Core"):
        encoder.encode_image(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match=r"my_vit.*PE Core"):
        encoder.encode_video(torch.zeros(1, 1, 3, 32, 32))


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("timm", "timm is not installed; pip install 'pe_dense[timm]'"),
        ("torchvision", "torchvision is not installed"),
    ],
)
def test_missing_packages_are_named(missing, words):
    code = (
        "import sys; from pe_dense.encoders.timm_vit import TimmEncoder\n"
        "assert 'timm' not in sys.modules and 'torchvision' not in sys.modules\n"
        f"sys.modules[{missing!r}] = None\n"
        "try: TimmEncoder('vit_tiny_patch16_224')\n"
        "except ValueError as error: print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert words in result.stdout


def test_torchvision_of_another_torch_is_named():
    code = (
        "import sys, types, importlib.abc, importlib.machinery\n"
        "class Broken(importlib.abc.MetaPathFinder, importlib.abc.Loader):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torchvision':\n"
        "            return importlib.machinery.ModuleSpec(name, self)\n"
        "    def create_module(self, spec): return None\n"
        "    def exec_module(self, module):\n"
        "        raise RuntimeError('operator torchvision::nms does not exist')\n"
        "sys.meta_path.insert(0, Broken())\n"
        "from pe_dense.encoders.timm_vit import TimmEncoder\n"
        "for _ in range(2):\n"
        "    try: TimmEncoder('vit_tiny_patch16_224')\n"
        "    except ValueError as error: print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    assert all("torchvision::nms does not exist" in line for line in lines)
    assert all("install the torchvision of the same release" in line for line in lines)
