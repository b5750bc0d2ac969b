"""Both kinds of encoder have every member of the contract, and nothing beyond it is asked for."""

import ast
import inspect
from pathlib import Path

import pytest
import torch
from torch import nn

import pe_dense
from pe_dense.encoders.contract import Encoder, MapEncoder
from pe_dense.encoders.pe import PerceptionEncoder
from pe_dense.encoders.weights import load_weights

pytest.importorskip("timm")

from pe_dense.encoders.timm_vit import TimmEncoder

PACKAGE = Path(pe_dense.__file__).parent
SMALL = dict(
    patch_size=4, embed_dim=16, depth=3, num_heads=2, mlp_hidden=32, image_size=16, cls_token=True
)
CORE = dict(SMALL, pool_heads=2, output_dim=12)
WINDOWED = dict(SMALL, cls_token=False, window_size=3, global_blocks=[-1])
REGISTERS_ALONE = "vit_medium_patch16_reg4_gap_256"


def build(kind):
    torch.manual_seed(0)
    if isinstance(kind, str):
        return TimmEncoder(kind, depth=2, image_size=64).eval()
    return PerceptionEncoder(**kind).eval()


@pytest.fixture(
    params=[SMALL, CORE, WINDOWED, "vit_tiny_patch16_224", REGISTERS_ALONE],
    ids=["plain", "core", "windowed", "timm", "registers"],
)
def encoder(request):
    return build(request.param)


def members(protocol):
    """Names of attributes, and of methods with their functions."""
    attributes, methods = set(), {}
    for base in reversed(protocol.__mro__):
        attributes |= set(vars(base).get("__annotations__", {}))
        methods |= {
            name: value
            for name, value in vars(base).items()
            if inspect.isfunction(value) and not name.startswith("_")
        }
    return attributes, methods


ATTRIBUTES, METHODS = members(Encoder)


def test_the_members_are_found():
    assert {"patch_size", "native_hw", "blocks", "has_class_token"} <= ATTRIBUTES
    assert {"forward_intermediates", "head_parameters", "load_weights_file"} <= set(METHODS)
    assert members(MapEncoder)[0] < ATTRIBUTES


def test_every_member_is_there(encoder):
    assert isinstance(encoder, Encoder) and isinstance(encoder, MapEncoder)
    assert all(hasattr(encoder, name) for name in ATTRIBUTES | set(METHODS))


@pytest.mark.parametrize("kind", [PerceptionEncoder, TimmEncoder])
@pytest.mark.parametrize("name", METHODS)
def test_methods_are_called_alike(kind, name):
    assert inspect.signature(getattr(kind, name)) == inspect.signature(METHODS[name])


def names_asked_of_encoders(source):
    """x of every `encoder.x`, `self.encoder.x` and `backbone.encoder.x`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            owner = node.value
            if getattr(owner, "id", getattr(owner, "attr", None)) == "encoder":
                yield node.attr


def test_no_part_of_the_package_asks_for_more():
    allowed = ATTRIBUTES | set(METHODS) | set(dir(nn.Module()))
    found = {}
    for path in PACKAGE.rglob("*.py"):
        part = path.relative_to(PACKAGE).parts[0]
        if part not in ("results", "suites", "report"):  # there `encoder` is the entry of a record
            asked = set(names_asked_of_encoders(path.read_text(encoding="utf-8")))
            found[str(path.relative_to(PACKAGE))] = asked
    assert "mean" in found["alignment/aligner.py"]
    assert {path: asked - allowed for path, asked in found.items() if asked - allowed} == {}


@torch.no_grad()
def test_sizes_are_those_of_the_function(encoder):
    height, width = encoder.native_hw
    images_23HW = torch.randn(2, 3, height, width)
    grid_hw = height // encoder.patch_size, width // encoder.patch_size
    pairs = encoder.forward_intermediates(
        images_23HW, range(encoder.depth), return_prefix_tokens=True
    )
    assert len(pairs) == len(encoder.blocks) == encoder.depth
    for map_2Chw, prefix_2PC in pairs:
        assert map_2Chw.shape == (2, encoder.embed_dim, *grid_hw)
        assert prefix_2PC.shape == (2, encoder.num_prefix_tokens, encoder.embed_dim)
    patches = encoder.patch_embedding(images_23HW)
    assert patches.numel() == 2 * encoder.embed_dim * grid_hw[0] * grid_hw[1]
    if encoder.any_size:
        (other,) = encoder.forward_intermediates(images_23HW[..., : 2 * encoder.patch_size], (0,))
        assert other.shape[-2:] == (grid_hw[0], 2)


def test_a_class_token_is_none_of_registers_alone():
    assert build(SMALL).has_class_token and build("vit_tiny_patch16_224").has_class_token
    assert not build(WINDOWED).has_class_token
    registers = build(REGISTERS_ALONE)
    assert registers.num_prefix_tokens == 4 and not registers.has_class_token


@torch.no_grad()
def test_an_embedding_where_there_is_a_width_for_it(encoder):
    images_13HW = torch.randn(1, 3, *encoder.native_hw)
    if encoder.output_dim is None:
        with pytest.raises(ValueError, match="no image embedding"):
            encoder.encode_image(images_13HW)
    else:
        assert encoder.encode_image(images_13HW).shape == (1, encoder.output_dim)


def test_windows_of_blocks():
    windowed = build(WINDOWED)
    assert [windowed.attention_window(i) for i in range(3)] == [3, 3, None]
    assert build(SMALL).attention_window(-1) is None
    assert build("vit_tiny_patch16_224").attention_window(1) is None


@torch.no_grad()
def test_what_weights_state_gives_a_file_brings_back(encoder, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(dict(encoder.weights_state()), path)
    images_13HW = torch.randn(1, 3, *encoder.native_hw)
    before = encoder(images_13HW)
    for parameter in encoder.parameters():
        parameter.copy_(torch.randn_like(parameter))
    assert not torch.allclose(encoder(images_13HW), before)
    info = load_weights(encoder, path)
    assert torch.equal(encoder(images_13HW), before)
    assert (info.source, info.notes) == ("weights.pt", ())
    assert encoder.weights_info().sha256 == "random"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(patch_resample="pseudo-inverse"), "patch_resample is for PE towers"),
        (
            dict(position_resample="bilinear", core_to_spatial="preserve"),
            "position_resample and core_to_spatial is for PE towers",
        ),
    ],
)
def test_options_of_pe_towers_are_not_ignored(options, words, tmp_path):
    encoder = build("vit_tiny_patch16_224")
    path = tmp_path / "weights.pt"
    torch.save(dict(encoder.weights_state()), path)
    with pytest.raises(ValueError, match=f"{words}, not for TimmEncoder"):
        load_weights(encoder, path, **options)
    assert load_weights(encoder, path, patch_resample="bicubic").notes == ()
