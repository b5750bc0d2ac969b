"""Measures of an encoder on real clips, photos and depth maps, and the table that keeps them.

layers_real.py and align_real.py share this. Every measure is a protocol of this project at a size
that one core can score, run through the project's own runner; nothing is measured by new code:

    J&F     configs/tracking/davis2017_layers_pe.py, short side 224 px, frozen, by clip
    mIoU    configs/probing/segmentation_custom.py, linear heads
    knn     pe_dense/probing/neighbour_probe.py, 5 nearest tokens, no training (real_neighbours.py)
    rmse    configs/probing/depth_custom.py, linear heads, metres

The folder of pictures holds

    real_video/    DAVIS's layout, 480p, ImageSets/2017/val.txt
    real_photos/   images/*.jpg, semantic/{train,val}/*.png (numbers of classes, 0 none) and
                   semantic/classes.yaml, annotations/{train,val}.json (instances, COCO)
    real_captions/ images/*.jpg
    real_depth/    NAME.color.jpg and NAME.depth.png, one walk

Shape legend: L blocks, S settings, K objects of a clip, N tokens, C width, H W pixels.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from real_table import ALL, BLIND, Cell, Table, over_clips  # noqa: E402

from pe_dense.files import atomic_write_bytes, atomic_write_text  # noqa: E402

VIDEO_CONFIG = "configs/tracking/davis2017_layers_pe.py"
PROBE_CONFIGS = {
    "mIoU": "configs/probing/segmentation_custom.py",
    "rmse": "configs/probing/depth_custom.py",
}


@dataclass(frozen=True)
class Sizes:
    """How large everything is; a table holds numbers of one choice only.

    Attributes:
        name: Written in every row.
        encoder: Zoo name.
        encoder_options: Of a tower that is smaller than its name; empty for real ones.
        patch_size: Of the encoder, in pixels.
        depth: Blocks of the encoder.
        video_side: Short side of frames.
        photo_side: Short side of photos and frames that are probed.
        fewest: A class is one that so many training photos show.
        epochs: Measure -> passes over the training pictures.
        batch_size: Of the probes.
        lrs: Measure -> learning rates of the heads, of which held-out pictures choose.
        amp: Encoder in bfloat16.
    """

    name: str
    encoder: str
    encoder_options: Mapping[str, Any]
    patch_size: int
    depth: int
    video_side: int
    photo_side: int
    fewest: int
    epochs: Mapping[str, int]
    batch_size: int
    lrs: Mapping[str, tuple[float, ...]]
    amp: bool


REAL = Sizes(
    name="224px-bf16",
    encoder="timm:vit_small_patch14_dinov2.lvd142m",
    encoder_options={},
    patch_size=14,
    depth=12,
    video_side=224,
    photo_side=224,
    fewest=8,
    epochs={"mIoU": 12, "rmse": 12},
    batch_size=8,
    lrs={"mIoU": (1e-1, 3e-2, 1e-2), "rmse": (3e-2, 1e-2, 3e-3)},
    amp=True,
)


# What is scored


def photo_folder(data: Path, out: Path, fewest: int) -> Path:
    """Photos and label maps in a layout that the probes find, made once.

    Classes are those of the label maps that at least `fewest` training photos show; the rest is
    not annotated. Without that, most classes would be learned from one photo and scored on none.

    Raises:
        ValueError: If the photos are not there, no class is shown often enough, or `out` was made
            from others.
    """
    import cv2
    import yaml

    source = data / "real_photos"
    made_from = f"{source.resolve()}, {fewest}\n"
    if (out / "classes.txt").is_file():
        if (out / "made_from.txt").read_text(encoding="utf-8") != made_from:
            raise ValueError(f"{out} was made from other photos; name another --work-dir")
        return out
    maps = {s: sorted((source / "semantic" / s).glob("*.png")) for s in ("train", "val")}
    if not all(maps.values()):
        raise ValueError(f"{source / 'semantic'} has no label maps in train and val; check --data")
    read = {f: cv2.imread(str(f), cv2.IMREAD_UNCHANGED) for part in maps.values() for f in part}
    shown = [np.unique(read[file]) for file in maps["train"]]
    numbers, counts = np.unique(np.concatenate(shown), return_counts=True)
    kept = [int(n) for n, count in zip(numbers, counts, strict=True) if n and count >= fewest]
    if not kept:
        raise ValueError(f"{source}: no class is shown by {fewest} training photos")
    names = yaml.safe_load((source / "semantic" / "classes.yaml").read_text())["classes"]
    classes_256 = np.full(256, 255, np.uint8)
    classes_256[kept] = np.arange(len(kept))
    for part, files in maps.items():
        for folder in ("images", "masks"):
            (out / folder / part).mkdir(parents=True, exist_ok=True)
        for file in files:
            cv2.imwrite(str(out / "masks" / part / file.name), classes_256[read[file]])
            link(source / "images" / f"{file.stem}.jpg", out / "images" / part)
    atomic_write_text(out / "made_from.txt", made_from)
    atomic_write_text(out / "classes.txt", "".join(f"{names[n]}\n" for n in kept))
    return out


def depth_folder(data: Path, out: Path) -> Path:
    """The frames of the walk as links, so that what is found about them lies elsewhere.

    Raises:
        ValueError: If there are none.
    """
    files = sorted((data / "real_depth").glob("*.color.jpg"))
    if not files:
        raise ValueError(f"{data / 'real_depth'} has no NAME.color.jpg; check --data")
    out.mkdir(parents=True, exist_ok=True)
    for file in files:
        link(file, out)
        link(file.with_name(file.name.replace(".color.jpg", ".depth.png")), out)
    return out


def link(file: Path, folder: Path) -> None:
    """A symbolic link of the same name in a folder, unless there is one."""
    place = folder / file.name
    if not place.is_symlink():
        place.symlink_to(file.resolve())


# Measures


@dataclass(frozen=True)
class Tower:
    """What is measured: a name, weights ('random' or a file), and the seed of its making."""

    name: str
    weights: str
    seed: int = 0


def opened(tower: Tower, sizes: Sizes, config: str, options: Mapping[str, Any], work: Path) -> Any:
    """A request of a run of the tower under a config."""
    from pe_dense.run.request import RunRequest

    every = {f"model.backbone.encoder_options.{k}": v for k, v in sizes.encoder_options.items()}
    return RunRequest(
        config=str(ROOT / config),
        encoder=sizes.encoder,
        weights=tower.weights,
        options={**every, **options},
        work_dir=work,
        seed=tower.seed,
        amp=sizes.amp,
        argv=("tools/test.py", config),
    )


def clips(
    tower: Tower, sizes: Sizes, data: Path, blocks: Sequence[int], work: Path, done: Sequence[str]
) -> Iterator[list[Cell]]:
    """J and F of every block, clip by clip; clips that are done are passed over."""
    from mmengine.registry import DATASETS

    from pe_dense.run.checkpoint import install
    from pe_dense.run.evaluation import build_runner
    from pe_dense.run.opened_run import open_run
    from pe_dense.run.trained_run import bare_model

    install()
    options = {
        "data_root": str(data / "real_video"),
        "short_side": sizes.video_side,
        "layers": list(blocks),
        "model.threads": 1,
    }
    request = opened(tower, sizes, VIDEO_CONFIG, options, work)
    run = open_run(request, None)
    dataset = DATASETS.build(copy.deepcopy(run.cfg.test_dataloader.dataset))
    videos = [dataset.get_data_info(i) for i in range(len(dataset))]
    videos = [video for video in videos if video["video"] not in done]
    if not videos:
        return
    model = bare_model(build_runner(run, request))
    model.journal_dir = None  # the table is the journal
    for video in videos:
        found = model.propagate(video)
        means_LK2 = found["statistics"][:, 0][..., [0, 3]]  # of J and of F
        yield [
            Cell(
                sizes.name, name, tower.name, tower.seed, block, video["video"],
                float(means_LK2[i, :, column].mean()),
            )
            for i, block in enumerate(found["layers"])
            for column, name in enumerate(("J", "F"))
        ]  # fmt: skip


def copied_masks(sizes: Sizes, data: Path, work: Path) -> list[Cell]:
    """J and F of every clip where the first mask is copied to all frames."""
    from pe_dense.run.checkpoint import install
    from pe_dense.run.opened_run import open_run
    from pe_dense.tracking.blind import copied_first_masks

    install()
    options = {"data_root": str(data / "real_video")}
    run = open_run(opened(Tower(BLIND, "random"), sizes, VIDEO_CONFIG, options, work), None)
    from mmengine.registry import DATASETS

    dataset = DATASETS.build(copy.deepcopy(run.cfg.test_dataloader.dataset))
    cells = []
    for i in range(len(dataset)):
        video = dataset.get_data_info(i)
        for name in ("J", "F"):
            (score,) = copied_first_masks([video], name).values()
            cells.append(Cell(sizes.name, name, BLIND, 0, -1, video["video"], score))
    return cells


def with_interval(cell_of: Any, evidence: Any, metric: str) -> Cell:
    """A cell over everything: `cell_of(score, low, high)` with the evidence's numbers."""
    from pe_dense.results.statistics import intervals

    score = float(evidence.metrics(names=[metric])[metric])
    if len(set(evidence.unit_labels[evidence.unit])) < 2:
        return cell_of(score, None, None)
    found = intervals(evidence, [metric])[metric]
    return cell_of(score, found.low, found.high)


def clip_means(table: Table, tower: Tower, sizes: Sizes, blocks: Sequence[int]) -> list[Cell]:
    """J&F over all clips, with intervals by clip."""

    def cell(block: int) -> Cell:
        evidence = over_clips(table, tower.name, [tower.seed], block)

        def of(score: float, low: float | None, high: float | None) -> Cell:
            note = f"{len(evidence.video_ids)} clips"
            return Cell(
                sizes.name, "J&F", tower.name, tower.seed, block, ALL, score, low, high, note
            )

        return with_interval(of, evidence, "J&F")

    return [cell(block) for block in blocks]


def probed(
    measure: str, tower: Tower, sizes: Sizes, folder: Path, blocks: Sequence[int], work: Path
) -> tuple[list[Cell], dict[int, Any], int]:
    """Linear heads on blocks: cells with intervals, evidence by block, the chosen block.

    The block and the rate of each head are chosen on held-out training pictures.
    """
    from pe_dense.run.checkpoint import install, load_strictly
    from pe_dense.run.config import check_data
    from pe_dense.run.evaluation import build_runner
    from pe_dense.run.opened_run import open_run
    from pe_dense.run.request import RunRequest
    from pe_dense.run.trained_run import bare_model
    from pe_dense.run.training import train

    options = {
        "data_root": str(folder),
        "image_side": sizes.photo_side,
        "batch_size": sizes.batch_size,
        "max_epochs": sizes.epochs[measure],
        "warmup_iters": 5,
        "sources": list(blocks),
        "seeds": [0],
        "lrs": list(sizes.lrs[measure]),
        "num_workers": 0,
        "holdout_share": 0.2 if measure == "mIoU" else 0.1,
    }
    request = opened(tower, sizes, PROBE_CONFIGS[measure], options, work)
    train(request, resume=True)
    install()
    scoring = RunRequest("", work_dir=work / "test")  # everything else is in the checkpoint
    run = open_run(scoring, work)
    check_data(run.cfg, ("test",))
    runner = build_runner(run, scoring)
    load_strictly(bare_model(runner), run.content, str(run.file))
    runner.test()
    metric = runner.test_evaluator.metrics[0]
    summary, cells, evidence = metric.summary(), [], {}
    for source, found in metric.evidence_by_source().items():
        evidence[int(source)] = found
        told = summary.at_edge.get(source, ""), (summary.rising or {}).get(source, "")
        note = "; ".join(filter(None, told))

        def cell(
            score: float, low: float | None, high: float | None, b: int = int(source), n: str = note
        ) -> Cell:
            return Cell(sizes.name, measure, tower.name, tower.seed, b, ALL, score, low, high, n)

        cells.append(with_interval(cell, found, measure))
    return cells, evidence, int(summary.source)


def blind_probe(measure: str, sizes: Sizes, folder: Path, work: Path) -> Cell:
    """The best score without the picture, from the labels of the training pictures."""
    from pe_dense.results.blind import best_blind
    from pe_dense.run.blind import blind_scores
    from pe_dense.run.checkpoint import install

    install()
    options = {"data_root": str(folder), "image_side": sizes.photo_side, "batch_size": 8}
    request = opened(Tower(BLIND, "random"), sizes, PROBE_CONFIGS[measure], options, work)
    best = best_blind(blind_scores(request.load()[0]), higher_is_better=measure == "mIoU")
    assert best is not None, "segmentation and depth have blind predictors"
    return Cell(sizes.name, measure, BLIND, 0, -1, ALL, best.score, note=best.name)


def random_weights(sizes: Sizes, file: Path, seed: int) -> Path:
    """The tower with weights drawn anew, as a file, so that all measures see one draw.

    timm starts this tower with gains of 1e-5 on every residual branch: all blocks would be the
    patch embedding. Here gains are 1, as in towers without them.
    """
    import torch
    from safetensors.torch import save_file

    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        state = dict(built(Tower("random", "random", seed), sizes).weights_state())
        for name in state:
            if name.endswith(".gamma"):
                state[name] = torch.ones_like(state[name])
        part = file.with_suffix(".part")
        save_file({k: v.contiguous().clone() for k, v in state.items()}, part)
        part.replace(file)
    return file


def built(tower: Tower, sizes: Sizes) -> Any:
    """The encoder alone, in eval mode."""
    import torch

    from pe_dense.encoders.build import build_encoder
    from pe_dense.encoders.weights import load_weights

    torch.manual_seed(tower.seed)
    encoder = build_encoder(sizes.encoder, **sizes.encoder_options).eval()
    if tower.weights != "random":
        load_weights(encoder, Path(tower.weights))
    return encoder


def keep_evidence(path: Path, evidence: Any) -> None:
    """What a cell was computed from, for paired differences."""
    from pe_dense.results.evidence_file import evidence_bytes

    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(path, evidence_bytes(evidence))
