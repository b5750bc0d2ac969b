"""A person's own videos for label propagation: whatever the folder looks like, no list to write.

Where the clips and their masks lie, `own_layout` finds; forms of masks, `own_masks` reads; video
files become folders of frames once (`unpacked_video`). Each clip is then an item like those of
`DavisVideos`:

* with masks of later frames it is scored: in the style of DAVIS where every frame of every scored
  clip has one, else in that of YouTube-VOS (see `davis_dataset`);
* with the mask of its first frame alone it is written, and no score is of it.

A mask belongs to the frame of its number. Frames of a video file are numbered from 0, or from 1
where the first mask has number 1. One mask alone, without a number, is that of the first frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from mmengine.registry import DATASETS

from pe_dense.data.image_files import PICTURE_SUFFIXES
from pe_dense.tracking.davis_dataset import DavisVideos, part_of_videos
from pe_dense.tracking.frame_files import frame_files, frame_numbers
from pe_dense.tracking.own_layout import OwnClip, find_clips
from pe_dense.tracking.own_masks import object_ids
from pe_dense.tracking.unpacked_video import indexed_masks, unpacked_frames

MIN_MASKS = 2  # of a clip that is scored: the one that is given, and one to score with
Masks = dict[int, Path | dict[int, Path]]


@DATASETS.register_module()
class OwnVideos(DavisVideos):
    """One item is one clip of a person's folder.

    Args:
        data_root: The folder.
        split_file: List of the clips that are reported, below it; None: see `own_layout`.
        holdout_share: Share of the scored clips that only choose a layer, by sha256 of their
            names, where no list or folder says which.
        bits: Of 16-bit frames.
        test_mode, lazy_init: As in MMEngine.

    Raises:
        ValueError: If the folder holds no clip, a clip has no mask, or a file is wrong.
    """

    METAINFO: ClassVar[dict] = dict(dataset_type="video_objects")

    def __init__(
        self,
        data_root: str,
        split_file: str | None = None,
        holdout_share: float = 0.0,
        bits: int | None = None,
        test_mode: bool = True,
        lazy_init: bool = False,
    ) -> None:
        if not 0 <= holdout_share < 1:
            raise ValueError(f"holdout_share={holdout_share} must be at least 0 and below 1")
        self.holdout_share = holdout_share
        super().__init__(
            data_root, split_file=split_file, bits=bits, test_mode=test_mode, lazy_init=lazy_init
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """Items of all clips, those that choose a layer first; video files are unpacked."""
        root = Path(self.data_root)
        videos = [self._item(clip, root) for clip in find_clips(root, self.split_file)]
        scored = [video for video in videos if video["scored"]]
        if self.holdout_share and all(video["purpose"] == "report" for video in videos):
            names = [video["video"] for video in scored]
            held = part_of_videos(names, "val", self.holdout_share)
            if len(names) < 2 or len(held) == len(names):
                raise ValueError(
                    f"holdout_share={self.holdout_share} of {len(names)} scored clips leaves none "
                    "to report; lower it, or annotate more clips"
                )
            for video in scored:
                video["purpose"] = "select" if video["video"] in held else "report"
        is_dense = all(None not in v["mask_paths"] and len(v["mask_paths"]) >= 3 for v in scored)
        for video in videos:
            video["style"] = "davis" if is_dense else "youtube"
            if not video["scored"]:
                if video["purpose"] == "select":
                    raise ValueError(
                        f"clip {video['video']!r} is to choose a layer and has the mask of its "
                        "first frame alone; annotate later frames, or unlist it"
                    )
                video["purpose"], video["style"] = "write", "youtube"
        return sorted(videos, key=lambda video: video["purpose"] != "select")

    def _item(self, clip: OwnClip, root: Path) -> dict[str, Any]:
        if clip.masks is None:
            raise ValueError(
                f"clip {clip.source} has no mask; save that of its first frame as "
                f"{_mask_place(clip, root)}, or list the clips that count in {root / 'val.txt'}"
            )
        if clip.is_file:
            frames = dict(enumerate(unpacked_frames(clip.source, root)))
        else:
            frames = {numbers[-1]: path for numbers, path in frame_files(clip.source).items()}
            if len(frames) < len(frame_files(clip.source)):
                raise ValueError(
                    f"{clip.source} has two frames of one number; number the frames of a clip"
                )
        if not frames:
            raise ValueError(f"clip {clip.source} has no frame; add them, or unlist the clip")
        found = self._masks(clip, list(frames))
        masks = indexed_masks(found, root, clip.name)
        first = min(found, key=list(frames).index)
        used = list(frames)[list(frames).index(first) :]
        return dict(
            video=clip.name,
            frame_paths=tuple(str(frames[n]) for n in used),
            mask_paths=tuple(str(masks[n]) if n in masks else None for n in used),
            style="youtube",
            purpose=clip.purpose,
            scored=len(masks) >= MIN_MASKS,
            bits=None if clip.is_file else self.bits,
        )

    def _masks(self, clip: OwnClip, numbers: list[int]) -> Masks:
        """Masks by number of their frame."""
        assert clip.masks is not None
        if clip.masks.is_file():
            return {numbers[0]: clip.masks}
        pictures = [p for p in sorted(clip.masks.iterdir()) if _is_picture(p)]
        folders = [f for f in sorted(clip.masks.iterdir()) if f.is_dir() and any(
            _is_picture(p) for p in f.iterdir())]  # fmt: skip
        if pictures and folders:
            raise ValueError(
                f"{clip.masks} holds masks and folders of masks; keep one mask for each frame, or "
                "a folder for each object"
            )
        if not folders:
            return self._numbered(clip, clip.masks, pictures, numbers)
        ids = object_ids([folder.name for folder in folders])
        found: Masks = {}
        for folder in folders:
            inside = [p for p in sorted(folder.iterdir()) if _is_picture(p)]
            for number, path in self._numbered(clip, folder, inside, numbers).items():
                assert isinstance(path, Path)
                objects = found.setdefault(number, {})
                assert isinstance(objects, dict)
                objects[ids[folder.name]] = path
        return found

    def _numbered(
        self, clip: OwnClip, folder: Path, pictures: list[Path], numbers: list[int]
    ) -> Masks:
        if len(pictures) == 1 and not frame_numbers(pictures[0].name):
            return {numbers[0]: pictures[0]}
        found: Masks = {}
        for key, path in frame_files(folder).items():
            if key[-1] in found:
                raise ValueError(f"{folder} has two masks of frame {key[-1]}; remove one")
            found[key[-1]] = path
        if clip.is_file and min(found) == 1:
            found = {number - 1: path for number, path in found.items()}
        if unknown := [number for number in found if number not in set(numbers)]:
            there = f"{min(numbers)} to {max(numbers)}"
            raise ValueError(
                f"mask {found[unknown[0]]} has no frame of its number in {clip.source}, whose "
                f"{len(numbers)} frames are {there} ({len(found)} masks are there); number masks "
                "as their frames"
            )
        return found


def clip_rows(videos: list[Mapping[str, Any]], most: int = 30) -> list[list[Any]]:
    """What a person sees of each clip before a run: a heading and a row for each.

    Args:
        videos: Items of `OwnVideos`.
        most: Clips that are listed; the rest is one row.
    """
    from pe_dense.tracking.video_check import read_content, scored_objects

    rows: list[list[Any]] = [["clip", "frames", "size", "masks", "objects", "what is done"]]
    words = {"select": "chooses the layer", "report": "scored", "write": "written, not scored"}
    for video in videos[:most]:
        content = read_content(video)
        header = content.headers[0]
        size = "?" if isinstance(header, ValueError) else f"{header.size[0]}x{header.size[1]}"
        done = words[video["purpose"]]
        if video["scored"]:
            number = len(scored_objects(video, content))
            done += f" ({number} object{'s' * (number != 1)})"
        masks = sum(path is not None for path in video["mask_paths"])
        rows.append(
            [video["video"], len(video["frame_paths"]), size, masks, len(content.starts), done]
        )
    if len(videos) > most:
        rows.append([f"and {len(videos) - most} more", "", "", "", "", ""])
    return rows


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")


def _mask_place(clip: OwnClip, root: Path) -> Path:
    if clip.is_file:
        return clip.source.with_suffix(".png")
    return root / "masks" / f"{clip.name}.png"
