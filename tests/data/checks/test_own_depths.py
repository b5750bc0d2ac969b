"""Own images and depth maps: all formats give the same metres; a unit that nobody can tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cv2")

from own_folders import depths, picture

from pe_dense.data.checks.own_depths import facts
from pe_dense.data.checks.own_parts import read_list
from pe_dense.data.depth_map import metres, read_depth_steps


def found(root: Path, **options: object) -> dict:
    return facts({"data_root": str(root), "planned_for": "cpu", **options})


def depth_of_first(root: Path, **options: object) -> np.ndarray:
    """Metres of the first training map, as training reads it."""
    of = found(root, **options)
    row = read_list(root / of["list"], root, "train")[0]
    return metres(read_depth_steps(row["map"]), of["steps_per_metre"])


def png(file: Path, depth_HW: np.ndarray) -> None:
    Image.fromarray(depth_HW.astype(np.uint16)).save(file)


def npy(file: Path, depth_HW: np.ndarray) -> None:
    np.save(file, np.where(depth_HW > 0, depth_HW / 1000, np.nan).astype(np.float32))


def npz(file: Path, depth_HW: np.ndarray) -> None:
    np.savez(file, depth=depth_HW / 1000, other=np.zeros(3))


def npz_infinite(file: Path, depth_HW: np.ndarray) -> None:
    np.savez(file, np.where(depth_HW > 0, depth_HW / 1000, np.inf))


def opencv(file: Path, depth_HW: np.ndarray) -> None:
    import os

    import cv2

    os.environ["OPENCV_IO_ENABLE_OPENEXR"] = "1"
    assert cv2.imwrite(str(file), (depth_HW / 1000).astype(np.float32))


def tiff(file: Path, depth_HW: np.ndarray) -> None:
    Image.fromarray((depth_HW / 1000).astype(np.float32)).save(file)


FORMATS = {
    "png": ("images/{n}.jpg", "depth/{n}.png", png),
    "flat": ("frame-{n:06}.color.jpg", "frame-{n:06}.depth.png", png),
    "sync": ("rgb/{n}.png", "sync_depth/{n}.png", png),
    "split": ("images/train/{n}.jpg", "depths/train/{n}_depth.png", png),
    "npy": ("images/{n}.jpg", "depth/{n}.npy", npy),
    "npz": ("images/{n}.jpg", "depth/{n}.npz", npz),
    "npz_one": ("images/{n}.jpg", "depth/{n}.npz", npz_infinite),
    "exr": ("images/{n}.jpg", "depth/{n}.exr", opencv),
    "pfm": ("images/{n}.jpg", "depth/{n}.pfm", opencv),
    "tiff": ("images/{n}.jpg", "depth/{n}.tif", tiff),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_metres(name: str, tmp_path: Path) -> None:
    root = depths(tmp_path / "mine", *FORMATS[name])
    depth_HW = depth_of_first(root)
    known = depth_HW > 0
    assert 0.7 < known.mean() < 0.8  # a quarter is 0, nan or infinite
    stripes = np.array([0, 0.9, 1.8, 2.7])[np.arange(64) * 4 // 64]
    np.testing.assert_allclose(depth_HW[:, 40], stripes, atol=3e-5)
    assert found(root)["max_depth"] == 2.8  # 2.705 to two digits, upwards


def test_lists_of_pairs_divide(tmp_path: Path) -> None:
    root = depths(tmp_path, "a/rgb_{n}.jpg", "a/sync_depth_{n}.png", png)
    lines = [f"a/rgb_{n}.jpg a/sync_depth_{n}.png 500.0\n" for n in range(6)]
    (root / "nyu_train.txt").write_text("".join(lines[:4]))
    (root / "nyu_test.txt").write_text("".join(lines[4:]))
    val = read_list(root / found(root)["list"], root, "val")
    assert [row["image"].name for row in val] == ["rgb_4.jpg", "rgb_5.jpg"]
    (root / "nyu_test.txt").write_text("a/rgb_9.jpg a/sync_depth_9.png\n")
    with pytest.raises(ValueError, match=r"nyu_test\.txt names .*rgb_9\.jpg, which does not exist"):
        found(root)


def test_the_unit_is_told_by_the_numbers_and_can_be_said(tmp_path: Path) -> None:
    mm = depths(tmp_path / "mm", "images/{n}.jpg", "depth/{n}.png", png)
    assert found(mm)["depth_scale"] == 1000 and "millimetres" in found(mm)["found"]
    assert found(mm, depth_scale=256)["max_depth"] == pytest.approx(2705 / 256, abs=0.5)
    # A Kinect's millimetres, times five.
    tum = depths(tmp_path / "tum", "images/{n}.jpg", "depth/{n}.png",
                 lambda file, d: png(file, 5 * d))  # fmt: skip
    assert found(tum)["depth_scale"] == 5000
    np.testing.assert_allclose(depth_of_first(tum)[20, 40], 0.9)


def sparse(file: Path, depth_HW: np.ndarray) -> None:
    depth_HW[:, 10:] = 0
    png(file, depth_HW)


UNTOLD = {
    "sparse": (sparse, (0, 900, 1800, 2700)),
    "far": (png, (0, 15_000, 30_000, 60_000)),
    "relative": (lambda f, d: np.save(f.with_suffix(".npy"), d / 2800), (0, 900, 1800, 2700)),
    "float_mm": (lambda f, d: np.save(f.with_suffix(".npy"), d), (0, 900, 1800, 2700)),
}


@pytest.mark.parametrize("case", UNTOLD)
def test_depth_without_a_unit_is_asked_for_it(case: str, tmp_path: Path) -> None:
    save, values = UNTOLD[case]
    root = depths(tmp_path, "images/{n}.jpg", "depth/{n}.png", save, values)
    with pytest.raises(ValueError, match=r"unit of the depth maps .* cannot be told") as error:
        found(root)
    assert "depth_scale=1000 for millimetres" in str(error.value)
    assert "\n" not in str(error.value)
    assert found(root, depth_scale=1000)["depth_scale"] == 1000


def test_the_largest_number_of_16_bits_is_unknown(tmp_path: Path) -> None:
    def save(file: Path, depth_HW: np.ndarray) -> None:
        depth_HW[:8] = 65_535
        png(file, depth_HW)

    root = depths(tmp_path, "images/{n}.jpg", "depth/{n}.png", save)
    assert (depth_of_first(root)[:16] == 0).all()
    assert found(root)["max_depth"] == 2.8
    assert "65535 counts as unknown" in found(root)["found"]


def eight_bits(file: Path, depth_HW: np.ndarray) -> None:
    Image.fromarray((depth_HW / 12).astype(np.uint8)).save(file)


def coloured(file: Path, depth_HW: np.ndarray) -> None:
    np.save(file.with_suffix(".npy"), np.stack([depth_HW, depth_HW + 1, depth_HW], 2))


def empty(file: Path, depth_HW: np.ndarray) -> None:
    png(file, depth_HW * 0)


def code(file: Path, depth_HW: np.ndarray) -> None:
    np.save(file.with_suffix(".npy"), np.array([depth_HW, None], object), allow_pickle=True)


def several(file: Path, depth_HW: np.ndarray) -> None:
    np.savez(file.with_suffix(".npz"), left=depth_HW, right=depth_HW)


BROKEN = {
    "eight_bits": (eight_bits, {}, r"is uint8 and not uint16"),
    "coloured": (coloured, {}, r"has the shape \(64, 64, 3\)"),
    "empty": (empty, {}, r"is 0 everywhere"),
    "code": (code, {}, r"is no array of numbers"),
    "several": (several, {}, r"has the arrays left, right, of which none is called depth"),
    "scale": (png, {"depth_scale": -1}, r"depth_scale=-1 is no number of steps per metre"),
    "limit": (png, {"max_depth": 0}, r"max_depth=0 is no depth in metres"),
    "folder": (png, {"depths": "d"}, r"depths=d is no folder of .*depth, images"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_used_is_refused_in_one_sentence(case: str, tmp_path: Path) -> None:
    save, options, words = BROKEN[case]
    root = depths(tmp_path, "images/{n}.jpg", "depth/{n}.png", save)
    with pytest.raises(ValueError, match=words) as error:
        found(root, **options)
    assert "\n" not in str(error.value)


def test_kinds_and_sizes_that_do_not_fit(tmp_path: Path) -> None:
    root = depths(tmp_path / "sizes", "images/{n}.jpg", "depth/{n}.png", png)
    picture(root / "images/3.jpg", 3, side=32)
    with pytest.raises(ValueError, match=r"3\.png: is 64x64 px but its image is 32x32"):
        found(root)
    root = depths(tmp_path / "kinds", "images/{n}.jpg", "depth/{n}.png", png)
    (root / "depth/3.png").unlink()
    np.save(root / "depth/3.npy", np.full((64, 64), 1.5))
    with pytest.raises(ValueError, match=r"16-bit whole numbers"):
        found(root)


def test_hashes_follow_maps_and_unit(tmp_path: Path) -> None:
    root = depths(tmp_path, "images/{n}.jpg", "depth/{n}.png", png)
    assert found(root)["train_sha256"] == found(root, depth_scale=1000)["train_sha256"]
    assert found(root)["train_sha256"] != found(root, depth_scale=256)["train_sha256"]


def test_whole_millimetres_stay_what_they_are_in_any_format(tmp_path: Path) -> None:
    """A sensor's depth divided by 1000 by somebody is read to the last bit as the sensor's own."""
    rng = np.random.default_rng(0)
    values = tuple(rng.integers(400, 3_901, 4).tolist())
    own = depths(tmp_path / "own", "images/{n}.jpg", "depth/{n}.png", png, values)
    expected = found(own)
    for name, save, more in (
        ("npy", npy, {}), ("exr", opencv, {}), ("tiff", tiff, {}),
        ("mm", lambda file, d: np.save(file.with_suffix(".npy"), d), dict(depth_scale=1000)),
    ):  # fmt: skip
        pattern = {"npy": "npy", "exr": "exr", "tiff": "tif", "mm": "npy"}[name]
        root = depths(tmp_path / name, "images/{n}.jpg", f"depth/{{n}}.{pattern}", save, values)
        facts = found(root, **more)
        assert facts["steps_per_metre"] == 1000, name
        assert facts["max_depth"] == expected["max_depth"], name
        assert (depth_of_first(root, **more) == depth_of_first(own)).all(), name


def test_what_is_no_whole_millimetre_has_the_finest_steps(tmp_path: Path) -> None:
    def off(file: Path, depth_HW: np.ndarray) -> None:
        npy(file, depth_HW + 0.25 * (depth_HW > 0))

    root = depths(tmp_path, "images/{n}.jpg", "depth/{n}.npy", off)
    assert found(root)["steps_per_metre"] > 20_000
