"""What a recipe for a person's own data says of the layers that it reads, and how to choose one.

Four layers at even steps are DINOv2's rule (arXiv:2304.07193), not a choice by the data. The best
single layer is chosen by a recipe of configs/probing/ on a held-out part of the training images,
with a linear head on every layer at once; its run costs as much as that of the recipe, so that it
is a command of its own and no part of each training.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any


def layers_in_words(cfg: Mapping[str, Any], task: str) -> str:
    """Which layers a frozen encoder is read at, and the command that finds the best one.

    Args:
        cfg: Resolved config.
        task: 'segmentation' or 'depth'.

    Returns:
        A line; '' where one layer is read, as that was somebody's choice, or the encoder is
        trained, as its layers change then.

    Example:
        >>> layers_in_words(dict(layers=[2, 5, 8, 11], num_layers=4, tune="frozen",
        ...                      encoder="pe_spatial_s16_512", weights="released",
        ...                      data_root="street"), "segmentation").splitlines()[0]
        'layers: [2, 5, 8, 11], not chosen by these data; which one is best for them tells'
    """
    if (cfg.get("num_layers") or 1) < 2 or cfg.get("tune") != "frozen":
        return ""
    words = [
        "python", "tools/train.py", f"configs/probing/{task}_custom.py",
        "--encoder", str(cfg["encoder"]), "--weights", str(cfg["weights"]),
        "--cfg-options", f"data_root={cfg['data_root']}",
    ]  # fmt: skip
    return (
        f"layers: {list(cfg['layers'])}, not chosen by these data; which one is best for them tells"
        f"\n  {shlex.join(words)}\n"
        'and is then given here: --cfg-options "layers=[N]" num_layers=1'
    )
