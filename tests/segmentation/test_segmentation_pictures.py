"""`tools/visualize.py segment`: panels, legend, the worst images, the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("mmseg")

from pe_dense.data.picture import read_picture
from pe_dense.pictures.colours import WRONG, class_colour
from pe_dense.pictures.folder import INDEX, SHEET, write_looks
from pe_dense.pictures.masks import VOID, class_map
from pe_dense.segmentation.pictures import (
    Segmented,
    draw_segmented,
    errors,
    image_scores,
    legend,
    look_at,
    palette_of,
)

REPO = Path(__file__).resolve().parents[2]
CLASSES = ["sky", "wall", "sea"]
PALETTE = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=np.uint8)
CONFIG = REPO / "configs" / "segmentation" / "linear_pe_t16_mini.py"


def maps() -> Segmented:
    """4 x 5 pixels: a row is ignored, 4 of the other 15 are wrong; 'sea' is predicted only."""
    truth_HW = np.array([[0] * 5, [0] * 5, [1] * 5, [VOID] * 5], dtype=np.uint8)
    labels_HW = truth_HW.copy()
    labels_HW[0, :3], labels_HW[2, 0], labels_HW[3] = 1, 2, 2
    return Segmented(image_of(4, 5), labels_HW.astype(np.int64), truth_HW)


def image_of(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_scores_of_one_image_by_hand() -> None:
    scores = image_scores(maps(), 4)
    # sky: 7 right, 10 true, 7 predicted; wall: 4 right, 5 true, 7 predicted; sea: 1 predicted
    np.testing.assert_allclose(scores.iou_K, [7 / 10, 4 / 8, 0, np.nan])
    np.testing.assert_allclose(scores.miou, (0.7 + 0.5 + 0) / 3)
    np.testing.assert_allclose(scores.truth_K, [10 / 15, 5 / 15, 0, 0])
    assert scores.accuracy == 11 / 15
    assert image_scores(replace(maps(), truth_HW=None), 4) is None


def test_an_image_without_annotated_pixels() -> None:
    nothing = Segmented(image_of(4, 5), np.zeros((4, 5), int), np.full((4, 5), VOID))
    scores = image_scores(nothing, 3)
    assert np.isnan(scores.miou) and np.isnan(scores.accuracy)
    picture = draw_segmented(nothing, scores, CLASSES, PALETTE)
    assert picture.dtype == np.uint8 and legend(nothing, scores, CLASSES) == [(0, "sky")]


def test_the_legend_lists_the_truth_by_area_and_then_the_rest() -> None:
    scores = image_scores(maps(), 3)
    assert legend(maps(), scores, CLASSES) == [(0, "sky 0.70"), (1, "wall 0.50"), (2, "sea 0.00")]
    alone = replace(maps(), truth_HW=None)
    assert legend(alone, None, CLASSES) == [(0, "sky"), (1, "wall"), (2, "sea")]


def test_wrong_pixels_are_red_and_ignored_ones_grey() -> None:
    segmented, image = maps(), image_of(4, 5)
    picture = errors(segmented.labels_HW, segmented.truth_HW, image).astype(int)
    is_red_HW = picture[..., 0] - picture[..., 1] > 100
    is_wrong_HW = np.zeros((4, 5), bool)
    is_wrong_HW[0, :3] = is_wrong_HW[2, 0] = True
    assert (is_red_HW == is_wrong_HW).all() and WRONG[0] > 200
    is_grey_HW = (picture[..., :1] == picture).all(-1)
    assert (is_grey_HW == ~is_wrong_HW).all()
    assert set(picture[3].ravel()) <= {150, 205}, "hatched"


def test_a_class_has_its_colour() -> None:
    picture = class_map(np.array([[0, 1, 2, VOID]]), np.zeros((1, 4, 3), np.uint8), PALETTE)
    assert picture[0, :3].argmax(-1).tolist() == [0, 1, 2]
    assert picture[0, :3].max(-1).tolist() == [204] * 3 and len(set(picture[0, 3])) == 1


def test_palettes() -> None:
    from mmseg.datasets import CityscapesDataset

    own = dict(type="BaseSegDataset", metainfo=dict(classes=CLASSES))
    assert palette_of(own, CLASSES).tolist() == [list(class_colour(k)) for k in range(3)]
    own["metainfo"]["palette"] = PALETTE.tolist()
    assert (palette_of(own, CLASSES) == PALETTE).all()
    known = CityscapesDataset.METAINFO
    found = palette_of(dict(type="CityscapesDataset"), known["classes"])
    assert found.tolist() == known["palette"]
    some = ["sky", "road"]  # another order than the data set's
    found = palette_of(dict(type="CityscapesDataset", metainfo=dict(classes=some)), some)
    assert found.tolist() == [[70, 130, 180], [128, 64, 128]]


def test_panels_in_a_row_or_in_two_columns() -> None:
    def shape(height: int, width: int, has_truth: bool) -> tuple[int, int]:
        labels_HW = np.zeros((height, width), int)
        image = image_of(height, width)
        segmented = Segmented(image, labels_HW, labels_HW if has_truth else None)
        scores = image_scores(segmented, 3)
        picture = draw_segmented(segmented, scores, CLASSES, PALETTE)
        return picture.shape[:2]

    assert shape(500, 500, True)[1] == 4 * 510 + 10 and shape(500, 500, False)[1] == 2 * 510 + 10
    assert shape(300, 900, True)[1] == 2 * 910 + 10 and shape(300, 900, True)[0] > 2 * 300


def test_a_map_of_another_size_is_an_error() -> None:
    segmented = Segmented(image_of(8, 10), np.zeros((4, 5), int), None)
    with pytest.raises(ValueError, match=r"prediction is \(4, 5\) and the image \(8, 10\)"):
        draw_segmented(segmented, None, CLASSES, PALETTE)


def test_the_worst_image_comes_first(tmp_path: Path) -> None:
    truth_HW = maps().truth_HW
    found = {
        "good": replace(maps(), labels_HW=np.where(truth_HW == VOID, 0, truth_HW)),
        "alone": replace(maps(), truth_HW=None),
        "empty": replace(maps(), truth_HW=np.full_like(truth_HW, VOID)),
        "bad": maps(),
    }

    def write(out: Path) -> list[str]:
        files = [Path(f"{name}.png") for name in found]
        return write_looks(
            out, files, lambda file: found[file.stem],
            lambda seen, title: look_at(seen, title, CLASSES, PALETTE), 300,
        )  # fmt: skip

    out = tmp_path / "out"
    lines = write(out)
    assert [Path(line.split()[-1]).stem for line in lines] == ["bad", "good", "empty", "alone"]
    assert lines[0].startswith("mIoU 0.40  accuracy 0.73  004_bad.png")
    assert (out / INDEX).read_text().splitlines() == lines and (out / SHEET).is_file()
    assert (
        read_picture(out / "001_good.png").shape[1] > read_picture(out / "002_alone.png").shape[1]
    )
    found["bad"] = replace(maps(), labels_HW=np.full((4, 5), 7))
    with pytest.raises(ValueError, match=r"bad.png: the prediction holds class 7"):
        write(tmp_path / "b")


# The tool


def run_tool(*words: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(REPO / "tools" / "visualize.py"), *map(str, words)],
        cwd=REPO, capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--image", "absent.jpg"], "image absent.jpg does not exist"),
        (["--images", "0"], "neither a positive number nor 'all'"),
        (["--images", "3", "--image", "x.jpg"], "not allowed with"),
    ],
)
def test_wrong_words_are_one_line(tmp_path: Path, words: list[str], message: str) -> None:
    done = run_tool("segment", "CONFIG", "CHECKPOINT", "--out", tmp_path / "out", *words)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert message in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("task", "config", "instead"),
    [
        ("segment", "segmentation/ade20k_linear_v1.py", "segmentation/ade20k_linear_dinov3.py"),
        ("depth", "depth/nyu_linear_v1.py", "depth/nyu_linear_dinov3.py"),
        ("depth", "probing/depth_pe_t16_mini.py", "depth/nyu_linear_dinov3.py"),
    ],
)
def test_probes_of_many_layers_are_refused(
    tmp_path: Path, task: str, config: str, instead: str
) -> None:
    """They have a head for every layer, rate and seed, and two test sets in one."""
    done = run_tool(task, f"configs/{config}", tmp_path / "work", "--out", tmp_path / "out")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"config configs/{config} trains many heads" in done.stderr
    assert f"configs/{instead} with --cfg-options 'layers=[INDEX]'" in done.stderr
    assert (REPO / "configs" / instead).is_file()


@pytest.mark.slow
def test_a_trained_segmentor_from_the_command_line(mini_root: Path, tmp_path: Path) -> None:
    from runs import train

    options = dict(data_root=str(mini_root / "ade"), max_epochs=1, val_interval=1)
    train(str(CONFIG), options=options, work_dir=tmp_path / "work")
    words = ["--cfg-options", *(f"{key}={value}" for key, value in options.items())]
    run = ["segment", CONFIG, tmp_path / "work", "--out"]
    done = run_tool(*run, tmp_path / "a", "--images", "all", *words)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path / 'a'}: 6 pictures, worst.png, index.txt" in done.stdout
    foreign = tmp_path / "foreign.png"
    assert cv2.imwrite(str(foreign), image_of(50, 80))
    known = mini_root / "ade" / "images" / "validation" / "ADE_val_00000001.jpg"
    done = run_tool(*run, tmp_path / "b", "--image", foreign, known, *words)
    assert done.returncode == 0, done.stderr
    known_line, foreign_line = done.stdout.splitlines()[-3:-1]
    assert foreign_line.startswith("mIoU    -") and not known_line.startswith("mIoU    -")
    nowhere = ["--cfg-options", f"data_root={tmp_path / 'nowhere'}", *words[2:]]
    done = run_tool(*run, tmp_path / "c", "--image", foreign, *nowhere)
    assert done.returncode == 0, done.stderr
    done = run_tool(*run, tmp_path / "d", *nowhere)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "nowhere" in done.stderr
    done = run_tool("depth", *run[1:], tmp_path / "e", *words)
    assert done.returncode == 2 and "is for segmentation, not depth" in done.stderr
