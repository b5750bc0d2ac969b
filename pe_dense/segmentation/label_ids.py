"""The numbers that the label maps of a data set have for each class of a model."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from mmseg.registry import DATASETS

MOST = 2**16 - 1  # what a label map of 16 bits holds


def label_ids(dataset: Mapping[str, Any], classes: Sequence[str]) -> tuple[int, ...]:
    """What the label maps of a data set call each class.

    Where they were made of a person's own maps, `numbers` of its metainfo are those of the latter,
    unless these are colours. With `reduce_zero_label` class 0 is called 1, since 0 is what is not
    annotated. Where a config chooses some of the classes of a data set, they keep the numbers that
    they have among all.

    Example:
        >>> import pe_dense.segmentation
        >>> label_ids(dict(type="BaseSegDataset", reduce_zero_label=True), ["sky", "sea"])
        (1, 2)
    """
    numbers = (dataset.get("metainfo") or {}).get("numbers")
    if numbers is not None and len(numbers) == len(classes) and max(numbers) <= MOST:
        return tuple(int(number) for number in numbers)
    known = getattr(DATASETS.get(dataset["type"]), "METAINFO", {}).get("classes") or ()
    places = [known.index(name) if name in known else k for k, name in enumerate(classes)]
    if len(set(places)) < len(places) or not set(classes) <= set(known):
        places = list(range(len(classes)))
    reduces = dataset.get("reduce_zero_label")
    if reduces is None:
        reduces = _default_of(dataset["type"], "reduce_zero_label")
    return tuple(place + int(bool(reduces)) for place in places)


def _default_of(kind: str, name: str) -> Any:
    """What a data set does where its config does not say."""
    parameter = inspect.signature(DATASETS.get(kind)).parameters.get(name)
    return None if parameter is None else parameter.default
