"""`benchmarks/speed/operators_cpu.py` runs with tiny sizes; its table is that of its file."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("mmdet")
SPEED = Path(__file__).resolve().parents[1] / "benchmarks" / "speed"


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(SPEED))
    yield importlib.import_module("operators_cpu")
    sys.path.remove(str(SPEED))


def test_the_table_of_the_page_is_the_file(script) -> None:
    text = script.PAGE.read_text(encoding="utf-8")
    made = script.with_table(text, script.table(script.read_rows()))
    assert made == text, "run: python benchmarks/speed/operators_cpu.py --table"


def test_the_table_of_rows(script, tmp_path) -> None:
    assert script.table(script.read_rows(tmp_path / "none.csv")) == "Not measured yet."
    row = dict(
        part="NMS", ours_ms="1234.5", compiled_ms="617.25", compiled_over_ours="0.5",
        load="0.1 to 2.0", hardware="a CPU", versions="torch 2",
    )  # fmt: skip
    made = script.table([row, {**row, "part": "RoIAlign", "load": "0.1 to 2.5"}])
    assert made.splitlines()[2] == "| NMS | 1,234 | 617 | 0.5 |"
    assert made.endswith("Measured on a CPU, load 0.1 to 2.5 (torch 2).")
    assert "Other programs were at work" in script.table([{**row, "load": "0.1 to 5.0"}])
    with pytest.raises(ValueError, match="the text needs"):
        script.with_table("no comments", made)


def test_both_ways_run_and_are_compared(script) -> None:
    torch.manual_seed(0)
    rows = [
        script.measure_part(part, run, 0.01) for part, run in script.operator_parts(50, 4, side=128)
    ]
    assert [row["part"].split()[0] for row in rows] == ["NMS", "soft-NMS", "RoIAlign", "RoIAlign"]
    assert all(row["ours_ms"] > 0 and row["compiled_over_ours"] > 0 for row in rows)
    with pytest.raises(AssertionError):
        script.check_equal("two", torch.tensor([1.0]), torch.tensor([1.1]))


def test_ours_asks_for_no_compiled_operator(script) -> None:
    from pe_dense.openmmlab import compiled_operators

    asked = script.in_pytorch(lambda: compiled_operators.work_on("cpu"))
    assert asked() is False


@pytest.mark.slow
def test_a_detector_takes_a_step(script) -> None:
    (part, predict), (also, step) = list(script.model_parts((128,)))[2:4]
    assert "ViTDet" in part and "ViTDet" in also
    assert script.measure_part(part, predict, 0.01)["repeats"] in (1, 2)
    assert step().isfinite().all()


def test_without_compiled_operators_it_is_one_sentence() -> None:
    code = (
        "import sys; sys.path.insert(0, 'benchmarks/speed'); import operators_cpu as script\n"
        "script.compiled_operators.problem_on = lambda device: 'mmcv has no compiled operators'\n"
        "sys.argv = ['operators_cpu.py']; script.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=SPEED.parents[1], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1].endswith("run: make operators")
