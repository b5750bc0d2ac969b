"""Checkpoints of the official DETA on PE: their names to ours and back, and their classes.

Source of the names: perception_models @ 3e352cc, apps/detection/DETA_pe/models. The G model
has 1183 keys: 1023 parameters, 56 aliases of the heads under the decoder, 104 tables of rotary
positions. Ours are the 1023.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from pe_dense.detection.key_map import inverted, renamed

State = dict[str, Tensor]

# COCO category ids of the 80 classes, in their usual contiguous order.
COCO_IDS = [
    *range(1, 12), *range(13, 26), 27, 28, *range(31, 45), *range(46, 66), 67, 70,
    *range(72, 83), *range(84, 91),
]  # fmt: skip
NUM_COCO_IDS = 91
_ALIASES = ("transformer.decoder.class_embed.", "transformer.decoder.bbox_embed.")
_TOP = {
    "backbone.0.body.fpn1.0": "neck.upsample",
    "backbone.0.body": "backbone.encoder",
    "transformer.level_embed": "level_embed",
    "transformer.enc_output": "memory_trans_fc",
    "transformer.enc_output_norm": "memory_trans_norm",
    "transformer.pos_trans": "pos_trans_fc",
    "transformer.pos_trans_norm": "pos_trans_norm",
    "transformer.pix_trans": "pix_trans_fc",
    "transformer.pix_trans_norm": "pix_trans_norm",
    "transformer.encoder": "encoder",
    "transformer.decoder": "decoder",
    "class_embed": "bbox_head.cls_branches",
    **{
        f"input_proj.{level}.{part}": f"neck.{place}.{name}"
        for level, place in enumerate(
            ("convs.0", "convs.1", "convs.2", "extra_convs.0", "extra_convs.1")
        )
        for part, name in enumerate(("conv", "gn"))
    },
}
_ENCODER_LAYER = {
    "norm1": "norms.0",
    "norm2": "norms.1",
    "linear1": "ffn.layers.0.0",
    "linear2": "ffn.layers.1",
}
# norm2 follows the self-attention of the official decoder, norm1 its cross-attention.
_DECODER_LAYER = {
    **_ENCODER_LAYER,
    "norm2": "norms.0",
    "norm1": "norms.1",
    "norm3": "norms.2",
    "self_attn": "self_attn.attn",
}
_LAYER = re.compile(r"((?:transformer\.)?(encoder|decoder)\.layers\.\d+\.)")
_BOX_BRANCH = re.compile(r"bbox_embed\.(\d+)\.layers\.(\d)\.(.*)")
_OUR_BOX_BRANCH = re.compile(r"bbox_head\.reg_branches\.(\d+)\.(\d)\.(.*)")
_POSITIONS = "backbone.encoder.positional_embedding"


def is_official_deta(state: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of an official DETA."""
    return "transformer.pix_trans.weight" in state and "class_embed.0.weight" in state


def is_our_deta(state: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of our DETA."""
    return "pix_trans_fc.weight" in state and "bbox_head.cls_branches.0.weight" in state


def name_from_official(key: str) -> str:
    """Our name of an official parameter.

    Example:
        >>> name_from_official("transformer.decoder.layers.3.norm2.bias")
        'decoder.layers.3.norms.0.bias'
        >>> name_from_official("bbox_embed.6.layers.2.weight")
        'bbox_head.reg_branches.6.4.weight'
    """
    if branch := _BOX_BRANCH.fullmatch(key):
        return f"bbox_head.reg_branches.{branch[1]}.{2 * int(branch[2])}.{branch[3]}"
    if layer := _LAYER.match(key):
        parts = _DECODER_LAYER if layer[2] == "decoder" else _ENCODER_LAYER
        key = layer[1] + renamed(key[layer.end() :], parts)
    return renamed(key, _TOP)


def name_to_official(key: str) -> str:
    """Official name of one of our parameters; the inverse of `name_from_official`."""
    if branch := _OUR_BOX_BRANCH.fullmatch(key):
        return f"bbox_embed.{branch[1]}.layers.{int(branch[2]) // 2}.{branch[3]}"
    if layer := _LAYER.match(key):
        parts = _DECODER_LAYER if layer[2] == "decoder" else _ENCODER_LAYER
        key = layer[1] + renamed(key[layer.end() :], inverted(parts))
    return renamed(key, inverted(_TOP))


def parameter_names(ours: Mapping[str, Tensor]) -> set[str]:
    """Names of all parameters of a DETA of ours but its encoder's, for as many layers as it has."""
    attention = ("sampling_offsets", "attention_weights", "value_proj", "output_proj")
    names = {"level_embed"}
    modules = {"neck.upsample", *(place for key, place in _TOP.items() if "input_proj" in key)}
    for part in ("memory", "pos", "pix"):
        modules |= {f"{part}_trans_fc", f"{part}_trans_norm"}
    for i in range(_count(ours, "encoder.layers.")):
        layer = f"encoder.layers.{i}."
        modules |= {f"{layer}self_attn.{part}" for part in attention}
        modules |= {layer + part for part in _ENCODER_LAYER.values()}
    num_decoder_layers = _count(ours, "decoder.layers.")
    for i in range(num_decoder_layers):
        layer = f"decoder.layers.{i}."
        modules |= {f"{layer}cross_attn.{part}" for part in attention}
        modules |= {layer + part for part in set(_DECODER_LAYER.values()) - {"self_attn.attn"}}
        modules.add(f"{layer}self_attn.attn.out_proj")
        names |= {f"{layer}self_attn.attn.in_proj_{kind}" for kind in ("weight", "bias")}
    for h in range(num_decoder_layers + 1):  # the last head is that of the proposals
        modules.add(f"bbox_head.cls_branches.{h}")
        modules |= {f"bbox_head.reg_branches.{h}.{place}" for place in (0, 2, 4)}
    return names | {f"{module}.{kind}" for module in modules for kind in ("weight", "bias")}


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """One more than the largest number that follows `prefix` in a name."""
    tails = (key.removeprefix(prefix) for key in state if key.startswith(prefix))
    return max((int(tail.split(".")[0]) + 1 for tail in tails), default=0)


def deta_from_official(state: Mapping[str, Tensor]) -> State:
    """Official state dict -> ours.

    Aliases and rotary tables are dropped; positions (1, N, C) become (N, C). No value changes.

    Raises:
        ValueError: If an alias differs from its original, or two keys meet in one name.
    """
    ours: State = {}
    for key, value in state.items():
        if key.endswith(("freqs_cos", "freqs_sin")):
            continue
        if key.startswith(_ALIASES):
            original = key.removeprefix("transformer.decoder.")
            if original in state and not _same(value, state[original]):
                raise ValueError(
                    f"{key} differs from {original}, whose alias it is in every DETA; the file "
                    "is damaged or of another model"
                )
            if original in state:
                continue
            key = original
        name = name_from_official(key)
        if name in ours:
            raise ValueError(f"it holds {name} twice, the second time as {key}")
        ours[name] = value
    if _POSITIONS in ours and ours[_POSITIONS].ndim == 3:
        ours[_POSITIONS] = ours[_POSITIONS][0]
    return ours


def deta_to_official(state: Mapping[str, Tensor]) -> State:
    """Our state dict -> official, with the aliases; without rotary tables.

    The official code deletes those tables where it fine-tunes and computes them anew; for its
    strict loading, take them from a freshly built model of the wanted canvas.
    """
    official: State = {}
    for key, value in state.items():
        official[name_to_official(key)] = value[None] if key == _POSITIONS else value
    for key in list(official):
        if key.startswith(("class_embed.", "bbox_embed.")):
            official[f"transformer.decoder.{key}"] = official[key]
    return official


def _same(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape:
        return False
    return first.is_meta or second.is_meta or torch.equal(first, second)


def _class_rows(state: Mapping[str, Tensor]) -> list[str]:
    """Keys of our class branches, weight and bias of every head."""
    return [key for key in state if key.startswith("bbox_head.cls_branches.")]


def num_classes_of(state: Mapping[str, Tensor]) -> int:
    """Number of classes of one of our state dicts."""
    return state["bbox_head.cls_branches.0.weight"].shape[0]


def classes_91_to_80(state: Mapping[str, Tensor]) -> State:
    """Heads over raw COCO ids (0..90) -> heads over the 80 classes.

    Decoder heads keep the rows of the 80 ids. The proposal head, the last one, keeps row 0, which
    is its objectness, and the rows after it: they get no positives and are never read.

    Raises:
        ValueError: If the heads do not have 91 classes.
    """
    _require_classes(state, NUM_COCO_IDS)
    last = _last_head(state)
    converted = dict(state)
    for key in _class_rows(state):
        value = state[key]
        converted[key] = value[:80].clone() if key.startswith(last) else value[COCO_IDS].clone()
    return converted


def classes_80_to_91(state: Mapping[str, Tensor]) -> State:
    """Heads over the 80 classes -> heads over raw COCO ids; the inverse of `classes_91_to_80`.

    Rows of ids that no class has: weight 0 and bias -log(99), a score of 0.01 everywhere.

    Raises:
        ValueError: If the heads do not have 80 classes.
    """
    _require_classes(state, 80)
    last = _last_head(state)
    converted = dict(state)
    for key in _class_rows(state):
        value = state[key]
        fill = -math.log(99.0) if key.endswith("bias") else 0.0
        rows = value.new_full((NUM_COCO_IDS, *value.shape[1:]), fill)
        rows[list(range(80)) if key.startswith(last) else COCO_IDS] = value
        converted[key] = rows
    return converted


def _last_head(state: Mapping[str, Tensor]) -> str:
    heads = {int(key.split(".")[2]) for key in _class_rows(state)}
    return f"bbox_head.cls_branches.{max(heads)}."


def _require_classes(state: Mapping[str, Tensor], expected: int) -> None:
    if not _class_rows(state):
        raise ValueError("it has no class branches, so it is no DETA of ours")
    found = num_classes_of(state)
    if found != expected:
        raise ValueError(
            f"its heads have {found} classes, not {expected}; the COCO conversion does not apply "
            "(Objects365 has 366 official and 365 own rows)"
        )
