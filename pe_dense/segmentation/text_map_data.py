"""The checks of data of configs with a linear map: it must have been fitted on their pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pe_dense.data.checks.rules import CheckedData
from pe_dense.segmentation import known_datasets, map_check, own_data
from pe_dense.segmentation.text_map_fit import hashes_of, training_pictures
from pe_dense.text_dense.map_file import load_map, pictures_sha256, require_made_for


def check_maps(cfg: Mapping[str, Any], splits: Sequence[str]) -> CheckedData:
    """`map_check.check_config`, and the pictures of the map.

    Raises:
        ValueError: As there, or if no map is named, or one that was fitted on other pictures.
    """
    return _with_map(cfg, map_check.check_config(cfg, splits))


def check_published(cfg: Mapping[str, Any], splits: Sequence[str]) -> CheckedData:
    """`known_datasets.check_config`, and the pictures of the map; raises as `check_maps`."""
    return _with_map(cfg, known_datasets.check_config(cfg, splits))


def check_own(cfg: Mapping[str, Any], splits: Sequence[str]) -> CheckedData:
    """`own_data.check_config`, and the pictures of the map; raises as `check_maps`."""
    return _with_map(cfg, own_data.check_config(cfg, splits))


def _with_map(cfg: Mapping[str, Any], checked: CheckedData) -> CheckedData:
    named = cfg["model"]["backbone"]["map_file"]
    if named is None:
        raise ValueError(
            "no map is named; fit one with tools/fit_text_map.py on this config, and name it with "
            "--cfg-options map_file=FILE"
        )
    path = Path(named).expanduser()
    _, facts = load_map(path)
    require_made_for(
        facts, path, pictures_sha256=pictures_sha256(hashes_of(training_pictures(cfg)))
    )
    table = "\n".join(filter(None, [checked.table, facts.in_words()]))
    return dataclasses.replace(checked, table=table)
