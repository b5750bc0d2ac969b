"""A teacher's tokens on disk, so that a slow teacher such as SAM runs once an image.

Layout of the folder:

    manifest.json                what the tokens belong to: teacher, grid, image size, image set,
                                 and the code that made them
    <2 hex digits>/<key>.npy     tokens (N, C) in float16 of one image

The key is the SHA-256 of the manifest and of the image file's SHA-256, so that an image is found
whatever its name, and changed bytes are another image. Tokens are those of the whole image,
stretched to `image_hw` without any augmentation; `view_of_tokens` cuts from them what an augmented
view shows. Every file appears whole or not at all. Several processes, also on several machines
that share the folder, may fill it at once and be killed at any time: images already there are
skipped, and two that meet at one image write the same tokens.

Shape legend: B images, N tokens, C teacher channels, h w token grid.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor

from pe_dense.alignment.frozen_teacher import FrozenTeacher
from pe_dense.alignment.token_code import code_of
from pe_dense.files import atomic_create_bytes, atomic_write_bytes

MANIFEST = "manifest.json"
_DISK_BLOCK = 4096
_REMEDY = "name another folder for the cache, or delete this one"


class ImageSource(Protocol):
    """Encoded images by number; `UnlabelledImages` and `ShardedImages` are such."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes:
        """Bytes of an image file; OSError or ValueError if it cannot be read."""
        ...

    def decode(self, content: bytes, index: int) -> np.ndarray:
        """(H, W, 3) BGR uint8; ValueError if it cannot be decoded."""
        ...

    def note_unreadable(self, index: int, error: Exception) -> None:
        """List an image that could not be read."""
        ...

    @property
    def image_set_sha256(self) -> str:
        """What identifies the set of images."""
        ...


@dataclass(frozen=True)
class CacheSpec:
    """What the tokens of a cache belong to.

    Attributes:
        teacher: `FrozenTeacher.facts()`: settings and sha256 of the weights.
        num_channels: C.
        grid_hw: Token grid (h, w).
        image_hw: Size in pixels to which the whole image is stretched for the teacher.
        image_set: `image_set_sha256` of the images.
        code: Hash of the code that makes the tokens, see `token_code`.
    """

    teacher: dict[str, Any]
    num_channels: int
    grid_hw: tuple[int, int]
    image_hw: tuple[int, int]
    image_set: str
    code: str

    @classmethod
    def of(
        cls,
        teacher: FrozenTeacher,
        grid_hw: tuple[int, int],
        image_hw: tuple[int, int],
        image_set: str,
    ) -> CacheSpec:
        """For a teacher.

        Raises:
            ValueError: If its tokens depend on annotations, and not on the image alone.
        """
        if teacher.needs_samples:
            raise ValueError(
                f"{type(teacher).__name__} reads annotations and is fast; use it without a cache"
            )
        return cls(
            teacher.facts(),
            teacher.num_channels,
            tuple(grid_hw),
            tuple(image_hw),
            image_set,
            code_of(type(teacher), cls),
        )

    def to_json(self) -> str:
        """As it stands in the manifest."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"


class TeacherCache:
    """The tokens of one teacher for one set of images.

    Args:
        folder: Made if it is not there.
        spec: What the tokens belong to; the folder's must be the same.

    Raises:
        ValueError: If the folder holds something else, or tokens of another teacher, grid, image
            size or image set.
    """

    def __init__(self, folder: str | Path, spec: CacheSpec) -> None:
        self.folder, self.spec = Path(folder), spec
        text = spec.to_json()
        self._sha256 = hashlib.sha256(text.encode()).hexdigest()
        path = self.folder / MANIFEST
        if not path.exists():
            self._write_manifest(path, text)
        _check_manifest(path, text)
        height, width = spec.grid_hw
        self._shape = (height * width, spec.num_channels)
        self._file_bytes = len(_npy_bytes(np.zeros(self._shape, np.float16)))

    def _write_manifest(self, path: Path, text: str) -> None:
        if self.folder.exists() and (
            not self.folder.is_dir()
            or any(not v.name.startswith(".") for v in self.folder.iterdir())
        ):
            if path.exists():  # another writer was faster
                return
            raise ValueError(
                f"{self.folder} holds other things and no {MANIFEST} of a teacher cache; "
                "name another folder"
            )
        with contextlib.suppress(FileExistsError):  # of several writers the first one wins
            atomic_create_bytes(path, text.encode())

    def path_of(self, image_sha256: str) -> Path:
        """Where the tokens of an image are or would be."""
        key = hashlib.sha256(f"{self._sha256} {image_sha256}".encode()).hexdigest()
        return self.folder / key[:2] / f"{key}.npy"

    def has(self, image_sha256: str) -> bool:
        """Whether the tokens of an image are there, in full length."""
        try:
            return self.path_of(image_sha256).stat().st_size == self._file_bytes
        except FileNotFoundError:
            return False

    def write(self, image_sha256: str, tokens_NC: Tensor) -> None:
        """Store the tokens of an image, rounded to float16.

        Raises:
            ValueError: If the shape is not the cache's, or float16 cannot hold a value.
        """
        if tuple(tokens_NC.shape) != self._shape:
            raise ValueError(
                f"tokens {tuple(tokens_NC.shape)} do not fit a teacher cache of {self._shape}; "
                "open it with the grid of the student"
            )
        half_NC = tokens_NC.detach().to("cpu", torch.float16)
        if not bool(torch.isfinite(half_NC).all()):
            raise ValueError(
                "a teacher's token is nan or beyond 65504, which float16 cannot hold; clamp the "
                "logits, or train without a cache"
            )
        atomic_write_bytes(self.path_of(image_sha256), _npy_bytes(half_NC.numpy()))

    def read(self, image_sha256: str, name: str = "an image") -> Tensor:
        """Tokens (N, C) float16 of an image.

        Args:
            image_sha256: Of the image file's bytes.
            name: Of the image, for the message.

        Raises:
            ValueError: If they are not there or damaged.
        """
        path = self.path_of(image_sha256)
        try:
            tokens_NC = np.load(path, allow_pickle=False)
            if tokens_NC.shape != self._shape or tokens_NC.dtype != np.float16:
                raise ValueError(f"{tokens_NC.dtype} {tokens_NC.shape}")
        except FileNotFoundError:
            raise ValueError(
                f"teacher cache {self.folder} has no tokens of {name}; fill it for this image "
                "set, or train without a cache"
            ) from None
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(
                f"{path} of the teacher cache is damaged ({error}); delete the file and fill the "
                "cache again"
            ) from error
        return torch.from_numpy(tokens_NC)

    def read_batch(self, image_sha256s: Sequence[str], names: Sequence[str]) -> Tensor:
        """Tokens (B, N, C) float16; raises as `read`."""
        pairs = zip(image_sha256s, names, strict=True)
        return torch.stack([self.read(sha256, name) for sha256, name in pairs])

    def bytes_on_disk(self, num_images: int) -> int:
        """Size of the cache for so many different images, in whole blocks of the disk."""
        return num_images * -(-self._file_bytes // _DISK_BLOCK) * _DISK_BLOCK

    def estimate(self, num_images: int) -> str:
        """Size and free space in a sentence."""
        tokens, channels = self._shape
        free = shutil.disk_usage(self.folder).free
        return (
            f"teacher cache {self.folder}: {num_images:,} images x {tokens:,} tokens x "
            f"{channels:,} channels in float16 take about {_size(self.bytes_on_disk(num_images))}, "
            f"of which {self.num_images():,} images are there; {_size(free)} are free"
        )

    def num_images(self) -> int:
        """Images whose tokens are there, counted on the disk."""
        return sum(1 for _ in self.folder.glob("[0-9a-f][0-9a-f]/[0-9a-f]*.npy"))


@dataclass
class FillReport:
    """What filling a cache did: images written, found there, and unreadable."""

    num_written: int = 0
    num_found: int = 0
    num_unreadable: int = 0


def fill_teacher_cache(
    cache: TeacherCache,
    teacher: FrozenTeacher,
    images: ImageSource,
    batch_size: int = 1,
    device: str | torch.device = "cpu",
    part: tuple[int, int] = (0, 1),
    announce: Callable[[str], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> FillReport:
    """Compute and store what is missing; says the size before it begins.

    Args:
        cache: Opened for this teacher and these images.
        teacher: Moved to the device.
        images: Read one after the other; unreadable ones are listed by the source and skipped.
        batch_size: Images that the teacher takes at once.
        device: Where the teacher runs.
        part: (index, count): this process takes every count-th image. Parts need not differ: what
            another process has written meanwhile is skipped.
        announce: Takes the estimate; None logs it.
        on_progress: Called with (images done, images to do).

    Raises:
        ValueError: If teacher or images are not the cache's, the part or batch size is out of
            range, the disk lacks space, or an image set is empty.
    """
    index, count = part
    if not 0 <= index < count or batch_size < 1:
        raise ValueError(
            f"part={part} or batch_size={batch_size} is out of range; try (0, 1) and 1"
        )
    if not len(images):
        raise ValueError("the image set is empty; there is nothing to fill a teacher cache with")
    wanted = CacheSpec.of(teacher, cache.spec.grid_hw, cache.spec.image_hw, images.image_set_sha256)
    _check_manifest(cache.folder / MANIFEST, wanted.to_json())
    (announce or log)(cache.estimate(len(images)))
    missing = cache.bytes_on_disk(max(0, len(images) - cache.num_images()))
    free = shutil.disk_usage(cache.folder).free
    if missing > free:
        raise ValueError(
            f"teacher cache {cache.folder} needs {_size(missing)} more, but {_size(free)} are "
            "free; name a folder on a larger disk, or train without a cache"
        )
    teacher = teacher.to(device)
    report, waiting = FillReport(), {}
    numbers = range(index, len(images), count)
    for done, number in enumerate(numbers, start=1):
        try:
            content = images.read(number)
            sha256 = hashlib.sha256(content).hexdigest()
            if sha256 in waiting or cache.has(sha256):
                report.num_found += 1
            else:
                image_HW3 = images.decode(content, number)
                waiting[sha256] = whole_image(image_HW3, cache.spec.image_hw)
        except (OSError, ValueError) as error:
            images.note_unreadable(number, error)
            report.num_unreadable += 1
        if len(waiting) == batch_size or (done == len(numbers) and waiting):
            tokens_BNC = teacher(torch.stack([*waiting.values()]).to(device), cache.spec.grid_hw)
            for sha256, tokens_NC in zip(waiting, tokens_BNC, strict=True):
                cache.write(sha256, tokens_NC)
            report.num_written += len(waiting)
            waiting = {}
        if on_progress is not None:
            on_progress(done, len(numbers))
    return report


def whole_image(image_HW3: np.ndarray, image_hw: tuple[int, int]) -> Tensor:
    """A BGR uint8 image, stretched (bilinear, antialiased), as RGB (3, H, W) in 0..1."""
    rgb_HW3 = np.ascontiguousarray(image_HW3[..., ::-1])
    image_13HW = torch.from_numpy(rgb_HW3).permute(2, 0, 1)[None].float() / 255
    return F.interpolate(image_13HW, image_hw, mode="bilinear", antialias=True)[0].clamp(0, 1)


def view_of_tokens(
    tokens_BNC: Tensor,
    source_hw: tuple[int, int],
    views_B4: Tensor,
    flipped_B: Tensor,
    grid_hw: tuple[int, int],
) -> Tensor:
    """Tokens of augmented views, cut from those of whole images; bilinear, float32.

    It stands in for running the teacher on the view. The teacher is thus taken to answer a crop as
    it answers the whole image, and a mirrored image with mirrored logits; colour jitter does not
    reach it. The order of SAM's points stays that of the whole image, which no similarity between
    tokens depends on.

    Args:
        tokens_BNC: Tokens on the cache's grid.
        source_hw: That grid.
        views_B4: What a view shows of its image, (y0, x0, y1, x1) as shares of height and width.
        flipped_B: Whether it was mirrored left to right afterwards.
        grid_hw: The student's grid over the view.

    Returns:
        (B, N', C).
    """
    batch, num_tokens, channels = tokens_BNC.shape
    if num_tokens != source_hw[0] * source_hw[1]:
        raise ValueError(f"{num_tokens} tokens are no grid of {source_hw}; pass the cache's grid")
    maps_BChw = tokens_BNC.float().transpose(1, 2).reshape(batch, channels, *source_hw)
    views_B4 = views_B4.to(maps_BChw)
    y_h, x_w = ((torch.arange(cells, device=maps_BChw.device) + 0.5) / cells for cells in grid_hw)
    x_Bw = torch.where(flipped_B.to(maps_BChw.device)[:, None], x_w.flip(0), x_w)
    y_Bh = views_B4[:, :1] + (views_B4[:, 2:3] - views_B4[:, :1]) * y_h
    x_Bw = views_B4[:, 1:2] + (views_B4[:, 3:] - views_B4[:, 1:2]) * x_Bw
    size = (batch, *grid_hw)
    places_Bhw2 = torch.stack([x_Bw[:, None].expand(size), y_Bh[:, :, None].expand(size)], -1)
    view_BChw = F.grid_sample(
        maps_BChw, places_Bhw2 * 2 - 1, padding_mode="border", align_corners=False
    )
    return view_BChw.flatten(2).transpose(1, 2)


def _npy_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _check_manifest(path: Path, text: str) -> None:
    """Compare with the manifest on the disk; a sentence on the first difference."""
    found: Any = None
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
    wanted = json.loads(text)
    if not isinstance(found, dict) or found.keys() != wanted.keys():
        raise ValueError(f"{path} is no manifest of a teacher cache; {_REMEDY}")
    if found == wanted:
        return
    key = next(key for key in wanted if found[key] != wanted[key])
    if key == "teacher" and isinstance(found[key], dict):
        names = sorted(wanted[key].keys() | found[key].keys())
        name = next(n for n in names if found[key].get(n) != wanted[key].get(n))
        ours, theirs = wanted[key].get(name), found[key].get(name)
        what = f"another teacher ({name} {theirs}, not {ours})"
    elif key == "image_set":
        what = f"another image set (sha256 {found[key]}, not {wanted[key]})"
    else:
        what = f"another {key} ({found[key]}, not {wanted[key]})"
    raise ValueError(f"teacher cache {path.parent} was made for {what}; {_REMEDY}")


def _size(num_bytes: int) -> str:
    """As text, in the largest unit that leaves 1 or more.

    Example:
        >>> _size(3 * 2**30 // 2)
        '1.50 GiB'
    """
    for unit, scale in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.2f} {unit}"
    return f"{num_bytes / 2**10:.2f} KiB"


def log(text: str) -> None:
    """To the log of the run."""
    print_log(text, logger="current")
