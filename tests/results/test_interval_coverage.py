"""The study of coverage: its committed table passes its own rule, and a killed run goes on."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from pe_dense.results.statistics import interval

EXPERIMENTS = Path(__file__).resolve().parents[2] / "benchmarks/experiments"


@pytest.fixture(scope="module")
def study():
    """The script, as a module."""
    sys.path.insert(0, str(EXPERIMENTS))
    try:
        yield importlib.import_module("interval_coverage")
    finally:
        sys.path.remove(str(EXPERIMENTS))


def committed() -> list[dict[str, str]]:
    with (EXPERIMENTS / "interval_coverage.csv").open(newline="", encoding="ascii") as file:
        return list(csv.DictReader(file))


NOW = [row for row in committed() if row["code"] == "now"]


@pytest.mark.parametrize("row", NOW, ids=lambda row: f"{row['kind']}-{row['case']}-{row['seeds']}")
def test_every_row_holds_or_is_marked(row):
    if row["kind"] not in ("power", "limits"):
        assert 0.92 <= float(row["share"]) <= 0.98 or row["marks"], row
        assert row["verdict"] in ("holds", "marked")
    assert int(row["trials"]) >= 500


def test_the_table_has_every_case(study):
    names = {" | ".join(row[n] for n in ("kind", "case", "seeds", "asked")) for row in NOW}
    assert names == {case.key for case in study.cases()}


def test_three_seeds_find_what_they_did_not():
    def found(code: str) -> float:
        (row,) = (
            row
            for row in committed()
            if (row["code"] == "now") is (code == "now")
            and row["case"] == "300 images, 6 encoders"
            and (row["seeds"], row["asked"]) == ("3", "a gap of 6 seed-SDs is found")
        )
        return float(row["share"])

    assert found("before") < 0.4 and found("now") > 0.9


def test_the_page_is_made_from_the_table(study):
    from interval_coverage_report import markdown

    assert (EXPERIMENTS / "interval_coverage.md").read_text("ascii") == markdown(committed())


def test_verdicts(study):
    assert study.verdict("interval", 0.92, []) == study.verdict("groups", 0.98, ["x"]) == "holds"
    assert study.verdict("interval", 0.919, []) == study.verdict("groups", 0.981, []) == "fails"
    assert study.verdict("interval", 0.5, ["fewer than 30 videos"]) == "marked"
    assert study.verdict("power", 0.1, []) == study.verdict("limits", 0.5, []) == ""
    seen = {"1 class on fewer than 10 images": 30, "2 classes on fewer than 10 images": 25, "x": 9}
    assert study.kinds_of_marks(seen, 100) == ["classes on fewer than 10 images"]


def test_trials_are_those_of_the_package(study):
    (case,) = (c for c in study.cases() if c.key.startswith("interval | J&F, 12 videos"))
    held, _, marks = case.trial(np.random.default_rng(3), 3, 200)
    evidence = study.videos(np.random.default_rng(3), 12)
    found = interval(evidence, "J&F", 200, 3)
    assert held == (found.low <= 0.71 <= found.high) and marks == ("fewer than 30 videos",)


@pytest.mark.parametrize("cut", [0, 5])
def test_a_killed_run_goes_on(study, tmp_path, cut):
    """Blocks that are there are not run again; a line that a kill cut off is."""
    (case,) = (c for c in study.cases() if c.key.startswith("groups | 12 images, 2 encoders | 1"))
    ran = []

    def counted(rng, seed, resamples):
        ran.append(seed)
        return bool(rng.random() < 0.9), None, ()

    case = dataclasses.replace(case, trial=counted)
    progress = study.Progress({case.key: 75})
    progress.start(case)
    whole = study.run_case(case, tmp_path / "whole", 75, progress)
    assert ran == list(range(75))
    lines = (tmp_path / "whole").read_text().splitlines(keepends=True)
    blocks = [line for line in lines if line.strip()]
    last = blocks[2][: len(blocks[2]) - cut] if cut else ""
    (tmp_path / "half").write_text("".join(blocks[:2]) + last)
    ran.clear()
    progress = study.Progress({case.key: 75})
    progress.start(case)
    again = study.run_case(case, tmp_path / "half", 75, progress)
    assert ran == list(range(50, 75))
    assert {k: v for k, v in again.items() if k != "seconds"} == {
        k: v for k, v in whole.items() if k != "seconds"
    }
    assert len(study.read_blocks(tmp_path / "half")) == 3
    assert json.loads(blocks[0])["size"] == 25
