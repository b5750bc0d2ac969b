"""Links between the pages of the repository lead somewhere, and every page is linked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "benchmarks").rglob("*.md")),
    ROOT / "tests/golden/README.md",
]
LINK = re.compile(r"\]\(\s*<?([^)>\s]+)>?(?:\s+\"[^\"]*\")?\s*\)|(?:href|src)=\"([^\"]+)\"")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
# Paths of files from the root; with {a,b}, * or $ they are patterns, and no match.
PATH = re.compile(
    r"(?<![\w./:-])((?:pe_dense|tools|configs|docs|benchmarks|tests)/[\w./-]+\.(?:py|md|csv|json|png|jpg))"
    r"(?![\w{*])"
)


def links(text: str) -> list[str]:
    """Targets of links outside of code."""
    prose = re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))
    return [a or b for a, b in LINK.findall(prose)]


def anchors(text: str) -> set[str]:
    """What a '#...' may name: headings as GitHub writes them, and anchors in HTML."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6}\s+(.+?)\s*#*$", FENCE.sub("", text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        name, number = slug, 0
        while name in found:
            number += 1
            name = f"{slug}-{number}"
        found.add(name)
    return found | set(re.findall(r"(?:id|name)=\"([^\"]+)\"", text))


def problem_of(link: str, page: Path) -> str | None:
    """Why a link leads nowhere, None if it leads somewhere or to another site."""
    if re.match(r"[a-z]+:", link):
        return None
    name, _, anchor = link.partition("#")
    target = page if not name else (page.parent / name).resolve()
    if not target.exists():
        return f"{link}: there is no {name}"
    if not target.is_relative_to(ROOT):
        return f"{link}: is outside of the repository"
    if anchor and (target.suffix != ".md" or anchor not in anchors(target.read_text("utf-8"))):
        return f"{link}: {target.name} has no heading #{anchor}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    problems = [problem_of(link, page) for link in links(page.read_text(encoding="utf-8"))]
    assert [problem for problem in problems if problem] == []


# History names what was; pages of protocols name files of other repositories, and
# test_docs_of_protocols.py follows ours.
OF_TODAY = [p for p in PAGES if p.name != "CHANGELOG.md" and p.parent.name != "protocols"]


@pytest.mark.parametrize("page", OF_TODAY, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = set(PATH.findall(page.read_text(encoding="utf-8")))
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def test_every_page_of_the_docs_can_be_reached_from_the_readme() -> None:
    reached, new = set(), {ROOT / "README.md"}
    while new:
        page = new.pop()
        reached.add(page)
        for link in links(page.read_text(encoding="utf-8")):
            target = (page.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target.is_file() and target not in reached:
                new.add(target)
    assert sorted(str(p) for p in (ROOT / "docs").rglob("*.md") if p not in reached) == []


def test_the_search_for_broken_links_finds_them(tmp_path: Path) -> None:
    text = (
        '# A b: `c`, [d](x.md)!\n## A\n## A\n[1](b.md) ![2](<c.png> "t") `[3](d.md)`\n'
        '```\n[4](e.md)\n# no heading\n```\n<img src="f.png"> [5](https://x.org/y.md#z)\n'
    )
    assert links(text) == ["x.md", "b.md", "c.png", "f.png", "https://x.org/y.md#z"]
    assert anchors(text) == {"a-b-c-d", "a", "a-1"}
    readme = ROOT / "README.md"
    assert problem_of("docs/nothing.md", readme) == "docs/nothing.md: there is no docs/nothing.md"
    assert "no heading #nothing" in str(problem_of("docs/gpu.md#nothing", readme))
    assert "no heading #nothing" in str(problem_of("#nothing", readme))
    assert "outside" in str(problem_of("../", readme))
    assert problem_of("#leaderboard", readme) is None
