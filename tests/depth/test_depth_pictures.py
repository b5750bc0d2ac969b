"""`tools/visualize.py depth`: colours, scale bars, errors, the worst images, the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("mmseg")

from pe_dense.depth.pictures import (
    Estimated,
    depth_limits,
    draw_estimated,
    error_limit,
    image_errors,
    look_at,
    scoring_of,
)
from pe_dense.pictures.colours import DEPTH_COLOURS, UNKNOWN, colour_table, coloured
from pe_dense.pictures.drawing import BAR, FOOTER, HEADER
from pe_dense.pictures.folder import INDEX, SHEET, write_looks

REPO = Path(__file__).resolve().parents[2]
CONFIG = REPO / "configs" / "depth" / "linear_pe_t16_mini.py"
RULES = dict(min_depth=1e-3, max_depth=10.0)


def estimated(height: int = 40, width: int = 50, factor: float = 1.1) -> Estimated:
    """A ramp of 1 to 5 m whose first quarter of rows is not annotated; all too far."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    truth_HW = np.tile(np.linspace(1, 5, width, dtype=np.float32), (height, 1))
    depth_HW = truth_HW * np.float32(factor)
    truth_HW[: height // 4] = 0
    return Estimated(image, depth_HW, truth_HW)


def share_of(picture: np.ndarray, colour: tuple[int, int, int]) -> float:
    return float((picture == colour).all(-1).mean())


def test_errors_of_one_image_by_hand() -> None:
    truth_HW = np.array([[2.0, 4.0, 0.0, 12.0]], dtype=np.float32)
    depth_HW = np.array([[3.0, 3.0, 5.0, 5.0]], dtype=np.float32)
    errors = image_errors(Estimated(np.zeros((1, 4, 3), np.uint8), depth_HW, truth_HW), RULES)
    assert errors.counts_HW.tolist() == [[True, True, False, False]], "12 m is beyond the limit"
    assert errors.relative_HW.tolist() == [[0.5, -0.25, 0, 0]]
    assert errors.rmse == 1 and errors.abs_rel == 0.375
    assert image_errors(Estimated(np.zeros((1, 4, 3), np.uint8), depth_HW, None), RULES) is None


def test_predictions_are_clamped_as_the_protocol_says() -> None:
    truth_HW, depth_HW = np.full((1, 2), 8.0), np.array([[8.0, 16.0]])
    of = Estimated(np.zeros((1, 2, 3), np.uint8), depth_HW, truth_HW)
    assert image_errors(of, RULES).relative_HW.tolist() == [[0, 0.25]]
    assert image_errors(of, {**RULES, "clamp": False}).relative_HW.tolist() == [[0, 1]]


def test_a_size_that_differs_is_an_error() -> None:
    of = Estimated(np.zeros((2, 2, 3), np.uint8), np.ones((2, 2)), np.ones((2, 3)))
    with pytest.raises(ValueError, match="maps of one size"):
        image_errors(of, RULES)


def test_near_is_bright_and_outside_has_the_colour_of_the_end() -> None:
    colours = colour_table(DEPTH_COLOURS)
    picture = coloured(np.array([[0.0, 1, 2, 3, 9, np.inf]]), (1.0, 3.0), colours)[0]
    assert picture[0].tolist() == picture[1].tolist() == colours[0].tolist()
    assert picture[3].tolist() == picture[4].tolist() == picture[5].tolist()
    brightness = picture.astype(int).sum(-1)
    assert brightness[1] > brightness[2] > brightness[3]


def test_limits_come_from_the_truth() -> None:
    low, high = depth_limits(estimated(factor=9.0))
    assert 0.9 < low < 1.2 and 4.8 < high < 5.1
    nothing = Estimated(np.zeros((2, 2, 3), np.uint8), np.full((2, 2), 3.0), np.zeros((2, 2)))
    assert depth_limits(nothing) == pytest.approx((2.9, 3.1))


def test_prediction_and_truth_have_one_scale() -> None:
    of = estimated(480, 480, factor=1.0)
    picture = draw_estimated(of, image_errors(of, RULES))
    top, known = HEADER, slice(120, 480)
    panels = [picture[top : top + 480, 10 + i * 490 :][:, :480] for i in range(4)]
    assert (panels[0] == of.image_HW3).all()
    assert (panels[1][known] == panels[2][known]).all()
    for panel in panels[2:]:
        assert (panel[:120] == UNKNOWN).all() and share_of(panel[known], UNKNOWN) == 0
    error = panels[3][known].reshape(-1, 3).astype(int)
    assert (error.min(0) > 230).all(), "no error is white"
    assert picture.shape == (HEADER + 480 + BAR + FOOTER, 4 * 490 + 10, 3)


@pytest.mark.parametrize(("factor", "channel"), [(1.3, 0), (0.7, 2)])
def test_too_far_is_red_and_too_near_is_blue(factor: float, channel: int) -> None:
    of = estimated(480, 480, factor)
    panel = draw_estimated(of, image_errors(of, RULES))[HEADER + 120 : HEADER + 480, 1480:1960]
    assert (panel.argmax(-1) == channel).all()


def test_error_limits_are_round() -> None:
    for factor, limit in ((1.0, 0.05), (1.04, 0.05), (1.15, 0.2), (5.0, 1.0)):
        assert error_limit(image_errors(estimated(factor=factor), {})) == limit


def test_without_truth_and_with_nothing_to_score() -> None:
    of = estimated(480, 480)
    alone = Estimated(of.image_HW3, of.depth_HW, None)
    assert draw_estimated(alone, None).shape[1] == 2 * 490 + 10
    nothing = Estimated(of.image_HW3, of.depth_HW, np.zeros_like(of.truth_HW))
    errors = image_errors(nothing, RULES)
    assert np.isnan(errors.rmse)
    assert draw_estimated(nothing, errors).shape[1] == 4 * 490 + 10


def test_the_points_of_a_scan_stay_visible_when_made_smaller() -> None:
    of = estimated(352, 1216)
    truth_HW = np.zeros_like(of.truth_HW)
    truth_HW[4::8, 4::8] = of.depth_HW[4::8, 4::8]
    sparse = Estimated(of.image_HW3, of.depth_HW, truth_HW)
    picture = draw_estimated(sparse, image_errors(sparse, RULES))
    width = 960
    top = 2 * HEADER + round(352 * width / 1216)
    truth = picture[top : top + 200, 10 : 10 + width]
    assert picture.shape[1] == 2 * (width + 10) + 10, "two columns"
    assert 0.05 < 1 - share_of(truth, UNKNOWN) < 0.6, "1.6 % of the pixels, as dots"


def test_rules_come_from_the_config() -> None:
    metric = dict(type="DepthErrors", min_depth=1e-3, max_depth=80.0, crop="garg", pooled=True)
    expected = dict(min_depth=1e-3, max_depth=80.0, crop="garg")
    assert scoring_of(metric) == scoring_of([dict(type="Other"), metric]) == expected
    with pytest.raises(ValueError, match="has no DepthErrors"):
        scoring_of(dict(type="MeanIoU"))


def test_the_worst_image_comes_first(tmp_path: Path) -> None:
    of = estimated()
    found = {
        "good": of,
        "alone": Estimated(of.image_HW3, of.depth_HW, None),
        "empty": Estimated(of.image_HW3, of.depth_HW, np.zeros_like(of.truth_HW)),
        "bad": estimated(factor=1.6),
    }

    def write(out: Path) -> list[str]:
        files = [Path(f"{name}.png") for name in found]
        return write_looks(
            out, files, lambda file: found[file.stem],
            lambda seen, title: look_at(seen, title, RULES), 300,
        )  # fmt: skip

    out = tmp_path / "out"
    lines = write(out)
    assert [Path(line.split()[-1]).stem for line in lines] == ["bad", "good", "empty", "alone"]
    assert "AbsRel 0.600" in lines[0] and "AbsRel 0.100" in lines[1]
    assert (out / INDEX).read_text().splitlines() == lines and (out / SHEET).is_file()
    found["bad"] = Estimated(of.image_HW3, np.full_like(of.depth_HW, np.nan), of.truth_HW)
    with pytest.raises(ValueError, match=r"bad.png: .*nan"):
        write(tmp_path / "b")


# The tool


def run_tool(*words: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(REPO / "tools" / "visualize.py"), *map(str, words)],
        cwd=REPO, capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)},
    )  # fmt: skip


def test_wrong_words_are_one_line(tmp_path: Path) -> None:
    words = ["--out", tmp_path / "out", "--image", "absent.jpg"]
    done = run_tool("depth", "CONFIG", "CHECKPOINT", *words)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "image absent.jpg does not exist" in done.stderr


@pytest.mark.slow
def test_a_trained_estimator_from_the_command_line(mini_root: Path, tmp_path: Path) -> None:
    from runs import train

    options = dict(data_root=str(mini_root / "nyu"), max_iters=2, val_interval=2, warmup_iters=1)
    options["crop_size"] = (112, 112)  # the pictures of this mini world have 128 px
    train(str(CONFIG), options=options, work_dir=tmp_path / "work")
    words = ["--cfg-options", *(f"{k}={v}".replace(" ", "") for k, v in options.items())]
    run = ["depth", CONFIG, tmp_path / "work", "--out"]
    done = run_tool(*run, tmp_path / "a", "--images", "all", *words)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path / 'a'}: 6 pictures, worst.png, index.txt" in done.stdout
    foreign = tmp_path / "foreign.png"
    assert cv2.imwrite(str(foreign), estimated(50, 80).image_HW3)
    done = run_tool(*run, tmp_path / "b", "--image", foreign, *words)
    assert done.returncode == 0, done.stderr
    assert "RMSE      - m" in done.stdout and (tmp_path / "b" / "001_foreign.png").is_file()
