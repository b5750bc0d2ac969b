"""Videos that hold copies of another's frames, also where one is a part of the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

RUN = 3  # so many frames in a row are compared


def copied_clips(clips: Mapping[str, Sequence[Path]]) -> list[tuple[Path, Path]]:
    """One frame of each video that repeats a run of an earlier video, and the frame it repeats.

    Runs of equal file sizes are looked up, and compared byte by byte where there are some. Runs
    in which a picture repeats, such as black ones, do not count.

    Args:
        clips: Name -> frames in order.

    Returns:
        (frame, frame of an earlier video), at most one for each video.
    """
    known: dict[tuple[int, ...], tuple[str, Sequence[Path]]] = {}
    found = []
    for name, frames in clips.items():
        sizes = [frame.stat().st_size for frame in frames]
        runs = [
            (tuple(sizes[t : t + RUN]), frames[t : t + RUN]) for t in range(len(sizes) - RUN + 1)
        ]
        for key, run in runs:
            if key in known and known[key][0] != name and _are_equal(run, known[key][1]):
                found.append((run[0], known[key][1][0]))
                break
        for key, run in runs:
            known.setdefault(key, (name, run))
    return found


def _are_equal(run: Sequence[Path], other: Sequence[Path]) -> bool:
    contents = [frame.read_bytes() for frame in run]
    if len(set(contents)) < len(contents):
        return False
    return all(
        content == frame.read_bytes() for content, frame in zip(contents, other, strict=True)
    )
