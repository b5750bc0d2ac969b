"""Whether every picture of a list is there and has a head, and every video has a frame."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pe_dense.data.checks.picture_findings import (
    MISSING,
    TURNED_BOXES,
    TURNED_MAPS,
    UNREADABLE,
    picture_findings,
)
from pe_dense.data.checks.remembered import Answer
from pe_dense.data.checks.rules import Finding, FindingCollector, Rule, to_plain
from pe_dense.data.image_files import existing_files
from pe_dense.data.picture_header import picture_headers
from pe_dense.data.video_file import video_facts

NO_FRAME = Rule(
    "video-unreadable", "videos without a frame that can be decoded",
    "replace the file, or name it in left_out, which makes another protocol",
)  # fmt: skip


def look_at_files(paths: Sequence[str], media: str, bits: int | None = None) -> Answer:
    """Findings of pictures or videos, as JSON can hold them.

    Args:
        paths: Files.
        media: 'image' or 'video'.
        bits: Of 16-bit pictures, `image_bits` of the config.
    """
    notes: list[Finding] = []
    faults = FindingCollector()
    is_there = existing_files(Path(), paths)
    for path, found in zip(paths, is_there, strict=True):
        if not found:
            faults.add(MISSING, "", "does not exist", file=path)
    there = [path for path, found in zip(paths, is_there, strict=True) if found]
    if media == "image":
        headers = picture_headers(there)
        for path, header in zip(there, headers, strict=True):
            if isinstance(header, ValueError):
                faults.add(UNREADABLE, "", "is no picture, or its head is broken", file=path)
        about = picture_findings([Path(path) for path in there], headers, False, bits)
        # Which way a picture is turned matters to labels that are places.
        notes = [note for note in about if note.rule not in (TURNED_MAPS, TURNED_BOXES)]
    else:
        with ThreadPoolExecutor(4) as pool:
            for path, problem in zip(there, pool.map(_problem_of_video, there), strict=True):
                if problem:
                    faults.add(NO_FRAME, "", f"cannot be scored ({problem})", file=path)
    return Answer(to_plain([*faults.findings(), *notes]), [Path(path) for path in paths])


def _problem_of_video(path: str) -> str:
    try:
        video_facts(Path(path))
    except ValueError as error:
        return str(error)
    return ""
