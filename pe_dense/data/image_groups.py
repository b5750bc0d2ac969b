"""Which images of a set belong together: frames of one drive, one scene, one city.

Such images look alike, so they are held out together and resampled together. A data set that knows
calls the group of an image its `sequence`; for other data a config gives a rule. Groups are named
from paths below the folder of the data set, so that no machine changes them.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

IMAGE, SEQUENCE, FOUND = "image", "sequence", "found"
LEAST_SEQUENCES = 4  # fewer names before a number are titles, as in IMG_0001.jpg


def cityscapes_city(path: str) -> str | None:
    """The city of a frame of Cityscapes; None if the file is not named as there.

    A train city has 85 to 365 frames. Some of them follow each other within seconds, and names do
    not tell which: nothing smaller than a city is apart for certain.

    Example:
        >>> cityscapes_city("leftImg8bit/train/ulm/ulm_000021_000019_leftImg8bit.png")
        'ulm'
    """
    found = re.match(r"([a-z-]+)_\d{6}_\d{6}", _posix(path).rpartition("/")[2])
    return None if found is None else found.group(1)


def kitti_drive(path: str) -> str | None:
    """The drive that a KITTI path names; None if it names none.

    Example:
        >>> kitti_drive("2011_09_26/2011_09_26_drive_0002_sync/image_02/data/0000000069.png")
        '2011_09_26_drive_0002_sync'
    """
    found = re.search(r"\d{4}_\d{2}_\d{2}_drive_\d{4}_sync", path)
    return None if found is None else found.group()


def nyu_scene(path: str) -> str:
    """The folder of a frame of NYUv2 without the letter of its recording.

    kitchen_0029a, b and c are recordings of one room, which the official split keeps together:
    284 folders are its 249 training scenes. Test frames lie in folders of a type of room.

    Example:
        >>> nyu_scene("kitchen_0029b/rgb_00045.jpg"), nyu_scene("bathroom/rgb_00045.jpg")
        ('kitchen_0029', 'bathroom')
    """
    folder = _posix(path).rpartition("/")[0] or "."
    return re.sub(r"(_\d{4})[a-z]$", r"\1", folder)


def group_names(
    infos: Sequence[Mapping[str, Any]], rule: str, data_root: str | None = None
) -> list[str]:
    """The group of every image.

    Args:
        infos: Samples of a data set with 'img_path'.
        rule: 'image': every image is alone, called by its file name. 'sequence': as the data set
            says in `sequence`. 'found': as the data set says, else as names tell, else every
            image is alone; see `told_by_names`. Anything else is a regular expression that is
            searched for in the path below `data_root`, with '/' between folders; what its
            brackets hold names the group: '(clip_[0-9]+)/'.
        data_root: Folder of the data set; None or '' for paths that begin there.

    Returns:
        Names, accents composed (NFC) as some file systems have them and others not.

    Raises:
        ValueError: If images stay without a group, or the rule cannot be right for them.

    Example:
        >>> group_names([{"img_path": "d/a_1.jpg"}, {"img_path": "d/a_2.jpg"}], "([a-z]+)_", "d")
        ['a', 'a']
    """
    paths = [str(info["img_path"]) for info in infos]
    return [unicodedata.normalize("NFC", name) for name in _named_by(rule, infos, paths, data_root)]


def _named_by(
    rule: str, infos: Sequence[Mapping[str, Any]], paths: Sequence[str], data_root: str | None
) -> list[str]:
    if rule == IMAGE:
        return _alone(infos, paths)
    if rule == SEQUENCE:
        without = next((p for p, info in zip(paths, infos, strict=True) if not _named(info)), None)
        if without is not None:
            raise ValueError(
                f"group 'sequence' needs a data set that names sequences, but {without} has none; "
                "use a pattern of their paths, or 'image' if no two pictures are of one scene"
            )
        return [str(info["sequence"]) for info in infos]
    if rule == FOUND:
        return _found(infos, paths, data_root)
    return [_matched(rule, path, data_root) for path in paths]


def _found(
    infos: Sequence[Mapping[str, Any]], paths: Sequence[str], data_root: str | None
) -> list[str]:
    named = [name for name in map(_named, infos) if name is not None]
    if len(named) == len(infos):
        return named
    below = [_posix(path) for path in paths]
    root = PurePosixPath(_posix(data_root or ""))
    if all(PurePosixPath(path).is_relative_to(root) for path in below):
        below = [str(PurePosixPath(path).relative_to(root)) for path in below]
    below = _without_shared_folders(below)
    bare = [str(PurePosixPath(path).with_suffix("")) for path in below]
    alone = bare if len(set(bare)) == len(bare) else below  # a.png may be a.jpg of another layout
    return told_by_names(below) or alone


def _without_shared_folders(paths: Sequence[str]) -> list[str]:
    """Paths without the folders in front that all of them share.

    Names decide what is held out, and the same pictures in another layout (images/train/a.jpg,
    train/a.jpg) are the same.

    Example:
        >>> _without_shared_folders(["images/train/a.jpg", "images/train/clip_1/b.jpg"])
        ['a.jpg', 'clip_1/b.jpg']
    """
    parts = [PurePosixPath(path).parts for path in paths]
    shared = 0
    for level in zip(*(part[:-1] for part in parts), strict=False):
        if len(set(level)) > 1:
            break
        shared += 1
    return ["/".join(part[shared:]) for part in parts]


def told_by_names(paths: Sequence[str]) -> list[str] | None:
    """The sequence of each path, what stands before the last number of its name; None for none.

    There must be at least four, with two pictures each on average, and none with more than half of
    the pictures.

    Example:
        >>> told_by_names([f"{clip}/frame_{n}.png" for clip in "abcd" for n in (1, 2)])[:3]
        ['a/frame_', 'a/frame_', 'b/frame_']
        >>> told_by_names([f"IMG_{n}.jpg" for n in range(9)]) is None
        True
    """
    found = [re.sub(r"\d+[^\d/]*$", "", path.rpartition(".")[0] or path) for path in paths]
    sizes = Counter(found)
    if len(sizes) < LEAST_SEQUENCES or len(paths) < 2 * len(sizes):
        return None
    return None if max(sizes.values()) > len(paths) / 2 else found


def _alone(infos: Sequence[Mapping[str, Any]], paths: Sequence[str]) -> list[str]:
    sequences = Counter(name for name in map(_named, infos) if name is not None)
    if sequences and (shared := sequences.most_common(1)[0])[1] > 1:
        raise ValueError(
            f"group 'image' takes pictures one by one, but {shared[1]} of them are of "
            f"{shared[0]!r} and look alike; use 'sequence'"
        )
    names = [_posix(path).rpartition("/")[2] for path in paths]
    if len(set(names)) < len(names):
        name, count = Counter(names).most_common(1)[0]
        raise ValueError(
            f"group 'image' tells pictures apart by their file names, but {count} are called "
            f"{name}; if folders hold sequences, name them by a pattern such as '([^/]+)/[^/]+$'"
        )
    return names


def _matched(rule: str, path: str, data_root: str | None) -> str:
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise ValueError(
            f"group {rule!r} is neither 'image', 'sequence' nor a regular expression ({error})"
        ) from None
    if not pattern.groups:
        raise ValueError(
            f"group {rule!r} is neither 'image' nor 'sequence', and as a pattern it has no "
            "brackets around what names a group; write it as '(clip_[0-9]+)/'"
        )
    below = PurePosixPath(_posix(path))
    if data_root:
        if not below.is_relative_to(_posix(data_root)):
            raise ValueError(
                f"{path} lies outside data_root {data_root}, so that group {rule!r} would see "
                "folders of this machine; name a data_root that holds all images"
            )
        below = below.relative_to(_posix(data_root))
    found = pattern.search(str(below))
    if found is None or not all(found.groups()):
        what = "an empty name" if found and None not in found.groups() else "nothing"
        raise ValueError(
            f"group {rule!r} matches {what} in {below}; correct the pattern, or take the image out"
        )
    return "/".join(found.groups())


def _named(info: Mapping[str, Any]) -> str | None:
    return None if info.get("sequence") is None else str(info["sequence"])


def _posix(path: str) -> str:
    return path.replace("\\", "/")
