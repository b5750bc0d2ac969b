"""Checks videos with masks before label propagation: what they hold, and what cannot be scored.

Which frame a file is of, and whether each has its mask, the data set itself says or refuses
(`davis_dataset`); here all masks are decoded, and the heads of all frames are read.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import DATASETS

from pe_dense.data.checks.picture_findings import picture_findings
from pe_dense.data.checks.remembered import Answer, remembered
from pe_dense.data.checks.rules import (
    CheckedData,
    FindingCollector,
    Rule,
    from_plain,
    to_plain,
)
from pe_dense.data.checks.text_table import text_table
from pe_dense.data.picture_header import PictureHeader, picture_headers
from pe_dense.tracking.copied_clips import copied_clips
from pe_dense.tracking.davis_dataset import DavisVideos
from pe_dense.tracking.frame_files import first_gap, frame_numbers
from pe_dense.tracking.frames import read_indexed
from pe_dense.tracking.region_and_boundary import VOID

FRAME_SIZE = Rule(
    "frame-size", "frames of another size than their video's first mask",
    "use frames and masks of one resolution",
)  # fmt: skip
MASK_SIZE = Rule(
    "mask-size", "masks of another size than their video's first one",
    "save all masks of a video at the size of its frames",
)  # fmt: skip
NO_OBJECT = Rule(
    "no-object", "videos without an object to pass on",
    "annotate the objects (from 1) where they begin, or unlist the video",
)  # fmt: skip
NOTHING_SCORED = Rule(
    "nothing-scored", "splits without an object in a frame that counts",
    "annotate objects in frames after the one that they are given in",
)  # fmt: skip
MOSTLY_VOID = Rule(
    "mostly-void", "splits of which more than half is void (255)",
    "save objects with ids from 1", "void counts as background",
)  # fmt: skip
PALETTE = Rule(
    "palette", "ids of another colour in another mask of the video",
    "save all masks of a video with one palette", "ids count, whatever their colour",
)  # fmt: skip
COPIES = Rule(
    "copied-frames", "videos that hold frames of another", "unlist one of them",
    "scored as if they were others",
)  # fmt: skip
LATE = Rule(
    "late-objects", "objects that appear after the first frame, which are background there",
    "style='youtube' gives and scores them from there", is_problem=False,
)  # fmt: skip
UNSCORED = Rule(
    "unscored-objects", "objects in no frame that counts, which no score is of", is_problem=False
)
GAPS = Rule("frame-gaps", "videos with gaps in the numbers of their frames", is_problem=False)
RULES = (FRAME_SIZE, MASK_SIZE, NO_OBJECT, NOTHING_SCORED, MOSTLY_VOID, PALETTE, COPIES)
NAMES = {"select": "to choose on", "report": "to report", "write": "to write"}


def check_config(cfg: Mapping[str, Any], splits: Sequence[str]) -> CheckedData:
    """Check the videos that a config of label propagation reads.

    Args:
        cfg: Resolved config.
        splits: Not used: there is one loader, for tests.

    Returns:
        Videos, frames, annotated frames, objects and the share of void, and what is wrong.

    Raises:
        ValueError: If a file is missing or cannot be read, or a frame has no number of its own.
    """
    dataset = DATASETS.build(cfg["test_dataloader"]["dataset"])
    if not isinstance(dataset, DavisVideos):
        return CheckedData("")
    videos = [dataset.get_data_info(i) for i in range(len(dataset))]
    question = [[v[key] for key in ("video", "purpose", "style", "scored", "bits")] for v in videos]
    folder = Path(videos[0]["frame_paths"][0]).parents[1]
    look = functools.partial(look_at_videos, videos)
    found = remembered(Path(dataset.data_root), {"in": str(folder), "videos": question}, look)
    return CheckedData(text_table(found["table"]), from_plain(found["findings"]), RULES)


def look_at_videos(videos: Sequence[Mapping[str, Any]]) -> Answer:
    """Table and findings of videos, items of `DavisVideos`, as JSON can hold them."""
    with ThreadPoolExecutor() as pool:
        contents = list(pool.map(read_content, videos))
    faults = FindingCollector()
    rows: list[list[Any]] = [
        ["", "videos", "frames", "annotated", "objects", "scored objects", "void"]
    ]
    for purpose, words in NAMES.items():
        of = [i for i, video in enumerate(videos) if video["purpose"] == purpose]
        if of:
            split = [(videos[i], contents[i]) for i in of]
            rows.append(_row(words, split))
            _add_faults(faults, words, split)
    for copy, original in copied_clips({v["video"]: _paths(v["frame_paths"]) for v in videos}):
        faults.add(COPIES, "", f"is the same picture as {original}, in another video", file=copy)
    frames = [path for video in videos for path in _paths(video["frame_paths"])]
    headers = [header for content in contents for header in content.headers]
    notes = picture_findings(frames, headers, as_stored=True, bits=videos[0]["bits"])
    findings = [*faults.findings(), *notes]
    read = {path.parent for path in frames}
    read |= {path.parent for video in videos for path in _paths(video["mask_paths"])}
    return Answer({"table": rows, "findings": to_plain(findings)}, read)


@dataclass
class VideoContent:
    """What the masks of a video hold.

    Attributes:
        starts: Object -> first annotated frame.
        num_pixels, num_void: Of all masks.
        headers: Of all frames.
        faults: (rule, file, value) of what is wrong with one file.
    """

    starts: dict[int, int] = field(default_factory=dict)
    num_pixels: int = 0
    num_void: int = 0
    headers: list[PictureHeader | ValueError] = field(default_factory=list)
    faults: list[tuple[Rule, Path, str]] = field(default_factory=list)


def read_content(video: Mapping[str, Any]) -> VideoContent:
    """Decode the masks of a video and read the heads of its frames.

    Raises:
        ValueError: If a file cannot be read, or a mask holds no ids.
    """
    found, colours, size = VideoContent(), {}, None
    for t, path in enumerate(video["mask_paths"]):
        if path is None:
            continue
        labels_HW, palette_N3 = read_indexed(Path(path))
        height, width = labels_HW.shape
        size = size or (width, height)
        if (width, height) != size:
            value = f"has {height} x {width} px, the first mask of the video {size[1]} x {size[0]}"
            found.faults.append((MASK_SIZE, Path(path), value))
        counts = np.bincount(labels_HW.ravel(), minlength=256)
        found.num_pixels += labels_HW.size
        found.num_void += int(counts[VOID])
        for k in np.flatnonzero(counts[1:VOID]).tolist():
            found.starts.setdefault(k + 1, t)
            if palette_N3 is not None and k + 1 < len(palette_N3):
                colour = tuple(palette_N3[k + 1].tolist())
                known = colours.setdefault(k + 1, (colour, path))
                if known[0] != colour:
                    value = f"has id {k + 1} in colour {colour}, {known[1]} in {known[0]}"
                    found.faults.append((PALETTE, Path(path), value))
    found.headers = picture_headers(video["frame_paths"])
    for path, header in zip(video["frame_paths"], found.headers, strict=True):
        if isinstance(header, ValueError):
            raise header
        if header.size != size:
            value = (
                f"has {header.size[1]} x {header.size[0]} px, the first mask of the video "
                f"{size[1]} x {size[0]}"
            )
            found.faults.append((FRAME_SIZE, Path(path), value))
    return found


def _row(words: str, split: Sequence[tuple[Mapping[str, Any], VideoContent]]) -> list[Any]:
    pixels = sum(content.num_pixels for _, content in split)
    void = sum(content.num_void for _, content in split)
    return [
        words,
        len(split),
        sum(len(video["frame_paths"]) for video, _ in split),
        sum(len(_paths(video["mask_paths"])) for video, _ in split),
        sum(len(content.starts) for _, content in split),
        sum(len(scored_objects(video, content)) for video, content in split),
        f"{void / pixels:.1%}",
    ]


def scored_objects(video: Mapping[str, Any], content: VideoContent) -> list[int]:
    """Ids that scores are of, rising."""
    if not video["scored"]:
        return []
    if video["style"] == "davis":  # given in the first frame; all later ones count, absent or not
        return sorted(k for k, start in content.starts.items() if start == 0)
    masks = [t for t, path in enumerate(video["mask_paths"]) if path is not None]
    return sorted(k for k, start in content.starts.items() if start < masks[-1])


def _add_faults(
    faults: FindingCollector, words: str, split: Sequence[tuple[Mapping[str, Any], VideoContent]]
) -> None:
    """What is wrong with the videos of one purpose."""
    for video, content in split:
        for rule, file, value in content.faults:
            faults.add(rule, "", value, file=file)
        masks, is_davis = _paths(video["mask_paths"]), video["style"] == "davis"
        first = [k for k, start in content.starts.items() if start == 0 or not is_davis]
        if not first:
            value = "has no object"
            if content.num_void:
                value += f"; the video's masks hold {VOID}, which means void"
            faults.add(NO_OBJECT, "", value, file=masks[0])
        scored = scored_objects(video, content)
        for k, start in content.starts.items():
            place = Path(video["mask_paths"][start])
            if is_davis and start > 0:
                faults.add(LATE, f"object {k}", "begins there", file=place)
            elif video["scored"] and k not in scored:
                faults.add(UNSCORED, f"object {k}", "begins in the last mask", file=place)
        numbers = [frame_numbers(path.name) for path in _paths(video["frame_paths"])]
        is_count = len({number[:-1] for number in numbers}) == 1  # not minutes and seconds
        if is_count and (gap := first_gap([number[-1] for number in numbers])):
            value = f"goes from frame {gap[0]} to {gap[1]}"
            faults.add(GAPS, "", value, file=Path(video["frame_paths"][0]).parent)
    folder = Path(split[0][0]["mask_paths"][0]).parents[1]
    if split[0][0]["scored"] and not any(scored_objects(*part) for part in split):
        faults.add(NOTHING_SCORED, f"{len(split)} videos {words}", "have none", file=folder)
    pixels = sum(content.num_pixels for _, content in split)
    if sum(content.num_void for _, content in split) > pixels / 2:
        faults.add(MOSTLY_VOID, f"{len(split)} videos {words}", "are mostly void", file=folder)


def _paths(texts: Sequence[str | None]) -> list[Path]:
    return [Path(text) for text in texts if text is not None]
