"""Every decimal in the README and in docs/ is in a record or a table of the repository.

A number of a page is traced to the CSV files that the page names and to the records and tables of
`MADE_FROM`; it has to be one of their values, rounded to the digits that the page prints, as it is
or as a percentage. What comes from elsewhere is in `EXPLAINED` with its reason. Protocol pages
(docs/protocols/) hold settings of papers, which their own tests compare.
"""

from __future__ import annotations

import contextlib
import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
RECORDS = "benchmarks/records"
MADE_FROM = {
    "README.md": [f"{RECORDS}/*/*/bccd-*.json"],
    "docs/alignment.md": [
        "benchmarks/speed/alignment_loss_cpu.csv",
        "benchmarks/experiments/alignment_small_scale.csv",
    ],
    "docs/classification.md": [
        f"{RECORDS}/pe_core_t16_384/*/mini-knn-ground-*.json",
        "benchmarks/LEADERBOARD.md",
    ],
    "docs/analysis.md": ["benchmarks/speed/probing_cpu.csv", f"{RECORDS}/*/*/mini-*-probe-*.json"],
    "docs/leaderboard.md": ["benchmarks/LEADERBOARD.md"],
    "docs/mini_world.md": ["benchmarks/blind.json", f"{RECORDS}/*/*/mini*.json"],
    "docs/recipes.md": [f"{RECORDS}/*/*/*.json"],
    "docs/speed.md": ["benchmarks/speed/*.csv"],
    "docs/tune.md": ["benchmarks/experiments/tune.md", "benchmarks/blind.json"],
}
WITHDRAWN = "of a check that withdrew a page, which says so"
VERSION = "a version"
SETTING = "a setting or a rule, not a result"
FORMULA = "follows from the formula beside it"
OVER_PLAIN = "a peak over the plain form's in the same row"
DRAWN = "read off the arrays of the picture, by the command above it"
EXPLAINED = {
    "README.md": {"3.10": VERSION, "3.13": VERSION, "2.1": VERSION, "5.7": "millions of weights"},
    "docs/alignment.md": {
        "2.1": VERSION, "0.097": WITHDRAWN, "0.2155": WITHDRAWN, "0.224": WITHDRAWN,
    },
    "docs/analysis.md": {"54.5": DRAWN, "22.6": DRAWN},
    "docs/classification.md": {"0.07": SETTING},
    "docs/contributing.md": {"0.1": VERSION, "0.3": VERSION},
    "docs/convert.md": {"1.1": VERSION},
    "docs/encoders.md": {
        "1.702": "the constant of QuickGELU", "3.1": VERSION, "0.1": "what a published rule shifts",
        "0.02": "the largest difference of a sigmoid's two approximations",
    },
    "docs/first_steps.md": {"0.5": SETTING, "0.3": SETTING},
    "docs/gpu.md": {"9.0": VERSION, "0.29": "186.1 of 631.1 ms, in the same row"},
    "docs/holdouts.md": {"0.96": "223 of KITTI's 23,158 images"},
    "docs/intervals.md": {
        "2.5": SETTING, "97.5": SETTING, "1.87": FORMULA, "1.26": FORMULA, "1.06": FORMULA,
        "1.0007": FORMULA, "4.3": "t(2)", "2.0": "the normal's", "0.05": SETTING,
    },
    "docs/leaderboard.md": {"9.38": "279 of 2,975"},
    "docs/operators.md": {"0.7": "the load", "1.6": "the load"},
    "docs/own_data.md": {"0.3": SETTING, "0.1": SETTING},
    "docs/own_video.md": {
        "1.1": VERSION, "0.225": "of tests/run/test_blind.py, the same clips",
        **dict.fromkeys(("0.685", "0.682", "0.082"), "by the commands of the page"),
    },
    "docs/platforms.md": dict.fromkeys(("2.1", "3.10", "3.11", "3.12", "3.13"), VERSION),
    "docs/speed.md": {"0.36": OVER_PLAIN, "0.07": OVER_PLAIN},
    "docs/text_prompts.md": {
        "16.45": "SCLIP's own README", "59.63": "SCLIP's own README", "0.1": SETTING,
        "0.3": SETTING, "0.5": SETTING, "0.7": SETTING, "0.9": SETTING,
    },
}  # fmt: skip
CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]*\n?[^`\n]*`", re.MULTILINE | re.DOTALL)
# Papers' numbers, addresses and names with digits are no results.
NAMES = re.compile(r"arXiv:\S+|\b\d{4}\.\d{4,5}\b|https?:\S+|\]\([^)]*\)|\bv?\d+\.\d+\.\d\S*")
DECIMAL = re.compile(r"(?<![\w.,/:-])(\d[\d,]*\.\d+)(?!\w|\.\w)")


def decimals(text: str) -> list[str]:
    """The decimals of a page, as printed.

    Example:
        >>> decimals("AP **56.7** [54.2, 59.3], arXiv:2504.13181, `lr=0.1`, torch 2.13.0")
        ['56.7', '54.2', '59.3']
    """
    return DECIMAL.findall(NAMES.sub(" ", CODE.sub(" ", text)))


def is_among(printed: str, values: set[float]) -> bool:
    """Whether a number is one of the values, rounded as it is printed, also as a percentage.

    Example:
        >>> is_among("56.7", {0.56712}), is_among("0.57", {0.5669}), is_among("0.56", {0.5669})
        (True, True, False)
    """
    number, half = float(printed.replace(",", "")), 0.5 * 10.0 ** -len(printed.split(".")[1])
    return any(abs(unit * value - number) <= half + 1e-9 for value in values for unit in (1, 100))


def numbers_in(tree: Any) -> Iterator[float]:
    """All numbers in nested dicts and lists."""
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, list):
        for part in tree:
            yield from numbers_in(part)
    elif isinstance(tree, int | float) and not isinstance(tree, bool):
        yield float(tree)


def values_of(path: Path) -> set[float]:
    """The numbers in a record, in the cells of a CSV file, or in a page of tables."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return {float(number.replace(",", "")) for number in decimals(text)}
    if path.suffix == ".json":
        record = json.loads(text)
        parts = ("scores", "ci95", "by_layer", "blind", "selection", "cost")
        return set(
            numbers_in([record.get(part) for part in parts] if "scores" in record else record)
        )
    found = set()
    for cell in (cell for row in csv.reader(text.splitlines()) for cell in row):
        found |= {float(number.replace(",", "")) for number in decimals(cell)}  # in words, too
        with contextlib.suppress(ValueError):  # a word
            found.add(float(cell))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_numbers_are_traced(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    sources = [path for path in sorted((ROOT / "benchmarks").rglob("*.csv")) if path.name in text]
    for pattern in MADE_FROM.get(page, ()):
        found = sorted(ROOT.glob(pattern))
        assert found, f"{pattern} is nowhere"
        sources += found
    values = set().union(*map(values_of, sources))
    unknown = [
        number
        for number in dict.fromkeys(decimals(text))
        if number not in EXPLAINED.get(page, {}) and not is_among(number, values)
    ]
    assert unknown == [], f"{page}: name the CSV that has them, or explain them here"


def test_no_explanation_is_left_over() -> None:
    for page, numbers in EXPLAINED.items():
        printed = decimals((ROOT / page).read_text(encoding="utf-8"))
        assert [number for number in numbers if number not in printed] == [], page


def test_a_changed_number_of_the_readme_is_found() -> None:
    records = (ROOT / RECORDS).glob("*/*/bccd-*.json")
    values = set().union(*map(values_of, records))
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    scores = decimals("\n".join(line for line in lines if "_bccd.py" in line))
    assert len(scores) > 5 and all(is_among(number, values) for number in scores)
    changed = [f"{float(number) + 0.3:.1f}" for number in scores]
    assert sum(is_among(number, values) for number in changed) < len(changed) / 2
