"""Recipes for own images with maps: a folder alone trains, is scored and recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("mmseg")

from config_files import REPO
from own_folders import depths, label_map, picture
from runs import evaluate, train

from pe_dense.report.run_report import is_validation, scalars_of
from pe_dense.run.config import load_config

RECIPES = {
    "segmentation/linear_custom": "masks",
    "segmentation/upernet_custom": "masks",
    "depth/linear_custom": "depths",
    "depth/dpt_custom": "depths",
    "probing/segmentation_custom": "masks",
    "probing/depth_custom": "depths",
}
TRAINED = ("segmentation/linear_custom", "probing/depth_custom")  # the others by hand
TINY = {
    "model.backbone.encoder_options": dict(depth=4, embed_dim=32, num_heads=2, mlp_hidden=64),
    "image_side": 64, "batch_size": 2, "planned_for": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Ten pictures with label maps, whose labels have a gap, and ten with depth maps."""
    import numpy as np
    from PIL import Image

    root = tmp_path_factory.mktemp("own")
    for n in range(10):
        picture(root / f"masks/images/{n}.png", n)
        label_map(root / f"masks/masks/{n}.png", [0, 7, 9])
    depths(root / "depths", "images/{n}.png", "depth/{n}.png",
           lambda file, d: Image.fromarray(d.astype(np.uint16)).save(file), count=10)  # fmt: skip
    return {"masks": root / "masks", "depths": root / "depths"}


def options_for(recipe: str, root: Path) -> dict:
    steps = {} if recipe.startswith("probing") else {"max_iters": 4}
    probes = {"max_epochs": 1, "lrs": [1e-3], "seeds": [0]} if not steps else {}
    return {"data_root": str(root), **TINY, **steps, **probes}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_folder_is_all_that_a_recipe_needs(recipe: str, folders: dict, tmp_path: Path) -> None:
    config, root = REPO / f"configs/{recipe}.py", folders[RECIPES[recipe]]
    options = options_for(recipe, root)
    if recipe not in TRAINED:
        cfg, _ = load_config(config, "pe_spatial_t16_512", "random", options)
        assert cfg.train_dataloader.batch_size == 2
        assert cfg.plan.startswith("cpu, side 64, batch 2")
        return
    asked = dict(encoder="pe_spatial_t16_512", options=options)
    train(config, weights="random", work_dir=str(tmp_path / "run"), **asked)
    lines = [line for line in scalars_of(tmp_path / "run") if is_validation(line)]
    at = [line["step"] for line in lines]  # where a curve of the page has its points
    assert at == sorted(set(at)) and 0 not in at
    assert at[-1:] == [4] or recipe.startswith("probing")
    scores = evaluate(config, tmp_path / "run", tmp_path / "records", **asked)
    assert scores
    (file,) = [f for f in (tmp_path / "records").rglob("*.json") if "custom" in f.read_text()][:1]
    record = json.loads(file.read_text())
    assert ".data-" in record["protocol"]["id"]
    assert "plan: cpu, side 64, batch 2" in record["notes"]
