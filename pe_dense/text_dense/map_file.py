"""The file of a linear map: two tensors, and what it was fitted on and is good for.

safetensors, so that nothing in it can run code. What is missing, of another kind or not finite is
refused by name, and so is a map for anything else than it was fitted for.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from pe_dense.files import atomic_write_bytes
from pe_dense.text_dense.linear_map import LinearMap

KEY = "pe_dense_text_map"
VERSION = 1


@dataclass(frozen=True)
class MapFacts:
    """What a map was fitted on; only there is it good for anything.

    Attributes:
        encoder: Whose features it takes.
        weights_sha256: Of that encoder's file; of its tensors where they were drawn.
        layer: 0-based block.
        text_encoder: Into whose space it leads.
        text_weights_sha256: Likewise.
        rule: How pictures were cut and regularisers chosen, as the config says.
        num_pictures: Of training.
        pictures_sha256: Of their bytes, whatever they are called.
        num_pairs: Windows of them.
        strength: The chosen regulariser.
        held_out: Mean cosine of held-out pairs for every regulariser, and of the controls
            'constant' and 'shuffled'.
        shuffle_seed: None, or of the control that was fitted on shuffled pairs.
    """

    encoder: str
    weights_sha256: str
    layer: int
    text_encoder: str
    text_weights_sha256: str
    rule: Mapping[str, Any]
    num_pictures: int
    pictures_sha256: str
    num_pairs: int
    strength: float
    held_out: Mapping[str, float]
    shuffle_seed: int | None = None

    def in_words(self) -> str:
        """One line for records."""
        cosine = self.held_out[f"{self.strength:g}"]
        shuffled = self.held_out["shuffled"]
        words = (
            f"linear map of block {self.layer} into the space of {self.text_encoder} "
            f"({self.text_weights_sha256[:12]}), fitted on {self.num_pairs:,} windows of "
            f"{self.num_pictures:,} training pictures ({self.pictures_sha256[:12]}), regulariser "
            f"{self.strength:g}, held-out cosine {cosine:.3f} (shuffled pairs {shuffled:.3f}, no "
            f"features {self.held_out['constant']:.3f})"
        )
        if self.shuffle_seed is None:
            return words
        return f"CONTROL, fitted on shuffled pairs, seed {self.shuffle_seed}: {words}"


def pictures_sha256(file_hashes: Sequence[str]) -> str:
    """Of a set of pictures by the hashes of their bytes; names and order do not count.

    Example:
        >>> pictures_sha256(["b", "a"]) == pictures_sha256(["a", "b"])
        True
    """
    return hashlib.sha256("\n".join(sorted(file_hashes)).encode()).hexdigest()


def save_map(path: Path, mapping: LinearMap, facts: MapFacts) -> None:
    """Write a map; the file is whole or not there."""
    text = json.dumps({"version": VERSION, **dataclasses.asdict(facts)}, sort_keys=True)
    tensors = {name: value.contiguous() for name, value in mapping._asdict().items()}
    atomic_write_bytes(path, save(tensors, {KEY: text}))


def load_map(path: Path) -> tuple[LinearMap, MapFacts]:
    """A map and what it is good for.

    Raises:
        ValueError: If the file is missing, damaged, or something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(KEY)
            names = sorted(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"map {path} cannot be read ({error}); fit it with tools/fit_text_map.py"
        ) from error
    if text is None or names != sorted(LinearMap._fields):
        raise ValueError(f"{path} is no map into a space of texts; tools/fit_text_map.py makes one")
    facts = _facts(path, text)
    mapping = LinearMap(**tensors)
    weight, offset = mapping
    if weight.ndim != 2 or offset.shape != weight.shape[1:]:
        raise ValueError(
            f"map {path} has tensors {tuple(weight.shape)} and {tuple(offset.shape)}, which do not "
            "fit; fit it again"
        )
    for value in mapping:
        if value.dtype != torch.float32 or not bool(torch.isfinite(value).all()):
            raise ValueError(f"map {path} holds numbers that are not finite float32; fit it again")
    return mapping, facts


def require_made_for(facts: MapFacts, path: Path, **now: Any) -> None:
    """Refuse a map that was fitted for something else.

    Args:
        facts: Of the map.
        path: Its file, for the message.
        **now: What it is to be used with, by the names of `MapFacts`.

    Raises:
        ValueError: If one differs; the message has both.
    """
    for name, value in now.items():
        known = getattr(facts, name)
        if json.loads(json.dumps(known)) != json.loads(json.dumps(value)):
            raise ValueError(
                f"map {path} was fitted with {name}={_short(known)}, and is to be used with "
                f"{_short(value)}; fit one for this with tools/fit_text_map.py"
            )


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _facts(path: Path, text: str) -> MapFacts:
    try:
        found = json.loads(text)
        version = found.pop("version")
        facts = MapFacts(**found)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise ValueError(
            f"what map {path} says of itself is damaged ({error}); fit it again"
        ) from (error)
    if version != VERSION:
        raise ValueError(f"map {path} is of version {version}, not {VERSION}; fit it again")
    for field in dataclasses.fields(MapFacts):
        value, kinds = getattr(facts, field.name), _KINDS[field.name]
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise ValueError(f"map {path} says {field.name}={value!r}; fit it again")
    known = {"constant", "shuffled", f"{facts.strength:g}"}
    if not known <= facts.held_out.keys() or not all(
        isinstance(cosine, float) for cosine in facts.held_out.values()
    ):
        raise ValueError(f"map {path} does not say how its regulariser was chosen; fit it again")
    return facts


_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("encoder", "weights_sha256", "text_encoder"), (str,)),
    **dict.fromkeys(("text_weights_sha256", "pictures_sha256"), (str,)),
    **dict.fromkeys(("layer", "num_pictures", "num_pairs"), (int,)),
    **dict.fromkeys(("rule", "held_out"), (dict,)),
    "strength": (float,),
    "shuffle_seed": (int, type(None)),
}
