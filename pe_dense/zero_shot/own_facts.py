"""What configs for a person's own pictures find in the data: its name, and a hash of labels."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pe_dense.files import file_sha256
from pe_dense.zero_shot.caption_files import read_captions

FILES = ("captions.jsonl", "captions.json", "dataset.json", "captions.csv")
FOLDERS = ("", "images", "pictures", "videos", "JPEGImages")


def class_facts(names: Mapping[str, Any]) -> dict[str, Any]:
    """The `data_facts` of configs/zero_shot/*_custom.py.

    Args:
        names: Of the config: `data_root`, `folder` below it, `names` and `templates`.

    Returns:
        name: of the folder; sha256: of the names of classes and files, which are the labels, and of
        what own files of names and sentences hold, since two lists of one path are two protocols.

    Raises:
        ValueError: If data_root is not given or holds no folder of a class.
    """
    data_root = _own_root(names)
    root = data_root / (names.get("folder") or "")
    if not root.is_dir():
        raise ValueError(f"{root} does not exist; correct folder={names['folder']}")
    files = sorted(
        path.relative_to(root).as_posix()
        for folder in root.iterdir()
        if folder.is_dir() and folder.name[:1] != "."
        for path in folder.iterdir()
        if path.is_file() and path.name[:1] != "."
    )
    if not files:
        raise ValueError(f"{root} has no folder with files; give each class a folder of its own")
    files += [f"{path.name} {file_sha256(path)}" for path in _own_lists(names)]
    digest = hashlib.sha256("\n".join(files).encode("utf-8", "surrogateescape")).hexdigest()
    return dict(name=data_root.resolve().name, sha256=digest)


def _own_lists(names: Mapping[str, Any]) -> list[Path]:
    """The files, not the bare names of lists that come along, in `names` and `templates`."""
    templates = names.get("templates") or ()
    given = [names.get("names"), *([templates] if isinstance(templates, str) else templates)]
    paths = [Path(value).expanduser() for value in given if isinstance(value, str)]
    return [path for path in paths if path.suffix in (".json", ".txt") and path.is_file()]


def caption_facts(names: Mapping[str, Any]) -> dict[str, Any]:
    """The `data_facts` of configs/retrieval/*_custom.py.

    Args:
        names: Of the config: `data_root`, and `captions`, `style` and `folder` where a person knows
            better than what is found by looking.

    Returns:
        name: of the folder; captions: the file of captions below it, the first of `FILES` that is
        there; style: by its ending and content; folder: of the pictures, the first of `FOLDERS`
        that has the first one; sha256: of the file of captions.

    Raises:
        ValueError: If data_root is not given, no file is there, or it cannot be read.
    """
    root = _own_root(names)
    given = names.get("captions")
    file = next((name for name in ([given] if given else FILES) if (root / name).is_file()), None)
    if file is None:
        raise ValueError(
            f"{root / (given or FILES[0])} does not exist; write one line for each picture, "
            '{"image": "a.jpg", "captions": ["..."]}, or name the file with --cfg-options '
            "captions=FILE"
        )
    style = names.get("style") or _style(root / file)
    folder = names.get("folder")
    if folder is None:
        first = read_captions(root / file, style)[0].name
        folder = next((name for name in FOLDERS if (root / name / first).is_file()), "")
    return dict(
        name=root.resolve().name,
        captions=file,
        style=style,
        folder=folder,
        sha256=file_sha256(root / file),
    )


def _style(file: Path) -> str:
    if file.suffix in (".jsonl", ".csv"):
        return "jsonl" if file.suffix == ".jsonl" else "msrvtt"
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no JSON ({error}); correct it") from error
    return "coco" if isinstance(content, dict) and "annotations" in content else "karpathy"


def _own_root(names: Mapping[str, Any]) -> Path:
    if not names.get("data_root"):
        raise ValueError(
            "this config is for your own pictures: say where the folder lies with --cfg-options "
            "data_root=DIR"
        )
    root = Path(os.path.expanduser(names["data_root"]))  # noqa: PTH111 (leaves a folder called ~t)
    if not root.is_dir():
        raise ValueError(f"data_root {root} does not exist; pass --cfg-options data_root=DIR")
    return root
