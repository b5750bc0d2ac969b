"""The data sets that a config names: found inside wrappers, with the classes that they bring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.registry import Registry


def datasets_of(
    cfg: Mapping[str, Any], splits: Sequence[str]
) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    """(split, config of a data set, whether it is held out) of all data sets that are read.

    Args:
        cfg: Resolved config.
        splits: Of 'train', 'val', 'test'; without a loader they are skipped.
    """
    for split in splits:
        loader = cfg.get(f"{split}_dataloader")
        if loader is not None:
            for dataset, held in leaf_datasets(loader["dataset"]):
                yield split, dataset, held


def leaf_datasets(dataset: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], bool]]:
    """Configs of the data sets that a config reads files with, and whether each is held out.

    Looks through `HoldoutSubset` and wrappers such as RepeatDataset and ConcatDataset.

    Example:
        >>> held = dict(type="HoldoutSubset", part="holdout", dataset=dict(type="A"))
        >>> [d["type"] for d, _ in leaf_datasets(dict(datasets=[held, dict(type="B")]))]
        ['A', 'B']
    """
    for inner in dataset.get("datasets", ()):
        yield from leaf_datasets(inner)
    if "dataset" in dataset:
        is_held_out = dataset.get("part") == "holdout"
        for leaf, held in leaf_datasets(dataset["dataset"]):
            yield leaf, held or is_held_out
    if "dataset" not in dataset and "datasets" not in dataset:
        yield dataset, False


def holdouts_of(cfg: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Configs of all `HoldoutSubset`s, of whatever loader and part.

    Raises:
        ValueError: If two of them split otherwise, or what is held out is taken from another list
            than what is trained on, so that images could be in both parts.
    """
    loaders = [cfg.get(f"{split}_dataloader") for split in ("train", "val", "test")]
    found = [part for loader in loaders if loader for part in _holdouts(loader["dataset"])]
    for part in found:
        for name, usual in (("share", 0.1), ("group", None)):
            here, there = part.get(name, usual), found[0].get(name, usual)
            if here != there:
                raise ValueError(
                    f"one part of the training set is split with {name}={there!r} and another with "
                    f"{here!r}, so images can be in both; give all the same, as holdout_{name} does"
                )
    trained = [_images_of(part["dataset"]) for part in found if part["part"] == "train"]
    for part in found if trained else ():
        if part["part"] != "train" and (list_ := _images_of(part["dataset"])) not in trained:
            here, there = _first_difference(list_, trained[0])
            raise ValueError(
                f"what is held out is taken from a list with {here}, but the list that is trained "
                f"on has {there}, so images can be in both; give both parts the same"
            )
    return found


# Settings that change how images are read, not which.
_NOT_THE_LIST = ("pipeline", "test_mode", "serialize_data", "lazy_init", "max_refetch", "metainfo")


def _images_of(dataset: Any) -> Any:
    """The config of a data set without what does not say which images it has."""
    if isinstance(dataset, Mapping):
        return {k: _images_of(v) for k, v in dataset.items() if k not in _NOT_THE_LIST}
    return [_images_of(one) for one in dataset] if isinstance(dataset, list | tuple) else dataset


def _first_difference(held: Mapping[str, Any], trained: Mapping[str, Any]) -> tuple[str, str]:
    name = next(k for k in (*held, *trained) if held.get(k) != trained.get(k))
    return f"{name}={held.get(name)!r}", f"{name}={trained.get(name)!r}"


def _holdouts(dataset: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "part" in dataset and "dataset" in dataset:
        yield dataset
    for inner in (*dataset.get("datasets", ()), dataset.get("dataset")):
        if inner is not None:
            yield from _holdouts(inner)


def published_classes(
    registry: Registry, dataset_type: str, library: str, remedy: str
) -> dict[str, Any]:
    """What a library knows of a published data set, as the `data_facts` of a config.

    Args:
        registry: The library's data sets.
        dataset_type: Name of one.
        library: Name of the library, for messages.
        remedy: What to use instead of a name that has no known classes.

    Returns:
        `classes`, in the order of labels, and `num_classes`.

    Raises:
        ValueError: If there is no such data set, or its classes are not known.
    """
    classes = getattr(registry.get(dataset_type), "METAINFO", {}).get("classes")
    if not classes:
        raise ValueError(
            f"dataset_type={dataset_type!r} is no data set of known classes in {library}; {remedy}"
        )
    return {"classes": list(classes), "num_classes": len(classes)}


def require_published_classes(cfg: Mapping[str, Any], known: list[str], remedy: str) -> None:
    """Refuse other `classes` than the data sets bring, which these would not see.

    Args:
        cfg: Resolved config.
        known: Classes of its `dataset_type`.
        remedy: What each data set, and `data_check`, must be given for other data.

    Raises:
        ValueError: If they differ.
    """
    if list(cfg["classes"]) != known:
        raise ValueError(
            f"classes was set to {len(cfg['classes'])} names, but {cfg['dataset_type']} reads its "
            f"own {len(known)}; for other data inherit from the config and give each data set "
            f"{remedy}"
        )
