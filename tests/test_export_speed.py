"""`benchmarks/speed/export_cpu.py` runs with a tiny tower; the table of its page is its file."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

pytest.importorskip("mmdet")
pytest.importorskip("onnxruntime")
SPEED = Path(__file__).resolve().parents[1] / "benchmarks" / "speed"
TINY = {"embed_dim": 32, "num_heads": 2, "mlp_hidden": 48, "depth": 12}


@pytest.fixture(scope="module")
def script():
    paths = list(sys.path)
    sys.path.insert(0, str(SPEED))
    yield importlib.import_module("export_cpu")
    sys.path[:] = paths


def test_the_table_of_the_page_is_the_file(script) -> None:
    text = script.PAGE.read_text(encoding="utf-8")
    made = script.with_table(text, script.table(script.read_rows()))
    assert made == text, "run: python benchmarks/speed/export_cpu.py --table"


def test_rows_are_of_known_parts_and_below_the_limit(script) -> None:
    known = {(name, str(side), kind) for name, side, kind in script.rows_of(list(script.PARTS))}
    rows = script.read_rows()
    assert rows and {(row["part"], row["side"], row["precision"]) for row in rows} <= known
    for row in rows:
        if row["precision"] == "fp32":
            assert float(row["difference"]) <= float(row["limit"]) == 1e-4


def test_the_table_of_rows(script, tmp_path) -> None:
    assert script.table(script.read_rows(tmp_path / "none.csv")) == "Not measured yet."
    row = dict(
        part="deta", side="512", precision="fp16", difference="inf", note="1 has a partner, 2 none",
        onnx_ms="1234.5", torch_ms="617.25", onnx_over_torch="2.0", file_mb="99.6", opset="20",
        load="0.1 to 2.0", hardware="a CPU", versions="torch 2",
    )  # fmt: skip
    other = row | dict(part="encoder", difference="1.0e-06")
    made = script.table([row, other]).splitlines()
    assert made[2].startswith("| encoder, last layer | 512 x 512 | fp16 | 1.0e-06 |")
    assert (
        made[3] == "| DETA | 512 x 512 | fp16 | 1 has a partner, 2 none | 1,234 | 617 | 2.0 | 100 |"
    )
    said = "Measured on a CPU, load 0.1 to 2; opset 20 (torch 2)."
    assert made[5] == f"Processor time, the fastest of several runs. {said}"
    assert made[-1].startswith("Not measured yet: encoder, last layer (224 fp32, 448 fp32, 224 fp")
    every = [
        row | dict(part=p, side=str(s), precision=k) for p, s, k in script.rows_of(script.PARTS)
    ]
    assert "Not measured" not in script.table(every) and script.not_measured(every) == []
    assert "Other programs were at work" in script.table([row | dict(load="0.1 to 5.0")])
    with pytest.raises(ValueError, match="the text needs"):
        script.with_table("no comments", "made")


def test_a_part_is_written_compared_and_timed(script, tmp_path) -> None:
    tower = TINY | dict(depth=2)
    program = script.program_of(script.PARTS["segmentation-linear"], 32, tmp_path, tower)
    assert (program.sizes.height, program.sizes.open_size) == (32, False)
    row = script.measure_part(program, "fp32", 0.01)
    assert row["onnx_ms"] > 0 and row["torch_ms"] > 0 and row["repeats"] >= 2
    assert 0 < float(row["difference"]) < 1e-4 == float(row["limit"])


HEAVY = ("segmentation-upernet", "deta", "dino", "vitdet")  # heads as wide as they are published


@pytest.mark.parametrize(
    "name",
    [
        "encoder",
        "depth-linear",
        "depth-dpt",
        *(pytest.param(n, marks=pytest.mark.slow) for n in HEAVY),
    ],
)
def test_the_model_of_a_part_has_the_size_and_finds_different_things(
    script, tmp_path, name
) -> None:
    import torch

    part = script.PARTS[name]
    side = 320 if part.sized_by == "canvas" else 64
    program = script.program_of(part, side, tmp_path, TINY)
    assert (program.sizes.height, program.sizes.width) == (side, side)
    with torch.inference_mode():
        found = program.module(*program.example((1, side, side), 0))
    assert found[0].std() > 1e-3 * found[0].abs().max()
