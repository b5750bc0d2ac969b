"""Videos with indexed masks, laid out like DAVIS 2017 or like YouTube-VOS and MOSE.

    DAVIS:             JPEGImages/480p/<video>/*.jpg    Annotations/480p/<video>/*.png
    YouTube-VOS, MOSE: JPEGImages/<video>/*.jpg         Annotations/<video>/*.png

Two styles of annotation, `style`:

* 'davis': every frame has a mask. Objects are those of the first frame; ids that appear later are
  background, as in davisvideochallenge/davis2017-evaluation @ ac7c43f. The first and the last frame
  are not scored, so a video needs three frames. Deviation: an id below the highest that is not in
  the first frame is no object; there it is one that nobody can follow, and an absent one scores 1.
* 'youtube': some frames have a mask (YouTube-VOS: every fifth). The video begins with its first
  mask. An object that appears later is given where it is first annotated, and is scored in the
  annotated frames after that one, the last frame included.

Frames come in the order of the numbers in their names, and a mask belongs to the frame of its
number, so that 9.jpg comes before 10.jpg and has 00009.png.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from mmengine.structures import BaseDataElement

from pe_dense.data.picture import require_bits
from pe_dense.tracking.frame_files import frame_files

UNSCORED = "--cfg-options test_dataloader.dataset.scored=False"
STYLES = ("davis", "youtube")
PARTS = ("train", "val")


@DATASETS.register_module()
class DavisVideos(BaseDataset):
    """One item is one video: the paths of its frames and masks. Nothing is decoded here.

    Args:
        data_root: Folder that holds JPEGImages and Annotations.
        style: 'davis' or 'youtube', see the module.
        split_file: List of videos below `data_root`, such as 'ImageSets/2017/val.txt'; None for
            all folders, sorted.
        resolution: Folder below JPEGImages and Annotations, '480p' or 'Full-Resolution', or None.
        selection: Split of the same data whose videos only choose layer and setting: a mapping
            with `split_file` or `part`. They come first, with the purpose 'select', all others
            with 'report'; a video of both is refused. None chooses nothing.
        scored: Whether masks of later frames are there to score with. False asks for first masks
            alone, as in the hidden test sets, and results can only be written (purpose 'write').
        part: 'train' or 'val' of a set that has no split of its own: the share `val_share` of the
            videos with the lowest sha256 of their names is 'val'. None takes all.
        val_share: See `part`.
        bits: Of 16-bit frames; see `pe_dense.data.picture`. Set by `image_bits` of a config.
        test_mode, lazy_init: As in MMEngine.

    Raises:
        ValueError: If an option is unknown, a folder, list, frame or mask is missing, a video is
            listed twice, or is too short to be scored.
    """

    METAINFO: ClassVar[dict] = dict(dataset_type="video_objects")

    def __init__(
        self,
        data_root: str,
        style: str = "davis",
        split_file: str | None = None,
        resolution: str | None = None,
        selection: Mapping[str, Any] | None = None,
        scored: bool = True,
        part: str | None = None,
        val_share: float = 0.2,
        bits: int | None = None,
        test_mode: bool = True,
        lazy_init: bool = False,
    ) -> None:
        for name, value, known in (
            ("style", style, STYLES),
            ("part", part, (None, *PARTS)),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r} is unknown; choose one of {known}")
        if not 0 < val_share < 1:
            raise ValueError(f"val_share={val_share} must lie between 0 and 1")
        unknown = sorted(set(selection or {}) - {"split_file", "part"})
        if unknown:
            raise ValueError(f"selection has {unknown[0]!r}; it may name split_file and part")
        if selection is not None and not scored:
            raise ValueError("selection needs scored videos; leave selection or scored=False out")
        self.style, self.selection, self.scored = style, selection, scored
        self.split_file, self.resolution = split_file, resolution
        self.part, self.val_share, self.bits = part, val_share, require_bits(bits)
        super().__init__(ann_file="", data_root=data_root, test_mode=test_mode, lazy_init=lazy_init)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Paths of every video, checked without decoding."""
        root = Path(self.data_root)
        images, masks = (
            root / name / (self.resolution or "") for name in ("JPEGImages", "Annotations")
        )
        for folder in (images, masks):
            if not folder.is_dir():
                raise ValueError(
                    f"folder {folder} does not exist; set data_root to a data set laid out like "
                    "DAVIS, and resolution to the folder below JPEGImages if there is one"
                )
        splits = {"report": dict(split_file=self.split_file, part=self.part)}
        if self.selection is not None:
            splits = {"select": {"split_file": None, "part": None, **self.selection}} | splits
        videos: list[dict[str, Any]] = []
        for purpose, split in splits.items():
            listed = self._listed(root, images, split["split_file"])
            names = part_of_videos(listed, split["part"], self.val_share)
            if not names:
                raise ValueError(
                    f"no video to {purpose} is left of {images}; check split_file and part"
                )
            if shared := {video["video"] for video in videos} & set(names):
                raise ValueError(
                    f"video {images / min(shared)} is to choose the setting and to be reported; "
                    "selection needs other videos"
                )
            videos += [self._video(name, images / name, masks / name, purpose) for name in names]
        return videos

    @property
    def num_reported(self) -> int:
        """Videos that scores are of, those for selection left out."""
        return sum(self.get_data_info(i)["purpose"] == "report" for i in range(len(self)))

    def prepare_data(self, idx: int) -> dict[str, Any]:
        """An empty tensor, so that collating has one, and a sample with the paths as metainfo."""
        return {
            "inputs": torch.empty(0),
            "data_samples": BaseDataElement(metainfo=self.get_data_info(idx)),
        }

    def _listed(self, root: Path, images: Path, split_file: str | None) -> list[str]:
        if split_file is None:
            folders = (path for path in images.iterdir() if path.is_dir())
            return sorted(path.name for path in folders if not path.name.startswith("."))
        path = root / split_file
        if not path.is_file():
            raise ValueError(f"list of videos {path} does not exist; check split_file")
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"list of videos {path} is no text; save it as UTF-8") from error
        names = [line.strip() for line in lines]
        names = [name for name in names if name]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{path} lists {repeated[0]!r} twice; remove one of the lines")
        return names

    def _video(self, name: str, images: Path, masks: Path, purpose: str) -> dict[str, Any]:
        if not images.is_dir():
            raise ValueError(f"video {name!r} has no folder {images}; download it or unlist it")
        numbered = frame_files(images)
        if not numbered:
            raise ValueError(f"video {name!r} has no frame in {images}; download it or unlist it")
        found = frame_files(masks) if masks.is_dir() else {}
        for number, mask in found.items():
            if mask.suffix.lower() != ".png":
                raise ValueError(f"mask {mask} is no PNG; save it as an indexed PNG, without loss")
            if number not in numbered:
                raise ValueError(
                    f"mask {mask} has no frame of its number in {images}; remove it, or add the "
                    "frame"
                )
        annotated = [number in found for number in numbered]
        frames = list(numbered.items())
        if not any(annotated) or (self.style == "davis" and not annotated[0]):
            raise ValueError(
                f"video {name!r} has no mask of its first frame, {masks / frames[0][1].stem}.png; "
                "labels are passed on from there"
            )
        first = annotated.index(True)
        frames, annotated = frames[first:], annotated[first:]
        if self.scored and self.style == "davis" and not all(annotated):
            missing = frames[annotated.index(False)][1].stem
            raise ValueError(
                f"video {name!r} has no mask {masks / missing}.png; scoring needs one for every "
                f"frame (style='davis'); to only track, {UNSCORED}"
            )
        needed = 3 if self.style == "davis" else 2
        if self.scored and sum(annotated) < needed:
            raise ValueError(
                f"video {name!r} has {sum(annotated)} annotated frames; scoring needs {needed} "
                f"(style={self.style!r}): unlist it; to only track, {UNSCORED}"
            )
        return dict(
            video=name,
            frame_paths=tuple(str(frame) for _, frame in frames),
            mask_paths=tuple(str(found[n]) if n in found else None for n, _ in frames),
            style=self.style,
            purpose=purpose if self.scored else "write",
            scored=self.scored,
            bits=self.bits,
        )


def part_of_videos(names: Sequence[str], part: str | None, val_share: float) -> list[str]:
    """The videos of one part in their order; parts do not overlap and together are all.

    Example:
        >>> sorted(part_of_videos("abcde", "train", 0.4) + part_of_videos("abcde", "val", 0.4))
        ['a', 'b', 'c', 'd', 'e']
    """
    if part is None:
        return list(names)
    by_hash = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    held = set(by_hash[: math.ceil(val_share * len(names))])
    return [name for name in names if (name in held) == (part == "val")]
