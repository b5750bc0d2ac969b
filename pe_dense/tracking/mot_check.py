"""Checks MOTChallenge sequences before tracking: what they hold, and what cannot be scored.

A row or a frame that cannot be read at all is refused by its reader (`mot_files`), here and in
the loader.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pe_dense.data.checks.picture_findings import picture_findings
from pe_dense.data.checks.rules import CheckedData, FindingCollector, Rule
from pe_dense.data.checks.text_table import text_table
from pe_dense.data.config_datasets import datasets_of
from pe_dense.data.picture_header import PictureHeader, picture_headers
from pe_dense.tracking.copied_clips import copied_clips
from pe_dense.tracking.mot_dataset import MOTSequences, frame_range
from pe_dense.tracking.mot_files import (
    TARGET_CLASS,
    BoxRows,
    SequenceInfo,
    find_sequences,
    read_ground_truth,
)

NEEDS_FRAME_RATE = "PublishedByteTracker"
NEEDED = ("lap", "trackeval")  # of the extra 'mot'

MISSING = Rule(
    "missing-frames", "frames without a picture",
    "fetch the sequence again, or correct seqLength in its seqinfo.ini",
)  # fmt: skip
OUTSIDE = Rule(
    "frames-outside", "pictures numbered outside the sequence",
    "number pictures from 1 to seqLength of seqinfo.ini", "neither tracked nor scored",
)  # fmt: skip
FRAME_SIZE = Rule(
    "frame-size", "frames of another size than seqinfo.ini says",
    "put imWidth and imHeight (and the boxes) right",
)  # fmt: skip
NO_TARGET = Rule(
    "no-target", "sequences without a target",
    f"write {TARGET_CLASS}, the class that is scored, and the flag 1 where rows are to count",
    "scored as sequences in which every track is wrong",
)  # fmt: skip
NO_TARGET_AT_ALL = Rule("no-target-at-all", "splits without a target", NO_TARGET.remedy)
OTHER_CLASS = Rule(
    "unknown-class", "rows of a class that MOTChallenge does not have",
    "its classes are 1 to 13, of which 1 is scored; correct the rows or take them out",
)  # fmt: skip
TRAINED_CLASS = Rule(
    "trained-class", "class_ids that scores are not of",
    f"set class_ids=[{TARGET_CLASS}], or the class column to {TARGET_CLASS}",
)  # fmt: skip
FAR_OUTSIDE = Rule(
    "boxes-outside", "sequences with many targets that reach far out of the image",
    "a row is x, y, width, height in pixels of the image, not two corners", "taken as they are",
)  # fmt: skip
NO_PIXELS = Rule(
    "tiny-boxes", "sequences without a target of more than 1 px",
    "boxes are in pixels, not in shares of the image", "taken as they are",
)  # fmt: skip
COPIES = Rule(
    "copied-frames", "sequences that hold frames of another", "leave one of them out",
    "trained on or scored as if they were others",
)  # fmt: skip
FLAGS = Rule(
    "active-flags", "rows whose flag is neither 0 nor 1, which count as active", is_problem=False
)
UNKNOWN_VISIBILITY = Rule(
    "visibility", "rows of negative visibility, which count as visible", is_problem=False
)
RULES = (
    MISSING, OUTSIDE, FRAME_SIZE, NO_TARGET, NO_TARGET_AT_ALL, OTHER_CLASS, TRAINED_CLASS,
    FAR_OUTSIDE, NO_PIXELS, COPIES,
)  # fmt: skip
# Share of the area of a box inside the image -> share of the targets that may have less of it:
# people who leave the image are few. Corners that are read as x, y, width, height have.
FEW_OUTSIDE = {0.5: 0.1, 0.8: 0.5}
CLASSES = range(1, 14)


@dataclass(frozen=True)
class Clip:
    """What is used of a sequence in one split.

    Attributes:
        info: The sequence.
        frames: Files of the frames that are used, in order.
        headers: Of these.
        rows: Annotated boxes of these frames.
        targets_Q: Rows that are trained on or scored with.
    """

    info: SequenceInfo
    frames: list[Path]
    headers: list[PictureHeader | ValueError]
    rows: BoxRows
    targets_Q: np.ndarray


def check_config(cfg: Mapping[str, Any], splits: Sequence[str]) -> CheckedData:
    """Check the optional packages and the sequences that a config will use.

    Args:
        cfg: Resolved config.
        splits: Of 'train', 'val', 'test': the loaders that will be used.

    Returns:
        Sequences, frames, rows, targets and identities by split, and what is wrong.

    Raises:
        ValueError: If a package is missing, or a file is missing or wrong.
    """
    require_extra()
    faults = FindingCollector()
    table = [["", "sequences", "frames", "rows", "targets", "identities", "rows by class"]]
    clips: dict[str, Clip] = {}
    for split, settings, _ in datasets_of(cfg, splits):
        options = dict(settings, pipeline=[], lazy_init=True)
        if options.pop("type") not in (MOTSequences.__name__, MOTSequences):
            continue
        dataset = MOTSequences(**options)
        benchmark = cfg["test_evaluator"]["benchmark"]
        trains = split == "train"
        if trains and benchmark != "MOT15" and set(dataset.class_ids) != {TARGET_CLASS}:
            value = (
                f"trains on class_ids={list(dataset.class_ids)}, and class {TARGET_CLASS} is scored"
            )
            faults.add(TRAINED_CLASS, "", value, file=dataset.data_root)
        found = []
        for info in find_sequences(dataset.data_root, dataset.pattern):
            if not trains and _tracker(cfg) == NEEDS_FRAME_RATE:
                info.require_frame_rate()
            clip = read_clip(info, dataset, None if trains else benchmark, faults)
            found.append(clip)
            add_faults(faults, clip, None if trains else benchmark)
            clips[f"{split} {info.folder}"] = clip
        table.append(table_row(split, found))
        if not any(clip.targets_Q.any() for clip in found):
            faults.add(NO_TARGET_AT_ALL, split, "has none", file=dataset.data_root)
    looked_at = {name: clip.frames for name, clip in clips.items()}
    validated = [clip.frames for name, clip in clips.items() if name.startswith("val ")]
    others = _clips_there(cfg, {"train", "test"} - set(splits), validated)
    for copy, original in copied_clips(others | looked_at):
        faults.add(COPIES, "", f"is the same picture as {original}", file=copy)
    frames = [file for clip in clips.values() for file in clip.frames]
    headers = [header for clip in clips.values() for header in clip.headers]
    notes = picture_findings(frames, headers, as_stored=False, bits=cfg.get("image_bits"))
    return CheckedData(text_table(table), [*faults.findings(), *notes], RULES)


def _tracker(cfg: Mapping[str, Any]) -> str | None:
    """Type of the tracker of a config."""
    return cfg.get("model", {}).get("tracker", {}).get("type")


def _clips_there(
    cfg: Mapping[str, Any], splits: Collection[str], known: Sequence[Sequence[Path]]
) -> dict[str, list[Path]]:
    """Frames of loaders that are not used, where they are at hand and none of `known`.

    So that training on what is scored shows in training and in scoring alike.
    """
    found: dict[str, list[Path]] = {}
    for split, settings, _ in datasets_of(cfg, sorted(splits)):
        options = dict(settings, pipeline=[], lazy_init=True)
        if options.pop("type") not in (MOTSequences.__name__, MOTSequences):
            continue
        dataset = MOTSequences(**options)
        if not any(Path(dataset.data_root).glob(f"{dataset.pattern}/seqinfo.ini")):
            continue
        for info in find_sequences(dataset.data_root, dataset.pattern):
            first, last = frame_range(info.num_frames, dataset.half)
            files = info.frames()
            frames = [files[number] for number in range(first, last + 1) if number in files]
            if frames not in known:
                found[f"{split} {info.folder}"] = frames
    return found


def require_extra(needed: Sequence[str] = NEEDED) -> None:
    """Refuse to go on without the packages of the extra 'mot'.

    Raises:
        ValueError: Naming the first package that is missing.
    """
    absent = [name for name in needed if importlib.util.find_spec(name) is None]
    if absent:
        raise ValueError(
            f"multi-object tracking needs the package {absent[0]!r}, which is not installed; run: "
            "pip install 'pe_dense[mot]'"
        )


def read_clip(
    info: SequenceInfo, dataset: MOTSequences, benchmark: str | None, faults: FindingCollector
) -> Clip:
    """Frames and rows of the part of a sequence that a data set uses.

    Args:
        info: The sequence.
        dataset: Whose frames and, in training, rows count.
        benchmark: Whose rules say which rows are scored; None: those that are trained on.
        faults: Gets the frames that are missing or left over.

    Raises:
        ValueError: If a file cannot be read.
    """
    first, last = frame_range(info.num_frames, dataset.half)
    files = info.frames()
    folder = info.folder / info.image_dir
    if absent := [number for number in range(first, last + 1) if number not in files]:
        value = f"is missing ({len(absent)} of {last - first + 1} are)"
        faults.add(MISSING, f"frame {absent[0]}", value, file=folder)
    for number in files.keys() - range(1, info.num_frames + 1):
        faults.add(OUTSIDE, "", f"is frame {number} of 1 to {info.num_frames}", file=files[number])
    every = read_ground_truth(info.folder / "gt" / "gt.txt", info.num_frames)
    rows = every.part((every.frames_Q >= first) & (every.frames_Q <= last))
    targets_Q = dataset.counting(rows) if benchmark is None else rows.targets(benchmark)
    frames = [files[number] for number in range(first, last + 1) if number in files]
    return Clip(info, frames, picture_headers(frames), rows, targets_Q)


def add_faults(faults: FindingCollector, clip: Clip, benchmark: str | None) -> None:
    """What is wrong with frames and rows; `benchmark` as in `read_clip`."""
    info, rows, targets_Q = clip.info, clip.rows, clip.targets_Q
    size = info.width, info.height
    for file, header in zip(clip.frames, clip.headers, strict=True):
        if isinstance(header, ValueError):
            raise header
        if header.turned_size != size:
            found = header.turned_size
            value = "has {} x {} px, and seqinfo.ini says {} x {}".format(*found, *size)
            faults.add(FRAME_SIZE, "", value, file=file)
    truth = info.folder / "gt" / "gt.txt"
    classes = Counter(rows.classes_Q.tolist())
    if not targets_Q.any():
        found = f"of {len(targets_Q)} rows {int(rows.is_active.sum())} are active"
        found += f", with rows by class {_counts(classes)}" if classes else ""
        value = f"has no target in the {len(clip.frames)} frames that are used: {found}"
        faults.add(NO_TARGET, "", value, file=truth)
    strange = sorted(k for k in classes if k not in CLASSES)
    if strange and benchmark not in (None, "MOT15"):
        value = f"has {classes[strange[0]]} rows of class {strange[0]}"
        faults.add(OTHER_CLASS, "", value, file=truth)
    boxes_T4 = rows.boxes_xywh_Q4[targets_Q]
    starts_T2 = boxes_T4[:, :2] - 1
    inside_T2 = np.minimum(starts_T2 + boxes_T4[:, 2:], size) - np.maximum(starts_T2, 0)
    shares_T = (inside_T2.clip(0) / boxes_T4[:, 2:]).prod(axis=1)
    is_tiny = len(boxes_T4) > 0 and (boxes_T4[:, 2:] <= 1).all()
    if is_tiny:
        value = f"has no target of more than 1 px, first {boxes_T4[0].tolist()}"
        faults.add(NO_PIXELS, "", value, file=truth)
    for least, few in () if is_tiny else FEW_OUTSIDE.items():
        is_far_T = shares_T < least
        if is_far_T.sum() > few * len(is_far_T):
            value = (
                f"has {is_far_T.sum()} of {len(is_far_T)} targets with less than {least:.0%} "
                f"inside {size[0]} x {size[1]} px, such as {boxes_T4[is_far_T][0].tolist()}"
            )
            faults.add(FAR_OUTSIDE, "", value, file=truth)
            break
    faults.add_count(FLAGS, int((~np.isin(rows.flags_Q, (0, 1))).sum()))
    faults.add_count(UNKNOWN_VISIBILITY, int((rows.visibility_Q < 0).sum()))


def table_row(split: str, clips: Sequence[Clip]) -> list[Any]:
    """What a split holds."""
    classes = Counter(k for clip in clips for k in clip.rows.classes_Q.tolist())
    return [
        split,
        len(clips),
        sum(len(clip.frames) for clip in clips),
        sum(len(clip.targets_Q) for clip in clips),
        sum(int(clip.targets_Q.sum()) for clip in clips),
        sum(len(np.unique(clip.rows.ids_Q[clip.targets_Q])) for clip in clips),
        _counts(classes) or "none",
    ]


def _counts(classes: Mapping[int, int]) -> str:
    return ", ".join(f"{k}: {count:,}" for k, count in sorted(classes.items()))
