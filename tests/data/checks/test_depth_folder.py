"""`tools/prepare_data.py nyu` and `kitti`: what is said of a folder, and the conversion."""

from __future__ import annotations

import builtins
import dataclasses
import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2")

import cv2
from depth_folders import HEIGHT, WIDTH, kitti_names, write_kitti, write_nyu, write_png

from pe_dense.data.checks import depth_folder, nyu_labelled
from pe_dense.data.checks.depth_folder import KNOWN_DEPTH_SETS

TOOL = Path(__file__).resolve().parents[3] / "tools" / "prepare_data.py"
NUM_IMAGES = 5


@pytest.fixture(scope="module")
def tool() -> object:
    spec = importlib.util.spec_from_file_location("prepare_data_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tool: object, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run_tool(*words: object) -> tuple[int, str, str]:
        code = tool.main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run_tool


@pytest.fixture
def small_totals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Totals and sizes as the small folders have them."""
    counts = {"nyu": {"train": 4, "test": 4}, "kitti": {"train": 3, "test": 2}}
    for name, known in KNOWN_DEPTH_SETS.items():
        splits = {
            split: dataclasses.replace(one, num_pairs=counts[name][split])
            for split, one in known.splits.items()
        }
        size = (HEIGHT, WIDTH)
        small = dataclasses.replace(known, splits=splits, min_size=size, max_size=size)
        monkeypatch.setitem(depth_folder.KNOWN_DEPTH_SETS, name, small)


@pytest.fixture
def nyu(tmp_path: Path, small_totals: None) -> Path:
    return write_nyu(tmp_path / "nyu")


@pytest.fixture
def kitti(tmp_path: Path, small_totals: None) -> Path:
    return write_kitti(tmp_path / "kitti")


def test_the_published_totals() -> None:
    pairs = {n: [s.num_pairs for s in k.splits.values()] for n, k in KNOWN_DEPTH_SETS.items()}
    assert pairs == {"nyu": [24_231, 654], "kitti": [23_158, 652]}
    assert [k.scale for k in KNOWN_DEPTH_SETS.values()] == [1000, 256]


def test_good_folders(run: Callable, nyu: Path, kitti: Path) -> None:
    code, out, err = run("nyu", nyu)
    assert (code, err) == (0, "") and "no problems" in out
    table = [line.split() for line in out.splitlines()]
    assert ["depth", "maps", "4", "4"] in table and ["median", "depth", *2 * ["2.00", "m"]] in table
    known = f"{100 * (HEIGHT - 1) / HEIGHT:.2f}"  # all but the first row
    assert ["pixels", "known", known, "%", known, "%"] in table
    code, out, err = run("kitti", kitti)
    assert (code, err) == (0, "") and "left out: 1" in out
    assert ["depth", "maps", "3", "2"] in [line.split() for line in out.splitlines()]


def test_one_split_and_a_list_of_another_name(run: Callable, nyu: Path) -> None:
    (nyu / "nyu_test.txt").rename(nyu / "mine.txt")
    code, out, _ = run("nyu", nyu)
    assert code == 2 and "has no nyu_test.txt or nyudepthv2_test_files_with_gt.txt" in out
    code, out, _ = run("nyu", nyu, "--splits", "test", "--test-list", "mine.txt")
    assert code == 0 and "depth maps" in out and "train" not in out


def test_missing_files_by_name(run: Callable, kitti: Path) -> None:
    image, depth = kitti_names("2011_09_26_drive_0002_sync", 2)
    (kitti / "data_depth_annotated/val" / depth).unlink()
    code, out, err = run("kitti", kitti)
    assert code == 2 and err == f"error: 1 kind of problems in {kitti}, listed above\n"
    assert "depth maps that cannot be read: 1" in out and f"val/{depth}: does not exist" in out
    (kitti / "raw" / image.replace("0002_sync", "0001_sync")).unlink()
    code, out, err = run("kitti", kitti)
    assert "images without a file: 1" in out and "2 kinds" in err


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((HEIGHT, WIDTH), 9, np.uint8), "uint8 and not uint16"),
        (np.zeros((HEIGHT, WIDTH), np.uint16), "0 everywhere"),
        (np.full((HEIGHT, 9), 2000, np.uint16), "is 24x9 px"),
        (
            np.full((HEIGHT, WIDTH), 60000, np.uint16),
            "has a median of 60 m, but 0.1 to 10 m are usual",
        ),
        (np.full((HEIGHT, WIDTH), 20, np.uint16), "has a median of 0.02 m, but"),
    ],
)
def test_bad_depth_maps(run: Callable, nyu: Path, values: np.ndarray, words: str) -> None:
    write_png(nyu / "sync/study_0002/sync_depth_00001.png", values)
    code, out, _ = run("nyu", nyu)
    problems = out.split("\nproblems\n")[1]
    assert code == 2 and words in problems and "study_0002/sync_depth_00001.png" in problems


def test_sizes_and_numbers_that_are_not_nyu_s(run: Callable, tmp_path: Path) -> None:
    code, out, _ = run("nyu", write_nyu(tmp_path / "nyu"))
    notes, problems = out.split("\nproblems\n")
    assert code == 2 and "has 4 pairs, but NYUv2 has 24,231" in notes
    assert "has 4 pairs, but NYUv2 has 654" in problems
    assert "images of another size than published: 1" in problems


def test_a_list_that_cannot_be_read(run: Callable, nyu: Path) -> None:
    (nyu / "nyu_train.txt").write_text("one\n")
    code, out, _ = run("nyu", nyu)
    assert code == 2 and "lists that are missing or cannot be used" in out and "has 1 words" in out


def test_kitti_images_in_both_lists(run: Callable, kitti: Path) -> None:
    (kitti / "kitti_eigen_test.txt").write_text((kitti / "kitti_eigen_train.txt").read_text())
    code, out, _ = run("kitti", kitti)
    assert code == 2 and "scored images that are trained on: 3" in out


def test_words_that_make_no_sense(run: Callable, nyu: Path, tmp_path: Path) -> None:
    for words, text in (
        ((tmp_path / "absent",), "is no folder"),
        ((nyu, "--from-mat", "x.mat"), "belong together"),
    ):
        code, out, err = run("nyu", *words)
        assert code == 2 and out == "" and text in err and "Traceback" not in err


# The labelled .mat


def content() -> dict[str, np.ndarray]:
    """What nyu_depth_v2_labeled.mat holds, transposed as there, of NUM_IMAGES images."""
    rng = np.random.default_rng(0)
    return dict(
        images=np.broadcast_to(  # one colour each, which JPEG keeps
            rng.integers(60, 256, (NUM_IMAGES, 3, 1, 1), dtype=np.uint8), (NUM_IMAGES, 3, 640, 480)
        ).copy(),
        rawDepths=rng.uniform(0.5, 9.99, (NUM_IMAGES, 640, 480)).astype(np.float32),
    )


KINDS = ["kitchen", "home_office", "kitchen", "bedroom", "study"]
SCENES = [f"{kind}_{i:04d}" for i, kind in enumerate(KINDS)]


class Refs(dict):
    """Stands for h5py's File: names and references -> arrays."""

    def __enter__(self) -> Refs:
        return self

    def __exit__(self, *_: object) -> None: ...


def fake_h5py(arrays: dict[str, np.ndarray]) -> types.ModuleType:
    file = Refs(arrays)
    for name, texts in (("sceneTypes", KINDS), ("scenes", SCENES)):
        for i, text in enumerate(texts):
            file[f"{name}{i}"] = np.array([[ord(c)] for c in text], np.uint16)
        file[name] = np.array([[f"{name}{i}" for i in range(len(texts))]])
    module = types.ModuleType("h5py")
    module.File = lambda path, mode: file
    return module


@pytest.fixture
def mats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, dict]:
    savemat = pytest.importorskip("scipy.io").savemat
    arrays = content()
    monkeypatch.setitem(sys.modules, "h5py", fake_h5py(arrays))
    mat, splits = tmp_path / "labelled.mat", tmp_path / "splits.mat"
    mat.write_bytes(b"")
    savemat(splits, dict(testNdxs=np.array([[1], [3], [4]]), trainNdxs=np.array([[2], [5]])))
    return mat, splits, arrays


def test_the_conversion_gives_what_bts_gives(
    run: Callable, tmp_path: Path, mats: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    mat, splits, arrays = mats
    known = KNOWN_DEPTH_SETS["nyu"]
    test = dataclasses.replace(known.splits["test"], num_pairs=3)
    fewer = dataclasses.replace(known, splits={**known.splits, "test": test})
    monkeypatch.setitem(depth_folder.KNOWN_DEPTH_SETS, "nyu", fewer)
    out_dir = tmp_path / "new" / "nyu"
    code, out, err = run("nyu", out_dir, "--from-mat", mat, "--splits-mat", splits)
    assert (code, err) == (0, "") and "3 test images written" in out and "no problems" in out
    lines = (out_dir / "nyu_test.txt").read_text().splitlines()
    assert lines == [
        f"{kind}/rgb_{i:05d}.jpg {kind}/sync_depth_{i:05d}.png 518.8579"
        for i, kind in ((0, "kitchen"), (2, "kitchen"), (3, "bedroom"))
    ]
    assert (out_dir / "nyu_test_scenes.txt").read_text().splitlines()[1] == (
        "kitchen/rgb_00002.jpg kitchen_0002"
    )
    depth = cv2.imread(str(out_dir / "test/kitchen/sync_depth_00002.png"), cv2.IMREAD_UNCHANGED)
    expected = (arrays["rawDepths"][2].T * 1000.0).astype(np.uint16)
    np.testing.assert_array_equal(depth, expected)
    image = cv2.imread(str(out_dir / "test/bedroom/rgb_00003.jpg"))[..., ::-1].astype(int)
    inside = slice(10, 470), slice(10, 628)
    assert abs(image[inside] - arrays["images"][3].T[inside]).mean() < 4
    assert max(image[:5].max(), image[476:].max(), image[:, :5].max(), image[:, 634:].max()) < 40
    # A second run touches nothing.
    code, _, err = run("nyu", out_dir, "--from-mat", mat, "--splits-mat", splits)
    assert code == 2 and "already there and not empty" in err


def test_the_margin_by_its_corners() -> None:
    found = nyu_labelled.with_black_margin(np.full((480, 640, 3), 9, np.uint8))
    rows, columns = np.nonzero(found[..., 0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (7, 473, 7, 631)
    assert rows.size == 467 * 625


def test_millimetres_are_cut_off() -> None:
    depths = np.array([[0.0, 1.2349, np.nan, np.inf]], np.float32)
    assert nyu_labelled.millimetres(depths).tolist() == [[0, 1234, 0, 0]]
    for bad in (-0.5, 66.0):
        with pytest.raises(ValueError, match="do not fit in millimetres"):
            nyu_labelled.millimetres(np.array([[bad]], np.float32))


def test_nothing_is_left_of_a_conversion_that_fails(
    run: Callable, tmp_path: Path, mats: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    mat, splits, arrays = mats
    arrays = dict(arrays, rawDepths=np.full((NUM_IMAGES, 640, 480), 70, np.float32))
    monkeypatch.setitem(sys.modules, "h5py", fake_h5py(arrays))
    out_dir = tmp_path / "new"
    code, _, err = run("nyu", out_dir, "--from-mat", mat, "--splits-mat", splits)
    assert code == 2 and "do not fit" in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["labelled.mat", "splits.mat"]


def test_a_conversion_that_was_killed_is_refused(run: Callable, tmp_path: Path, mats: tuple):
    (tmp_path / ".new.partial").mkdir()
    code, _, err = run("nyu", tmp_path / "new", "--from-mat", mats[0], "--splits-mat", mats[1])
    assert code == 2 and "was killed" in err and not (tmp_path / "new").exists()


def test_sources_that_are_missing_or_others(
    run: Callable, tmp_path: Path, mats: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    mat, splits, arrays = mats

    def convert(**change: Path) -> str:
        names = dict(mat=mat, splits=splits) | change
        code, _, err = run(
            "nyu", tmp_path / "new", "--from-mat", names["mat"], "--splits-mat", names["splits"]
        )
        assert code == 2 and not (tmp_path / "new").exists() and err.count("\n") == 1
        return err

    assert "does not exist; it is to be had from http" in convert(mat=tmp_path / "absent.mat")
    assert "has no list testNdxs" in convert(splits=mat)
    few = dict(arrays, images=arrays["images"][:2])
    monkeypatch.setitem(sys.modules, "h5py", fake_h5py(few))
    assert "not among the 2" in convert()
    monkeypatch.setitem(sys.modules, "h5py", fake_h5py({"images": arrays["images"]}))
    assert "has no rawDepths" in convert()


def test_without_h5py_one_sentence_says_so(
    run: Callable, tmp_path: Path, mats: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "h5py")
    load = builtins.__import__

    def refuse(name: str, *rest: object) -> object:
        if name == "h5py":
            raise ModuleNotFoundError("No module named 'h5py'", name="h5py")
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    code, _, err = run("nyu", tmp_path / "new", "--from-mat", mats[0], "--splits-mat", mats[1])
    assert code == 2 and "pip install h5py" in err and "Traceback" not in err


def test_a_real_hdf5_file(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    savemat = pytest.importorskip("scipy.io").savemat
    mat, splits = tmp_path / "labelled.mat", tmp_path / "splits.mat"
    savemat(splits, dict(testNdxs=np.array([[2]])))
    with h5py.File(mat, "w") as file:
        for name, array in content().items():
            file[name] = array
        for name, texts in (("sceneTypes", KINDS), ("scenes", SCENES)):
            refs = np.empty((1, len(texts)), h5py.ref_dtype)
            for i, text in enumerate(texts):
                file[f"#refs#/{name}{i}"] = np.array([[ord(c)] for c in text], np.uint16)
                refs[0, i] = file[f"#refs#/{name}{i}"].ref
            file.create_dataset(name, data=refs, dtype=h5py.ref_dtype)
    assert nyu_labelled.convert_labelled(mat, splits, tmp_path / "out") == 1
    scenes = (tmp_path / "out" / "nyu_test_scenes.txt").read_text()
    assert scenes == "home_office/rgb_00001.jpg home_office_0001\n"
