"""300 small sets of depth maps with one defect each: the right errors, or one sentence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fuzzing import require_verdict, scores_of, some, spoil
from mmengine.structures import PixelData
from PIL import Image

CONFIG = "configs/depth/linear_pe_t16_mini.py"
HEIGHT, WIDTH, NUM_IMAGES = 48, 64, 5
LISTS = {"train": "nyu_train.txt", "test": "nyu_test.txt"}
Defect = Callable[[np.random.Generator, Path], str]


# ---- a sound folder, and who sees it -------------------------------------------------------------


def build(root: Path) -> Path:
    """Pictures whose grey value is the depth: 25 per metre."""
    rng = np.random.default_rng(4)
    for split, name in LISTS.items():
        (root / split).mkdir(parents=True)
        lines = []
        for i in range(NUM_IMAGES):
            metres_HW = 1.0 + 7.0 * rng.random((6, 8)).repeat(8, 0).repeat(8, 1)
            picture = np.repeat((25 * metres_HW[:, :, None]).astype(np.uint8), 3, 2)
            steps_HW = (metres_HW * 1000).astype(np.uint16)
            steps_HW[:3] = 0  # not known
            Image.fromarray(picture).save(root / split / f"{i}.png")
            assert cv2.imwrite(str(root / split / f"{i}_depth.png"), steps_HW)
            lines.append(f"{split}/{i}.png {split}/{i}_depth.png 518.8579\n")
        (root / name).write_text("".join(lines))
    return root


def see(batch: dict[str, Any]) -> list[dict[str, Any]]:
    """Grey value over 25, a tenth too far."""
    samples = []
    for image_3HW, sample in zip(batch["inputs"], batch["data_samples"], strict=True):
        sample.pred_depth_map = PixelData(data=image_3HW[:1].float() / 25 * 1.1)
        samples.append(sample.to_dict())
    return samples


def score(root: Path) -> dict[str, float] | str:
    options = dict(data_root=str(root), crop_size=(32, 32))
    return scores_of(CONFIG, options, see, trains=True)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("sound") / "set")


@pytest.fixture(scope="module")
def right(sound: Path) -> dict[str, float]:
    scores = score(sound)
    assert isinstance(scores, dict), scores
    assert 0.08 < scores["depth/abs_rel"] < 0.11
    return scores


# ---- defects -------------------------------------------------------------------------------------


def picture(rng: np.random.Generator, root: Path) -> Path:
    return root / some(rng, LISTS) / f"{int(rng.integers(NUM_IMAGES))}.png"


def depth(rng: np.random.Generator, root: Path) -> Path:
    return root / some(rng, LISTS) / f"{int(rng.integers(NUM_IMAGES))}_depth.png"


def steps_of(file: Path) -> np.ndarray:
    return cv2.imread(str(file), cv2.IMREAD_UNCHANGED)


def broken_file(rng: np.random.Generator, root: Path) -> str:
    file = some(rng, [picture, depth])(rng, root)
    return f"{file.parent.name}/{file.name} {spoil(rng, file)}"


def other_coding_of_depth(rng: np.random.Generator, root: Path) -> str:
    file = depth(rng, root)
    steps_HW = steps_of(file)
    how = some(
        rng, ["8 bits", "colours", "float", "three channels", "nothing known", "32 bits", "JPEG"]
    )
    if how == "8 bits":
        cv2.imwrite(str(file), (steps_HW // 40).astype(np.uint8))
    elif how == "colours":
        cv2.imwrite(str(file), cv2.applyColorMap((steps_HW // 40).astype(np.uint8), 2))
    elif how == "float":
        cv2.imwrite(str(file.with_suffix(".tif")), steps_HW.astype(np.float32) / 1000)
        file.with_suffix(".tif").rename(file)
    elif how == "three channels":
        cv2.imwrite(str(file), np.repeat(steps_HW[:, :, None], 3, 2))
    elif how == "nothing known":
        cv2.imwrite(str(file), np.zeros_like(steps_HW))
    elif how == "32 bits":
        Image.fromarray(steps_HW.astype(np.int32)).save(file, format="TIFF")
    else:
        Image.fromarray((steps_HW // 40).astype(np.uint8)).save(file, format="JPEG")
    return f"{file.name}: {how}"


def other_size(rng: np.random.Generator, root: Path) -> str:
    file = some(rng, [picture, depth])(rng, root)
    size = some(
        rng, [(HEIGHT, WIDTH), (WIDTH // 2, HEIGHT // 2), (WIDTH + 1, HEIGHT), (1, 1), (4000, 3)]
    )
    resized = cv2.resize(steps_of(file), size, interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(file), resized)
    return f"{file.name} of {size}"


def other_scale(rng: np.random.Generator, root: Path) -> str:
    split, factor = some(rng, LISTS), some(rng, [0.001, 100.0])
    for file in sorted((root / split).glob("*_depth.png")):
        steps_HW = np.clip(steps_of(file) * factor, 0, 65535).astype(np.uint16)
        cv2.imwrite(str(file), steps_HW)
    return f"depths of {split} times {factor}"


def turned(rng: np.random.Generator, root: Path) -> str:
    file = picture(rng, root)
    image = Image.open(file)
    exif = image.getexif()
    exif[0x0112] = int(rng.integers(2, 9))
    image.save(file, exif=exif)
    return f"{file.name} with an orientation of {exif[0x0112]}"


def wide_picture(rng: np.random.Generator, root: Path) -> str:
    file = picture(rng, root)
    cv2.imwrite(str(file), cv2.imread(str(file)).astype(np.uint16) * 257)
    return f"16-bit {file.name}"


def coded_picture(rng: np.random.Generator, root: Path) -> str:
    file = picture(rng, root)
    image = Image.open(file)
    how = some(rng, ["L", "LA", "RGBA", "P"])
    (image.quantize(64) if how == "P" else image.convert(how)).save(file)
    return f"{file.name} as {how}"


def listed(rng: np.random.Generator, root: Path) -> str:
    file = root / some(rng, LISTS.values())
    lines = file.read_text().splitlines()
    at = int(rng.integers(len(lines)))
    image, map_, focal = lines[at].split()
    how, new = some(
        rng,
        {
            "no focal length": [f"{image} {map_}"],
            "one word": [image],
            "four words": [f"{image} {map_} {focal} x"],
            "swapped": [f"{map_} {image} {focal}"],
            "twice": [lines[at], lines[at]],
            "empty line": [lines[at], "", "  "],
            "tabs": ["\t".join((image, map_, focal))],
            "focal text": [f"{image} {map_} far"],
            "focal nan": [f"{image} {map_} nan"],
            "focal negative": [f"{image} {map_} -5"],
            "outside": [f"../../{image} {map_} {focal}"],
            "absolute": [f"/etc/passwd {map_} {focal}"],
            "None": [f"{image} None {focal}"],
            "Windows paths": [lines[at].replace("/", "\\")],
            "another picture": [f"{image} {map_.replace('_depth', '_x')} {focal}"],
        }.items(),
    )
    lines[at : at + 1] = new
    file.write_text("\n".join(lines) + "\n")
    return f"{file.name}: {how}"


def broken_list(rng: np.random.Generator, root: Path) -> str:
    file = root / some(rng, LISTS.values())
    data = file.read_bytes()
    how, new = some(
        rng,
        {
            "empty": b"",
            "blank": b"\n\n",
            "cut": data[: len(data) - 25],
            "not UTF-8": data[:5] + b"\xff" + data[5:],
            "CRLF": data.replace(b"\n", b"\r\n"),
            "mark": b"\xef\xbb\xbf" + data,
            "UTF-16": data.decode().encode("utf-16"),
            "zeros": bytes(30),
        }.items(),
    )
    file.write_bytes(new)
    return f"{file.name} {how}"


def absent_part(rng: np.random.Generator, root: Path) -> str:
    part = some(rng, [*LISTS, *LISTS.values()])
    if (root / part).is_dir():
        shutil.rmtree(root / part)
    else:
        (root / part).unlink()
    return f"no {part}"


def same_in_both(rng: np.random.Generator, root: Path) -> str:
    if rng.random() < 0.5:
        shutil.copy(root / LISTS["train"], root / LISTS["test"])
        return "both lists are one"
    for name in ("1.png", "1_depth.png"):
        shutil.copy(root / "train" / name, root / "test" / name)
    return "a pair of train is in test"


DEFECTS: list[Defect] = [
    broken_file, other_coding_of_depth, other_size, other_scale, turned, wide_picture,
    coded_picture, listed, broken_list, absent_part, same_in_both,
]  # fmt: skip
# Sound data in another dress: these must be scored, not refused.
HARMLESS = {turned, coded_picture}


@pytest.mark.parametrize("seed", range(300))
def test_right_or_refused(seed: int, sound: Path, right: dict[str, float], tmp_path: Path) -> None:
    folder = tmp_path / "set"
    require_verdict(seed, sound, folder, DEFECTS, HARMLESS, score, right)
