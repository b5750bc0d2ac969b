"""Lines of equal columns, for the tables of what a data set holds."""

from __future__ import annotations

from collections.abc import Sequence


def text_table(rows: Sequence[Sequence[object]]) -> str:
    """Rows as text: the first column left, all others right, integers with commas.

    Example:
        >>> print(text_table([["", "videos", "frames"], ["report", 30, 1999]]))
                videos  frames
        report      30   1,999
    """
    cells = [[f"{c:,}" if isinstance(c, int) else str(c) for c in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )
