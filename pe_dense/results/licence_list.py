"""Under which licences the weights are whose encoders a page shows: a list at its end.

What an encoder's licence is, the caller says; this package knows no encoders.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping

HEADING = "Licences of released weights"
_AFTER = "</main>"


def by_licence(encoders: Iterable[str], licences: Mapping[str, str]) -> dict[str, list[str]]:
    """Licence -> names of the encoders that are under it, both in order; unknown ones are left out.

    Args:
        encoders: Names, also several times.
        licences: Name -> licence in words.

    Example:
        >>> by_licence(["b", "a", "x"], {"a": "MIT", "b": "MIT", "c": "Apache-2.0"})
        {'MIT': ['a', 'b']}
    """
    found: dict[str, list[str]] = {}
    for name in sorted({name for name in encoders if name in licences}):
        found.setdefault(licences[name], []).append(name)
    return dict(sorted(found.items()))


def with_markdown(page: str, listed: Mapping[str, list[str]]) -> str:
    """The Markdown page with the list at its end."""
    if not listed:
        return page
    lines = [f"- {licence}: {', '.join(names)}" for licence, names in listed.items()]
    return "\n".join([f"{page.rstrip()}", "", f"## {HEADING}", "", *lines]) + "\n"


def with_html(page: str, listed: Mapping[str, list[str]]) -> str:
    """The HTML page with the list below its tables."""
    if not listed:
        return page
    assert page.count(_AFTER) == 1, "the page has another frame"
    items = "".join(
        f"<li>{html.escape(licence)}: {html.escape(', '.join(names))}</li>"
        for licence, names in listed.items()
    )
    section = f'<section class="licences"><h2>{HEADING}</h2><ul>{items}</ul></section>'
    return page.replace(_AFTER, f"{_AFTER}\n{section}")
