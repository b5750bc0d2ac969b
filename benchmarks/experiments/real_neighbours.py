"""Photos whose tokens take the class of their nearest training tokens: nothing is trained or drawn.

The scores are those of pe_dense/probing/neighbour_probe.py; photo by photo, so that intervals over
photos and paired differences can be had.

Shape legend: B photos, N tokens of all photos, C width, K classes, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from real_encoder import Sizes, Tower, built, keep_evidence, with_interval
from real_table import ALL, BLIND, Cell, Table

NEIGHBOURS = 5
QUERIES = 2048  # at a time
MINUS_LAST = " minus the last block"  # behind the name of a measure
MINUS_BEFORE = "knn minus before"
CHOICE = "knn on held-out training photos"
EVERY = 5  # training photo that asks, where a block is chosen


class Photos(NamedTuple):
    """Tokens of photos.

    Attributes:
        names: Of the B photos.
        features: (N, C) of every block; empty where no encoder looked.
        labels_N: Classes, 255 for none; photos one after another, all of one size.
    """

    names: list[str]
    features: list[np.ndarray]
    labels_N: np.ndarray


def neighbours(
    table: Table, tower: Tower, sizes: Sizes, folder: Path, blocks: Sequence[int], work: Path
) -> None:
    """Put the scores of blocks into the table, with differences to the last one.

    What is there with an interval is not measured again.
    """
    own = {"model": tower.name, "seed": tower.seed}
    found = [c for c in table.find(measure="knn", **own) if c.low is not None]
    if {cell.block for cell in found} >= set(blocks):
        return
    print(f"{tower.name}: {NEIGHBOURS} nearest tokens", flush=True)
    classes = (folder / "classes.txt").read_text(encoding="utf-8").splitlines()
    encoder, evidence = built(tower, sizes), {}
    bank, asked = (photos(encoder, sizes, folder, part, blocks) for part in ("train", "val"))
    for block, taught, queries in zip(blocks, bank.features, asked.features, strict=True):
        found_N = answers(queries, taught, bank.labels_N, len(classes))
        evidence[block] = evidence_of(asked, found_N, classes)
    cells = []
    for block, of_block in evidence.items():
        keep_evidence(place(work, tower, block), of_block)

        def cell(score: float, low: float | None, high: float | None, b: int = block) -> Cell:
            return Cell(sizes.name, "knn", tower.name, tower.seed, b, ALL, score, low, high)

        cells.append(with_interval(cell, of_block, "mIoU"))
    last = max(evidence)
    for block in set(evidence) - {last}:
        cells.append(
            difference(sizes, f"knn{MINUS_LAST}", tower, block, evidence[block], evidence[last])
        )
    table.add(cells)


def place(work: Path, tower: Tower, block: int) -> Path:
    """File of the evidence of a block."""
    return work / "evidence" / f"knn-{tower.name}-seed{tower.seed}-block{block}.npz"


def minus_before(
    table: Table, tower: Tower, before: Tower, sizes: Sizes, block: int, work: Path
) -> None:
    """How much better a tower is than before, paired by photo, where evidence of both is there."""
    from pe_dense.results.evidence_file import load_evidence

    files = [place(work, one, block) for one in (tower, before)]
    if all(file.is_file() for file in files):
        both = [load_evidence(file) for file in files]
        table.add([difference(sizes, MINUS_BEFORE, tower, block, *both)])


def difference(sizes: Sizes, kind: str, tower: Tower, block: int, own: Any, other: Any) -> Cell:
    """A paired difference over photos as a cell."""
    from pe_dense.results.statistics import paired_difference

    found = paired_difference(own, other, "mIoU")
    numbers = found.difference, found.low, found.high
    return Cell(sizes.name, kind, tower.name, tower.seed, block, ALL, *numbers)


def blind_neighbours(table: Table, sizes: Sizes, folder: Path) -> None:
    """Without the picture: every token takes the commonest class of its place in training."""
    if table.has(measure="knn", model=BLIND):
        return
    classes = (folder / "classes.txt").read_text(encoding="utf-8").splitlines()
    bank, asked = (photos(None, sizes, folder, part, ()) for part in ("train", "val"))
    labels_BN = bank.labels_N.reshape(len(bank.names), -1)
    votes_NK = np.stack([(labels_BN == k).sum(axis=0) for k in range(len(classes))], axis=1)
    by_place_N = np.tile(votes_NK.argmax(axis=1), len(asked.names))
    evidence = evidence_of(asked, by_place_N, classes)

    def cell(score: float, low: float | None, high: float | None) -> Cell:
        note = "commonest class of the place in training"
        return Cell(sizes.name, "knn", BLIND, 0, -1, ALL, score, low, high, note)

    table.add([with_interval(cell, evidence, "mIoU")])


def chosen_block(table: Table, tower: Tower, sizes: Sizes, folder: Path) -> int:
    """The inner block whose tokens find each other best on training photos; never the last one."""
    if not table.has(measure=CHOICE):
        blocks, cells = range(sizes.depth), []
        every = photos(built(tower, sizes), sizes, folder, "train", blocks)
        asks_B = np.arange(len(every.names)) % EVERY == 0
        asks_N = np.repeat(asks_B, len(every.labels_N) // len(asks_B))
        classes = (folder / "classes.txt").read_text(encoding="utf-8").splitlines()
        held = Photos(every.names[::EVERY], [], every.labels_N[asks_N])
        for block, tokens_NC in zip(blocks, every.features, strict=True):
            found_N = answers(
                tokens_NC[asks_N], tokens_NC[~asks_N], every.labels_N[~asks_N], len(classes)
            )
            score = float(evidence_of(held, found_N, classes).metrics(names=["mIoU"])["mIoU"])
            cells.append(Cell(sizes.name, CHOICE, tower.name, 0, block, ALL, score))
        table.add(cells)
    inner = [cell for cell in table.find(measure=CHOICE) if cell.block < sizes.depth - 1]
    return max(inner, key=lambda cell: cell.score).block


def answers(
    queries_QC: np.ndarray, bank_NC: np.ndarray, labels_N: np.ndarray, num_classes: int
) -> np.ndarray:
    """Class of every query, by the votes of the nearest tokens that have a class, (Q,)."""
    import torch

    from pe_dense.probing.neighbour_probe import IGNORE, exact_top_k, vote

    known_N = labels_N != IGNORE
    bank_NC, classes_N = bank_NC[known_N], torch.from_numpy(labels_N[known_N]).long()
    parts = [
        vote(
            exact_top_k(torch.from_numpy(queries_QC[i : i + QUERIES]), bank_NC, NEIGHBOURS),
            classes_N,
            num_classes,
        ).numpy()
        for i in range(0, len(queries_QC), QUERIES)
    ]
    return np.concatenate(parts)


def evidence_of(asked: Photos, answers_N: np.ndarray, classes: Sequence[str]) -> Any:
    """Counts of every photo."""
    from pe_dense.pixelwise.mean_iou import counts_evidence, image_counts

    pairs = zip(
        np.split(answers_N, len(asked.names)), np.split(asked.labels_N, len(asked.names)),
        strict=True,
    )  # fmt: skip
    counts = [image_counts(answer[None], truth[None], len(classes)) for answer, truth in pairs]
    return counts_evidence(asked.names, classes, np.stack(counts))


def photos(encoder: Any, sizes: Sizes, folder: Path, part: str, blocks: Sequence[int]) -> Photos:
    """Tokens of square views of the photos of a part, of every block, and their classes."""
    import cv2
    import torch

    from pe_dense.alignment.frozen_teacher import normalised
    from pe_dense.data.picture import read_picture
    from pe_dense.probing.neighbour_probe import token_labels

    side, found, labels, names = sizes.photo_side, [[] for _ in blocks], [], []
    num_classes = len((folder / "classes.txt").read_text(encoding="utf-8").splitlines())
    for file in sorted((folder / "images" / part).glob("*.jpg")):
        names.append(file.stem)
        map_HW = cv2.imread(str(folder / "masks" / part / f"{file.stem}.png"), cv2.IMREAD_UNCHANGED)
        map_HW = cv2.resize(map_HW, (side, side), interpolation=cv2.INTER_NEAREST)
        labels.append(token_labels(map_HW.astype(np.int64), sizes.patch_size, num_classes).ravel())
        if encoder is None:
            continue
        image_HW3 = cv2.resize(read_picture(file), (side, side), interpolation=cv2.INTER_AREA)
        image_13HW = torch.from_numpy(image_HW3.copy()).permute(2, 0, 1)[None].float() / 255
        image_13HW = normalised(image_13HW, encoder.mean, encoder.std)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=sizes.amp):
            maps = encoder.forward_intermediates(image_13HW, tuple(blocks))
        for kept, map_1Chw in zip(found, maps, strict=True):
            kept.append(map_1Chw[0].flatten(1).T.float().numpy())
    features = [np.concatenate(kept) for kept in found if kept]
    return Photos(names, features, np.concatenate(labels))
