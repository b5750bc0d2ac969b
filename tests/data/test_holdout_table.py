"""The table of what protocols hold out is as the code computes it, and the page as the table."""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("mmseg")

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks/experiments/holdouts.py"
PAGE = (ROOT / "docs/holdouts.md").read_text(encoding="utf-8")
TABLE = SCRIPT.with_suffix(".csv").read_text(encoding="utf-8")
ROWS = list(csv.DictReader(TABLE.splitlines()))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("holdouts", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["holdouts"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_table_is_up_to_date(script: ModuleType) -> None:
    assert script.table() == TABLE, f"run: python {SCRIPT.relative_to(ROOT).as_posix()}"


def test_every_protocol_of_this_project_is_there(script: ModuleType) -> None:
    configs = {
        path.relative_to(ROOT / "configs").as_posix()[:-3]
        for path in ROOT.glob("configs/*/*_v1.py")
    }
    # Labels by text, through a map or not, hold out the very parts that the linear recipes do.
    by_text = ("_text_v1", "_text_map_v1")
    other = {name for name in configs if "/mini" in name or name.endswith(by_text)}
    assert configs - other == {*script.PROBES, *script.VIDEOS}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["protocol"])
def test_a_tenth_without_near_copies(row: dict[str, str]) -> None:
    assert row["near_copies"] == "0"
    if row["counted"] == "images":
        assert abs(float(row["share"]) - 0.1) <= 0.01
        assert float(row["largest_group"]) <= (0.36 if "cityscapes" in row["protocol"] else 0.25)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["protocol"])
def test_the_page_says_the_same(row: dict[str, str]) -> None:
    name = row["protocol"].removesuffix("-v1")
    (line,) = [text for text in PAGE.splitlines() if text.startswith(f"| `{name}-v1` |")]
    assert f"| {int(row['held_out']):,} " in line
    if name != "davis2017":  # an official list has no share of ours
        assert f"{int(row['total']):,} {row['counted']}" in line
        assert f"{100 * float(row['share']):.2f} %" in line
    if row["grouped_by"] == "sequence":
        assert f"| {row['held_out_groups']} of {row['groups']} " in line
