"""What the configs of tracking say and set, against what their sources say."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

pytest.importorskip("mmengine")

from pe_dense.run.config import load_template
from pe_dense.tracking.frames import network_size

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs" / "tracking"


def header(name: str) -> str:
    text = ast.get_docstring(ast.parse((CONFIGS / f"{name}.py").read_text()))
    assert text is not None
    return " ".join(text.split())


def test_layers_in_the_header_are_those_reported():
    text = header("davis2017_layers_pe")
    (curve,) = re.findall(r"by layer, 1-based as in the paper: ([\d:., ]+) \(table 36\)", text)
    said = {int(n): float(v) for n, v in re.findall(r"(\d+): ([\d.]+)", curve)}
    (sizes,) = re.findall(r"other sizes: ([\w., ]+) \(table 37\)", text)
    said_of_sizes = dict(re.findall(r"(\w) (\d\d\.\d)", sizes))
    tables = json.loads((ROOT / "benchmarks" / "reported" / "pe.json").read_text())["tables"]
    rows = {
        row["encoder"]: row
        for table in tables
        if table["protocol"]["id"] == "davis-pe-best-layer"
        for row in table["rows"]
    }
    by_layer = rows["pe_spatial_g14_448"]["by_layer"]["J&F"]
    assert said[43] == 60.5 and len(said) == 15
    for layer, value in said.items():  # blocks are counted from 0 there
        assert value / 100 == pytest.approx(by_layer[str(layer - 1)]), layer
    for size, name in (("L", "l14_448"), ("B", "b16_512"), ("S", "s16_512"), ("T", "t16_512")):
        score = rows[f"pe_spatial_{name}"]["scores"]["J&F"]
        assert float(said_of_sizes[size]) / 100 == pytest.approx(score)


def test_frames_of_mot17_in_the_header_are_those_of_the_second_halves():
    pytest.importorskip("mmdet")
    from pe_dense.tracking.mot_dataset import frame_range

    # seqLength of MOT17-02, -04, -05, -09, -10, -11 and -13 in their seqinfo.ini.
    lengths = (600, 1050, 837, 525, 654, 900, 750)
    spans = [frame_range(length, "second") for length in lengths]
    frames = sum(last - first + 1 for first, last in spans)
    assert frames == 2652
    assert f"{frames:,} frames" in header("bytetrack_pe_b16_mot17")


@pytest.mark.parametrize(
    ("name", "patch", "expected"),
    [
        ("davis2017_dino", 16, (480, 832)),
        ("davis2017_dinov3_small", 16, (480, 864)),
        ("davis2017_dinov3_small", 14, (420, 756)),
        ("davis2017_dinov3_large", 14, (1260, 2254)),
        ("davis2017_dinov3_notebook", 16, (960, 1712)),
        ("davis2017_dinov3_notebook", 14, (966, 1722)),
        ("davis2017_layers_pe", 14, (448, 798)),  # 32 tokens
        ("davis2017_layers_pe", 16, (448, 800)),  # 28 tokens: PE runs nothing above 448 px
    ],
)
def test_sizes_of_davis(name, patch, expected):
    config = load_template(CONFIGS / f"{name}.py")
    assert network_size((480, 854), patch, config.size_rule, config.short_side) == expected


@pytest.mark.parametrize("size", ["small", "medium", "large"])
def test_dinov3_has_one_protocol_by_the_paper_and_one_by_the_notebook(size):
    paper = load_template(CONFIGS / f"davis2017_dinov3_{size}.py")
    notebook = load_template(CONFIGS / "davis2017_dinov3_notebook.py")
    assert (paper.upsample, paper.stretch) == ("image", False)
    assert (notebook.upsample, notebook.stretch) == ("nearest", True)
    assert notebook.settings == [paper.settings[0]]  # the others are variations of it
    assert "davis2017_dinov3_notebook" in header(f"davis2017_dinov3_{size}")
    assert "davis2017_dinov3_{small,medium,large}" in header("davis2017_dinov3_notebook")
