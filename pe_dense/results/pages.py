"""Builds the leaderboard's files from a store: Markdown for readers here, HTML for browsers.

Every number is computed again from its evidence first. A record that fails is named on the pages
and not in their tables; the others stand.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from pe_dense.files import atomic_write_text
from pe_dense.results import licence_list
from pe_dense.results.checked_store import CheckedStore, check_store
from pe_dense.results.findings import find
from pe_dense.results.html_page import render_html
from pe_dense.results.leaderboard import render_excerpt, render_markdown
from pe_dense.results.provenance import repository_root
from pe_dense.results.recomputed import default_memory
from pe_dense.results.record import Record
from pe_dense.results.record_claims import PROTOCOLS, load_protocols
from pe_dense.results.refusals import with_html, with_markdown
from pe_dense.results.reported import load_reported
from pe_dense.results.store import DEFAULT_ROOT

REPORTED = Path("benchmarks/reported")
EXCERPT_PAGE = Path("docs/leaderboard.md")
_EXCERPT = re.compile(r"(<!-- leaderboard -->\n).*?(<!-- end of leaderboard -->)", re.DOTALL)


def open_store(root: str | os.PathLike[str], allow_dirty: bool = False) -> CheckedStore:
    """The records of a store, each checked; those of uncommitted code are not published.

    Args:
        root: Root of the records.
        allow_dirty: Accept records of uncommitted code in the published store.

    Raises:
        ValueError: If the root, the list of protocols or a file of reported numbers is wrong.
    """
    published = is_published(root)
    return check_store(
        root,
        load_protocols(_home() / PROTOCOLS),
        published=published,
        allow_dirty=allow_dirty,
        others=load_reported(_home() / REPORTED) if published else [],
        memory=default_memory(),
    )


def load_all(
    root: str | os.PathLike[str], allow_dirty: bool = False, store: CheckedStore | None = None
) -> list[Record]:
    """Records of a store that nothing is wrong with; in the published one, numbers of papers too.

    Args:
        root: Root of the records.
        allow_dirty: As in `open_store`.
        store: What `open_store` gave, where that was called already.

    Raises:
        ValueError: As `open_store`.
    """
    store = store or open_store(root, allow_dirty)
    return [*store.records, *(load_reported(_home() / REPORTED) if is_published(root) else [])]


def is_published(root: str | os.PathLike[str]) -> bool:
    """Whether this is the store that the repository publishes, not somebody's own."""
    return Path(root).resolve() == (_home() / DEFAULT_ROOT).resolve()


def _home() -> Path:
    """The repository whose protocols count: the one that we are in, else the one of this package.

    What is checked must not depend on the folder that somebody calls a tool from.
    """
    return Path() if Path(DEFAULT_ROOT).is_dir() else repository_root()


def render(
    root: str | os.PathLike[str],
    allow_dirty: bool = False,
    store: CheckedStore | None = None,
    licences: Mapping[str, str] | None = None,
) -> dict[Path, str]:
    """File -> content of the leaderboard of a store; the files lie beside the store.

    `EXCERPT_PAGE` gets an excerpt of the published store, between two comments that mark its place.

    Args:
        root: Root of the records.
        allow_dirty: As in `open_store`.
        store: What `open_store` gave, where that was called already.
        licences: Name of an encoder -> licence of its weights, for a list at the end of the pages.

    Raises:
        ValueError: As `open_store`.
    """
    store = store or open_store(root, allow_dirty)
    records, refused = load_all(root, store=store), store.refused
    findings = find(records, root)
    folder = Path(root).parent
    markdown = with_markdown(render_markdown(records, findings), refused, Path(root))
    html = with_html(render_html(records, findings), refused, Path(root))
    listed = licence_list.by_licence((r.encoder.name for r in records), licences or {})
    pages = {
        folder / "LEADERBOARD.md": licence_list.with_markdown(markdown, listed),
        folder / "leaderboard.html": licence_list.with_html(html, listed),
    }
    page_file = _home() / EXCERPT_PAGE
    if is_published(root) and page_file.is_file():
        excerpt = render_excerpt(records, findings)
        page = page_file.read_text(encoding="utf-8")
        pages[page_file] = _EXCERPT.sub(lambda match: match[1] + excerpt + match[2], page)
    return pages


def build(
    root: str | os.PathLike[str],
    allow_dirty: bool = False,
    store: CheckedStore | None = None,
    licences: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write the leaderboard of a store; the files that were written.

    Raises:
        ValueError: As `render`.
        OSError: If a file cannot be written.
    """
    pages = render(root, allow_dirty, store, licences)
    for path, text in pages.items():
        atomic_write_text(path, text)
    return list(pages)


def outdated(root: str | os.PathLike[str], licences: Mapping[str, str] | None = None) -> list[Path]:
    """Files of the leaderboard that are not what the records give."""
    pages = render(root, licences=licences)
    return [path for path, text in pages.items() if not _is(path, text)]


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()
