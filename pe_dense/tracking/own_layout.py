"""Finding the clips of a person's folder, and the masks or boxes that belong to each.

A clip is a folder of numbered frames or a video file; its name is that of the folder or file.

    images/<clip>/*.jpg   or  videos/<clip>.mp4      with masks/<clip>/*.png  or  masks/<clip>.png
    JPEGImages/480p/<clip>/*.jpg                     with Annotations/480p/<clip>/*.png  (DAVIS)
    <clip>/frames/*.jpg                              with <clip>/masks/*.png
    <clip>.mp4                                       with <clip>/*.png, <clip>_masks/ or <clip>.png
    frames/*.jpg, or *.jpg in the folder itself      with masks/*.png: the folder is one clip

A folder of masks holds one mask for each frame, or one folder for each object. Words for folders
of frames and of masks are listed below; upper and lower case are equal. What counts, and what
layers are chosen on, may be said by lists (ImageSets/2017/, ImageSets/ or the folder itself:
train.txt chooses, val.txt is reported) or by the folders train/ and val/.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pe_dense.data.image_files import PICTURE_SUFFIXES
from pe_dense.data.video_file import VIDEO_SUFFIXES, is_video_file

FRAME_WORDS = (
    "jpegimages", "images", "frames", "videos", "clips", "video", "imgs", "img", "img1", "rgb",
    "sequences",
)  # fmt: skip
MASK_WORDS = ("annotations", "masks", "mask", "labels", "gt", "segmentations", "segmentation")
SPLITS = {"select": ("train", "training"), "report": ("val", "valid", "validation", "test")}
LIST_FOLDERS = ("ImageSets/2017", "ImageSets", "")


@dataclass(frozen=True)
class OwnClip:
    """A clip as it lies on the disk.

    Attributes:
        name: Of the clip.
        source: A folder of frames, or a video file.
        masks: A folder of masks, or the mask of the first frame; None where there is none.
        purpose: 'select' where it chooses a layer, else 'report'.
    """

    name: str
    source: Path
    masks: Path | None
    purpose: str = "report"

    @property
    def is_file(self) -> bool:
        """Whether it is a video file."""
        return self.source.is_file()


def find_clips(root: Path, split_file: str | None = None) -> list[OwnClip]:
    """The clips of a folder that count, by purpose and name.

    Args:
        root: The folder.
        split_file: List of the clips to report, below `root`; None: see the module.

    Raises:
        ValueError: If the folder is missing or holds no clip, two have one name, or a list names
            one that is not there.
    """
    if not root.is_dir():
        raise ValueError(f"data_root {root} does not exist; pass --cfg-options data_root=DIR")
    by_folder = {
        purpose: next((c for word in words if (c := _child(root, (word,)))), None)
        for purpose, words in SPLITS.items()
    }
    if by_folder["report"] and not _child(root, FRAME_WORDS):
        clips = [
            OwnClip(clip.name, clip.source, clip.masks, purpose)
            for purpose, folder in by_folder.items()
            if folder is not None
            for clip in _clips_of(folder)
        ]
    else:
        clips = _clips_of(root)
    if not clips:
        raise ValueError(
            f"{root} holds no clip; put folders of numbered frames or video files "
            f"({', '.join(suffix.lstrip('.') for suffix in VIDEO_SUFFIXES[:6])}) into "
            f"{root / 'videos'}"
        )
    require_single_names(clips)
    return _listed(root, clips, split_file)


def require_single_names(clips: Sequence[OwnClip]) -> None:
    """Refuse two clips of one name.

    Raises:
        ValueError: Naming both.
    """
    known: dict[str, Path] = {}
    for clip in clips:
        if clip.name in known:
            raise ValueError(
                f"{known[clip.name]} and {clip.source} are two clips of the name {clip.name!r}, "
                "so their masks and results cannot be told apart; rename one"
            )
        known[clip.name] = clip.source


def _clips_of(root: Path) -> list[OwnClip]:
    frames, masks = _child(root, FRAME_WORDS), _child(root, MASK_WORDS)
    if frames is None:
        found = _clips_in(root, masks)
        if not found and _has_pictures(root):  # frames lie in the folder itself
            return [OwnClip(root.resolve().name, root, _masks_in(masks))]
        return found
    if _has_pictures(frames):  # the folder is one clip
        return [OwnClip(root.resolve().name, frames, _masks_in(masks))]
    deeper = _resolution(frames, masks)
    if deeper is not None:
        frames, masks = frames / deeper, None if masks is None else masks / deeper
    return _clips_in(frames, masks)


def _clips_in(folder: Path, masks: Path | None) -> list[OwnClip]:
    """Clips whose folders or files lie in a folder; `masks` holds those of all, if there is one."""
    entries = sorted(e for e in folder.iterdir() if not e.name.startswith("."))
    files = [entry for entry in entries if entry.is_file() and is_video_file(entry)]
    stems = {file.stem for file in files}
    clips = [OwnClip(file.stem, file, _masks_of(file.stem, folder, masks)) for file in files]
    for entry in entries:
        is_masks = entry.name.lower() in MASK_WORDS or _names_masks(entry.name)
        is_masks |= any(clip.masks == entry for clip in clips if clip.name in stems)
        if not entry.is_dir() or is_masks:
            continue
        inner = _child(entry, FRAME_WORDS)
        if inner is not None and _has_pictures(inner):
            own = _masks_in(_child(entry, MASK_WORDS))
            clips.append(OwnClip(entry.name, inner, own or _masks_of(entry.name, folder, masks)))
        elif inner_file := _only_video(entry):
            own = _masks_in(_child(entry, MASK_WORDS))
            clips.append(
                OwnClip(entry.name, inner_file, own or _masks_of(entry.name, folder, masks))
            )
        elif _has_pictures(entry):
            clips.append(OwnClip(entry.name, entry, _masks_of(entry.name, folder, masks)))
    return sorted(clips, key=lambda clip: clip.name)


def _masks_of(name: str, folder: Path, masks: Path | None) -> Path | None:
    """The masks of a clip: in the folder for masks, else beside the clip."""
    for place in (masks, folder):
        if place is None:
            continue
        names = [f"{name}_masks", f"{name}_mask", f"{name}-masks", f"{name}.masks"]
        is_video = any((folder / f"{name}{suffix}").is_file() for suffix in VIDEO_SUFFIXES)
        if place == masks or is_video:  # a folder beside a folder of frames is another clip
            names.insert(0, name)
        for candidate in names:
            if found := _masks_in(place / candidate):
                return found
        for stem in (name, f"{name}_mask"):
            for suffix in PICTURE_SUFFIXES:
                if (place / f"{stem}{suffix}").is_file():
                    return place / f"{stem}{suffix}"
    return None


def _masks_in(folder: Path | None) -> Path | None:
    """The folder, if it holds pictures or folders of pictures."""
    if folder is None or not folder.is_dir():
        return None
    inner = any(_has_pictures(child) for child in folder.iterdir() if child.is_dir())
    return folder if inner or _has_pictures(folder) else None


def _names_masks(name: str) -> bool:
    return name.lower().endswith(("_masks", "_mask", "-masks", ".masks"))


def _child(folder: Path, words: Iterable[str]) -> Path | None:
    """The first folder inside that is called as one of the words."""
    inside = {e.name.lower(): e for e in sorted(folder.iterdir()) if e.is_dir()}
    return next((inside[word] for word in words if word in inside), None)


def _has_pictures(folder: Path) -> bool:
    return folder.is_dir() and any(
        entry.suffix.lower() in PICTURE_SUFFIXES and not entry.name.startswith(".")
        for entry in folder.iterdir()
    )


def _only_video(folder: Path) -> Path | None:
    found = [
        entry for entry in sorted(folder.iterdir()) if entry.is_file() and is_video_file(entry)
    ]
    return found[0] if len(found) == 1 else None


def _resolution(frames: Path, masks: Path | None) -> str | None:
    """The folder between, such as '480p', where all clips lie in it."""
    if any(is_video_file(entry) for entry in frames.iterdir()):
        return None
    folders = [e for e in sorted(frames.iterdir()) if e.is_dir() and not e.name.startswith(".")]
    deep = [f for f in folders if not _has_pictures(f) and _child(f, FRAME_WORDS) is None
            and any(_has_pictures(c) for c in f.iterdir() if c.is_dir())]  # fmt: skip
    if len(folders) != len(deep):
        return None
    names = [f.name for f in deep if masks is None or (masks / f.name).is_dir()]
    if "480p" in names:
        return "480p"
    if len(names) > 1:
        raise ValueError(
            f"{frames} has the clips in several sizes ({', '.join(names)}); keep one of them"
        )
    return names[0] if names else None


def _listed(root: Path, clips: list[OwnClip], split_file: str | None) -> list[OwnClip]:
    """The clips that lists name, where there are lists."""
    lists: dict[str, Path | None] = {"select": None, "report": None}
    if split_file is not None:
        lists["report"] = root / split_file
        if not lists["report"].is_file():
            raise ValueError(f"list of clips {root / split_file} does not exist; check split_file")
    for purpose, words in SPLITS.items():
        files = (root / at / f"{word}.txt" for at in LIST_FOLDERS for word in words)
        lists[purpose] = lists[purpose] or next((f for f in files if f.is_file()), None)
    if not any(lists.values()):
        return sorted(clips, key=lambda clip: clip.purpose != "select")
    by_name = {clip.name: clip for clip in clips}
    purposes: dict[str, str] = {}
    for purpose, file in lists.items():
        for name in () if file is None else _names_in(file):
            if name not in by_name:
                raise ValueError(f"{file} lists {name!r}, and there is no such clip; unlist it")
            purposes.setdefault(name, purpose)
    if lists["report"] is None:
        purposes |= {name: "report" for name in by_name if name not in purposes}
    found = [
        OwnClip(name, by_name[name].source, by_name[name].masks, purpose)
        for name, purpose in purposes.items()
    ]
    if not any(clip.purpose == "report" for clip in found):
        raise ValueError(f"{lists['select']} lists every clip, and none is left to report")
    return sorted(found, key=lambda clip: clip.purpose != "select")


def _names_in(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"list of clips {file} is no text; save it as UTF-8") from error
    names = [line.strip() for line in lines]
    return [name for name in names if name]
