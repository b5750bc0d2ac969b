"""The files that are made of a result: which, where, and how they are called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pe_dense.files import atomic_write_bytes
from pe_dense.pictures.folder import encoded
from pe_dense.predict.results import SCORE_THR, DepthMap, Detections, LabelMap, Result

OVERLAYS, LABELS, DEPTH = "overlays", "labels", "depth"


@dataclass(frozen=True)
class Written:
    """What was made of one picture.

    Attributes:
        outputs: Files by kind, below the folder.
        facts: Counts: detections, pixels of depth that did not fit into 16 bits.
        found: Detections, as `Detections.coco` gives them; classes are called 1 to K.
    """

    outputs: dict[str, str]
    facts: dict[str, int]
    found: list[dict[str, Any]]


@dataclass(frozen=True)
class Writer:
    """Writes what a result is saved as.

    Attributes:
        out: The folder.
        overlays: Whether drawings are made.
        score_thr: Least score that is drawn.
    """

    out: Path
    overlays: bool = False
    score_thr: float = SCORE_THR

    def write(self, result: Result, stem: str) -> Written:
        """Write a result; each file is whole or not there."""
        files: dict[str, tuple[str, Callable[[], bytes]]] = {}
        facts: dict[str, int] = {}
        found: list[dict[str, Any]] = []
        figure: Callable[[], Any]
        if isinstance(result, Detections):
            found = result.coco()
            facts["detections"] = len(found)
            figure = lambda: result.figure(self.score_thr)  # noqa: E731
        elif isinstance(result, LabelMap):
            files[LABELS] = f"{LABELS}/{stem}.png", result.png
            figure = result.figure
        else:
            assert isinstance(result, DepthMap)
            files["depth_png"] = f"{DEPTH}/{stem}.png", result.png
            files["depth_npy"] = f"{DEPTH}/{stem}.npy", result.npy
            facts["clipped_pixels"] = result.steps()[1]
            figure = result.figure
        if self.overlays:
            files[OVERLAYS] = f"{OVERLAYS}/{stem}.jpg", lambda: encoded(figure(), ".jpg")
        for name, content in files.values():
            atomic_write_bytes(self.out / name, content())
        return Written({kind: name for kind, (name, _) in files.items()}, facts, found)
