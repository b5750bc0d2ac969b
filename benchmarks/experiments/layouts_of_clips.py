"""The same clips with masks or boxes written in the layouts that docs/own_video.md promises.

A clip of real_video has one object; its mask is 0 or 1, its box the smallest one around the mask.
Video files are written without loss (RGB H.264 at quantiser 0, FFV1) or as people have them.

Shape legend: T frames, H, W pixels.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from layouts_of_maps import link, save, text
from layouts_of_objects import Scene, Thing, box_of
from numpy.typing import NDArray
from PIL import Image

LOSSLESS = {".mp4": ("libx264rgb", "rgb24", {"qp": "0"}), ".mkv": ("ffv1", "bgr0", {})}
USUAL = {".mp4": ("libx264", "yuv420p", {"crf": "18"})}


@dataclass(frozen=True)
class Clip:
    """Some frames with masks of one object.

    Attributes:
        name: Of the clip.
        frames: Files, JPEG.
        masks_THW: bool.
    """

    name: str
    frames: tuple[Path, ...]
    masks_THW: NDArray[np.bool_]

    @property
    def boxes(self) -> list[tuple[int, int, int, int]]:
        """Left, top, width, height in each frame."""
        return [box_of(mask_HW) for mask_HW in self.masks_THW]

    def pictures(self) -> list[NDArray[np.uint8]]:
        return [np.asarray(Image.open(file).convert("RGB")) for file in self.frames]


def clips_of(data: Path, names: Sequence[str], num_frames: int, step: int) -> list[Clip]:
    """The first frames of clips of real_video, each `step`-th."""
    found = []
    for name in names:
        files = sorted((data / "JPEGImages/480p" / name).glob("*.jpg"))[::step][:num_frames]
        masks = [
            np.asarray(Image.open(data / f"Annotations/480p/{name}/{file.stem}.png")) > 0
            for file in files
        ]
        found.append(Clip(name, tuple(files), np.stack(masks)))
    return found


def scenes_of(clips: Sequence[Clip]) -> list[Scene]:
    """Every frame as a picture with a box, for training a detector; every second one is scored."""
    return [
        Scene(
            f"{clip.name}_{t:04d}", ("train", "val")[t % 2], file, clip.masks_THW.shape[:0:-1],
            (Thing("object", box),),
        )
        for clip in clips
        for t, (file, box) in enumerate(zip(clip.frames, clip.boxes, strict=True))
    ]  # fmt: skip


def write_frames(clip: Clip, folder: Path, suffix: str = ".jpg") -> None:
    """Numbered frames from 0; PNG is decoded from the JPEG by Pillow."""
    for t, file in enumerate(clip.frames):
        if suffix == ".jpg":
            link(file, folder / f"{t:05d}.jpg")
    for t, picture in enumerate(clip.pictures() if suffix != ".jpg" else []):
        save(picture, folder / f"{t:05d}{suffix}")


def write_video(clip: Clip, file: Path, kinds: dict[str, Any] = LOSSLESS) -> None:
    """A video file; the codec follows from the suffix."""
    import av

    codec, form, options = kinds[file.suffix]
    file.parent.mkdir(parents=True, exist_ok=True)
    height, width = clip.masks_THW.shape[1:]
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(25), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, form
        for picture in clip.pictures():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


# ---- masks ---------------------------------------------------------------------------------------


def index_masks(clip: Clip, folder: Path) -> None:
    """Indexed PNG with DAVIS's palette, id 1."""
    for t, mask_HW in enumerate(clip.masks_THW):
        folder.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(mask_HW.astype(np.uint8))
        picture.putpalette([0, 0, 0, 128, 0, 0, *[0] * 762])
        picture.save(folder / f"{t:05d}.png")


def grey_masks(clip: Clip, folder: Path) -> None:
    """Black and white."""
    for t, mask_HW in enumerate(clip.masks_THW):
        save(255 * mask_HW.astype(np.uint8), folder / f"{t:05d}.png")


def colour_masks(clip: Clip, folder: Path) -> None:
    """RGB in the colour that DAVIS's palette has for id 1."""
    for t, mask_HW in enumerate(clip.masks_THW):
        rgb_HWC = mask_HW[..., None] * np.array([128, 0, 0], np.uint8)
        save(rgb_HWC.astype(np.uint8), folder / f"{t:05d}.png")


def object_masks(clip: Clip, folder: Path) -> None:
    """A folder for the object."""
    grey_masks(clip, folder / "thing")


def masked(
    frames: str, masks: str, write: Callable[[Clip, Path], None] = index_masks,
    kinds: dict[str, Any] = LOSSLESS, suffix: str = ".jpg",
) -> Callable[[Sequence[Clip], Path], None]:  # fmt: skip
    """A writer of clips and masks by two patterns of CLIP; a suffix in the first says a video."""

    def write_all(clips: Sequence[Clip], out: Path) -> None:
        for clip in clips:
            place = out / frames.replace("CLIP", clip.name)
            if place.suffix:
                write_video(clip, place, kinds)
            else:
                write_frames(clip, place, suffix)
            write(clip, out / masks.replace("CLIP", clip.name))

    return write_all


# ---- boxes ---------------------------------------------------------------------------------------


def mot_text(clip: Clip, file: Path) -> None:
    """MOTChallenge's rows: frame and pixel from 1."""
    rows = [f"{t + 1},1,{x + 1},{y + 1},{w},{h},1,1,1" for t, (x, y, w, h) in enumerate(clip.boxes)]
    text(file, rows)


def boxed(frames: str, boxes: str) -> Callable[[Sequence[Clip], Path], None]:
    """As `masked`, with MOT text for each clip."""
    return masked(frames, boxes, mot_text)


def coco_of_videos(key: str) -> Callable[[Sequence[Clip], Path], None]:
    """One JSON with every frame: CocoVID (key 'instance_id') or TAO ('track_id')."""

    def write(clips: Sequence[Clip], out: Path) -> None:
        videos, images, annotations = [], [], []
        for k, clip in enumerate(clips, start=1):
            videos.append(dict(id=k, name=clip.name))
            write_frames(clip, out / "images" / clip.name)
            for t, (x, y, w, h) in enumerate(clip.boxes):
                images.append(
                    dict(id=len(images) + 1, video_id=k, frame_id=t,
                         file_name=f"{clip.name}/{t:05d}.jpg")
                )  # fmt: skip
                annotations.append(
                    {"id": len(images), "image_id": len(images), "video_id": k, "category_id": 1,
                     "bbox": [x, y, w, h], "area": w * h, key: k}
                )  # fmt: skip
        categories = [dict(id=1, name="object")]
        content = dict(videos=videos, images=images, annotations=annotations, categories=categories)
        text(out / "annotations" / "all.json", [json.dumps(content)])

    return write


def youtube_vis(clips: Sequence[Clip], out: Path) -> None:
    """One JSON with a list of boxes for each track."""
    videos, annotations = [], []
    for k, clip in enumerate(clips, start=1):
        write_frames(clip, out / "images" / clip.name)
        names = [f"{clip.name}/{t:05d}.jpg" for t in range(len(clip.frames))]
        videos.append(dict(id=k, file_names=names, length=len(names)))
        boxes = [list(box) for box in clip.boxes]
        annotations.append(dict(id=k, video_id=k, category_id=1, bboxes=boxes, iscrowd=0))
    categories = [dict(id=1, name="object")]
    content = dict(videos=videos, annotations=annotations, categories=categories)
    text(out / "annotations" / "instances.json", [json.dumps(content)])


def cvat_of_videos(clips: Sequence[Clip], out: Path) -> None:
    """CVAT for video 1.1, an XML for each clip."""
    for clip in clips:
        write_frames(clip, out / "images" / clip.name)
        tree = ET.Element("annotations")
        ET.SubElement(tree, "version").text = "1.1"
        track = ET.SubElement(tree, "track", id="0", label="object")
        for t, (x, y, w, h) in enumerate(clip.boxes):
            corners = dict(xtl=x, ytl=y, xbr=x + w, ybr=y + h)
            edges = {key: f"{value:.2f}" for key, value in corners.items()}
            ET.SubElement(
                track, "box", frame=str(t), outside="0", occluded="0", keyframe="1", **edges
            )
        text(out / f"{clip.name}.xml", [ET.tostring(tree, encoding="unicode")])
