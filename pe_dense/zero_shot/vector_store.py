"""Vectors of pictures and texts on disk, so that a killed run goes on, and another begins there.

A file holds the vectors of one batch, or of the sentences of one task, and is named by the hash of
all that they depend on: weights, what the towers are built of, input, code and libraries, and size
and time of each picture. So nothing is ever taken for something else; what is of no use any more is
only in the way, and may be deleted.
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

        A file that cannot be read is made anew.
        """
        if self.folder is None:
            return find_out()
        text = f"{self._about}\n{json.dumps(list(of), sort_keys=True)}"
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
        file = self.folder / f"{digest[:32]}.npy"
        known = _read(file)
        if known is not None:
            self.num_found += 1
            return known
        found = find_out()
        content = io.BytesIO()
        np.save(content, found.numpy(), allow_pickle=False)
        atomic_write_bytes(file, content.getvalue())
        return found


def _read(file: Path) -> Tensor | None:
    try:
        found = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    is_sound = isinstance(found, np.ndarray) and found.dtype == np.float32 and found.ndim == 2
    return torch.from_numpy(found) if is_sound else None
