"""Images without labels, from a folder; files that cannot be read are skipped and listed.

A sample before the pipeline: 'img' (H, W, 3) BGR uint8, turned as the file says (EXIF): no label
depends on it, and an encoder should see a photo as people do;
'img_path', 'ori_shape' (H, W), 'sample_idx', and 'image_sha256' where asked for.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from pe_dense.data.image_files import require_no_loop
from pe_dense.data.picture import decode_picture, require_bits
from pe_dense.data.unreadable import UnreadableImages

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


@DATASETS.register_module()
class UnlabelledImages(BaseDataset):
    """All images below a folder, sorted by name.

    An unreadable file gives the next readable one in its place, so that batches stay full and a
    resumed run sees the same images.

    Args:
        data_root: Folder; its subfolders count too, hidden ones do not.
        pipeline: Transforms.
        suffixes: Endings of image files, in lower case.
        hash_images: Whether samples carry the SHA-256 of their file, which a teacher cache needs.
        unreadable_list: File that lists the unreadable ones, best in the work_dir; None: the log.
        max_unreadable_share: Above this share (and above ten) of unreadable files loading stops.
        bits: How many of 16 bits the images use; see `decode_picture`.
        **kwargs: Of MMEngine's `BaseDataset`.

    Raises:
        ValueError: If the folder is missing or holds no image, or too many cannot be read.
    """

    def __init__(
        self,
        data_root: str | Path,
        pipeline: Any = (),
        suffixes: tuple[str, ...] = SUFFIXES,
        hash_images: bool = False,
        unreadable_list: str | Path | None = None,
        max_unreadable_share: float = 0.01,
        bits: int | None = None,
        **kwargs: Any,
    ) -> None:
        self._suffixes, self._hash_images = tuple(suffixes), hash_images
        self._bits = require_bits(bits)
        self.unreadable = UnreadableImages(unreadable_list, max_unreadable_share)
        super().__init__(data_root=str(data_root), pipeline=list(pipeline), **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """One entry per file: its path relative to the root, and its size in bytes."""
        root = Path(self.data_root)
        if not root.is_dir():
            raise ValueError(f"image folder {root} does not exist; check data_root")
        found: list[dict[str, Any]] = []
        for folder, folders, names in os.walk(root, followlinks=True):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in folders:
                require_no_loop(Path(folder) / name)
            for name in names:
                if name.lower().endswith(self._suffixes) and not name.startswith("."):
                    path = Path(folder) / name
                    found.append(
                        {"name": path.relative_to(root).as_posix(), "num_bytes": _size_of(path)}
                    )
        if not found:
            endings = ", ".join(self._suffixes)
            raise ValueError(f"image folder {root} holds no image ({endings}); check data_root")
        return sorted(found, key=lambda entry: entry["name"])

    @property
    def image_set_sha256(self) -> str:
        """Of names and sizes of all files: whether this is the same set, without reading it."""
        digest = hashlib.sha256()
        for index in range(len(self)):
            entry = self.get_data_info(index)
            digest.update(f"{entry['name']}\t{entry['num_bytes']}\n".encode())
        return digest.hexdigest()

    def path_of(self, entry: dict[str, Any]) -> str:
        """How an image is called in lists and messages."""
        return str(Path(self.data_root) / entry["name"])

    def read(self, index: int) -> bytes:
        """Bytes of an image file.

        Raises:
            OSError: If it cannot be read.
            ValueError: If it is empty.
        """
        content = self.read_entry(self.get_data_info(index))
        if not content:
            raise ValueError("the file is empty")
        return content

    def read_entry(self, entry: dict[str, Any]) -> bytes:
        """Bytes of one entry of the list."""
        return Path(self.path_of(entry)).read_bytes()

    def decode(self, content: bytes, index: int) -> np.ndarray:
        """(H, W, 3) BGR uint8.

        Raises:
            ValueError: If it cannot be decoded.
        """
        return decode_picture(content, "it", bits=self._bits)

    def note_unreadable(self, index: int, error: Exception) -> None:
        """List an image that could not be read.

        Raises:
            ValueError: If there are too many by now.
        """
        name = self.path_of(self.get_data_info(index))
        reason = f"{type(error).__name__}: {error}"
        self.unreadable.add(name, reason, len(self))

    def load_sample(self, index: int) -> dict[str, Any]:
        """What the pipeline starts from.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it cannot be decoded.
        """
        content = self.read(index)
        image = self.decode(content, index)
        entry = self.get_data_info(index)
        sample = {
            "img": image,
            "img_path": self.path_of(entry),
            "ori_shape": image.shape[:2],
            "sample_idx": index,
        }
        if self._hash_images:
            sample["image_sha256"] = hashlib.sha256(content).hexdigest()
        return sample

    def prepare_data(self, idx: int) -> Any:
        """The sample of an image after the pipeline, or of the next readable one."""
        if idx < 0:
            idx += len(self)
        for step in range(len(self)):
            index = (idx + step) % len(self)
            try:
                sample = self.load_sample(index)
            except (OSError, ValueError) as error:
                self.note_unreadable(index, error)  # raises when too many are
                continue
            return self.pipeline(sample)
        raise ValueError(
            f"no image of {self.data_root} can be read; see the list of unreadable ones"
        )


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # a dangling link: listed as unreadable once it is its turn
        return -1
