"""docs/sound_data.md names every problem that a check can refuse, and what accepting it means."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")

from pe_dense.data.checks.rules import Rule

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs/sound_data.md").read_text(encoding="utf-8")
FILES = [
    *(ROOT / "pe_dense/data/checks").glob("*.py"),
    *(ROOT / "pe_dense").glob("*/*check*.py"),
    *(ROOT / "pe_dense").glob("*/*/*_check.py"),
    *(ROOT / "pe_dense/data/convert").glob("*.py"),
]


def rules_of(file: Path) -> list[Rule]:
    name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    return [value for value in vars(importlib.import_module(name)).values() if type(value) is Rule]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_problem_is_listed(file: Path) -> None:
    # Files, folders and lists that are not there need no table.
    obvious = {"missing-json", "missing-files", "missing-folder", "missing-list", "image-missing"}
    for rule in rules_of(file):
        if rule.is_problem and rule.name not in obvious:
            assert f"| `{rule.name}` | {rule.kind} | {rule.accepted or 'never'} |" in TEXT, (
                rule.name
            )
