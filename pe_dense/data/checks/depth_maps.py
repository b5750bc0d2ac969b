"""What depth maps hold: pixels by depth over a whole split, and whether that can be right.

Every map is read once, in all cores, and the counts are remembered until a file changes.
Shape legend: H, W pixels; S = 65,536 steps of a 16-bit map.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pe_dense.data.checks.many_files import Tick, each_group
from pe_dense.data.checks.picture_findings import image_header, picture_findings
from pe_dense.data.checks.remembered import Answer, remembered
from pe_dense.data.checks.rules import (
    Finding,
    FindingCollector,
    Rule,
    UnsoundError,
    broken,
    from_plain,
    to_plain,
)
from pe_dense.data.checks.text_table import text_table
from pe_dense.data.depth_map import metres, read_depth_steps, require_size, turned_back
from pe_dense.data.picture_header import PictureHeader

NUM_STEPS = 65_536
LAST_STEP = NUM_STEPS - 1
WRONG_SHARE = 0.99  # of the depths are beyond what the limits let one expect
TOO_SMALL = Rule(
    "smaller-than-crop", "depth maps that are smaller than the crop",
    "use images of the set's own size, or another crop",
)  # fmt: skip
SCALE = Rule(
    "depth-scale", "splits whose depths cannot be metres",
    "correct depth_scale (NYUv2 1000, KITTI 256), bit_rotation or max_depth",
)  # fmt: skip
NOT_SCORED = Rule(
    "nothing-scored", "splits without a pixel that counts", "check the limits and the crop"
)
LAST = Rule(
    "depth-65535", "splits with the largest number of 16 bits",
    "if it stands for unknown depth or sky, write 0 there", "read as that depth",
)  # fmt: skip
UNSCORED = Rule(
    "unscored-maps", "depth maps without a pixel that counts (left out of the mean)",
    is_problem=False,
)  # fmt: skip
CONTENT_RULES = (TOO_SMALL, SCALE, NOT_SCORED, LAST)


@dataclass(frozen=True)
class Scoring:
    """What counts of a map.

    Attributes:
        depth_scale: Steps per metre.
        bit_rotation: See `pe_dense.data.depth_map.metres`.
        min_depth, max_depth: Limits in metres, both exclusive.
        image_bits: See `picture_findings`.
        box_of: Height and width of a map -> rows and columns that count; a function of a module or
            a partial of one. It raises ValueError for a map that is too small. None: all.

    Raises:
        ValueError: If the scale or the rotation cannot be.
    """

    depth_scale: float
    bit_rotation: int = 0
    min_depth: float = 1e-3
    max_depth: float = float("inf")
    image_bits: int | None = None
    box_of: Callable[[int, int], tuple[slice, slice]] | None = None

    def __post_init__(self) -> None:
        metres(np.zeros((0, 0), np.uint16), self.depth_scale, self.bit_rotation)  # or ValueError

    def question(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        box = self.box_of
        words = [box.func.__name__, box.keywords] if isinstance(box, functools.partial) else None
        steps, limits = [self.depth_scale, self.bit_rotation], [self.min_depth, self.max_depth]
        return dict(steps=steps, limits=limits, box=words, image_bits=self.image_bits)

    def counts_S(self) -> np.ndarray:  # noqa: N802 (the shape)
        """Whether a step lies between the limits."""
        depth_S = metres(np.arange(NUM_STEPS, dtype=np.uint16), self.depth_scale)
        return (depth_S > self.min_depth) & (depth_S < self.max_depth)


@dataclass(frozen=True)
class DepthCounts:
    """What the depth maps of a split hold.

    Attributes:
        where: What the split is called in messages: its list.
        scale: Steps per metre.
        num_maps: Maps that could be read.
        pixels_S: Pixels of each step; step 0 is not annotated.
        num_scored: Pixels that count.
        num_unscored: Maps in which none does.
        medians: Of every map in metres; nan where it could not be read.
        sizes: Height and width -> the first image of that size.
        findings: Files that cannot be used.
    """

    where: str
    scale: float
    num_maps: int
    pixels_S: np.ndarray
    num_scored: int
    num_unscored: int
    medians: np.ndarray
    sizes: Mapping[tuple[int, int], str]
    findings: tuple[Finding, ...]

    @property
    def num_known(self) -> int:
        """Annotated pixels."""
        return int(self.pixels_S[1:].sum())

    def share_of(self, steps: slice) -> float:
        """Share of the annotated pixels that have one of the steps."""
        return float(self.pixels_S[steps].sum() / max(1, self.num_known))

    def quantile(self, share: float) -> float:
        """Depth in metres that this share of the annotated pixels does not exceed."""
        sums_S = np.cumsum(self.pixels_S[1:])
        return float(1 + np.searchsorted(sums_S, share * sums_S[-1])) / self.scale


def count_depths(
    files: Sequence[tuple[Path, Path]], root: Path, where: object, scoring: Scoring, tick: Tick
) -> DepthCounts:
    """Read all depth maps of a split, or recall what they held.

    Args:
        files: Image and depth map.
        root: Folder of the data set, where the counts are kept.
        where: See `DepthCounts`.
        scoring: What counts of a map.
        tick: Called with (maps done, maps to do).
    """
    names = "\n".join(f"{image}\t{depth}" for image, depth in files)
    sha256 = hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()
    question = dict(depth_maps=sha256, scoring=scoring.question())
    found = remembered(root, question, functools.partial(_find_out, files, scoring, tick))
    pixels_S = np.zeros(NUM_STEPS, np.int64)
    pixels_S[found["steps"]] = found["pixels"]
    medians = np.array(found["medians"], np.float64)
    medians[medians == 0] = np.nan
    return DepthCounts(
        str(where),
        scoring.depth_scale,
        int(np.isfinite(medians).sum()),
        pixels_S,
        found["num_scored"],
        found["num_unscored"],
        medians / scoring.depth_scale,
        {(height, width): file for height, width, file in found["sizes"]},
        tuple(from_plain(found["findings"])),
    )


def _find_out(files: Sequence[tuple[Path, Path]], scoring: Scoring, tick: Tick) -> Answer:
    pixels_S = np.zeros(NUM_STEPS, np.int64)
    found, headers = FindingCollector(), {}
    medians, scored = [], []
    work = functools.partial(_count, scoring=scoring)
    for part_S, part_medians, part_scored, part_headers, errors in each_group(work, files, tick):
        pixels_S += part_S
        medians += part_medians
        scored += part_scored
        headers |= part_headers
        for finding in errors:
            found.add_finding(finding)
    steps = np.flatnonzero(pixels_S)
    notes = picture_findings(list(headers), list(headers.values()), True, scoring.image_bits)
    sizes = {header.size[::-1]: str(image) for image, header in reversed(headers.items())}
    value = dict(
        steps=steps.tolist(),
        pixels=pixels_S[steps].tolist(),
        medians=medians,
        num_scored=sum(scored),
        num_unscored=scored.count(0),
        sizes=[[*size, image] for size, image in sizes.items()],
        findings=to_plain([*found.findings(), *notes]),
    )
    return Answer(value, {file.parent for pair in files for file in pair})


def _count(
    files: Sequence[tuple[Path, Path]], scoring: Scoring
) -> tuple[np.ndarray, list[int], list[int], dict[Path, PictureHeader], list[Finding]]:
    """Pixels of each step; medians in steps; pixels that count; headers; what is unusable."""
    pixels_S, counts_S = np.zeros(NUM_STEPS, np.int64), scoring.counts_S()
    medians, scored, headers, errors = [], [], {}, []
    for image, depth in files:
        try:
            header = image_header(image)
            size = header.size[::-1]
            steps_HW = read_depth_steps(depth)
            require_size(depth, steps_HW, size)
            steps_HW = turned_back(steps_HW, scoring.bit_rotation)
            inside = steps_HW[_box(scoring, size, depth)]
        except UnsoundError as error:
            errors.append(error.finding)
            medians.append(0)
            continue
        headers[image] = header
        part_S = np.bincount(steps_HW.ravel(), minlength=NUM_STEPS)
        pixels_S += part_S
        sums_S = np.cumsum(part_S[1:])
        medians.append(1 + int(np.searchsorted(sums_S, sums_S[-1] / 2)))
        scored.append(int(np.count_nonzero(counts_S[inside])))
    return pixels_S, medians, scored, headers, errors


def _box(scoring: Scoring, size: tuple[int, int], depth: Path) -> tuple[slice, slice]:
    if scoring.box_of is None:
        return slice(None), slice(None)
    try:
        return scoring.box_of(*size)
    except ValueError as error:
        raise broken(TOO_SMALL, depth, f"is {size[0]}x{size[1]} px ({error})") from error


def depth_findings(counts: DepthCounts, max_depth: float, crop: str | None) -> list[Finding]:
    """What is wrong with a split.

    Args:
        counts: What it holds.
        max_depth: Depth in metres that few pixels exceed.
        crop: What the box that counts is called.
    """
    found = FindingCollector(counts.where)
    if counts.num_maps:
        limit = max_depth * counts.scale
        far = counts.share_of(slice(int(limit) + 1, None))
        near = counts.share_of(slice(1, int(np.ceil(limit / 100))))
        for share, words, remedy in (
            (far, f"above max_depth of {max_depth:g} m", "too small"),
            (near, f"below {max_depth / 100:g} m", "too large"),
        ):
            if share >= WRONG_SHARE:
                text = f"has {100 * share:.0f} % of its depths {words}, so depth_scale="
                found.add(SCALE, "", f"{text}{counts.scale:g} is {remedy}")
        last = counts.share_of(slice(LAST_STEP, None))
        if last >= 0.001:
            text = (
                f"has 65535 ({LAST_STEP / counts.scale:.1f} m) in {100 * last:.2g} % of its known"
            )
            found.add(LAST, "", f"{text} pixels")
        if not counts.num_scored:
            text = f"has no annotated pixel within the depth limits and the crop {crop!r}"
            found.add(NOT_SCORED, "", text)
        else:
            found.add_count(UNSCORED, counts.num_unscored)
    return [*counts.findings, *found.findings()]


def depth_table(splits: Mapping[str, DepthCounts]) -> str:
    """Range of depth, and the share of pixels that is known and that counts, as text."""
    of = {split: counts for split, counts in splits.items() if counts.num_maps}
    if not of:
        return ""
    return text_table(
        [
            ["", *of],
            ["depth maps", *(f"{c.num_maps:,}" for c in of.values())],
            [
                "  depth, 1 % to 99 %",
                *(f"{c.quantile(0.01):.2f} to {c.quantile(0.99):.2f} m" for c in of.values()),
            ],
            ["  median depth", *(f"{c.quantile(0.5):.2f} m" for c in of.values())],
            [
                "  pixels known",
                *(f"{100 * c.num_known / c.pixels_S.sum():.2f} %" for c in of.values()),
            ],
            [
                "  pixels that count",
                *(f"{100 * c.num_scored / c.pixels_S.sum():.2f} %" for c in of.values()),
            ],
        ]
    )
