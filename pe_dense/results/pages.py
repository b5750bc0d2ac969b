"""Builds the leaderboard's files from a store: Markdown for readers here, HTML for browsers."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pe_dense.files import atomic_write_text
from pe_dense.results.findings import find
from pe_dense.results.html_page import render_html
from pe_dense.results.leaderboard import render_excerpt, render_markdown
from pe_dense.results.record import Record
from pe_dense.results.reported import load_reported
from pe_dense.results.store import DEFAULT_ROOT, load_records

REPORTED = "benchmarks/reported"
README = Path("README.md")
_EXCERPT = re.compile(r"(<!-- leaderboard -->\n).*?(<!-- end of leaderboard -->)", re.DOTALL)


def load_all(root: str | os.PathLike[str], allow_dirty: bool = False) -> list[Record]:
    """Measured records of a store and, for the published store, the numbers of papers.

    Args:
        root: Root of the records.
        allow_dirty: Accept records of uncommitted code in the published store.

    Raises:
        ValueError: At the first file that is wrong, and for a record of uncommitted code that
            would be published.
    """
    published = is_published(root)
    records = load_records(root, published=published and not allow_dirty)
    return records + (load_reported(REPORTED) if published else [])


def is_published(root: str | os.PathLike[str]) -> bool:
    """Whether this is the store that the repository publishes, not somebody's own."""
    return Path(root).resolve() == Path(DEFAULT_ROOT).resolve()


def render(root: str | os.PathLike[str], allow_dirty: bool = False) -> dict[Path, str]:
    """File -> content of the leaderboard of a store; the files lie beside the store.

    The README gets an excerpt of the published store, between two comments that mark its place.

    Raises:
        ValueError: As `load_all`, and if records of one protocol do not fit together.
    """
    records = load_all(root, allow_dirty)
    findings = find(records, root)
    folder = Path(root).parent
    pages = {
        folder / "LEADERBOARD.md": render_markdown(records, findings),
        folder / "leaderboard.html": render_html(records, findings),
    }
    if is_published(root) and README.is_file():
        excerpt = render_excerpt(records, findings)
        readme = README.read_text(encoding="utf-8")
        pages[README] = _EXCERPT.sub(lambda match: match[1] + excerpt + match[2], readme)
    return pages


def build(root: str | os.PathLike[str], allow_dirty: bool = False) -> list[Path]:
    """Write the leaderboard of a store; the files that were written.

    Raises:
        ValueError: As `render`.
        OSError: If a file cannot be written.
    """
    pages = render(root, allow_dirty)
    for path, text in pages.items():
        atomic_write_text(path, text)
    return list(pages)


def outdated(root: str | os.PathLike[str]) -> list[Path]:
    """Files of the leaderboard that are not what the records give."""
    pages = render(root)
    return [path for path, text in pages.items() if not _is(path, text)]


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()
