"""Frames and indexed masks of a video: reading, resizing for the encoder, writing results.

Sizes follow two sources. 'dino' is facebookresearch/dino @ 7c446df, eval_video_segmentation.py:
short side 480, the other side rounded down to a multiple of 64, OpenCV's bilinear without
antialiasing. 'pixels' is the tracking notebook of facebookresearch/dinov3 @ 6876159: a number of
pixels on the short side, both sides rounded up to a multiple of the patch, Pillow's bicubic;
'dinov3' counts patches instead of pixels, which gives the sizes of arXiv:2508.10104 section 6.1.

Deviations: 64 is a multiple of patch 8 and 16, so only these run in the original. For patches that
do not divide 64, such as 14, both sides of that size are rounded down to multiples of the patch
(480 x 832 becomes 476 x 826). Colours are normalised by the encoder's own mean and standard
deviation; the original uses those of ImageNet with 0.228 for 0.229.

Shape legend: B frames of a batch, H W pixels.
"""

from __future__ import annotations

import io
import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pe_dense.data.picture import read_picture
from pe_dense.files import atomic_write_bytes
from pe_dense.mini_world.formats import davis_palette
from pe_dense.tracking.region_and_boundary import VOID

SIZE_RULES = ("dino", "dinov3", "pixels")
DINO_MULTIPLE = 64
MAX_GREY_ID = 14  # the darkest colour of the palette that objects get is 15 in grey


def read_frame(path: Path, bits: int | None = None) -> np.ndarray:
    """RGB uint8 (H, W, 3), as stored, since masks are maps of stored pixels.

    Args:
        path: The file.
        bits: Of 16-bit frames; see `decode_picture`.

    Raises:
        ValueError: If the file is missing or cannot be decoded to its end.
    """
    return read_picture(path, as_stored=True, backend="pillow", bits=bits, noun="frame")


def read_label_map(path: Path) -> np.ndarray:
    """Object ids uint8 (H, W): 0 is background, 255 is void; see `read_indexed`."""
    return read_indexed(path)[0]


def read_indexed(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Object ids of a mask and the colours that stand for them.

    The file is an indexed PNG. Without a palette it may be 8-bit grey whose values are ids, that
    is 0 to 14 and 255; larger values are those of a picture, or of a palette turned into grey.

    Returns:
        uint8 (H, W): 0 is background, 255 is void; and the palette uint8 (n, 3), None for grey.

    Raises:
        ValueError: If the file is missing, cannot be decoded, or holds colours rather than ids.
    """
    try:
        with Image.open(path) as image:
            mode, labels_HW = image.mode, np.asarray(image)
            palette = np.array(image.getpalette() or [], np.uint8).reshape(-1, 3)
    except FileNotFoundError as error:
        raise ValueError(f"mask {path} is missing; check data_root") from error
    except Exception as error:
        raise ValueError(
            f"mask {path} cannot be decoded ({type(error).__name__}: {error}); replace the file"
        ) from error
    if mode == "P":
        return labels_HW, palette
    if mode != "L":
        raise ValueError(
            f"mask {path} has mode {mode}, whose values are not object ids; "
            "save it as an indexed PNG (mode P)"
        )
    ids = np.unique(labels_HW)
    known = ids[ids != VOID]
    if known.max(initial=0) > MAX_GREY_ID:
        raise ValueError(
            f"mask {path} has no palette and the value {known.max()}; grey values count as object "
            f"ids up to {MAX_GREY_ID}: save it as an indexed PNG (mode P)"
        )
    if VOID in ids and not known.any():
        raise ValueError(
            f"mask {path} has no palette and only the values 0 and 255, where 255 means void; "
            "save the object with id 1"
        )
    return labels_HW, None


def write_label_map(path: Path, labels_HW: np.ndarray) -> None:
    """Write uint8 ids (H, W) as an indexed PNG with the palette of DAVIS, whole or not at all."""
    picture = Image.fromarray(np.ascontiguousarray(labels_HW, np.uint8))
    picture.putpalette(davis_palette().tobytes())  # turns mode L into P
    content = io.BytesIO()
    picture.save(content, format="PNG")
    atomic_write_bytes(path, content.getvalue())


def network_size(
    image_hw: tuple[int, int], patch_size: int, rule: str, short_side: int
) -> tuple[int, int]:
    """Size of the frames that the encoder sees, a multiple of the patch.

    Args:
        image_hw: Native size.
        patch_size: Patch of the encoder.
        rule: 'dino', 'dinov3' or 'pixels', see the module.
        short_side: 'dino': pixels (480). 'dinov3': patches (30, 60, 90). 'pixels': pixels (960).

    Raises:
        ValueError: If the rule is unknown or a side would be empty.

    Example:
        >>> network_size((480, 854), 16, "dino", 480), network_size((480, 854), 14, "dino", 480)
        ((480, 832), (476, 826))
        >>> network_size((480, 854), 16, "dinov3", 60), network_size((480, 854), 14, "dinov3", 30)
        ((960, 1712), (420, 756))
        >>> network_size((480, 854), 16, "pixels", 960), network_size((480, 854), 14, "pixels", 960)
        ((960, 1712), (966, 1722))
    """
    if rule not in SIZE_RULES:
        raise ValueError(f"size rule {rule!r} is unknown; choose one of {', '.join(SIZE_RULES)}")
    short, long = min(image_hw), max(image_hw)
    if rule != "dino":
        patches = short_side if rule == "dinov3" else math.ceil(short_side / patch_size)
        new_short = patches * patch_size
        new_long = math.ceil(long * new_short / short / patch_size) * patch_size
    else:
        new_short = short_side
        new_long = int(short_side * long / short // DINO_MULTIPLE * DINO_MULTIPLE)
        if DINO_MULTIPLE % patch_size or short_side % patch_size:
            new_short, new_long = (side - side % patch_size for side in (new_short, new_long))
    if new_short < patch_size or new_long < patch_size:
        raise ValueError(
            f"frames of {image_hw[0]} x {image_hw[1]} would become {new_short} x {new_long} px, "
            f"less than a patch of {patch_size}; raise short_side={short_side}"
        )
    return (new_short, new_long) if image_hw[0] <= image_hw[1] else (new_long, new_short)


def resize_frame(frame_HW3: np.ndarray, size_hw: tuple[int, int], rule: str) -> np.ndarray:
    """uint8 RGB of another size, interpolated as the rule says; see the module."""
    if frame_HW3.shape[:2] == size_hw:
        return frame_HW3
    if rule == "dino":
        return cv2.resize(frame_HW3, size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(Image.fromarray(frame_HW3).resize(size_hw[::-1], Image.Resampling.BICUBIC))


def frame_batches(
    paths: Sequence[Path],
    native_hw: tuple[int, int],
    size_hw: tuple[int, int],
    rule: str,
    mean: Sequence[float],
    std: Sequence[float],
    batch_size: int,
    threads: int = 2,
    bits: int | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[Tensor]:
    """Normalised frames (B, 3, H, W) float32, decoded while the batches before are in use.

    Bytes are moved to the device, a quarter of the traffic, and normalised there; the host does
    not wait for it.

    Args:
        paths: All frames in order.
        native_hw: Size that every frame must have.
        size_hw: Size for the encoder.
        rule: Interpolation, see `resize_frame`.
        mean: Of RGB in 0..1.
        std: Of RGB in 0..1.
        batch_size: Frames of a batch; the last one may be smaller.
        threads: That decode; about two frames for each of them are decoded ahead.
        bits: As for `read_frame`.
        device: Where the batches are wanted.

    Raises:
        ValueError: If a frame cannot be read or has another size.
    """
    device = torch.device(device)
    colours_23 = torch.tensor([mean, std], dtype=torch.float32)
    shift_311, scale_311 = colours_23.mul(255)[:, :, None, None].to(device)

    def load(path: Path, out_HW3: Tensor) -> None:
        frame_HW3 = read_frame(path, bits)
        if frame_HW3.shape[:2] != native_hw:
            found = frame_HW3.shape
            raise ValueError(
                f"frame {path} has {found[0]} x {found[1]} px, the first frame of the video "
                f"{native_hw[0]} x {native_hw[1]}; all frames of a video need one size"
            )
        np.copyto(out_HW3.numpy(), resize_frame(frame_HW3, size_hw, rule))

    def start(batch: Sequence[Path]) -> tuple[Tensor, list[Future[None]]]:
        shape, pin = (len(batch), *size_hw, 3), device.type == "cuda"
        bytes_BHW3 = torch.empty(shape, dtype=torch.uint8, pin_memory=pin)  # else copies wait
        return bytes_BHW3, [pool.submit(load, *job) for job in zip(batch, bytes_BHW3, strict=True)]

    def put(bytes_BHW3: Tensor, jobs: list[Future[None]]) -> Tensor:
        for job in jobs:
            job.result()
        bytes_B3HW = bytes_BHW3.to(device, non_blocking=bytes_BHW3.is_pinned()).permute(0, 3, 1, 2)
        batch_B3HW = bytes_B3HW.to(torch.float32, memory_format=torch.contiguous_format)
        return batch_B3HW.sub_(shift_311).div_(scale_311)

    ahead = max(2, math.ceil(2 * threads / batch_size))  # batches
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[Tensor, list[Future[None]]]] = deque()
        for first in range(0, len(paths), batch_size):
            waiting.append(start(paths[first : first + batch_size]))
            if len(waiting) == ahead:
                yield put(*waiting.popleft())
        for batch in waiting:
            yield put(*batch)
