"""Boxes of tracked objects as people have them -> MOTChallenge rows of each clip.

    MOT text          <clip>/gt/gt.txt, or <clip>.txt beside the clip or in a folder for labels
    COCO of videos    one JSON with 'videos', and annotations with 'instance_id' or 'track_id'
                      (CocoVID, TAO), or with 'bboxes' for each video (YouTube-VIS)
    CVAT for video    XML with <track>s of <box>es: <clip>.xml, or one file for one clip

Frames of JSON and XML count from 0 in the clip, unless the JSON names the files of the frames.
Pixels count from 0 there, and from 1 in MOT text.
"""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pe_dense.tracking.frame_files import frame_numbers
from pe_dense.tracking.mot_files import read_ground_truth
from pe_dense.tracking.own_layout import MASK_WORDS, OwnClip

TRUTH_FOLDERS = ("", *MASK_WORDS)
_TRACK_KEYS = ("instance_id", "track_id")
_FRAME_KEYS = ("frame_id", "frame_index", "frame")


@dataclass(frozen=True)
class BoxFile:
    """Where the boxes of a clip are.

    Attributes:
        path: The file.
        kind: 'mot', 'coco' or 'cvat'.
    """

    path: Path
    kind: str


def find_boxes(root: Path, clips: Sequence[OwnClip]) -> dict[str, BoxFile | None]:
    """The file with the boxes of each clip, None where there is none.

    Raises:
        ValueError: If several files of one kind could be meant.
    """
    jsons = [path for path in _files(root, ".json") if _is_of_videos(path)]
    xmls = _files(root, ".xml")
    if len(jsons) > 1:
        raise ValueError(f"{jsons[0]} and {jsons[1]} both hold boxes of videos; keep one in {root}")
    found: dict[str, BoxFile | None] = {}
    for clip in clips:
        texts = [clip.source.parent / "gt" / "gt.txt", clip.source / "gt" / "gt.txt"]
        texts += [
            at / folder / f"{clip.name}.txt"
            for at in (root, clip.source.parent)
            for folder in TRUTH_FOLDERS
        ]
        text = next((path for path in texts if path.is_file()), None)
        own = [path for path in xmls if path.stem == clip.name]
        xml = own[0] if own else xmls[0] if len(xmls) == len(clips) == 1 else None
        if text is not None:
            found[clip.name] = BoxFile(text, "mot")
        elif xml is not None:
            found[clip.name] = BoxFile(xml, "cvat")
        else:
            found[clip.name] = BoxFile(jsons[0], "coco") if jsons else None
    return found


def truth_lines(
    boxes: BoxFile, clip: OwnClip, frames: Sequence[str], keeps_classes: bool
) -> list[str] | None:
    """Rows of `gt.txt` of a clip: frame and pixel from 1, class 1 where a row counts.

    Args:
        boxes: The file.
        clip: Whose rows.
        frames: Names of the files of its frames, in order.
        keeps_classes: Of MOT text: whether the class column decides what counts, as in
            MOTChallenge; otherwise every active row does.

    Returns:
        None where a file of several clips has nothing of this one.

    Raises:
        ValueError: If the file cannot be read, or a row is of no frame or has no box.
    """
    if boxes.kind == "mot":
        rows = read_ground_truth(boxes.path, len(frames))
        if keeps_classes:
            return boxes.path.read_text(encoding="utf-8-sig").splitlines()
        kept = rows.part(rows.is_active)
        found = [
            (int(frame) - 1, int(identity), [x - 1, y - 1, w, h])
            for frame, identity, (x, y, w, h) in zip(
                kept.frames_Q, kept.ids_Q, kept.boxes_xywh_Q4.tolist(), strict=True
            )
        ]
    elif boxes.kind == "coco":
        of_clip = _coco_rows(boxes.path, clip, frames)
        if of_clip is None:
            return None
        found = of_clip
    else:
        found = _cvat_rows(boxes.path)
    return [_line(boxes.path, row, len(frames)) for row in sorted(found)]


Row = tuple[int, int, list[float]]  # frame from 0, identity, x y w h from 0


def _line(path: Path, row: Row, num_frames: int) -> str:
    frame, identity, (x, y, w, h) = row
    if not 0 <= frame < num_frames:
        raise ValueError(
            f"{path} has a box in frame {frame}, and the clip has the frames 0 to "
            f"{num_frames - 1}; give the video that was annotated, whole"
        )
    if not all(map(math.isfinite, (x, y, w, h))) or w <= 0 or h <= 0:
        raise ValueError(
            f"{path} has a box of {w:g} x {h:g} px in frame {frame}; correct it or take it out"
        )
    return f"{frame + 1},{identity},{x + 1:.4f},{y + 1:.4f},{w:.4f},{h:.4f},1,1,1"


# ---- COCO of videos ------------------------------------------------------------------------------


def _is_of_videos(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as file:
        head = file.read(1 << 20)
    return '"videos"' in head or any(f'"{key}"' in head for key in _TRACK_KEYS)


def _coco_rows(path: Path, clip: OwnClip, frames: Sequence[str]) -> list[Row] | None:
    content = _json(path)
    try:
        videos = [v for v in content.get("videos", []) if _is_clip(v, clip.name)]
        if content.get("annotations") and "bboxes" in content["annotations"][0]:
            return _of_tubes(content, videos) if videos else None
        if content.get("videos") and not videos:
            return None
        ids = {video["id"] for video in videos}
        images = [i for i in content["images"] if not ids or i.get("video_id") in ids]
        place = _frame_places(path, images, frames)
        tracks: dict[Any, int] = {}
        rows: list[Row] = []
        for item in content["annotations"]:
            if item["image_id"] not in place or item.get("iscrowd") or item.get("ignore"):
                continue
            key = next((item[k] for k in _TRACK_KEYS if k in item), None)
            if key is None:
                raise ValueError(
                    f"{path}: annotation {item.get('id')} has no instance_id or track_id, so it "
                    "belongs to no track; add it"
                )
            identity = tracks.setdefault(key, len(tracks) + 1)
            rows.append((place[item["image_id"]], identity, [float(v) for v in item["bbox"]]))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(
            f"{path} is no COCO file of videos ({type(error).__name__}: {error}); it needs "
            "'videos', 'images' with video_id and frame_id, and 'annotations' with image_id, "
            "bbox and instance_id"
        ) from error
    _require_single(path, rows)
    return rows


def _is_clip(video: Mapping[str, Any], name: str) -> bool:
    called = str(video.get("name") or video.get("file_name") or "")
    if not called and video.get("file_names"):
        called = str(Path(video["file_names"][0]).parent)
    return name in (called, Path(called).name, Path(called).stem)


def _frame_places(
    path: Path, images: Sequence[Mapping[str, Any]], frames: Sequence[str]
) -> dict[Any, int]:
    """Id of an image -> its place among the frames: by the names of files, else by their number."""
    by_name = {name: t for t, name in enumerate(frames)}
    names = [Path(str(image.get("file_name", ""))).name for image in images]
    if names and all(name in by_name for name in names):
        return {image["id"]: by_name[name] for image, name in zip(images, names, strict=True)}
    numbers = [next((i[k] for k in _FRAME_KEYS if k in i), None) for i in images]
    if None in numbers:
        tails = [frame_numbers(name)[-1:] for name in names]
        if not all(tails):
            raise ValueError(
                f"{path}: image {images[numbers.index(None)].get('id')} has no frame_id, and its "
                "file name is none of the clip's frames; add frame_id, counted from 0"
            )
        numbers = [tail[0] for tail in tails]
    first = 1 if numbers and min(numbers) == 1 else 0
    return {i["id"]: int(n) - first for i, n in zip(images, numbers, strict=True)}


def _of_tubes(content: Mapping[str, Any], videos: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Rows of YouTube-VIS: a list of boxes, one for each frame or None, for each track."""
    ids = {video["id"] for video in videos}
    tracks = [item for item in content["annotations"] if item["video_id"] in ids]
    return [
        (t, k, [float(v) for v in box])
        for k, item in enumerate(tracks, start=1)
        for t, box in enumerate(item["bboxes"])
        if box
    ]


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no JSON ({error}); save it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no COCO file of videos; it must be an object")
    return content


# ---- CVAT ----------------------------------------------------------------------------------------


def _cvat_rows(path: Path) -> list[Row]:
    text = path.read_bytes()
    if b"<!ENTITY" in text[:4096] or b"<!DOCTYPE" in text[:4096]:
        raise ValueError(f"{path} defines entities, which CVAT does not; export it again")
    try:
        tree = ET.fromstring(text)
        rows: list[Row] = []
        for identity, track in enumerate(tree.iter("track"), start=1):
            for box in track.iter("box"):
                if box.attrib.get("outside") == "1":
                    continue
                left, top, right, bottom = (
                    float(box.attrib[key]) for key in ("xtl", "ytl", "xbr", "ybr")
                )
                size = [left, top, right - left, bottom - top]
                rows.append((int(box.attrib["frame"]), identity, size))
    except (ET.ParseError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} is no CVAT for video 1.1 ({type(error).__name__}: {error}); export the task "
            "again"
        ) from error
    if not rows:
        raise ValueError(
            f"{path} has no track with a box; export the task as 'CVAT for video 1.1', whose "
            "shapes are tracks"
        )
    start = min((int(e.text or 0) for e in tree.iter("start_frame")), default=0)
    _require_single(path, rows)
    return [(frame - start, identity, box) for frame, identity, box in rows]


def _require_single(path: Path, rows: Sequence[Row]) -> None:
    seen: set[tuple[int, int]] = set()
    for frame, identity, _ in rows:
        if (frame, identity) in seen:
            raise ValueError(
                f"{path} has two boxes of track {identity} in frame {frame}; an object has one"
            )
        seen.add((frame, identity))


def _files(root: Path, suffix: str) -> list[Path]:
    inner = (child for child in sorted(root.iterdir()) if child.is_dir())
    return [
        path
        for place in [root, *(child for child in inner if not child.name.startswith("."))]
        for path in sorted(place.glob(f"*{suffix}"))
        if path.is_file() and not path.name.startswith(".")
    ]
