"""Any image for any encoder: opening both, sizes, features of any layer.

Shape legend: C feature width, H W pixels, h w token grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from pe_dense.data.picture import read_picture
from pe_dense.encoders.build import build_image_text, build_loaded
from pe_dense.encoders.contract import WeightsInfo


class EncoderImage(NamedTuple):
    """An image as an encoder gets it.

    Attributes:
        file: Where it came from.
        native_hw: Its size in the file.
        pixels_HW3: RGB uint8 at the size that the encoder sees.
        normalised_3HW: The same, normalised, float32.
    """

    file: Path
    native_hw: tuple[int, int]
    pixels_HW3: np.ndarray
    normalised_3HW: Tensor


def open_encoder(
    name: str, weights: str = "released", seed: int = 0, options: Mapping[str, Any] | None = None
) -> tuple[nn.Module, WeightsInfo]:
    """An encoder in eval mode, and where its parameters came from.

    Args:
        name: Zoo name or 'timm:<model>'.
        weights: 'released' (those of the zoo, from the network or its cache), 'random', a file
            (encoder weights, or a checkpoint of a run whose PE backbone is meant) or
            'hf://repo[:file]'.
        seed: Of random weights; the CPU generator gives the same ones on every platform.
        options: Arguments of the encoder.

    Raises:
        ValueError: If the name, an option or the weights are unusable.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder, info = build_loaded(name, weights, **(options or {}))
    return encoder.eval(), info


def open_image_text(
    name: str, weights: str = "released", seed: int = 0
) -> tuple[nn.Module, WeightsInfo]:
    """A model of both towers in eval mode, and where its parameters came from.

    Args:
        name: See `build_image_text`.
        weights: As for `open_encoder`, of both towers.
        seed: Of random weights.

    Raises:
        ValueError: If the name has no text tower, or the weights are unusable.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, info = build_image_text(name, weights)
    return model.eval(), info


def read_for_encoder(
    file: Path, encoder: nn.Module, short_side: int | None = None, as_stored: bool = False
) -> EncoderImage:
    """Reads an image and resizes it to whole patches, its shape kept as far as they allow.

    Args:
        file: Any image that `decode_picture` reads.
        encoder: Gives patch, normalisation and native side.
        short_side: Pixels of the shorter side, rounded to a multiple of the patch; None is the
            side that the encoder was built for. Encoders of one size get that, whatever the shape.
        as_stored: Not turned as Exif says, for images whose masks are maps of stored pixels.

    Raises:
        ValueError: If the image cannot be read or is smaller than one patch, or the side is.
    """
    image_HW3, patch = read_picture(file, as_stored), encoder.patch_size
    native_hw = image_HW3.shape[:2]
    if min(native_hw) < patch:
        raise ValueError(
            f"image {file} has {native_hw[1]} x {native_hw[0]} px, less than one patch of {patch}; "
            "use a larger image"
        )
    size_hw = encoder_size(native_hw, encoder, short_side)
    resized = Image.fromarray(image_HW3).resize(size_hw[::-1], Image.Resampling.BICUBIC)
    pixels_HW3 = np.array(resized)
    unit_3HW = torch.from_numpy(pixels_HW3).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(x)[:, None, None] for x in (encoder.mean, encoder.std))
    return EncoderImage(file, native_hw, pixels_HW3, (unit_3HW - mean) / std)


def encoder_size(
    native_hw: tuple[int, int], encoder: nn.Module, short_side: int | None = None
) -> tuple[int, int]:
    """Height and width for the encoder; see `read_for_encoder`.

    Raises:
        ValueError: If the side is less than a patch.
    """
    patch = encoder.patch_size
    if not encoder.any_size and short_side is None:
        return encoder.native_hw
    side = min(encoder.native_hw) if short_side is None else short_side
    if side < patch:
        raise ValueError(f"short side {side} is less than one patch of {patch} px; raise it")
    factor = side / min(native_hw)
    height, width = (max(round(length * factor / patch), 1) * patch for length in native_hw)
    return height, width


@torch.no_grad()
def layer_maps(encoder: nn.Module, image: EncoderImage, layers: Sequence[int]) -> list[np.ndarray]:
    """Features of the layers asked for, (C, h, w) float32 each.

    Raises:
        ValueError: For a layer outside the encoder, or an image that it cannot take.
    """
    device = next(encoder.parameters()).device
    maps = encoder.forward_intermediates(image.normalised_3HW[None].to(device), layers)
    return [each[0].float().cpu().numpy() for each in maps]


def foreground_grid(file: Path, image: EncoderImage, patch_size: int) -> np.ndarray:
    """Mask file -> boolean grid (h, w): patches that are mostly foreground (not black).

    Raises:
        ValueError: If the mask cannot be read, or has another size than its image.
    """
    mask_HW = read_picture(file, as_stored=True).any(axis=-1)
    if mask_HW.shape != image.native_hw:
        raise ValueError(
            f"mask {file} has {mask_HW.shape[1]} x {mask_HW.shape[0]} px, its image {image.file} "
            f"{image.native_hw[1]} x {image.native_hw[0]}; give a mask of the same size"
        )
    height, width = image.pixels_HW3.shape[:2]
    grid = Image.fromarray(mask_HW.astype(np.float32))
    small = grid.resize((width // patch_size, height // patch_size), Image.Resampling.BOX)
    return np.asarray(small) > 0.5
