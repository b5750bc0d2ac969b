"""Published detection checkpoints, converted as they are loaded."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from pe_dense.detection import deta_layout
from pe_dense.detection.deta import DETA
from pe_dense.runtime import FOREIGN_LAYOUTS


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


FOREIGN_LAYOUTS.append(convert_official_deta)
