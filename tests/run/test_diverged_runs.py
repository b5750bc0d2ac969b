"""Whatever is trained, a learning rate far too high ends in one sentence and no spoilt file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")

import cv2
from coco_folders import write_split
from runs import evaluate, train

from pe_dense.run.checkpoint import load_checkpoint_safely

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ALONE = {f"{part}_dataloader.num_workers": 0 for part in ("train", "test")}
FAR_TOO_HIGH = {
    "detection/atss_pe_t16_mini": dict(
        lr=1e12, max_epochs=9, val_interval=9, image_scale=(64, 64), train_scales=[(64, 64)],
        classes=["disc", "box"], num_classes=2, train_images="images/", val_images="images/",
    ),
    "segmentation/linear_pe_t16_mini": dict(lr=1e30, max_epochs=4, val_interval=4, warmup_iters=1),
    "depth/linear_pe_t16_mini": dict(
        lr=1e30, max_iters=8, val_interval=8, warmup_iters=1, crop_size=(112, 96)
    ),
    "probing/segmentation_pe_t16_mini": dict(
        lrs=[1e-3, 1e38], max_epochs=4, warmup_iters=1, sources=[1], allow_absent_classes=True
    ),
}  # fmt: skip
ROOTS = dict(segmentation="ade", depth="nyu", probing="ade")


@pytest.fixture(scope="module")
def boxes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("boxes")
    for split, first in (("train", 1), ("val", 10)):
        write_split(root, f"annotations/{split}.json", "images", [f"{split}.jpg"], first)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("config", FAR_TOO_HIGH)
def test_a_run_that_diverges_stops(
    config: str, boxes_root: Path, mini_root: Path, tmp_path: Path
) -> None:
    task = config.partition("/")[0]
    root = mini_root / ROOTS[task] if task in ROOTS else boxes_root
    options = {"data_root": str(root), **FAR_TOO_HIGH[config], **ALONE}
    with pytest.raises(ValueError, match="at step .*lower learning rate") as error:
        train(str(CONFIGS / f"{config}.py"), options=options, work_dir=tmp_path)
    if task == "probing":
        assert "loss of layer 1 with lr 1e+38" in str(error.value)
    for file in tmp_path.glob("*.pth"):
        load_checkpoint_safely(str(file))  # refuses what is not finite


@pytest.mark.slow
def test_a_set_smaller_than_a_batch_trains(tmp_path: Path) -> None:
    for part in ("training", "validation"):
        for folder in ("images", "annotations"):
            (tmp_path / "data" / folder / part).mkdir(parents=True)
        rng = np.random.default_rng(len(part))
        picture, labels = rng.integers(0, 255, (3, 400, 3)), rng.integers(1, 11, (3, 400))
        cv2.imwrite(str(tmp_path / "data/images" / part / "a.jpg"), picture.astype(np.uint8))
        cv2.imwrite(str(tmp_path / "data/annotations" / part / "a.png"), labels.astype(np.uint8))
    options = {
        "data_root": str(tmp_path / "data"), "max_epochs": 2, "val_interval": 2, "warmup_iters": 1,
        "val_dataloader.num_workers": 0, **ALONE,
    }  # fmt: skip
    config = str(CONFIGS / "segmentation/linear_pe_t16_mini.py")
    runner = train(config, options=options, work_dir=tmp_path / "work")
    assert runner.iter == 2, "two epochs of one batch"


def test_a_diverged_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "epoch_1.pth"
    state = dict(good=torch.ones(2), count=torch.tensor(3), bad=torch.tensor([1.0, float("inf")]))
    torch.save(dict(state_dict=state), file)
    with pytest.raises(ValueError, match=r"epoch_1.pth holds NaN .* first in bad; use an earlier"):
        load_checkpoint_safely(str(file))
    torch.save(dict(state_dict={**state, "bad": torch.ones(1)}), file)
    assert set(load_checkpoint_safely(str(file))["state_dict"]) == set(state)


@pytest.mark.slow
def test_a_last_step_that_diverges_gives_no_score(boxes_root: Path, tmp_path: Path) -> None:
    """Its weights are numbers, 1e20 large, so the checkpoint is written."""
    config = str(CONFIGS / "detection/atss_pe_t16_mini.py")
    options = {"data_root": str(boxes_root), **FAR_TOO_HIGH["detection/atss_pe_t16_mini"], **ALONE}
    options |= dict(lr=1e20, max_epochs=1, val_interval=1, param_scheduler=[])
    words = "backbone gives NaN or infinite numbers; .*lower learning rate"
    with pytest.raises(ValueError, match=f"^the model after step 1: {words}"):
        train(config, options=options, work_dir=tmp_path)
    [file] = tmp_path.glob("*.pth")
    with pytest.raises(ValueError, match=f"^checkpoint {file}: {words}"):
        evaluate(config, file, options=options)
