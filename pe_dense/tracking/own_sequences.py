"""A person's own videos with boxes as MOTChallenge sequences, whatever the folder looks like.

Where clips lie, `own_layout` finds; boxes, `own_boxes` reads. What a tracker and TrackEval read is
made from them once and kept beside the data (in '.pe_dense'): a folder for each clip with
`seqinfo.ini`, its frames by number (as links), and `gt/gt.txt` where there are boxes. Clips without
boxes are tracked, and no score is of them.

All classes count as one, as MOTChallenge scores them; in a folder with a `seqinfo.ini` of its own
the class column says what counts.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdet.registry import DATASETS

from pe_dense.data.checks.picture_findings import picture_findings
from pe_dense.data.checks.remembered import Answer, folder_for, remembered, stamp
from pe_dense.data.checks.rules import CheckedData, FindingCollector
from pe_dense.data.checks.text_table import text_table
from pe_dense.data.picture_header import header_of
from pe_dense.data.video_file import video_facts
from pe_dense.files import file_sha256
from pe_dense.tracking.frame_files import frame_files
from pe_dense.tracking.mot_check import RULES, Clip, add_faults, read_clip, require_extra
from pe_dense.tracking.mot_dataset import MOTSequences
from pe_dense.tracking.mot_files import find_sequences, read_sequence_info
from pe_dense.tracking.own_boxes import BoxFile, find_boxes, truth_lines
from pe_dense.tracking.own_layout import OwnClip, find_clips
from pe_dense.tracking.own_video_facts import own_root
from pe_dense.tracking.unpacked_video import new_folder, unpacked_frames

BENCHMARK = "MOT17"


@DATASETS.register_module()
class OwnSequences(MOTSequences):
    """One entry is one clip of a person's folder; arguments as in `MOTSequences`.

    Args:
        data_root: The folder.
        split_file: List of the clips that count, below it; None: see `own_layout`.
        kwargs: See `MOTSequences`.

    Raises:
        ValueError: If the folder holds no clip, or a file is wrong.
    """

    def __init__(self, data_root: str, split_file: str | None = None, **kwargs: Any) -> None:
        self.split_file = split_file
        super().__init__(data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Entries of what was prepared."""
        self.data_root = str(prepared(Path(self.data_root), self.split_file))
        return super().load_data_list()

    @property
    def num_reported(self) -> int:
        """Clips that scores are of."""
        return sum(
            (info.folder / "gt" / "gt.txt").is_file()
            for info in find_sequences(self.data_root, self.pattern)
        )


def facts(names: Mapping[str, Any]) -> dict[str, Any]:
    """The `data_facts` of mot_custom.py.

    Args:
        names: Of the config: `data_root`, `split_file`.

    Returns:
        name: of the folder; sha256: of the files with boxes.

    Raises:
        ValueError: If data_root is not given, or as `find_clips` and `find_boxes`.
    """
    root = own_root(names)
    files = [b.path for b in _boxes(root, names.get("split_file")).values() if b is not None]
    question = {"boxes of": [str(path) for path in files]}
    return dict(
        name=root.resolve().name,
        sha256=remembered(root, question, functools.partial(_hash_files, files)),
    )


def prepared(root: Path, split_file: str | None = None) -> Path:
    """The folder of sequences that was made of a person's folder.

    Raises:
        ValueError: If a clip or a file of boxes is wrong, or nothing can be written.
    """
    boxes = _boxes(root, split_file)
    clips = {clip.name: clip for clip in _clips(root, split_file)}
    frames = {name: _frames(clip, root) for name, clip in clips.items()}
    lines = []
    for name, clip in clips.items():
        truth = boxes[name]
        of_truth = "" if truth is None else f"{truth.path.resolve()} {stamp(str(truth.path))[0]}"
        folder = stamp(str(frames[name][0].parent))[0]
        lines.append(f"{name} {clip.source.resolve()} {folder} {of_truth}")
    digest = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
    place = folder_for(root)
    if place is None:
        raise ValueError(
            f"neither {root} nor the user's cache folder can be written, and the sequences made "
            "of it have to be kept somewhere; set XDG_CACHE_HOME to a folder that can"
        )
    target = place / "sequences" / digest[:16]
    if not target.is_dir():
        with new_folder(target) as folder:
            for name, clip in clips.items():
                _write_sequence(folder / name, clip, frames[name], boxes[name])
    return target


def check_config(cfg: Mapping[str, Any], splits: Sequence[str]) -> CheckedData:
    """The table of the clips, and what is wrong with them.

    Args:
        cfg: Resolved config with a data set `OwnSequences`.
        splits: Not used: there is one loader, for tests.

    Raises:
        ValueError: If a package is missing, or a file is missing or wrong.
    """
    require_extra()
    settings = dict(cfg["test_dataloader"]["dataset"], pipeline=[])
    settings.pop("type")
    dataset = OwnSequences(**settings)
    faults = FindingCollector()
    rows: list[list[Any]] = [["clip", "frames", "size", "boxes", "identities", "what is done"]]
    frames, headers = [], []
    for info in find_sequences(dataset.data_root):
        size = f"{info.width}x{info.height}"
        if not (info.folder / "gt" / "gt.txt").is_file():
            rows.append([info.name, info.num_frames, size, 0, 0, "tracked, not scored"])
            continue
        clip: Clip = read_clip(info, dataset, BENCHMARK, faults)
        add_faults(faults, clip, BENCHMARK)
        ids = len(set(clip.rows.ids_Q[clip.targets_Q].tolist()))
        done = ["tracked and scored"]
        rows.append([info.name, info.num_frames, size, int(clip.targets_Q.sum()), ids, *done])
        frames += clip.frames
        headers += clip.headers
    notes = picture_findings(frames, headers, as_stored=False, bits=cfg.get("image_bits"))
    return CheckedData(text_table(rows), [*faults.findings(), *notes], RULES)


def _clips(root: Path, split_file: str | None) -> list[OwnClip]:
    return [clip for clip in find_clips(root, split_file) if clip.purpose == "report"]


def _boxes(root: Path, split_file: str | None) -> dict[str, BoxFile | None]:
    return find_boxes(root, _clips(root, split_file))


def _frames(clip: OwnClip, root: Path) -> list[Path]:
    if clip.is_file:
        return unpacked_frames(clip.source, root)
    found = list(frame_files(clip.source).values())
    if not found:
        raise ValueError(f"clip {clip.source} has no frame; add them, or unlist the clip")
    return found


def _write_sequence(
    folder: Path, clip: OwnClip, frames: Sequence[Path], boxes: BoxFile | None
) -> None:
    images = folder / "img1"
    images.mkdir(parents=True)
    for number, frame in enumerate(frames, start=1):
        link = images / f"{number:06d}{frame.suffix.lower()}"
        try:
            link.symlink_to(os.path.abspath(frame))  # noqa: PTH100 (a link stays one)
        except OSError:  # file systems without links
            shutil.copyfile(frame, link)
    header = header_of(frames[0].read_bytes(), f"frame {frames[0]}")
    width, height = header.turned_size
    lines = ["[Sequence]", f"name={clip.name}", "imDir=img1", f"seqLength={len(frames)}",
             f"imWidth={width}", f"imHeight={height}"]  # fmt: skip
    own_info = None if clip.is_file else clip.source.parent / "seqinfo.ini"
    is_challenge = own_info is not None and own_info.is_file()
    fps = video_facts(clip.source).fps if clip.is_file else None
    if is_challenge:
        with contextlib.suppress(ValueError):  # it is not needed
            fps = read_sequence_info(clip.source.parent).frame_rate
    lines += [] if fps is None else [f"frameRate={fps:g}"]
    (folder / "seqinfo.ini").write_text("\n".join(lines) + "\n")
    names = [frame.name for frame in frames]
    truth = None if boxes is None else truth_lines(boxes, clip, names, is_challenge)
    if truth is not None:
        (folder / "gt").mkdir()
        (folder / "gt" / "gt.txt").write_text("".join(f"{line}\n" for line in truth))


def _hash_files(files: Sequence[Path]) -> Answer:
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name} {file_sha256(path)}\n".encode())
    return Answer(digest.hexdigest(), files)
