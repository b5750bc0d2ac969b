"""Masks of Label Studio's brush: numbers packed by bits.

The stream says how many values there are (32 bits), how many bits one has (5 bits, less 1) and four
lengths of counts (4 bits each, less 1). Then come blocks: a bit that says whether one value is
repeated, two bits that choose the length of the count, the count less 1, and the value, or as many
values as counted. Values are red, green, blue and opacity of each pixel, row by row; a pixel is in
the mask where its opacity is above 0.

Source: thi.ng/umbrella, packages/rle-pack, readme; written from the description.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class _Bits:
    """Reads whole numbers, most significant bit first."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._place = 0

    def take(self, count: int) -> int:
        """The next bits as a number."""
        end = self._place + count
        if end > 8 * len(self._content):
            raise ValueError("it ends too early")
        first, last = self._place // 8, (end + 7) // 8
        chunk = int.from_bytes(self._content[first:last], "big")
        self._place = end
        return (chunk >> (8 * last - end)) & ((1 << count) - 1)


def brush_mask(numbers: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """The mask of a brush, (H, W) bool.

    Args:
        numbers: Bytes, 0 to 255.
        size: Width and height of the picture.

    Raises:
        ValueError: If they are no such stream, or of another size.
    """
    try:
        bits = _Bits(bytes(numbers))
    except (ValueError, TypeError):
        raise ValueError("has a brush mask that is no list of bytes") from None
    width, height = size
    try:
        total, word = bits.take(32), bits.take(5) + 1
        lengths = [bits.take(4) + 1 for _ in range(4)]
        if total != 4 * width * height:
            raise ValueError(f"it has {total / 4:g} pixels, but the picture {width} x {height}")
        values = np.zeros(total, dtype=np.int64)
        done = 0
        while done < total:
            repeated = bits.take(1)
            count = bits.take(lengths[bits.take(2)]) + 1
            if done + count > total:
                raise ValueError("it holds more pixels than it says")
            if repeated:
                values[done : done + count] = bits.take(word)
            else:
                values[done : done + count] = [bits.take(word) for _ in range(count)]
            done += count
    except ValueError as error:
        raise ValueError(f"has a brush mask that cannot be read: {error}") from None
    return values.reshape(height, width, 4)[..., 3] > 0
