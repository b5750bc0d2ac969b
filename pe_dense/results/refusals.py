"""Where the pages name records that are refused: sentences as Markdown and as HTML."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

_MAIN = '<main id="sections">'


def sentences(refused: Mapping[Path, Sequence[str]], root: Path) -> list[str]:
    """Why records are refused, with their paths below the root: the same on every machine."""
    found = []
    for path, texts in refused.items():
        name = str(PurePosixPath(path.relative_to(root)))
        found += [text.replace(str(path), name).replace(f"{root}/", "") for text in texts]
    return found


def heading(num_records: int) -> str:
    """'2 records are refused and not in the tables'."""
    one = num_records == 1
    return (
        f"{num_records} record{'' if one else 's'} {'is' if one else 'are'} refused and not shown"
    )


def with_markdown(page: str, refused: Mapping[Path, Sequence[str]], root: Path) -> str:
    """The Markdown page with the refused records named before its first table."""
    if not refused:
        return page
    lines = [f"## {heading(len(refused))}", ""]
    lines += [f"- {_plain(text)}" for text in sentences(refused, root)]
    notice = "\n".join(lines) + "\n"
    before, found, after = page.partition("\n## ")
    return f"{before}\n{notice}{found}{after}" if found else f"{page}\n{notice}"


def with_html(page: str, refused: Mapping[Path, Sequence[str]], root: Path) -> str:
    """The HTML page with the refused records named before its tables, as text."""
    if not refused:
        return page
    assert page.count(_MAIN) == 1, "the page has another frame"
    items = "".join(f"<li>{html.escape(text)}</li>" for text in sentences(refused, root))
    notice = f'<section role="alert"><h2>{heading(len(refused))}</h2><ul>{items}</ul></section>\n'
    return page.replace(_MAIN, notice + _MAIN)


def _plain(text: str) -> str:
    """Text of a record that cannot become HTML, a link or emphasis in Markdown."""
    marked = "".join("\\" + c if c in "\\`*_[]<>|#!&" else c for c in text)
    return " ".join(marked.split())
