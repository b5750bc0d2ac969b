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

import cv2
import numpy as np
from PIL import Image, ImageDraw

from pe_dense.files import atomic_write_bytes, atomic_write_text
from pe_dense.pictures.drawing import (
    INK,
    PAPER,
    Panel,
    class_colour,
    contact_sheet,
    font,
    panel_grid,
    panel_scale,
    resized,
)
from pe_dense.pictures.folder import INDEX, encoded, read_image
from pe_dense.tracking.frames import VOID

SHEET_FRAMES = 6
VIDEO_SIDE = 448  # longer side of a panel in GIF and MP4, in pixels
SHEET_SIDE = 300  # longer side of a panel on the sheet, in pixels
TINT = 0.45  # share of the colour inside a mask
TAG = 15  # size of letters of an id


class Boxes(NamedTuple):
    """Boxes of a frame.

    Attributes:
        boxes_xyxy_N4: Pixels of the image.
        ids_N: Identity of each.
    """

    boxes_xyxy_N4: np.ndarray
    ids_N: np.ndarray


class FrameView(NamedTuple):
    """What is drawn of one frame.

    Attributes:
        image: File of the frame.
        truth: Label map uint8 (H, W), boxes, or None where there is none.
        found: The prediction, likewise.
    """

    image: Path
    truth: np.ndarray | Boxes | None
    found: np.ndarray | Boxes | None


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


def id_colour(identity: int) -> tuple[int, int, int]:
    """RGB of an id, the same in every frame and picture.

    Example:
        >>> id_colour(1), id_colour(1) == id_colour(2)
        ((0, 176, 255), False)
    """
    return class_colour(max(int(identity) - 1, 0))


def draw_masks(image_HW3: np.ndarray, labels_HW: np.ndarray, scale: float) -> np.ndarray:
    """The image, scaled, with tinted and outlined objects and their ids.

    Args:
        image_HW3: RGB uint8.
        labels_HW: uint8 ids; 0 is background, 255 void, neither is drawn.
        scale: Factor of the size.

    Raises:
        ValueError: If sizes differ.
    """
    if labels_HW.shape != image_HW3.shape[:2]:
        raise ValueError(
            f"label map of shape {labels_HW.shape} does not fit an image of shape "
            f"{image_HW3.shape}; pass both at one size"
        )
    picture = resized(image_HW3, scale).copy()
    large_HW = resized(labels_HW, scale, is_nearest=True)
    tags = []
    for identity in np.unique(large_HW).tolist():
        if identity in (0, VOID):
            continue
        colour = id_colour(identity)
        mask_HW = (large_HW == identity).astype(np.uint8)
        inside = mask_HW.astype(bool)
        mixed = picture[inside] * (1 - TINT) + np.array(colour) * TINT
        picture[inside] = mixed.round().astype(np.uint8)
        outlines, _ = cv2.findContours(mask_HW, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, colour, 2, cv2.LINE_AA)
        tags.append((_tag_place(mask_HW), identity))
    return _tagged(picture, tags)


def draw_boxes(image_HW3: np.ndarray, boxes: Boxes, scale: float) -> np.ndarray:
    """The image, scaled, with a frame around each box and its id above it."""
    picture = Image.fromarray(resized(image_HW3, scale))
    draw = ImageDraw.Draw(picture)
    tags = []
    for box_4, identity in zip(boxes.boxes_xyxy_N4, boxes.ids_N.tolist(), strict=True):
        x0, y0, x1, y1 = (float(v) * scale for v in box_4)
        draw.rectangle((x0, y0, max(x1, x0), max(y1, y0)), None, id_colour(identity), 3)
        tags.append(((x0 + TAG / 2 + 2, y0 - TAG / 2 - 1), identity))  # above: it hides nothing
    return _tagged(np.asarray(picture), tags)


def frame_picture(view: FrameView, words: str, side: int | None = None) -> np.ndarray:
    """Truth beside prediction of a frame, RGB uint8.

    Args:
        view: Files and objects.
        words: Written behind the headings, such as the number of the frame.
        side: Longer side of a panel in pixels; None takes the usual one.

    Raises:
        ValueError: If the image cannot be read.
    """
    image_HW3 = read_image(view.image)
    scale = panel_scale(*image_HW3.shape[:2], side)
    panels = []
    for heading, objects in (("truth", view.truth), ("prediction", view.found)):
        if isinstance(objects, Boxes):
            picture = draw_boxes(image_HW3, objects, scale)
        elif objects is not None:
            picture = draw_masks(image_HW3, objects, scale)
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
        fps: Frames a second of GIF and MP4.
        on_progress: Called with the number of videos done.

    Returns:
        The lines of the index: scores, video, files.

    Raises:
        ValueError: If the folder is not empty, there is no video, or one has no frame.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--out {out} is not an empty folder; name a new one")
    out.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, video in enumerate(videos, start=1):
        if not len(video.frames):
            raise ValueError(f"video {video.name!r} has no frame to draw")
        last = len(video.frames)
        moving = [
            frame_picture(frame, f"frame {t}/{last}", VIDEO_SIDE)
            for t, frame in enumerate(video.frames, start=1)
        ]
        stem = f"{number:03d}_{video.name[:60]}"
        files = [f"{stem}.gif", f"{stem}.png"]
        atomic_write_bytes(out / files[0], gif_bytes(moving, fps))
        if write_mp4(out / f"{stem}.mp4", moving, fps):
            files.insert(1, f"{stem}.mp4")
        shown = spread(last, SHEET_FRAMES)
        small = [frame_picture(video.frames[t], f"frame {t + 1}", SHEET_SIDE) for t in shown]
        sheet = _titled(contact_sheet(small, [""] * len(small)), f"{video.name}   {video.words}")
        atomic_write_bytes(out / files[-1], encoded(sheet))
        lines.append("  ".join(filter(None, (video.words, video.name, *files))))
        if on_progress is not None:
            on_progress(number)
    if not lines:
        raise ValueError("there is no video to draw")
    atomic_write_text(out / INDEX, "\n".join(lines) + "\n")
    return lines


def spread(count: int, most: int) -> list[int]:
    """At most so many of 0 to count - 1, evenly spread, both ends among them.

    Example:
        >>> spread(24, 4), spread(2, 4), spread(1, 4)
        ([0, 8, 15, 23], [0, 1], [0])
    """
    return sorted({round(x) for x in np.linspace(0, count - 1, min(count, most)).tolist()})


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
    frames[0].save(
        content,
        format="GIF",
        save_all=True,
        append_images=frames[1:],
        duration=round(1000 / fps),
        loop=0,
    )
    return content.getvalue()


def write_mp4(path: Path, pictures: Sequence[np.ndarray], fps: float) -> bool:
    """Write an MP4; False, and no file, where OpenCV has no encoder for it."""
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


def _tag_place(mask_HW: np.ndarray) -> tuple[float, float]:
    """x, y of the pixel deepest inside a mask, or above the mask where a plate would cover it."""
    depth_HW = cv2.distanceTransform(np.pad(mask_HW, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth_HW.argmax()), mask_HW.shape)
    if depth_HW[y, x] < 2 * TAG:
        left, top, width, _ = cv2.boundingRect(mask_HW)
        return left + width / 2, float(top - TAG)
    return float(x), float(y)


def _tagged(picture_HW3: np.ndarray, tags: Sequence[tuple]) -> np.ndarray:
    """The picture with ids on small plates around the given points, kept inside the frame."""
    canvas = Image.fromarray(np.ascontiguousarray(picture_HW3))
    draw = ImageDraw.Draw(canvas)
    for (x, y), identity in tags:
        text, colour = str(identity), id_colour(identity)
        half_w, half_h = font(TAG).getlength(text) / 2 + 5, TAG / 2 + 2
        x = min(max(x, half_w), canvas.width - 1 - half_w)
        y = min(max(y, half_h), canvas.height - 1 - half_h)
        plate = (x - half_w, y - half_h, x + half_w, y + half_h)
        draw.rounded_rectangle(plate, 4, colour, PAPER, 1)
        draw.text((x, y), text, _readable_on(colour), font(TAG), anchor="mm")
    return np.asarray(canvas)


def _readable_on(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    red, green, blue = colour
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 120 else PAPER


def _titled(picture_HW3: np.ndarray, title: str) -> np.ndarray:
    height, width = picture_HW3.shape[:2]
    canvas = Image.new("RGB", (width, height + 40), PAPER)
    canvas.paste(Image.fromarray(picture_HW3), (0, 40))
    ImageDraw.Draw(canvas).text((16, 24), title, INK, font(20), anchor="lm")
    return np.asarray(canvas)
