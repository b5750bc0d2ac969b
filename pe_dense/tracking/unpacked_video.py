"""Video files as folders of frames, and masks of all kinds as indexed PNGs, made once.

Training, tests and pictures read frames as files, by name and in any order. Frames are kept without
loss beside the data (in '.pe_dense', see `remembered`), named by their number from 0, until the
file changes. Deleting them is always safe.

Shape legend: H W pixels.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from mmengine.logging import print_log
from PIL import Image

from pe_dense.data.checks.remembered import folder_for, stamp
from pe_dense.data.video_file import read_video, video_facts
from pe_dense.tracking.frames import write_label_map
from pe_dense.tracking.own_masks import read_object_masks, read_own_mask

LINE = "frames.txt"  # how many there are; it is written last
BYTES_PER_PIXEL = 2.0  # of a PNG of a photo, at most


def unpacked_frames(video: Path, root: Path) -> list[Path]:
    """Files of all frames of a video file, in order.

    Args:
        video: The file.
        root: Folder of the data, in or for which they are kept.

    Raises:
        ValueError: If the video cannot be decoded to its end, or there is no room for its frames.
    """

    def write(folder: Path) -> None:
        facts = video_facts(video)
        needed = (facts.stated_frames or 0) * facts.height * facts.width * BYTES_PER_PIXEL
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise ValueError(
                f"video {video} has {facts.stated_frames} frames, which take up to "
                f"{needed / 2**30:.1f} GiB in {folder.parent}, where {free / 2**30:.1f} are free; "
                "shorten it, or predict on it with tools/predict.py, which keeps no frames"
            )
        print_log(f"unpacking {video} once, into {folder.parent}", logger="current")
        for frame in read_video(video):
            content = io.BytesIO()
            Image.fromarray(frame.image_HW3).save(content, "PNG", compress_level=1)
            (folder / f"{frame.number:05d}.png").write_bytes(content.getvalue())

    return _made(root, "frames", video.stem, [video], write)


def indexed_masks(masks: Mapping[int, Path | Mapping[int, Path]], root: Path, name: str) -> dict:
    """Each mask as an indexed PNG: those that are one already stay where they are.

    Args:
        masks: By number of the frame: a file, or the file of each object by its id.
        root: As for `unpacked_frames`.
        name: Of the clip.

    Returns:
        Number of the frame -> file.

    Raises:
        ValueError: If a mask cannot be read or names no objects.
    """
    if all(isinstance(mask, Path) and _is_indexed(mask) for mask in masks.values()):
        return dict(masks)

    def write(folder: Path) -> None:
        for number, mask in masks.items():
            read = read_own_mask if isinstance(mask, Path) else read_object_masks
            labels_HW: np.ndarray = read(mask)
            write_label_map(folder / f"{number:05d}.png", labels_HW)

    files = [
        file
        for mask in masks.values()
        for file in ([mask] if isinstance(mask, Path) else mask.values())
    ]
    kind = ",".join(map(str, masks))  # which frames they are of counts, too
    return {int(p.stem): p for p in _made(root, "masks", name, files, write, kind)}


def _is_indexed(mask: Path) -> bool:
    try:
        with Image.open(mask) as image:
            return image.format == "PNG" and image.mode == "P"
    except OSError:
        return False  # the one sentence comes from reading it


def _made(
    root: Path,
    kind: str,
    name: str,
    sources: Sequence[Path],
    write: Callable[[Path], None],
    also: str = "",
) -> list[Path]:
    """PNGs that `write` puts into a folder, as they were made before if nothing has changed."""
    stamps = "\n".join(f"{path.resolve()} {stamp(str(path))[0]}" for path in sources)
    digest = hashlib.sha256(f"{stamps}\n{also}".encode("utf-8", "surrogateescape")).hexdigest()
    place = folder_for(root)
    if place is None:
        raise ValueError(
            f"neither {root} nor the user's cache folder can be written, and {kind} of {name} "
            "have to be kept somewhere; set XDG_CACHE_HOME to a folder that can"
        )
    target = place / kind / f"{name}-{digest[:16]}"
    if not (target / LINE).is_file():
        with new_folder(target) as folder:
            write(folder)
            count = len(list(folder.glob("*.png")))
            (folder / LINE).write_text(f"{count}\n")
    files = sorted(target.glob("*.png"))
    if len(files) != int((target / LINE).read_text()):
        raise ValueError(f"{target} has lost some of its files; delete it, and it is made anew")
    return files


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder that takes its name when it is complete; of several processes the first one's."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".", suffix=".tmp", dir=target.parent))
    try:
        yield folder
        with contextlib.suppress(OSError):  # another process was faster
            folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
