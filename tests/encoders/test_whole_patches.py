"""Padding to whole patches against a slow copy, and what an encoder does with what is left over."""

import pytest
import torch

from pe_dense.encoders.whole_patches import fit_to_patches, pad_to_multiple


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 8), (6, 11), (1, 3)])
@pytest.mark.parametrize("place", ["centre", "bottom_right"])
def test_padding_is_where_it_is_asked_for_and_can_be_cut(height, width, place):
    images = torch.arange(1.0, height * width + 1).reshape(1, 1, height, width)
    padded, margins = pad_to_multiple(images, 4, place)
    rows, columns = -(-height // 4) * 4, -(-width // 4) * 4
    is_centred = place == "centre"
    top, left = ((rows - height) // 2, (columns - width) // 2) if is_centred else (0, 0)
    slow = torch.zeros(1, 1, rows, columns)
    slow[:, :, top : top + height, left : left + width] = images
    assert torch.equal(padded, slow)
    assert torch.equal(margins.cut(padded), images)
    again = torch.nn.functional.pad(images, margins)
    assert torch.equal(again, slow)


def test_an_image_that_fits_is_returned_as_it_is():
    images = torch.ones(1, 3, 8, 4)
    padded, margins = pad_to_multiple(images, 4)
    assert padded is images and not any(margins)


@pytest.mark.parametrize(("multiple", "place"), [(0, "centre"), (4, "top")])
def test_no_multiple_and_no_place(multiple, place):
    with pytest.raises(ValueError, match="divisor 0|'top'"):
        pad_to_multiple(torch.ones(1, 1, 2, 2), multiple, place)


def test_what_is_left_over_is_padded_dropped_or_refused():
    images = torch.arange(2 * 3 * 5 * 7.0).reshape(2, 3, 5, 7)
    padded = fit_to_patches(images, 4, "pad")
    assert padded.shape == (2, 3, 8, 8)
    assert torch.equal(padded[:, :, :5, :7], images) and padded.sum() == images.sum()
    assert torch.equal(fit_to_patches(images, 4, "floor"), images[:, :, :4, :4])
    with pytest.raises(ValueError, match="5x7 is not a multiple of patch 4"):
        fit_to_patches(images, 4, "error")
    with pytest.raises(ValueError, match="5x7 is smaller than one 6-pixel patch"):
        fit_to_patches(images, 6, "pad")
    assert torch.equal(fit_to_patches(images[..., :4, :4], 4, "error"), images[..., :4, :4])


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8)])
def test_no_images(shape):
    with pytest.raises(ValueError, match="expected images"):
        fit_to_patches(torch.zeros(shape), 4, "error")
