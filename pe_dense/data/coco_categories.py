"""Which categories of a COCO file are classes."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any


def real_categories(
    categories: Sequence[Mapping[str, Any]], used_ids: Container[int]
) -> list[Mapping[str, Any]]:
    """All but the placeholder that Roboflow writes for the project itself, in their order.

    The placeholder has no annotations, its supercategory is 'none', and its name is that of the
    others' supercategory. A class may have the same name.

    Args:
        categories: Of a file, each with 'id' and 'name'.
        used_ids: The category ids of its annotations.

    Example:
        >>> cat = dict(id=1, name="cat", supercategory="cat")
        >>> real_categories([dict(id=0, name="cat", supercategory="none"), cat], {1}) == [cat]
        True
    """
    parents = [category.get("supercategory") for category in categories]  # of any type
    return [
        category
        for category in categories
        if not (
            category.get("supercategory") == "none"
            and category["id"] not in used_ids
            and category["name"] in parents
        )
    ]
