"""The documentation as a site: every page is in it, links hold, nothing comes from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason='needs mkdocs-material: pip install -e ".[dev]"')
ROOT = Path(__file__).resolve().parents[1]
TOOL = [sys.executable, str(ROOT / "tools/docs_site.py"), "--out"]


def build(out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*TOOL, str(out)], capture_output=True, text=True, check=False)


def test_the_site_has_every_page_and_loads_nothing(tmp_path: Path) -> None:
    out = tmp_path / "site"
    done = build(out)
    assert done.returncode == 0, done.stderr
    written = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
    for page in written:
        target = (out / page.relative_to(ROOT)).with_suffix(".html")
        index = target.with_name("index.html")
        assert target.is_file() or (page.stem == "README" and index.is_file()), page
    home = (out / "index.html").read_text()
    assert "docs/own_data.html" in home and (out / "docs/mini_world_2.jpg").is_file()
    # Links of the text may lead elsewhere; scripts, styles, letters and pictures may not.
    loaded = re.compile(r"<(?:script|img|iframe|source)[^>]*src=\"?(?:https?:)?//")
    style = re.compile(r"<link[^>]*href=\"(?:https?:)?//")
    for file in out.rglob("*.html"):
        if file.name != "leaderboard.html":
            text = file.read_text()
            assert not loaded.search(text) and not style.search(text), file


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years")
    done = build(tmp_path)
    assert done.returncode == 2 and "name another folder" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]
