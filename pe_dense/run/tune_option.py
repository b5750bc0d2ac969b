"""`tune`, a name at the top of a config or an option: how much of the encoder a recipe trains.

A recipe that refers to it as '$tune' has a choice of its own. To any other recipe that trains an
encoder's backbone it may be brought by `--cfg-options tune=lora`; it then takes the place of the
backbone's `frozen`. Forms: see pe_dense.openmmlab.tuning.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PROBES = ("LayerProbe", "GlobalProbe")


def with_tuning(cfg: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """A resolved config whose backbone is trained as its `tune` says.

    Raises:
        ValueError: If `tune` has none of the forms, or the config trains no encoder.
    """
    from pe_dense.openmmlab.tuning import parse_tuning  # torch and mmengine are slow to import

    tuning = parse_tuning(cfg["tune"])
    model = cfg.get("model") or {}
    if cfg.get("training_free") or cfg.get("evaluation_only"):
        raise ValueError(
            f"tune={tuning} does nothing in {path}, which trains nothing; leave it out"
        )
    if model.get("type") in _PROBES:
        raise ValueError(
            f"tune={tuning} does nothing in {path}, whose probes read a frozen encoder; leave it "
            "out, or take a recipe that is no probe"
        )
    place = ("model",) if "backbone" in model else ("model", "detector")
    holder = model if len(place) == 1 else model.get("detector") or {}
    if (holder.get("backbone") or {}).get("type") != "DenseBackbone":
        raise ValueError(
            f"tune={tuning} does nothing in {path}, whose model has no DenseBackbone; leave it out"
        )
    backbone = {k: v for k, v in holder["backbone"].items() if k != "frozen"}
    holder = {**holder, "backbone": {**backbone, "tune": str(cfg["tune"])}}
    model = holder if len(place) == 1 else {**model, "detector": holder}
    return {**cfg, "model": model}
