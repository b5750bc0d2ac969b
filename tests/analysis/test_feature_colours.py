"""Low-pass mix, principal components and LCh, against OpenCV, SVD and cases solved by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pe_dense.analysis.feature_colours import (
    colour_map,
    component_map,
    fit_basis,
    guess_foreground,
    low_pass,
    rgb_from_lch,
)


def features(seed: int = 0, shape: tuple[int, int, int] = (6, 5, 7)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) * np.arange(shape[0], 0, -1)[:, None, None]


def test_low_pass_is_half_the_map_and_half_its_blur() -> None:
    map_Chw = features()
    kernel = cv2.getGaussianKernel(3, 1.0, cv2.CV_64F)
    for channel, mixed in zip(map_Chw, low_pass(map_Chw), strict=True):
        blurred = cv2.sepFilter2D(channel, cv2.CV_64F, kernel, kernel)
        inside = (slice(1, -1), slice(1, -1))  # borders are a choice of ours
        np.testing.assert_allclose(mixed[inside], (0.5 * channel + 0.5 * blurred)[inside])


def test_low_pass_at_a_border_is_the_mean_of_the_tokens_that_exist() -> None:
    side = np.exp(-0.5)
    mixed = low_pass(np.array([[[3.0, 1.0]]]))[0]
    blur = np.array([(3 + side) / (1 + side), (1 + 3 * side) / (1 + side)])
    np.testing.assert_allclose(mixed[0], 0.5 * np.array([3.0, 1.0]) + 0.5 * blur)
    np.testing.assert_array_equal(low_pass(features(), mix=0.0), features())


@pytest.mark.parametrize("given", [dict(mix=-0.1), dict(mix=1.1), dict(sigma=0.0)])
def test_low_pass_refuses_nonsense(given: dict) -> None:
    with pytest.raises(ValueError, match="low-pass"):
        low_pass(features(), **given)


def test_components_are_those_of_the_svd() -> None:
    map_Chw = features(1)
    basis = fit_basis([map_Chw])
    tokens_NC = map_Chw.reshape(6, -1).T
    _, sizes, axes = np.linalg.svd(tokens_NC - tokens_NC.mean(axis=0), full_matrices=False)
    for ours, theirs in zip(basis.axes_3C, axes[:3], strict=True):
        assert ours[np.abs(ours).argmax()] > 0
        np.testing.assert_allclose(abs(ours @ theirs), 1.0)
    np.testing.assert_allclose(basis.variances_4, sizes[:4] ** 2 / len(tokens_NC))
    np.testing.assert_allclose(basis.share, (sizes[:3] ** 2).sum() / (sizes**2).sum())
    unit = component_map(map_Chw, basis)
    assert unit.min() == 0 and unit.max() == 1


def test_turned_features_of_both_signs_give_one_picture() -> None:
    """What an eigenvalue solver leaves open (sign, order of tokens) does not show."""
    map_Chw = features(2)
    order = np.random.default_rng(0).permutation(35)
    shuffled = map_Chw.reshape(6, -1)[:, order].reshape(6, 5, 7)
    one, two = fit_basis([map_Chw]), fit_basis([shuffled])
    np.testing.assert_allclose(one.axes_3C, two.axes_3C, atol=1e-9)
    first, second = (255 * colour_map(map_Chw, basis) for basis in (one, two))
    assert np.abs(first.round() - second.round()).max() <= 1


def test_planted_components_are_found_in_order_and_land_in_their_channels() -> None:
    signal = np.linspace(-1, 1, 101)
    flat = np.zeros(101)
    # Tokens along three axes of falling variance, one axis at a time.
    tokens_CN = np.concatenate(
        [[3 * signal, flat, flat], [flat, 2 * signal, flat], [flat, flat, signal]], axis=1
    )
    basis = fit_basis([tokens_CN[:, None]])
    np.testing.assert_allclose(basis.axes_3C, np.eye(3), atol=1e-9)
    assert not basis.is_ambiguous

    def lightness(order: str) -> np.ndarray:
        rgb = colour_map(tokens_CN[:, None], basis, order)[0].astype(np.float32)
        return cv2.cvtColor(rgb[None], cv2.COLOR_RGB2Lab)[0, :, 0]

    for order, place in (("LCh", 0), ("CLh", 1), ("ChL", 2)):
        found = lightness(order)
        along = found[101 * place : 101 * (place + 1)]
        assert along[0] < 26 and along[-1] > 89
        assert (np.diff(along[5:-5]) > 0).all()  # the ends are clipped
        others = np.delete(found, np.s_[101 * place : 101 * (place + 1)])
        np.testing.assert_allclose(others, 57.5, atol=0.6)


def test_equal_variances_are_said_to_be_ambiguous() -> None:
    axes = np.concatenate([np.eye(3), -np.eye(3)]).T[:, None]
    assert fit_basis([axes]).is_ambiguous


def test_a_shared_basis_gives_one_colour_to_one_feature() -> None:
    first, second = features(3), features(4)
    second[:, 0, 0] = first[:, 2, 2]
    basis = fit_basis([first, second])
    np.testing.assert_allclose(
        colour_map(first, basis)[2, 2], colour_map(second, basis)[0, 0], rtol=1e-12
    )
    alone = fit_basis([second])
    assert not np.allclose(colour_map(first, basis)[2, 2], colour_map(second, alone)[0, 0])


def test_the_foreground_alone_decides() -> None:
    map_Chw = features(5)
    mask = np.zeros((5, 7), bool)
    mask[1:4, 2:6] = True
    basis = fit_basis([map_Chw], [mask])
    cut = fit_basis([map_Chw[:, 1:4, 2:6]])
    np.testing.assert_allclose(basis.axes_3C, cut.axes_3C, atol=1e-9)
    map_Chw[:, ~mask] *= 100
    np.testing.assert_allclose(fit_basis([map_Chw], [mask]).axes_3C, basis.axes_3C)


def test_a_bright_object_in_the_middle_is_the_guessed_foreground() -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros((8, 9), bool)
    truth[2:6, 3:7] = True
    for sign in (1.0, -1.0):
        map_Chw = rng.normal(size=(5, 8, 9)) * 0.1
        map_Chw[2] += sign * 4 * truth
        np.testing.assert_array_equal(guess_foreground([map_Chw])[0], truth)
    with pytest.raises(ValueError, match="all tokens are alike"):
        guess_foreground([np.ones((4, 3, 3))])


def test_one_token_and_equal_tokens_have_a_colour() -> None:
    for map_Chw in (np.ones((4, 1, 1)), np.ones((4, 3, 2)), np.ones((2, 3, 2))):
        basis = fit_basis([map_Chw])
        assert basis.share == 0 and not basis.is_ambiguous
        rgb = colour_map(map_Chw, basis)
        assert np.isfinite(rgb).all() and np.ptp(rgb, axis=(0, 1)).max() == 0


@pytest.mark.parametrize(
    ("maps", "masks", "words"),
    [
        ([], None, "no feature map"),
        ([np.ones((4, 2, 2)), np.ones((3, 2, 2))], None, r"shape \(3, 2, 2\)"),
        ([np.full((4, 2, 2), np.nan)], None, "NaN"),
        ([np.ones((4, 2, 2))], [np.zeros((2, 2), bool)], "holds no token"),
        ([np.ones((4, 2, 2))], [np.ones((2, 3), bool)], "does not fit grid"),
        ([np.ones((4, 2, 2))], [], "0 foregrounds for 1"),
    ],
)
def test_unusable_maps_are_refused(maps: list, masks: list | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fit_basis(maps, masks)


def test_colours_refuse_another_width_and_another_order() -> None:
    basis = fit_basis([features()])
    with pytest.raises(ValueError, match="width 4"):
        colour_map(np.ones((4, 2, 2)), basis)
    with pytest.raises(ValueError, match="permutation"):
        colour_map(features(), basis, "RGB")


def test_lch_agrees_with_opencv_inside_the_gamut() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.uniform(0.02, 0.98, size=(1, 500, 3)).astype(np.float32)
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab).astype(np.float64)
    chroma, hue = (
        np.hypot(lab[..., 1], lab[..., 2]),
        np.degrees(np.arctan2(lab[..., 2], lab[..., 1])),
    )
    ours = rgb_from_lch(np.stack([lab[..., 0], chroma, hue], axis=-1))
    np.testing.assert_allclose(ours, rgb, atol=4e-3)  # OpenCV's own tables are this coarse


def test_colours_outside_srgb_keep_lightness_and_hue() -> None:
    hues = np.linspace(0, 350, 36)
    wild = np.stack([np.full(36, 60.0), np.full(36, 150.0), hues], axis=-1)
    rgb = rgb_from_lch(wild).astype(np.float32)
    assert rgb.min() >= 0 and rgb.max() <= 1
    lab = cv2.cvtColor(rgb[None], cv2.COLOR_RGB2Lab)[0]
    np.testing.assert_allclose(lab[:, 0], 60, atol=0.5)
    found = np.degrees(np.arctan2(lab[:, 2], lab[:, 1])) % 360
    assert (np.abs((found - hues + 180) % 360 - 180) < 2).all()
    assert (np.hypot(lab[:, 1], lab[:, 2]) > 25).all()  # no more is taken than must be
