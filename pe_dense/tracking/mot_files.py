"""Files of MOTChallenge: sequences, ground truth and results, read line by line and checked.

A sequence is a folder with `seqinfo.ini`, `img1/000001.jpg ...` and, where it is annotated,
`gt/gt.txt`. Frames and pixels count from 1 in these files: a box that starts at the left edge of
the image has x = 1. Here frames keep their number and boxes stay as they are written. A frame is
the picture of its number, with any number of digits and any usual suffix.

Source: the format of MOT16/MOT17 (arXiv:1603.00831, section 4.3).

Shape legend: Q rows of a file, all frames together.
"""

from __future__ import annotations

import configparser
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pe_dense.tracking.frame_files import frame_files

MIN_COLUMNS = 9  # frame, id, x, y, w, h, active, class, visibility
TARGET_CLASS = 1


@dataclass(frozen=True)
class SequenceInfo:
    """What `seqinfo.ini` says.

    Attributes:
        folder: The folder of the sequence.
        num_frames: Frames, numbered 1 to this.
        height, width: Size of every frame in pixels.
        image_dir: Folder of the frames inside `folder`.
        frame_rate: Frames in a second, None where the file does not say.
    """

    folder: Path
    num_frames: int
    height: int
    width: int
    image_dir: str = "img1"
    frame_rate: float | None = None

    def require_frame_rate(self) -> float:
        """The frame rate, where something depends on it.

        Raises:
            ValueError: If the file does not say it.
        """
        if self.frame_rate is None:
            raise ValueError(
                f"{self.folder / 'seqinfo.ini'} has no frameRate above 0, and the tracker keeps "
                "lost tracks for a time; write the line frameRate= (frames in a second)"
            )
        return self.frame_rate

    @property
    def name(self) -> str:
        """Name of the sequence: that of its folder."""
        return self.folder.name

    def frames(self) -> dict[int, Path]:
        """Number -> file, of all pictures that are there, in their order.

        Raises:
            ValueError: If the folder is missing, or a picture has no number of its own.
        """
        folder = self.folder / self.image_dir
        if not folder.is_dir():
            raise ValueError(f"folder {folder} is missing; fetch the sequence again")
        found: dict[int, Path] = {}
        for numbers, file in frame_files(folder).items():
            if numbers[-1] in found:
                raise ValueError(
                    f"{found[numbers[-1]]} and {file.name} are two files for frame {numbers[-1]}; "
                    "remove one"
                )
            found[numbers[-1]] = file
        return found


@dataclass(frozen=True)
class BoxRows:
    """Annotated boxes of a sequence.

    Attributes:
        frames_Q: int64, counted from 1.
        ids_Q: int64 identities.
        boxes_xywh_Q4: float64 pixels; the first pixel of the image is 1.
        flags_Q: float64; rows with 0 are not active, and no targets.
        classes_Q: int64; 1 is the pedestrian of MOT17.
        visibility_Q: float64, 0..1; negative where it is not known.
    """

    frames_Q: NDArray[np.int64]
    ids_Q: NDArray[np.int64]
    boxes_xywh_Q4: NDArray[np.float64]
    flags_Q: NDArray[np.float64]
    classes_Q: NDArray[np.int64]
    visibility_Q: NDArray[np.float64]

    @property
    def is_active(self) -> NDArray[np.bool_]:
        """(Q,) rows whose flag is not 0."""
        return self.flags_Q != 0

    def part(self, kept_Q: NDArray[np.bool_]) -> BoxRows:
        """Some of the rows."""
        return BoxRows(*(getattr(self, column.name)[kept_Q] for column in fields(self)))

    def targets(self, benchmark: str) -> NDArray[np.bool_]:
        """(Q,) rows that tracks are scored with: the active ones of class 1, or of any in MOT15."""
        return self.is_active & ((self.classes_Q == TARGET_CLASS) | (benchmark == "MOT15"))


def find_sequences(root: str | Path, pattern: str = "*") -> list[SequenceInfo]:
    """Sequences of a split, in the order of their names.

    Args:
        root: Folder that holds one folder per sequence.
        pattern: Names that count; '*-FRCNN' takes each sequence of MOT17 once.

    Raises:
        ValueError: If none is there, or a `seqinfo.ini` is missing or wrong.
    """
    try:
        found = sorted(p for p in Path(root).glob(pattern) if p.is_dir())
    except (NotImplementedError, ValueError) as error:  # empty, or of the root
        raise ValueError(f"pattern={pattern!r} is none of names inside data_root") from error
    folders = [folder for folder in found if not folder.name.startswith(".")]
    if not folders:
        raise ValueError(
            f"{root} holds no sequence named {pattern!r}; set data_root to a folder of "
            "MOTChallenge sequences, such as MOT17/train"
        )
    return [read_sequence_info(folder) for folder in folders]


def read_sequence_info(folder: str | Path) -> SequenceInfo:
    """Read `seqinfo.ini` of a sequence.

    Raises:
        ValueError: If the file is missing, or a value is absent or no positive integer.
    """
    file = Path(folder) / "seqinfo.ini"
    parser = configparser.ConfigParser(interpolation=None)
    try:
        found = parser.read(file, encoding="utf-8-sig")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ValueError(
            f"{file} is no INI file ({error.__class__.__name__}); fetch it again"
        ) from error
    if not found or "Sequence" not in parser:
        raise ValueError(
            f"{file} is missing or has no [Sequence]; fetch the sequence again, or write it with "
            "the lines [Sequence], seqLength=, imWidth= and imHeight= (of the frames in pixels)"
        )
    values = parser["Sequence"]
    numbers = {}
    for key in ("seqLength", "imHeight", "imWidth"):
        text = values.get(key, "")
        if not text.isascii() or not text.isdigit() or int(text) < 1:
            raise ValueError(f"{file} has {key}={text!r}; it must be a positive integer")
        numbers[key] = int(text)
    return SequenceInfo(
        Path(folder),
        numbers["seqLength"],
        numbers["imHeight"],
        numbers["imWidth"],
        values.get("imDir", "img1"),
        _positive(values.get("frameRate", "")),
    )


def _positive(text: str) -> float | None:
    """A finite number above 0, None for any other text."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 < number < math.inf else None


def read_ground_truth(file: str | Path, num_frames: int | None = None) -> BoxRows:
    """Read a `gt.txt`; an empty file is a sequence without boxes.

    Args:
        file: The file: nine numbers per row, as MOT17 has them, between commas or spaces. Empty
            lines are skipped. Ten are those of MOT15: after the flag, a place in the world.
        num_frames: Frames of the sequence; None does not check the highest frame.

    Raises:
        ValueError: With file and line, if a row is not nine finite numbers, a frame is outside the
            sequence, an active box has no area, or an identity is negative or twice in one frame.
    """
    path = Path(file)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise ValueError(
            f"{path} is missing; a sequence is scored with its ground truth, and the test splits "
            "of MOTChallenge are scored on its server"
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text file; fetch it again") from error
    rows, ids, seen = [], [], {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{path} line {number}"
        row, identity = _row(place, line)
        if row[0] < 1 or (num_frames is not None and row[0] > num_frames):
            raise ValueError(
                f"{place} is of frame {row[0]:g}, and the frames are 1 to "
                f"{num_frames or 'the last'}; correct the row or seqLength in seqinfo.ini"
            )
        if row[6] and identity < 0:
            raise ValueError(
                f"{place} has identity {identity}, which means none, and is active; give the "
                "object a number of its own, or the row the flag 0"
            )
        key = int(row[0]), identity
        # Rows that are no targets may repeat an identity.
        if row[6] and key in seen:
            raise ValueError(
                f"{place} has identity {identity} in frame {key[0]} again, after line "
                f"{seen[key]}; an object has one box per frame"
            )
        if row[6]:
            seen[key] = number
        rows.append(row)
        ids.append(identity)
    table_Q9 = np.array(rows, dtype=np.float64).reshape(-1, MIN_COLUMNS)
    return BoxRows(
        table_Q9[:, 0].astype(np.int64),
        np.array(ids, dtype=np.int64),
        table_Q9[:, 2:6],
        table_Q9[:, 6],
        table_Q9[:, 7].astype(np.int64),
        table_Q9[:, 8],
    )


def _row(place: str, line: str) -> tuple[list[float], int]:
    """Nine numbers of a line, and the identity, exact; `place` is how errors call it."""
    cells = line.split("," if "," in line else None)
    if len(cells) < MIN_COLUMNS:
        raise ValueError(
            f"{place} has {len(cells)} of the nine numbers frame, id, x, y, w, h, active, class, "
            "visibility; complete it"
        )
    try:
        values = [float(cell) for cell in cells[:MIN_COLUMNS]]
    except ValueError:
        raise ValueError(f"{place} holds something that is no number: {line[:60]!r}") from None
    if not np.isfinite(values).all():
        raise ValueError(f"{place} holds a number that is not finite; correct it")
    if values[7] != int(values[7]) and len(cells) == MIN_COLUMNS + 1:
        values[7:] = -1, -1  # X, Y, Z of MOT15's 3D ground truth, which its 2D files have as -1
    if any(values[i] != int(values[i]) for i in (0, 1, 7)):
        raise ValueError(f"{place} has a fraction as frame, identity or class; correct it")
    if max(abs(values[i]) for i in (0, 1, 7)) >= 2**63:
        raise ValueError(f"{place} has a frame, identity or class of more than 63 bits; correct it")
    smallest = min(values[4:6])
    if smallest < 0 or (smallest == 0 and values[6]):  # what is not active is no target
        raise ValueError(
            f"{place} has a box of {values[4]:g} x {values[5]:g} px; take the row out or correct it"
        )
    try:
        return values, int(cells[1])
    except ValueError:  # written as '7.0'
        return values, int(values[1])


def ground_truth_lines(rows: BoxRows, first: int, last: int) -> list[str]:
    """Rows of the frames `first` to `last` as `gt.txt` has them, frames renumbered from 1.

    Identities are renumbered from 1, too, since TrackEval makes a table as long as the highest;
    rows that are no targets have one each, since it refuses one that a frame repeats.
    """
    kept = np.flatnonzero((rows.frames_Q >= first) & (rows.frames_Q <= last))
    known: dict[int | str, int] = {}
    lines = []
    for i in kept:
        key = int(rows.ids_Q[i]) if rows.is_active[i] else f"row {i}"
        identity = known.setdefault(key, len(known) + 1)
        lines.append(
            f"{rows.frames_Q[i] - first + 1},{identity},"
            + ",".join(repr(float(v)) for v in rows.boxes_xywh_Q4[i])
            + f",{int(rows.is_active[i])},{rows.classes_Q[i]},{float(rows.visibility_Q[i])!r}"
        )
    return lines


def result_lines(
    frame_number: int, ids: Sequence[int], boxes_xyxy_N4: NDArray, scores: Sequence[float]
) -> list[str]:
    """Rows of a result file for one frame.

    Args:
        frame_number: Counted from 1.
        ids: N identities, integers from 0.
        boxes_xyxy_N4: Pixels of the original image; the first pixel is 0.
        scores: N confidences.

    Returns:
        'frame,id,x,y,w,h,score,-1,-1,-1'; identities and pixels count from 1.
    """
    return [
        f"{frame_number},{int(i) + 1},{x1 + 1:.4f},{y1 + 1:.4f},{x2 - x1:.4f},{y2 - y1:.4f},"
        f"{score:.4f},-1,-1,-1"
        for i, (x1, y1, x2, y2), score in zip(ids, boxes_xyxy_N4, scores, strict=True)
    ]
