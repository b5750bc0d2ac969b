"""Pictures of tracked videos: truth beside prediction as GIF, MP4 and a sheet of frames.

An object keeps its colour through a video, the one of its id. Masks are tinted and outlined, boxes
are framed; ids stand on both. Ids of a tracker are its own: they need not be those of the truth.

Shape legend: H W pixels, N objects of a frame.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from pe_dense.data.image_files import spread
from pe_dense.data.picture import read_picture
from pe_dense.pictures.boxes import Boxes, draw_boxes
from pe_dense.pictures.colours import INK, PAPER, id_colour
from pe_dense.pictures.drawing import Panel, contact_sheet, panel_grid, panel_scale, resized
from pe_dense.pictures.folder import Folder
from pe_dense.pictures.masks import draw_identities

SHEET_FRAMES = 6
VIDEO_SIDE = 448  # longer side of a panel in GIF and MP4, in pixels
SHEET_SIDE = 300  # longer side of a panel on the sheet, in pixels


class FrameView(NamedTuple):
    """What is drawn of one frame.

    Attributes:
        image: File of the frame.
        truth: Label map uint8 (H, W), boxes labelled by identity, or None where there is none.
        found: The prediction, likewise.
        bits: Of 16-bit images; see `decode_picture`.
    """

    image: Path
    truth: np.ndarray | Boxes | None
    found: np.ndarray | Boxes | None
    bits: int | None = None


class VideoView(NamedTuple):
    """What is drawn of one video.

    Attributes:
        name: Of the video.
        words: Its scores, for index and sheet; empty without any.
        frames: In order; taken one by one.
    """

    name: str
    words: str
    frames: Sequence[FrameView]


def frame_picture(view: FrameView, words: str, side: int | None = None) -> np.ndarray:
    """Truth beside prediction of a frame, RGB uint8.

    Args:
        view: Files and objects.
        words: Written behind the headings, such as the number of the frame.
        side: Longer side of a panel in pixels; None takes the usual one.

    Raises:
        ValueError: If the image cannot be read.
    """
    # Label maps belong to stored pixels; boxes to what the tracker saw, turned as Exif says.
    has_boxes = any(isinstance(objects, Boxes) for objects in (view.truth, view.found))
    image_HW3 = read_picture(view.image, as_stored=not has_boxes, bits=view.bits)
    scale = panel_scale(*image_HW3.shape[:2], side)
    panels = []
    for heading, objects in (("truth", view.truth), ("prediction", view.found)):
        if isinstance(objects, Boxes):
            picture = draw_boxes(image_HW3, objects, None, scale)
        elif objects is not None:
            picture = draw_identities(image_HW3, objects, scale)
        else:
            picture, heading = resized(image_HW3, scale), f"no {heading}"
        panels.append(Panel(picture, f"{heading}, {words}" if words else heading))
    return panel_grid(panels).picture_HW3


def write_pictures(
    out: Path,
    videos: Iterable[VideoView],
    fps: float = 8.0,
    on_progress: Callable[[int], None] | None = None,
) -> list[str]:
    """A GIF, an MP4 where OpenCV can write it, and a sheet of frames of each video, and an index.

    Args:
        out: Folder; new or empty.
        videos: At least one.
        fps: Frames per second of GIF and MP4.
        on_progress: Called with the number of videos done.

    Returns:
        The lines of the index: scores, video, files.

    Raises:
        ValueError: If the folder is not empty, there is no video, or one has no frame.
    """
    folder = Folder(out)
    lines = []
    for number, video in enumerate(videos, start=1):
        if not len(video.frames):
            raise ValueError(f"video {video.name!r} has no frame to draw")
        last = len(video.frames)
        moving = [
            frame_picture(frame, f"frame {t}/{last}", VIDEO_SIDE)
            for t, frame in enumerate(video.frames, start=1)
        ]
        stem = folder.stem(number, video.name)
        files = [f"{stem}.gif"]
        folder.write(files[0], gif_bytes(moving, fps))
        if write_mp4(out / f"{stem}.mp4", moving, fps):
            files.append(f"{stem}.mp4")
        shown = spread(last, SHEET_FRAMES)
        small = [frame_picture(video.frames[t], f"frame {t + 1}", SHEET_SIDE) for t in shown]
        sheet = Panel(contact_sheet(small, [""] * len(small)), f"{video.name}   {video.words}")
        files.append(folder.add(number, video.name, panel_grid([sheet]).picture_HW3))
        lines.append("  ".join(filter(None, (video.words, video.name, *files))))
        if on_progress is not None:
            on_progress(number)
    if not lines:
        raise ValueError("there is no video to draw")
    return folder.close(lines)


def gif_bytes(pictures: Sequence[np.ndarray], fps: float) -> bytes:
    """An endless GIF; all frames share 256 colours, so nothing flickers.

    Raises:
        ValueError: If there is no picture, or `fps` is not positive.
    """
    if not pictures or not fps > 0:
        raise ValueError(f"{len(pictures)} pictures at {fps} a second are no video")
    some = np.concatenate([pictures[t] for t in spread(len(pictures), 4)])
    # By the octree: the median cut spends all colours on the ground and greys small objects.
    kept = [INK, PAPER, *(id_colour(k) for k in range(1, 17))]
    ground = Image.fromarray(some).quantize(256 - len(kept), Image.Quantize.FASTOCTREE)
    values = ground.getpalette()[: 3 * (256 - len(kept))]
    base = Image.new("P", (1, 1))
    base.putpalette([part for colour in kept for part in colour] + values)
    frames = [Image.fromarray(p).quantize(palette=base, dither=Image.Dither.NONE) for p in pictures]
    content = io.BytesIO()
    moving = dict(save_all=True, append_images=frames[1:], duration=round(1000 / fps), loop=0)
    frames[0].save(content, format="GIF", **moving)
    return content.getvalue()


def write_mp4(path: Path, pictures: Sequence[np.ndarray], fps: float) -> bool:
    """Write an MP4; False, and no file, where OpenCV has no encoder for it."""
    import cv2

    height, width = (side - side % 2 for side in pictures[0].shape[:2])  # encoders want even ones
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, (width, height))
    if writer.isOpened():
        for picture in pictures:
            writer.write(np.ascontiguousarray(picture[:height, :width, ::-1]))
    writer.release()
    if path.is_file() and path.stat().st_size:
        return True
    path.unlink(missing_ok=True)
    return False
