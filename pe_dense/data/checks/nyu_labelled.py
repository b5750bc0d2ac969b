"""The official test set of NYUv2 from nyu_depth_v2_labeled.mat, in the layout of BTS.

Source: NYU Depth V2, ECCV 2012 (Silberman et al.); the conversion gives what
cleinc/bts @ 8156117, utils/extract_official_train_test_set_from_mat.py, gives: raw depth in
millimetres, cut off and not rounded, images with a black margin of 7 or 8 pixels as JPEG.
Shape legend: N images, H, W pixels; arrays in the file are transposed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pe_dense.data.depth_list import read_depth_list

MAT_URL = "http://horatio.cs.nyu.edu/mit/silberman/nyu_depth_v2/nyu_depth_v2_labeled.mat"
SPLITS_URL = "http://horatio.cs.nyu.edu/mit/silberman/indoor_seg_sup/splits.mat"
FOCAL_PX = 518.8579  # of the colour camera, as in the lists of BTS
SIZE = (480, 640)
_SEEN = (slice(7, 474), slice(7, 632))  # the rest of an undistorted frame is white
LIST_NAME, SCENES_NAME = "nyu_test.txt", "nyu_test_scenes.txt"


def convert_labelled(
    mat: Path, splits: Path, out: Path, on_progress: Callable[[int, int], None] | None = None
) -> int:
    """Write test/<type of scene>/rgb_00000.jpg, sync_depth_00000.png and lists into a new folder.

    `nyu_test.txt` has the lines of BTS's list, relative to test/. `nyu_test_scenes.txt` names the
    scene of every image, for `sequence_file`. The folder appears when it is complete.

    Args:
        mat: nyu_depth_v2_labeled.mat.
        splits: splits.mat, with the numbers of the test images.
        out: Folder to make; must not exist, or be empty.
        on_progress: Called with (images done, images in all).

    Returns:
        How many images.

    Raises:
        ValueError: If h5py is missing, a file is not what it should be, or `out` is in use.
    """
    for path, url in ((mat, MAT_URL), (splits, SPLITS_URL)):
        if not path.is_file():
            raise ValueError(f"{path} does not exist; it is to be had from {url}")
    try:
        import h5py
        import scipy.io  # noqa: F401 (needed below)
    except ImportError as error:
        raise ValueError(
            f"reading {mat.name} needs h5py and scipy, and {error.name} is not installed; "
            "run: pip install h5py scipy"
        ) from error
    with appearing_folder(out) as folder:
        try:
            opened = h5py.File(mat, "r")
        except OSError as error:
            raise ValueError(f"{mat} is no MATLAB 7.3 file; fetch it anew ({error})") from error
        with opened as file:
            absent = {"images", "rawDepths", "sceneTypes", "scenes"} - set(file)
            if absent:
                raise ValueError(
                    f"{mat} has no {', '.join(sorted(absent))}, so it is not the labelled set of "
                    f"NYUv2; fetch {MAT_URL}"
                )
            indices = indices_of_test(splits, len(file["images"]))
            kinds, scenes = (_strings(file, name) for name in ("sceneTypes", "scenes"))
            rows = []
            for done, index in enumerate(indices, start=1):
                image = Path(kinds[index], f"rgb_{index:05d}.jpg")
                depth = Path(kinds[index], f"sync_depth_{index:05d}.png")
                image_HWC, depth_HW = file["images"][index].T, file["rawDepths"][index].T
                if image_HWC.shape != (*SIZE, 3) or depth_HW.shape != SIZE:
                    raise ValueError(
                        f"image {index} of {mat} is {image_HWC.shape} and its depth "
                        f"{depth_HW.shape}, not 480x640; fetch {MAT_URL}"
                    )
                _write(folder / "test" / image, with_black_margin(image_HWC)[..., ::-1])
                _write(folder / "test" / depth, millimetres(depth_HW))
                rows.append((image.as_posix(), depth.as_posix(), scenes[index]))
                if on_progress:
                    on_progress(done, len(indices))
        lines = [f"{image} {depth} {FOCAL_PX}\n" for image, depth, _ in rows]
        (folder / LIST_NAME).write_text("".join(lines), encoding="ascii")
        lines = [f"{image} {scene}\n" for image, _, scene in rows]
        (folder / SCENES_NAME).write_text("".join(lines), encoding="ascii")
        read_depth_list(folder / LIST_NAME)  # what is written can be read
    return len(rows)


def indices_of_test(splits: Path, num_images: int) -> list[int]:
    """Numbers of the test images, counted from 0; MATLAB counts from 1.

    Raises:
        ValueError: If the file is not splits.mat, or names images that there are not.
    """
    from scipy.io import loadmat

    try:
        numbers = np.unique(np.asarray(loadmat(splits)["testNdxs"], np.int64))
    except Exception as error:  # SciPy raises many kinds for a file of another format
        raise ValueError(
            f"{splits} has no list testNdxs of test images; fetch {SPLITS_URL}"
        ) from error
    if not numbers.size or numbers[0] < 1 or numbers[-1] > num_images:
        raise ValueError(
            f"{splits} names test images that are not among the {num_images} of the labelled set; "
            f"fetch {SPLITS_URL} and {MAT_URL}"
        )
    return [int(number) - 1 for number in numbers]


def with_black_margin(image_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A 480 x 640 image with a black margin: rows to 6, from 474; columns to 6, from 632."""
    found = np.zeros_like(image_HWC)
    found[_SEEN] = image_HWC[_SEEN]
    return found


def millimetres(depth_HW: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Depth in metres to whole millimetres, cut off; what is not finite becomes 0, unknown.

    Raises:
        ValueError: If a depth is negative or beyond 65.535 m.
    """
    steps_HW = np.nan_to_num(depth_HW * np.float32(1000), posinf=0.0, neginf=0.0)
    if steps_HW.size and (steps_HW.min() < 0 or steps_HW.max() >= 65536):
        raise ValueError(
            f"raw depths of {depth_HW.min():g} to {depth_HW.max():g} m do not fit in millimetres "
            "of 16 bits; fetch the labelled set anew"
        )
    return steps_HW.astype(np.uint16)


@contextmanager
def appearing_folder(out: Path) -> Iterator[Path]:
    """A hidden sibling folder that becomes `out` at the end, or vanishes on an error.

    Raises:
        ValueError: If `out` holds anything, or a run writes it now or was killed.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is already there and not empty; name a new folder")
    folder = out.absolute().with_name(f".{out.absolute().name}.partial")
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        raise ValueError(
            f"{folder} is there, so another run writes {out} now or was killed; wait for it, or "
            "remove that folder"
        ) from None
    try:
        yield folder
        folder.replace(out)  # an empty folder may be there
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _strings(file: Any, name: str) -> list[str]:
    references = np.asarray(file[name]).ravel()
    texts = ["".join(chr(int(c)) for c in np.asarray(file[r]).ravel()) for r in references]
    wrong = [text for text in texts if not text.replace("_", "").isalnum() or not text.isascii()]
    if wrong:  # they become names of folders
        raise ValueError(f"{name} holds {wrong[0]!r}, which is no name of a scene; fetch {MAT_URL}")
    return texts


def _write(path: Path, picture: NDArray[Any]) -> None:
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    ok, data = cv2.imencode(path.suffix, np.ascontiguousarray(picture))
    if not ok:
        raise RuntimeError(f"OpenCV could not encode {path} of shape {picture.shape}")
    path.write_bytes(data.tobytes())
