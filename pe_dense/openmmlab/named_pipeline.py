"""Errors in the pipeline of a data set name the file whose sample they arose from.

Libraries raise what they please in the middle of a transform, without a word of the sample. Here
it becomes one ValueError, in the process that loads.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dataset import Compose

PACKAGE = Path(__file__).resolve().parents[1]


class NamedPipeline(Compose):
    """A pipeline that says which file and which step an error is of.

    Args:
        pipeline: The same without.
    """

    def __init__(self, pipeline: Compose) -> None:
        self.transforms = pipeline.transforms

    def __call__(self, data: dict) -> dict | None:
        """See mmengine's Compose.

        Raises:
            ValueError: If a step fails. A bug of this package stays what it is.
        """
        file = sample_file(data)
        for step in self.transforms:
            try:
                data = step(data)
            except Exception as error:  # whatever a library raises
                if _is_sentence(error, file) or _is_own_bug(error):
                    raise
                words = " ".join(str(error).split())
                raise ValueError(
                    f"sample {file} fails in {type(step).__name__} ({type(error).__name__}: "
                    f"{words}); correct the file, its annotations or the settings of that step"
                ) from error
            if data is None:
                return None
        return data


def name_files_in_errors(dataset: Any) -> None:
    """Give a data set, and those that it wraps, a `NamedPipeline`."""
    inner = [*getattr(dataset, "datasets", ()), getattr(dataset, "dataset", None)]
    for part in inner:
        if part is not None:
            name_files_in_errors(part)
    if type(getattr(dataset, "pipeline", None)) is Compose:
        dataset.pipeline = NamedPipeline(dataset.pipeline)


def sample_file(data: Mapping[str, Any]) -> str:
    """The image of a sample, the first one of several, or what else is known of it."""
    file = data.get("img_path", data.get("sample_idx", "without a file"))
    return str(file[0]) if isinstance(file, list) and file else str(file)


def _is_sentence(error: Exception, file: str) -> bool:
    return isinstance(error, ValueError | OSError) and Path(file).name in str(error)


def _is_own_bug(error: Exception) -> bool:
    if isinstance(error, ValueError | OSError):
        return False
    *_, (last, _) = traceback.walk_tb(error.__traceback__)
    return Path(last.f_code.co_filename).is_relative_to(PACKAGE)
