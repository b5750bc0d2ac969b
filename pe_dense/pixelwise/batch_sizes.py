"""Batches whose images differ in size, as those of most people's own data do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def by_image_size(step: Callable[[Any], Sequence[Any]], data: Mapping[str, Any]) -> list[Any]:
    """What `step` gives for the images of a batch, in its order; images of one size run together.

    A batch of one size goes to `step` as it is.

    Args:
        step: From a part of `data` to one result per image.
        data: Per key one item per image, among them `inputs`, each (C, H, W).

    Example:
        >>> import torch
        >>> images = [torch.zeros(3, 4, width) for width in (4, 6, 4)]
        >>> by_image_size(lambda part: [x.shape[2] for x in part["inputs"]], dict(inputs=images))
        [4, 6, 4]
    """
    places: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(data["inputs"]):
        places.setdefault(tuple(image.shape[1:]), []).append(place)
    if len(places) <= 1:
        return list(step(data))
    results: list[Any] = [None] * len(data["inputs"])
    for of_size in places.values():
        part = {key: [items[place] for place in of_size] for key, items in data.items()}
        for place, result in zip(of_size, step(part), strict=True):
            results[place] = result
    return results


class AnyImageSize:
    """For models of mmengine, first among their bases: batches to score may mix image sizes."""

    def val_step(self, data: Mapping[str, Any]) -> list[Any]:
        """Predictions of a batch, one per image."""
        return by_image_size(super().val_step, data)

    def test_step(self, data: Mapping[str, Any]) -> list[Any]:
        """The same."""
        return by_image_size(super().test_step, data)
