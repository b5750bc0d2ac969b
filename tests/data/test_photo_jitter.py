"""Augmentation of alignment: geometry of views, colours against slow formulas."""

import colorsys
import random

import numpy as np
import pytest

from pe_dense.data.photo_jitter import (
    AspectJitterResize,
    ColorJitter,
    PackImages,
    RandomMirror,
    brightened,
    contrasted,
    hue_shifted,
    saturated,
)


def place_sample(height=60, width=90):
    """Blue counts rows and green counts columns, so that a crop tells where it is."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(height)[:, None], np.arange(width)
    ids = np.arange(height * width, dtype=np.int32).reshape(height, width)
    return {"img": image, "instance_ids": ids}


def test_aspect_jitter_cuts_the_largest_crop_of_its_ratio():
    random.seed(0)
    jitter, ratios, tops, lefts = AspectJitterResize(24), [], [], []
    for _ in range(300):
        sample = jitter(place_sample())
        assert sample["img"].shape == (24, 24, 3) and sample["instance_ids"].shape == (24, 24)
        y0, x0, y1, x1 = sample["view_yxyx"]
        assert 0 <= y0 < y1 <= 1 and 0 <= x0 < x1 <= 1
        height, width = (y1 - y0) * 60, (x1 - x0) * 90
        assert max(height / 60, width / 90) > 0.98  # it touches two opposite sides
        ratios.append(width / height)
        tops.append(y0)
        lefts.append(x0)
    assert 0.74 < min(ratios) < 0.78 and 1.29 < max(ratios) < 1.35
    assert abs(np.mean(np.log(ratios))) < 0.04  # log-uniform, and nearly symmetric about 1
    assert min(lefts) < 0.02 and max(lefts) > 0.2


def test_view_says_what_the_pixels_show():
    random.seed(1)
    sample = AspectJitterResize((20, 30), scale=(0.2, 0.9))(place_sample())
    y0, x0, y1, x1 = sample["view_yxyx"]
    rows = sample["img"][..., 0].astype(float).mean(1)
    columns = sample["img"][..., 1].astype(float).mean(0)
    # Centre of output pixel i lies at (y0 + (i + 0.5) / 20 (y1 - y0)) * 60 - 0.5 input pixels.
    np.testing.assert_allclose(
        rows, (y0 + (np.arange(20) + 0.5) / 20 * (y1 - y0)) * 60 - 0.5, atol=0.8
    )
    np.testing.assert_allclose(
        columns, (x0 + (np.arange(30) + 0.5) / 30 * (x1 - x0)) * 90 - 0.5, atol=0.8
    )
    ids_rows, ids_columns = np.divmod(sample["instance_ids"], 90)
    np.testing.assert_allclose(ids_rows.mean(1), rows, atol=1.0)
    np.testing.assert_allclose(ids_columns.mean(0), columns, atol=1.0)


def test_ids_are_never_mixed():
    ids = np.zeros((40, 40), np.int32)
    ids[10:30, 10:30] = 70_000
    ids[:5] = -1
    random.seed(2)
    sample = AspectJitterResize(17)({"img": np.zeros((40, 40, 3), np.uint8), "instance_ids": ids})
    assert set(np.unique(sample["instance_ids"])) <= {-1, 0, 70_000}
    assert sample["instance_ids"].dtype == np.int32


def test_mirror_flips_image_and_ids_and_notes_it():
    sample = RandomMirror(1.0)(place_sample())
    assert sample["flip"] is True
    np.testing.assert_array_equal(sample["img"], place_sample()["img"][:, ::-1])
    np.testing.assert_array_equal(sample["instance_ids"], place_sample()["instance_ids"][:, ::-1])
    assert "flip" not in RandomMirror(0.0)(place_sample())
    random.seed(0)
    flips = sum("flip" in RandomMirror()(place_sample(2, 2)) for _ in range(400))
    assert 160 < flips < 240
    with pytest.raises(ValueError, match="put RandomMirror last"):
        AspectJitterResize(8)(sample)


def test_colours_against_slow_formulas():
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.float32)
    grey = 0.114 * image[..., 0] + 0.587 * image[..., 1] + 0.299 * image[..., 2]
    np.testing.assert_allclose(brightened(image, 1.2), image * 1.2, rtol=1e-5)
    expected = grey.mean() + 0.7 * (image - grey.mean())
    np.testing.assert_allclose(contrasted(image, 0.7), expected, atol=1e-3)
    expected = grey[..., None] + 1.3 * (image - grey[..., None])
    np.testing.assert_allclose(saturated(image, 1.3), expected, atol=1e-3)
    shifted = hue_shifted(image, 0.1)
    for row in range(4):
        for column in range(5):
            blue, green, red = image[row, column] / 255
            hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
            turned = colorsys.hsv_to_rgb((hue + 0.1) % 1, saturation, value)
            np.testing.assert_allclose(shifted[row, column, ::-1] / 255, turned, atol=2e-3)


def test_published_jitter_changes_brightness_and_saturation_alone():
    random.seed(0)
    grey = np.full((4, 4, 3), 100, np.uint8)  # saturation and hue do nothing to grey
    found = [int(ColorJitter()({"img": grey})["img"][0, 0, 0]) for _ in range(300)]
    assert 68 <= min(found) < 72 and 128 < max(found) <= 132
    colour = np.full((4, 4, 3), (10, 60, 110), np.uint8)
    only_saturation = ColorJitter(0.0, 0.0, 0.32, 0.0)
    greys = []
    for _ in range(50):
        image = only_saturation({"img": colour})["img"][0, 0].astype(float)
        greys.append(0.114 * image[0] + 0.587 * image[1] + 0.299 * image[2])
    np.testing.assert_allclose(greys, 0.114 * 10 + 0.587 * 60 + 0.299 * 110, atol=1)


def test_same_seed_gives_the_same_view():
    def view(seed):
        random.seed(seed)
        sample = place_sample()
        for transform in (AspectJitterResize(16), ColorJitter(), RandomMirror(), PackImages()):
            sample = transform(sample)
        return sample

    first, again, other = view(3), view(3), view(4)
    assert bool((first["inputs"] == again["inputs"]).all())
    assert first["data_samples"].view_yxyx == again["data_samples"].view_yxyx
    assert first["data_samples"].view_yxyx != other["data_samples"].view_yxyx


def test_one_pixel_image():
    sample = AspectJitterResize(4)({"img": np.full((1, 1, 3), 9, np.uint8)})
    assert sample["img"].shape == (4, 4, 3) and sample["img"].max() == 9


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: AspectJitterResize(0), "size=0"),
        (lambda: AspectJitterResize(8, ratio=(2.0, 1.0)), "no range of positive numbers"),
        (lambda: AspectJitterResize(8, scale=(0.5, 2.0)), "no range within"),
        (lambda: ColorJitter(hue=0.7), "nor hue above"),
        (lambda: ColorJitter(brightness=-1.0), "must not be negative"),
        (lambda: RandomMirror(1.5), "no probability"),
    ],
)
def test_bad_options(build, words):
    with pytest.raises(ValueError, match=words):
        build()
