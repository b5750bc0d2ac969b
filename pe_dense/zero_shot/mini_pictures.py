"""Pictures of the mini world with captions and in folders of classes, drawn where they are missing.

    ROOT/mini_named-<what it depends on>/captions.jsonl
                                        /pictures/0000.png ...
                                        /ground/<colour>/0000.png ...

The classes are the colours of the ground, the part of the backdrop whose colours are most evenly
spread; a picture that shows too little ground to be spoken of is in no class.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS
from PIL import Image

from pe_dense.files import code_sha256
from pe_dense.mini_world import world
from pe_dense.mini_world.captions import caption_of
from pe_dense.mini_world.world import make_image
from pe_dense.zero_shot.captioned_pictures import CaptionedPictures
from pe_dense.zero_shot.class_folders import ClassFolders

PART = "ground"


@DATASETS.register_module()
class MiniNamedPictures(ClassFolders):
    """`ClassFolders` of the colours of the ground.

    Args:
        data_root: Folder in which the pictures are kept, made if it is missing.
        split, num_images, world_seed, image_size: See `drawn_pictures`.
        kwargs: See `ClassFolders`.
    """

    def __init__(
        self,
        data_root: str,
        split: str = "val",
        num_images: int = 512,
        world_seed: int = 0,
        image_size: int = 128,
        **kwargs: Any,
    ) -> None:
        root = drawn_pictures(Path(data_root), split, num_images, world_seed, image_size)
        super().__init__(str(root), folder=PART, **kwargs)


@DATASETS.register_module()
class MiniCaptionedPictures(CaptionedPictures):
    """`CaptionedPictures` with one caption each; arguments as in `MiniNamedPictures`."""

    def __init__(
        self,
        data_root: str,
        split: str = "val",
        num_images: int = 512,
        world_seed: int = 0,
        image_size: int = 128,
        **kwargs: Any,
    ) -> None:
        root = drawn_pictures(Path(data_root), split, num_images, world_seed, image_size)
        super().__init__(str(root), "captions.jsonl", folder="pictures", **kwargs)


def drawn_pictures(
    root: Path,
    split: str = "val",
    num_images: int = 512,
    world_seed: int = 0,
    image_size: int = 128,
) -> Path:
    """The folder of so many pictures of a split, drawn if it is not there.

    Args:
        root: Where it is kept, under a name that says all that it depends on.
        split: 'train' or 'val' of the mini world.
        num_images: Pictures, from the first.
        world_seed: Seed of the mini world.
        image_size: Side of the square pictures in pixels.

    Raises:
        ValueError: If a number is out of range.
    """
    if num_images < 2:
        raise ValueError(f"num_images={num_images} leaves nothing to choose from; use 2 or more")
    code = code_sha256(Path(world.__file__).parent)[:8]
    target = root / f"mini_named-code{code}-seed{world_seed}-{split}-{num_images}-{image_size}px"
    if target.is_dir():
        return target
    root.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".", suffix=".tmp", dir=root))
    try:
        (folder / "pictures").mkdir()
        lines = []
        for i in range(num_images):
            frame = make_image(world_seed, split, i, image_size)
            caption, name = caption_of(frame), f"{i:04d}.png"
            Image.fromarray(frame.image).save(folder / "pictures" / name)
            lines.append(json.dumps({"image": name, "captions": [caption]}))
            if (colour := colour_of(caption, PART)) is not None:
                (folder / PART / colour).mkdir(parents=True, exist_ok=True)
                _link(folder / "pictures" / name, folder / PART / colour / name)
        (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="ascii")
        with contextlib.suppress(OSError):  # another process was faster
            folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return target


def colour_of(caption: str, part: str) -> str | None:
    """The colour that a caption says of a part of the backdrop; None where it does not.

    Example:
        >>> colour_of("one disc : red disc left near : red sky , green ground", "ground")
        'green'
    """
    words = caption.split()
    return words[words.index(part) - 1] if part in words else None


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # no hard links here
        shutil.copyfile(source, target)
