"""Records of older schemas as the current one, and the checksum that shows an edit by hand.

What an older schema did not keep is not known and becomes None; nothing is made up.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pe_dense.results.typed_json import parse

SCHEMA_VERSION = 6


def content_sha256(data: dict[str, Any]) -> str:
    """Checksum of a record's JSON data, 64 hex digits; the key 'content_sha256' does not count."""
    rest = {key: value for key, value in data.items() if key != "content_sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def upgrade(data: dict[str, Any]) -> dict[str, Any]:
    """Record data of any known schema version, as the current version.

    Raises:
        ValueError: If the version is missing, not a whole number, or not known.
    """
    version = _schema_version(data)
    if version > SCHEMA_VERSION:
        raise ValueError(
            f"field 'schema_version' is {version} but this pe_dense reads up to "
            f"{SCHEMA_VERSION}; update pe_dense"
        )
    if version < 1:
        raise ValueError(f"field 'schema_version' is {version}; versions start at 1, correct it")
    # History; a new version adds one step.
    #   1: the first layout.
    #   2: by_layer, source.mark, intervals say what was resampled, content_sha256.
    #   3: selection.
    #   4: training, options, dataset.sha256, encoder.published and .revision, intervals say how
    #      they were made and what they rest on.
    #   5: blind, selection.at_edge.
    #   6: selection.rising, encoder.whole_params.
    if version == 1:
        data = _upgrade_from_1(data)
    if version <= 2:
        data = {**data, "schema_version": 3, "selection": None}
    if version <= 3:
        data = _upgrade_from_3(data)
    if version <= 4:
        data = {**data, "schema_version": 5, "blind": None}
        if isinstance(data.get("selection"), dict):
            data["selection"] = {**data["selection"], "at_edge": None}
    if version <= 5:
        data = {**data, "schema_version": 6}
        if isinstance(data.get("selection"), dict):
            data["selection"] = {**data["selection"], "rising": None}
        if isinstance(data.get("encoder"), dict):
            data["encoder"] = {**data["encoder"], "whole_params": None}
    return data


def _schema_version(data: dict[str, Any]) -> int:
    if "schema_version" not in data:
        raise ValueError(
            f"field 'schema_version' is missing; add it (the current one is {SCHEMA_VERSION})"
        )
    return parse(int, data["schema_version"], "schema_version")


def _upgrade_from_1(data: dict[str, Any]) -> dict[str, Any]:
    new = {**data, "schema_version": 2, "by_layer": None}
    if isinstance(data.get("source"), dict):
        new["source"] = {"mark": "", **data["source"]}
    if isinstance(data.get("ci95"), dict):
        unknown = {"unit": "unknown", "num_units": None, "resamples": None}
        new["ci95"] = {}
        for name, value in data["ci95"].items():
            low, high = parse(tuple[float, float], value, f"ci95.{name}")
            new["ci95"][name] = [{"low": low, "high": high, **unknown}]
    return new


def _upgrade_from_3(data: dict[str, Any]) -> dict[str, Any]:
    """What was not kept then is not known; what is malformed is left for the checks to name."""
    new = {**data, "schema_version": 4, "training": None, "options": None}
    for name, unknown in (
        ("dataset", {"sha256": None}),
        ("encoder", {"published": None, "revision": None}),
    ):
        if isinstance(data.get(name), dict):
            new[name] = {**unknown, **data[name]}
    if isinstance(data.get("ci95"), dict):
        new["ci95"] = {
            name: [_interval_from_3(value) for value in values]
            if isinstance(values, list)
            else values
            for name, values in data["ci95"].items()
        }
    if isinstance(data.get("selection"), dict):
        gap = data["selection"].get("best_minus_last_ci95")
        if gap is not None:
            new["selection"] = {**data["selection"], "best_minus_last_ci95": _interval_from_3(gap)}
    return new


def _interval_from_3(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {"method": None, "stretch": None, "thin_classes": None, **value}


def check_checksum(data: dict[str, Any]) -> None:
    """Records of schema 1 had no checksum; all later ones must have theirs."""
    version = _schema_version(data)
    if version == 1 and "content_sha256" not in data:
        return
    found = data.get("content_sha256")
    if found is None:
        raise ValueError("field 'content_sha256' is missing; evaluate again to write the record")
    if found != content_sha256(data):
        raise ValueError(
            "field 'content_sha256' does not fit the content, so the record was edited by hand; "
            "restore the file, or evaluate again"
        )
