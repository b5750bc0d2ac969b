"""Does alignment bring the dense features of inner layers to the last one? Small, from nothing.

    python benchmarks/experiments/alignment_small_scale.py            # seeds 0 1 2, see --minutes
    python benchmarks/experiments/alignment_small_scale.py --smoke    # every part, no result, 3 min

The claim is that of Perception Encoder (arXiv:2504.13181): the best features of a contrastive
tower for dense tasks lie before its last layer, and spatial alignment brings them there. On the
mini world, for each seed:

    contrastive   a small Core tower learns from captions
                  (configs/alignment/contrastive_t16_mini.py)
    curves        linear and nearest-neighbour segmentation, and label propagation, of every block
    aligned       the tower goes on with its own best block as teacher ('core'), with instance masks
                  ('locality') and with both; then the curves again

Curves of the untrained tower are taken as well. Stages that are done are skipped, and a training
that was killed goes on, so the same command finishes what was begun. The files
alignment_small_scale.{csv,md,png,svg} are written beside this one at the end, whatever comes out;
alignment_small_scale_report.py makes them. What was seen beside the numbers, and what was tried,
stands in alignment_small_scale_notes.md and ends the page.

Shape legend: B images, C width, N tokens, K classes, h w token grid, L blocks, S seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
OUT = "benchmarks/experiments"
sys.path.insert(0, str(ROOT))

from alignment_small_scale_report import ALIGNED, NAME, draw, report, rows_csv  # noqa: E402

from pe_dense.run import command_line  # noqa: E402

ENCODER = "pe_core_t16_384"
CONTRASTIVE_CONFIG = "configs/alignment/contrastive_t16_mini.py"
ALIGNMENT_CONFIG = "configs/alignment/spatial_align_t16_mini.py"
NUM_CLASSES = 10
PATCH = 16
TEACHER_DEPTH = 0.82  # block 41 of 50, the paper's teacher, where no inner block is the best
# Seconds of an iteration on one core, as measured; they turn --minutes into a fixed schedule.
CONTRASTIVE_SECONDS, ALIGNMENT_SECONDS = 0.8, 0.45


@dataclass(frozen=True)
class Plan:
    """Sizes of an experiment; results are only kept for the same ones.

    Attributes:
        contrastive_iters, alignment_iters: Lengths of the trainings.
        captioned_images, captioned_val: Pictures with captions.
        world_train, world_val, world_clips, world_frames: The mini world that teaches alignment
            and is probed; a third of the clips is scored.
        probe_images: Training pictures of the segmentation probe.
        probe_side: Side of probed pictures in pixels; patches on the short side of a frame follow.
        align_lr, mask_ratio: Of the alignment.
    """

    contrastive_iters: int
    alignment_iters: int
    captioned_images: int = 6000
    captioned_val: int = 512
    world_train: int = 1000
    world_val: int = 100
    world_clips: int = 12
    world_frames: int = 16
    probe_images: int = 200
    probe_side: int = 256
    align_lr: float = 2e-3
    mask_ratio: float = 0.75


def plan_of(minutes: float, mask_ratio: float = 0.75) -> Plan:
    """The plan whose contrastive training takes so many minutes, each alignment a third of it."""
    seconds = 60 * minutes
    return Plan(
        contrastive_iters=max(20, int(seconds / CONTRASTIVE_SECONDS)),
        alignment_iters=max(20, int(seconds / 3 / ALIGNMENT_SECONDS)),
        mask_ratio=mask_ratio,
    )


SMOKE = Plan(
    contrastive_iters=10,
    alignment_iters=6,
    captioned_images=96,
    captioned_val=32,
    world_train=24,
    world_val=8,
    world_clips=3,
    world_frames=5,
    probe_images=24,
    probe_side=128,
)


# Trainings


def tool(log: Path, *arguments: object) -> None:
    """Run tools/train.py in a process of its own; what it prints goes to a file.

    Raises:
        ValueError: If it fails.
    """
    command = [sys.executable, str(ROOT / "tools/train.py"), *map(str, arguments)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as out:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode:
        raise ValueError(f"training failed with code {done.returncode}; see the end of {log}")


def train_contrastive(folder: Path, captions: Path, seed: int, plan: Plan) -> Path:
    """Encoder weights after contrastive training, as a safetensors file."""
    iters = plan.contrastive_iters
    interval = max(1, iters // 6)
    options = {
        "data_root": captions,
        "num_images": plan.captioned_images,
        "num_val_images": plan.captioned_val,
        "max_iters": iters,
        "warmup_iters": max(1, min(50, iters // 10)),
        "val_interval": interval,
        "checkpoint_interval": interval,
    }
    return trained(folder / "contrastive", CONTRASTIVE_CONFIG, seed, iters, options)


def train_aligned(
    folder: Path, world: Path, model: str, start: Path, teacher_layer: int, seed: int, plan: Plan
) -> Path:
    """Encoder weights after alignment with the teachers of `model`."""
    architecture = tower_options()
    teachers: list[dict[str, Any]] = []
    losses: list[dict[str, Any]] = []
    if model in ("core", "both"):
        own = dict(encoder=ENCODER, weights=str(start), encoder_options=architecture)
        teachers.append(dict(name="core", type="EncoderTeacher", layer=teacher_layer, **own))
        losses.append(dict(name="core", teacher="core", type="TokenCosineLoss"))
    if model in ("locality", "both"):
        teachers.append(dict(name="masks", type="InstanceMaskTeacher", points_per_side=16))
        losses.append(dict(name="locality", teacher="masks", type="PairwiseSimilarityLoss"))
    iters = plan.alignment_iters
    options = {
        "data_root": world / "coco",
        "total_batch": min(32, plan.world_train),
        "batch_size": min(32, plan.world_train),
        "num_workers": 0,
        "total_steps": iters,
        "warmup_steps": max(1, min(20, iters // 5)),
        "lr": plan.align_lr,
        "mask_ratio": plan.mask_ratio,
        "checkpoint_interval": max(1, iters // 4),
        "probe_interval": iters,
        "probes": [],
        "teachers": teachers,
        "losses": losses,
        **{f"model.backbone.encoder_options.{k}": v for k, v in architecture.items()},
    }
    arguments = ("--encoder", ENCODER, "--weights", start)
    return trained(folder / model, ALIGNMENT_CONFIG, seed, iters, options, arguments)


def trained(
    work_dir: Path,
    config: str,
    seed: int,
    iters: int,
    options: Mapping[str, Any],
    arguments: Sequence[object] = (),
) -> Path:
    """Train or go on, then take the encoder out of the last checkpoint.

    Raises:
        ValueError: If the training fails or leaves no last checkpoint.
    """
    from safetensors.torch import save_file

    from pe_dense.alignment.export import student_state
    from pe_dense.run.checkpoint import load_checkpoint_safely

    weights = work_dir / "encoder.safetensors"
    if weights.is_file():
        return weights
    last = work_dir / f"iter_{iters}.pth"
    if not last.is_file():
        words = [f"{key}={value}" for key, value in options.items()]
        tool(
            work_dir / "train.log", config, "--seed", seed, "--work-dir", work_dir, "--resume",
            *arguments, "--cfg-options", *words,
        )  # fmt: skip
    if not last.is_file():
        raise ValueError(f"{work_dir} has no {last.name} after training; see its train.log")
    state, _ = student_state(load_checkpoint_safely(str(last), "cpu")["state_dict"], ENCODER, last)
    part = weights.with_suffix(".part")
    save_file({key: value.contiguous().clone() for key, value in state.items()}, part)
    part.replace(weights)
    return weights


def tower_options() -> dict[str, Any]:
    """Arguments of the encoder, as the contrastive config has them."""
    from pe_dense.run.config import load_config

    cfg, _ = load_config(ROOT / CONTRASTIVE_CONFIG)
    return cfg.model.backbone.encoder_options.to_dict()


def last_validation(work_dir: Path) -> dict[str, float]:
    """Retrieval scores of the last validation of a contrastive training.

    Raises:
        ValueError: If there was none.
    """
    found: dict[str, float] = {}
    for file in sorted(work_dir.glob("*/vis_data/scalars.json")):
        for line in file.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            scores = {k: v for k, v in entry.items() if k.startswith("retrieval/")}
            found = scores or found
    if not found:
        raise ValueError(f"{work_dir} has no validation in */vis_data/scalars.json; train again")
    return {key.removeprefix("retrieval/"): value for key, value in found.items()}


# Layer curves


def layer_curves(
    weights: Path | None, world: Path, seed: int, plan: Plan
) -> list[dict[str, float]]:
    """Scores of every block, first to last; `weights` None takes random ones of the seed."""
    import torch

    from pe_dense.encoders.build import build_encoder
    from pe_dense.encoders.weights import load_weights
    from pe_dense.probing.neighbour_probe import probe_neighbours
    from pe_dense.tracking.encoder_probe import propagation_scores

    torch.manual_seed(seed)
    encoder = build_encoder(ENCODER, **tower_options()).eval()
    if weights is not None:
        load_weights(encoder, weights)
    rows = []
    with torch.inference_mode():
        train = tokens_by_layer(
            encoder, world / "ade", "training", plan.probe_side, plan.probe_images
        )
        val = tokens_by_layer(encoder, world / "ade", "validation", plan.probe_side, None)
    for layer, (bank, queries) in enumerate(zip(train, val, strict=True)):
        with torch.inference_mode():
            near = probe_neighbours(bank, queries, NUM_CLASSES, ks=(5,))
            videos = propagation_scores(
                encoder, str(world / "davis"), short_side=plan.probe_side // PATCH, layer=layer
            )
        rows.append(
            {
                "segmentation": linear_probe(bank, queries),
                "neighbours": near["knn_5"],
                "propagation": videos["J&F"],
            }
        )
    return rows


def tokens_by_layer(
    encoder: Any, root: Path, split: str, side: int, limit: int | None
) -> list[Any]:
    """Tokens and their classes, one `TokenSet` a block, in one pass over the pictures.

    Raises:
        ValueError: If a picture or label map is missing or unreadable.
    """
    import torch

    from pe_dense.alignment.frozen_teacher import normalised
    from pe_dense.probing.neighbour_probe import IGNORE, TokenSet, token_labels

    features: list[list[np.ndarray]] = [[] for _ in range(encoder.depth)]
    labels = []
    files = sorted((root / "images" / split).glob("*.jpg"))[:limit]
    for file in files:
        image_HW3 = cv2.imread(str(file), cv2.IMREAD_COLOR)
        target = root / "annotations" / split / f"{file.stem}.png"
        raw_HW = cv2.imread(str(target), cv2.IMREAD_UNCHANGED)
        if image_HW3 is None or raw_HW is None:
            raise ValueError(f"{file} or {target} is missing or unreadable; delete the mini world")
        image_HW3 = cv2.resize(image_HW3[..., ::-1], (side, side), interpolation=cv2.INTER_AREA)
        raw_HW = cv2.resize(raw_HW, (side, side), interpolation=cv2.INTER_NEAREST).astype(np.int64)
        labels_HW = np.where(raw_HW == 0, IGNORE, raw_HW - 1)  # 0 is "other"
        labels.append(token_labels(labels_HW, encoder.patch_size, NUM_CLASSES).ravel())
        image_13HW = torch.from_numpy(image_HW3.copy()).permute(2, 0, 1)[None].float() / 255
        maps = encoder.forward_intermediates(
            normalised(image_13HW, encoder.mean, encoder.std), range(encoder.depth)
        )
        for kept, map_1Chw in zip(features, maps, strict=True):
            kept.append(map_1Chw[0].flatten(1).T.numpy())  # (N, C)
    if not labels:
        raise ValueError(f"{root / 'images' / split} holds no picture; delete the mini world")
    labels_N = np.concatenate(labels)
    return [TokenSet(np.concatenate(kept), labels_N) for kept in features]


def linear_probe(train: Any, test: Any, steps: int = 60, decay: float = 1e-4) -> float:
    """Mean IoU over tokens of multinomial logistic regression on standardised features.

    From zero by L-BFGS over all tokens at once: nothing is drawn, and the loss is convex.
    """
    import torch
    import torch.nn.functional as F

    from pe_dense.pixelwise.mean_iou import image_counts
    from pe_dense.probing.neighbour_probe import IGNORE

    known, asked = train.labels_N != IGNORE, test.labels_N != IGNORE
    bank_NC = torch.from_numpy(train.features_NC[known])
    labels_N = torch.from_numpy(train.labels_N[known])
    mean_C, std_C = bank_NC.mean(0), bank_NC.std(0).clamp(min=1e-6)
    bank_NC = (bank_NC - mean_C) / std_C
    weight_KC = torch.zeros(NUM_CLASSES, bank_NC.shape[1], requires_grad=True)
    bias_K = torch.zeros(NUM_CLASSES, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight_KC, bias_K], max_iter=steps, history_size=10, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(bank_NC, weight_KC, bias_K), labels_N)
        loss = loss + decay * weight_KC.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        queries_QC = (torch.from_numpy(test.features_NC[asked]) - mean_C) / std_C
        found_Q = F.linear(queries_QC, weight_KC, bias_K).argmax(dim=1).numpy()
    right_K, predicted_K, annotated_K = image_counts(
        found_Q[None], test.labels_N[asked][None], NUM_CLASSES, IGNORE
    )
    union_K = predicted_K + annotated_K - right_K
    return float((right_K[union_K > 0] / union_K[union_K > 0]).mean())


# The experiment


def stage(file: Path, plan: Plan, compute: Any) -> Any:
    """What a stage found, computed once and kept as JSON.

    Raises:
        ValueError: If what is kept was made under another plan.
    """
    from pe_dense.files import atomic_write_text

    if file.is_file():
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["plan"] != asdict(plan):
            raise ValueError(f"{file} was made under another plan; use another --work-dir")
        return content["found"]
    print(f"{file.parent.name}: {file.stem} ...", flush=True)
    found = compute()
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(file, json.dumps({"plan": asdict(plan), "found": found}, indent=1))
    return found


def run_seed(folder: Path, data: Path, seed: int, plan: Plan) -> dict[str, Any]:
    """All stages of a seed: {'retrieval', 'teacher_layer', 'curves': {model: rows}}."""
    curves: dict[str, Any] = {}
    world = data / "world"

    def curve(model: str, weights: Path | None) -> None:
        curves[model] = stage(
            folder / f"curves_{model}.json", plan, lambda: layer_curves(weights, world, seed, plan)
        )

    curve("random", None)

    def first() -> dict[str, float]:
        train_contrastive(folder, data / "captions", seed, plan)
        return last_validation(folder / "contrastive")

    retrieval = stage(folder / "retrieval.json", plan, first)
    start = train_contrastive(folder, data / "captions", seed, plan)
    curve("contrastive", start)
    layer = teacher_layer([row["segmentation"] for row in curves["contrastive"]])
    for model in ALIGNED:

        def align(model: str = model) -> str:
            return train_aligned(folder, world, model, start, layer, seed, plan).name

        stage(folder / f"aligned_{model}.json", plan, align)
        curve(model, train_aligned(folder, world, model, start, layer, seed, plan))
    return {"retrieval": retrieval, "teacher_layer": layer, "curves": curves}


def teacher_layer(scores_L: Sequence[float]) -> int:
    """The best inner block; at the paper's share of the depth if the last one is the best.

    Example:
        >>> teacher_layer([0.1, 0.3, 0.2]), teacher_layer([0.1] * 9 + [0.5])
        (1, 7)
    """
    best = int(np.argmax(scores_L))
    return best if best < len(scores_L) - 1 else max(0, round(TEACHER_DEPTH * len(scores_L)) - 1)


# The command line


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = command_line.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", help="default: 0 1 2; with --smoke 0 1")
    parser.add_argument(
        "--minutes", type=float, default=12, help="of a contrastive training (default: 12)"
    )
    parser.add_argument("--mask-ratio", type=float, default=0.75, help="of the aligned student")
    parser.add_argument("--work-dir", type=Path, help=f"default: work_dirs/{NAME}")
    parser.add_argument("--out", type=Path, help=f"folder of the results (default: {OUT})")
    parser.add_argument(
        "--smoke", action="store_true", help="everything once, tiny; results go to the work dir"
    )
    return parser.parse_args()


def main() -> None:
    """Run what is not done yet, then write the results."""
    args = parse_args()
    if not args.minutes > 0 or not 0 <= args.mask_ratio < 1:
        raise ValueError(
            f"--minutes {args.minutes} must be above 0 and --mask-ratio {args.mask_ratio} in 0..1"
        )
    seeds = args.seeds or ([0, 1] if args.smoke else [0, 1, 2])
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds {seeds} names one twice; name each once")
    from pe_dense.files import atomic_write_text
    from pe_dense.mini_world.formats import MiniWorldConfig, build_mini_world

    plan = SMOKE if args.smoke else plan_of(args.minutes, args.mask_ratio)
    name = f"{NAME}_smoke" if args.smoke else NAME
    folder = (args.work_dir or ROOT / "work_dirs" / name).resolve()
    # A smoke run must never take the place of results.
    out_dir = args.out or (folder if args.smoke else ROOT / OUT)
    world = MiniWorldConfig(
        train=plan.world_train, val=plan.world_val, clips=plan.world_clips, frames=plan.world_frames
    )
    build_mini_world(folder / "data" / "world", world)
    results = [run_seed(folder / f"seed{seed}", folder / "data", seed, plan) for seed in seeds]
    command = command_line_of(sys.argv)
    setting = {
        **asdict(plan),
        "tower": f"{ENCODER} with {json.dumps(tower_options())}",
        "configs": f"{CONTRASTIVE_CONFIG}, {ALIGNMENT_CONFIG}",
    }
    page = report(results, seeds, setting, command, args.smoke)
    if not args.smoke:
        page += "\n" + (ROOT / OUT / f"{NAME}_notes.md").read_text(encoding="utf-8")
    out_dir.mkdir(parents=True, exist_ok=True)
    atomic_write_text(out_dir / f"{NAME}.csv", rows_csv(results, seeds))
    for kind, content in draw(results, args.smoke).items():
        (out_dir / f"{NAME}.{kind}").write_bytes(content)
    atomic_write_text(out_dir / f"{NAME}.md", page)
    print(page)


def command_line_of(argv: Sequence[str]) -> str:
    """The command without folders of this machine."""
    words, skip = [], False
    for word in argv[1:]:
        if skip or word in ("--work-dir", "--out"):
            skip = not skip
        elif not word.startswith(("--work-dir=", "--out=")):
            words.append(word)
    return " ".join([f"python {OUT}/{NAME}.py", *words])


if __name__ == "__main__":
    command_line.run(main)
