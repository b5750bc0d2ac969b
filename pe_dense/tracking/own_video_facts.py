"""What a config for own videos finds in the data, and the table that is printed before its run."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS

from pe_dense.data.checks.remembered import Answer, remembered
from pe_dense.data.checks.rules import CheckedData
from pe_dense.data.checks.text_table import text_table
from pe_dense.files import file_sha256
from pe_dense.tracking import video_check
from pe_dense.tracking.own_layout import OwnClip, find_clips
from pe_dense.tracking.own_videos import OwnVideos, clip_rows


def facts(names: Mapping[str, Any]) -> dict[str, Any]:
    """The `data_facts` of vos_custom.py.

    Args:
        names: Of the config: `data_root`, `split_file`, `holdout_share`.

    Returns:
        name: of the folder; sha256: of the masks of the clips that are not only there to choose a
        layer; layers: 'all' where some clips choose one, else 'middle'.

    Raises:
        ValueError: If data_root is not given, or as `find_clips`.
    """
    root = own_root(names)
    clips = find_clips(root, names.get("split_file"))
    chooses = bool(names.get("holdout_share")) or any(clip.purpose == "select" for clip in clips)
    reported = [clip for clip in clips if clip.purpose == "report"]
    question = {"masks of": [[clip.name, str(clip.masks)] for clip in reported]}
    return dict(
        name=root.resolve().name,
        sha256=remembered(root, question, functools.partial(_hash_masks, reported)),
        layers="all" if chooses else "middle",
    )


def own_root(names: Mapping[str, Any]) -> Path:
    """The folder that a person named.

    Raises:
        ValueError: If none was named, or it is none.
    """
    if not names.get("data_root"):
        raise ValueError(
            "this config is for your own videos: say where the folder lies with --cfg-options "
            "data_root=DIR"
        )
    root = Path(os.path.expanduser(names["data_root"]))  # noqa: PTH111 (leaves a folder called ~t)
    if not root.is_dir():
        raise ValueError(f"data_root {root} does not exist; pass --cfg-options data_root=DIR")
    return root


def check_config(cfg: Mapping[str, Any], splits: Sequence[str]) -> CheckedData:
    """The table of the clips, then what `video_check` finds in them.

    Args:
        cfg: Resolved config with a data set `OwnVideos`.
        splits: Not used: there is one loader, for tests.

    Raises:
        ValueError: If a file is missing or cannot be read.
    """
    dataset = DATASETS.build(cfg["test_dataloader"]["dataset"])
    found = video_check.check_config(cfg, splits)
    if not isinstance(dataset, OwnVideos):
        return found
    videos = [dataset.get_data_info(i) for i in range(len(dataset))]
    table = text_table(clip_rows(videos))
    model = cfg["model"]
    lines = [found.table, "", table, _layer_words(model.get("layers"), model["encoder_depth"])]
    return CheckedData("\n".join(lines), found.findings, found.rules)


def _layer_words(layers: Any, depth: int) -> str:
    from pe_dense.tracking.video_propagator import middle_block

    if layers == "middle":
        return (
            f"layer: block {middle_block(depth)} of 0 to {depth - 1}, a middle one, since no clip "
            "is there to choose one on (train.txt, train/ or holdout_share=0.3 would name some; "
            "layers=[N] sets it)"
        )
    if layers == "all":
        return f"layer: the best of 0 to {depth - 1} on the clips that choose it"
    return f"layers: {layers} of 0 to {depth - 1}"


def _hash_masks(clips: Sequence[OwnClip]) -> Answer:
    digest, read = hashlib.sha256(), []
    for clip in clips:
        files = [] if clip.masks is None else [clip.masks]
        if clip.masks is not None and clip.masks.is_dir():
            files = sorted(p for p in clip.masks.rglob("*") if not p.name.startswith("."))
            read += [clip.masks, *(p for p in files if p.is_dir())]
        for file in files:
            if file.is_file():
                name = file.name if file == clip.masks else file.relative_to(clip.masks).as_posix()
                digest.update(f"{clip.name} {name} {file_sha256(file)}\n".encode())
                read.append(file)
    return Answer(digest.hexdigest(), read)
