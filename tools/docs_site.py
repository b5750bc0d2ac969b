"""Build the documentation as a site: README, docs/ and the pages of benchmarks/, with a search.

    python tools/docs_site.py --out site        then open site/index.html, or serve the folder

Needs mkdocs-material (in the `dev` extra). The pages are the files of the repository, unchanged;
every page has a place below, and a link that leads nowhere or a page without a place is an error.
The site loads nothing from anywhere else. Opened from a disk it can be read; its search needs a
server, such as `python -m http.server --directory site`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pe_dense.run import command_line  # noqa: E402

# Part of the site -> its pages below docs/, in the order in which a person needs them.
PARTS = {
    "Start": ("first_steps", "platforms", "mini_world"),
    "Your own data": (
        "own_data", "own_video", "convert", "sound_data", "tune", "predict", "export",
        "checkpoints",
    ),
    "Encoders": (
        "encoders", "analysis", "text_prompts", "zero_shot", "classification", "alignment",
        "real_encoder",
    ),
    "Recipes": ("recipes", "training", "holdouts"),
    "Results": ("leaderboard", "intervals", "validation"),
    "Speed": ("speed", "gpu", "operators"),
    "Contributing": ("contributing",),
}  # fmt: skip
KINDS = (".md", ".csv", ".png", ".jpg", ".svg", ".html", ".ipynb", ".py")


def main() -> None:
    """Build the site."""
    parser = command_line.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("site"), help="a new or an older site")
    out = parser.parse_args().out.absolute()
    if out.exists() and not (out / "sitemap.xml").is_file() and any(out.iterdir()):
        raise ValueError(f"{out} holds something that is no site: name another folder")
    with tempfile.TemporaryDirectory() as folder:
        pages = Path(folder) / "pages"
        copy_pages(pages)
        config = Path(folder) / "mkdocs.yml"
        config.write_text(json.dumps(site_config(pages)), encoding="utf-8")  # JSON is YAML
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
        command += ["--config-file", str(config), "--site-dir", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "No module named mkdocs" in done.stderr:
        raise ValueError('mkdocs-material is missing: pip install "mkdocs-material>=9.6,<10"')
    if done.returncode:
        raise ValueError(f"the site was not built:\n{done.stdout}{done.stderr}".rstrip())
    print(f"{out / 'index.html'}: {sum(1 for _ in out.rglob('*.html'))} pages")


def copy_pages(target: Path) -> None:
    """Copy what the site shows, with the folders of the repository, so that links hold."""
    files = [ROOT / name for name in ("README.md", "CHANGELOG.md", "LICENSE")]
    for name in ("docs", "benchmarks"):
        files += (file for file in (ROOT / name).rglob("*") if file.suffix in KINDS)
    for file in files:
        if "records" in file.relative_to(ROOT).parts:
            continue
        place = target / file.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)


def site_config(pages: Path) -> dict[str, Any]:
    """What mkdocs is told.

    Args:
        pages: The copied pages.

    Returns:
        The content of mkdocs.yml.
    """
    nav: list[dict[str, Any]] = [{"pe_dense": "README.md"}]
    for part, names in PARTS.items():
        nav.append({part: [f"docs/{name}.md" for name in names]})
    protocols = sorted((pages / "docs" / "protocols").glob("*.md"))
    measured = sorted((pages / "benchmarks").rglob("*.md"))
    for part, found in (("Protocols", protocols), ("Measurements", measured)):
        nav.append({part: [file.relative_to(pages).as_posix() for file in found]})
    nav.append({"Changes": "CHANGELOG.md"})
    scheme = {"scheme": "default", "toggle": {"icon": "material/weather-night", "name": "Dark"}}
    dark = {"scheme": "slate", "toggle": {"icon": "material/weather-sunny", "name": "Light"}}
    return {
        "site_name": "pe_dense",
        "docs_dir": str(pages),
        "use_directory_urls": False,  # opens from a disk, too
        "nav": nav,
        "theme": {
            "name": "material",
            "font": False,  # else every reader's browser asks Google for letters
            "palette": [scheme, dark],
            "features": ["navigation.indexes", "navigation.top", "content.code.copy"],
        },
        "plugins": ["search"],
        "markdown_extensions": ["tables", "fenced_code", "toc", "pymdownx.superfences"],
        "extra": {"generator": False},
        "validation": {
            "nav": {"omitted_files": "warn", "not_found": "warn"},
            "links": {"not_found": "warn", "anchors": "warn", "unrecognized_links": "warn"},
        },
    }


if __name__ == "__main__":
    command_line.run(main)
