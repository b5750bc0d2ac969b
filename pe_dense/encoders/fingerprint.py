"""Two prints of an encoder: of what it computes, and of the tensors that it holds.

The first catches weights that are not what they seem; the second names weights that come from no
file.

Shape legend: C width, H W pixels, h w patch grid, N patches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pe_dense.encoders.contract import MapEncoder

NUM_DIGITS = 16
STEPS_PER_UNIT = 16  # width of a digit: 1/16 of the spread of a projection
LARGEST_SIDE = 224


def feature_fingerprint(encoder: MapEncoder) -> str:
    """Print of the last block's map on a fixed image, 16 hex digits.

    Every patch vector is made unit length, and the map is projected on 16 fixed patterns of
    signs; each projection, of spread about 1, gives one digit, its value in steps of 1/16,
    modulo 16. So rounding noise (threads, BLAS, device) leaves the digits alone or moves one by
    1, while other features change nearly all of them: `fingerprints_agree` tells the two apart.

    It detects random or wrong weights, a wrong layout or normalisation, and nearly always a
    change of the last map of a few per cent. It cannot detect changes below about one per cent
    or of the vectors' lengths, parts behind the last block, or who trained the encoder: the
    sha256 of the file is for that. Reduced precision (bfloat16) may move several digits.

    The image is made by integer arithmetic at about 224 px, or at `native_hw` of an encoder of
    that size alone; one that is less than the whole contract, and says nothing of sizes, is taken
    to read any. No random state is read or changed.
    The encoder runs in eval mode, without gradient and autocast, and is put back as it was.

    Raises:
        ValueError: If the encoder gives NaN or infinite features.
    """
    side = max(LARGEST_SIDE // encoder.patch_size, 1) * encoder.patch_size
    height, width = (side, side) if getattr(encoder, "any_size", True) else encoder.native_hw
    modules = list(encoder.modules()) if isinstance(encoder, nn.Module) else []
    parameter = next(encoder.parameters(), None) if modules else None
    like = torch.empty(0) if parameter is None else parameter
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (encoder.mean, encoder.std))
    images_13HW = ((fixed_image(height, width) - mean) / std).to(like.device, like.dtype)
    was_training = [module.training for module in modules]
    try:
        for module in modules:
            module.training = False
        with torch.no_grad(), torch.autocast(like.device.type, enabled=False):
            map_1Chw = encoder.forward_intermediates(images_13HW, (-1,))[0]
    finally:
        for module, training in zip(modules, was_training, strict=True):
            module.training = training
    tokens_NC = map_1Chw.detach()[0].flatten(1).T.to("cpu", torch.float64)
    if not bool(torch.isfinite(tokens_NC).all()):
        raise ValueError(
            f"{getattr(encoder, 'name', type(encoder).__name__)} gives NaN or infinite features "
            "on a plain image; its weights are broken, or its precision is too low"
        )
    tokens_NC = F.normalize(tokens_NC, dim=-1)
    n, c = tokens_NC.shape
    patterns = signs(NUM_DIGITS, n, 1), signs(NUM_DIGITS, c, 2)
    projections = torch.einsum("nc,kn,kc->k", tokens_NC, *patterns) / n**0.5
    digits = (projections * STEPS_PER_UNIT).floor().long() % 16
    return "".join(f"{digit:x}" for digit in digits.tolist())


def fingerprints_agree(first: str, second: str) -> bool:
    """Whether two prints differ by rounding noise at most: every digit by 1 or less, modulo 16.

    Two unrelated prints agree with probability (3/16)^16, 2e-12.

    Example:
        >>> fingerprints_agree("0123456789abcdef", "f123456789abcdef")
        True
        >>> fingerprints_agree("0123456789abcdef", "0323456789abcdef")
        False
    """
    if len(first) != len(second):
        return False
    gaps = [(int(a, 16) - int(b, 16)) % 16 for a, b in zip(first, second, strict=True)]
    return all(gap in (0, 1, 15) for gap in gaps)


def fixed_image(height: int, width: int) -> Tensor:
    """RGB image (1, 3, H, W) in 0..1 of slopes, stripes and noise, the same everywhere."""
    rows, cols = torch.arange(height)[:, None], torch.arange(width)[None]
    channels = []
    for channel in range(3):
        slope = (rows * (channel + 1) + cols * (3 - channel)) * 255 // (4 * max(height, width))
        stripes = ((rows // (5 + 6 * channel) + cols // 19) % 2) * 90
        noise = (rows * 7919 + cols * 104729 + rows * cols * 31 + channel * 613) // 8 % 61
        channels.append((slope + stripes + noise) % 256)
    return torch.stack(channels)[None].float() / 255


def signs(count: int, length: int, stream: int) -> Tensor:
    """Fixed patterns of +1 and -1, (count, length) float64, from an integer hash."""
    x = torch.arange(count * length).view(count, length) + stream * 1_000_003
    for multiplier in (73_244_475, 73_244_475):  # mixes 32-bit numbers well; fits in 64 bits
        x = (((x >> 16) ^ x) * multiplier) & 0xFFFFFFFF
    return (((x >> 16) ^ x) & 1).double() * 2 - 1


def state_sha256(state: Mapping[str, Tensor], *, with_layout: bool) -> str:
    """SHA-256 of the tensors of a state dict, in the order of their names; 64 hex digits.

    Args:
        state: Names and tensors, of any type and device.
        with_layout: Hash names, types, shapes and values, as the caches and files of alignment
            keep it, rather than names and values alone, as records and the journals of tracking
            do. What is stored is compared with it, so neither rule may change.

    Example:
        >>> state_sha256({}, with_layout=True) == hashlib.sha256().hexdigest()
        True
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        layout = f" {tensor.dtype} {tuple(tensor.shape)}\n" if with_layout else ""
        digest.update(f"{name}{layout}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()


def settings_of(model: nn.Module) -> list[list[Any]]:
    """What a model computes with besides its tensors: the kinds of its parts, and their settings.

    Models of one state may differ in these: GELU and QuickGELU, the number of heads, the mean and
    deviation of an encoder.

    Returns:
        Name, class and plain attributes of every part; JSON can hold it.

    Example:
        >>> settings_of(nn.GELU())
        [['', 'torch.nn.modules.activation.GELU', {'approximate': 'none'}]]
    """
    return [
        [name, f"{type(part).__module__}.{type(part).__qualname__}", _plain_attributes(part)]
        for name, part in model.named_modules()
    ]


def _plain_attributes(part: nn.Module) -> dict[str, Any]:
    return {
        key: value
        for key, value in vars(part).items()
        if key[0] != "_" and key != "training" and _is_plain(value)
    }


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, bool | int | float | str)
