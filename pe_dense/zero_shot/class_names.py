"""From the name of a folder to the name of a class, by the rule of a data set.

Rules:
    words           as it stands, '_' and '-' as spaces: HMDB51, own folders
    kinetics        without brackets and without '_' at the ends (perception_models @ 3e352cc,
                    video_classification_dataset.py, clean_label), other '_' as spaces: the names of
                    the data set have spaces ('air drumming'), and copies write folders with '_'.
                    Deviation: the source would put 'air_drumming' into its sentences as it is
    camel           words that begin with capitals, apart: UCF101's 'ApplyEyeMakeup'
    imagenet        a WordNet id of ImageNet's 1,000: CLIP's name of it
    imagenet_index  '0' to '999', places in the sorted ids: ImageNet v2
    objectnet       the data set's own table, and only classes that ImageNet has as well
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from pe_dense.zero_shot.prompts import load_names

RULES = ("words", "kinetics", "camel", "imagenet", "imagenet_index", "objectnet")
IMAGENET_SHA256 = "5151a0b5828fcad4e03a94ddfcd85b40ce3c52209a2f1cf24ca0ddc4c39bae4f"


def names_of_folders(folders: Sequence[str], rule: str, root: Path, where: Path) -> dict[str, str]:
    """Class name of each folder that counts, in the order of the folders.

    Args:
        folders: Names of folders.
        rule: See the module; or a '.json' file of one's own, {"folder": "name"}.
        root: Of the data, where ObjectNet has its tables.
        where: What holds the folders, for messages.

    Raises:
        ValueError: If the rule is unknown, or a folder has no name by it.

    Example:
        >>> names_of_folders(["ApplyEyeMakeup", "TaiChi"], "camel", Path(), Path())
        {'ApplyEyeMakeup': 'Apply Eye Makeup', 'TaiChi': 'Tai Chi'}
    """
    if rule in _PLAIN:
        return {folder: _PLAIN[rule](folder) for folder in folders}
    if rule == "objectnet":
        table = _objectnet(root)
        return {folder: table[folder] for folder in folders if folder in table}
    if rule in ("imagenet", "imagenet_index"):
        table = load_names("clip_imagenet_names", IMAGENET_SHA256)
        if rule == "imagenet_index":
            table = {str(place): table[key] for place, key in enumerate(sorted(table))}
        what = "a WordNet id of ImageNet's 1,000 classes"
        what = what if rule == "imagenet" else "a number from 0 to 999"
    elif rule.endswith(".json"):
        table, what = load_names(rule), f"among the names of {rule}"
    else:
        raise ValueError(
            f"names={rule!r} is unknown; choose one of {', '.join(RULES)}, or a .json file"
        )
    for folder in folders:
        if folder not in table:
            raise ValueError(
                f"folder {where / folder} is not {what}; take it away, or correct data_root"
            )
    found = {folder: table[folder] for folder in folders}
    if rule == "imagenet_index":
        return dict(sorted(found.items(), key=lambda item: int(item[0])))
    return found


def first_of_each_name(names: Sequence[str]) -> list[int]:
    """Places of names that stand before; a class there cannot be told from the first of its name.

    Example:
        >>> first_of_each_name(["missile", "cat", "missile"])
        [2]
    """
    seen: set[str] = set()
    return [k for k, name in enumerate(names) if name in seen or seen.add(name)]  # type: ignore[func-returns-value]


def _words(folder: str) -> str:
    return " ".join(re.sub(r"[_-]+", " ", folder).split())


def _kinetics(folder: str) -> str:
    bare = folder.replace("(", "").replace(")", "").strip("_")
    return " ".join(bare.replace("_", " ").split())


def _camel(folder: str) -> str:
    return " ".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]+|[a-z]+|\d+", folder))


_PLAIN: dict[str, Callable[[str], str]] = {"words": _words, "kinetics": _kinetics, "camel": _camel}


def _objectnet(root: Path) -> dict[str, str]:
    """Folder -> name of the classes that overlap with ImageNet, from the tables of the data set."""
    tables = []
    for name in ("folder_to_objectnet_label.json", "objectnet_to_imagenet_1k.json"):
        found = sorted(root.rglob(f"mappings/{name}")) or sorted(root.glob(name))
        if not found:
            raise ValueError(
                f"{root} lacks mappings/{name}, which comes with ObjectNet; unpack it whole"
            )
        try:
            tables.append(json.loads(found[0].read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise ValueError(f"{found[0]} is no JSON ({error}); unpack ObjectNet again") from error
    labels, overlap = tables
    return {folder: name.lower() for folder, name in labels.items() if name in overlap}
