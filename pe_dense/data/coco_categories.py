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


def categories_of(
    classes: Sequence[str],
    categories: Sequence[Mapping[str, Any]],
    used_ids: Container[int],
    file: str,
) -> list[Mapping[str, Any] | None]:
    """The category of each class, by name; None where a file lists only some of the classes.

    What looks like a placeholder is a class if it is asked for by name and alone has the name:
    the other split may have objects of it.

    Args:
        classes: Names.
        categories: Of a file, each with 'id' and 'name'.
        used_ids: The category ids of its annotations.
        file: Its name.

    Raises:
        ValueError: If a name comes twice, or is missing while others are there that are no class.

    Example:
        >>> cat = dict(id=1, name="cat")
        >>> categories_of(["dog", "cat"], [cat], {1}, "val.json") == [None, cat]
        True
    """
    real = real_categories(categories, used_ids)
    has_others = any(category["name"] not in set(classes) for category in real)
    named: dict[str, list[Mapping[str, Any]]] = {}
    for category in categories:
        named.setdefault(category["name"], []).append(category)
    found = []
    for name in classes:
        own = named.get(name, [])
        if len(own) > 1:
            own = [category for category in own if category in real]
        if len(own) > 1 or (not own and has_others):
            raise ValueError(
                f"{file} has {len(own)} classes {name!r}, not one; give config and data set the "
                "classes of the file"
            )
        found.append(own[0] if own else None)
    return found
