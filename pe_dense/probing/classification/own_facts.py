"""What configs for own class folders find in them: parts, classes, labels, a schedule."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TRAIN_FOLDERS = ("train",)
VAL_FOLDERS = ("val", "valid", "validation", "test")
SPLIT = 0.2
# Pictures of a batch, and the fewest and the most that are seen: features are read, not computed.
BATCH, SEEN, EPOCHS = 256, (64_000, 12_800_000), 30


def facts(names: Mapping[str, Any]) -> dict[str, Any]:
    """The `data_facts` of configs/classification/*_custom.py.

    Two layouts: DIR/train/<class>/<picture> with DIR/val beside it, or DIR/<class>/<picture>, of
    which `split` of each class is scored.

    Args:
        names: Of the config: `data_root`, `split` and `split_seed`.

    Returns:
        name: of the folder; train_folder, val_folder: below it, '' for the whole; part_train,
        part_val, split: for `ClassImages`; train_sha256, val_sha256: of the names of classes and
        files, which are the labels; sha256: of both; classes, num_classes: folders of the
        training pictures;
        batch_size, max_epochs.

    Raises:
        ValueError: If data_root is not given or holds no class folders, if the classes of train and
            val differ, or `split` is given for a folder that has parts of its own.
    """
    if not names.get("data_root"):
        raise ValueError(
            "this config is for your own pictures: say where the folder lies with --cfg-options "
            "data_root=DIR"
        )
    root = Path(os.path.expanduser(names["data_root"]))  # noqa: PTH111 (leaves a folder called ~t)
    if not root.is_dir():
        raise ValueError(f"data_root {root} does not exist; pass --cfg-options data_root=DIR")
    share, seed = names.get("split"), names.get("split_seed") or 0
    # A folder of pictures is a class, which may be called 'train', as among vehicles.
    train = next((name for name in TRAIN_FOLDERS if _has_folders(root / name)), None)
    if train is None:
        listed = _listed(root)
        share = SPLIT if share is None else share
        digest = _sha256(root, listed, f"split {share} seed {seed}")
        parts: dict[str, Any] = dict(
            train_folder="", val_folder="", part_train="train", part_val="val", split=share,
            train_sha256=digest, val_sha256=digest,
        )  # fmt: skip
        num_train = sum(len(files) for files in listed.values()) * (1 - share)
    else:
        if share is not None:
            raise ValueError(f"{root / train} is there, so that split={share} would change nothing")
        val = next((name for name in VAL_FOLDERS if _has_folders(root / name)), None)
        if val is None:
            raise ValueError(
                f"{root} has {train} and nothing to score; put class folders into {root / 'val'}"
            )
        listed = _listed(root / train)
        require_same_classes(
            tuple(listed), tuple(_listed(root / val)), str(root / train), str(root / val)
        )
        parts = dict(
            train_folder=train, val_folder=val, part_train="all", part_val="all", split=None,
            train_sha256=_sha256(root / train, listed, ""),
            val_sha256=_sha256(root / val, _listed(root / val), ""),
        )  # fmt: skip
        num_train = sum(map(len, listed.values()))
    if len(listed) < 2:
        raise ValueError(
            f"{root} has the class {next(iter(listed))!r} alone, so that every picture is right; "
            "add folders of other classes"
        )
    both = hashlib.sha256(f"{parts['train_sha256']} {parts['val_sha256']}".encode()).hexdigest()
    return dict(
        name=root.resolve().name,
        sha256=both,
        classes=list(listed),
        num_classes=len(listed),
        **parts,
        **schedule(int(num_train)),
    )


def schedule(num_train: int) -> dict[str, int]:
    """Batch and epochs for so many training pictures, all epochs together within `SEEN`.

    Example:
        >>> schedule(1000), schedule(10_000)
        ({'batch_size': 250, 'max_epochs': 64}, {'batch_size': 256, 'max_epochs': 30})
    """
    batch = max(2, min(BATCH, num_train // 4))
    low, high = (max(1, round(seen / max(1, num_train))) for seen in SEEN)
    return dict(batch_size=batch, max_epochs=min(max(EPOCHS, low), max(1, high)))


def require_same_classes(
    train: tuple[str, ...], val: tuple[str, ...], train_name: str, val_name: str
) -> None:
    """Refuse classes that are learned and not scored, or scored and not learned.

    Raises:
        ValueError: If so; it names the first class.
    """
    for here, there, where, other in (
        (train, val, train_name, val_name),
        (val, train, val_name, train_name),
    ):
        lacking = sorted(set(here) - set(there))
        if lacking:
            raise ValueError(
                f"{where} has class {lacking[0]!r}, which {other} lacks ({len(lacking)} such); "
                "give both the same folders"
            )


def _has_folders(root: Path) -> bool:
    return root.is_dir() and any(p.is_dir() and p.name[:1] != "." for p in root.iterdir())


def _listed(root: Path) -> dict[str, list[str]]:
    found = {
        folder.name: sorted(p.name for p in folder.iterdir() if p.is_file() and p.name[:1] != ".")
        for folder in sorted(root.iterdir())
        if folder.is_dir() and folder.name[:1] != "."
    }
    if not found:
        raise ValueError(f"{root} has no folder; give each class a folder of its own")
    return found


def _sha256(root: Path, listed: Mapping[str, list[str]], more: str) -> str:
    lines = [f"{folder}/{name}" for folder, files in listed.items() for name in files]
    text = "\n".join([*lines, more])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
