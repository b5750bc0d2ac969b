"""Folders of small pictures whose colour says their class, and a tower that is built in no time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

KNN = "configs/classification/knn_custom.py"
LINEAR = "configs/classification/linear_custom.py"
ENCODER = "pe_core_t16_384"
SMALL = dict(
    patch_size=16, embed_dim=16, depth=3, num_heads=2, mlp_hidden=32, image_size=32, pool_heads=2,
    output_dim=12,
)  # fmt: skip
COLOURS = {"blue": (60, 60, 190), "green": (60, 190, 60), "red": (190, 60, 60)}


def small(root: Path, kept: Path | None) -> dict:
    """Options that put the small tower in the place of the encoder."""
    return {
        "data_root": str(root),
        "model.backbone.encoder_options": SMALL,
        "model.encoder_depth": 3,
        "test_evaluator.encoder_depth": 3,
        "results_dir": None if kept is None else str(kept),
    }


def coloured(root: Path, count: int = 10, seed: int = 0, classes=tuple(COLOURS)) -> Path:
    """`count` noisy pictures of each colour in a folder of its name."""
    rng = np.random.default_rng(seed)
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(count):
            size = (*rng.integers(14, 30, 2), 3)
            shown = np.array(COLOURS[name]) + rng.normal(0, 50, 3) + rng.normal(0, 40, size)
            picture = Image.fromarray(shown.clip(0, 255).astype(np.uint8))
            picture.save(root / name / f"{i}.png")
    return root


def in_parts(root: Path) -> Path:
    """The same as train and val."""
    coloured(root / "train", 10, 0)
    coloured(root / "val", 5, 1)
    return root
