"""Label propagation as a probe: an object that only its colour tells, and bad folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("cv2")
pytest.importorskip("PIL")

from PIL import Image

from pe_dense.tracking.encoder_probe import propagation_scores


class MeanColour(torch.nn.Module):
    """A tower whose patch feature is its mean colour, normalised as PE's, or nothing at all."""

    patch_size, mean, std = 4, (0.5,) * 3, (0.5,) * 3

    def __init__(self, blind: bool = False) -> None:
        super().__init__()
        self.blind, self.unused = blind, torch.nn.Parameter(torch.zeros(1))

    def forward_intermediates(self, images_B3HW, out_indices):
        found = torch.nn.functional.avg_pool2d(images_B3HW, 4)
        return [torch.ones_like(found) if self.blind else found]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A red square of 8 px that moves 4 px per frame over blue."""
    for kind in ("JPEGImages", "Annotations"):
        (tmp_path / kind / "480p" / "walk").mkdir(parents=True)
    (tmp_path / "ImageSets" / "2017").mkdir(parents=True)
    (tmp_path / "ImageSets" / "2017" / "val.txt").write_text("walk\n")
    for t in range(5):
        labels = np.zeros((32, 32), np.uint8)
        labels[8:16, 4 + 4 * t : 12 + 4 * t] = 1
        colours = np.array([[0, 0, 255], [255, 0, 0]], np.uint8)[labels]
        frame = tmp_path / "JPEGImages" / "480p" / "walk" / f"{t:05d}.jpg"
        Image.fromarray(colours).save(frame, quality=100, subsampling=0)
        mask = Image.fromarray(labels, mode="P")
        mask.putpalette([0, 0, 0, 128, 0, 0])
        mask.save(tmp_path / "Annotations" / "480p" / "walk" / f"{t:05d}.png")
    return tmp_path


def test_colour_follows_the_object_and_blindness_does_not(folder: Path) -> None:
    seen = propagation_scores(MeanColour(), str(folder), short_side=8)
    blind = propagation_scores(MeanColour(blind=True), str(folder), short_side=8)
    assert seen["J"] > 0.75 > blind["J"] + 0.2
    assert seen["J&F"] == pytest.approx((seen["J"] + seen["F"]) / 2)


def test_bad_folders(folder: Path) -> None:
    tower = MeanColour()
    with pytest.raises(ValueError, match="train.txt does not exist"):
        propagation_scores(tower, str(folder), "train")
    with pytest.raises(ValueError, match="limit=0 leaves no video"):
        propagation_scores(tower, str(folder), limit=0)
    (folder / "Annotations/480p/walk/00002.png").unlink()
    with pytest.raises(ValueError, match=r"00002\.png"):
        propagation_scores(tower, str(folder), short_side=8)
    (folder / "ImageSets/2017/val.txt").write_text("absent\n")
    with pytest.raises(ValueError, match="video 'absent' has no folder"):
        propagation_scores(tower, str(folder))
