"""300 small MOTChallenge folders with one defect each: the right HOTA, or one sentence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuzzing import require_verdict, scores_of, some, spoil, turn
from mmengine.structures import InstanceData
from PIL import Image

pytest.importorskip("trackeval")
CONFIG = "configs/tracking/bytetrack_pe_t16_mini.py"
SIDE, HEIGHT, NUM_FRAMES = 64, 62, 8
SEQUENCES = ("clip-a", "clip-b")
COLOURS = ((230, 30, 30), (30, 200, 30))
Defect = Callable[[np.random.Generator, Path], str]


# ---- a sound folder, and who sees it -------------------------------------------------------------


def build(root: Path) -> Path:
    """Two squares that move; rows of a third class and of inactive boxes are no targets."""
    for s, name in enumerate(SEQUENCES):
        (root / name / "img1").mkdir(parents=True)
        (root / name / "gt").mkdir()
        rows = []
        for t in range(1, NUM_FRAMES + 1):
            picture = np.full((HEIGHT, SIDE, 3), 100, np.uint8)
            for k, colour in enumerate(COLOURS, start=1):
                x, y = 2 + 3 * t + s, 4 + 30 * (k - 1)
                picture[y : y + 20, x : x + 16] = colour
                rows.append(f"{t},{k},{x + 1},{y + 1},16,20,1,1,1.0")
            rows.append(f"{t},9,50,1,10,10,0,7,0.5")
            Image.fromarray(picture).save(root / name / f"img1/{t:06d}.jpg", quality=97)
        (root / name / "gt/gt.txt").write_text("\n".join(rows) + "\n")
        (root / name / "seqinfo.ini").write_text(
            f"[Sequence]\nname={name}\nimDir=img1\nframeRate=10\nseqLength={NUM_FRAMES}\n"
            f"imWidth={SIDE}\nimHeight={HEIGHT}\nimExt=.jpg\n"
        )
    return root


def see(batch: dict[str, Any]) -> list[dict[str, Any]]:
    """One track per colour; the green one is lost for two frames and comes back as another."""
    samples = []
    for images_T3hw, sample in zip(batch["inputs"], batch["data_samples"], strict=True):
        for image_3hw, frame in zip(images_T3hw, sample, strict=True):
            rgb_hw3 = image_3hw.flip(0).permute(1, 2, 0).to(torch.int64)
            boxes, ids = [], []
            number = int(frame.frame_number)
            for k, colour in enumerate(COLOURS, start=1):
                close_hw = (rgb_hw3 - torch.tensor(colour)).abs().amax(-1) < 60
                rows, columns = torch.nonzero(close_hw, as_tuple=True)
                if len(rows) < 40 or (k == 2 and number in (4, 5)):
                    continue
                box = torch.tensor(
                    [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                ).float()
                boxes.append((box / torch.tensor([*frame.scale_factor] * 2)).tolist())
                ids.append(k + 10 * (k == 2 and number > 5))
            frame.pred_track_instances = InstanceData(
                bboxes=torch.tensor(boxes).reshape(-1, 4),
                scores=torch.full((len(ids),), 0.9),
                labels=torch.zeros(len(ids), dtype=torch.long),
                instances_id=torch.tensor(ids, dtype=torch.long),
            )
        samples.append({"video_data_samples": list(sample)})
    return samples


@pytest.fixture(scope="module")
def score(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], dict[str, float] | str]:
    results = str(tmp_path_factory.mktemp("results"))

    def run(root: Path) -> dict[str, float] | str:
        options = dict(data_root=str(root), out_dir=results, image_scale=(SIDE, HEIGHT))
        return scores_of(CONFIG, options, see)

    return run


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("sound") / "set")


@pytest.fixture(scope="module")
def right(sound: Path, score: Callable[[Path], dict[str, float] | str]) -> dict[str, float]:
    scores = score(sound)
    assert isinstance(scores, dict), scores
    assert 0.5 < scores["mot/HOTA"] < 0.95
    return scores


# ---- defects -------------------------------------------------------------------------------------


def sequence(rng: np.random.Generator, root: Path) -> Path:
    return root / some(rng, SEQUENCES)


def change_rows(folder: Path, change: Callable[[list[list[str]]], Any]) -> None:
    file = folder / "gt/gt.txt"
    rows = [line.split(",") for line in file.read_text().splitlines()]
    changed = change(rows)
    rows = rows if changed is None else changed
    file.write_text("".join(",".join(row) + "\n" for row in rows))


def junk_cell(rng: np.random.Generator, root: Path) -> str:
    folder, value = (
        sequence(rng, root),
        some(rng, ["", "x", "nan", "inf", "1e400", "-", "1;2", "0x1"]),
    )
    row, column = int(rng.integers(10)), int(rng.integers(9))
    change_rows(folder, lambda rows: rows[row].__setitem__(column, value))
    return f"row {row}, column {column} is {value!r}"


def row_form(rng: np.random.Generator, root: Path) -> str:
    folder, at = sequence(rng, root), int(rng.integers(10))
    how, change = some(
        rng,
        {
            "a row cut": lambda rows: rows.__setitem__(at, rows[at][:5]),
            "a row longer": lambda rows: rows[at].append("7"),
            "spaces": lambda rows: [[f" {cell} " for cell in row] for row in rows],
            "floats": lambda rows: [[f"{float(c):.2f}" for c in row] for row in rows],
            "exponents": lambda rows: [[f"{float(c):e}" for c in row] for row in rows],
            "reversed": lambda rows: rows[::-1],
            "a row twice": lambda rows: rows.insert(at, rows[at]),
            "empty lines": lambda rows: [cell for row in rows for cell in (row, [""])],
            "a header": lambda rows: rows.insert(0, ["frame", "id", "x", "y", "w", "h"]),
            "a comment": lambda rows: rows.insert(0, ["# made by hand"]),
        }.items(),
    )
    change_rows(folder, change)
    return how


def separators(rng: np.random.Generator, root: Path) -> str:
    file = sequence(rng, root) / "gt/gt.txt"
    text = file.read_text()
    how, new = some(
        rng,
        {
            "spaces": text.replace(",", " "),
            "tabs": text.replace(",", "\t"),
            "semicolons": text.replace(",", ";"),
            "CRLF": text.replace("\n", "\r\n"),
            "trailing comma": text.replace("\n", ",\n"),
            "mark": "\ufeff" + text,
        }.items(),
    )
    file.write_bytes(new.encode())
    return how


def numbers(rng: np.random.Generator, root: Path) -> str:
    folder = sequence(rng, root)

    def each(column: int, to: Callable[[str], Any]) -> Callable[[list[list[str]]], None]:
        def change(rows: list[list[str]]) -> None:
            for row in rows:
                row[column] = str(to(row[column]))

        return change

    how, change = some(
        rng,
        {
            "frames from 0": each(0, lambda c: int(c) - 1),
            "frames by 5": each(0, lambda c: 5 * int(c)),
            "class 3": each(7, lambda c: 3),
            "class 0": each(7, lambda c: 0),
            "no row active": each(6, lambda c: 0),
            "ids of 10^12": each(1, lambda c: int(c) + 10**12),
            "ids from 0": each(1, lambda c: int(c) - 1),
            "ids -1": each(1, lambda c: -1),
            "one id": each(1, lambda c: 1),
            "negative width": each(4, lambda c: -int(c)),
            "no height": each(5, lambda c: 0),
            "boxes far away": each(2, lambda c: int(c) + 5000),
            "visibility 5": each(8, lambda c: 5),
            "active 2": each(6, lambda c: 2),
        }.items(),
    )
    change_rows(folder, change)
    return how


def broken_list(rng: np.random.Generator, root: Path) -> str:
    file = sequence(rng, root) / some(rng, ["gt/gt.txt", "seqinfo.ini"])
    data = file.read_bytes()
    how, new = some(
        rng,
        {
            "empty": b"",
            "cut": data[: len(data) // 2],
            "not UTF-8": b"\xff\xfe" + data,
            "UTF-16": data.decode().encode("utf-16"),
            "zeros": bytes(50),
            "text": b"hello\n",
        }.items(),
    )
    file.write_bytes(new)
    return f"{file.name} {how}"


def seqinfo(rng: np.random.Generator, root: Path) -> str:
    file = sequence(rng, root) / "seqinfo.ini"
    text = file.read_text()
    old, new = some(
        rng,
        [
            ("seqLength=8", "seqLength=5"), ("seqLength=8", "seqLength=12"),
            ("seqLength=8", "seqLength=0"), ("seqLength=8", "seqLength=x"),
            ("imWidth=64", "imWidth=128"), ("imHeight=62", "imHeight=-1"),
            ("imExt=.jpg", "imExt=.png"), ("imExt=.jpg", ""), ("imDir=img1", "imDir=img2"),
            ("imDir=img1", "imDir=../clip-a/img1"), ("[Sequence]", "[Other]"),
            ("name=clip", "name=100%clip"), ("frameRate=10\n", ""), ("imWidth=64", "imwidth=64"),
        ],
    )  # fmt: skip
    file.write_text(text.replace(old, new))
    return f"{old} is {new!r}"


def frames(rng: np.random.Generator, root: Path) -> str:
    folder = sequence(rng, root) / "img1"
    file = some(rng, sorted(folder.iterdir()))
    how = some(
        rng,
        [
            "spoilt",
            "smaller",
            "turned",
            "all renamed",
            "one more",
            "unpadded twin",
        ],
    )
    if how == "smaller":
        Image.open(file).resize((32, 32)).save(file)
    elif how == "turned":
        turn(file, int(rng.integers(5, 9)))
    elif how == "all renamed":
        for number, each in enumerate(sorted(folder.iterdir()), start=1):
            each.rename(folder / f"{number}.jpg")
    elif how == "one more":
        shutil.copy(file, folder / "000009.jpg")
    elif how == "unpadded twin":
        other = some(rng, [path for path in folder.iterdir() if path != file])
        shutil.copy(other, folder / f"{int(file.stem)}.jpg")
    else:
        how = spoil(rng, file)
    return f"{file.name} {how}"


def absent_part(rng: np.random.Generator, root: Path) -> str:
    part = sequence(rng, root) / some(rng, ["img1", "gt", "seqinfo.ini", "gt/gt.txt"])
    if part.is_dir():
        shutil.rmtree(part)
        if rng.random() < 0.5:
            part.mkdir()
    else:
        part.unlink()
    return f"{part.relative_to(root)} is absent or empty"


def strange_files(rng: np.random.Generator, root: Path) -> str:
    place = some(rng, [root, root / "clip-a", root / "clip-b/img1", root / "clip-b/gt"])
    name = some(rng, [".DS_Store", "Thumbs.db", "readme.txt", "._000001.jpg"])
    (place / name).write_bytes(b"\x00\x05")
    return f"{name} in {place.name}"


def equal_form(rng: np.random.Generator, root: Path) -> str:
    """The same rows, written otherwise."""
    for name in SEQUENCES:
        file = root / name / "gt/gt.txt"
        rows = file.read_text().splitlines()
        how, new = some(
            rng,
            {
                "in another order": [rows[i] for i in rng.permutation(len(rows))],
                "with spaces": [row.replace(",", " ") for row in rows],
                "with floats": [",".join(f"{float(c):.1f}" for c in r.split(",")) for r in rows],
                "with CRLF": [f"{row}\r" for row in rows],
                "with other ids": [
                    ",".join([r[0], f"{5 * int(r[1]) + 7}", *r[2:]])
                    for r in (row.split(",") for row in rows)
                ],
            }.items(),
        )
        file.write_bytes("".join(f"{row}\n" for row in new).encode())
    return f"rows {how}"


def same_sequence(rng: np.random.Generator, root: Path) -> str:
    shutil.copytree(root / "clip-a", root / some(rng, ["clip-c", "clip a", "clip-a-FRCNN"]))
    return "a copy of clip-a under another name"


DEFECTS: list[Defect] = [
    junk_cell, row_form, separators, numbers, broken_list, seqinfo, frames, absent_part,
    strange_files, same_sequence, equal_form,
]  # fmt: skip


# Sound data in another dress: these must be scored, not refused.
HARMLESS = {strange_files, equal_form}


@pytest.mark.parametrize("seed", range(300))
def test_right_or_refused(
    seed: int,
    sound: Path,
    right: dict[str, float],
    score: Callable[[Path], dict[str, float] | str],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "set"
    require_verdict(seed, sound, folder, DEFECTS, HARMLESS, score, right)
