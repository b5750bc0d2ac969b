"""Probes during training: what they get, what they leave alone, and bad ones."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("mmengine")

from pe_dense.alignment.eval_hook import ProtocolEvalHook, imported
from pe_dense.alignment.patch_probe import majority, nearest_centroid_segmentation, scores_of
from pe_dense.openmmlab.backbone import DenseBackbone

SEEN: list = []


def noisy_probe(encoder, scale: float = 1.0) -> dict[str, float]:
    random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
    SEEN.append((encoder.training, torch.is_grad_enabled()))
    return {"value": scale}


def empty_probe(encoder) -> dict[str, float]:
    return {}


def runner_of(backbone: DenseBackbone) -> SimpleNamespace:
    hub = SimpleNamespace(scalars={})
    hub.update_scalar = hub.scalars.__setitem__
    model = SimpleNamespace(backbone=backbone)
    logger = SimpleNamespace(info=lambda text: None)
    return SimpleNamespace(iter=0, max_iters=7, model=model, message_hub=hub, logger=logger)


def hook_of(function: str = f"{__name__}:noisy_probe", **settings) -> ProtocolEvalHook:
    return ProtocolEvalHook([dict(name="toy", function=function, **settings)], interval=3)


@pytest.fixture
def backbone() -> DenseBackbone:
    return DenseBackbone("pe_spatial_t16_512", encoder_options=dict(depth=1)).train()


def test_it_runs_at_intervals_and_at_the_end_and_leaves_everything_as_it_was(backbone) -> None:
    SEEN.clear()
    hook, runner = hook_of(scale=2.0), runner_of(backbone)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    for runner.iter in range(7):
        hook.after_train_iter(runner, runner.iter)
    assert [entry["step"] for entry in hook.scores] == [3, 6, 7]
    assert SEEN == [(False, False)] * 3
    assert backbone.encoder.training
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])
    assert runner.message_hub.scalars == {"student/toy/value": 2.0}


def test_scores_travel_in_the_checkpoint(backbone) -> None:
    hook, runner = hook_of(), runner_of(backbone)
    runner.iter = 2
    hook.after_train_iter(runner, 2)
    checkpoint = {"meta": {}}
    hook.before_save_checkpoint(runner, checkpoint)
    again = hook_of()
    again.after_load_checkpoint(runner, checkpoint)
    assert again.scores == hook.scores and len(again.scores) == 1
    again.after_load_checkpoint(runner, {})
    assert again.scores == []


@pytest.mark.parametrize(
    "function, words",
    [
        ("no_colon", "not written as"),
        (None, "not written as"),
        ("pe_dense.absent:f", "cannot be imported"),
        ("pe_dense.encoders.contract:absent", "cannot be imported"),
        ("pe_dense.openmmlab.backbone:AMP_DTYPES", "no function"),
    ],
)
def test_probes_that_are_none(function, words) -> None:
    with pytest.raises(ValueError, match=words):
        imported(function)


def test_bad_hooks(backbone) -> None:
    with pytest.raises(ValueError, match="interval=0"):
        ProtocolEvalHook([], interval=0)
    with pytest.raises(ValueError, match="name of its own"):
        ProtocolEvalHook([dict(function="math:sqrt")], interval=1)
    hook, runner = hook_of(f"{__name__}:empty_probe"), runner_of(backbone)
    runner.iter = 2
    with pytest.raises(ValueError, match="probe toy gave {}"):
        hook.after_train_iter(runner, 2)


# The cheapest probe


class MeanColour(torch.nn.Module):
    """A tower whose patch feature is its mean colour, normalised as PE's."""

    patch_size, embed_dim, depth, num_prefix_tokens = 4, 3, 1, 0
    mean, std = (0.5,) * 3, (0.5,) * 3

    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward_intermediates(self, images_B3HW, out_indices):
        return [torch.nn.functional.avg_pool2d(images_B3HW, 4)]


def write(folder: Path, name: str, labels_HW: np.ndarray) -> None:
    """A picture in which class k has a colour of its own."""
    import cv2

    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    for kind, array in (("images", colours[labels_HW]), ("annotations", labels_HW)):
        path = folder / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), array)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    labels = np.kron(np.array([[1, 2], [3, 0]], np.uint8), np.ones((8, 8), np.uint8))
    write(tmp_path, "training/a.png", labels)
    write(tmp_path, "validation/b.png", labels[::-1].copy())
    return tmp_path


def test_colours_that_tell_the_classes_apart_score_one(folder: Path) -> None:
    found = nearest_centroid_segmentation(MeanColour(), str(folder), 3, grid_side=4)
    assert found == {"mIoU": 1.0, "aAcc": 1.0}


def test_a_confusion_by_hand(folder: Path) -> None:
    labels = np.kron(np.array([[1, 1], [1, 2]], np.uint8), np.ones((8, 8), np.uint8))
    write(folder, "validation/b.png", labels)
    import cv2

    wrong = np.array([[[255, 0, 0], [0, 255, 0]], [[255, 0, 0], [0, 255, 0]]], np.uint8)
    image = np.kron(wrong, np.ones((8, 8, 1), np.uint8))  # one of the three shows class 2
    cv2.imwrite(str(folder / "images/validation/b.png"), image)
    found = nearest_centroid_segmentation(MeanColour(), str(folder), 3, grid_side=4)
    assert found["aAcc"] == pytest.approx(3 / 4)
    assert found["mIoU"] == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_majority_and_scores() -> None:
    labels = torch.tensor([[0, 0, 1, -1], [0, 1, -1, -1]])
    assert majority(labels, (1, 2), 2).tolist() == [[0, -1]]
    assert scores_of(torch.zeros(3, 3)) == {"mIoU": 0.0, "aAcc": 0.0}


def test_bad_folders(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no"):
        nearest_centroid_segmentation(MeanColour(), str(tmp_path / "absent"), 3)
    with pytest.raises(ValueError, match="has class 2, but num_classes=2"):
        nearest_centroid_segmentation(MeanColour(), str(folder), 2, grid_side=4)
    twin = folder / "images/validation/c.png"
    twin.write_bytes((folder / "images/training/a.png").read_bytes())
    with pytest.raises(ValueError, match=r"validation.c\.png: is trained on as .*training.a\.png"):
        nearest_centroid_segmentation(MeanColour(), str(folder), 3)
    twin.unlink()
    (folder / "annotations/training/a.png").unlink()
    with pytest.raises(ValueError, match=r"training.a\.png: is missing"):
        nearest_centroid_segmentation(MeanColour(), str(folder), 3)
