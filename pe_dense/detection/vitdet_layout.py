"""Checkpoints of detectron2's ViTDet on PE: their names to ours (mmdet's Mask R-CNN) and back.

Source of the official names: detectron2 @ 02b5c4e (GeneralizedRCNN, SimpleFeaturePyramid,
StandardRPNHead, FastRCNNConvFCHead, MaskRCNNConvUpsampleHead) around the tower of perception_models
@ 3e352cc, apps/detection/detectron2_pe. Both sides put the background last, flatten (C, H, W) in
front of the first linear layer and list anchors and box deltas in the same order, so that no value
changes.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from pe_dense.detection.key_map import inverted, renamed

State = dict[str, Tensor]

_POSITIONS = "backbone.encoder.positional_embedding"
_POOL = tuple(f"backbone.encoder.{name}" for name in ("attn_pool.", "ln_post.", "proj"))
# Places of detectron2's pyramid: number of the module in `simfp_<log2 of the stride>` -> number in
# our level. Its convolutions carry their norm inside, ours are followed by it.
_LEVELS = {
    "simfp_2": (0, {"0": 0, "1": 1, "3": 3, "4": 4, "4.norm": 5, "5": 6, "5.norm": 7}),
    "simfp_3": (1, {"0": 0, "1": 1, "1.norm": 2, "2": 3, "2.norm": 4}),
    "simfp_4": (2, {"0": 0, "0.norm": 1, "1": 2, "1.norm": 3}),
    "simfp_5": (3, {"1": 1, "1.norm": 2, "2": 3, "2.norm": 4}),  # 0 is the pooling
}
_RPN, _OUR_RPN = "proposal_generator.rpn_head", "rpn_head"
_BOX, _OUR_BOX = "roi_heads.box_head", "roi_head.bbox_head"
_MASK, _OUR_MASK = "roi_heads.mask_head", "roi_head.mask_head"
NAMES = {
    "backbone.net": "backbone.encoder",
    **{
        f"backbone.{stage}.{place}": f"neck.levels.{level}.{ours}"
        for stage, (level, places) in _LEVELS.items()
        for place, ours in places.items()
    },
    **{f"{_RPN}.conv.conv{i}": f"{_OUR_RPN}.rpn_conv.{i}.conv" for i in range(2)},
    f"{_RPN}.objectness_logits": f"{_OUR_RPN}.rpn_cls",
    f"{_RPN}.anchor_deltas": f"{_OUR_RPN}.rpn_reg",
    **{f"{_BOX}.conv{i + 1}": f"{_OUR_BOX}.shared_convs.{i}.conv" for i in range(4)},
    **{f"{_BOX}.conv{i + 1}.norm": f"{_OUR_BOX}.shared_convs.{i}.ln" for i in range(4)},
    f"{_BOX}.fc1": f"{_OUR_BOX}.shared_fcs.0",
    "roi_heads.box_predictor.cls_score": f"{_OUR_BOX}.fc_cls",
    "roi_heads.box_predictor.bbox_pred": f"{_OUR_BOX}.fc_reg",
    **{f"{_MASK}.mask_fcn{i + 1}": f"{_OUR_MASK}.convs.{i}.conv" for i in range(4)},
    **{f"{_MASK}.mask_fcn{i + 1}.norm": f"{_OUR_MASK}.convs.{i}.ln" for i in range(4)},
    f"{_MASK}.deconv": f"{_OUR_MASK}.upsample",
    f"{_MASK}.predictor": f"{_OUR_MASK}.conv_logits",
}
_BACK = inverted(NAMES)
# What detectron2 stores, or older versions stored, beside parameters and computes anew.
_COMPUTED = (
    "proposal_generator.anchor_generator.",
    "pixel_mean",
    "pixel_std",
    "roi_heads.box_predictor.fed_loss_cls_weights",  # from the class counts of LVIS
)


def is_official_vitdet(state: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of detectron2's ViTDet, with or without masks, on PE."""
    needed = ("backbone.net.conv1.weight", "backbone.simfp_2.0.weight", f"{_RPN}.conv.conv0.weight")
    return all(key in state for key in needed)


def is_our_vitdet(state: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of our ViTDet."""
    needed = ("neck.levels.0.0.weight", "rpn_head.rpn_conv.0.conv.weight")
    needed += ("roi_head.bbox_head.shared_convs.0.ln.weight", "backbone.encoder.conv1.weight")
    return all(key in state for key in needed)


def is_computed(key: str) -> bool:
    """Whether an official key is no parameter, but follows from settings or data."""
    return key.startswith(_COMPUTED) or key.endswith(("freqs_cos", "freqs_sin"))


def parameter_names(ours: Mapping[str, Tensor]) -> set[str]:
    """Names of all parameters of our ViTDet but its encoder's; with masks if `ours` has any."""
    names = set()
    for official, name in NAMES.items():
        if name == "backbone.encoder":
            continue
        if official.startswith(_MASK) and f"{_OUR_MASK}.conv_logits.weight" not in ours:
            continue
        has_norm = f"{official}.norm" in NAMES
        names |= {f"{name}.weight"} if has_norm else {f"{name}.weight", f"{name}.bias"}
    return names


def vitdet_from_official(state: Mapping[str, Tensor]) -> State:
    """detectron2's state dict -> ours.

    Anchors, pixel statistics, class weights of the federated loss and rotary tables are dropped;
    positions (1, N, C) become (N, C). No value changes; unknown keys keep their names, for the
    strict load to refuse.

    Raises:
        ValueError: If two keys meet in one name.
    """
    ours: State = {}
    for key, value in state.items():
        if is_computed(key):
            continue
        name = renamed(key, NAMES)
        if name in ours:
            raise ValueError(f"it holds {name} twice, the second time as {key}")
        ours[name] = value
    if _POSITIONS in ours and ours[_POSITIONS].ndim == 3:
        ours[_POSITIONS] = ours[_POSITIONS][0]
    return ours


def vitdet_to_official(state: Mapping[str, Tensor]) -> State:
    """Our state dict -> detectron2's, without what detectron2 computes from settings and data.

    Rotary tables belong to one size of image; detectron2 builds them with the model. Its
    checkpointer loads without strictness and lists them as missing, which is harmless. The
    attention pool of a Core encoder is left out: detection towers have none.
    """
    return {
        renamed(key, _BACK): value[None] if key == _POSITIONS and value.ndim == 2 else value
        for key, value in state.items()
        if not key.startswith(_POOL)
    }
