"""Published detection checkpoints, converted as they are loaded."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from pe_dense.detection import deta_layout, vitdet_layout
from pe_dense.detection.deta import DETA
from pe_dense.openmmlab.foreign_layouts import FOREIGN_LAYOUTS


def convert_official_deta(state: Mapping[str, Tensor], model: nn.Module) -> dict | None:
    """An official DETA in the layout and with the classes of `model`; None for other files.

    Raises:
        ValueError: If the model is no DETA, or aliases in the file disagree.
    """
    if not deta_layout.is_official_deta(state):
        return None
    if not isinstance(model, DETA):
        raise ValueError(
            f"it holds an official DETA, but the config builds a {type(model).__name__}; use a "
            "config whose name begins with deta_"
        )
    ours = deta_layout.deta_from_official(state)
    wanted = model.bbox_head.num_classes
    if wanted == 80 and deta_layout.num_classes_of(ours) == deta_layout.NUM_COCO_IDS:
        return deta_layout.classes_91_to_80(ours)
    return ours


def convert_vitdet(state: Mapping[str, Tensor], model: nn.Module) -> dict | None:
    """A ViTDet, of detectron2 or of ours, in the layout of `model`; None for other files.

    Official detection towers have no attention pool. Where the model has one (Core encoders), which
    its maps do not use, it keeps its own values.

    Raises:
        ValueError: If the model is no ViTDet of ours, or names in the file collide.
    """
    is_official = vitdet_layout.is_official_vitdet(state)
    own = model.state_dict()
    if not is_official and not (
        vitdet_layout.is_our_vitdet(state) and vitdet_layout.is_our_vitdet(own)
    ):
        return None
    if not vitdet_layout.is_our_vitdet(own):
        raise ValueError(
            f"it holds detectron2's ViTDet, but the config builds a {type(model).__name__} with "
            "other parts; use a config whose name begins with vitdet_"
        )
    ours = vitdet_layout.vitdet_from_official(state) if is_official else dict(state)
    backbone = model.backbone
    unused = {id(parameter) for parameter in backbone.encoder.head_parameters(backbone.norm)}
    for name, parameter in backbone.named_parameters(prefix="backbone"):
        if id(parameter) in unused:
            ours.setdefault(name, own[name])
    return ours


FOREIGN_LAYOUTS += [convert_official_deta, convert_vitdet]
