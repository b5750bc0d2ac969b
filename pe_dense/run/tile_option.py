"""`tile`, an option of testing and predicting with any detector: overlapping tiles, merged.

    --cfg-options "tile=(512,512)" tile_overlap=0.2 tile_merge=nms

puts `Tiles` behind the loading of the test's pictures and `TiledDetector` around the model (see
pe_dense.detection.tiles). It changes what is scored, so that the score is of another protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAMES = ("tile", "tile_overlap", "tile_merge")
# SAHI's overlap. Its package merges by default, but of detections with a score of 0.3 and more:
# with all those of low scores, which AP needs, merged boxes grow and grow.
OVERLAP, MERGE = 0.2, "nms"


def with_tiles(cfg: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """A resolved config whose test looks at tiles as well, where it has the option.

    Raises:
        ValueError: If the option cannot be followed.
    """
    if cfg.get("tile") is None:
        alone = [name for name in NAMES[1:] if cfg.get(name) is not None]
        if alone:
            raise ValueError(f"{alone[0]} does nothing without tile=(HEIGHT,WIDTH); give that, too")
        return dict(cfg)
    tile = cfg["tile"]
    is_pair = isinstance(tile, list | tuple) and len(tile) == 2
    if not is_pair or not all(type(side) is int and side >= 32 for side in tile):
        raise ValueError(
            f"tile={tile!r} is no height and width of at least 32 pixels; write tile=(512,512)"
        )
    task = (cfg.get("protocol") or {}).get("task")
    dataset = (cfg.get("test_dataloader") or {}).get("dataset") or {}
    steps = dataset.get("pipeline") or []
    if task != "detection" or "tta_model" in cfg or not steps or steps[0]["type"] != "LoadImage":
        why = "tests several views already" if "tta_model" in cfg else "is no detector of pictures"
        raise ValueError(f"tile does nothing in {path}, which {why}; leave it out")
    overlap = cfg.get("tile_overlap")
    tiles = dict(
        type="Tiles",
        tile=tuple(tile),
        overlap=OVERLAP if overlap is None else overlap,
        transforms=[dict(step) for step in steps[1:]],
    )
    loader = {
        **cfg["test_dataloader"],
        "batch_size": 1,
        "dataset": {**dataset, "pipeline": [steps[0], tiles]},
    }
    merging = dict(type="TiledDetector", merge=cfg.get("tile_merge") or MERGE)
    return {**cfg, "test_dataloader": loader, "tta_model": merging}
