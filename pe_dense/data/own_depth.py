"""A person's depth maps: numbers of any usual format, and how many of them are a metre.

Read are 16-bit PNG and TIFF, floating-point TIFF, EXR, PFM, and NumPy's npy and npz (the array
called depth, or the only one). 0, negative numbers, nan, infinity and the largest number of 16 bits
mean that nothing is known.

`scale_of` tells the unit from the numbers, and says on what grounds; where they leave a choice, it
asks. Whole numbers that are dense and whose middle lies between 0.3 and 8 m as millimetres are
millimetres, those of which all are multiples of 5 are a Kinect's in TUM's unit of 1/5000 m; sparse
ones, as of a lidar, could be KITTI's 1/256 m or millimetres. Floating-point numbers whose middle
lies between 0.1 and 120 are metres, unless all lie in 0..1, as relative depth does.

All is written anew beside the data as 16-bit PNG, unless it is that already and has no 65535. Steps
of what was floating-point are as fine as the largest depth allows: 65,000 of them, so that rounding
is at most 1/130,000 of it. Numbers that are whole millimetres, or whole, stay what they are: a
sensor's depth that somebody divided by 1000 is read as the sensor's own file is.

Shape legend: H, W pixels.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pe_dense.data.checks.many_files import Tick, each_group
from pe_dense.data.checks.picture_findings import image_header
from pe_dense.data.checks.rules import UnsoundError, broken
from pe_dense.data.depth_map import (
    COLOUR,
    EMPTY,
    NOT_16_BIT,
    UNREADABLE,
    read_depth_steps,
    require_size,
)
from pe_dense.files import atomic_write_bytes

LAST = 65_535
FINEST = 65_000  # steps of the largest depth in maps that are written anew
MM, TUM = 1000.0, 5000.0
DENSE = 0.5  # known share of the pixels from which on a map is no lidar's
_SAMPLED = 4096  # numbers of a map that its quantiles are taken from


def read_depth_numbers(path: Path) -> NDArray[np.uint16] | NDArray[np.float32]:
    """Numbers of a depth map as they are in the file, (H, W), 0 where nothing is known.

    Of 16-bit pictures the largest number is left as it is.

    Raises:
        UnsoundError: If the file is missing or broken, or holds no single channel of 16-bit whole
            or of floating-point numbers, or nothing is known anywhere.
    """
    suffix = path.suffix.lower()
    if suffix in (".npy", ".npz"):
        values = _of_numpy(path)
    elif suffix in (".exr", ".pfm"):
        values = _of_opencv(path)
    elif suffix in (".tif", ".tiff") and _is_float_tiff(path):
        values = _of_pillow(path)
    else:
        return read_depth_steps(path)
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values.reshape(max(values.shape[:2]), -1) if values.size == 0 else values.squeeze()
    if (
        values.ndim == 3
        and values.shape[2] in (3, 4)
        and (values[..., :3] == values[..., :1]).all()
    ):
        values = values[..., 0]
    if values.ndim != 2:
        raise broken(COLOUR, path, f"has the shape {values.shape}")
    if values.dtype.kind not in "fui" or values.dtype == np.uint8:
        raise broken(NOT_16_BIT, path, f"holds {values.dtype}")
    known_HW = np.isfinite(values) & (values > 0)
    if not known_HW.any():
        raise broken(EMPTY, path, "has no number above 0")
    return np.where(known_HW, values, 0).astype(np.float32)


def _of_numpy(path: Path) -> NDArray:
    try:
        found = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise broken(UNREADABLE, path, "does not exist") from error
    except Exception as error:  # zipfile and numpy raise many kinds for broken files
        raise broken(UNREADABLE, path, "is no array of numbers, or is cut off") from error
    if isinstance(found, np.ndarray):
        return found
    with found:
        names = list(found.keys())
        name = "depth" if "depth" in names else names[0] if len(names) == 1 else None
        if name is None:
            text = f"has the arrays {', '.join(names)}, of which none is called depth"
            raise broken(UNREADABLE, path, text)
        return found[name]


def _of_opencv(path: Path) -> NDArray:
    os.environ["OPENCV_IO_ENABLE_OPENEXR"] = "1"  # read when the first EXR is
    import cv2

    try:
        content = np.fromfile(path, dtype=np.uint8)
        values = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
    except FileNotFoundError as error:
        raise broken(UNREADABLE, path, "does not exist") from error
    except (OSError, cv2.error) as error:
        raise broken(UNREADABLE, path, "cannot be decoded") from error
    if values is None:
        raise broken(UNREADABLE, path, "cannot be decoded")
    return values


def _is_float_tiff(path: Path) -> bool:
    try:
        return image_header(path).kind == "float"
    except UnsoundError:
        return False


def _of_pillow(path: Path) -> NDArray:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return np.asarray(picture)
    except Exception as error:  # Pillow raises many kinds for a broken file
        raise broken(UNREADABLE, path, "cannot be decoded") from error


# ---- what they hold ------------------------------------------------------------------------------


@dataclass(frozen=True)
class DepthNumbers:
    """What the maps of a list hold, in the unit of the files.

    Attributes:
        is_whole: Whether all maps hold 16-bit whole numbers.
        known: Share of the pixels that have a depth.
        divisor: Greatest common divisor of whole numbers; 1 of others.
        quantiles: 1, 50, 99 and 99.9 % of what is known, from evenly spread pixels of every map.
        largest: The largest number.
        has_last: Whether any of 16 bits is 65535, which counts as unknown.
        sha256: Of every file.
        steps_per_unit: 1 where all numbers are whole, 1000 where all are whole thousandths, within
            what a float32 can tell; 0 of others.
    """

    is_whole: bool
    known: float
    divisor: int
    quantiles: tuple[float, float, float, float]
    largest: float
    has_last: bool
    sha256: tuple[str, ...]
    steps_per_unit: int = 0


def scan_depths(files: Sequence[tuple[Path, Path]], tick: Tick) -> DepthNumbers:
    """Read all maps of (image, depth map) once.

    Raises:
        UnsoundError: For the first map that cannot be used, or has another size than its image.
        ValueError: If maps of whole numbers stand beside others.
    """
    samples, digests, kinds, steps = [], [], set(), set()
    known, total, divisor, largest, has_last = 0, 0, 0, 0.0, False
    for part in each_group(_scan, files, tick):
        if isinstance(part, UnsoundError):
            raise part
        for is_whole, num_known, num, common, most, last, digest, sample, fine in part:
            kinds.add(is_whole)
            steps.add(fine)
            known, total, divisor = known + num_known, total + num, math.gcd(divisor, common)
            largest, has_last = max(largest, most), has_last or last
            digests.append(digest)
            samples.append(sample)
    if len(kinds) > 1:
        raise ValueError(
            "some depth maps hold 16-bit whole numbers and others floating-point ones, whose units "
            "differ; use one kind"
        )
    values = np.concatenate(samples)
    q = np.quantile(values, (0.01, 0.5, 0.99, 0.999)).tolist()
    is_whole = kinds == {True}
    return DepthNumbers(
        is_whole, known / total, divisor if is_whole else 1, (q[0], q[1], q[2], q[3]), largest,
        has_last, tuple(digests), 0 if 0 in steps else max(steps),
    )  # fmt: skip


_Scanned = tuple[bool, int, int, int, float, bool, str, NDArray[np.float32], int]


def _scan(files: Sequence[tuple[Path, Path]]) -> list[_Scanned] | UnsoundError:
    found: list[_Scanned] = []
    for image, depth in files:
        try:
            size = image_header(image).size[::-1]
            numbers_HW = read_depth_numbers(depth)
            require_size(depth, numbers_HW, size)  # type: ignore[arg-type]
        except UnsoundError as error:
            return error
        is_whole = numbers_HW.dtype == np.uint16
        known_N = numbers_HW[numbers_HW > 0]
        has_last = is_whole and bool((known_N == LAST).any())
        known_N = known_N[known_N < LAST] if has_last else known_N
        if not len(known_N):
            return broken(EMPTY, depth, "is 65535 wherever it is not 0")
        common = int(np.gcd.reduce(np.unique(known_N).astype(np.int64))) if is_whole else 1
        sample = np.sort(known_N)[:: max(1, len(known_N) // _SAMPLED)].astype(np.float32)
        digest = hashlib.sha256(depth.read_bytes()).hexdigest()
        found.append((is_whole, len(known_N), numbers_HW.size, common, float(known_N.max()),
                      has_last, digest, sample, _steps_per_unit(known_N)))  # fmt: skip
    return found


def _steps_per_unit(known_N: NDArray) -> int:
    """1 or 1000 of which all numbers are whole; else 0."""
    for steps in (1, 1000):
        scaled_N = known_N.astype(np.float64) * steps
        off_N = np.abs(scaled_N - np.rint(scaled_N))
        if (off_N <= scaled_N * np.finfo(np.float32).eps).all():
            return steps
    return 0


@dataclass(frozen=True)
class DepthScale:
    """Numbers of a map that are a metre, and on what grounds, for people."""

    per_metre: float
    words: str


def scale_of(found: DepthNumbers, given: float | None, where: object) -> DepthScale:
    """The unit of depth maps; see the module for the rules.

    Args:
        found: What they hold.
        given: Numbers that are a metre, where a person says.
        where: How errors call the maps.

    Raises:
        ValueError: If the numbers leave a choice, or `given` is not positive.

    Example:
        >>> room = DepthNumbers(True, 0.9, 1, (800, 1900, 3600, 3800), 3900, False, ())
        >>> scale_of(room, None, "maps").per_metre
        1000.0
    """
    if given is not None:
        if isinstance(given, bool) or not isinstance(given, int | float) or not given > 0:
            raise ValueError(f"depth_scale={given!r} is no number of steps per metre; give 1000")
        return DepthScale(float(given), "as depth_scale says")
    _, middle, far, _ = found.quantiles
    ask = (
        f"the unit of the depth maps in {where} cannot be told (their middle is {middle:.4g}, 99 % "
        f"are below {far:.4g}, {100 * found.known:.0f} % of the pixels are known); say how many "
        "steps are a metre: depth_scale=1000 for millimetres, 256 as KITTI, 5000 as TUM, 1 for "
        "metres"
    )
    if not found.is_whole:
        if 0.1 <= middle <= 120 and found.largest > 1.001:
            return DepthScale(1.0, "floating-point numbers of this size are metres")
        raise ValueError(ask)
    if found.divisor == 5 and found.known >= DENSE and 0.3 <= middle / TUM <= 8:
        return DepthScale(TUM, "all are multiples of 5: a Kinect's, in 1/5000 m as TUM's")
    if found.known >= DENSE and 0.3 <= middle / MM <= 8 and far / MM <= 20:
        return DepthScale(MM, "dense whole numbers of this size are millimetres")
    raise ValueError(ask)


def usual_range(found: DepthNumbers, scale: float) -> tuple[float, float]:
    """Limits of depth in metres: 1 mm, and what is above all but strays, to two digits.

    Six digits of the largest count: a float32 of 3.9 m is none above it.

    Example:
        >>> usual_range(DepthNumbers(True, 0.9, 1, (800, 1900, 3600, 3800), 3900, False, ()), 1000)
        (0.001, 3.9)
    """
    largest = float(f"{min(found.largest, 1.25 * found.quantiles[3]) / scale:.6g}")
    digit = 10.0 ** (math.floor(math.log10(largest)) - 1)
    return 1e-3, round(math.ceil(largest / digit - 1e-9) * digit, 6)


def steps_for(found: Sequence[DepthNumbers], per_metre: float) -> float:
    """Steps per metre of maps that are written anew, which lose nothing where they need not.

    Args:
        found: What the maps of each part hold, in one unit.
        per_metre: Numbers that are a metre.

    Example:
        >>> room = (0.8, 1.9, 3.6, 3.8)
        >>> steps_for([DepthNumbers(False, 0.9, 1, room, 10.0, False, ())], 1.0)
        6500.0
        >>> steps_for([DepthNumbers(False, 0.9, 1, room, 10.0, False, (), 1000)], 1.0)
        1000.0
    """
    largest = max(part.largest for part in found)
    per_unit = max(part.steps_per_unit for part in found)
    if all(part.steps_per_unit for part in found) and largest * per_unit < LAST:
        return per_unit * per_metre
    return math.floor(FINEST / (largest / per_metre) * 1000) / 1000


def write_steps(
    depths: Sequence[Path], targets: Sequence[Path], per_metre: float, steps: float, tick: Tick
) -> None:
    """Write 16-bit PNG of so many steps per metre; those that are there already stay."""
    for folder in sorted({target.parent for target in targets}):
        folder.mkdir(parents=True, exist_ok=True)
    todo = [(a, b) for a, b in zip(depths, targets, strict=True) if not b.is_file()]
    for _ in each_group(functools.partial(_write, factor=steps / per_metre), todo, tick):
        pass


def _write(files: Sequence[tuple[Path, Path]], factor: float) -> None:
    import cv2

    for depth, target in files:
        found_HW = read_depth_numbers(depth)
        numbers_HW = found_HW.astype(np.float64)
        if found_HW.dtype == np.uint16:
            numbers_HW[found_HW == LAST] = 0
        steps_HW = np.clip(np.rint(numbers_HW * factor), 0, LAST)
        steps_HW[(numbers_HW > 0) & (steps_HW == 0)] = 1  # known stays known
        done, data = cv2.imencode(".png", steps_HW.astype(np.uint16))
        assert done
        atomic_write_bytes(target, data.tobytes())
