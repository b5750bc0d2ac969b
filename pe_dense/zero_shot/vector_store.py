"""Vectors of pictures and texts on disk, so that a killed run goes on, and another begins there.

A file holds the vectors of one batch, or of the sentences of one task, and is named by the hash of
all that they depend on: weights, what the towers are built of, input, code and libraries, and size
and time of each picture, or the sentences themselves. So nothing is ever taken for something else;
what is of no use any more is only in the way, and may be deleted. A file begins with the SHA-256 of
its array, so that one whose bytes have changed is made anew.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pe_dense.files import atomic_write_bytes

_DIGEST = 32  # bytes of SHA-256


class VectorStore:
    """Vectors by what they depend on.

    Args:
        folder: Made where it is missing; None keeps nothing.
        about: What all vectors depend on; JSON can hold it.
    """

    def __init__(self, folder: str | Path | None, about: Mapping[str, Any]) -> None:
        self.folder = None if folder is None else Path(folder)
        self._about = json.dumps(about, sort_keys=True)
        self.num_found = 0

    def get(self, of: Sequence[Any], find_out: Callable[[], Tensor]) -> Tensor:
        """(N, D) float32 on the CPU: what is kept, or what `find_out` gives, which is kept then.

        A file that cannot be read, or is not as it was written, is made anew.
        """
        if self.folder is None:
            return find_out()
        text = f"{self._about}\n{json.dumps(list(of), sort_keys=True)}"
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
        file = self.folder / f"{digest[:32]}.vectors"
        known = _read(file)
        if known is not None:
            self.num_found += 1
            return known
        found = find_out()
        content = io.BytesIO()
        np.save(content, found.numpy(), allow_pickle=False)
        array = content.getvalue()
        atomic_write_bytes(file, hashlib.sha256(array).digest() + array)
        return found


def _read(file: Path) -> Tensor | None:
    try:
        content = file.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
        return None
    try:
        found = np.load(io.BytesIO(content[_DIGEST:]), allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    is_sound = isinstance(found, np.ndarray) and found.dtype == np.float32 and found.ndim == 2
    return torch.from_numpy(found) if is_sound else None
