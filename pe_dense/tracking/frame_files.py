"""Files of one video by the number of their frame: frames come in the order of numbers.

As text, '10.jpg' comes before '9.jpg'.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from pe_dense.data.image_files import PICTURE_SUFFIXES

# Digits behind a point are a part of a second or of a name, whose width counts.
_WHOLE_NUMBER = re.compile(r"(?<![.0-9])[0-9]+")


def frame_files(folder: Path) -> dict[tuple[int, ...], Path]:
    """Pictures of a folder by the numbers in their names, in the order of these.

    All names must be alike but for their numbers; otherwise their order says nothing of time.
    Hidden files do not count.

    Args:
        folder: An existing one.

    Returns:
        'cam2_9.jpg' has (2, 9), however many zeros it is written with.

    Raises:
        ValueError: If a name has no number, is not like the others, or two have the same numbers.
    """
    names = sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")
    )
    found: dict[tuple[int, ...], Path] = {}
    for name in names:
        if _pattern(name) != _pattern(names[0]):
            raise ValueError(
                f"frames {folder / names[0]} and {name} are not called alike, so their order is "
                "unknown; call all files of a video the same but for their number"
            )
        numbers = frame_numbers(name)
        if not numbers:
            raise ValueError(
                f"frame {folder / name} has no number in its name, so its time is unknown; number "
                "the frames"
            )
        if numbers in found:
            raise ValueError(
                f"{found[numbers]} and {name} are two files for frame {numbers[-1]}; remove one"
            )
        found[numbers] = folder / name
    return {numbers: found[numbers] for numbers in sorted(found)}


def frame_numbers(name: str) -> tuple[int, ...]:
    """All numbers in the name of a file, without its suffix."""
    return tuple(map(int, re.findall("[0-9]+", Path(name).stem)))


def _pattern(name: str) -> str:
    stem = re.sub(r"(?<=\.)[0-9]+", lambda digits: "0" * len(digits[0]), Path(name).stem)
    return _WHOLE_NUMBER.sub("0", stem)


def first_gap(numbers: Sequence[int]) -> tuple[int, int] | None:
    """The first two neighbours that are further apart than the closest ones; None if none are.

    Example:
        >>> first_gap([0, 5, 10]), first_gap([1, 2, 3, 7, 9])
        (None, (3, 7))
    """
    pairs = list(itertools.pairwise(numbers))
    step = min((b - a for a, b in pairs), default=1)
    return next(((a, b) for a, b in pairs if b - a > step), None)
