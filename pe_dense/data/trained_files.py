"""What a run trains on, as one hash that is cheap for data sets of any size.

Of a file with the labels of all pictures the bytes count; of pictures, and of label maps that each
picture has for itself, name and size. What is held out is left out, so that a run does not go on
with what chooses its checkpoint among what it trains on. That is weaker than the hash of what is
scored, and reads no picture: it is there so that a run that goes on notices other data, not to
vouch for a number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pe_dense.data.holdout import HoldoutSubset
from pe_dense.data.scored_files import files_of
from pe_dense.files import file_sha256


def trained_sha256(dataset: Any) -> str | None:
    """Hash of all that a built training data set holds, in whatever folder and order.

    Args:
        dataset: As for `scored_files`; of wrappers that repeat or draw, what is inside, and of a
            `HoldoutSubset` its own part.

    Returns:
        64 hex digits; None if some entry does not tell its files. A file that is missing counts as
        that: whether the run can do without it is for its loader to say.
    """
    lines: set[str] = set()
    label_files: set[str] = set()
    for leaf, indices in _leaves(dataset):
        if not hasattr(leaf, "get_data_info"):
            return None
        for index in range(len(leaf)) if indices is None else indices:
            found = files_of(leaf.get_data_info(index))
            if found is None:
                return None
            paths, has_labels = found
            lines.add("\t".join(f"{Path(path).name} {_size(path)}" for path in paths))
            if not has_labels:
                label_files.add(str(getattr(leaf, "ann_file", "") or ""))
    lines |= {file_sha256(file) for file in label_files if Path(file).is_file()}
    text = "\n".join(sorted(lines)).encode("utf-8", "surrogatepass")  # names need not be text
    return hashlib.sha256(text).hexdigest() if lines else None


def _size(path: str) -> int | str:
    try:
        return Path(path).stat().st_size
    except OSError:
        return "missing"


def _leaves(dataset: Any) -> Iterator[tuple[Any, Sequence[int] | None]]:
    """The data sets below concatenations and wrappers, and what of them counts; None is all."""
    parts = getattr(dataset, "datasets", None)
    if parts is not None:
        for part in parts:
            yield from _leaves(part)
    elif isinstance(dataset, HoldoutSubset):
        dataset.full_init()
        yield dataset.dataset, dataset.indices
    elif hasattr(dataset, "dataset"):
        yield from _leaves(dataset.dataset)
    else:
        yield dataset, None
