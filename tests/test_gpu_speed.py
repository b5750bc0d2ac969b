"""`benchmarks/speed/gpu.py` runs with tiny sizes on a CPU; docs/speed.md has its table."""

from __future__ import annotations

import argparse
import csv
import importlib
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from interpreted_kernels import interpreted  # noqa: F401 (a fixture)

SPEED = Path(__file__).resolve().parents[1] / "benchmarks" / "speed"


@pytest.fixture(scope="module")
def table(module_path):
    return importlib.import_module("gpu_table")


@pytest.fixture(scope="module")
def gpu(module_path):
    return importlib.import_module("gpu")


@pytest.fixture(scope="module")
def module_path():
    sys.path.insert(0, str(SPEED))
    yield
    sys.path.remove(str(SPEED))


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_every_section_runs_with_tiny_sizes_on_a_cpu(tmp_path: Path, table) -> None:
    out = tmp_path / "rows.csv"
    env = os.environ | {"CUDA_VISIBLE_DEVICES": "", "TRITON_INTERPRET": "0"}
    command = [sys.executable, str(SPEED / "gpu.py"), "--tiny", "--out", str(out)]
    result = subprocess.run(command, capture_output=True, text=True, env=env)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    rows = read(out)
    assert {row["section"] for row in rows} <= set(table.SECTIONS)
    assert {row["section"] for row in rows} >= {"encoder", "detection", "data"}
    names = [(row["section"], row["part"]) for row in rows]
    assert len(set(names)) == len(names)
    for row in rows:
        assert row["status"] == "ok"
        assert float(row["ours_ms"]) > 0


def test_a_limit_stands_behind_the_section(gpu) -> None:
    parser = argparse.ArgumentParser()
    assert gpu.limited("encoder:40", parser) == ("encoder", 40.0)
    assert gpu.limited("data", parser) == ("data", math.inf)
    with pytest.raises(SystemExit):
        gpu.limited("data:soon", parser)


def test_tiny_sizes_do_not_replace_measured_rows() -> None:
    env = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(SPEED / "gpu.py")]
    result = subprocess.run(command, capture_output=True, text=True, env=env)
    assert result.returncode == 2
    assert "name another file with --out" in result.stderr


def test_a_part_that_fails_is_a_row_and_the_others_go_on(gpu, monkeypatch) -> None:
    from gpu_bench import Bench

    bench = Bench(torch.device("cpu"), tiny=True)

    def broken():
        raise RuntimeError("out of\nmemory")

    class Section:
        @staticmethod
        def parts(bench):
            yield "bad", broken
            yield "good", lambda: bench.row(bench.measure(lambda: None), operations=1.0)
            raise RuntimeError("no more")

    monkeypatch.setitem(sys.modules, "gpu_sections.encoder", Section)
    about = {"hardware": "x", "versions": "y", "command": "z"}
    rows = gpu.run_section("encoder", bench, about)
    assert [(row["part"], row["status"]) for row in rows] == [
        ("bad", "FAILED"), ("good", "ok"), ("the section itself", "FAILED"),
    ]  # fmt: skip
    assert rows[0]["note"] == "RuntimeError: out of memory"
    assert rows[0]["ours_ms"] == ""


def test_a_section_that_is_over_its_time_says_what_did_not_run(gpu, monkeypatch) -> None:
    from gpu_bench import Bench

    bench = Bench(torch.device("cpu"), tiny=True)

    class Section:
        @staticmethod
        def parts(bench):
            for name in ("first", "second"):
                yield name, lambda: bench.row(bench.measure(lambda: time.sleep(0.01)))

    monkeypatch.setitem(sys.modules, "gpu_sections.encoder", Section)
    rows = gpu.run_section("encoder", bench, dict(hardware="", versions="", command=""), 0.005)
    assert [(row["part"], row["status"]) for row in rows] == [
        ("first", "ok"),
        ("second", "NOT RUN"),
    ]
    assert rows[1]["note"] == "the section was over its 0.005 s"


def test_the_floor_is_the_larger_of_operations_and_bytes(gpu) -> None:
    from gpu_bench import Bench, Ceilings, Measured

    bench = Bench(torch.device("cpu"), True, Ceilings(operations=1e12, bytes=1e9))
    row = bench.row(Measured(10.0, 2.0), Measured(40.0, 8.0), "plain", 4e9, 2e6)
    cells = gpu.cells("encoder", "a", row, {"hardware": "", "versions": "", "command": ""})
    assert cells["floor_ms"] == "4"
    assert cells["floor_by"] == "operations"
    assert cells["ours_over_plain"] == "0.25"
    assert cells["ours_over_floor"] == "2.5"
    assert cells["share_of_peak"] == "0.4"
    assert (cells["ours_gib"], cells["plain_gib"]) == ("2", "8")
    assert bench.row(Measured(10.0, None), bytes_moved=5e6).floor_ms == 5.0


def test_difference_sees_shape_range_and_what_is_not_finite(gpu) -> None:
    from gpu_bench import difference

    x = torch.tensor([0.0, 2.0, 4.0])
    assert difference(x, x.clone()) == "identical"
    assert difference(x + torch.tensor([0.0, 0.4, 0.0]), x) == "1.0e-01 of the range"
    with pytest.raises(ValueError, match="shape"):
        difference(x, x[:2])
    with pytest.raises(ValueError, match="finite"):
        difference(torch.tensor([0.0, 2.0, float("nan")]), x)


def test_gradients_of_depth_agree_once_kinks_are_left_out(module_path, interpreted) -> None:  # noqa: F811
    """Scores at 0 and equal log differences make float32 jump; nothing else may be apart."""
    pytest.importorskip("mmengine")
    section = importlib.import_module("gpu_sections.pixelwise")
    from pe_dense.probing.probe_tasks import DepthTask

    task = DepthTask(1e-3, 10, num_bins=5)

    def gap(logits, depth, leaves_out) -> float:
        ours = torch.autograd.grad(task.losses(logits[:, None], depth).sum(), logits)[0]
        precise = logits.detach().double().requires_grad_()
        plain = section.plain_depth_gradient(precise, depth.double(), task.bins_K.double())
        apart = (ours - plain).abs().masked_fill(leaves_out, 0)
        return float(apart.max() / plain.abs().max())

    gaps, gaps_left = [], []
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(1, 5, 2, 3, generator=generator)
        logits[0, 2, :, :2] = torch.tensor([0.3, -0.5])  # 3/8 of the way it is 0 but for rounding
        logits.requires_grad_()
        depth = 0.5 + 9 * torch.rand(1, 32, 48, generator=generator)
        with torch.no_grad():  # pixels of some rows differ as those two further on
            found, _ = section.plain_depth(logits.double(), task.bins_K.double(), (32, 48))
            ratio = (depth[:, :, :1].double() + 1e-3) / (found[:, :, :1] + 1e-3)
            equal = ratio * (found + 1e-3) - 1e-3
            depth[:, ::8, ::2] = equal[:, ::8, ::2].float()
        depth = depth.clamp(max=10)

        nothing = torch.zeros_like(logits, dtype=torch.bool)
        gaps.append(gap(logits, depth, nothing))
        at_kink, pixels = section.depth_kinks(logits, depth, task.bins_K)
        assert at_kink.any() and not at_kink.all() and pixels.any()
        assert not at_kink[0, [0, 1, 3, 4]].any()
        assert not pixels[:, 1::8].any()
        depth[pixels] = 0
        gaps_left.append(gap(logits, depth, at_kink))
        assert not section.depth_kinks(logits, depth, task.bins_K)[1].any()
    assert max(gaps) > 1e-3
    assert max(gaps_left) < 2e-5


def test_rows_of_the_sections_that_ran_are_replaced(tmp_path: Path, table) -> None:
    path = tmp_path / "gpu.csv"
    blank = dict.fromkeys(table.COLUMNS, "")
    old = [blank | {"section": "encoder", "part": "a"}, blank | {"section": "data", "part": "b"}]
    table.write_rows(path, old)
    new = [blank | {"section": "encoder", "part": "c, d"}]
    table.write_rows(path, table.merge_rows(table.read_rows(path), new, ["encoder", "video"]))
    assert [(row["section"], row["part"]) for row in read(path)] == [
        ("encoder", "c, d"), ("data", "b"),
    ]  # fmt: skip
    path.write_text("section,part\nencoder,a\n")
    with pytest.raises(ValueError, match="columns of another version"):
        table.read_rows(path)
    assert table.read_rows(tmp_path / "none.csv") == []


def test_the_table_shows_failures_and_needs_its_place(table) -> None:
    blank = dict.fromkeys(table.COLUMNS, "") | {"hardware": "card", "versions": "torch 2"}
    rows = [
        blank | dict(section="encoder", part="a", status="ok", ours_ms="1.5", plain_name="timm",
                     plain_ms="3", ours_over_plain="0.5"),
        blank | dict(section="video", part="b", status="FAILED", note="RuntimeError: x"),
    ]  # fmt: skip
    text = table.markdown(rows)
    assert "| encoder: a | 1.5 | timm 3 | 0.5 |" in text
    assert "| video: b | FAILED |" in text
    assert "Measured on card (torch 2)." in text
    page = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    assert table.with_table(page, "new") == f"before\n{table.BEGIN}\n\nnew\n\n{table.END}\nafter\n"
    with pytest.raises(ValueError, match="once each and in this order"):
        table.with_table("no place", "new")


def test_the_smallest_card_that_holds_a_part_is_named(table) -> None:
    blank = dict.fromkeys(table.COLUMNS, "") | {"section": "detection", "status": "ok"}
    rows = [blank | dict(part="small", ours_gib="7.1"), blank | dict(part="tight", ours_gib="7.3"),
            blank | dict(part="huge", ours_gib="75"), blank | dict(part="on a CPU"),
            blank | dict(part="bad", status="FAILED", ours_gib="1")]  # fmt: skip
    assert table.cards(rows).splitlines()[2:] == [
        "| detection: small | 7.1 | 8 GB |",
        "| detection: tight | 7.3 | 12 GB |",
        "| detection: huge | 75 | more than 80 GB |",
    ]
    assert table.cards(rows[3:]) == "Not measured yet on a GPU."


def test_the_tables_of_the_pages_are_the_file(table) -> None:
    rows = table.read_rows()
    for page, made in ((table.SPEED, table.markdown(rows)), (table.PAGE, table.cards(rows))):
        text = page.read_text(encoding="utf-8")
        remedy = "run: python benchmarks/speed/gpu_table.py"
        assert table.with_table(text, made) == text, remedy
