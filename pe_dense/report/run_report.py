"""Gathers what a run left, and writes its page: `report.html` in the work dir.

Called by tools/train.py and tools/test.py when all else is written: whatever goes wrong here is a
warning with the name of the file, and loses nothing.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from pe_dense.files import atomic_write_text
from pe_dense.results.blind import best_blind
from pe_dense.results.confusion import Confusion, of_boxes, of_labels
from pe_dense.results.metrics import Metric, metric_of
from pe_dense.results.provenance import hardware, library_versions
from pe_dense.results.run_page import Curve, Picture, RunPage, render_run_page
from pe_dense.run.config import data_table
from pe_dense.run.evaluation import Evaluated
from pe_dense.run.start_table import (
    RANDOM,
    StartTable,
    device_in_words,
    encoder_learns,
    parameters_in_words,
    task_in_words,
    weights_in_words,
)
from pe_dense.run.task import task_of

REPORT = "report.html"
SEEN = 24  # items that worst and best are chosen among
SHOWN = 6
SCORE_THR = 0.3  # detections that are drawn and counted
_MAIN = ("loss", "lr", "base_lr")
_NOT_CURVES = {"step", "iter", "epoch", "time", "data_time", "memory", "base_lr"}


def write_report(work_dir: Path, gather: Callable[[], RunPage]) -> Path | None:
    """Write the page of a run; None, with a warning, where that fails.

    Args:
        work_dir: Folder of the run, which gets `REPORT`.
        gather: Makes the page.
    """
    target = work_dir / REPORT
    try:
        atomic_write_text(target, render_run_page(gather()))
    except Exception as error:  # a page is never worth a run
        print_log(
            f"{target} could not be written ({type(error).__name__}: {error}); the run itself is "
            "whole",
            level=logging.WARNING,
        )
        return None
    print_log(f"the page of this run: {target}", logger="current")
    return target


def page_of(
    work_dir: Path,
    cfg: Config,
    model: torch.nn.Module | None = None,
    rows: Sequence[tuple[str, str]] = (),
    scores: Mapping[str, float] | None = None,
    commands: Sequence[str] = (),
    splits: Sequence[str] = ("train", "val"),
) -> RunPage:
    """All that can be told of a run.

    Args:
        work_dir: With MMEngine's `vis_data/scalars.json` of one or more starts.
        cfg: Resolved config.
        model: In whatever mode, with the weights that are drawn; None draws nothing.
        rows: Name and value of the lines at the top, `StartTable.rows`.
        scores: Of an evaluation, by name; None takes the last of the training.
        commands: Command lines.
        splits: Whose data are told.
    """
    lines = scalars_of(work_dir)
    protocol = cfg.get("protocol") or {}
    by_epoch = (cfg.get("train_cfg") or {}).get("max_epochs") is not None
    curves = curves_of(lines, str(protocol.get("metric", "")), "epoch" if by_epoch else "step")
    shown = scores_in_words(scores if scores is not None else last_scores(lines), protocol)
    worst, best, seen, confusion = [], [], "", None
    if model is not None:
        worst, best, seen, confusion = items_of(model, cfg)
    name = Path(cfg.filename or work_dir).stem
    return RunPage(
        title=str(name),
        about=f"{protocol['task']} on {protocol['dataset']}" if "task" in protocol else "",
        facts=rows,
        loud=[key for key, value in rows if key == "weights" and value == RANDOM],
        scores=shown,
        curves=curves,
        worst=worst,
        best=best,
        seen=seen,
        confusion=confusion,
        data=data_table(cfg, splits),
        commands=[command for command in commands if command],
        versions={**library_versions(), "machine": machine_in_words()},
    )


def machine_in_words() -> str:
    """Processor, memory and GPU."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    known = {k: v for k, v in vars(hardware(gpu=gpu)).items() if v not in (None, "")}
    return ", ".join(f"{name} {value}" for name, value in known.items())


# ---- numbers of the training -----------------------------------------------------------------


def scalars_of(work_dir: Path) -> list[dict[str, float]]:
    """Lines of all `scalars.json`, in order; of a run that went on, later starts go over earlier.

    A line that is none (the last of a killed run) is left out.
    """
    kept: list[dict[str, float]] = []
    for file in sorted(work_dir.glob("*/vis_data/scalars.json")):
        own = []
        for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict) and isinstance(line.get("step"), int):
                own.append(line)
        first = {is_val: min((x["step"] for x in own if is_validation(x) == is_val), default=None)
                 for is_val in (False, True)}  # fmt: skip
        kept = [
            line
            for line in kept
            if (start := first[is_validation(line)]) is None or line["step"] < start
        ]
        kept += own
    return kept


def is_validation(line: Mapping[str, Any]) -> bool:
    """Whether a line has scores; that of a training has its learning rate."""
    return "lr" not in line and "loss" not in line


def curves_of(lines: Sequence[Mapping[str, Any]], metric: str, val_unit: str) -> list[Curve]:
    """Loss, learning rate, the main score, then what else there is, at most twelve curves.

    Args:
        lines: Of `scalars_of`.
        metric: The main score, without the prefix of its class.
        val_unit: What the steps of validations count.
    """
    found: dict[tuple[bool, str], list[tuple[float, float]]] = {}
    for line in lines:
        is_val = is_validation(line)
        for name, value in line.items():
            if name in _NOT_CURVES or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            found.setdefault((is_val, name), []).append((line["step"], float(value)))
    mains = [key for name in _MAIN for key in found if key == (False, name)]
    scores = [key for key in found if key[0] and plain(key[1]) == metric]
    wholes = [key for key in found if key[0] and plain(key[1]).count("/") == 0]
    losses = [key for key in found if not key[0] and "loss" in key[1]]
    keys = list(dict.fromkeys([*mains, *scores, *wholes, *losses]))[:12]
    return [
        Curve(
            f"{plain(name)} (validation)" if is_val else name,
            found[is_val, name],
            val_unit if is_val else "step",
        )
        for is_val, name in keys
    ]


def plain(name: str) -> str:
    """A score's name without the prefix of its metric's class: 'seg/mIoU' -> 'mIoU'."""
    return name.partition("/")[2] or name


def last_scores(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Scores of the last validation, by plain name; empty without one."""
    line = next((line for line in reversed(lines) if is_validation(line)), {})
    return {
        plain(name): float(value)
        for name, value in line.items()
        if name not in _NOT_CURVES and isinstance(value, int | float)
    }


def scores_in_words(
    scores: Mapping[str, float], protocol: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Spelled as the leaderboard does, the main one first; not those of single classes."""
    main = str(protocol.get("metric", ""))
    names = sorted((n for n in scores if "/" not in n), key=lambda n: (n != main, n))
    words = []
    for name in names:
        value = scores[name]
        metric = metric_of(name)
        if metric == Metric(name, name) and not 0 <= value <= 1:  # nobody's, and no share
            words.append((name, f"{value:.4g}"))
            continue
        text = "-" if not math.isfinite(value) else f"{value * metric.scale:.{metric.decimals}f}"
        unit = "%" if metric.is_fraction else metric.unit
        words.append((metric.spelling, f"{text} {unit}".strip()))
    return words


# ---- items -----------------------------------------------------------------------------------


def drawer_of(model: torch.nn.Module, cfg: Config) -> Any:
    """What draws items of a task, as tools/visualize.py does; None where nothing does."""
    task = task_of(cfg)
    if cfg.model.type in ("LayerProbe", "TextSegmentor") or "tta_model" in cfg:
        return None
    init_default_scope(cfg.get("default_scope", "mmengine"))
    if task == "segmentation":
        from pe_dense.segmentation.pictures import Segmenter

        return Segmenter(model, cfg)
    if task == "depth":
        from pe_dense.depth.pictures import Estimator

        return Estimator(model, cfg)
    if task == "detection":
        from pe_dense.detection.pictures import Detector

        return Detector(model, cfg, SCORE_THR)
    return None


def items_of(
    model: torch.nn.Module, cfg: Config
) -> tuple[list[Picture], list[Picture], str, Confusion | None]:
    """The worst and the best of some items that the config tests on, and what is taken for what."""
    drawer = drawer_of(model, cfg)
    if drawer is None:
        return [], [], "", None
    was_training = model.training
    model.eval()
    try:
        files = drawer.spread_files(SEEN)
        looks, counts = [], None
        for file in files:
            seen = drawer.see(file)
            look = drawer.look_at(seen, file.name)
            looks.append((look.rank, file.name, look))
            of_one = confusion_of(seen, len(cfg.get("classes", ())))
            if of_one is not None:
                counts = of_one if counts is None else counts + of_one
    finally:
        model.train(was_training)
    looks.sort(key=lambda item: item[:2])
    scored = [item for item in looks if item[0][0] < 1.0 or len(item[0]) < 2] or looks
    count = min(SHOWN, (len(scored) + 1) // 2)
    worst = [picture_of(name, look, drawer.sheet_side) for _, name, look in scored[:count]]
    rest = scored[count:]
    best = [picture_of(n, look, drawer.sheet_side) for _, n, look in reversed(rest[-count:])]
    about = f"of {len(files)} images that the config tests on, evenly spread"
    return worst, best, f"Chosen out {about}.", named_confusion(counts, cfg, about)


def picture_of(name: str, look: Any, side: int) -> Picture:
    """A JPEG of what was seen."""
    from pe_dense.pictures.folder import encoded

    words = " ".join(look.words.split())
    return Picture(encoded(look.draw(side), ".jpg", 82), f"{words}, {name}")


def confusion_of(seen: Any, num_classes: int) -> np.ndarray | None:
    """Counts of one image, of maps or boxes; None without truth."""
    if hasattr(seen, "labels_HW"):
        if seen.truth_HW is None:
            return None
        return of_labels(seen.truth_HW, seen.labels_HW, num_classes)
    if hasattr(seen, "detected"):
        if seen.truth is None:
            return None
        truth, found = seen.truth, seen.detected
        is_one_G = np.ones(len(truth.labels_Q), dtype=bool)
        if truth.is_crowd_Q is not None:
            is_one_G = ~truth.is_crowd_Q
        boxes_G4, labels_G = truth.boxes_Q4[is_one_G], truth.labels_Q[is_one_G]
        return of_boxes(
            boxes_G4, labels_G, found.boxes_Q4, found.labels_Q, found.scores_Q, num_classes
        )
    return None


def named_confusion(counts: np.ndarray | None, cfg: Config, about: str) -> Confusion | None:
    """With names of classes; boxes have a row and a column for nothing."""
    if counts is None:
        return None
    classes = [str(name) for name in cfg.classes]
    if len(counts) == len(classes):
        return Confusion(classes, classes, counts, "pixels", f"Pixels {about}")
    text = f"Boxes {about}; detections of at least {SCORE_THR}, overlap of at least 0.5"
    return Confusion([*classes, "nothing"], [*classes, "not found"], counts, "boxes", text)


# ---- the two tools ---------------------------------------------------------------------------


def report_training(runner: Runner, command: str) -> Path | None:
    """The page at the end of a training; its model is drawn as it is in memory."""
    if not is_main_process():
        return None

    def gather() -> RunPage:
        table = next((hook for hook in runner.hooks if isinstance(hook, StartTable)), None)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        is_sharded = type(runner).__name__ == "ShardedRunner"  # no process holds the whole model
        return page_of(
            Path(runner.work_dir),
            cfg=runner.cfg,
            model=None if is_sharded else model,
            rows=[] if table is None else table.told,
            commands=[command],
        )

    return write_report(Path(runner.work_dir), gather)


def report_evaluation(done: Evaluated, command: str) -> Path | None:
    """The page after an evaluation, in the folder of the checkpoint where it is a run's own.

    It takes the place of the page of the training: the curves are in both.
    """
    file, folder = done.run.file, done.work_dir
    if file is not None and any(file.parent.glob("*/vis_data/scalars.json")):
        folder = file.parent

    def gather() -> RunPage:
        return page_of(
            folder,
            cfg=done.cfg,
            model=done.model,
            rows=[(name, value) for name, value in rows_of(done) if value],
            scores=done.scores,
            commands=[done.run.facts.train_command, command],
            splits=("test",),
        )

    return write_report(folder, gather)


def rows_of(done: Evaluated) -> list[tuple[str, str]]:
    """Lines at the top of the page of an evaluation."""
    run, facts, stated = done.run, done.run.facts, done.cfg.get("protocol") or {}
    name = None if done.protocol is None else f"{done.protocol.id}-v{done.protocol.version}"
    weights = weights_in_words(facts.scored_weights)
    is_random = facts.scored_weights.sha256 == "random"
    if run.file is not None and is_random and encoder_learns(done.model):
        weights = "random at the start of training"
    rows = [
        ("task", task_in_words(stated, name) if "task" in stated else task_of(done.cfg)),
        ("encoder", str(facts.encoder)),
        ("weights", weights),
        ("checkpoint", "" if run.file is None else str(run.file)),
        ("parameters", parameters_in_words(done.model)),
        ("data", str(done.cfg.get("data_root") or "")),
        ("device", device_in_words(done.model)),
    ]
    blind = best_blind(done.blind or {}, bool(stated.get("higher_is_better", True)))
    if blind is not None:
        shown = scores_in_words({stated["metric"]: blind.score}, stated)[0][1]
        rows.append(("without the picture", f"{shown} ({blind.name})"))
    return rows
