"""Images of any size for encoders of any patch, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_towers import SPATIAL, save, tower_of

from pe_dense.analysis.encoder_images import (
    encoder_size,
    foreground_grid,
    layer_maps,
    open_encoder,
    read_for_encoder,
)


def write(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    return write(tmp_path / "a.png", rng.integers(0, 256, (24, 50, 3), dtype=np.uint8))


def test_sizes_are_whole_patches_and_keep_the_shape() -> None:
    tower = tower_of(**SPATIAL)  # patch 4, native 16
    assert encoder_size((24, 50), tower) == (16, 32)  # 33.3 is nearest to 8 patches
    assert encoder_size((24, 47), tower, 24) == (24, 48)
    assert encoder_size((1000, 4), tower) == (4000, 16)
    with pytest.raises(ValueError, match="short side 3 is less than one patch of 4"):
        encoder_size((24, 50), tower, 3)


def test_images_are_normalised_pixels_of_the_file(picture: Path) -> None:
    tower = tower_of(**SPATIAL)
    pixels = np.asarray(Image.open(picture))[:24, :48]
    whole = write(picture.with_name("b.png"), pixels)
    image = read_for_encoder(whole, tower, 24)
    np.testing.assert_array_equal(image.pixels_HW3, pixels)  # RGB, and not resized
    expected = pixels.astype(np.float32).transpose(2, 0, 1) / 255 / 0.5 - 1
    np.testing.assert_allclose(image.normalised_3HW.numpy(), expected, atol=1e-6)
    maps = layer_maps(tower, image, [-1, 0])
    expected = tower.forward_intermediates(image.normalised_3HW[None], [2, 0])
    for ours, theirs in zip(maps, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs[0].detach().numpy())


def test_an_image_smaller_than_a_patch_is_one_sentence(tmp_path: Path) -> None:
    small = write(tmp_path / "small.png", np.zeros((3, 40, 3), np.uint8))
    with pytest.raises(ValueError, match=r"small\.png has 40 x 3 px, less than one patch of 4"):
        read_for_encoder(small, tower_of(**SPATIAL))
    with pytest.raises(ValueError, match="is missing"):
        read_for_encoder(tmp_path / "none.png", tower_of(**SPATIAL))
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match="cannot be decoded"):
        read_for_encoder(tmp_path / "text.png", tower_of(**SPATIAL))


def test_a_patch_is_foreground_if_most_of_it_is(tmp_path: Path, picture: Path) -> None:
    tower = tower_of(**SPATIAL)
    image = read_for_encoder(picture, tower)
    mask = np.zeros((24, 50), np.uint8)
    mask[:12, 25:] = 1  # any value above black counts
    grid = foreground_grid(write(tmp_path / "mask.png", mask), image, 4)
    expected = np.zeros((4, 8), bool)
    expected[:2, 4:] = True
    np.testing.assert_array_equal(grid, expected)
    other = write(tmp_path / "other.png", np.zeros((24, 49), np.uint8))
    with pytest.raises(ValueError, match="give a mask of the same size"):
        foreground_grid(other, image, 4)


def test_the_seed_decides_random_weights_and_leaves_the_generator_alone() -> None:
    options = dict(depth=1)
    state = torch.get_rng_state()
    one, info = open_encoder("pe_spatial_t16_512", "random", 3, options)
    assert torch.equal(torch.get_rng_state(), state) and info.source == "random"
    two, _ = open_encoder("pe_spatial_t16_512", "random", 3, options)
    other, _ = open_encoder("pe_spatial_t16_512", "random", 4, options)
    assert torch.equal(one.conv1.weight, two.conv1.weight) and not one.training
    assert not torch.equal(one.conv1.weight, other.conv1.weight)


def test_a_checkpoint_of_a_run_is_read(tmp_path: Path) -> None:
    trained, _ = open_encoder("pe_spatial_t16_512", "random", 5, dict(depth=1))
    state = {f"backbone.encoder.{key}": value for key, value in trained.state_dict().items()}
    state["decode_head.conv.weight"] = torch.ones(2)
    file = save(tmp_path / "iter_8.pth", {"state_dict": state})
    opened, info = open_encoder("pe_spatial_t16_512", str(file), 0, dict(depth=1))
    assert torch.equal(opened.conv1.weight, trained.conv1.weight)
    assert info.source == "iter_8.pth"
    with pytest.raises(ValueError, match="unknown encoder 'pe_spatial'"):
        open_encoder("pe_spatial", "random")
