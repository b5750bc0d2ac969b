"""Any checkpoint layout into any other that can express it: the logic of tools/convert_weights.py.

    official     the encoder as the PE releases have it, names from `conv1.weight` on
    timm         the encoder as timm's `vit_pe_*`
    detectron2   `backbone.net.*`: ViTDet on PE, or its encoder alone
    deta         `backbone.0.body.*`: the official DETA, or its encoder alone
    ours         `backbone.encoder.*`: any detector of ours, or its encoder alone

No value changes and no type does. What follows from the size of images or from data (rotary tables,
anchors) is never written. A tower keeps its patch and its positions; `encoders.weights` resizes
them where a tower asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass

import torch
from torch import Tensor

from pe_dense.detection import deta_layout, vitdet_layout
from pe_dense.encoders.conversion import (
    TowerLayout,
    official_to_timm,
    read_layout,
    shorten,
    to_official,
    trained_canvas,
)
from pe_dense.encoders.pe import PerceptionEncoder

State = dict[str, Tensor]

_PREFIX = {"detectron2": "backbone.net.", "deta": "backbone.0.body.", "ours": "backbone.encoder."}
LAYOUTS = ("official", "timm", *_PREFIX)
_ANCHORS = {"official": ("conv1.weight", "ln_pre.weight")}
_ANCHORS["timm"] = ("patch_embed.proj.weight", "norm_pre.weight")


@dataclass(frozen=True)
class Content:
    """What a state dict holds.

    Attributes:
        layout: One of LAYOUTS.
        prefix: What the names of the encoder begin with.
        detector: 'DETA', 'ViTDet', 'detector' (another one), or None for an encoder alone.
    """

    layout: str
    prefix: str
    detector: str | None


@dataclass(frozen=True)
class Converted:
    """A converted state dict.

    Attributes:
        state: The tensors.
        found: What the source held, in words.
        written: What the result holds, in words.
        notes: What a person should know of it, a sentence each.
    """

    state: State
    found: str
    written: str
    notes: tuple[str, ...]


def find_layout(state: Mapping[str, Tensor], source: str | None = None) -> Content:
    """Recognise what a state dict holds.

    Args:
        state: Tensors by name.
        source: The layout to read it as, where it holds towers in more than one.

    Raises:
        ValueError: If no PE tower is there, or more than one without `source`, or not that one.
    """
    towers = _find_towers(state)
    layouts = sorted({layout for layout, _ in towers}, key=LAYOUTS.index)
    if not layouts:
        to_official(state)  # says what the file looks like instead
        raise ValueError("it holds no PE vision tower")
    if source is None and len(layouts) > 1:
        raise ValueError(
            f"it holds towers in several layouts ({', '.join(layouts)}); choose one with --from"
        )
    if source is not None and source not in layouts:
        raise ValueError(f"it is not of layout {source}, but {' and '.join(layouts)}")
    layout = source or layouts[0]
    prefixes = [prefix for found, prefix in towers if found == layout]
    if len(prefixes) > 1:
        names = ", ".join(repr(prefix) for prefix in prefixes)
        raise ValueError(f"it holds {len(prefixes)} towers (under {names}); save one alone")
    for detector, official, is_official, is_ours in (
        ("DETA", "deta", deta_layout.is_official_deta, deta_layout.is_our_deta),
        ("ViTDet", "detectron2", vitdet_layout.is_official_vitdet, vitdet_layout.is_our_vitdet),
    ):
        if (layout == official and is_official(state)) or (layout == "ours" and is_ours(state)):
            return Content(layout, prefixes[0], detector)
    in_detector = prefixes[0] in _PREFIX.values() and len(towers) == 1
    has_more = any(not key.startswith(prefixes[0]) for key in state)
    return Content(layout, prefixes[0], "detector" if in_detector and has_more else None)


def _find_towers(state: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    """Layout and prefix of every PE tower in a state dict."""
    layout_of = {prefix: layout for layout, prefix in _PREFIX.items()}
    towers = []
    for names, (first, second) in _ANCHORS.items():
        for key in state:
            prefix = key.removesuffix(first)
            at_a_border = prefix == "" or prefix.endswith(".")
            if key.endswith(first) and at_a_border and prefix + second in state:
                is_ours = names == "official" and prefix in layout_of
                towers.append((layout_of[prefix] if is_ours else names, prefix))
    return towers


def _inside(state: Mapping[str, Tensor], prefix: str) -> State:
    """What lies under a tower's prefix and under no other tower's that begins with it."""
    prefixes = [other for _, other in _find_towers(state)]
    deeper = tuple(other for other in prefixes if other != prefix and other.startswith(prefix))
    return {k: v for k, v in state.items() if k.startswith(prefix) and not k.startswith(deeper)}


def convert(
    state: Mapping[str, Tensor],
    target: str,
    source: str | None = None,
    num_classes: int | None = None,
    encoder_only: bool = False,
) -> Converted:
    """Convert a state dict.

    Args:
        state: Tensors by name, of any known layout.
        target: One of LAYOUTS.
        source: Layout to read it as; None recognises it.
        num_classes: 80 or 91, class rows of a DETA on COCO; None keeps them.
        encoder_only: Leave neck and heads out.

    Raises:
        ValueError: If `target` cannot express what is there, or something is missing or left over.
    """
    state = _without_wrapper(state)
    content = find_layout(state, source)
    inside = _inside(state, content.prefix)
    tower = to_official(inside)
    layout = read_layout(tower)
    notes = []
    if num_classes is not None and (content.detector != "DETA" or encoder_only):
        raise ValueError(
            "only a whole DETA has COCO class rows to convert; leave --num-classes out"
        )
    found = f"{content.layout}, {_what(content.detector)} ({layout.describe()})"
    if content.detector is None or encoder_only:
        _require_names(tower, _tower_names(tower, layout), found)
        if len(inside) < len(state):
            notes.append("whatever lies beside the encoder is left out")
        notes += _tower_notes(layout, target)
        return Converted(
            _place_tower(tower, target), found, f"{target}, {_what(None)}", tuple(notes)
        )
    ours = _detector_to_ours(state, content, layout, found)
    if layout.pool and content.detector == "ViTDet" and target == "detectron2":
        notes.append("the attention pool is left out, which detection towers do not have")
    if content.detector == "DETA":
        found += f", {deta_layout.num_classes_of(ours)} classes"
        if num_classes is not None:
            ours = _with_classes(ours, num_classes)
        notes += _class_notes(deta_layout.num_classes_of(ours), target)
    canvas = trained_canvas(state)
    if canvas is not None:
        found += f", canvas {canvas} px"
        notes.append(f"it was trained on a canvas of {canvas} px, which the result does not say")
    written = f"{target}, {_what(content.detector)}"
    return Converted(_detector_to(ours, content, target), found, written, tuple(notes))


def _what(detector: str | None) -> str:
    return {None: "an encoder alone", "detector": "another detector"}.get(detector, f"a {detector}")


def _without_wrapper(state: Mapping[str, Tensor]) -> State:
    """Names without the 'module.' of distributed training."""
    wrapped = all(key.startswith("module.") for key in state)
    return {key.removeprefix("module.") if wrapped else key: v for key, v in state.items()}


def _tower_names(tower: Mapping[str, Tensor], layout: TowerLayout) -> Set[str]:
    """Names of all parameters of a tower with this layout."""
    grid = math.isqrt(layout.num_positions - layout.cls_token)
    with torch.device("meta"):
        like = PerceptionEncoder(
            patch_size=layout.patch_size,
            embed_dim=layout.embed_dim,
            depth=layout.depth,
            num_heads=1,  # leaves no trace
            mlp_hidden=layout.mlp_hidden,
            image_size=grid * layout.patch_size,
            cls_token=layout.cls_token,
            layer_scale=1.0 if layout.layer_scale else None,
            pool_heads=1 if layout.pool else None,
            output_dim=layout.output_dim,
        )
    return like.state_dict().keys()


def _require_names(state: Mapping[str, Tensor], expected: Set[str], found: str) -> None:
    """Refuse a state dict with missing or additional tensors."""
    missing = [key for key in sorted(expected) if key not in state]
    unexpected = [key for key in state if key not in expected]
    if missing or unexpected:
        parts = {"missing": missing, "unexpected": unexpected}
        listed = "; ".join(f"{what}: {shorten(keys)}" for what, keys in parts.items() if keys)
        raise ValueError(
            f"it looks like {found}, but does not hold what that has ({listed}); use a whole "
            "checkpoint of the model"
        )


def _tower_notes(layout: TowerLayout, target: str) -> list[str]:
    notes = []
    if target in ("detectron2", "deta"):
        if layout.patch_size != 16:
            notes.append(
                f"the patch is {layout.patch_size} px; the published {target} models have 16"
            )
        if layout.cls_token:
            notes.append(
                "the tower has a cls token, which official detection towers do not run; they skip "
                "its position if they are built with pretrain_use_cls_token=True"
            )
    if target == "timm" and layout.output_dim is not None:
        notes.append("timm's head has a bias, which is written as zero")
    return notes


def _class_notes(num_classes: int, target: str) -> list[str]:
    if target == "deta" and num_classes == 80:
        return ["the official DETA has 91 class rows for COCO: --num-classes 91 writes them"]
    if target == "ours" and num_classes == 91:
        return ["our COCO configs have 80 classes: --num-classes 80 writes them"]
    return []


def _place_tower(tower: State, target: str) -> State:
    """A tower in the official layout -> the target layout."""
    if target == "official":
        return tower
    if target == "timm":
        return official_to_timm(tower)
    placed = {_PREFIX[target] + key: value for key, value in tower.items()}
    if target != "ours":
        key = _PREFIX[target] + "positional_embedding"
        placed[key] = placed[key][None]
    return placed


def _detector_to_ours(
    state: Mapping[str, Tensor], content: Content, layout: TowerLayout, found: str
) -> State:
    """A detector in our layout, complete."""
    if content.detector == "DETA":
        official = content.layout == "deta"
        ours = deta_layout.deta_from_official(state) if official else dict(state)
        heads = deta_layout.parameter_names(ours)
    elif content.detector == "ViTDet":
        official = content.layout == "detectron2"
        ours = vitdet_layout.vitdet_from_official(state) if official else dict(state)
        heads = vitdet_layout.parameter_names(ours)
    else:
        return dict(state)
    prefix = _PREFIX["ours"]
    tower = {key.removeprefix(prefix): v for key, v in ours.items() if key.startswith(prefix)}
    _require_names(ours, heads | {prefix + key for key in _tower_names(tower, layout)}, found)
    return ours


def _detector_to(ours: State, content: Content, target: str) -> State:
    """A detector in our layout -> the target layout.

    Raises:
        ValueError: If the target has no place for this detector.
    """
    if content.detector == "DETA" and target == "deta":
        return deta_layout.deta_to_official(ours)
    if content.detector == "ViTDet" and target == "detectron2":
        return vitdet_layout.vitdet_to_official(ours)
    if target == "ours" and (content.detector != "detector" or content.layout == "ours"):
        return ours
    raise ValueError(
        f"it holds {_what(content.detector)}, of which layout {target} can express the encoder "
        "alone; add --encoder-only, and neck and heads are left out"
    )


def _with_classes(ours: State, num_classes: int) -> State:
    """A DETA of ours with 80 or 91 class rows."""
    if deta_layout.num_classes_of(ours) == num_classes:
        return ours
    to_count = {80: deta_layout.classes_91_to_80, 91: deta_layout.classes_80_to_91}
    return to_count[num_classes](ours)
