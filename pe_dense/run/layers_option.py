"""`layers` of a recipe for own data: which blocks of the encoder its head reads.

best        one block, the best for the data, chosen on training pictures left out, before the
            training (probing.layer_choice); for an encoder that is trained, whose blocks change,
            as 'four', or the last block where a head reads one
four        four blocks at even steps, as DINOv2's heads (arXiv:2304.07193)
[8]         block 8, counted from 0; [-1] the last; [2, 5, 8, 11] several

A recipe takes these words if it names the function that chooses in `layer_choice`. It says `layer`
instead where its head reads one block: best, or a number. `num_layers` follows.

What was chosen is among what was found in the data (`CHOSEN`), so that a checkpoint has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BEST, FOUR = "best", "four"
CHOSEN, CHOSEN_WORDS = "chosen_layers", "chosen_layers_in_words"


def chooses(names: Mapping[str, Any]) -> bool:
    """Whether a config, resolved or not, has its block chosen before the training."""
    if "layer_choice" not in names or names.get("training_free") or names.get("evaluation_only"):
        return False
    if str(names.get(name_of(names))) != BEST:
        return False
    from pe_dense.openmmlab.tuning import parse_tuning  # torch and mmengine are slow to import

    return parse_tuning(names.get("tune") or "frozen").kind == "frozen"


def name_of(names: Mapping[str, Any]) -> str:
    """'layer' for a head that reads one block, else 'layers'."""
    return "layer" if "layer" in names else "layers"


def without_choice(names: Mapping[str, Any], depth: int, four: Sequence[int]) -> list[int]:
    """The blocks that are read where none is chosen: four, or the last."""
    return [depth - 1] if name_of(names) == "layer" else list(four)


def read_layers(
    names: Mapping[str, Any],
    data: Mapping[str, Any],
    depth: int,
    four: Sequence[int],
    path: str | Path,
) -> dict[str, Any]:
    """What takes the place of `layers` and `num_layers`, or of `layer`.

    Before the choice, these are the blocks that are read without one.

    Args:
        names: Names at the top of a config that has `layer_choice`.
        data: What was found in the data, and chosen.
        depth: Blocks of the encoder.
        four: Its four blocks at even steps.
        path: How errors call the config.

    Raises:
        ValueError: If these are no blocks of the encoder.

    Example:
        >>> read_layers({"layers": "best"}, {CHOSEN: [8]}, 12, [2, 5, 8, 11], "a.py")
        {'layers': [8], 'num_layers': 1}
        >>> read_layers({"layers": "four"}, {}, 12, [2, 5, 8, 11], "a.py")
        {'layers': [2, 5, 8, 11], 'num_layers': 4}
    """
    name = name_of(names)
    value = names[name]
    if str(value) == BEST:
        found = data.get(CHOSEN) if chooses({"layer_choice": "", **names}) else None
        value = without_choice(names, depth, four) if found is None else found
    elif str(value) == FOUR and name == "layers":
        value = list(four)
    elif str(value).removeprefix("-").isdecimal():  # typed without brackets
        value = int(value)
    blocks = list(value) if isinstance(value, list | tuple) else [value]
    is_right = bool(blocks) and all(
        type(block) is int and -depth <= block < depth for block in blocks
    )
    if not is_right or (name == "layer" and len(blocks) != 1):
        words = "best, or a block" if name == "layer" else "best, four, or blocks such as [8]"
        raise ValueError(
            f"{name}={names[name]} of config {path} must be {words}, from 0 to {depth - 1} for "
            "this encoder; correct it"
        )
    if name == "layer":
        return {"layer": blocks[0]}
    count = names.get("num_layers")
    if count is not None and (str(names[name]) == BEST or count != len(blocks)):
        raise ValueError(
            f"num_layers={count} is for nobody to say beside layers={names[name]}, from which it "
            "follows; leave num_layers out"
        )
    return {"layers": blocks, "num_layers": len(blocks)}


def require_chosen(template: Mapping[str, Any], data: Mapping[str, Any], file: str | Path) -> None:
    """Refuse a checkpoint that does not say which block was chosen for it.

    Raises:
        ValueError: If so.
    """
    if chooses(template) and CHOSEN not in data:
        raise ValueError(
            f"checkpoint {file} does not say which block was chosen for it; say which one it was "
            f"trained with: --cfg-options '{name_of(template)}=8'"
        )
