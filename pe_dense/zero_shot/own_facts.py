"""What configs for a person's own pictures find in the data: its name, and a hash of labels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pe_dense.files import file_sha256


def class_facts(names: Mapping[str, Any]) -> dict[str, Any]:
    """The `data_facts` of configs/zero_shot/*_custom.py.

    Args:
        names: Of the config: `data_root`.

    Returns:
        name: of the folder; sha256: of the names of classes and files, which are the labels.

    Raises:
        ValueError: If data_root is not given or holds no folder of a class.
    """
    root = _own_root(names)
    files = sorted(
        path.relative_to(root).as_posix()
        for folder in root.iterdir()
        if folder.is_dir() and folder.name[:1] != "."
        for path in folder.iterdir()
        if path.is_file() and path.name[:1] != "."
    )
    if not files:
        raise ValueError(f"{root} has no folder with files; give each class a folder of its own")
    digest = hashlib.sha256("\n".join(files).encode("utf-8", "surrogateescape")).hexdigest()
    return dict(name=root.resolve().name, sha256=digest)


def caption_facts(names: Mapping[str, Any]) -> dict[str, Any]:
    """The `data_facts` of configs/retrieval/*_custom.py.

    Args:
        names: Of the config: `data_root`, `captions`.

    Returns:
        name: of the folder; sha256: of the file of captions.

    Raises:
        ValueError: If data_root is not given, or the file is not there.
    """
    root = _own_root(names)
    file = root / str(names["captions"])
    if not file.is_file():
        raise ValueError(
            f'{file} does not exist; write one line for each picture, {{"image": "a.jpg", '
            '"captions": ["..."]}, or name the file with --cfg-options captions=FILE'
        )
    return dict(name=root.resolve().name, sha256=file_sha256(file))


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
