"""The official layout of DETA: golden keys, a synthetic G, classes, round trips."""

import numpy as np
import pytest
import torch
from deta_case import load_arrays, tensor

from pe_dense.detection.deta_layout import (
    COCO_IDS,
    classes_80_to_91,
    classes_91_to_80,
    deta_from_official,
    deta_to_official,
    is_official_deta,
    is_our_deta,
    name_from_official,
    name_to_official,
)
from pe_dense.encoders.conversion import trained_canvas


def blank(*shape):
    """A tensor of any shape that takes the memory of one number."""
    return torch.zeros(1).expand(shape)


def synthetic_g(canvas=1824, classes=91):
    """The 1183 keys of the official G model with their shapes, written down from its modules."""
    state, body = {}, "backbone.0.body."

    def linear(name, out, inside, *kernel):
        state[f"{name}.weight"] = blank(out, inside, *kernel)
        state[f"{name}.bias"] = blank(out)

    def norm(name, width):
        state[f"{name}.weight"] = state[f"{name}.bias"] = blank(width)

    state[body + "positional_embedding"] = blank(1, 576, 1536)
    state[body + "conv1.weight"] = blank(1536, 3, 16, 16)
    norm(body + "ln_pre", 1536)
    for table, tokens in (("rope_win", 576), ("rope_glb", (canvas // 16) ** 2)):
        for kind in ("cos", "sin"):
            state[f"{body}{table}.freqs_{kind}"] = blank(tokens, 96)
    for i in range(50):
        block = f"{body}transformer.resblocks.{i}."
        tokens = (canvas // 16) ** 2 if i in (12, 24, 36, 49) else 576
        for kind in ("cos", "sin"):
            state[f"{block}attn.rope.freqs_{kind}"] = blank(tokens, 96)
        state[block + "attn.in_proj_weight"] = blank(4608, 1536)
        state[block + "attn.in_proj_bias"] = blank(4608)
        linear(block + "attn.out_proj", 1536, 1536)
        for part in ("ln_1", "ln_2"):
            norm(block + part, 1536)
        for part in ("ls_1", "ls_2"):
            state[f"{block}{part}.gamma"] = blank(1536)
        linear(block + "mlp.c_fc", 8960, 1536)
        linear(block + "mlp.c_proj", 1536, 8960)
    state[body + "fpn1.0.weight"] = blank(1536, 768, 2, 2)
    state[body + "fpn1.0.bias"] = blank(768)
    for level, (inside, side) in enumerate([(768, 1), (1536, 1), (1536, 1), (1536, 3), (256, 3)]):
        linear(f"input_proj.{level}.0", 256, inside, side, side)
        norm(f"input_proj.{level}.1", 256)
    state["transformer.level_embed"] = blank(5, 256)
    for side in ("encoder", "decoder"):
        attention = "self_attn" if side == "encoder" else "cross_attn"
        for i in range(6):
            layer = f"transformer.{side}.layers.{i}."
            linear(f"{layer}{attention}.sampling_offsets", 320, 256)
            linear(f"{layer}{attention}.attention_weights", 160, 256)
            linear(f"{layer}{attention}.value_proj", 256, 256)
            linear(f"{layer}{attention}.output_proj", 256, 256)
            if side == "decoder":
                state[layer + "self_attn.in_proj_weight"] = blank(768, 256)
                state[layer + "self_attn.in_proj_bias"] = blank(768)
                linear(layer + "self_attn.out_proj", 256, 256)
            linear(layer + "linear1", 2048, 256)
            linear(layer + "linear2", 256, 2048)
            for n in range(2 if side == "encoder" else 3):
                norm(f"{layer}norm{n + 1}", 256)
    for name, width in (("enc_output", 256), ("pos_trans", 512), ("pix_trans", 256)):
        linear(f"transformer.{name}", width, width)
        norm(f"transformer.{name}_norm", width)
    for h in range(7):
        linear(f"class_embed.{h}", classes, 256)
        for m, out in enumerate((256, 256, 4)):
            linear(f"bbox_embed.{h}.layers.{m}", out, 256)
    heads = [key for key in state if key.startswith(("class_embed.", "bbox_embed."))]
    state |= {f"transformer.decoder.{key}": state[key] for key in heads}
    return state


@pytest.fixture(scope="module")
def official():
    return synthetic_g()


@pytest.fixture(scope="module")
def arrays():
    return load_arrays()


def golden_state(arrays):
    state = {k.removeprefix("weights/"): tensor(v) for k, v in arrays.items() if "weights/" in k}
    state = {k: v for k, v in state.items() if not k.startswith(("loss_", "fallback"))}
    aliases = arrays["official_alias_keys"].tolist()
    return state | {key: state[key.removeprefix("transformer.decoder.")] for key in aliases}


def test_the_synthetic_g_has_the_official_counts(official):
    assert len(official) == 1183
    assert sum(key.endswith(("freqs_cos", "freqs_sin")) for key in official) == 104
    assert sum(key.startswith(("transformer.decoder.class_embed", "transformer.decoder.bbox_embed"))
               for key in official) == 56  # fmt: skip


def test_official_g_fits_our_model_strictly(official):
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    from pe_dense.run.config import load_config

    init_default_scope("mmdet")
    cfg, _ = load_config(
        "configs/detection/deta_pe_g16_coco_1824_eval.py",
        weights="random",
        options={"num_classes": 91},
    )
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    ours = deta_from_official(official)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert {key: tuple(value.shape) for key, value in ours.items()} == shapes
    assert len(ours) == 1023
    converted = classes_91_to_80(ours)
    assert converted["bbox_head.cls_branches.6.weight"].shape == (80, 256)


def test_names_of_the_golden_model_are_the_reference_s(arrays):
    keys = arrays["official_keys"].tolist()
    state = golden_state(arrays)
    tables = [key for key in keys if key.endswith(("freqs_cos", "freqs_sin"))]
    assert set(state) | set(tables) == set(keys)
    assert is_official_deta(state)
    ours = deta_from_official(state | {key: torch.ones(3, 4) for key in tables})
    assert is_our_deta(ours)
    assert not is_official_deta(ours)


def test_round_trip_is_bit_exact(arrays):
    state = golden_state(arrays)
    back = deta_to_official(deta_from_official(state))
    assert back.keys() == state.keys()
    for key, value in state.items():
        assert torch.equal(back[key], value), key
        assert back[key].dtype == value.dtype
    for key in deta_from_official(state):
        assert name_from_official(name_to_official(key)) == key


def test_aliases_alone_are_enough_and_must_agree(arrays):
    state = golden_state(arrays)
    originals = {k: v for k, v in state.items() if not k.startswith(("class_embed", "bbox_embed"))}
    assert deta_from_official(originals).keys() == deta_from_official(state).keys()
    broken = dict(state)
    key = "transformer.decoder.class_embed.1.bias"
    broken[key] = broken[key] + 1
    with pytest.raises(ValueError, match="class_embed.1.bias differs from class_embed.1.bias"):
        deta_from_official(broken)


def test_canvas_is_read_from_the_rotary_table(official):
    assert trained_canvas(official) == 1824
    assert trained_canvas(synthetic_g(1024)) == 1024
    assert trained_canvas({"a": torch.ones(1)}) is None


def heads(classes, count=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for h in range(count):
        name = f"bbox_head.cls_branches.{h}."
        state[name + "weight"] = torch.randn(classes, 8, generator=generator)
        state[name + "bias"] = torch.randn(classes, generator=generator)
    return state


def test_coco_ids_are_those_of_coco():
    gaps = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert [i for i in range(1, 91) if i not in gaps] == COCO_IDS


def test_91_rows_to_80():
    state = heads(91)
    small = classes_91_to_80(state)
    features = torch.randn(5, 8)
    for h in range(7):
        name = f"bbox_head.cls_branches.{h}."
        large = features @ state[name + "weight"].T + state[name + "bias"]
        found = features @ small[name + "weight"].T + small[name + "bias"]
        assert found.shape == (5, 80)
        if h < 6:
            np.testing.assert_array_equal(found, large[:, COCO_IDS])
        else:
            np.testing.assert_array_equal(found[:, 0], large[:, 0])  # objectness


def test_80_rows_to_91_and_back_is_bit_exact():
    state = heads(80)
    large = classes_80_to_91(state)
    back = classes_91_to_80(large)
    assert all(torch.equal(back[key], value) for key, value in state.items())
    unused = large["bbox_head.cls_branches.2.bias"][[0, 12, 83]]
    assert torch.sigmoid(unused).tolist() == pytest.approx([0.01] * 3)
    assert not large["bbox_head.cls_branches.2.weight"][[0, 12, 83]].any()


def test_other_class_counts_are_refused():
    with pytest.raises(ValueError, match="have 366 classes, not 91"):
        classes_91_to_80(heads(366))
    with pytest.raises(ValueError, match="have 91 classes, not 80"):
        classes_80_to_91(heads(91))
    with pytest.raises(ValueError, match="no DETA of ours"):
        classes_91_to_80({"a": torch.ones(1)})
