"""Does spatial alignment bring a real encoder's own best features to its last block? On photos.

    python benchmarks/experiments/align_real.py --weights vit_s14.safetensors --data DIR --out OUT \
        --seeds 0

The claim is that of Perception Encoder (arXiv:2504.13181): the best features for dense tasks lie
before the last block, and alignment with an inner block and with masks brings them to the last. The
encoder is `imgfocus_vit_s14` (layers_real.py says what it is and how its file is made), the trainer
is this project's (pe_dense/alignment), the pictures are the 100 training photos of real_photos,
because they alone have instance masks; all arms see the same photos in the same order. No clip is
trained on, and none chooses anything.

Arms, from the same weights, for the same steps:

    block           teacher: own best inner block (token cosine)
    last            control: own last block as teacher; what training alone does
    shuffled        control: own best inner block, of another picture of the batch
    masks           teacher: instance masks of the photos (pairwise similarity)
    both            the teachers of block and of masks together
    random_masks    control: a tower with random weights, and the same masks

The teacher's block is the inner one (not the last) with the highest mIoU of the 5 nearest tokens on
every fifth training photo, the others being the bank.

Fixed before the first run:
    Primary     J&F of the last block on the clips (davis-layers-pe at short side 224 px), arm minus
                before, paired by clip, 95 % interval over clips; with several seeds the mean of the
                clips' differences over seeds. random_masks is compared with the random tower.
    Helped      is said of an arm only with three seeds, if the interval of (arm minus before) lies
                above 0, and so does the interval of (arm minus last) and of (arm minus shuffled).
                With fewer seeds the page says which way it went, and that it decides nothing.
    Secondary   5 nearest tokens on the validation photos, last block; linear segmentation and depth
                of the last block (--secondary), said beside, never instead.
    Settings    40 steps of 8 photos at 168 px, masks over a quarter of the tokens, no DropPath,
                LAMB 2e-3 with a cosine to 0, encoder in bfloat16. Tried before: one run of `block`
                with 260 steps at 224 px on more photos, scored on four of the clips (one rose by
                ten points, three fell by one or two). These are its settings, shortened.

Work is done seed by seed: with what is finished every seed is a whole comparison. What is measured
stands in align_real.csv; the same command goes on, and --seeds 0 1 2 adds seeds.

Shape legend: B images, H W pixels, h w token grid.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from layers_real import MODEL, RANDOM, blind_clips, score_clips, tell
from real_encoder import (
    REAL,
    ROOT,
    Sizes,
    Tower,
    depth_folder,
    keep_evidence,
    photo_folder,
    probed,
    random_weights,
)
from real_neighbours import blind_neighbours, chosen_block, minus_before, neighbours
from real_table import Table

from pe_dense.run import command_line

NAME = "align_real"
CONFIG = "configs/alignment/spatial_align_t16_mini.py"
ENCODER = "encoder.safetensors"  # what an arm came to
ARMS = ("block", "last", "shuffled", "masks", "both", "random_masks")


@dataclass(frozen=True)
class Training:
    """Length and settings of an alignment."""

    steps: int = 40
    batch: int = 8
    side: int = 168
    lr: float = 2e-3
    mask_ratio: float = 0.25
    points_per_side: int = 16


def main() -> None:
    """Measure what is not in the table yet, and write the page."""
    args = parse_args()
    table = measured(
        args.weights, args.data, args.work_dir, args.out, REAL, Training(), args.seeds,
        args.secondary, args.arms,
    )  # fmt: skip
    from align_real_report import write

    write(table, REAL, Training(), args.out)


def measured(
    weights: Path,
    data: Path,
    work: Path,
    out: Path,
    sizes: Sizes,
    training: Training,
    seeds: Sequence[int],
    secondary: bool = False,
    arms: Sequence[str] = ARMS,
) -> Table:
    """The table with everything that was asked for, seed by seed."""
    table = Table(out / f"{NAME}.csv", sizes.name)
    work, last = work.resolve(), sizes.depth - 1
    photos = photo_folder(data, work / "photos", sizes.fewest)
    drawn = random_weights(sizes, work / "random-seed0.safetensors", 0)
    before = (Tower(MODEL, str(weights)), Tower(RANDOM, str(drawn)))
    for tower in before:
        table.of_file(tower.name, tower.seed, Path(tower.weights))
    teacher = chosen_block(table, before[0], sizes, photos)
    take_over(table, out / "layers_real.csv", (-1, last, teacher))
    blind_clips(table, sizes, data, work)
    block = range(last, last + 1)
    score_clips(table, before[0], sizes, data, block, work / "clips" / MODEL)
    asked = ["J&F", "knn", *(("mIoU", "rmse") if secondary else ())]
    towers = [Tower(arm, "", seed) for seed in seeds for arm in arms]
    for i, tower in enumerate(towers):
        place = work / f"{tower.name}-seed{tower.seed}"
        if (place / ENCODER).is_file():
            table.of_file(tower.name, tower.seed, place / ENCODER)
        if all(table.has(measure=m, model=tower.name, seed=tower.seed) for m in asked):
            continue
        tell(f"aligned with seed {tower.seed}", tower)
        start = weights
        if tower.name == "random_masks":
            start = drawn
            score_clips(table, before[1], sizes, data, block, work / "clips" / RANDOM)
        file = aligned(place, tower, start, teacher, data, sizes, training)
        table.of_file(tower.name, tower.seed, file)
        towers[i] = Tower(tower.name, str(file), tower.seed)
        score_clips(table, towers[i], sizes, data, block, place / "clips")
    blind_neighbours(table, sizes, photos)
    needed = before if "random_masks" in arms else before[:1]
    for tower in (*needed, *(tower for tower in towers if tower.weights)):
        neighbours(table, tower, sizes, photos, [last], work)
    for tower in towers:
        start = before[tower.name == "random_masks"]
        minus_before(table, tower, start, sizes, last, work)
    if secondary:
        trained = [tower for tower in towers if tower.weights]
        linear_probes(table, (*before, *trained), sizes, data, photos, work)
    return table


def linear_probes(
    table: Table, towers: Sequence[Tower], sizes: Sizes, data: Path, photos: Path, work: Path
) -> None:
    """Segmentation and depth of the last block of every tower."""
    last = sizes.depth - 1
    for measure in ("mIoU", "rmse"):
        folder = photos if measure == "mIoU" else depth_folder(data, work / "depth")
        for tower in towers:
            if table.has(measure=measure, model=tower.name, seed=tower.seed):
                continue
            name = f"{measure}-{tower.name}-seed{tower.seed}"
            tell(measure, tower)
            cells, evidence, _ = probed(measure, tower, sizes, folder, [last], work / name)
            keep_evidence(work / "evidence" / f"{name}.npz", evidence[last])
            table.add(cells)


def take_over(table: Table, layers: Path, blocks: Sequence[int]) -> None:
    """What layers_real.py measured on the clips before, of these blocks; -1 is the blind line."""
    if not layers.is_file():
        return
    for cell in Table(layers, table.setting).cells:
        known = table.has(
            measure=cell.measure, model=cell.model, seed=cell.seed, block=cell.block, unit=cell.unit
        )
        if cell.block in blocks and cell.measure in ("J&F", "J", "F") and not known:
            table.add([cell])


def aligned(
    place: Path,
    arm: Tower,
    start: Path,
    teacher: int,
    data: Path,
    sizes: Sizes,
    training: Training,
) -> Path:
    """Weights of an arm as a file; trained, or gone on with, unless they are there."""
    from safetensors.torch import save_file

    from pe_dense.alignment.export import student_state
    from pe_dense.run.checkpoint import load_checkpoint_safely
    from pe_dense.run.training import train

    file = place / ENCODER
    if file.is_file():
        return file
    register_other_picture()
    train(request_of(place, arm, start, teacher, data, sizes, training), resume=True)
    last = place / f"iter_{training.steps}.pth"
    state, _ = student_state(
        load_checkpoint_safely(str(last), "cpu")["state_dict"], sizes.encoder, last
    )
    part = file.with_suffix(".part")
    save_file({key: value.contiguous().clone() for key, value in state.items()}, part)
    part.replace(file)
    return file


def request_of(
    place: Path,
    arm: Tower,
    start: Path,
    teacher: int,
    data: Path,
    sizes: Sizes,
    training: Training,
) -> Any:
    """The training of an arm, as tools/train.py would be asked for it."""
    from pe_dense.run.request import RunRequest

    teachers, losses = teachers_of(arm.name, start, teacher, sizes, training)
    every = {f"model.backbone.encoder_options.{k}": v for k, v in sizes.encoder_options.items()}
    options = {
        **every,
        "data_root": str(data / "real_photos"),
        "train_dataloader.dataset.ann_file": "annotations/train.json",
        "train_dataloader.dataset.img_folder": "images",
        "crop_size": (training.side, training.side),
        "total_batch": training.batch,
        "batch_size": training.batch,
        "num_workers": 0,
        "total_steps": training.steps,
        "warmup_steps": max(1, training.steps // 10),
        "lr": training.lr,
        "mask_ratio": training.mask_ratio,
        "checkpoint_interval": max(1, training.steps // 2),
        "log_interval": 10,
        "probe_interval": training.steps,
        "probes": [],
        "teachers": teachers,
        "losses": losses,
    }
    return RunRequest(
        config=str(ROOT / CONFIG),
        encoder=sizes.encoder,
        weights=str(start),
        options=options,
        work_dir=place,
        seed=arm.seed,
        amp=sizes.amp,
    )


def teachers_of(
    arm: str, start: Path, teacher: int, sizes: Sizes, training: Training
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Configs of the teachers and losses of an arm."""
    teachers: list[Mapping[str, Any]] = []
    losses: list[Mapping[str, Any]] = []
    if arm in ("block", "both", "last", "shuffled"):
        teachers.append(
            dict(
                name="own",
                type="OtherPictureTeacher" if arm == "shuffled" else "EncoderTeacher",
                encoder=sizes.encoder,
                weights=str(start),
                layer=sizes.depth - 1 if arm == "last" else teacher,
                encoder_options=dict(sizes.encoder_options),
                amp_dtype="bfloat16" if sizes.amp else None,
            )
        )
        losses.append(dict(name="own", teacher="own", type="TokenCosineLoss"))
    if arm in ("masks", "both", "random_masks"):
        teachers.append(
            dict(name="masks", type="InstanceMaskTeacher", points_per_side=training.points_per_side)
        )
        losses.append(dict(name="masks", teacher="masks", type="PairwiseSimilarityLoss"))
    return teachers, losses


def register_other_picture() -> None:
    """Make the teacher of the shuffled arm known to configs."""
    from mmengine.registry import MODELS
    from torch import Tensor

    from pe_dense.alignment.encoder_teacher import EncoderTeacher

    if "OtherPictureTeacher" in MODELS.module_dict:
        return

    class OtherPictureTeacher(EncoderTeacher):
        """Tokens of the next picture of the batch: as real, and about something else."""

        def maps(
            self,
            images_B3HW: Tensor,
            grid_hw: tuple[int, int],
            data_samples: Sequence[Any] | None,
        ) -> Tensor:
            return super().maps(images_B3HW.roll(1, 0), grid_hw, data_samples)

    MODELS.register_module(module=OtherPictureTeacher)


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = command_line.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, required=True, help="file of imgfocus_vit_s14")
    parser.add_argument("--data", type=Path, required=True, help="see real_encoder.py")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--arms", nargs="+", default=ARMS, choices=ARMS, help="(default: all)")
    parser.add_argument("--secondary", action="store_true", help="linear probes as well")
    parser.add_argument("--work-dir", type=Path, default=ROOT / "work_dirs" / NAME)
    parser.add_argument("--out", type=Path, required=True, help="folder of table, page and curves")
    return parser.parse_args()


if __name__ == "__main__":
    command_line.run(main)
