"""What the repository publishes agrees with its records."""

from __future__ import annotations

from pathlib import Path

import pytest

from pe_dense.results.leaderboard import render_markdown
from pe_dense.results.store import load_records

ROOT = Path(__file__).resolve().parents[1]
RECORDS = load_records(ROOT / "benchmarks" / "records")


def test_leaderboard_is_what_the_records_give() -> None:
    page = (ROOT / "benchmarks" / "LEADERBOARD.md").read_text()
    assert page == render_markdown(RECORDS), "run python tools/leaderboard.py build"


def test_readme_states_the_recorded_scores() -> None:
    readme = (ROOT / "README.md").read_text()
    (record,) = [r for r in RECORDS if r.protocol.id == "bccd-detection-scratch"]
    for metric in ("AP", "AP50"):
        assert f"{100 * record.scores[metric]:.1f}" in readme, metric


@pytest.mark.parametrize("name", ["bccd-detection-scratch"])
def test_published_records_come_from_a_clean_commit(name: str) -> None:
    records = [r for r in RECORDS if r.protocol.id == name]
    assert records
    assert not any(r.code.dirty or r.code.commit == "unknown" for r in records)
