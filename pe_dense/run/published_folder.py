"""A checkpoint as a folder for the Hub: tensors as safetensors, all else as JSON; no code.

`open_saved` reads such a folder, or 'hf://owner/name', as it reads a checkpoint of tools/train.py:
what the folder says of its config is believed no more than what a checkpoint says.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
FORMAT = 1
HUB = "hf:"
MAX_BYTES = 16 * 2**20  # of a config


def to_json(value: Any) -> Any:
    """A plain value so that JSON gives it back as it was: tuples, keys that are no text, infinity.

    Raises:
        ValueError: If it is not plain.

    Example:
        >>> from_json(json.loads(json.dumps(to_json({"a": (1, [2.5, None]), 3: "x"}))))
        {'a': (1, [2.5, None]), 3: 'x'}
    """
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"<float>": repr(value)}
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, tuple):
        return {"<tuple>": [to_json(item) for item in value]}
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and not key.startswith("<") for key in value):
            return {key: to_json(item) for key, item in value.items()}
        return {"<dict>": [[to_json(key), to_json(item)] for key, item in value.items()]}
    raise ValueError(f"a {type(value).__name__} cannot be published; only plain values can")


def from_json(value: Any) -> Any:
    """What `to_json` was given."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        (tag, inner), *_ = value.items()
        if tag == "<float>":
            return float(inner)
        if tag == "<tuple>":
            return tuple(from_json(item) for item in inner)
        if tag == "<dict>":
            return {from_json(key): from_json(item) for key, item in inner}
    return {key: from_json(item) for key, item in value.items()}


def weights_of_folder(folder: Path) -> Path | None:
    """The weights of a published folder, or None if it is none."""
    if (folder / WEIGHTS).is_file() and (folder / CONFIG).is_file():
        return folder / WEIGHTS
    return None


def is_hub_name(checkpoint: str | Path) -> bool:
    """Whether it is 'hf://owner/name', also after `Path` has taken one of its slashes."""
    return str(checkpoint).startswith(HUB)


def downloaded(checkpoint: str | Path) -> Path:
    """The folder of 'hf://owner/name[@revision]', downloaded if it is not in the cache.

    Raises:
        ValueError: If there is no such repository, or the Hub cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = str(checkpoint).removeprefix(HUB).strip("/").partition("@")
    shown = f"hf://{name}{'@' + revision if revision else ''}"
    try:
        folder = snapshot_download(
            name, revision=revision or None, allow_patterns=[WEIGHTS, CONFIG, CARD]
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"{shown} cannot be downloaded ({reason}); check the name and the network, or name a "
            "folder that is here"
        ) from error
    if weights_of_folder(Path(folder)) is None:
        raise ValueError(
            f"{shown} has no {WEIGHTS} and {CONFIG}, so tools/publish.py did not write it"
        )
    return Path(folder)


def read_folder(weights: Path) -> dict[str, Any] | None:
    """What a checkpoint holds, from the folder of its weights; None if it is no published folder.

    Raises:
        ValueError: If a file is damaged, or of another version.
    """
    config = weights.with_name(CONFIG)
    if weights.name != WEIGHTS or not config.is_file():
        return None
    damaged = f"{config} is damaged; download or publish the folder again"
    if config.stat().st_size > MAX_BYTES:
        raise ValueError(f"{config} is larger than {MAX_BYTES >> 20} MiB, and so no config")
    try:
        found = json.loads(config.read_text(encoding="utf-8"))
        is_ours = isinstance(found, dict) and found.get("library") == "pe_dense"
        meta = from_json(found["checkpoint"]) if is_ours else None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(damaged) from error
    if not is_ours:
        return None
    if found.get("format") != FORMAT or not isinstance(meta, dict):
        raise ValueError(
            f"{config} has format {found.get('format')!r}; this version of pe_dense reads {FORMAT}"
        )
    try:
        state = load_file(weights)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{weights} is damaged; download or publish the folder again") from error
    return {"state_dict": state, "meta": meta}
