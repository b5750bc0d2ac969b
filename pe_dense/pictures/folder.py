"""A folder of pictures: one per image, a sheet of the worst, an index with a line for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from pe_dense.files import atomic_write_bytes, atomic_write_text
from pe_dense.pictures.drawing import contact_sheet

SHEET = "worst.png"
INDEX = "index.txt"
MAX_ON_SHEET = 12
Seen = TypeVar("Seen")  # what a model says of an image, and what is known of it


class Look(NamedTuple):
    """What was seen in one image.

    Attributes:
        rank: The worst image sorts first, those without truth last.
        words: Its scores, for the index and the sheet.
        draw: Makes the picture; the argument is the longer side of a panel in pixels, None takes
            the usual one.
    """

    rank: tuple[float, ...]
    words: str
    draw: Callable[[int | None], np.ndarray]


class Folder:
    """A new folder of numbered pictures, with an index that is written last.

    Args:
        out: New or empty.
        total: Pictures to come, as far as it is known; more than 999 get longer numbers.

    Raises:
        ValueError: If the folder holds something.
    """

    def __init__(self, out: Path, total: int = 0) -> None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ValueError(f"--out {out} is not an empty folder; name a new one")
        self.out, self.digits = out, max(3, len(str(total)))

    def stem(self, number: int, name: str) -> str:
        """Of the files of one thing: its number, from 1, and its name."""
        return f"{number:0{self.digits}d}_{name[:60]}"

    def write(self, name: str, content: bytes) -> None:
        """Any other file."""
        atomic_write_bytes(self.out / name, content)

    def add(self, number: int, name: str, picture_HW3: np.ndarray) -> str:
        """The picture of one thing; returns the name of its file."""
        self.write(f"{self.stem(number, name)}.png", encoded(picture_HW3))
        return f"{self.stem(number, name)}.png"

    def close(self, lines: list[str], heading: str | None = None) -> list[str]:
        """Writes the index, below a heading if there is one; returns its lines."""
        above = [] if heading is None else [heading]
        atomic_write_text(self.out / INDEX, "\n".join([*above, *lines]) + "\n")
        return lines


def write_looks(
    out: Path,
    files: Sequence[Path],
    see: Callable[[Path], Seen],
    look_at: Callable[[Seen, str], Look],
    sheet_side: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """One PNG per image, `SHEET` with the worst ones, and `INDEX` with a line for each.

    Args:
        out: Folder; new or empty.
        files: Images.
        see: Reads an image, and predicts.
        look_at: Compares and draws what was seen; it is told the name of the file.
        sheet_side: Longer side of a panel on the sheet, in pixels.
        on_progress: Called with (images done, images to do).

    Returns:
        The lines of the index, the worst image first: scores, picture, image.

    Raises:
        ValueError: If the folder is not empty, there is no image, or one cannot be used.
    """
    folder = Folder(out, len(files))
    lines: list[tuple[tuple, str]] = []
    worst: list[tuple[tuple, str, np.ndarray]] = []
    for number, file in enumerate(files, start=1):
        seen = see(file)
        try:
            look = look_at(seen, file.name)
        except ValueError as error:
            raise ValueError(f"image {file}: {error}") from error
        name = folder.add(number, file.stem, look.draw(None))
        key = (look.rank, name)
        lines.append((key, f"{look.words}  {name}  {file}"))
        if len(worst) < MAX_ON_SHEET or key < worst[-1][0]:  # drawn anew: labels stay legible
            caption = f"{' '.join(look.words.split())}   {name}"
            worst.append((key, caption, look.draw(sheet_side)))
            worst = sorted(worst, key=lambda item: item[0])[:MAX_ON_SHEET]
        if on_progress is not None:
            on_progress(number, len(files))
    sheet = contact_sheet([picture for *_, picture in worst], [caption for _, caption, _ in worst])
    folder.write(SHEET, encoded(sheet))
    return folder.close([text for _, text in sorted(lines)])


def encoded(image_HW3: np.ndarray, suffix: str = ".png", quality: int = 90) -> bytes:
    """A picture as the bytes of a PNG or JPEG file."""
    import cv2

    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == ".jpg" else []
    is_good, data = cv2.imencode(suffix, np.ascontiguousarray(image_HW3[..., ::-1]), options)
    assert is_good
    return data.tobytes()
